//! `archibald lab test`: every scenario below a folder, for a continuous integration.

use std::fs;
use std::path::{Path, PathBuf};

use archibald_lab::bench::{ControlKind, Prepared, verdict};
use archibald_lab::explain::explain;
use archibald_latency::{Verdict, junit};

use super::bench::{How, ScenarioFile, Workplace, failure, in_parallel};
use super::progress::Drawn;
use super::run::trusted;
use crate::commands::build;
use crate::failure::{Context as _, Exit, Failure};
use crate::terminal::{self, Steps};

/// Run every scenario below a folder: lab.toml and *.lab.toml.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// The folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Write the outcome as JUnit's XML.
    #[arg(long)]
    junit: Option<PathBuf>,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// How one scenario came out.
struct Case {
    path: PathBuf,
    seconds: f64,
    /// What was found, in words.
    found: String,
    /// Why it counts as failed.
    failure: Option<String>,
    exit: u8,
}

impl Test {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut paths = Vec::new();
        find(&self.folder, &mut paths)?;
        paths.sort();
        if paths.is_empty() {
            let message = format!("no scenario below {}", self.folder.display());
            return Err(Failure::new(Exit::Use, message)
                .with_remedy("Scenarios are called lab.toml or NAME.lab.toml."));
        }
        let files = paths.iter().map(|path| ScenarioFile::read(path));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let scenarios: Vec<_> = files.iter().map(|file| &file.scenario).collect();
        let mut place = Workplace::open(&self.how, &scenarios, &steps, &cancel)?;
        steps.step(&format!("lab: {} scenarios in virtual time", files.len()));
        // Scenarios side by side, then the seeds of one, so that no CPU idles while one program is built
        // and no more experiments run than were asked for.
        let jobs = place.jobs;
        place.jobs = (jobs / files.len()).max(1);
        let cases = in_parallel(jobs, &files, |file| {
            let case = Case::of(&place, file, &cancel);
            steps.note(&case.line());
            case
        });
        if cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        steps.finish();
        drop(steps);
        if let Some(path) = &self.junit {
            fs::write(path, suite(&cases).to_xml()).context(path.display())?;
        }
        show(&cases, self.json);
        Ok(cases.iter().map(|case| case.exit).max().unwrap_or(0))
    }
}

impl Case {
    fn of(place: &Workplace, file: &ScenarioFile, cancel: &archibald_image::Cancel) -> Self {
        let begun = std::time::Instant::now();
        // Two scenarios would draw over each other's steps.
        let (found, failure, exit) = match judge(place, file, &Steps::new(true), cancel) {
            Ok((found, failure)) => {
                let exit = u8::from(failure.is_some());
                (found, failure, exit)
            }
            Err(failure) => {
                let exit = failure.exit();
                let (message, _) = failure.words();
                ("no verdict".to_owned(), Some(message), exit)
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        Self { path: file.path.clone(), seconds, found, failure, exit }
    }

    fn mark(&self) -> &'static str {
        if self.failure.is_none() { "pass" } else { "FAIL" }
    }

    fn line(&self) -> String {
        format!("{} {}: {}", self.mark(), self.path.display(), self.found)
    }
}

/// What a scenario's runs showed, and why that is not what it expects.
fn judge(
    place: &Workplace,
    file: &ScenarioFile,
    steps: &Steps,
    cancel: &archibald_image::Cancel,
) -> Result<(String, Option<String>), Failure> {
    let prepared: Prepared = place.prepare(&file.scenario, steps, cancel)?;
    let idle = trusted(place, &prepared, ControlKind::Idle, &Drawn(steps), cancel)?;
    let runs = place.runs(file, &prepared, Some(&idle), steps, cancel)?;
    let judgement = verdict(&file.scenario, &runs);
    let expected = if file.scenario.expect.broken { Verdict::Broken } else { Verdict::Held };
    let found = format!(
        "{}, {} xruns in {} periods of virtual time",
        judgement.verdict.word(),
        judgement.xruns,
        judgement.periods
    );
    if judgement.verdict != expected {
        let failure = format!("expected {}, found {found}", expected.word());
        return Ok((found, Some(failure)));
    }
    let (Some(cause), Some(run)) = (&file.scenario.expect.cause, runs.first()) else {
        return Ok((found, None));
    };
    steps.step("lab: the first run again, with the kernel's trace");
    let scratch = place.bench.scratch.join(format!("explain-{:p}", &raw const prepared));
    let explained = explain(
        &place.bench,
        &prepared,
        &run.evidence.run,
        &run.evidence.program,
        &scratch,
        cancel,
    )
    .and_then(|explained| explained.keep(&run.dir).map(|()| explained))
    .map_err(failure)?;
    let named = explained.main_cause().unwrap_or("no cause");
    let failure = (named != cause).then(|| format!("expected the cause {cause}, found {named}"));
    Ok((format!("{found}, {named}"), failure))
}

fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).context(folder.display())?.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                find(&path, paths)?;
            }
        } else if name == "lab.toml" || name.ends_with(".lab.toml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn show(cases: &[Case], json: bool) {
    if json {
        let cases: Vec<_> = cases
            .iter()
            .map(|case| {
                serde_json::json!({
                    "scenario": case.path, "passed": case.failure.is_none(), "found": case.found,
                    "failure": case.failure, "exit": case.exit,
                })
            })
            .collect();
        terminal::say_json(
            &serde_json::json!({ "schema": "archibald.lab-test/1", "cases": cases }),
        );
        return;
    }
    let row = |case: &Case| {
        vec![case.mark().to_owned(), case.path.display().to_string(), case.found.clone()]
    };
    terminal::say(&terminal::table(&["", "SCENARIO", "FOUND"], cases.iter().map(row).collect()));
    for case in cases {
        if let Some(failure) = &case.failure {
            terminal::say(&format!("\n{}: {failure}", case.path.display()));
        }
    }
}

/// Each scenario a case.
fn suite(cases: &[Case]) -> junit::Suite {
    let case = |case: &Case| junit::Case {
        class: "lab".to_owned(),
        name: case.path.display().to_string(),
        seconds: Some(case.seconds),
        outcome: match (&case.failure, case.exit) {
            (None, _) => junit::Outcome::Passed,
            (Some(why), 1) => junit::Outcome::Failed(why.clone()),
            // There was no verdict: the scenario is wrong, or the host lacks something.
            (Some(why), _) => junit::Outcome::Error(why.clone()),
        },
        said: case.found.clone(),
    };
    let cases = cases.iter().map(case).collect();
    junit::Suite { name: "archibald lab (virtual time)".to_owned(), cases }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gave_no_verdict_is_an_error_and_no_failure() {
        let case = |path: &str, failure: Option<&str>, exit: u8| Case {
            path: path.into(),
            seconds: 1.5,
            found: "held".to_owned(),
            failure: failure.map(str::to_owned),
            exit,
        };
        let xml = suite(&[
            case("a/lab.toml", None, 0),
            case("b.lab.toml", Some("expected held"), 1),
            case("c.lab.toml", Some("no compiler"), 3),
        ])
        .to_xml();
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{xml}");
        assert!(xml.contains(">no compiler</error>"), "{xml}");
    }
}

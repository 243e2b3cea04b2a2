//! `archibald report`: runs as text, page, pictures, tables; two of them compared, several together.

use std::fs;
use std::path::{Path, PathBuf};

use archibald_latency::{Comparison, Report as Latency, Run, Target};

use crate::failure::{Context as _, Exit, Failure};
use crate::{picture, terminal};

/// Show a run, compare two, or take several together.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// Runs' files, as `archibald measure` and `archibald lab run` keep them.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Two runs are one sample instead of a comparison, as more than two always are.
    #[arg(long)]
    together: bool,
    /// Xruns that each run may have, as in a scenario of the lab.
    #[arg(long, value_name = "NUMBER")]
    xruns: Option<u64>,
    /// Write one HTML page that asks nothing of the network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write Markdown.
    #[arg(long, value_name = "FILE")]
    md: Option<PathBuf>,
    /// Write JUnit's XML: a case for each limit, skipped where nothing is judged.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the charts into this folder as SVG.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// Write the charts into this folder as PNG.
    #[arg(long, value_name = "FOLDER")]
    png: Option<PathBuf>,
    /// The PNGs on black.
    #[arg(long, requires = "png")]
    dark: bool,
    /// Write the distributions as `run,histogram,microseconds,count`.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let runs = self.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        let mut text = Vec::new();
        match &runs[..] {
            [a, b] if !self.together => self.compare(a, b, &mut text)?,
            _ => self.show(&self.report(runs), &mut text)?,
        }
        let text = String::from_utf8_lossy(&text);
        if !text.trim().is_empty() {
            terminal::say(text.trim_end());
        }
        Ok(0)
    }

    fn show(&self, report: &Latency, text: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(path) = &self.html {
            let mut page = Vec::new();
            report.write_html(&mut page).context("the page")?;
            write(path, &page)?;
        }
        if let Some(path) = &self.md {
            let mut page = Vec::new();
            report.write_markdown(&mut page).context("the Markdown")?;
            write(path, &page)?;
        }
        if let Some(path) = &self.junit {
            write(path, report.to_junit().to_xml().as_bytes())?;
        }
        if let Some(folder) = &self.svg {
            fs::create_dir_all(folder).context(folder.display())?;
            for chart in report.charts() {
                write(&folder.join(format!("{}.svg", chart.name)), chart.svg.as_bytes())?;
            }
        }
        if let Some(folder) = &self.png {
            fs::create_dir_all(folder).context(folder.display())?;
            for chart in report.charts() {
                let picture = picture::png(&chart, self.dark)?;
                write(&folder.join(format!("{}.png", chart.name)), &picture)?;
            }
        }
        if let Some(path) = &self.csv {
            write(path, csv(&report.runs).as_bytes())?;
        }
        match self.json {
            true => report.write_json(text).context("the report"),
            false => report.write_text(text).context("the report"),
        }
    }

    fn compare(&self, a: &Run, b: &Run, text: &mut Vec<u8>) -> Result<(), Failure> {
        let others = [&self.md, &self.junit, &self.svg, &self.png, &self.csv];
        if others.iter().any(|other| other.is_some()) {
            let message = "a comparison of two runs is a text, a page or JSON";
            return Err(Failure::new(Exit::Use, message).with_remedy(
                "Leave the other formats away, or take the two runs --together as one sample.",
            ));
        }
        let [a, b] = [a, b].map(|run| self.report(vec![run.clone()]));
        let title = format!("{} and {}", a.title, b.title);
        let comparison = Comparison::new(title, &a, &b);
        if let Some(path) = &self.html {
            let mut page = Vec::new();
            comparison.write_html(&mut page).context("the page")?;
            write(path, &page)?;
        }
        match self.json {
            true => comparison.write_json(text).context("the comparison"),
            false => comparison.write_text(text).context("the comparison"),
        }
    }

    /// Runs held against what is asked of the first: one as itself, several as one sample.
    fn report(&self, runs: Vec<Run>) -> Latency {
        let usual = || runs.first().map_or_else(Target::audio, Target::for_run);
        let target = self.xruns.map_or_else(usual, Target::xruns);
        let title = match &runs[..] {
            [run] => run.id.clone(),
            runs => format!("{} runs together", runs.len()),
        };
        Latency::new(title, runs, target)
    }
}

fn read(path: &Path) -> Result<Run, Failure> {
    // A run of the lab is a folder.
    let file = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Use, format!("{}: {error}", file.display())).with_remedy(
            "Give a run's file: `archibald measure` and `archibald lab run` say where they keep it.",
        )
    };
    let text = fs::read_to_string(&file).map_err(|error| wrong(&error))?;
    Run::from_json(&text).map_err(|error| wrong(&error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).context(path.display())?;
    terminal::complain(&format!("wrote {}", path.display()));
    Ok(())
}

fn csv(runs: &[Run]) -> String {
    let mut text = "run,histogram,microseconds,count\n".to_owned();
    for run in runs {
        for named in &run.histograms {
            for (us, count) in named.histogram.bins() {
                text.push_str(&format!("{},{},{us},{count}\n", run.id, named.name));
            }
        }
    }
    text
}

//! `archibald report`: runs as text, page, pictures, table; two of them compared.

use std::fs;
use std::path::{Path, PathBuf};

use archibald_latency::{Comparison, Report as Latency, Run, Target};

use crate::failure::{Context as _, Exit, Failure};
use crate::terminal;

/// Show a run, or compare two.
#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// A run's file, as `archibald measure` and `archibald lab run` keep it; two are compared.
    #[arg(required = true, num_args = 1..=2)]
    runs: Vec<PathBuf>,
    /// Write one HTML page that asks nothing of the network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the charts into this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "json")]
    svg: Option<PathBuf>,
    /// Write the distributions as `histogram,microseconds,count`.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    csv: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Report {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let reports = self.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
        let mut text = Vec::new();
        match &reports[..] {
            [a, b] => self.compare(a, b, &mut text)?,
            [report] => self.show(report, &mut text)?,
            _ => {}
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
        if let Some(folder) = &self.svg {
            fs::create_dir_all(folder).context(folder.display())?;
            for chart in report.charts() {
                write(&folder.join(format!("{}.svg", chart.name)), chart.svg.as_bytes())?;
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

    fn compare(&self, a: &Latency, b: &Latency, text: &mut Vec<u8>) -> Result<(), Failure> {
        if self.svg.is_some() || self.csv.is_some() {
            return Err(Failure::new(Exit::Use, "--svg and --csv are for one run")
                .with_remedy("--html shows two side by side."));
        }
        let title = format!("{} and {}", a.title, b.title);
        let comparison = Comparison::new(title, a, b);
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
}

/// A run's file, held against what is asked of such a run.
fn read(path: &Path) -> Result<Latency, Failure> {
    // A run of the lab is a folder.
    let file = if path.is_dir() { path.join("run.json") } else { path.to_owned() };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Use, format!("{}: {error}", file.display())).with_remedy(
            "Give a run's file: `archibald measure` and `archibald lab run` say where they keep it.",
        )
    };
    let text = fs::read_to_string(&file).map_err(|error| wrong(&error))?;
    let run = Run::from_json(&text).map_err(|error| wrong(&error))?;
    let target = Target::for_run(&run);
    Ok(Latency::new(run.id.clone(), vec![run], target))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).context(path.display())?;
    terminal::complain(&format!("wrote {}", path.display()));
    Ok(())
}

fn csv(runs: &[Run]) -> String {
    let mut text = "histogram,microseconds,count\n".to_owned();
    for named in runs.iter().flat_map(|run| &run.histograms) {
        for (us, count) in named.histogram.bins() {
            text.push_str(&format!("{},{us},{count}\n", named.name));
        }
    }
    text
}

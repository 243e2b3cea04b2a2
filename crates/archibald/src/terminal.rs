//! What people see: lines, tables and progress. Everything that is written is written here.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use archibald_image::{Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// A line of a verb's result.
pub(crate) fn say(line: &str) {
    print(&as_called(line));
}

fn print(line: &str) {
    // A reader that has gone (`| head`) is no reason to panic.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes());
}

/// Commands in a text as people can type them here: `./archibald up` for who came by the wrapper.
fn as_called(text: &str) -> String {
    text.replace("`archibald ", &format!("`{} ", crate::places::called()))
}

/// What a program in the machine has written, as it is.
pub(crate) fn pass(bytes: &[u8]) {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// The same of its error output.
pub(crate) fn pass_error(bytes: &[u8]) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), bytes);
}

/// A line about what goes wrong or on, beside the result.
pub(crate) fn complain(line: &str) {
    let line = as_called(line);
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
}

/// A verb's result for programs.
pub(crate) fn say_json(value: &impl Serialize) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A table without lines: columns as wide as they need to be, cut to the terminal.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Draws what goes on: a moving line on a terminal, plain lines elsewhere, nothing when quiet.
pub(crate) struct Steps {
    style: Style,
    current: Mutex<RefCell<Option<(String, Instant)>>>,
}

enum Style {
    Quiet,
    Lines,
    Bar(ProgressBar),
}

impl Steps {
    pub(crate) fn new(quiet: bool) -> Self {
        let style = if quiet {
            Style::Quiet
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            Style::Bar(bar)
        } else {
            Style::Lines
        };
        Self { style, current: Mutex::default() }
    }

    /// A step begins; the one before it is done.
    pub(crate) fn step(&self, name: &str) {
        self.finish();
        match &self.style {
            Style::Quiet => {}
            Style::Lines => complain(name),
            Style::Bar(bar) => {
                bar.reset_elapsed();
                bar.set_prefix(name.to_owned());
                bar.set_message("");
            }
        }
        if let Ok(current) = self.current.lock() {
            current.replace(Some((name.to_owned(), Instant::now())));
        }
    }

    /// What the step is doing; plain output leaves it out.
    pub(crate) fn about(&self, line: &str) {
        if let Style::Bar(bar) = &self.style {
            bar.set_message(line.to_owned());
        }
    }

    /// Something worth a line of its own, that stays.
    pub(crate) fn note(&self, line: &str) {
        match &self.style {
            Style::Quiet => {}
            Style::Lines => complain(line),
            Style::Bar(bar) => bar.suspend(|| complain(line)),
        }
    }

    /// The last step is done.
    pub(crate) fn finish(&self) {
        let Some((name, since)) = self.current.lock().ok().and_then(|current| current.take())
        else {
            return;
        };
        if let Style::Bar(bar) = &self.style {
            let seconds = since.elapsed().as_secs_f64();
            bar.suspend(|| complain(&format!("✓ {name} ({seconds:.1} s)")));
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Steps {
    fn stage(&self, stage: Stage) {
        self.step(&format!("image: {stage}"));
    }

    fn detail(&self, line: &str) {
        self.about(line);
    }

    fn fraction(&self, done: f64) {
        self.about(&format!("{:.0} %", done * 100.0));
    }
}

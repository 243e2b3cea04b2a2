//! What a change does to a file, in lines.

use std::fmt::Write as _;

use similar::TextDiff;

use super::{Change, Target};

impl Change {
    /// The lines that go (`-`), come (`+`) and stand around them; for the kernel's files: from, to.
    #[must_use]
    pub fn difference(&self) -> String {
        match &self.target {
            Target::Directory => "+ a directory\n".to_owned(),
            Target::Kernel(knob) => match &knob.undo {
                Some(undo) => format!("{undo} -> {}\n", knob.write),
                None => format!("{}\n", knob.write),
            },
            Target::File { before, after } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let before = before.as_deref().map(text).unwrap_or_default();
                lines(&before, &text(after))
            }
        }
    }
}

fn lines(before: &str, after: &str) -> String {
    let difference = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for group in difference.grouped_ops(1) {
        for change in group.iter().flat_map(|operation| difference.iter_changes(operation)) {
            let line = change.value().trim_end_matches('\n');
            let _ = writeln!(text, "{} {line}", change.tag());
        }
    }
    text
}

//! Files of the kernel: they take a value and answer in their own form.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use crate::facts::memory_chosen;
use crate::plan::Knob;

/// Whether the kernel's answer means that the knob is in force.
pub(super) fn is_in_force(path: &Path, knob: &Knob) -> bool {
    let text = answer(path);
    let chosen = memory_chosen(&text);
    match &chosen {
        Some(word) => *word == knob.reads,
        None => same(&text, &knob.reads) || text.split(' ').any(|word| word == knob.reads),
    }
}

/// What the file says now.
pub(super) fn answer(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Masks come back with as many zeros before them as the machine has CPUs.
fn same(left: &str, right: &str) -> bool {
    let is_mask = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || c == ',');
    if is_mask(left) && is_mask(right) {
        let bare = |text: &str| text.trim_start_matches(['0', ',']).to_owned();
        return bare(left) == bare(right);
    }
    left == right
}

/// Writes a value. A file that comes with its directory is there as soon as the directory is.
pub(super) fn write(path: &Path, value: &str, comes_with_directory: bool) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).truncate(true).create(comes_with_directory).open(path)?;
    // In one write: the kernel takes each for a value of its own.
    file.write_all(format!("{value}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_in_their_forms() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("knob");
        let holds = |text: &str, reads: &str| {
            fs::write(&path, text).unwrap();
            let knob = Knob { write: "x".into(), undo: None, reads: reads.into(), may_fail: false };
            is_in_force(&path, &knob)
        };
        assert!(holds("always madvise [never]\n", "never"));
        assert!(!holds("always [madvise] never\n", "never"));
        assert!(holds("cpuset cpu memory\n", "cpuset"));
        assert!(holds("00000000,0000003f\n", "3f"));
        assert!(!holds("isolated invalid (Cpu list in cpuset.cpus not exclusive)\n", "member"));
        assert!(!holds("10\n", "100"));
    }
}

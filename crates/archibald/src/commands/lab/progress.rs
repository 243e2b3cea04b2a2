//! What the lab tells while it works, drawn as every other verb's progress.

use archibald_lab::bench::{ControlKind, Watcher};
use archibald_lab::snapshot::Progress;

use crate::terminal::Steps;

/// The lab's progress on [`Steps`].
pub(in crate::commands) struct Drawn<'a>(pub(in crate::commands) &'a Steps);

impl Progress for Drawn<'_> {
    fn waiting(&self, pid: Option<u32>) {
        self.0.step("lab: waiting for the snapshot that another lab makes");
        if let Some(pid) = pid {
            self.0.about(&format!("process {pid}"));
        }
    }

    fn booting(&self) {
        self.0.step("lab: booting the machine once, to a snapshot");
    }
}

impl Watcher for Drawn<'_> {
    fn building(&self, command: &str) {
        self.0.step("lab: building the program inside the machine");
        self.0.about(command);
    }

    fn control(&self, kind: ControlKind) {
        self.0.step(match kind {
            ControlKind::Idle => "lab: idle control, which must have no xrun",
            ControlKind::Fault => "lab: control with a planted fault, which must have xruns",
        });
    }
}

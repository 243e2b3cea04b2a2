//! `archibald-guest resumed`: the machine goes on from a snapshot. Its memory is that of then, and so
//! is its clock; the hardware clock, which is the host's, shows what time it is.

use rustix::time::{ClockId, Timespec, clock_settime};

use super::Outcome;
use super::ready::Host;
use crate::{GuestError, Root};

/// Whole seconds since 1970, asked of the hardware at each reading (rtc(4)).
const CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the host listens
    #[arg(long, default_value = super::ready::PORT)]
    port: String,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        let root = Root::default();
        let mut host = Host::at(&root, &self.port);
        let set = hardware_clock(&root).and_then(|seconds| {
            // Half a second on the average since that second began, as the kernel takes it at boot.
            let time = Timespec { tv_sec: seconds, tv_nsec: 500_000_000 };
            clock_settime(ClockId::Realtime, time).map_err(|error| error.to_string())
        });
        match set {
            Ok(()) => {
                host.say_resumed();
                Ok(Outcome::Good)
            }
            Err(reason) => {
                host.say_failed(&format!("setting the clock: {reason}"));
                Ok(Outcome::Failed)
            }
        }
    }
}

fn hardware_clock(root: &Root) -> Result<i64, String> {
    let text = root.line(CLOCK).ok_or_else(|| format!("{CLOCK} cannot be read"))?;
    text.trim().parse().map_err(|_| format!("{CLOCK} says {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hardware_clock_is_read_or_missed_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(hardware_clock(&root).unwrap_err().contains("rtc0"));
        root.write(CLOCK, b"1795852800\n", 0o644).unwrap();
        assert_eq!(hardware_clock(&root), Ok(1_795_852_800));
    }
}

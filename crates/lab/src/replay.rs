//! A recorded run again, stopped at a moment of it.
//!
//! A recording knows instructions and no times: how much of the virtual clock was skipped while nothing
//! was left to do is not in it. So the run is replayed twice. The first time it is stopped every few
//! million instructions, and the machine's ACPI timer tells the virtual time; the second time it goes at
//! once to the last stop before the moment, and from there in small steps.

use std::fs;
use std::path::{Path, PathBuf};

use archibald_image::Cancel;
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::bench::{Bench, Prepared};
use crate::emulator::Emulator;
use crate::error::During;
use crate::mailbox;

/// Instructions between two stops of the first pass. What the machine does between two of them must
/// not take the 4.7 s in which its timer comes round.
const STRIDE: u64 = 4_000_000;
/// Of the second: what is computed in 20 us at 500 MIPS.
const STEP: u64 = 10_000;
/// How often the ACPI timer counts in a second.
const ACPI_HZ: u128 = 3_579_545;
/// After so many counts it is at 0 again.
const ACPI_ROUND: u64 = 1 << 24;

/// Two moments of a run on both of its clocks: nanoseconds of the guest's CLOCK_MONOTONIC, and of QEMU's
/// virtual clock. The guest measured the second one when it booted, and not quite rightly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// When counting began.
    pub begin: (u64, u64),
    /// When it ended.
    pub end: (u64, u64),
}

impl Clocks {
    /// The virtual time of a moment of the guest's.
    fn of_guest(&self, at_ns: u64) -> u64 {
        let span = |from: u64, to: u64| i128::from(to) - i128::from(from);
        let guest = span(self.begin.0, self.end.0).max(1);
        let emulated = span(self.begin.1, self.end.1);
        let at = i128::from(self.begin.1) + span(self.begin.0, at_ns) * emulated / guest;
        u64::try_from(at).unwrap_or(0)
    }

    /// The guest's time at a virtual one.
    fn of_emulator(&self, at_ns: u64) -> u64 {
        let turned = |(guest, emulated): (u64, u64)| (emulated, guest);
        Self { begin: turned(self.begin), end: turned(self.end) }.of_guest(at_ns)
    }
}

/// A run of which there is a recording.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// Its seed.
    pub seed: u64,
    /// QEMU's recording.
    pub recording: &'a Path,
    /// Its window's two moments.
    pub clocks: Clocks,
}

/// A run that stands still at a moment of it. It ends when the value is dropped.
#[derive(Debug)]
pub struct Stopped {
    emulator: Emulator,
    /// The socket at which QEMU waits for a debugger.
    pub debugger: PathBuf,
    /// Instructions counted so far.
    pub instruction: u64,
    /// Nanoseconds of the guest's CLOCK_MONOTONIC.
    pub at_ns: u64,
}

impl Bench {
    /// Replays a run until `at_ns` of the guest's CLOCK_MONOTONIC has come, or just has passed. Its files
    /// are in `dir`, which is emptied first.
    ///
    /// # Errors
    /// [`LabError`]: there is no whole recording, or the run does not come so far.
    pub fn replay(
        &self,
        prepared: &Prepared,
        recorded: &Recorded<'_>,
        at_ns: u64,
        dir: &Path,
        cancel: &Cancel,
    ) -> Result<Stopped, LabError> {
        let Recorded { seed, recording, clocks } = *recorded;
        let request = self.request(&prepared.scenario, seed, false);
        let until_ns = clocks.of_guest(at_ns);
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).during("create", dir)?;
        let debugger = dir.join("debugger");
        let origin = prepared.snapshot.origin()?;
        let start = || -> Result<Pass, LabError> {
            mailbox::post(&dir.join("mailbox"), &request, &prepared.folder.files)?;
            let _ = fs::remove_file(&debugger);
            let emulator = prepared.snapshot.replay(dir, recording, &debugger, cancel)?;
            Pass::begin(emulator, origin)
        };
        let mut pass = start()?;
        let mut before = pass.stop;
        while pass.stop.ns() < until_ns {
            before = pass.stop;
            pass.advance(STRIDE, cancel)?;
        }
        drop(pass);
        let mut pass = start()?;
        pass.jump(before, cancel)?;
        while pass.stop.ns() < until_ns {
            pass.advance(STEP, cancel)?;
        }
        let (instruction, at_ns) = (pass.stop.instruction, clocks.of_emulator(pass.stop.ns()));
        Ok(Stopped { emulator: pass.emulator, debugger, instruction, at_ns })
    }
}

impl Stopped {
    /// Whether QEMU is still there: a debugger may have killed it.
    pub fn is_there(&mut self) -> bool {
        self.emulator.instruction().is_ok()
    }
}

/// A replay that goes from stop to stop.
struct Pass {
    emulator: Emulator,
    stop: Stop,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy)]
struct Stop {
    /// Instructions counted.
    instruction: u64,
    /// Counts of the ACPI timer, as if it never came round.
    ticks: u64,
}

impl Stop {
    /// Nanoseconds of the virtual clock.
    fn ns(&self) -> u64 {
        u64::try_from(u128::from(self.ticks) * 1_000_000_000 / ACPI_HZ).unwrap_or(u64::MAX)
    }

    /// The next stop, where the timer shows `shown`.
    fn then(&self, instruction: u64, shown: u32) -> Self {
        let round = |ticks: u64| ticks % ACPI_ROUND;
        let passed = round(u64::from(shown) + ACPI_ROUND - round(self.ticks));
        Self { instruction, ticks: self.ticks + passed }
    }
}

impl Pass {
    /// A replay before its first instruction, at this virtual time.
    fn begin(mut emulator: Emulator, (instruction, ns): (u64, u64)) -> Result<Self, LabError> {
        let ticks = u64::try_from(u128::from(ns) * ACPI_HZ / 1_000_000_000).unwrap_or(0);
        let stop = Stop { instruction, ticks };
        let shown = emulator.acpi_timer()?;
        match stop.then(instruction, shown).ticks - ticks {
            // One count for what a division leaves over.
            0 | 1 => Ok(Self { emulator, stop }),
            wrong => Err(LabError::Unsuitable(format!(
                "its timer is {wrong} counts away from the virtual clock of its snapshot"
            ))),
        }
    }

    fn advance(&mut self, instructions: u64, cancel: &Cancel) -> Result<(), LabError> {
        let instruction = self.stop.instruction + instructions;
        self.run_to(instruction, cancel)?;
        let shown = self.emulator.acpi_timer()?;
        self.stop = self.stop.then(instruction, shown);
        Ok(())
    }

    /// Goes to a stop of an earlier pass.
    fn jump(&mut self, stop: Stop, cancel: &Cancel) -> Result<(), LabError> {
        if stop.instruction > self.stop.instruction {
            self.run_to(stop.instruction, cancel)?;
        }
        self.stop = stop;
        Ok(())
    }

    fn run_to(&mut self, instruction: u64, cancel: &Cancel) -> Result<(), LabError> {
        match self.emulator.run_to(instruction, cancel)? {
            true => Ok(()),
            false => Err(LabError::Reply(format!(
                "the recording ends before its instruction {instruction}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_of_the_guest_is_one_of_the_emulator_and_back() {
        // The guest's clock began 200 ms before the emulator's, and runs 8 millionths fast.
        let clocks = Clocks {
            begin: (10_740_536_209, 10_538_039_536),
            end: (13_740_559_492, 13_538_059_958),
        };
        assert_eq!(clocks.of_guest(10_740_536_209), 10_538_039_536);
        assert_eq!(clocks.of_guest(13_740_559_492), 13_538_059_958);
        let at = clocks.of_guest(12_000_000_000);
        assert!(clocks.of_emulator(at).abs_diff(12_000_000_000) <= 1, "{at}");
    }

    proptest! {
        #[test]
        fn the_timer_may_come_round_between_two_stops(
            from in 0..1_u64 << 40,
            passed in 0..ACPI_ROUND,
        ) {
            let stop = Stop { instruction: 1, ticks: from };
            let shown = u32::try_from((from + passed) % ACPI_ROUND).unwrap();
            let next = stop.then(2, shown);
            prop_assert_eq!((next.instruction, next.ticks), (2, from + passed));
        }
    }
}

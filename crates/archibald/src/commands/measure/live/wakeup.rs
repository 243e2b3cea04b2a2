//! The live view of wake-ups: what cyclictest tells of itself once a second.

use std::time::{Duration, Instant};

use archibald_latency::cyclictest::Status;
use archibald_machine::units::CpuSet;

use super::{PAST, Screen, seconds, sparks};

/// What is drawn, line by line.
pub(in super::super) struct Live {
    heading: String,
    /// The CPU of each thread, and whether audio runs there.
    cpus: Vec<(u32, bool)>,
    target_us: u64,
    judged: bool,
    length: Duration,
    begun: Option<Instant>,
    known: Vec<Option<Status>>,
    /// The newest sample of each look, by thread.
    past: Vec<Vec<u64>>,
    screen: Screen,
}

impl Live {
    pub(in super::super) fn new(
        heading: String,
        cpus: &CpuSet,
        is_audio: impl Fn(u32) -> bool,
        target_us: u64,
        judged: bool,
        length: Duration,
    ) -> Self {
        let cpus: Vec<(u32, bool)> = cpus.iter().map(|cpu| (cpu, is_audio(cpu))).collect();
        Self {
            heading,
            known: vec![None; cpus.len()],
            past: vec![Vec::new(); cpus.len()],
            cpus,
            target_us,
            judged,
            length,
            begun: None,
            screen: Screen::new(),
        }
    }

    /// A line that cyclictest said. With the last thread's the picture is whole.
    pub(in super::super) fn told(&mut self, line: &str) {
        let Some(status) = Status::from_line(line) else { return };
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let thread = status.thread;
        if let Some(past) = self.past.get_mut(thread) {
            past.push(status.newest_us);
            let skip = past.len().saturating_sub(PAST);
            past.drain(..skip);
        }
        if let Some(known) = self.known.get_mut(thread) {
            *known = Some(status);
        }
        if thread + 1 == self.cpus.len() {
            // The first look is a second in; the last may come after the end.
            let elapsed = begun.elapsed() + Duration::from_secs(1);
            let elapsed = elapsed.min(self.length);
            let (lines, plain) = (self.lines(elapsed), self.plain(elapsed));
            self.screen.draw(&lines, &plain);
        }
    }

    /// The picture.
    fn lines(&self, elapsed: Duration) -> Vec<String> {
        let mut lines = vec![
            format!("{}   {} of {} s", self.heading, seconds(elapsed), self.length.as_secs()),
            format!("  {:<12} {:>10} {:>9} {:>9} {:>9}", "CPU", "samples", "now", "mean", "worst"),
        ];
        for (i, (cpu, is_audio)) in self.cpus.iter().enumerate() {
            let name = if *is_audio { format!("{cpu}") } else { format!("{cpu}, no audio") };
            let Some(Some(status)) = self.known.get(i) else { continue };
            let past = self.past.get(i).map_or(String::new(), |past| sparks(past));
            let Status { samples, newest_us, mean_us, worst_us, .. } = status;
            let over = self.judged && *is_audio && *worst_us > self.target_us;
            let mark = if over { " over the limit" } else { "" };
            lines.push(format!(
                "  {name:<12} {samples:>10} {newest_us:>6} us {mean_us:>6} us {worst_us:>6} us  {past}{mark}"
            ));
        }
        let limit = match self.judged {
            true => format!("limit: worst <= {} us", self.target_us),
            false => "emulated: not judged".to_owned(),
        };
        lines.push(format!("  {limit}; Ctrl-C calls it off"));
        lines
    }

    /// The same in one line.
    fn plain(&self, elapsed: Duration) -> String {
        let each: Vec<String> = self
            .cpus
            .iter()
            .zip(&self.known)
            .filter_map(|((cpu, _), status)| {
                let Status { samples, newest_us, worst_us, .. } = status.as_ref()?;
                Some(format!(
                    "CPU {cpu}: {samples} samples, now {newest_us} us, worst {worst_us} us"
                ))
            })
            .collect();
        let word = if self.judged { "" } else { " (emulated: not judged)" };
        format!("{} s: {}{word}", seconds(elapsed), each.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(judged: bool) -> Live {
        let cpus: CpuSet = "0-1".parse().unwrap();
        let length = Duration::from_secs(10);
        Live::new("wake-up".into(), &cpus, |cpu| cpu == 1, 50, judged, length)
    }

    #[test]
    fn each_cpu_has_a_line_and_only_audio_s_is_held_against_the_limit() {
        let mut live = live(true);
        live.told("# cyclictest current status:");
        live.told(
            "T: 0 ( 1383) P:95 I:1000 C:   2001 Min:      3 Act:    8 Avg:    9 Max:     145",
        );
        live.told(
            "T: 1 ( 1384) P:95 I:1000 C:   2000 Min:      3 Act:   16 Avg:   11 Max:      77",
        );
        let lines = live.lines(Duration::from_secs(3));
        assert_eq!(lines[0], "wake-up   3 of 10 s");
        assert!(lines[2].starts_with("  0, no audio") && lines[2].contains("145 us"), "{lines:?}");
        assert!(!lines[2].contains("over") && lines[3].contains("77 us  █ over"), "{lines:?}");
        let plain = live.plain(Duration::from_secs(3));
        assert_eq!(
            plain,
            "3 s: CPU 0: 2001 samples, now 8 us, worst 145 us; CPU 1: 2000 samples, now 16 us, worst 77 us"
        );
    }

    #[test]
    fn under_emulation_nothing_is_over_a_limit() {
        let mut live = live(false);
        live.told("T: 0 ( 1) P:95 I:1000 C: 1 Min: 3 Act: 8 Avg: 9 Max: 145");
        live.told("T: 1 ( 2) P:95 I:1000 C: 1 Min: 3 Act: 8 Avg: 9 Max: 145");
        let lines = live.lines(Duration::ZERO).join("\n");
        assert!(lines.contains("emulated: not judged") && !lines.contains("over"), "{lines}");
        assert!(live.plain(Duration::ZERO).contains("emulated: not judged"));
    }
}

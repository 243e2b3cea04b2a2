//! The live view of the audio loop: what the probe tells of itself once a second.

use std::time::Duration;

use archibald_latency::Source;
use archibald_latency::round_trip::Progress;

use super::{PAST, Screen, seconds, sparks};

/// What is drawn, line by line.
pub(in super::super) struct Live {
    heading: String,
    target_us: u64,
    source: Source,
    length: Duration,
    /// What was left of a period at least, in microseconds, look by look.
    left: Vec<u64>,
    screen: Screen,
}

impl Live {
    pub(in super::super) fn new(
        whose: &str,
        source: Source,
        target_us: u64,
        length: Duration,
    ) -> Self {
        let heading = format!("audio loop, {whose} ({})", source.word());
        Self { heading, target_us, source, length, left: Vec::new(), screen: Screen::new() }
    }

    /// A line that the probe said.
    pub(in super::super) fn told(&mut self, line: &str) {
        let Some(progress) = Progress::from_line(line) else { return };
        if let Some([newest, _]) = progress.left_ns {
            self.left.push(newest / 1000);
            let skip = self.left.len().saturating_sub(PAST);
            self.left.drain(..skip);
        }
        let (lines, plain) = (self.lines(&progress), self.plain(&progress));
        self.screen.draw(&lines, &plain);
    }

    fn elapsed(&self, progress: &Progress) -> u128 {
        seconds(Duration::from_nanos(progress.elapsed_ns).min(self.length))
    }

    /// The picture.
    fn lines(&self, progress: &Progress) -> Vec<String> {
        let elapsed = self.elapsed(progress);
        let mut lines =
            vec![format!("{}   {elapsed} of {} s", self.heading, self.length.as_secs())];
        let mut row = |name: &str, said: String| lines.push(format!("  {name:<12} {said}"));
        row("round trip", round_trip(progress));
        if let Some(left) = margin(progress) {
            row("left", format!("{left}  {}", sparks(&self.left)));
        }
        let each: Vec<String> = progress
            .counters
            .iter()
            .map(|(meter, count)| format!("{} {count}", meter.title()))
            .collect();
        row("xruns", each.join(", "));
        let most_us =
            progress.frames.map(|[_, _, most]| most * 1e6 / f64::from(progress.rate.max(1)));
        #[allow(clippy::cast_precision_loss)]
        let over = most_us.is_some_and(|most| most > self.target_us as f64);
        let limit = match self.source.is_judged() {
            true if over => format!("OVER the limit: round trip <= {} us", self.target_us),
            true => format!("limit: round trip <= {} us", self.target_us),
            false => "emulated: not judged".to_owned(),
        };
        lines.push(format!("  {limit}; Ctrl-C calls it off"));
        lines
    }

    /// The same in one line.
    fn plain(&self, progress: &Progress) -> String {
        let xruns = match progress.counters.iter().max_by_key(|(_, count)| **count) {
            Some((_, 0)) => "no xruns".to_owned(),
            Some((meter, count)) => format!("xruns {count} by {}", meter.title()),
            None => "nobody looks for xruns".to_owned(),
        };
        let left = margin(progress).map_or(String::new(), |left| format!("; left {left}"));
        let word = if self.source.is_judged() { "" } else { " (emulated: not judged)" };
        let elapsed = self.elapsed(progress);
        format!("{elapsed} s: round trip {}; {xruns}{left}{word}", round_trip(progress))
    }
}

/// The newest, and the range if there is one.
fn round_trip(progress: &Progress) -> String {
    let Some([least, newest, most]) = progress.frames else {
        return "nothing heard yet".to_owned();
    };
    let milliseconds = newest * 1000.0 / f64::from(progress.rate.max(1));
    let frames = |frames: f64| {
        let text = format!("{frames:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let range = match least < most {
        true => format!(", from {} to {}", frames(least), frames(most)),
        false => String::new(),
    };
    format!("{} frames, {milliseconds:.3} ms{range}", frames(newest))
}

/// Of a period, in this second and in all.
fn margin(progress: &Progress) -> Option<String> {
    let [newest, least] = progress.left_ns?.map(|ns| ns / 1000);
    let period = f64::from(progress.quantum) * 1e6 / f64::from(progress.rate.max(1));
    Some(format!("{newest} us, worst {least} of {period:.0} us"))
}

#[cfg(test)]
mod tests {
    use archibald_latency::Meter;

    use super::*;

    const LINE: &str = r#"{"schema":"archibald.progress/1","elapsed_ns":3049000000,"quantum":32,
        "rate":48000,"frames":[32,32,64],"left_ns":[640000,480000],
        "counters":{"jack-callback":2,"frame-clock":0,"sequence":3}}"#;

    fn live(source: Source) -> (Live, Progress) {
        let line = LINE.replace('\n', " ");
        let mut live = Live::new("studio", source, 1000, Duration::from_secs(10));
        live.screen.terminal = true;
        live.told("something else");
        live.told(&line);
        (live, Progress::from_line(&line).unwrap())
    }

    #[test]
    fn trip_margin_and_xruns_have_a_line_each() {
        let (live, progress) = live(Source::Kvm);
        let lines = live.lines(&progress);
        let expected = [
            "audio loop, studio (KVM)   3 of 10 s",
            "  round trip   32 frames, 0.667 ms, from 32 to 64",
            "  left         640 us, worst 480 of 667 us  █",
            "  xruns        JACK xrun callback 2, frame clock 0, coded sequence 3",
            "  OVER the limit: round trip <= 1000 us; Ctrl-C calls it off",
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            live.plain(&progress),
            "3 s: round trip 32 frames, 0.667 ms, from 32 to 64; xruns 3 by coded sequence; left 640 us, worst 480 of 667 us"
        );
    }

    #[test]
    fn under_emulation_nothing_is_over_a_limit() {
        let (live, progress) = live(Source::Emulation);
        let text = live.lines(&progress).join("\n");
        assert!(text.contains("emulated: not judged") && !text.contains("OVER"), "{text}");
        assert!(live.plain(&progress).ends_with("(emulated: not judged)"));
    }

    #[test]
    fn what_is_not_known_is_not_drawn() {
        let (live, progress) = live(Source::Kvm);
        let counters = [(Meter::Sequence, 0)].into();
        let silent = Progress { frames: None, left_ns: None, counters, ..progress };
        let text = live.lines(&silent).join("\n");
        assert!(text.contains("nothing heard yet") && !text.contains("left "), "{text}");
        assert_eq!(live.plain(&silent), "3 s: round trip nothing heard yet; no xruns");
    }
}

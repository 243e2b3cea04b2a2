//! What stands beside a score, in `SCORE.farm.toml`: how it is rendered, and what its patch promises about
//! its past, without which it is not cut.

use std::collections::BTreeSet;
use std::time::Duration;

use archibald_machine::reader::{Number, Reader, Text};
use archibald_machine::units::{Bytes, Frames, Hertz};
use archibald_machine::{FileError, Span};
use serde::Deserialize;
use toml::Spanned;

use crate::Clock;

/// The commented example, in the documentation too.
pub const EXAMPLE: &str = include_str!("example.farm.toml");

/// How a score is rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Rate and control block.
    pub clock: Clock,
    /// Channels of the result.
    pub channels: u16,
    /// The server's memory for delay lines and the like.
    pub memory: Bytes,
    /// How it may be cut; absent: in one piece.
    pub segments: Option<Segments>,
}

/// How a score may be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Length of one.
    pub length: Duration,
    /// What a segment renders of the time before it, and drops.
    pub overlap: Duration,
    /// Synth definitions whose nodes live on, and are made anew at the beginning of each segment.
    pub keep: BTreeSet<String>,
}

impl Default for Promise {
    fn default() -> Self {
        Self {
            clock: Clock { rate: Hertz(48_000), block: Frames(64) },
            channels: 2,
            memory: Bytes(64 * Bytes::MIB),
            segments: None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    render: RenderTable,
    segments: Option<Spanned<SegmentsTable>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RenderTable {
    rate: Option<Number>,
    channels: Option<Number>,
    block: Option<Number>,
    memory: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct SegmentsTable {
    stateless: Option<Spanned<bool>>,
    length: Option<Text>,
    overlap: Option<Text>,
    keep: Vec<String>,
}

impl Promise {
    /// Reads the file `name` with the content `text`.
    ///
    /// # Errors
    /// Every problem, at its line.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let mut reader = Reader::new("a render", "archibald farm render --example", name, text);
        let file: File = reader.toml()?;
        let rate = reader.rate(file.render.rate.as_ref());
        let channels = reader.number("channels", file.render.channels.as_ref(), 1..=128, 2u16);
        let block = reader.number("block", file.render.block.as_ref(), 1..=8192, 64u32);
        let memory = reader.text("memory", file.render.memory.as_ref(), Self::default().memory);
        let segments = file.segments.map(|table| segments(&mut reader, table));
        let clock = Clock { rate, block: Frames(block) };
        reader.finish(Self { clock, channels, memory, segments: segments.flatten() })
    }
}

fn segments(reader: &mut Reader, table: Spanned<SegmentsTable>) -> Option<Segments> {
    let span = table.span();
    let table = table.into_inner();
    // Nothing is cut by accident: the word itself is the promise.
    match &table.stateless {
        Some(stateless) if *stateless.get_ref() => {}
        Some(_) => return None,
        None => {
            reader.problem(
                span,
                "[segments] without a promise",
                "stateless = true: that nothing sounds on beyond the overlap but what `keep` names",
                "Write stateless = true if that is so, or remove [segments].",
            );
            return None;
        }
    }
    let mut must = |key: &str, value: Option<&Text>| match value {
        Some(_) => reader.text(key, value, Span(Duration::from_secs(1))).0,
        None => {
            let message = format!("[segments] without {key}");
            let expected = format!("{key}, a time such as \"30s\"");
            reader.problem(span.clone(), message, expected, format!("Write {key} = \"30s\"."));
            Duration::from_secs(1)
        }
    };
    let length = must("length", table.length.as_ref());
    let overlap = must("overlap", table.overlap.as_ref());
    if let Some(value) = table.length.as_ref().filter(|_| length.is_zero()) {
        let remedy = "Write length = \"30s\".";
        reader.problem(value.span(), "a segment has no length", "more than 0", remedy);
    }
    Some(Segments { length, overlap, keep: table.keep.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_it_says() {
        let promise = Promise::parse("example.farm.toml", EXAMPLE).unwrap();
        let segments = promise.segments.clone().unwrap();
        assert_eq!(segments.length, Duration::from_secs(30));
        assert_eq!(segments.overlap, Duration::from_secs(5));
        assert_eq!(segments.keep.into_iter().collect::<Vec<_>>(), ["room"]);
        // Everything else in it is the default.
        assert_eq!(Promise { segments: None, ..promise }, Promise::default());
    }

    #[test]
    fn nothing_is_cut_without_the_promise() {
        let said = |text: &str| {
            let error = Promise::parse("a.farm.toml", text).unwrap_err();
            let problems = error.problems();
            (problems[0].line(), problems[0].to_string())
        };
        let (line, message) =
            said("[render]\nrate = 48000\n[segments]\nlength = \"5s\"\noverlap = \"1s\"\n");
        assert_eq!(line, 3);
        assert!(message.contains("without a promise"), "{message}");
        assert!(
            said("[segments]\nstateless = true\nlength = \"5s\"\n").1.contains("without overlap")
        );
        assert!(
            said("[segments]\nstateless = true\nlength = \"0s\"\noverlap = \"1s\"\n")
                .1
                .contains("no length")
        );
        assert!(said("[render]\nrate = 12345\n").1.contains("no sample rate"));
        assert!(said("[render]\nchanels = 2\n").1.contains("chanels"));
        let no = "[segments]\nstateless = false\nlength = \"5s\"\noverlap = \"1s\"\n";
        assert_eq!(Promise::parse("", no).unwrap().segments, None);
    }
}

//! Reading a TOML file with every problem at its line: what the machine file and the lab's scenario
//! files have in common. Which keys there are is said by whoever reads.

use std::ops::Range;
use std::str::FromStr;

use miette::NamedSource;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::units::{Frames, Hertz, NotA};
use crate::{FileError, Problem};

/// Text with its place in the file.
pub type Text = Spanned<String>;
/// A whole number with its place in the file.
pub type Number = Spanned<i64>;

/// The sample rates that sound hardware and both audio servers know.
const RATES: [i64; 9] = [16000, 22050, 32000, 44100, 48000, 88200, 96000, 176_400, 192_000];

/// Collects problems, so that one reading of the file tells them all.
#[derive(Debug)]
pub struct Reader {
    what: &'static str,
    template: &'static str,
    name: String,
    text: String,
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// Turns the TOML reader's own error into ours, with a remedy that fits.
fn syntax_problem(
    source: &NamedSource<String>,
    text: &str,
    template: &str,
    error: &toml::de::Error,
) -> Problem {
    let span = error.span().unwrap_or(0..text.len().min(1));
    let message = error.message().to_owned();
    if let Some((what, known)) = message.split_once(", expected one of ") {
        let known: Vec<&str> = known.split(", ").map(|key| key.trim_matches('`')).collect();
        let unknown = text.get(span.clone()).unwrap_or_default();
        let remedy = nearest(unknown, &known).map_or_else(
            || {
                format!(
                    "Remove the key; `{template}` writes a file with every key and its meaning."
                )
            },
            |key| format!("Write `{key}`, or remove the key."),
        );
        return Problem::new(
            source.clone(),
            span,
            what.replace("field", "key"),
            format!("one of {}", known.join(", ")),
            remedy,
        );
    }
    let (message, expected) = match message.split_once(", expected ") {
        // The TOML reader names Rust's types.
        Some((what, "i64")) => (what.to_owned(), "a whole number".to_owned()),
        Some((what, expected)) => (what.to_owned(), expected.to_owned()),
        None => (message, "TOML".to_owned()),
    };
    let remedy = format!("See the commented file that `{template}` writes.");
    Problem::new(source.clone(), span, message, expected, remedy)
}

/// The known key that a typist most likely meant: at most two edits away.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|key| (edits(unknown, key), *key))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, key)| key)
}

/// Levenshtein distance between two short words.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((to, above), diagonal) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let left = next.last().copied().unwrap_or(usize::MAX);
            next.push((diagonal + usize::from(from != *to)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

impl Reader {
    /// For the file `name` with the content `text`, which should describe `what` ("a machine");
    /// `template` is the command that writes a commented example.
    #[must_use]
    pub fn new(what: &'static str, template: &'static str, name: &str, text: &str) -> Self {
        let source = NamedSource::new(name, text.to_owned()).with_language("toml");
        let (name, text) = (name.to_owned(), text.to_owned());
        Self { what, template, name, text, source, problems: Vec::new() }
    }

    /// The file's tables.
    ///
    /// # Errors
    /// When the file is not TOML, or has an unknown key: that one problem.
    pub fn toml<T: DeserializeOwned>(&self) -> Result<T, FileError> {
        toml::from_str(&self.text).map_err(|error| {
            let problem = syntax_problem(&self.source, &self.text, self.template, &error);
            FileError::new(self.what, &self.name, vec![problem])
        })
    }

    /// The value that was read, if nothing was wrong.
    ///
    /// # Errors
    /// Every problem told so far.
    pub fn finish<T>(self, value: T) -> Result<T, FileError> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.error()) }
    }

    /// Every problem told so far.
    #[must_use]
    pub fn error(self) -> FileError {
        FileError::new(self.what, &self.name, self.problems)
    }

    /// Tells a problem at `span`: what is wrong, what was expected, what to do.
    pub fn problem(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        expected: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem::new(
            self.source.clone(),
            span,
            message.into(),
            expected.into(),
            remedy.into(),
        ));
    }

    /// A value written as text, or `default` when the key is left out or wrong.
    pub fn text<T: FromStr<Err = NotA>>(
        &mut self,
        key: &str,
        value: Option<&Text>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        match value.get_ref().parse() {
            Ok(parsed) => parsed,
            Err(NotA { expected }) => {
                let message = format!("{key} = \"{}\" cannot be read", value.get_ref());
                self.problem(value.span(), message, expected, format!("Write {expected}."));
                default
            }
        }
    }

    /// A whole number within bounds, or `default` when the key is left out or wrong.
    pub fn number<T: TryFrom<i64> + Copy>(
        &mut self,
        key: &str,
        value: Option<&Number>,
        bounds: std::ops::RangeInclusive<i64>,
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        match T::try_from(number) {
            Ok(parsed) if bounds.contains(&number) => parsed,
            _ => {
                let expected =
                    format!("a whole number from {} to {}", bounds.start(), bounds.end());
                self.problem(
                    value.span(),
                    format!("{key} = {number} is out of bounds"),
                    &expected,
                    format!("Write {expected}."),
                );
                default
            }
        }
    }

    /// One of a few words, or `default` when the key is left out or wrong.
    pub fn word<T: Copy>(
        &mut self,
        key: &str,
        value: Option<&Text>,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(value) = value else { return default };
        if let Some((_, found)) = words.iter().find(|(word, _)| word == value.get_ref()) {
            return *found;
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = known.join(" or ");
        let message = format!("{key} = \"{}\" is not known", value.get_ref());
        self.problem(value.span(), message, &expected, format!("Write {expected}."));
        default
    }

    /// The sample rate, 48000 Hz when the key is left out or wrong.
    pub fn rate(&mut self, value: Option<&Number>) -> Hertz {
        let rate = self.number("rate", value, 1..=192_000, 48_000);
        if let Some(value) = value {
            if (1..=192_000).contains(value.get_ref()) && !RATES.contains(value.get_ref()) {
                let known: Vec<String> = RATES.iter().map(ToString::to_string).collect();
                self.problem(
                    value.span(),
                    format!("rate = {} is no sample rate", value.get_ref()),
                    format!("one of {} Hz", known.join(", ")),
                    "Write rate = 48000.",
                );
            }
        }
        Hertz(rate)
    }

    /// Frames in one period, 32 when the key is left out or wrong.
    pub fn quantum(&mut self, value: Option<&Number>) -> Frames {
        let Some(value) = value else { return Frames(32) };
        let frames = *value.get_ref();
        match u32::try_from(frames) {
            Ok(quantum) if (8..=8192).contains(&quantum) && quantum.is_power_of_two() => {
                Frames(quantum)
            }
            _ => {
                let below = [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
                    .into_iter()
                    .rfind(|power| *power <= frames)
                    .unwrap_or(32);
                self.problem(
                    value.span(),
                    format!("quantum = {frames} is no period that sound hardware has"),
                    "a power of two from 8 to 8192 frames",
                    format!("Write quantum = {below}."),
                );
                Frames(32)
            }
        }
    }
}

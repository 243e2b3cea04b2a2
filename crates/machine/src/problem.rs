//! What is wrong with a file that a person wrote, shown at the line.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

/// A file that does not describe what it should. Every problem found is in it, not only the first.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} does not describe {what} ({} {})", problems.len(), if problems.len() == 1 { "problem" } else { "problems" })]
pub struct FileError {
    what: &'static str,
    name: String,
    problems: Vec<Problem>,
}

impl FileError {
    pub(crate) fn new(what: &'static str, name: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.offset());
        Self { what, name: name.to_owned(), problems }
    }

    /// What is wrong, in the file's order; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl Diagnostic for FileError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// One thing that is wrong, with its place, what was expected, and the remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    message: String,
    expected: String,
    remedy: String,
    source_code: NamedSource<String>,
    span: SourceSpan,
}

impl Problem {
    pub(crate) fn new(
        source_code: NamedSource<String>,
        span: std::ops::Range<usize>,
        message: String,
        expected: String,
        remedy: String,
    ) -> Self {
        Self { message, expected, remedy, source_code, span: span.into() }
    }

    /// What was expected in this place.
    #[must_use]
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    /// Line of the file, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        let text = self.source_code.inner();
        text.get(..self.span.offset()).unwrap_or(text).matches('\n').count() + 1
    }
}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_code)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = format!("expected {}", self.expected);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(label), self.span))))
    }
}

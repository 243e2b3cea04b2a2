//! XML as a tree of elements, and its text. Knows no element by name.

use std::fmt::Write as _;

/// An element with its attributes in order.
#[derive(Debug, Clone)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Elements(Vec<Element>),
    Text(String),
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), content: Content::Elements(Vec::new()) }
    }

    /// An element that holds this text and nothing else.
    pub(super) fn text(name: &'static str, text: impl ToString) -> Self {
        Self { name, attributes: Vec::new(), content: Content::Text(text.to_string()) }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.attributes.push((key, value.to_string()));
        self
    }

    pub(super) fn holding(mut self, more: impl IntoIterator<Item = Self>) -> Self {
        match &mut self.content {
            Content::Elements(elements) => elements.extend(more),
            Content::Text(_) => self.content = Content::Elements(more.into_iter().collect()),
        }
        self
    }

    /// The document of this root, after a comment of these lines.
    pub(super) fn document(&self, comment: &[String]) -> String {
        let mut text = String::from("<!--\n");
        for line in comment {
            // Two dashes end a comment, or are an error in it.
            let _ = writeln!(text, "  {}", legal(line).replace("--", "- -"));
        }
        text.push_str("-->\n");
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        let _ = write!(text, "{indent}<{}", self.name);
        for (key, value) in &self.attributes {
            let _ = write!(text, " {key}=\"{}\"", escaped(value));
        }
        match &self.content {
            Content::Elements(elements) if elements.is_empty() => text.push_str("/>\n"),
            Content::Elements(elements) => {
                text.push_str(">\n");
                for element in elements {
                    element.write(text, depth + 1);
                }
                let _ = writeln!(text, "{indent}</{}>", self.name);
            }
            Content::Text(content) => {
                let _ = writeln!(text, ">{}</{}>", escaped(content), self.name);
            }
        }
    }
}

/// Text that means itself, between tags and inside an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in legal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A reader makes spaces of these inside an attribute, unless they are written so.
            '\t' | '\n' | '\r' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// XML 1.0 has no way at all to write most control characters.
fn legal(text: &str) -> String {
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if is_legal(c) { c } else { '\u{fffd}' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_means_itself() {
        let root = Element::new("a")
            .with("k", "<\"&'\n>")
            .holding([Element::text("b", "1 < 2 & \u{1}"), Element::new("c")]);
        let text = root.document(&["never -- three --- dashes".to_owned()]);
        assert_eq!(
            text,
            "<!--\n  never - - three - -- dashes\n-->\n<a k=\"&lt;&quot;&amp;'&#10;&gt;\">\n  <b>1 &lt; 2 &amp; \u{fffd}</b>\n  <c/>\n</a>\n"
        );
    }
}

//! JUnit's XML, in the form that the readers of Jenkins, GitLab and GitHub's actions agree on: one suite,
//! its cases, each passed, failed, broken off or skipped with a reason.

use std::fmt::Write as _;

/// A suite of cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// What was tested, and where the figures come from.
    pub name: String,
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What readers group by.
    pub class: String,
    /// Tells it from the others of its class.
    pub name: String,
    /// How long it took, where that is known.
    pub seconds: Option<f64>,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, in words.
    pub said: String,
}

/// How a case came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Passed,
    /// Not as it must: why.
    Failed(String),
    /// It could not be done: why.
    Error(String),
    /// It was not judged: why.
    Skipped(String),
}

impl Suite {
    /// The document.
    pub fn to_xml(&self) -> String {
        let count =
            |of: fn(&Outcome) -> bool| self.cases.iter().filter(|case| of(&case.outcome)).count();
        let mut xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" \
             errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">\n",
            escaped(&self.name),
            self.cases.len(),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Error(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            self.cases.iter().filter_map(|case| case.seconds).sum::<f64>(),
        );
        for case in &self.cases {
            xml.push_str(&case.to_xml());
        }
        xml + "</testsuite>\n"
    }
}

impl Case {
    fn to_xml(&self) -> String {
        let (class, name) = (escaped(&self.class), escaped(&self.name));
        let mut xml = format!("  <testcase classname=\"{class}\" name=\"{name}\"");
        // Writing to a String cannot fail.
        if let Some(seconds) = self.seconds {
            let _ = write!(xml, " time=\"{seconds:.3}\"");
        }
        xml.push('>');
        let why = match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(why) => Some(("failure", why)),
            Outcome::Error(why) => Some(("error", why)),
            Outcome::Skipped(why) => Some(("skipped", why)),
        };
        if let Some((element, why)) = why {
            // Some readers show the attribute, some the text.
            let first = escaped(why.lines().next().unwrap_or_default());
            let _ = write!(xml, "<{element} message=\"{first}\">{}</{element}>", escaped(why));
        }
        let _ = writeln!(xml, "<system-out>{}</system-out></testcase>", escaped(&self.said));
        xml
    }
}

/// XML 1.0 has no control characters but tab and line ends.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && !"\t\n".contains(c) => {}
            '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_what_programs_said_is_escaped() {
        let case = |name: &str, outcome| Case {
            class: "lab".to_owned(),
            name: name.to_owned(),
            seconds: Some(1.5),
            outcome,
            said: "held".to_owned(),
        };
        let cases = vec![
            case("a/lab.toml", Outcome::Passed),
            case("b&c.lab.toml", Outcome::Failed("<x>\u{1b}[1m\nmore".to_owned())),
            case("d", Outcome::Error("no compiler".to_owned())),
            case("e", Outcome::Skipped("emulated: not judged".to_owned())),
        ];
        let xml = Suite { name: "lab \"one\"".to_owned(), cases }.to_xml();
        assert!(
            xml.contains("tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\" time=\"6.000\""),
            "{xml}"
        );
        assert!(
            xml.contains("name=\"lab &quot;one&quot;\"") && xml.contains("b&amp;c.lab.toml"),
            "{xml}"
        );
        let failure = "<failure message=\"&lt;x&gt;[1m\">&lt;x&gt;[1m\nmore</failure>";
        assert!(xml.contains(failure), "{xml}");
        assert!(xml.contains("<skipped message=\"emulated: not judged\">"), "{xml}");
    }
}

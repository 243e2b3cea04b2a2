//! A row of the list, and the list as a whole with its two forms: JSON for the host, lines for a
//! person who is inside the machine.

use std::io::{self, Write};

use serde::Serialize;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The kernel and its knobs.
    Kernel,
    /// Which CPU does what.
    Cpus,
    /// The graph, its threads, and sound.
    Audio,
    /// What the audio user may take.
    Limits,
    /// Who may come in.
    Login,
    /// The store.
    Store,
    /// Ports.
    Network,
    /// Folders of the host, and the cluster.
    Outside,
    /// Programs.
    Tools,
}

impl Group {
    fn title(self) -> &'static str {
        match self {
            Self::Kernel => "Kernel",
            Self::Cpus => "CPUs",
            Self::Audio => "Audio",
            Self::Limits => "Limits",
            Self::Login => "Login",
            Self::Store => "StreamDB",
            Self::Network => "Network",
            Self::Outside => "Others",
            Self::Tools => "Tools",
        }
    }
}

/// How a row came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As expected.
    Ok,
    /// Not as expected.
    Failed,
    /// Looked at, but it means nothing here.
    NotJudged,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::NotJudged => "-",
        }
    }
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub group: Group,
    /// Stays the same over versions: `audio.quantum`.
    pub id: String,
    /// For people.
    pub title: String,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// How the two compare.
    pub status: Status,
    /// What to do about it; only on a failed row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Row {
    /// A row that nobody has looked at yet counts as failed.
    pub(super) fn new(
        group: Group,
        id: impl Into<String>,
        title: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            group,
            id: id.into(),
            title: title.into(),
            expected: expected.into(),
            found: String::new(),
            status: Status::Failed,
            remedy: None,
        }
    }

    /// `found`, and whether that is good.
    pub(super) fn judge(mut self, found: impl Into<String>, good: bool) -> Self {
        self.found = found.into();
        if self.found.is_empty() {
            "nothing".clone_into(&mut self.found);
        }
        self.status = if good { Status::Ok } else { Status::Failed };
        self
    }

    pub(super) fn failed(self, found: impl Into<String>) -> Self {
        self.judge(found, false)
    }

    /// Good if `found` is what is expected, word for word.
    pub(super) fn equal(self, found: Option<String>) -> Self {
        let good = found.as_ref() == Some(&self.expected);
        self.judge(found.unwrap_or_else(|| "nothing".into()), good)
    }

    /// The same row where the machine is emulated: seen, not judged.
    pub(super) fn only_if(mut self, judged: bool) -> Self {
        if !judged {
            self.status = Status::NotJudged;
            self.found = format!("{} (emulated: not judged)", self.found);
        }
        self
    }

    /// What to do if it failed.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = (self.status == Status::Failed).then(|| remedy.into());
        self
    }
}

/// The whole list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// Whether figures of latency mean anything in this machine.
    pub judged: bool,
    /// How many rows are good.
    pub ok: usize,
    /// How many are not.
    pub failed: usize,
    /// How many say nothing here.
    pub not_judged: usize,
    /// The rows, by group.
    pub rows: Vec<Row>,
}

impl Report {
    /// The list of `rows`, sorted by group; within a group they keep their order.
    pub(super) fn new(judged: bool, mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| row.group);
        let count = |status| rows.iter().filter(|row| row.status == status).count();
        Self {
            schema: 1,
            judged,
            ok: count(Status::Ok),
            failed: count(Status::Failed),
            not_judged: count(Status::NotJudged),
            rows,
        }
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// What the output said.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes it as lines.
    ///
    /// # Errors
    /// What the output said.
    pub fn write_lines(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = |of: fn(&Row) -> &str| {
            self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
        };
        let title = width(|row| &row.title);
        let mut group = None;
        for row in &self.rows {
            if group.replace(row.group) != Some(row.group) {
                writeln!(out, "{}", row.group.title())?;
            }
            let word = row.status.word();
            write!(out, "  {word:<6}  {:<title$}  {}", row.title, row.found)?;
            match row.status {
                Status::Failed => writeln!(out, "; expected {}", row.expected)?,
                _ => writeln!(out)?,
            }
            if let Some(remedy) = &row.remedy {
                writeln!(out, "          -> {remedy}")?;
            }
        }
        let Self { ok, failed, not_judged, .. } = self;
        writeln!(out, "{ok} ok, {failed} failed, {not_judged} not judged")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let row = |group, id| Row::new(group, id, format!("Title of {id}"), "32");
        Report::new(
            false,
            vec![
                row(Group::Tools, "a").judge("32", true),
                row(Group::Kernel, "b").equal(Some("64".into())).remedy("do this"),
                row(Group::Kernel, "c").equal(None).only_if(false).remedy("not shown"),
            ],
        )
    }

    #[test]
    fn rows_are_counted_and_stand_by_group() {
        let report = report();
        assert_eq!((report.ok, report.failed, report.not_judged), (1, 1, 1));
        assert_eq!(report.rows[0].id, "b");
        assert_eq!(report.rows[1].remedy, None);
    }

    #[test]
    fn a_person_reads_what_failed_and_what_to_do() {
        let mut text = Vec::new();
        report().write_lines(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("  FAILED  Title of b  64; expected 32\n          -> do this\n"));
        assert!(text.contains("nothing (emulated: not judged)"));
        assert!(text.ends_with("1 ok, 1 failed, 1 not judged\n"));
    }

    #[test]
    fn the_json_keeps_its_names() {
        let mut text = Vec::new();
        report().write_json(&mut text).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["rows"][1]["status"], "not-judged");
        assert_eq!(value["rows"][0]["group"], "kernel");
    }
}

//! The graph's xruns while a program plays, from what the audio server counts or logs.

use std::collections::BTreeMap;

use archibald_machine::AudioServer;

pub(super) struct Xruns {
    server: AudioServer,
    /// Stands behind every line where the figure says nothing about hardware.
    word: &'static str,
    /// Where the column ERR of pw-top(1) is.
    column: Option<usize>,
    tables: usize,
    counts: BTreeMap<String, u64>,
    /// Of the table that is being read.
    fresh: BTreeMap<String, u64>,
}

impl Xruns {
    pub(super) fn new(server: AudioServer, emulated: bool) -> Self {
        Self {
            server,
            word: if emulated { " (emulated)" } else { "" },
            column: None,
            tables: 0,
            counts: BTreeMap::new(),
            fresh: BTreeMap::new(),
        }
    }

    /// Takes a line of pw-top's batch mode, or of jackd's log; a line for people when it tells of xruns.
    pub(super) fn read(&mut self, line: &str) -> Option<String> {
        match self.server {
            AudioServer::PipeWire => self.read_table(line),
            // "JackEngine::XRun: client = drone was not finished, state = Running"
            AudioServer::Jack => {
                let told = line.split_once("XRun: ")?.1.trim();
                Some(format!("xrun{}: {told}", self.word))
            }
        }
    }

    fn read_table(&mut self, line: &str) -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(column) = words.iter().position(|word| *word == "ERR") {
            self.column = Some(column);
            return self.end_of_table();
        }
        let count = self.column.and_then(|column| words.get(column)?.parse::<u64>().ok())?;
        // Followers stand behind a plus sign; a driver's format comes before its name.
        let name = line.rsplit_once(" + ").map_or_else(
            || words.last().copied().unwrap_or_default().to_owned(),
            |(_, name)| name.trim().to_owned(),
        );
        *self.fresh.entry(name).or_insert(0) += count;
        None
    }

    /// A header begins the next table, and so ends the one before.
    fn end_of_table(&mut self) -> Option<String> {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return None;
        }
        self.tables += 1;
        let mut told = Vec::new();
        for (name, count) in &fresh {
            // What the first table shows happened before.
            let before = self.counts.get(name).copied();
            let before = before.unwrap_or(if self.tables == 1 { *count } else { 0 });
            if *count > before {
                told.push(format!("{name} +{}", count - before));
            }
        }
        self.counts.extend(fresh);
        (!told.is_empty()).then(|| format!("xruns{}: {}", self.word, told.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "S   ID  QUANT   RATE    WAIT    BUSY   W/Q   B/Q  ERR FORMAT           NAME";

    #[test]
    fn what_pipewire_counts_is_told_as_it_grows() {
        let mut xruns = Xruns::new(AudioServer::PipeWire, true);
        let driver = |count: u32| {
            format!(
                "R   33     32  48000   1.0us   2.0us  0.00  0.00  {count:>3}    F32P 2 48000 null"
            )
        };
        let client = |count: u32| {
            format!(
                "R   50     32  48000   1.0us   2.0us  0.00  0.00  {count:>3}    F32P 1 48000  + my synth"
            )
        };
        let lines = [
            HEADER.to_owned(),
            driver(9),
            HEADER.to_owned(),
            driver(9),
            client(2),
            HEADER.to_owned(),
            driver(10),
            client(5),
            HEADER.to_owned(),
            driver(10),
            client(5),
            HEADER.to_owned(),
        ];
        let told: Vec<String> = lines.iter().filter_map(|line| xruns.read(line)).collect();
        assert_eq!(
            told,
            ["xruns (emulated): my synth +2", "xruns (emulated): my synth +3, null +1"]
        );
    }

    #[test]
    fn what_jackd_logs_is_told() {
        let mut xruns = Xruns::new(AudioServer::Jack, false);
        let line = "JackEngine::XRun: client = drone was not finished, state = Running";
        let expected = "xrun: client = drone was not finished, state = Running";
        assert_eq!(xruns.read(line).as_deref(), Some(expected));
        assert_eq!(xruns.read("Jack: alsa_pcm"), None);
    }
}

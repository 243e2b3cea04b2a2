//! Reading a scenario file: every key with its default, every problem at its line.

use std::ops::Range;
use std::path::Path;

use archibald_machine::AudioServer;
use archibald_machine::FileError;
use archibald_machine::reader::{Number, Reader, Text};
use archibald_machine::units::Bytes;
use serde::Deserialize;
use toml::Spanned;

use super::{
    Audio, Expect, KernelKind, LabMachine, Load, Mips, Profile, Program, Scenario, Source, Span,
    Time, Tuning,
};

/// The commented example, as `archibald lab init` writes it.
pub const EXAMPLE: &str = include_str!("../../../../guest/lab/lab.toml");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    program: Option<Spanned<ProgramTable>>,
    audio: AudioTable,
    time: TimeTable,
    load: LoadTable,
    machine: MachineTable,
    limits: LimitsTable,
    expect: ExpectTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ProgramTable {
    build: Option<Text>,
    run: Option<Text>,
    builtin: Option<Text>,
    arguments: Option<Text>,
    min_load: Option<Spanned<f64>>,
    ready: Option<Text>,
    connect: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct AudioTable {
    server: Option<Text>,
    rate: Option<Number>,
    quantum: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct TimeTable {
    mips: Option<Number>,
    duration: Option<Text>,
    warmup: Option<Text>,
    seeds: Option<Spanned<Vec<Number>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LoadTable {
    profile: Option<Text>,
    command: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct MachineTable {
    kernel: Option<Text>,
    memory: Option<Text>,
    tuning: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsTable {
    xruns: Option<Number>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ExpectTable {
    verdict: Option<Text>,
    cause: Option<Text>,
}

/// One of the project's own programs.
#[derive(Debug, Clone, Copy)]
struct Builtin {
    name: &'static str,
    build: Option<&'static str>,
    run: &'static str,
    /// What it writes when it plays.
    ready: Option<&'static str>,
    /// The share of a processor of 500 MIPS that proves that it plays, in percent. scsynth without a
    /// synth, or with blocks longer than the period, stays below.
    min_load: f64,
}

const BUILTIN: [Builtin; 4] = [
    Builtin {
        name: "jack-client",
        build: Some("cc -O2 -o client client.c -ljack -lm -lpthread"),
        run: "exec ./client",
        ready: None,
        min_load: 0.1,
    },
    Builtin {
        name: "scsynth",
        build: Some("cc -O2 -o play play.c && sclang voice.scd"),
        run: "exec ./play",
        ready: Some("voices and a reverb play"),
        min_load: 10.0,
    },
    Builtin {
        name: "sclang",
        build: None,
        run: "exec sclang patch.scd",
        ready: Some("the patch plays"),
        min_load: 10.0,
    },
    Builtin {
        name: "pipewire-filter",
        build: Some("cc -O2 -o filter filter.c $(pkg-config --cflags --libs libpipewire-0.3) -lm"),
        run: "exec ./play.sh",
        ready: Some("the filter plays"),
        min_load: 1.0,
    },
];

/// As in JSON, where a reader of a run would lose what does not fit.
const LARGEST_SEED: i64 = (1 << 53) - 1;

impl Scenario {
    /// Reads a scenario file.
    ///
    /// `name` is shown in errors, `text` is the file's content, `folder` the one it lies in, which is
    /// the program's.
    ///
    /// # Errors
    /// [`FileError`] with every problem found. A file that is not TOML, or has an unknown key, yields
    /// that one problem.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self, FileError> {
        let reader = Reader::new("a scenario", "archibald lab init", name, text);
        let file: File = reader.toml()?;
        let mut reading = Reading { reader };
        let scenario = reading.scenario(name, file, folder);
        reading.reader.finish(scenario)
    }
}

struct Reading {
    reader: Reader,
}

impl Reading {
    fn scenario(&mut self, name: &str, file: File, folder: &Path) -> Scenario {
        Scenario {
            name: name.to_owned(),
            program: self.program(file.program, folder),
            audio: self.audio(&file.audio),
            time: self.time(file.time),
            load: self.load(file.load),
            machine: self.machine(&file.machine),
            xruns: self.reader.number("xruns", file.limits.xruns.as_ref(), 0..=1_000_000, 0),
            expect: self.expect(file.expect),
        }
    }

    fn program(&mut self, table: Option<Spanned<ProgramTable>>, folder: &Path) -> Program {
        let span = table.as_ref().map_or(0..0, Spanned::span);
        let table = table.map(Spanned::into_inner).unwrap_or_default();
        let mut program = match (&table.builtin, &table.run) {
            (Some(builtin), None) => self.builtin(builtin),
            (None, Some(run)) => Program {
                source: Source::Folder(folder.to_owned()),
                build: None,
                run: run.get_ref().clone(),
                min_load: 0.1,
                ready: None,
                connect: default_connect(),
            },
            (Some(builtin), Some(_)) => {
                self.reader.problem(
                    builtin.span(),
                    "builtin and run stand beside each other",
                    "one of the two",
                    "Remove builtin to run a program of your own.",
                );
                Program::none(folder)
            }
            (None, None) => {
                self.reader.problem(
                    span,
                    "the scenario has no program",
                    "[program] with run = \"...\" or builtin = \"...\"",
                    "Write for example:\n[program]\nbuiltin = \"jack-client\"",
                );
                Program::none(folder)
            }
        };
        if let Some(build) = table.build {
            program.build = Some(build.into_inner());
        }
        if let Some(arguments) = table.arguments {
            if table.builtin.is_none() {
                self.reader.problem(
                    arguments.span(),
                    "arguments stand beside run",
                    "a builtin program that takes them",
                    "Write the arguments into run.",
                );
            }
            program.run = format!("{} {}", program.run, arguments.get_ref());
        }
        for text in [&table.run].into_iter().flatten() {
            self.not_empty("run", text.get_ref(), text.span());
        }
        if let Some(value) = table.min_load {
            let percent = *value.get_ref();
            if !(0.0..100.0).contains(&percent) {
                self.reader.problem(
                    value.span(),
                    format!("min-load = {percent} is no share of a processor"),
                    "percent from 0 to below 100",
                    "Write min-load = 0.1, or remove the key.",
                );
            }
            program.min_load = percent;
        }
        if let Some(ready) = table.ready {
            self.not_empty("ready", ready.get_ref(), ready.span());
            program.ready = Some(ready.into_inner());
        }
        let connect = Span(program.connect);
        program.connect = self.reader.text("connect", table.connect.as_ref(), connect).0;
        program
    }

    fn builtin(&mut self, value: &Text) -> Program {
        let words = BUILTIN.map(|entry| (entry.name, entry));
        let found = self.reader.word("builtin", Some(value), &words, BUILTIN[0]);
        Program {
            source: Source::Builtin(found.name),
            build: found.build.map(str::to_owned),
            run: found.run.to_owned(),
            min_load: found.min_load,
            ready: found.ready.map(str::to_owned),
            connect: default_connect(),
        }
    }

    fn not_empty(&mut self, key: &str, text: &str, span: Range<usize>) {
        if text.trim().is_empty() {
            let (message, expected, remedy) = match key {
                "ready" => (
                    "ready = \"\" stands in every output".to_owned(),
                    "what the program writes when it plays",
                    "Remove the key: a program plays when it has ports.",
                ),
                _ => (
                    format!("{key} = \"\" runs nothing"),
                    "a shell command",
                    "Write for example \"./client\".",
                ),
            };
            self.reader.problem(span, message, expected, remedy);
        }
    }

    fn audio(&mut self, table: &AudioTable) -> Audio {
        let servers = [("pipewire", AudioServer::PipeWire), ("jack", AudioServer::Jack)];
        Audio {
            server: self.reader.word("server", table.server.as_ref(), &servers, AudioServer::Jack),
            rate: self.reader.rate(table.rate.as_ref()),
            quantum: self.reader.quantum(table.quantum.as_ref()),
        }
    }

    fn time(&mut self, table: TimeTable) -> Time {
        let second = std::time::Duration::from_secs;
        let duration = self.reader.text("duration", table.duration.as_ref(), Span(second(5))).0;
        if let Some(value) = table.duration.filter(|_| duration.is_zero()) {
            self.reader.problem(
                value.span(),
                "duration = 0 counts nothing",
                "some time",
                "Write duration = \"5s\".",
            );
        }
        Time {
            mips: self.mips(table.mips.as_ref()),
            duration,
            warmup: self.reader.text("warmup", table.warmup.as_ref(), Span(second(1))).0,
            seeds: self.seeds(table.seeds),
        }
    }

    fn mips(&mut self, value: Option<&Number>) -> Mips {
        let Some(value) = value else { return Mips::DEFAULT };
        let number = *value.get_ref();
        u32::try_from(number).ok().and_then(Mips::new).unwrap_or_else(|| {
            let known = Mips::ALL.map(|mips| mips.number().to_string()).join(", ");
            let nearest = Mips::ALL
                .into_iter()
                .min_by_key(|mips| (i64::from(mips.number()) - number.clamp(0, 10_000)).abs());
            self.reader.problem(
                value.span(),
                format!("mips = {number} is no speed of the virtual processor"),
                format!("one of {known}"),
                format!("Write mips = {}.", nearest.unwrap_or(Mips::DEFAULT).number()),
            );
            Mips::DEFAULT
        })
    }

    fn seeds(&mut self, values: Option<Spanned<Vec<Number>>>) -> Vec<u64> {
        let Some(values) = values else { return vec![1, 2, 3] };
        let span = values.span();
        let mut seeds: Vec<u64> = Vec::new();
        for value in values.into_inner() {
            let seed = self.reader.number("seed", Some(&value), 0..=LARGEST_SEED, 0);
            if seeds.contains(&seed) {
                self.reader.problem(
                    value.span(),
                    format!("seed {seed} stands twice"),
                    "every seed once: a repeated run is the same run",
                    "Remove one of the two.",
                );
            }
            seeds.push(seed);
        }
        if seeds.is_empty() {
            let remedy = "Write seeds = [1, 2, 3].";
            self.reader.problem(span, "seeds = [] runs nothing", "at least one seed", remedy);
            seeds.push(1);
        }
        seeds
    }

    fn load(&mut self, table: LoadTable) -> Load {
        let profile =
            self.reader.word("profile", table.profile.as_ref(), &Profile::WORDS, Profile::Mixed);
        let Some(command) = table.command else { return Load::Profile(profile) };
        self.not_empty("command", command.get_ref(), command.span());
        if table.profile.is_some() {
            self.reader.problem(
                command.span(),
                "profile and command stand beside each other",
                "one of the two",
                "Remove profile to use a load of your own.",
            );
        }
        Load::Command(command.into_inner())
    }

    fn machine(&mut self, table: &MachineTable) -> LabMachine {
        let kernels = [("rt", KernelKind::Rt), ("stock", KernelKind::Stock)];
        let tunings = [("machine", Tuning::Machine), ("none", Tuning::None)];
        let (least, most) = (Bytes(768 * Bytes::MIB), Bytes(16 * Bytes::GIB));
        let memory = self.reader.text("memory", table.memory.as_ref(), Bytes(2 * Bytes::GIB));
        if let Some(value) = table.memory.as_ref().filter(|_| memory < least || memory > most) {
            self.reader.problem(
                value.span(),
                format!("memory = \"{memory}\" is out of bounds"),
                format!("{least} to {most}"),
                "Write memory = \"2 GiB\".",
            );
        }
        LabMachine {
            kernel: self.reader.word("kernel", table.kernel.as_ref(), &kernels, KernelKind::Rt),
            memory,
            tuning: self.reader.word("tuning", table.tuning.as_ref(), &tunings, Tuning::Machine),
        }
    }

    fn expect(&mut self, table: ExpectTable) -> Expect {
        let verdicts = [("held", false), ("broken", true)];
        let broken = self.reader.word("verdict", table.verdict.as_ref(), &verdicts, false);
        if let Some(cause) = table.cause.as_ref().filter(|_| !broken) {
            self.reader.problem(
                cause.span(),
                "a cause is expected, but no broken verdict",
                "verdict = \"broken\" beside it",
                "Write verdict = \"broken\", or remove cause.",
            );
        }
        Expect { broken, cause: table.cause.map(Text::into_inner) }
    }
}

fn default_connect() -> std::time::Duration {
    std::time::Duration::from_secs(20)
}

impl Program {
    /// Stands for a program that was told as a problem.
    fn none(folder: &Path) -> Self {
        Self {
            source: Source::Folder(folder.to_owned()),
            build: None,
            run: String::new(),
            min_load: 0.0,
            ready: None,
            connect: default_connect(),
        }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

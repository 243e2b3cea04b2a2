//! `archibald farm render`: scores to sound files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use archibald_farm::Score;
use archibald_farm::promise::{EXAMPLE, Promise};
use archibald_farm::render::{Planned, Source, job, plan, results};
use archibald_farm::scsynth::{Rendered, write_score};
use archibald_farm::wave::{self, Samples, Shape};
use archibald_image::Cancel;

use super::task::Renders;
use super::{Where, failure, tell_place};
use crate::commands::build;
use crate::failure::{Context as _, Exit, Failure};
use crate::places;
use crate::terminal::{self, Steps};

/// Render SuperCollider scores offline, long ones in segments side by side.
///
/// A score is a binary file of OSC bundles (`Score.write`), or a .scd file whose value is a Score. What stands
/// beside it in NAME.farm.toml says how it is rendered, and whether it may be cut; see --example.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The server reads no synth definitions of yours: the score sends them (/d_recv), as Score and Pattern.asScore do.\nExit status 1: the joined render is not the whole one (--prove)."
)]
pub(crate) struct Render {
    /// The scores.
    #[arg(required_unless_present = "example")]
    scores: Vec<PathBuf>,
    /// Where the sound files go.
    #[arg(short, long, default_value = ".")]
    out: PathBuf,
    /// The files' format.
    #[arg(long, default_value = "wav", value_parser = ["wav", "flac"])]
    format: String,
    /// How samples are written; float for WAV and int24 for FLAC when left out.
    #[arg(long, value_parser = ["float", "int24", "int16"])]
    samples: Option<String>,
    /// In one piece, whatever the file beside the score says.
    #[arg(long)]
    whole: bool,
    /// Render in one piece too, and compare: to see whether a patch keeps its promise.
    #[arg(long, conflicts_with = "whole")]
    prove: bool,
    /// Write a commented NAME.farm.toml to standard output, and do nothing.
    #[arg(long)]
    example: bool,
    #[command(flatten)]
    on: Where,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Render {
    pub(crate) fn run(self) -> Result<u8, Failure> {
        if self.example {
            terminal::say(EXAMPLE.trim_end());
            return Ok(0);
        }
        let samples = self.samples()?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.on.quiet);
        let sources = self.sources(&steps, &cancel)?;
        let renders = Renders::find()?;
        let version = renders.0.version.clone();
        let shared = self.on.shared()?;
        let planned = |whole: bool| -> Result<Vec<Planned>, Failure> {
            let plans = sources.iter().map(|source| plan(source, &version, whole, &shared));
            plans.collect::<Result<_, _>>().map_err(failure)
        };
        let plans = planned(self.whole)?;
        let whole = if self.prove { planned(true)? } else { Vec::new() };
        let mut all = plans.clone();
        all.extend(whole.iter().cloned());
        let mut job = job(&all, &sources, None);
        job.resources = self.on.resources(job.resources);
        if !self.on.local && !self.on.quiet {
            tell_place(&shared, &job);
        }
        self.on.complete(&shared, &job, &renders, false, &steps, &cancel)?;
        steps.step("farm: joining");
        fs::create_dir_all(&self.out).context(self.out.display())?;
        let mut told = Vec::new();
        for (index, (source, planned)) in sources.iter().zip(&plans).enumerate() {
            let pieces = results(&shared, &planned.tasks).map_err(failure)?;
            let paths: Vec<PathBuf> = pieces.iter().map(|(path, _)| path.clone()).collect();
            let differs = match whole.get(index) {
                Some(whole) => {
                    let whole = results(&shared, &whole.tasks).map_err(failure)?;
                    let whole: Vec<PathBuf> = whole.into_iter().map(|(path, _)| path).collect();
                    Some(wave::first_difference(&paths, &whole).map_err(failure)?)
                }
                None => None,
            };
            let clock = source.promise.clock;
            let shape = Shape {
                rate: clock.rate.0,
                channels: source.promise.channels,
                frames: planned.frames,
                samples,
            };
            let file = self.write(source, &paths, shape)?;
            told.push(Told { file, shape, pieces, differs, keys: keys(planned) });
        }
        steps.finish();
        drop(steps);
        let manifests = sources
            .iter()
            .zip(&told)
            .map(|(source, told)| told.manifest(source, &version, &self.out))
            .collect::<Result<Vec<_>, _>>()?;
        if self.json {
            terminal::say_json(&serde_json::json!({
                "schema": "archibald.farm-renders/1", "job": job.name, "renders": manifests,
            }));
        } else {
            for (source, told) in sources.iter().zip(&told) {
                told.show(source);
            }
        }
        Ok(u8::from(told.iter().any(|told| matches!(told.differs, Some(Some(_))))))
    }

    fn samples(&self) -> Result<Samples, Failure> {
        let flac = self.format == "flac";
        match self.samples.as_deref() {
            None if flac => Ok(Samples::Int24),
            Some("float") if flac => {
                Err(Failure::new(Exit::Use, "FLAC has no floating point samples")
                    .with_remedy("Write --samples int24, or --format wav."))
            }
            None | Some("float") => Ok(Samples::Float),
            Some("int24") => Ok(Samples::Int24),
            Some(_) => Ok(Samples::Int16),
        }
    }

    /// Reads the scores, and has sclang make those that are programs.
    fn sources(&self, steps: &Steps, cancel: &Cancel) -> Result<Vec<Source>, Failure> {
        let name =
            |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut names = BTreeSet::new();
        if let Some(twice) =
            self.scores.iter().map(|path| name(path)).find(|name| !names.insert(name.clone()))
        {
            let what = format!("two scores are called {twice}, and would be one file");
            return Err(Failure::new(Exit::Use, what)
                .with_remedy("Render them one after the other, with another --out."));
        }
        let mut sources = Vec::new();
        for path in &self.scores {
            let shown = path.display().to_string();
            let absolute = fs::canonicalize(path)
                .map_err(|error| Failure::new(Exit::Use, format!("{shown}: {error}")))?;
            let beside = absolute.with_extension("farm.toml");
            let promise = match fs::read_to_string(&beside) {
                Ok(text) => Promise::parse(&beside.display().to_string(), &text)?,
                Err(_) if !beside.exists() => Promise::default(),
                Err(error) => {
                    return Err(Failure::new(Exit::Use, format!("{}: {error}", beside.display())));
                }
            };
            let bytes = if path.extension().is_some_and(|extension| extension == "scd") {
                steps.step(&format!("farm: sclang makes the score of {shown}"));
                made(&absolute, cancel)?
            } else {
                fs::read(&absolute).context(&shown)?
            };
            let score = Score::parse(&shown, &bytes).map_err(failure)?;
            let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
            sources.push(Source { name: name(path), score, folder, promise });
        }
        Ok(sources)
    }

    fn write(&self, source: &Source, pieces: &[PathBuf], shape: Shape) -> Result<PathBuf, Failure> {
        let wav = self.out.join(format!("{}.wav", source.name));
        if self.format == "wav" {
            wave::join(pieces, shape, &wav).map_err(failure)?;
            return Ok(wav);
        }
        let between = self.out.join(format!(".{}.{}.wav", source.name, std::process::id()));
        let flac = self.out.join(format!("{}.flac", source.name));
        wave::join(pieces, shape, &between).map_err(failure)?;
        let encoder = places::find_program("flac").unwrap_or_else(|| "flac".into());
        let made = wave::flac(&encoder, &between, &flac);
        let _ = fs::remove_file(&between);
        made.map_err(failure)?;
        Ok(flac)
    }
}

fn keys(planned: &Planned) -> Vec<String> {
    planned.tasks.iter().map(|task| task.key.clone()).collect()
}

fn made(scd: &Path, cancel: &Cancel) -> Result<Vec<u8>, Failure> {
    let scratch = places::directories().runtime.join(format!("farm-{}", std::process::id()));
    fs::create_dir_all(&scratch).context(scratch.display())?;
    let sclang = places::find_program("sclang").unwrap_or_else(|| "sclang".into());
    let score = write_score(&sclang, scd, &scratch, cancel);
    let _ = fs::remove_dir_all(&scratch);
    score.map_err(failure)
}

/// A finished render.
struct Told {
    file: PathBuf,
    shape: Shape,
    pieces: Vec<(PathBuf, Rendered)>,
    keys: Vec<String>,
    /// With --prove: whether it differs from the whole, and from which sample on.
    differs: Option<Option<u64>>,
}

impl Told {
    #[allow(clippy::cast_precision_loss)]
    fn seconds(&self, frames: u64) -> f64 {
        frames as f64 / f64::from(self.shape.rate)
    }

    /// What stands beside the file, and `NAME.sha256` for `sha256sum -c`.
    fn manifest(
        &self,
        source: &Source,
        version: &str,
        out: &Path,
    ) -> Result<serde_json::Value, Failure> {
        let sum = wave::checksum(&self.file).map_err(failure)?;
        let file = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut first = 0;
        let segments: Vec<_> = self
            .keys
            .iter()
            .zip(&self.pieces)
            .map(|(key, (_, rendered))| {
                let at = first;
                first += rendered.frames;
                serde_json::json!({
                    "first_frame": at, "frames": rendered.frames, "sha256": rendered.sha256,
                    "result": key, "notes": rendered.notes,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schema": "archibald.farm-render/1", "score": source.name, "file": file, "sha256": sum,
            "rate": self.shape.rate, "channels": self.shape.channels, "frames": self.shape.frames,
            "samples": self.shape.samples.word(), "scsynth": version, "segments": segments,
            "same_as_whole": self.differs.map(|differs| differs.is_none()),
        });
        let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        let path = out.join(format!("{}.render.json", source.name));
        fs::write(&path, text + "\n").context(path.display())?;
        let path = out.join(format!("{file}.sha256"));
        fs::write(&path, format!("{sum}  {file}\n")).context(path.display())?;
        Ok(manifest)
    }

    fn show(&self, source: &Source) {
        let pieces = match self.pieces.len() {
            1 => "in one piece".to_owned(),
            count => format!("in {count} segments"),
        };
        let Shape { rate, channels, frames, samples } = self.shape;
        terminal::say(&format!(
            "{}: {:.3} s, {channels} channels at {rate} Hz, {}, {pieces}",
            self.file.display(),
            self.seconds(frames),
            samples.word()
        ));
        match self.differs {
            Some(None) => terminal::say("  the same samples as in one piece"),
            Some(Some(sample)) => {
                let frame = sample / u64::from(channels);
                terminal::say(&format!(
                    "  differs from the render in one piece from frame {frame} on, {:.3} s: the patch does not keep its promise",
                    self.seconds(frame)
                ));
            }
            None => {}
        }
        let mut notes: Vec<&String> =
            self.pieces.iter().flat_map(|(_, piece)| &piece.notes).collect();
        notes.sort();
        notes.dedup();
        for note in notes.iter().take(5) {
            terminal::say(&format!("  {}: scsynth: {note}", source.name));
        }
    }
}

//! Scores to a job and its results to sound files.

use std::path::{Path, PathBuf};

use archibald_image::Key;
use archibald_machine::units::Bytes;

use crate::job::{Job, Resources, Shared, Task, Work};
use crate::promise::Promise;
use crate::scsynth::{ABOUT, Piece, Rendered, SAMPLES};
use crate::segment::{self, Segment};
use crate::{FarmError, Score, error::During, score, wave};

/// A score with everything that its render needs.
#[derive(Debug, Clone)]
pub struct Source {
    /// For people, and for the result's name.
    pub name: String,
    /// The score.
    pub score: Score,
    /// The folder that the paths in it start from.
    pub folder: PathBuf,
    /// How it is rendered.
    pub promise: Promise,
}

/// A score's tasks.
#[derive(Debug, Clone)]
pub struct Planned {
    /// For each piece, in their order.
    pub tasks: Vec<Task>,
    /// Frames of the whole.
    pub frames: u64,
}

/// Cuts a score, as far as its promise goes, and writes the pieces among the inputs. `whole` leaves it in one
/// piece all the same.
///
/// # Errors
/// [`FarmError::Score`], or what the system said.
pub fn plan(
    source: &Source,
    version: &str,
    whole: bool,
    shared: &Shared,
) -> Result<Planned, FarmError> {
    let clock = source.promise.clock;
    let segments = match &source.promise.segments {
        Some(segments) if !whole => segment::cut(&source.name, &source.score, clock, segments)?,
        _ => vec![segment::whole(&source.score, clock)],
    };
    let files = score::content(&source.folder, &source.score.reads())?;
    let count = segments.len();
    let block = u64::from(clock.block.0);
    let task = |(index, segment): (usize, &Segment)| {
        let bytes = segment.score.bytes();
        let (dropped, kept) = (segment.dropped * block, segment.kept * block);
        let Promise { channels, memory, .. } = source.promise;
        let mut key = Key::new("farm render");
        key.add(&bytes).add(version);
        for number in [u64::from(clock.rate.0), block, u64::from(channels), memory.0, dropped, kept]
        {
            key.add(number.to_le_bytes());
        }
        for (file, sum) in &files {
            key.add(file).add(sum);
        }
        let key = key.name();
        let piece = Piece {
            score: shared.input(&format!("{key}.osc"), &bytes)?,
            folder: source.folder.clone(),
            rate: clock.rate.0,
            block: clock.block.0,
            channels,
            memory_kib: memory.0 / 1024,
            dropped,
            kept,
            version: version.to_owned(),
        };
        let title = match count {
            1 => source.name.clone(),
            _ => format!("{} {}/{count}", source.name, index + 1),
        };
        Ok(Task { key, title, work: Work::Render(piece) })
    };
    let tasks = segments.iter().enumerate().map(task).collect::<Result<Vec<_>, FarmError>>()?;
    Ok(Planned { tasks, frames: segments.iter().map(|segment| segment.kept * block).sum() })
}

/// The job of these scores. The server's memory, its own 64 MiB for the program and sound files in buffers on top.
#[must_use]
pub fn job(planned: &[Planned], sources: &[Source], resources: Option<Resources>) -> Job {
    let server = sources.iter().map(|source| source.promise.memory.0).max().unwrap_or(0);
    let files = sources.iter().map(sizes).max().unwrap_or(0);
    // The server is one thread. Sound files become floats: four bytes for every two of theirs at most.
    let memory_mib = (server + 2 * files + 256 * Bytes::MIB).div_ceil(Bytes::MIB);
    let resources = resources.unwrap_or(Resources { cpus: 1, memory_mib, minutes: 60 });
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let tasks = planned.iter().flat_map(|planned| planned.tasks.clone()).collect();
    Job::new(format!("render {}", names.join(", ")), resources, tasks)
}

fn sizes(source: &Source) -> u64 {
    let reads = source.score.reads();
    let size = |name: &String| source.folder.join(name).metadata().map_or(0, |file| file.len());
    reads.iter().map(size).sum()
}

/// The samples of these tasks, one file each, after their checksums were compared.
///
/// # Errors
/// [`FarmError::Job`] for a result that is not as it was written; it is removed, so that the next render makes it
/// anew.
pub fn results(shared: &Shared, tasks: &[Task]) -> Result<Vec<(PathBuf, Rendered)>, FarmError> {
    tasks.iter().map(|task| result(&shared.result(&task.key))).collect()
}

fn result(folder: &Path) -> Result<(PathBuf, Rendered), FarmError> {
    let (about, samples) = (folder.join(ABOUT), folder.join(SAMPLES));
    let text = std::fs::read(&about).during("read", &about)?;
    let damaged = |what: String| {
        let _ = std::fs::remove_dir_all(folder);
        FarmError::Damaged { path: samples.clone(), what }
    };
    let rendered: Rendered =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if wave::checksum(&samples)? != rendered.sha256 {
        return Err(damaged("its checksum is not the one that was written beside it".to_owned()));
    }
    Ok((samples, rendered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_with_a_flipped_bit_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("key");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(SAMPLES), [1, 2, 3, 4]).unwrap();
        let sha256 = wave::checksum(&folder.join(SAMPLES)).unwrap();
        let rendered = Rendered { sha256, frames: 1, notes: Vec::new() };
        std::fs::write(folder.join(ABOUT), serde_json::to_vec(&rendered).unwrap()).unwrap();
        assert_eq!(result(&folder).unwrap().1, rendered);
        std::fs::write(folder.join(SAMPLES), [1, 2, 3, 5]).unwrap();
        let error = result(&folder).unwrap_err();
        assert!(error.remedy().unwrap().contains("again"), "{error}");
        assert!(!folder.exists());
    }
}

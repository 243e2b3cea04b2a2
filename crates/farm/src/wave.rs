//! Rendered pieces to one sound file, written by ourselves so that the same samples are the same file: no times
//! of day, no peak chunks.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::FarmError;
use crate::error::During;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// 32-bit floats, as the server computes them.
    Float,
    /// 24-bit integers, rounded, and cut where they are too loud.
    Int24,
    /// 16-bit integers, likewise, without dither.
    Int16,
}

impl Samples {
    fn bytes(self) -> u16 {
        match self {
            Self::Float => 4,
            Self::Int24 => 3,
            Self::Int16 => 2,
        }
    }

    /// In words.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Int24 => "int24",
            Self::Int16 => "int16",
        }
    }
}

/// What a sound file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Frames a second.
    pub rate: u32,
    /// Channels.
    pub channels: u16,
    /// Frames.
    pub frames: u64,
    /// How they are written.
    pub samples: Samples,
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// What the system said.
pub fn checksum(path: &Path) -> Result<String, FarmError> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).during("read", path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).during("read", path)?;
        if length == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
}

/// The header of a WAV file; beyond 4 GiB that of an RF64 file (EBU Tech 3306), which is the same with 64-bit
/// sizes.
fn header(shape: Shape) -> Vec<u8> {
    let width = shape.samples.bytes();
    let frame = width * shape.channels;
    let data = shape.frames * u64::from(frame);
    let padded = data + data % 2;
    let float = shape.samples == Samples::Float;
    let fact = if float { 12 } else { 0 };
    let riff = 4 + 24 + fact + 8 + padded;
    let small = u32::try_from(riff).ok();
    let mut bytes = Vec::new();
    let word = |bytes: &mut Vec<u8>, text: &[u8; 4], size: u32| {
        bytes.extend(text);
        bytes.extend(size.to_le_bytes());
    };
    word(&mut bytes, if small.is_some() { b"RIFF" } else { b"RF64" }, small.unwrap_or(u32::MAX));
    bytes.extend(b"WAVE");
    if small.is_none() {
        word(&mut bytes, b"ds64", 28);
        for size in [riff + 36, data, shape.frames] {
            bytes.extend(size.to_le_bytes());
        }
        bytes.extend(0u32.to_le_bytes());
    }
    word(&mut bytes, b"fmt ", 16);
    bytes.extend(if float { 3u16 } else { 1 }.to_le_bytes());
    bytes.extend(shape.channels.to_le_bytes());
    bytes.extend(shape.rate.to_le_bytes());
    bytes.extend((shape.rate * u32::from(frame)).to_le_bytes());
    bytes.extend(frame.to_le_bytes());
    bytes.extend((width * 8).to_le_bytes());
    if float {
        word(&mut bytes, b"fact", 4);
        bytes.extend(u32::try_from(shape.frames).unwrap_or(u32::MAX).to_le_bytes());
    }
    word(
        &mut bytes,
        b"data",
        if small.is_some() { u32::try_from(data).unwrap_or(u32::MAX) } else { u32::MAX },
    );
    bytes
}

/// Writes a WAV file of these pieces, whose samples are raw 32-bit floats; the file appears whole or not at all.
/// Returns SHA-256 of the samples as they were rendered.
///
/// # Errors
/// What the system said; [`FarmError::Job`] when the pieces are not as long as the shape says.
pub fn join(pieces: &[PathBuf], shape: Shape, to: &Path) -> Result<String, FarmError> {
    let partial = beside(to);
    let file = File::create(&partial).during("create", &partial)?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    out.write_all(&header(shape)).during("write", &partial)?;
    let mut hash = Sha256::new();
    let mut samples = 0u64;
    for piece in pieces {
        let mut file = BufReader::with_capacity(1 << 18, File::open(piece).during("open", piece)?);
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let length = read_full(&mut file, &mut buffer).during("read", piece)?;
            let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
            hash.update(read);
            samples += (length / 4) as u64;
            let written = match shape.samples {
                Samples::Float => out.write_all(read),
                samples => out.write_all(&integers(read, samples)),
            };
            written.during("write", &partial)?;
        }
    }
    if samples != shape.frames * u64::from(shape.channels) {
        let what =
            format!("{samples} samples in place of {}", shape.frames * u64::from(shape.channels));
        return Err(FarmError::Job { path: to.to_owned(), what });
    }
    if (samples * u64::from(shape.samples.bytes())) % 2 == 1 {
        out.write_all(&[0]).during("write", &partial)?;
    }
    let file = out.into_inner().map_err(|error| error.into_error()).during("write", &partial)?;
    file.sync_all().during("write", &partial)?;
    std::fs::rename(&partial, to).during("rename", &partial)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A read that is short only at the end.
fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

/// To full scale, rounded to the nearest, ties to even as libsndfile does; what is louder is cut.
#[allow(clippy::cast_possible_truncation)]
fn integers(floats: &[u8], samples: Samples) -> Vec<u8> {
    let width = usize::from(samples.bytes());
    let full = f64::from(1u32 << (width * 8 - 1));
    let mut out = Vec::with_capacity(floats.len());
    for chunk in floats.chunks_exact(4) {
        let float = chunk.try_into().map_or(0.0, f32::from_le_bytes);
        let value = (f64::from(float) * full).round_ties_even().clamp(-full, full - 1.0) as i32;
        out.extend(value.to_le_bytes().iter().take(width));
    }
    out
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

/// A WAV file of integers to FLAC, which is lossless, by the reference encoder.
///
/// # Errors
/// [`FarmError::Missing`], or what the encoder said.
pub fn flac(flac: &Path, wav: &Path, to: &Path) -> Result<(), FarmError> {
    let partial = beside(to);
    let said = Command::new(flac)
        .args(["--silent", "--force", "--best", "--no-padding", "-o"])
        .arg(&partial)
        .arg(wav)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                FarmError::Missing { program: flac.display().to_string(), package: "flac" }
            }
            _ => FarmError::Program { program: "flac", message: error.to_string() },
        })?;
    if !said.status.success() {
        let message = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        let _ = std::fs::remove_file(&partial);
        return Err(FarmError::Program { program: "flac", message });
    }
    std::fs::rename(&partial, to).during("rename", &partial)
}

/// Where two files of raw floats part: the number of the first sample that differs.
///
/// # Errors
/// What the system said.
pub fn first_difference(one: &[PathBuf], other: &[PathBuf]) -> Result<Option<u64>, FarmError> {
    let mut a = Chain::new(one);
    let mut b = Chain::new(other);
    let mut at = 0u64;
    loop {
        let (left, right) = (a.next()?, b.next()?);
        let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
        if same < left.len() || same < right.len() {
            return Ok(Some((at + same as u64) / 4));
        }
        if left.is_empty() {
            return Ok(None);
        }
        at += same as u64;
    }
}

/// Files one after the other, in pieces of one size.
struct Chain<'a> {
    left: &'a [PathBuf],
    open: Option<File>,
}

impl<'a> Chain<'a> {
    fn new(files: &'a [PathBuf]) -> Self {
        Self { left: files, open: None }
    }

    fn next(&mut self) -> Result<Vec<u8>, FarmError> {
        let mut piece = vec![0; 1 << 16];
        let mut length = 0;
        while length < piece.len() {
            if self.open.is_none() {
                let Some((path, left)) = self.left.split_first() else { break };
                self.open = Some(File::open(path).during("open", path)?);
                self.left = left;
            }
            let Some(file) = &mut self.open else { break };
            let read =
                read_full(file, piece.get_mut(length..).unwrap_or_default()).map_err(|error| {
                    FarmError::Program { program: "reading samples", message: error.to_string() }
                })?;
            if read == 0 {
                self.open = None;
            }
            length += read;
        }
        piece.truncate(length);
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(dir: &Path, name: &str, samples: &[f32]) -> PathBuf {
        let path = dir.join(name);
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn two_pieces_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (raw(dir.path(), "a", &[0.0, 0.5]), raw(dir.path(), "b", &[-1.0, 1.0]));
        let whole = raw(dir.path(), "whole", &[0.0, 0.5, -1.0, 1.0]);
        for samples in [Samples::Float, Samples::Int24, Samples::Int16] {
            let shape = Shape { rate: 48_000, channels: 2, frames: 2, samples };
            let (joined, single) = (dir.path().join("j.wav"), dir.path().join("s.wav"));
            let sum = join(&[a.clone(), b.clone()], shape, &joined).unwrap();
            assert_eq!(sum, join(std::slice::from_ref(&whole), shape, &single).unwrap());
            assert_eq!(sum, checksum(&whole).unwrap());
            let bytes = std::fs::read(&joined).unwrap();
            assert_eq!(bytes, std::fs::read(&single).unwrap());
            let riff = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
            assert_eq!(riff as usize, bytes.len() - 8, "{samples:?}");
        }
        let bytes = std::fs::read(dir.path().join("s.wav")).unwrap();
        let data: Vec<i16> = bytes[44..]
            .chunks(2)
            .map(|pair| i16::from_le_bytes(pair.try_into().unwrap()))
            .collect();
        assert_eq!(data, [0, 16384, -32768, 32767]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 5, "a partial file is left");
    }

    #[test]
    fn a_length_that_does_not_fit_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let piece = raw(dir.path(), "a", &[0.0]);
        let shape = Shape { rate: 48_000, channels: 1, frames: 2, samples: Samples::Float };
        let error = join(&[piece], shape, &dir.path().join("a.wav")).unwrap_err();
        assert!(error.to_string().contains("1 samples in place of 2"), "{error}");
    }

    #[test]
    fn beyond_four_gigabytes_the_sizes_have_64_bits() {
        let shape = Shape { rate: 48_000, channels: 2, frames: 1 << 30, samples: Samples::Float };
        let bytes = header(shape);
        assert_eq!((&bytes[..4], &bytes[12..16]), (&b"RF64"[..], &b"ds64"[..]));
        let data = u64::from_le_bytes(bytes[28..36].try_into().unwrap());
        let riff = u64::from_le_bytes(bytes[20..28].try_into().unwrap());
        assert_eq!(data, 8 << 30);
        assert_eq!(riff, data + bytes.len() as u64 - 8);
    }

    #[test]
    fn the_first_difference_is_found_across_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (raw(dir.path(), "a", &[0.0, 0.5]), raw(dir.path(), "b", &[-1.0, 1.0]));
        let same = raw(dir.path(), "same", &[0.0, 0.5, -1.0, 1.0]);
        let other = raw(dir.path(), "other", &[0.0, 0.5, -1.0, 1.5]);
        let pieces = [a, b];
        assert_eq!(first_difference(&pieces, &[same]).unwrap(), None);
        assert_eq!(first_difference(&pieces, &[other]).unwrap(), Some(3));
        assert_eq!(first_difference(&pieces, &pieces[..1]).unwrap(), Some(2));
    }
}

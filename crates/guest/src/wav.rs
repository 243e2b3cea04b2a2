//! The head of a WAV file of 32-bit floats, the graph's own samples: written before the sound is there,
//! and again when its length is known.

/// Bytes before the first sample.
pub const HEAD: usize = 58;
/// Bytes of a sample.
pub const SAMPLE: u64 = 4;

/// The head of a file with this many frames; players take one without a length for sound that goes on.
///
/// WAVE_FORMAT_IEEE_FLOAT has an empty extension and a `fact` chunk (Multiple Channel Audio Data and
/// WAVE Files, Microsoft).
#[must_use]
pub fn head(channels: u16, rate: u32, frames: Option<u64>) -> Vec<u8> {
    const FLOAT: u16 = 3;
    let frame = u32::from(channels).saturating_mul(SAMPLE as u32);
    // What is longer than the format can say says so in the same way as what has no length yet.
    let short = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let data = frames.map(|frames| frames.saturating_mul(u64::from(frame)));
    let all = data.map(|data| data.saturating_add(HEAD as u64 - 8));
    let mut head = Vec::with_capacity(HEAD);
    let mut put = |bytes: &[u8]| head.extend_from_slice(bytes);
    put(b"RIFF");
    put(&all.map_or(u32::MAX, short).to_le_bytes());
    put(b"WAVEfmt ");
    put(&18_u32.to_le_bytes());
    put(&FLOAT.to_le_bytes());
    put(&channels.to_le_bytes());
    put(&rate.to_le_bytes());
    put(&rate.saturating_mul(frame).to_le_bytes());
    put(&(frame as u16).to_le_bytes());
    put(&32_u16.to_le_bytes());
    put(&0_u16.to_le_bytes());
    put(b"fact");
    put(&4_u32.to_le_bytes());
    put(&frames.map_or(u32::MAX, short).to_le_bytes());
    put(b"data");
    put(&data.map_or(u32::MAX, short).to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::read_wav;

    #[test]
    fn what_is_written_is_read_back() {
        let samples = [0.5_f32, -0.5, 0.25, -0.25];
        let sound: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        for frames in [Some(2), None] {
            let file = [head(2, 48_000, frames), sound.clone()].concat();
            assert_eq!(file.len(), HEAD + 16);
            let (left, rate) = read_wav(&file).unwrap();
            assert_eq!((left, rate), (vec![0.5, 0.25], 48_000.0), "{frames:?}");
        }
    }

    #[test]
    fn lengths_are_those_of_the_file_or_none() {
        let number = |head: &[u8], at: usize| {
            u32::from_le_bytes(head.get(at..at + 4).unwrap().try_into().unwrap())
        };
        let known = head(2, 48_000, Some(10));
        assert_eq!((number(&known, 4), number(&known, 46), number(&known, 54)), (50 + 80, 10, 80));
        for frames in [None, Some(1 << 40)] {
            let open = head(2, 48_000, frames);
            assert_eq!((number(&open, 4), number(&open, 54)), (u32::MAX, u32::MAX));
        }
    }
}

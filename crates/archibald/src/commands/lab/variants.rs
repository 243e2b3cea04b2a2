//! What of a scenario can be changed from the command line, word by word.

use archibald_lab::scenario::{KernelKind, Mips, Tuning};
use archibald_machine::AudioServer;
use archibald_machine::units::Frames;

/// The values that were given for each, none for what stays.
#[derive(Debug, Default)]
pub(super) struct Variants<'a> {
    pub(super) kernel: &'a [KernelKind],
    pub(super) tuning: &'a [Tuning],
    pub(super) server: &'a [AudioServer],
    pub(super) mips: &'a [Mips],
    pub(super) quantum: &'a [Frames],
}

fn one_of<T: Copy>(text: &str, known: &[T], word: impl Fn(T) -> String) -> Result<T, String> {
    let found = known.iter().copied().find(|value| word(*value) == text);
    found.ok_or_else(|| {
        let words: Vec<String> = known.iter().map(|value| word(*value)).collect();
        format!("one of {}", words.join(", "))
    })
}

pub(super) fn kernel(text: &str) -> Result<KernelKind, String> {
    one_of(text, &[KernelKind::Rt, KernelKind::Stock], |kernel| kernel.word().to_owned())
}

pub(super) fn tuning(text: &str) -> Result<Tuning, String> {
    one_of(text, &[Tuning::Machine, Tuning::None], |tuning| tuning.word().to_owned())
}

pub(super) fn server(text: &str) -> Result<AudioServer, String> {
    one_of(text, &[AudioServer::Jack, AudioServer::PipeWire], |server| server.word().to_owned())
}

pub(in crate::commands) fn mips(text: &str) -> Result<Mips, String> {
    one_of(text, &Mips::ALL, |mips| mips.number().to_string())
}

/// As in a scenario file: what sound hardware has.
pub(in crate::commands) fn quantum(text: &str) -> Result<Frames, String> {
    let powers: Vec<u32> = (3..=13).map(|bits| 1 << bits).collect();
    one_of(text, &powers, |frames| frames.to_string()).map(Frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        assert_eq!(quantum("32"), Ok(Frames(32)));
        assert!(quantum("48").unwrap_err().contains("8, 16, 32"));
        assert_eq!(mips("300").unwrap_err(), "one of 1000, 500, 250, 125, 62");
        assert_eq!(kernel("stock"), Ok(KernelKind::Stock));
        assert!(tuning("").is_err() && server("alsa").is_err());
    }
}

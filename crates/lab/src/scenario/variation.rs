//! A scenario with one thing or another changed, as comparisons and sweeps run it. What is changed is
//! kept with the run, so that it can be repeated and explained.

use archibald_machine::AudioServer;
use archibald_machine::units::Frames;
use serde::{Deserialize, Serialize};

use super::{KernelKind, Mips, Scenario, Tuning};

/// What differs from the file; nothing: the scenario as it stands there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Variation {
    /// Another kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelKind>,
    /// Tuned or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    /// Another audio server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<AudioServer>,
    /// Another speed of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mips: Option<Mips>,
    /// Another period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantum: Option<Frames>,
}

impl Variation {
    /// The scenario so changed.
    #[must_use]
    pub fn of(&self, scenario: &Scenario) -> Scenario {
        let mut varied = scenario.clone();
        varied.machine.kernel = self.kernel.unwrap_or(varied.machine.kernel);
        varied.machine.tuning = self.tuning.unwrap_or(varied.machine.tuning);
        varied.audio.server = self.server.unwrap_or(varied.audio.server);
        varied.time.mips = self.mips.unwrap_or(varied.time.mips);
        varied.audio.quantum = self.quantum.unwrap_or(varied.audio.quantum);
        varied
    }

    /// In words: `stock kernel, 125 MIPS`; empty for none.
    #[must_use]
    pub fn title(&self) -> String {
        let words = [
            self.kernel.map(|kernel| format!("{} kernel", kernel.word())),
            self.tuning.map(|tuning| format!("tuning {}", tuning.word())),
            self.server.map(|server| server.word().to_owned()),
            self.mips.map(|mips| format!("{} MIPS", mips.number())),
            self.quantum.map(|quantum| format!("{} frames", quantum.0)),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let text = "[program]\nbuiltin = \"jack-client\"\n[time]\nmips = 250\n";
        let scenario = Scenario::parse("lab.toml", text, Path::new("/")).unwrap();
        assert_eq!(Variation::default().of(&scenario), scenario);
        let variation = Variation {
            kernel: Some(KernelKind::Stock),
            quantum: Some(Frames(64)),
            ..Variation::default()
        };
        let varied = variation.of(&scenario);
        assert_eq!((varied.machine.kernel, varied.audio.quantum.0), (KernelKind::Stock, 64));
        assert_eq!((varied.time.mips.number(), varied.machine.tuning), (250, Tuning::Machine));
        assert_eq!(variation.title(), "stock kernel, 64 frames");
        let text = serde_json::to_string(&variation).unwrap();
        assert_eq!(text, r#"{"kernel":"stock","quantum":64}"#);
        assert_eq!(serde_json::from_str::<Variation>(&text).unwrap(), variation);
    }
}

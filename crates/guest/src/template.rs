//! Templates: real config files in which a name between at signs, `@QUANTUM@`, stands for a setting.
//! Which names there are, and what each becomes, is said here and nowhere else.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use archibald_machine::Settings;
use archibald_machine::units::{CpuSet, Network4};

use crate::GuestError;

/// Where templates of files lie; each below the path that it is rendered to.
pub const FILES: &str = "/usr/share/archibald/templates";
/// Where templates of unit drop-ins lie, which the generator renders.
pub const UNITS: &str = "/usr/share/archibald/units";

/// What each placeholder stands for on one machine.
#[derive(Debug, Clone)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Every placeholder that a template may name.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let audio_cpus = audio_cpus(settings);
        let networks: Vec<String> = settings.password_from.iter().copied().map(network).collect();
        let priority = settings.audio_priority.get();
        Self(BTreeMap::from([
            ("NAME", settings.name.clone()),
            ("RATE", settings.rate.0.to_string()),
            ("QUANTUM", settings.quantum.0.to_string()),
            ("AUDIO_PRIORITY", priority.to_string()),
            ("CLIENT_PRIORITY", client_priority(priority).to_string()),
            ("IRQ_PRIORITY", settings.irq_priority.to_string()),
            ("AUDIO_CPUS", audio_cpus.to_string()),
            ("AUDIO_CPU_LIST", spaced(&audio_cpus)),
            ("HOUSEKEEPING", settings.housekeeping.to_string()),
            ("ADDRESS", settings.address.to_string()),
            ("GATEWAY", settings.gateway.to_string()),
            ("DNS", settings.dns.to_string()),
            ("PASSWORD_FROM", networks_or_nowhere(&networks).join(",")),
            (
                "CONTROLLER",
                settings.cluster.as_ref().map_or(String::new(), |c| c.controller.to_string()),
            ),
            ("STREAMDB_ACCESS", store_access(settings).to_owned()),
            ("STREAMDB_FROM", store_from(settings, &networks)),
            ("STREAMDB_PORT", settings.streamdb_port.unwrap_or(0).to_string()),
        ]))
    }

    /// `text` with every placeholder replaced.
    ///
    /// # Errors
    /// [`GuestError::UnknownPlaceholder`], naming `template`, if one is not known.
    pub fn render(&self, template: &str, text: &str) -> Result<String, GuestError> {
        let mut rendered = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, name, after)) = next_placeholder(rest) {
            let value = self.0.get(name).ok_or_else(|| GuestError::UnknownPlaceholder {
                template: template.to_owned(),
                placeholder: name.to_owned(),
            })?;
            rendered.push_str(before);
            rendered.push_str(value);
            rest = after;
        }
        rendered.push_str(rest);
        Ok(rendered)
    }
}

/// The CPUs that audio threads run on: the isolated ones, or all where none is isolated.
#[must_use]
pub fn audio_cpus(settings: &Settings) -> CpuSet {
    match settings.isolated.is_empty() {
        false => settings.isolated.clone(),
        true => settings.housekeeping.clone(),
    }
}

/// Priority of a program's audio thread: as far below the graph's own as JACK2 puts it.
#[must_use]
pub fn client_priority(audio: u8) -> u8 {
    audio.saturating_sub(5).max(1)
}

/// The network that an address lies in: sshd refuses one whose host part is not zero.
fn network(address: Network4) -> String {
    let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0);
    let first = Ipv4Addr::from(u32::from(address.address) & mask);
    format!("{first}/{}", address.prefix)
}

fn spaced(cpus: &CpuSet) -> String {
    cpus.iter().map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(" ")
}

/// An empty list would let everybody in where it is written as "no restriction"; loopback is always
/// allowed, so naming it again says nothing more.
fn networks_or_nowhere(networks: &[String]) -> Vec<String> {
    match networks {
        [] => vec!["127.0.0.0/8".to_owned()],
        _ => networks.to_vec(),
    }
}

/// How the store knows who may use it: by a token where the settings have one. Its file comes to the
/// unit as a credential, so `%d` is systemd's to replace.
fn store_access(settings: &Settings) -> &'static str {
    match settings.store_door.as_ref().and_then(|door| door.token.as_ref()) {
        Some(_) => "--token-file=%d/streamdb.token",
        None => "--open",
    }
}

/// The networks that may connect to the store, as systemd lists them.
fn store_from(settings: &Settings, networks: &[String]) -> String {
    match settings.store_door.as_ref().is_some_and(|door| door.anywhere) {
        true => "any".to_owned(),
        false => networks_or_nowhere(networks).join(" "),
    }
}

/// The text before the next `@NAME@`, the name, and what follows. Single at signs are text: limits.d
/// and e-mail addresses have them.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find('@') {
        let start = from + found;
        let inside = text.get(start + 1..)?;
        let length = inside.bytes().take_while(|b| b.is_ascii_uppercase() || *b == b'_').count();
        if length > 0 && inside.as_bytes().get(length) == Some(&b'@') {
            return Some((text.get(..start)?, inside.get(..length)?, inside.get(length + 1..)?));
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use archibald_machine::StoreDoor;

    use super::*;
    use crate::settings::tests::example;

    #[test]
    fn placeholders_become_settings_and_other_at_signs_stay() {
        let values = Values::of(&example());
        let text = "a@b.c @QUANTUM@/@RATE@ @audio - rtprio @AUDIO_PRIORITY@@";
        assert_eq!(values.render("t", text).unwrap(), "a@b.c 32/48000 @audio - rtprio 88@");
    }

    #[test]
    fn an_unknown_placeholder_is_named_with_its_template() {
        let error = Values::of(&example()).render("some.conf", "x = @COLOUR@").unwrap_err();
        assert!(error.to_string().contains("some.conf") && error.to_string().contains("@COLOUR@"));
    }

    #[test]
    fn without_isolated_cpus_audio_runs_on_all() {
        let mut settings = example();
        settings.isolated = CpuSet::default();
        settings.housekeeping = "0-3".parse().unwrap();
        let rendered = Values::of(&settings).render("t", "[ @AUDIO_CPU_LIST@ ]").unwrap();
        assert_eq!(rendered, "[ 0 1 2 3 ]");
    }

    #[test]
    fn networks_are_named_by_their_first_address() {
        // sshd stops at "Match Address 10.0.2.15/24", and with it the machine's only way in.
        let rendered = Values::of(&example()).render("t", "@PASSWORD_FROM@").unwrap();
        assert_eq!(rendered, "10.0.2.0/24");
    }

    #[test]
    fn no_network_for_the_password_means_loopback_alone() {
        let mut settings = example();
        settings.password_from.clear();
        let rendered = Values::of(&settings).render("t", "@STREAMDB_FROM@").unwrap();
        assert_eq!(rendered, "127.0.0.0/8");
    }

    #[test]
    fn a_store_that_others_reach_asks_for_its_token_unless_it_is_open() {
        let text = "@STREAMDB_ACCESS@ @STREAMDB_FROM@";
        let mut settings = example();
        let mut rendered = |token: Option<&str>, anywhere| {
            settings.store_door = Some(StoreDoor { token: token.map(str::to_owned), anywhere });
            Values::of(&settings).render("t", text).unwrap()
        };
        assert_eq!(rendered(None, false), "--open 10.0.2.0/24");
        assert_eq!(rendered(Some("t"), false), "--token-file=%d/streamdb.token 10.0.2.0/24");
        assert_eq!(rendered(Some("t"), true), "--token-file=%d/streamdb.token any");
    }

    /// Every file in the image's own tree.
    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => files.extend(files_below(&path)),
                kind if kind.is_file() => files.push(path),
                _ => {}
            }
        }
        files
    }

    #[test]
    fn every_template_of_the_image_renders_and_no_other_file_has_a_placeholder() {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/root");
        let values = Values::of(&example());
        let mut templates = 0;
        for path in files_below(&image) {
            let text = fs::read_to_string(&path).unwrap();
            let name = format!("/{}", path.strip_prefix(&image).unwrap().display());
            if name.starts_with(FILES) || name.starts_with(UNITS) {
                templates += 1;
                let rendered = values.render(&name, &text).unwrap();
                assert!(next_placeholder(&rendered).is_none());
            } else {
                assert!(next_placeholder(&text).is_none(), "{name} is no template");
            }
        }
        assert!(templates > 10);
    }
}

//! Reading the machine's settings from the credential that systemd hands over.

use std::env;
use std::fs;
use std::path::PathBuf;

use archibald_machine::Settings;

use crate::{GuestError, Root};

/// The settings of this machine.
///
/// A unit that imports the credential has it in its own directory; anybody else who is root finds it
/// where systemd keeps those of the whole system, which holds at generator time as well.
///
/// # Errors
/// [`GuestError::NoSettings`] without a credential, [`GuestError::BadSettings`] if it is not of the
/// schema that this program reads.
pub fn read_settings(root: &Root) -> Result<Settings, GuestError> {
    let own = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let places: Vec<PathBuf> = own
        .into_iter()
        .chain([root.path("/run/credentials/@system")])
        .map(|directory| directory.join(Settings::CREDENTIAL))
        .collect();
    for path in &places {
        if let Ok(text) = fs::read(path) {
            return parse(&text)
                .map_err(|reason| GuestError::BadSettings { path: path.clone(), reason });
        }
    }
    Err(GuestError::NoSettings { tried: places })
}

fn parse(text: &[u8]) -> Result<Settings, String> {
    /// Read first, so that another version is named rather than its first unknown key.
    #[derive(serde::Deserialize)]
    struct Schema {
        schema: u32,
    }
    let Schema { schema } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if schema != Settings::SCHEMA {
        return Err(format!("they are of schema {schema}, this image reads {}", Settings::SCHEMA));
    }
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine as the default file makes it.
    pub(crate) fn example() -> Settings {
        parse(EXAMPLE.as_bytes()).unwrap()
    }

    const EXAMPLE: &str = r#"{
        "schema": 1, "name": "studio", "server": "pipewire", "rate": 48000, "quantum": 32,
        "users": [
            {"name": "audio-user", "password-hash": "$6$salt$hash",
             "groups": ["audio", "pipewire", "sudo"], "authorized-keys": ["ssh-ed25519 AAAA a"]},
            {"name": "second", "password-hash": null, "groups": ["audio"], "authorized-keys": []}
        ],
        "isolated": "1", "housekeeping": "0", "audio-priority": 88, "irq-priority": 90,
        "address": {"address": "10.0.2.15", "prefix": 24}, "gateway": "10.0.2.2", "dns": "10.0.2.3",
        "password-from": [{"address": "10.0.2.15", "prefix": 24}],
        "forward": [
            {"transport": "tcp", "host": 2222, "guest": 22, "count": 1},
            {"transport": "tcp", "host": 4713, "guest": 4713, "count": 1},
            {"transport": "udp", "host": 4713, "guest": 4713, "count": 1},
            {"transport": "tcp", "host": 8080, "guest": 8080, "count": 1},
            {"transport": "tcp", "host": 8000, "guest": 8000, "count": 1001}
        ],
        "streamdb-port": 8080, "judged": false,
        "host-key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
    }"#;

    #[test]
    fn settings_are_found_where_systemd_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert!(matches!(read_settings(&root), Err(GuestError::NoSettings { .. })));
        root.write("/run/credentials/@system/archibald.settings", EXAMPLE.as_bytes(), 0o600)
            .unwrap();
        assert_eq!(read_settings(&root).unwrap().name, "studio");
    }

    #[test]
    fn another_schema_is_refused_by_its_number() {
        let text = EXAMPLE.replace("\"schema\": 1", "\"schema\": 7, \"colour\": \"red\"");
        assert!(parse(text.as_bytes()).unwrap_err().contains("schema 7"));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(parse(EXAMPLE.replace("\"dns\"", "\"nds\"").as_bytes()).is_err());
        assert!(parse(b"").is_err());
    }
}

//! What the guest is told, in the form in which systemd takes it: SMBIOS strings in a file that only
//! its owner can read, so that no secret stands in an argument list.

use std::path::PathBuf;

use archibald_machine::{Cluster, Machine, Settings, SettingsCluster, SettingsUser};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha_crypt::{Sha512Params, sha512_simple};

/// The limit of all SMBIOS tables together, which the strings share with QEMU's own.
const SMBIOS_LIMIT: usize = 60_000;

/// Why a machine's settings cannot be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The machine file holds more than fits.
    #[error(
        "the machine's settings are {size} bytes, more than the {SMBIOS_LIMIT} that can be handed over: shorten the lists of keys and ports"
    )]
    TooLarge {
        /// Size of the encoded credential in bytes.
        size: usize,
    },
    /// The cluster's key is not to be had.
    #[error("the cluster's munge key {path} cannot be read: {source}", path = .path.display())]
    MungeKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// That file is not a key.
    #[error(
        "{path} is no munge key: it has {size} bytes, and not 32 to 1024",
        path = .path.display()
    )]
    NoMungeKey {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: usize,
    },
    /// A password could not be hashed.
    #[error("the password of \"{user}\" cannot be hashed: {message}")]
    Hash {
        /// Whose.
        user: String,
        /// Why.
        message: String,
    },
}

/// The settings of this launch. Every user may log in with `key` besides their own keys.
///
/// # Errors
/// When a password cannot be hashed, or the key of the machine's cluster not be read.
pub fn settings(
    machine: &Machine,
    key: &str,
    host_key: String,
    judged: bool,
) -> Result<Settings, CredentialError> {
    let mut users = Vec::new();
    for user in &machine.users {
        let hash = |password: &String| {
            // Rounds as crypt(5)'s default: a login on an emulated processor must stay bearable.
            let parameters = Sha512Params::new(5000);
            parameters.and_then(|p| sha512_simple(password, &p)).map_err(|error| {
                CredentialError::Hash { user: user.name.clone(), message: format!("{error:?}") }
            })
        };
        let mut authorized_keys = user.authorized_keys.clone();
        authorized_keys.push(key.trim().to_owned());
        users.push(SettingsUser {
            name: user.name.clone(),
            password_hash: user.password.as_ref().map(hash).transpose()?,
            groups: user.groups.clone(),
            authorized_keys,
        });
    }
    let mut settings = Settings::new(machine, users, host_key, judged);
    settings.cluster = machine.cluster.as_ref().map(cluster).transpose()?;
    Ok(settings)
}

/// What a node of this cluster is told.
///
/// # Errors
/// When its key cannot be read, or is none.
pub fn cluster(cluster: &Cluster) -> Result<SettingsCluster, CredentialError> {
    let path = cluster.munge_key.clone();
    let munge_key = match std::fs::read(&path) {
        Ok(key) => key,
        Err(source) => return Err(CredentialError::MungeKey { path, source }),
    };
    // MUNGE_KEY_LEN_MIN_BYTES and _MAX_BYTES of munge 0.5.14 and later.
    match munge_key.len() {
        32..=1024 => Ok(SettingsCluster { controller: cluster.controller.clone(), munge_key }),
        size => Err(CredentialError::NoMungeKey { path, size }),
    }
}

/// The SMBIOS string that carries the settings.
///
/// # Errors
/// When they are too large.
pub fn smbios(settings: &Settings) -> Result<String, CredentialError> {
    // A struct of strings and numbers always has a JSON form.
    let json = serde_json::to_vec(settings).unwrap_or_default();
    let name = Settings::CREDENTIAL;
    let text = format!("io.systemd.credential.binary:{name}={}", STANDARD.encode(json));
    if text.len() > SMBIOS_LIMIT {
        return Err(CredentialError::TooLarge { size: text.len() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use archibald_machine::HostLimits;

    use super::*;

    fn machine(toml: &str) -> Machine {
        Machine::parse("", toml, &HostLimits::default()).unwrap()
    }

    #[test]
    fn the_guest_reads_what_the_host_wrote() {
        let settings =
            settings(&machine(""), "ssh-ed25519 AAAA me", "KEY".to_owned(), false).unwrap();
        let text = smbios(&settings).unwrap();
        let encoded = text.split_once('=').unwrap().1;
        let back: Settings = serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
        assert_eq!(back, settings);
    }

    #[test]
    fn no_password_crosses_in_the_clear() {
        let settings = settings(&machine(""), "ssh-ed25519 AAAA me", String::new(), true).unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert!(!json.contains("archibaldos\""), "{json}");
        assert!(settings.users[0].password_hash.as_ref().unwrap().starts_with("$6$"));
    }

    #[test]
    fn too_many_keys_are_refused() {
        let key = format!("\"ssh-ed25519 {} me\"", "A".repeat(100));
        let keys = vec![key; 1000].join(",");
        let toml = format!("[[users]]\nname = \"ada\"\nauthorized-keys = [{keys}]\n");
        let settings = settings(&machine(&toml), "k k", String::new(), true).unwrap();
        assert!(matches!(smbios(&settings), Err(CredentialError::TooLarge { .. })));
    }
}

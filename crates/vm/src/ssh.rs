//! The instance's SSH identity: a key to log in with, and the guest's own key, both made here, so that
//! neither side has to trust a first connection.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of an instance's SSH identity.
#[derive(Debug, Clone)]
pub struct Identity {
    directory: PathBuf,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// ssh-keygen is missing or failed.
    #[error("ssh-keygen cannot make a key in {directory}: {message}")]
    KeyGen {
        /// Where the key was to be.
        directory: PathBuf,
        /// What happened.
        message: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Identity {
    /// The identity in this directory, made there if it is not complete.
    ///
    /// `name` is how the guest is called in known_hosts.
    ///
    /// # Errors
    /// When ssh-keygen or the disk fails.
    pub fn ensure(directory: &Path, name: &str) -> Result<Self, IdentityError> {
        let identity = Self { directory: directory.to_owned() };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::File { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        identity.key("id_ed25519", &format!("archibald {name}"))?;
        identity.key("host_ed25519", name)?;
        let public = identity.read("host_ed25519.pub")?;
        let known = directory.join("known_hosts");
        fs::write(&known, format!("{name} {public}")).map_err(failed(&known))?;
        Ok(identity)
    }

    /// The identity in this directory, as it stands.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn key(&self, name: &str, comment: &str) -> Result<(), IdentityError> {
        let path = self.directory.join(name);
        if path.exists() && path.with_extension("pub").exists() {
            return Ok(());
        }
        // A half-made pair would make ssh-keygen ask before it overwrites.
        let _ = fs::remove_file(&path);
        let failed = |message| IdentityError::KeyGen { directory: self.directory.clone(), message };
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(&path)
            .output()
            .map_err(|error| failed(format!("{error}; install openssh-client")))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String, IdentityError> {
        let path = self.directory.join(name);
        fs::read_to_string(&path).map_err(|source| IdentityError::File { path, source })
    }

    /// The public key to log in with, one line.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn public_key(&self) -> Result<String, IdentityError> {
        self.read("id_ed25519.pub")
    }

    /// The guest's private key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn host_key(&self) -> Result<String, IdentityError> {
        self.read("host_ed25519")
    }

    /// The private key's file, for programs that take one.
    #[must_use]
    pub fn private_key_file(&self) -> PathBuf {
        self.directory.join("id_ed25519")
    }

    /// Options for ssh, scp and rsync's `-e`: this identity, this guest's key, nothing of the user's
    /// own configuration. The port is given as `-o` since scp's letter for it differs.
    #[must_use]
    pub fn options(&self, name: &str, port: u16) -> Vec<String> {
        let known = self.directory.join("known_hosts");
        let key = self.private_key_file();
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        for option in [
            format!("Port={port}"),
            format!("IdentityFile={}", key.display()),
            "IdentitiesOnly=yes".to_owned(),
            format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=none".to_owned(),
            format!("HostKeyAlias={name}"),
            "StrictHostKeyChecking=yes".to_owned(),
            // Every exchange counts on an emulated processor.
            "GSSAPIAuthentication=no".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "LogLevel=ERROR".to_owned(),
            // A first connection meets a guest whose libraries are not in memory yet.
            "ConnectTimeout=60".to_owned(),
        ] {
            options.push("-o".to_owned());
            options.push(option);
        }
        options
    }
}

/// Where to reach a machine's SSH server: address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Door {
    /// Address on the host, or the guest's own on a bridge.
    pub address: IpAddr,
    /// TCP port.
    pub port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_mended_when_half_made() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::ensure(dir.path(), "studio").unwrap().public_key().unwrap();
        let again = Identity::ensure(dir.path(), "studio").unwrap().public_key().unwrap();
        assert_eq!(first, again);
        fs::remove_file(dir.path().join("id_ed25519.pub")).unwrap();
        let mended = Identity::ensure(dir.path(), "studio").unwrap().public_key().unwrap();
        assert_ne!(first, mended);
        let known = fs::read_to_string(dir.path().join("known_hosts")).unwrap();
        assert!(known.starts_with("studio ssh-ed25519 "), "{known}");
    }
}

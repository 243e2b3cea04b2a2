//! `archibald-guest generate`: unit files that depend on the settings, in the directory that systemd
//! gives a generator (systemd.generator(7)). Nothing else: a generator sees the rest read-only.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use archibald_machine::Settings;

use super::Outcome;
use crate::template::{UNITS, Values};
use crate::{GuestError, Root, read_settings};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directory for units of normal priority
    normal: PathBuf,
    /// Directory for units that override those of the administrator
    early: Option<PathBuf>,
    /// Directory for units that everything else overrides
    late: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        let root = Root::default();
        match read_settings(&root) {
            // A generic image: there is nothing to generate from.
            Err(GuestError::NoSettings { .. }) => {}
            settings => generate(&root, &settings?, &self.normal)?,
        }
        Ok(Outcome::Good)
    }
}

/// Renders every drop-in below [`UNITS`] into `directory` and enables what the settings ask for.
fn generate(root: &Root, settings: &Settings, directory: &Path) -> Result<(), GuestError> {
    if settings.streamdb_port.is_none() {
        return Ok(());
    }
    let values = Values::of(settings);
    for unit in root.names(UNITS) {
        let folder = directory.join(&unit);
        fs::create_dir_all(&folder).map_err(GuestError::file("make", &folder))?;
        for name in root.names(&format!("{UNITS}/{unit}")) {
            let template = format!("{UNITS}/{unit}/{name}");
            let text = values.render(&template, &root.read(&template).unwrap_or_default())?;
            let path = folder.join(name);
            fs::write(&path, text).map_err(GuestError::file("write", path))?;
        }
    }
    let wants = directory.join("multi-user.target.wants");
    fs::create_dir_all(&wants).map_err(GuestError::file("make", &wants))?;
    let link = wants.join("streamdb.service");
    match symlink("/usr/lib/systemd/system/streamdb.service", &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(GuestError::file("link", link)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::example;

    #[test]
    fn the_store_is_enabled_with_its_port_only_if_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let image = Root::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/root"));
        let mut settings = example();
        settings.streamdb_port = None;
        generate(&image, &settings, folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        settings.streamdb_port = Some(9090);
        generate(&image, &settings, folder.path()).unwrap();
        let made = Root::new(folder.path());
        let text = made.read("/streamdb.service.d/50-archibald.conf").unwrap();
        assert!(text.contains("PORT=9090\n") && text.contains("IPAddressAllow=10.0.2.0/24\n"));
        assert!(folder.path().join("multi-user.target.wants/streamdb.service").is_symlink());
    }
}

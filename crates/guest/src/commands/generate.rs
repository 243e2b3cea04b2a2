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

/// Renders the drop-ins of what the settings ask for into `directory`, and enables it.
fn generate(root: &Root, settings: &Settings, directory: &Path) -> Result<(), GuestError> {
    let values = Values::of(settings);
    if settings.streamdb_port.is_some() {
        enable(root, &values, "streamdb.service", directory)?;
    }
    if settings.cluster.is_some() {
        enable(root, &values, "archibald-node.service", directory)?;
    }
    settings.shares.iter().try_for_each(|share| mount(share, directory))
}

/// Renders the unit's drop-ins below [`UNITS`], and has it started at boot.
fn enable(root: &Root, values: &Values, unit: &str, directory: &Path) -> Result<(), GuestError> {
    for name in root.names(&format!("{UNITS}/{unit}.d")) {
        let template = format!("{UNITS}/{unit}.d/{name}");
        let text = values.render(&template, &root.read(&template).unwrap_or_default())?;
        write(&directory.join(format!("{unit}.d")), &name, &text)?;
    }
    let unit_file = Path::new("/usr/lib/systemd/system").join(unit);
    want(directory, "multi-user.target", unit, &unit_file)
}

/// A folder of the host, by 9P over virtio. A boot does not fail for one that cannot be mounted: the
/// machine is to be looked into then, and `check` tells of the unit.
fn mount(
    (tag, place, read_only): &(String, String, bool),
    directory: &Path,
) -> Result<(), GuestError> {
    let only = if *read_only { ",ro" } else { "" };
    let text = format!(
        "# Made by archibald's generator from the machine's settings.\n\
         [Unit]\nDescription=A folder of the host\n\
         # A home is made before something is mounted in it.\n\
         After=archibald-guest-setup.service\n\n\
         [Mount]\nWhat={tag}\nWhere={place}\nType=9p\n\
         Options=trans=virtio,version=9p2000.L,msize=524288{only}\n"
    );
    let unit = format!("{}.mount", escaped(place));
    write(directory, &unit, &text)?;
    want(directory, "local-fs.target", &unit, &directory.join(&unit))
}

/// The name of the unit of this absolute path (systemd.unit(5), "string escaping").
fn escaped(path: &str) -> String {
    let mut name = String::new();
    for (place, byte) in path.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if place == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            byte => name += &format!("\\x{byte:02x}"),
        }
    }
    name
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), GuestError> {
    fs::create_dir_all(folder).map_err(GuestError::file("make", folder))?;
    let path = folder.join(name);
    fs::write(&path, text).map_err(GuestError::file("write", path))
}

fn want(directory: &Path, target: &str, unit: &str, file: &Path) -> Result<(), GuestError> {
    let wants = directory.join(format!("{target}.wants"));
    fs::create_dir_all(&wants).map_err(GuestError::file("make", &wants))?;
    let link = wants.join(unit);
    match symlink(file, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(GuestError::file("link", link)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use archibald_machine::SettingsCluster;
    use archibald_machine::units::Endpoint;

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
        assert!(!folder.path().join("multi-user.target.wants/archibald-node.service").exists());
    }

    #[test]
    fn a_node_is_told_its_controller_and_folders_are_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let image = Root::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/root"));
        let mut settings = example();
        settings.streamdb_port = None;
        let controller = Endpoint { host: "head".to_owned(), port: 6817 };
        settings.cluster = Some(SettingsCluster { controller, munge_key: vec![7; 128] });
        settings.shares = vec![("share0".into(), "/mnt/my-farm".into(), true)];
        generate(&image, &settings, folder.path()).unwrap();
        let made = Root::new(folder.path());
        let text = made.read("/archibald-node.service.d/50-archibald.conf").unwrap();
        assert!(text.contains("Environment=CONTROLLER=head:6817\n"), "{text}");
        let wants = |link: &str| fs::read_link(folder.path().join(link)).unwrap();
        let unit = wants("multi-user.target.wants/archibald-node.service");
        assert!(image.path(unit.to_str().unwrap()).exists());
        let text = made.read("/mnt-my\\x2dfarm.mount").unwrap();
        assert!(text.contains("What=share0\nWhere=/mnt/my-farm\nType=9p\n"), "{text}");
        assert!(text.contains("msize=524288,ro\n"), "{text}");
        assert!(wants("local-fs.target.wants/mnt-my\\x2dfarm.mount").exists());
        assert!(!folder.path().join("streamdb.service.d").exists());
    }
}

//! `archibald-guest setup`: names, accounts and rendered files, before anything reads them. Runs at
//! every boot and starts no process unless something is missing, because a process costs a tenth of
//! a second on an emulated CPU.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::SystemTime;

use archibald_machine::{AudioServer, Settings};
use rustix::fs::FlockOperation;

use super::Outcome;
use crate::accounts::{Account, Accounts};
use crate::run::{Invocation, Programs, Run};
use crate::template::{FILES, Values};
use crate::{GuestError, Root, read_settings};

/// Files and markers that live only as long as this boot.
const STATE: &str = "/run/archibald";
/// The link that decides whose libjack programs get.
const JACK_LINK: &str = "/etc/archibald/jack";
/// Where an image that has both servers keeps PipeWire's.
const PIPEWIRE_LIBJACK: &str = "/usr/lib/archibald/libjack-pipewire";
/// Of this boot only: it comes with the settings, and a copy on the disk would go along with the image.
const HOST_KEY: &str = "/run/archibald/ssh_host_ed25519_key";
/// Where munged reads the key of a cluster; on the disk, and replaced at every start.
const MUNGE_KEY: &str = "/etc/munge/munge.key";
/// Where systemd finds credentials that units import (systemd.exec(5)).
const STORE_TOKEN: &str = "/run/credstore/streamdb.token";

#[derive(Debug, clap::Args)]
pub struct Arguments {}

impl Arguments {
    pub(super) fn run(&self) -> Result<Outcome, GuestError> {
        let root = Root::default();
        let settings = read_settings(&root)?;
        set_up(&root, &settings, &Programs)?;
        rustix::system::sethostname(settings.name.as_bytes())
            .map_err(|error| GuestError::file("set", "the host name")(error.into()))?;
        Ok(Outcome::Good)
    }
}

/// Everything that `settings` ask of the tree.
pub(crate) fn set_up(
    root: &Root,
    settings: &Settings,
    programs: &dyn Run,
) -> Result<(), GuestError> {
    render_all(root, &Values::of(settings))?;
    let accounts = make_accounts(root, settings)?;
    for (account, user) in accounts.iter().zip(&settings.users) {
        make_home(root, account)?;
        write(root, &format!("{STATE}/keys/{}", user.name), &lines(&user.authorized_keys))?;
    }
    linger(root, settings)?;
    choose_libjack(root, settings.server, programs)?;
    // sshd takes no key that others can read.
    root.write(HOST_KEY, key_text(&settings.host_key).as_bytes(), 0o600)
        .map_err(GuestError::file("write", root.path(HOST_KEY)))?;
    if let Some(token) = settings.store_door.as_ref().and_then(|door| door.token.as_ref()) {
        root.write(STORE_TOKEN, format!("{token}\n").as_bytes(), 0o600)
            .map_err(GuestError::file("write", root.path(STORE_TOKEN)))?;
    }
    if let Some(cluster) = &settings.cluster {
        give_munge_key(root, &cluster.munge_key)?;
    }
    // Last, because it is also the sign that all of this is done: units of both servers wait for it.
    write(root, &format!("{STATE}/{}", settings.server.word()), "")
}

/// munged takes a key only if it is its own and nobody else may read it.
fn give_munge_key(root: &Root, key: &[u8]) -> Result<(), GuestError> {
    let file = root.path(MUNGE_KEY);
    root.write(MUNGE_KEY, key, 0o400).map_err(GuestError::file("write", &file))?;
    let passwd = root.read("/etc/passwd").unwrap_or_default();
    let (user, group) = ids(&passwd, "munge").ok_or_else(|| {
        let absent = std::io::Error::other("there is no user munge, so no package munge");
        GuestError::file("give away", &file)(absent)
    })?;
    give(&file, user, Some(group)).map_err(GuestError::file("give away", &file))
}

/// The user's number and that of its group.
fn ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn write(root: &Root, path: &str, content: &str) -> Result<(), GuestError> {
    root.write(path, content.as_bytes(), 0o644)
        .map(drop)
        .map_err(GuestError::file("write", root.path(path)))
}

fn lines(keys: &[String]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

/// OpenSSH reads a private key only with the line end after its last line.
fn key_text(key: &str) -> String {
    format!("{}\n", key.trim_end())
}

/// Renders each template to the path that it has below [`FILES`].
fn render_all(root: &Root, values: &Values) -> Result<(), GuestError> {
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in root.names(&format!("{FILES}{folder}")) {
            let path = format!("{folder}/{name}");
            let template = format!("{FILES}{path}");
            if root.path(&template).is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(root.path(&template))
                .map_err(GuestError::file("read", root.path(&template)))?;
            write(root, &path, &values.render(&template, &text)?)?;
        }
    }
    Ok(())
}

fn make_accounts(root: &Root, settings: &Settings) -> Result<Vec<Account>, GuestError> {
    // lckpwdf(3): whoever else edits these files at this moment waits.
    let lock_path = root.path("/etc/.pwd.lock");
    let lock = fs::File::create(&lock_path).map_err(GuestError::file("open", &lock_path))?;
    rustix::fs::fcntl_lock(&lock, FlockOperation::LockExclusive)
        .map_err(|error| GuestError::file("lock", lock_path)(error.into()))?;

    let text = |path: &str| root.read(path).unwrap_or_default();
    let mut files = Accounts {
        passwd: text("/etc/passwd"),
        shadow: text("/etc/shadow"),
        group: text("/etc/group"),
        gshadow: text("/etc/gshadow"),
    };
    let today = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() / 86400);
    let accounts = files.apply(&settings.users, today);
    let shadow_group = group_id(&files.group, "shadow");
    for (path, content, mode) in [
        ("/etc/group", &files.group, 0o644),
        ("/etc/gshadow", &files.gshadow, 0o640),
        ("/etc/passwd", &files.passwd, 0o644),
        ("/etc/shadow", &files.shadow, 0o640),
    ] {
        let full = root.path(path);
        let changed =
            root.write(path, content.as_bytes(), mode).map_err(GuestError::file("write", &full))?;
        if changed && mode == 0o640 {
            give(&full, 0, shadow_group).map_err(GuestError::file("give away", &full))?;
        }
    }
    Ok(accounts)
}

fn group_id(group: &str, name: &str) -> Option<u32> {
    let line = group.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn make_home(root: &Root, account: &Account) -> Result<(), GuestError> {
    let home = root.path(&account.home);
    if home.exists() {
        return Ok(());
    }
    // Under another name until it is whole: a boot cut short leaves no half home that looks like one.
    let draft = root.path(&format!("{}.new", account.home));
    copy_tree(&root.path("/etc/skel"), &draft, account)
        .and_then(|()| fs::set_permissions(&draft, fs::Permissions::from_mode(0o700)))
        .and_then(|()| fs::rename(&draft, &home))
        .map_err(GuestError::file("make the home", &home))
}

/// A copy of `from` that belongs to `owner`.
fn copy_tree(from: &Path, to: &Path, owner: &Account) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target, owner)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), &target)?;
            give(&target, owner.uid, Some(owner.gid))?;
        }
    }
    give(to, owner.uid, Some(owner.gid))
}

/// Only root gives files away; a test keeps them.
fn give(path: &Path, user: u32, group: Option<u32>) -> std::io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => chown(path, Some(user), group),
        false => Ok(()),
    }
}

/// The first user's session runs from boot on, nobody else's does on our account.
fn linger(root: &Root, settings: &Settings) -> Result<(), GuestError> {
    for (position, user) in settings.users.iter().enumerate() {
        let path = format!("/var/lib/systemd/linger/{}", user.name);
        if position == 0 {
            write(root, &path, "")?;
        } else {
            let _ = fs::remove_file(root.path(&path));
        }
    }
    Ok(())
}

/// Points [`JACK_LINK`] at the libjack of the audio server.
///
/// The image's linker cache holds the link's own path, so switching needs no ldconfig; an image
/// whose cache does not know the link yet gets it here, once.
fn choose_libjack(root: &Root, server: AudioServer, programs: &dyn Run) -> Result<(), GuestError> {
    // On NixOS there is no linker cache, and one libjack is built in.
    if !root.path(PIPEWIRE_LIBJACK).exists() {
        return Ok(());
    }
    let target = match server {
        AudioServer::PipeWire => PIPEWIRE_LIBJACK,
        AudioServer::Jack => "/usr/lib/x86_64-linux-gnu",
    };
    let link = root.path(JACK_LINK);
    if fs::read_link(&link).ok().as_deref() != Some(Path::new(target)) {
        let draft = root.path(&format!("{JACK_LINK}.new"));
        let _ = fs::remove_file(&draft);
        fs::create_dir_all(root.path("/etc/archibald"))
            .and_then(|()| symlink(target, &draft))
            .and_then(|()| fs::rename(&draft, &link))
            .map_err(GuestError::file("link", &link))?;
    }
    let cache = fs::read(root.path("/etc/ld.so.cache")).unwrap_or_default();
    let entry = format!("{JACK_LINK}/libjack.so.0");
    if !cache.windows(entry.len()).any(|part| part == entry.as_bytes()) {
        let answer = programs.run(&Invocation::new(&["ldconfig"]));
        if !answer.success {
            let reason = answer.last_line().to_owned();
            return Err(GuestError::Program { program: "ldconfig".into(), reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use archibald_machine::units::Endpoint;
    use archibald_machine::{SettingsCluster, StoreDoor};

    use super::*;
    use crate::run::tests::{Canned, says};
    use crate::settings::tests::example;

    /// A tree with what the image has, as far as setup looks at it.
    fn image() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let given = Root::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/root"));
        for path in ["/etc/pipewire/pipewire.conf.d/50-archibald.conf", "/etc/hostname"] {
            let template = format!("{FILES}{path}");
            let text = given.read(&template).unwrap();
            root.write(&template, text.as_bytes(), 0o644).unwrap();
        }
        root.write("/etc/passwd", b"root:x:0:0:root:/root:/bin/bash\n", 0o644).unwrap();
        root.write("/etc/group", b"root:x:0:\nshadow:x:42:\n", 0o644).unwrap();
        root.write("/etc/skel/.profile", b"umask 022\n", 0o644).unwrap();
        fs::create_dir_all(root.path(PIPEWIRE_LIBJACK)).unwrap();
        (folder, root)
    }

    fn tools() -> Canned {
        Canned(vec![("ldconfig", says(""))])
    }

    #[test]
    fn the_tree_becomes_this_machine() {
        let (_folder, root) = image();
        set_up(&root, &example(), &tools()).unwrap();
        assert_eq!(root.read("/etc/hostname").unwrap(), "studio\n");
        let graph = root.read("/etc/pipewire/pipewire.conf.d/50-archibald.conf").unwrap();
        assert!(graph.contains("default.clock.min-quantum   = 32"));
        assert_eq!(root.read("/home/audio-user/.profile").unwrap(), "umask 022\n");
        assert_eq!(root.read("/run/archibald/keys/audio-user").unwrap(), "ssh-ed25519 AAAA a\n");
        assert_eq!(root.names("/var/lib/systemd/linger"), ["audio-user"]);
        assert!(root.path("/run/archibald/pipewire").exists());
        let link = fs::read_link(root.path(JACK_LINK)).unwrap();
        assert!(link.ends_with("libjack-pipewire"));
    }

    #[test]
    fn a_second_boot_with_other_settings_takes_them_over() {
        let (_folder, root) = image();
        set_up(&root, &example(), &tools()).unwrap();
        // What a reboot does.
        fs::remove_dir_all(root.path("/run")).unwrap();
        fs::write(root.path("/home/audio-user/.profile"), "mine").unwrap();
        let mut settings = example();
        settings.quantum.0 = 64;
        settings.server = AudioServer::Jack;
        settings.users.swap(0, 1);
        set_up(&root, &settings, &tools()).unwrap();
        let graph = root.read("/etc/pipewire/pipewire.conf.d/50-archibald.conf").unwrap();
        assert!(graph.contains("default.clock.quantum       = 64"));
        assert_eq!(root.names("/run/archibald"), ["jack", "keys", "ssh_host_ed25519_key"]);
        assert_eq!(root.names("/var/lib/systemd/linger"), ["second"]);
        assert_eq!(root.read("/home/audio-user/.profile").unwrap(), "mine");
        assert_eq!(
            fs::read_link(root.path(JACK_LINK)).unwrap(),
            Path::new("/usr/lib/x86_64-linux-gnu")
        );
    }

    #[test]
    fn the_host_key_is_readable_by_root_alone() {
        let (_folder, root) = image();
        set_up(&root, &example(), &tools()).unwrap();
        let mode = fs::metadata(root.path(HOST_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(root.read(HOST_KEY).unwrap().ends_with("-----END OPENSSH PRIVATE KEY-----\n"));
    }

    #[test]
    fn the_store_s_token_is_readable_by_root_alone() {
        let (_folder, root) = image();
        let mut settings = example();
        set_up(&root, &settings, &tools()).unwrap();
        assert!(!root.path(STORE_TOKEN).exists());
        let token = Some("0123456789abcdef".to_owned());
        settings.store_door = Some(StoreDoor { token, anywhere: false });
        set_up(&root, &settings, &tools()).unwrap();
        let mode = fs::metadata(root.path(STORE_TOKEN)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(root.read(STORE_TOKEN).unwrap(), "0123456789abcdef\n");
    }

    #[test]
    fn the_cluster_s_key_is_munged_s_alone() {
        let (_folder, root) = image();
        let mut settings = example();
        let controller = Endpoint { host: "192.168.122.1".to_owned(), port: 6817 };
        settings.cluster = Some(SettingsCluster { controller, munge_key: vec![7; 128] });
        let error = set_up(&root, &settings, &tools()).unwrap_err();
        assert!(error.to_string().contains("no package munge"), "{error}");
        let passwd = root.read("/etc/passwd").unwrap() + "munge:x:101:102::/run/munge:/bin/false\n";
        root.write("/etc/passwd", passwd.as_bytes(), 0o644).unwrap();
        set_up(&root, &settings, &tools()).unwrap();
        let found = fs::metadata(root.path(MUNGE_KEY)).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (128, 0o400));
        assert_eq!(ids(&passwd, "munge"), Some((101, 102)));
    }

    #[test]
    fn where_one_libjack_is_built_in_there_is_none_to_choose() {
        let (_folder, root) = image();
        fs::remove_dir_all(root.path(PIPEWIRE_LIBJACK)).unwrap();
        // No ldconfig either, as on NixOS.
        set_up(&root, &example(), &Canned(vec![])).unwrap();
        assert!(!root.path(JACK_LINK).exists() && root.path("/run/archibald/pipewire").exists());
    }

    #[test]
    fn a_machine_whose_linker_cache_cannot_be_made_is_not_called_set_up() {
        let (_folder, root) = image();
        let error = set_up(&root, &example(), &Canned(vec![])).unwrap_err();
        assert!(error.to_string().contains("ldconfig"));
        assert!(!root.path("/run/archibald/pipewire").exists());
    }
}

//! `archibald export libvirt`: the domain and network XML, with the files that they name.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use archibald_host::Root;
use archibald_image::{Cancel, Image, OpenError};
use archibald_machine::units::Bytes;
use archibald_machine::{Machine, NetworkMode, StoreDoor};
use archibald_vm::argv::BootFiles;
use archibald_vm::instance::{Directories, Instance};
use archibald_vm::libvirt::{self, Backing, ExportFiles, network_name};
use archibald_vm::qemu::Qemu;
use archibald_vm::{credentials, ssh::Identity};
use serde_json::{Value, json};

use super::{DISK, image_of, remember};
use crate::commands::build::{self, How};
use crate::commands::doctor;
use crate::commands::up::{Accel, boot_files, create_disk, unknown};
use crate::failure::{Context as _, Exit, Failure};
use crate::places::{self, MachineFile};
use crate::terminal::{self, Steps};

/// Write the machine as a libvirt domain, with a disk of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Libvirt {
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The folder for XML, disk, keys and settings; NAME-libvirt when left out. The domain needs it for
    /// as long as it is defined.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What is to run the guest's instructions; `auto` takes KVM where a trial guest really runs.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Start over from a fresh disk on the newest image; what was changed inside is lost.
    #[arg(long)]
    recreate: bool,
    #[command(flatten)]
    how: How,
    /// For programs.
    #[arg(long)]
    json: bool,
}

impl Libvirt {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let file = places::machine_file(self.file.as_deref())?;
        let machine = &file.machine;
        let out = self.folder(machine)?;
        let _lock = places::directories().instance(&machine.name).lock("archibald export")?;
        let cancel = build::called_off()?;
        let steps = Steps::new(self.how.quiet);
        let qemu = Qemu::find(places::qemu())
            .map_err(|e| Failure::new(Exit::Environment, &e).with_remedy(e.remedy()))?;
        let (image, boot) = self.image(&file, &out, &steps, &cancel)?;
        let id = image.id();
        let choice = self.accel.choose(&qemu, &boot, &steps);
        steps.finish();
        drop(steps);

        let files = self.prepare(machine, &out, &boot, choice.accelerator.judged())?;
        remember(&out, id)?;
        let online = places::host_limits().cpus.unwrap_or_default();
        let export = libvirt::Export {
            machine,
            accelerator: choice.accelerator,
            online: &online,
            image: id,
            arguments: &boot.arguments,
            files: &files,
            huge_page: huge_page(machine)?,
            bridge_is_there: bridge_is_there(machine),
        };
        let domain = out.join("domain.xml");
        place(&out).write("domain.xml", libvirt::domain(&export).as_bytes(), 0o644)?;
        let network = match libvirt::network(&export) {
            Some(xml) => {
                place(&out).write("network.xml", xml.as_bytes(), 0o644)?;
                Some(out.join("network.xml"))
            }
            None => None,
        };
        let closed = closed_folders(&files);
        if self.json {
            terminal::say_json(&json!({
                "schema": 1, "name": machine.name, "folder": out, "image": id, "domain": domain,
                "network": network, "ready": files.ready, "closed": closed,
            }));
        } else {
            tell(machine, &out, network.as_deref(), &closed);
        }
        Ok(0)
    }

    /// The folder by its absolute path, made if need be.
    fn folder(&self, machine: &Machine) -> Result<PathBuf, Failure> {
        let out = self.out.clone().unwrap_or_else(|| format!("{}-libvirt", machine.name).into());
        // The XML has no way to write other names.
        let is_plain = |text: &str| !text.chars().any(char::is_control);
        fs::create_dir_all(&out).context(out.display())?;
        let out = fs::canonicalize(&out).context(out.display())?;
        match out.to_str().is_some_and(is_plain) {
            true => Ok(out),
            false => Err(Failure::new(Exit::Use, format!("{out:?} cannot stand in XML"))
                .with_remedy("Give --out a folder whose name is readable text.")),
        }
    }

    /// The image that the disk stands on: its own for one that is there, else the newest.
    fn image(
        &self,
        file: &MachineFile,
        out: &Path,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<(Image, BootFiles), Failure> {
        let disk = out.join(DISK);
        let known = image_of(out);
        if disk.exists() && !self.recreate {
            let fresh =
                "--recreate starts over from a fresh disk; what was changed inside is lost.";
            let Some(id) = known else {
                let message = format!("{} is no disk that an export made", disk.display());
                return Err(Failure::new(Exit::Use, message).with_remedy(fresh));
            };
            return match build::cache()?.inspect(&id, steps, cancel) {
                Ok(image) => {
                    if build::is_outdated(&id, file) {
                        steps.note("the disk is kept; its image is not what the files give now, --recreate would take a fresh one");
                    }
                    let boot = boot_files(&image)?;
                    Ok((image, boot))
                }
                Err(OpenError::Cancelled) => Err(Failure::interrupted()),
                Err(error) => {
                    let message = format!(
                        "the image that {} stands on cannot be used: {error}",
                        disk.display()
                    );
                    Err(Failure::new(Exit::Environment, message).with_remedy(fresh))
                }
            };
        }
        let image = build::image(file, self.how.locked, false, steps, cancel)?;
        let boot = boot_files(&image)?;
        if disk.exists() {
            // A running domain holds a lock on its disk, which qemu-img respects.
            disk_chain(&disk)?;
            fs::remove_file(&disk).context(disk.display())?;
        }
        Ok((image, boot))
    }

    /// Puts disk, kernel, keys and settings in place.
    fn prepare(
        &self,
        machine: &Machine,
        out: &Path,
        boot: &BootFiles,
        judged: bool,
    ) -> Result<ExportFiles, Failure> {
        let place = place(out);
        let disk = out.join(DISK);
        if !disk.exists() {
            create_disk(&boot.disk, &disk, machine.disk)?;
        }
        let identity = Identity::ensure(&out.join("ssh"), &machine.name).context("SSH keys")?;
        let public = identity.public_key().context("SSH keys")?;
        let host_key = identity.host_key().context("SSH keys")?;
        let mut settings =
            credentials::settings(machine, &public, host_key, judged).map_err(unknown)?;
        if machine.network.is_on_bridge() {
            let token = machine.store_wants_token().then(|| place.store_token()).transpose()?;
            settings.store_door = Some(StoreDoor { token, anywhere: false });
        }
        let files = ExportFiles {
            backing: disk_chain(&boot.disk)?,
            disk,
            kernel: out.join("kernel"),
            initrd: out.join("initrd"),
            settings: out.join("settings"),
            ready: out.join("ready"),
        };
        // Copies: libvirt gives kernel and initrd to the account that QEMU runs as.
        copy(&boot.kernel, &files.kernel)?;
        copy(&boot.initrd, &files.initrd)?;
        place.write("settings", &serde_json::to_vec(&settings).unwrap_or_default(), 0o600)?;
        if !files.ready.exists() {
            place.write("ready", b"", 0o644)?;
        }
        Ok(files)
    }
}

/// The folder as an instance's: it holds what that does, and is written to in the same way.
fn place(out: &Path) -> Instance {
    let above = out.parent().unwrap_or(out).to_owned();
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    Directories { state: above.clone(), runtime: above }.instance(&name)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let partial = to.with_extension("partial");
    let attempt = || {
        let _ = fs::remove_file(&partial);
        fs::copy(from, &partial)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o644))?;
        fs::rename(&partial, to)
    };
    attempt().context(to.display())
}

/// A disk image and what it stands on, from the top down, by qemu-img's word.
fn disk_chain(disk: &Path) -> Result<Vec<Backing>, Failure> {
    let output = Command::new("qemu-img")
        .args(["info", "--output=json", "--backing-chain"])
        .arg(disk)
        .output()
        .context("qemu-img")?;
    let failed = |why: &str| {
        let message = format!("{} cannot be read: {why}", disk.display());
        Failure::new(Exit::Environment, message)
            .with_remedy("A domain that runs holds it: `virsh shutdown` first.")
    };
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    let chain: Vec<Value> =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(&error.to_string()))?;
    let link = |value: &Value| {
        let path = fs::canonicalize(value.get("filename")?.as_str()?).ok()?;
        Some(Backing { path, format: value.get("format")?.as_str()?.to_owned() })
    };
    chain.iter().map(link).collect::<Option<_>>().ok_or_else(|| failed("a file of it is missing"))
}

/// The largest huge pages of which enough are set aside for the machine's memory.
fn huge_page(machine: &Machine) -> Result<Option<Bytes>, Failure> {
    let facts = doctor::facts(&Root::new("/"))?;
    let suits = |size: u64, count: u64| {
        let memory = machine.memory.0;
        memory % size == 0 && size.saturating_mul(count) >= memory
    };
    let pages =
        facts.memory.huge_pages.iter().filter(|pages| suits(pages.size.0, pages.count.value));
    Ok(pages.map(|pages| pages.size).max_by_key(|size| size.0))
}

fn bridge_is_there(machine: &Machine) -> bool {
    match &machine.network.mode {
        NetworkMode::Bridge { bridge, .. } => {
            Path::new("/sys/class/net").join(bridge).join("bridge").exists()
        }
        NetworkMode::User => false,
    }
}

/// The folders on the way to the files through which other accounts cannot pass.
fn closed_folders(files: &ExportFiles) -> Vec<PathBuf> {
    let below = files.backing.iter().map(|backing| &backing.path);
    let mut closed: Vec<PathBuf> = below
        .chain([&files.disk])
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|folder| {
            fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o001 == 0)
        })
        .map(Path::to_owned)
        .collect();
    closed.sort();
    closed.dedup();
    closed
}

fn tell(machine: &Machine, out: &Path, network: Option<&Path>, closed: &[PathBuf]) {
    let name = &machine.name;
    let shown = out.display();
    let rows = [
        ("domain.xml", "the domain"),
        ("network.xml", "its network"),
        (DISK, "its disk, over the cached image"),
        ("kernel, initrd", "copies of the image's"),
        ("settings", "secret: host key, hashes of passwords"),
        ("ssh/", "secret: the key to log in with"),
        ("streamdb-token", "secret: what the store asks for"),
        ("ready", "the guest writes {\"ready\":true} here"),
    ];
    let is_there = |file: &str| match file {
        "network.xml" => network.is_some(),
        "streamdb-token" => machine.store_wants_token(),
        _ => true,
    };
    let rows = rows.into_iter().filter(|(file, _)| is_there(file));
    let rows = rows.map(|(file, what)| vec![format!("{shown}/{file}"), what.to_owned()]).collect();
    terminal::say(&terminal::table(&[], rows));
    terminal::say("");
    if network.is_some() {
        let net = network_name(name);
        terminal::say(&format!("virsh net-define {shown}/network.xml && virsh net-start {net}"));
    }
    terminal::say(&format!("virsh define {shown}/domain.xml && virsh start {name}"));
    let port = match &machine.network.mode {
        NetworkMode::User => {
            machine.network.host_port_of(22).map(|port| (machine.network.bind.to_string(), port))
        }
        NetworkMode::Bridge { guest, .. } => Some((guest.address.to_string(), 22)),
    };
    if let (Some((host, port)), Some(user)) = (port, machine.audio_user()) {
        let options = [
            format!("-p {port} -i {shown}/ssh/id_ed25519"),
            format!("-o UserKnownHostsFile={shown}/ssh/known_hosts -o HostKeyAlias={name}"),
        ];
        terminal::say(&format!("ssh {} {}@{host}", options.join(" "), user.name));
    }
    if !closed.is_empty() {
        let folders: Vec<String> =
            closed.iter().map(|folder| folder.display().to_string()).collect();
        terminal::complain(&format!(
            "libvirt's system daemon runs QEMU as an account that cannot pass through {}.\n  \
             For it: setfacl -m u:libvirt-qemu:x {}. Your own daemon (virsh -c qemu:///session) runs QEMU as you, without priorities and devices.",
            folders.join(", "),
            folders.join(" "),
        ));
    }
}

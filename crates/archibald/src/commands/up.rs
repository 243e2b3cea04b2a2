//! `archibald up`: from the machine file to a running, checked machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use archibald_image::{Cancel, Image, OpenError};
use archibald_machine::units::{Bytes, Forward, Transport};
use archibald_machine::{Machine, StoreDoor};
use archibald_vm::accel::{self, Choice};
use archibald_vm::argv::{Accelerator, BootFiles, argv, forwarded, forwarded_by_qemu};
use archibald_vm::credentials::{self, CredentialError};
use archibald_vm::instance::{Instance, RECORD_SCHEMA, Record, Status};
use archibald_vm::launch::{Event, Launch, StartError};
use archibald_vm::ports;
use archibald_vm::qemu::Qemu;
use archibald_vm::relay::is_relayed;
use archibald_vm::snapshot::{self, Snapshot};
use archibald_vm::ssh::{Door, Identity};

use super::build::{self, How};
use super::check;
use super::nodes::Nodes;
use super::stop::absent;
use crate::borrowed;
use crate::failure::{Context as _, Exit, Failure};
use crate::places::{self, MachineFile};
use crate::terminal::{self, Steps};

/// Build, boot and check the machine; does only what is not done yet.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Up {
    /// The machine file; ./archibald.toml or the default one when left out.
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// What runs the guest's instructions; `auto` takes KVM where a trial guest really runs.
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,
    /// Seconds that the guest may take to be ready; 120 under KVM and 600 in emulation when left out.
    #[arg(long)]
    timeout: Option<u64>,
    /// Start over from a fresh disk on the newest image; what was changed inside is lost.
    #[arg(long, conflicts_with = "snapshot")]
    recreate: bool,
    /// Go on from this snapshot instead of booting; what was done since is lost.
    #[arg(long, value_name = "NAME")]
    snapshot: Option<String>,
    /// Leave the checks out.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    nodes: Nodes,
    #[command(flatten)]
    how: How,
    /// The checks' outcome for programs.
    #[arg(long)]
    json: bool,
}

/// The words of `--accel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Accel {
    Auto,
    Kvm,
    Tcg,
}

impl Accel {
    /// What it comes to on this host.
    pub(super) fn choose(self, qemu: &Qemu, boot: &BootFiles, steps: &Steps) -> Choice {
        let choice = match self {
            Self::Kvm => {
                Choice { accelerator: Accelerator::Kvm, because: "--accel kvm".to_owned() }
            }
            Self::Tcg => {
                Choice { accelerator: Accelerator::Tcg, because: "--accel tcg".to_owned() }
            }
            Self::Auto => {
                accel::choose(Path::new("/"), || accel::trial(qemu, boot, Duration::from_secs(20)))
            }
        };
        steps.note(&format!("runs under {}: {}", choice.accelerator.word(), choice.because));
        choice
    }
}

impl Up {
    /// A machine that goes on from a snapshot, without the checks.
    pub(super) fn to_snapshot(file: Option<PathBuf>, snapshot: String, quiet: bool) -> Self {
        Self {
            file,
            accel: Accel::Auto,
            timeout: None,
            recreate: false,
            snapshot: Some(snapshot),
            no_check: true,
            nodes: Nodes::default(),
            how: How { locked: false, quiet },
            json: false,
        }
    }

    /// Tells whether its snapshot is one of this very machine, if it has one.
    pub(super) fn fits(&self) -> Result<(), Failure> {
        let file = places::machine_file(self.file.as_deref())?;
        let instance = places::directories().instance(&file.machine.name);
        self.whole_snapshot(&file, &instance, &qemu()?).map(drop)
    }

    fn whole_snapshot(
        &self,
        file: &MachineFile,
        instance: &Instance,
        qemu: &Qemu,
    ) -> Result<Option<Snapshot>, Failure> {
        let Some(name) = &self.snapshot else { return Ok(None) };
        if instance.record()?.is_none() {
            return Err(absent(instance.name()));
        }
        let found = super::snapshot::fitting(instance, name, file, qemu)?;
        let made = found.note.record.accelerator;
        let other = match self.accel {
            Accel::Auto => false,
            Accel::Kvm => made != Accelerator::Kvm,
            Accel::Tcg => made != Accelerator::Tcg,
        };
        if other {
            let message = format!("snapshot \"{name}\" was made under {}", made.word());
            return Err(Failure::new(Exit::Use, message).with_remedy("Leave --accel out."));
        }
        Ok(Some(found))
    }

    /// The names of the machines that this is about.
    pub(crate) fn instance_names(&self) -> Result<Vec<String>, Failure> {
        Ok(self.files()?.into_iter().map(|file| file.machine.name).collect())
    }

    fn files(&self) -> Result<Vec<MachineFile>, Failure> {
        self.nodes.of(places::machine_file(self.file.as_deref())?)
    }

    pub(crate) fn run(self) -> Result<u8, Failure> {
        let mut worst = 0;
        for file in self.files()? {
            worst = worst.max(self.one(&file)?);
        }
        Ok(worst)
    }

    fn one(&self, file: &MachineFile) -> Result<u8, Failure> {
        let instance = places::directories().instance(&file.machine.name);
        let lock = instance.lock("archibald up")?;
        if matches!(instance.status()?, Status::Running { .. }) {
            if self.recreate || self.snapshot.is_some() {
                return Err(Failure::new(Exit::Use, format!("\"{}\" is running", instance.name()))
                    .with_remedy("`archibald stop` first."));
            }
            terminal::complain(&format!("\"{}\" runs already", instance.name()));
        } else {
            self.start(file, &instance)?;
        }
        drop(lock);
        if self.no_check { Ok(0) } else { check::check(&instance, self.json) }
    }

    fn start(&self, file: &MachineFile, instance: &Instance) -> Result<(), Failure> {
        let flag = Arc::new(AtomicBool::new(false));
        let cancel = build::called_off_by(&flag)?;
        let steps = Steps::new(self.how.quiet);
        let machine = &file.machine;
        borrowed::mend(instance)?;
        // What is quickly told comes before the long work.
        let qemu = qemu()?;
        let snapshot = self.whole_snapshot(file, instance, &qemu)?;
        if let Some(backend) = machine.devices.sound {
            qemu.plays(backend)
                .map_err(|e| Failure::new(Exit::Environment, &e).with_remedy(e.remedy()))?;
        }
        if !machine.network.is_on_bridge() || machine.network.is_open_to_others() {
            ports_free(machine, &file.path)?;
        }
        borrowed::possible(machine)?;
        for share in &machine.devices.shares {
            if !Path::new(&share.host).is_dir() {
                let message = format!("devices.shares: {} is no folder of this host", share.host);
                return Err(Failure::new(Exit::Use, message)
                    .with_remedy(format!("Make it, or change {}.", file.path.display())));
            }
        }
        if let Some(cluster) = &machine.cluster {
            credentials::cluster(cluster).map_err(unknown)?;
        }
        // Held until the keeper, which has it from here, holds it itself.
        let (image, boot) = self.image(file, instance, &steps, &cancel)?;
        let choice = match &snapshot {
            None => self.accel.choose(&qemu, &boot, &steps),
            Some(snapshot) => Choice {
                accelerator: snapshot.note.record.accelerator,
                because: snapshot.note.record.because.clone(),
            },
        };
        let fresh = !instance.files().disk.exists();
        let started = self
            .prepare(file, instance, image.id(), &boot, &choice, &qemu, &steps)
            .and_then(|mut launch| {
                if let Some(snapshot) = &snapshot {
                    snapshot.put_back_disk(instance)?;
                    launch.state = Some(snapshot.state());
                }
                boot_up(&launch, &steps, &flag)
            });
        // The error of the start is the one to tell; what cannot be taken away stays written down.
        if started.is_err() && borrowed::mend(instance).is_ok() && fresh {
            // Nothing was ever done in this machine; what is left of it would only be in the way.
            // Its last words have been shown.
            let _ = instance.remove();
        }
        steps.finish();
        started
    }

    /// The image that the machine stands on: its own for one that is there, else the newest.
    fn image(
        &self,
        file: &MachineFile,
        instance: &Instance,
        steps: &Steps,
        cancel: &Cancel,
    ) -> Result<(Image, BootFiles), Failure> {
        let record = instance.record()?.filter(|_| instance.files().disk.exists());
        if let (Some(record), false) = (record, self.recreate) {
            build::need_tools(file.machine.image.os)?;
            return match build::cache()?.inspect(&record.image, steps, cancel) {
                Ok(image) if self.snapshot.is_some() => Ok((image, record.boot)),
                Ok(image) => {
                    let newer = match build::is_outdated(&record.image, file) {
                        true => "; its image is not what the files give now",
                        false => "",
                    };
                    steps.note(&format!(
                        "starting \"{}\" on its own disk{newer}; --recreate would take a fresh one",
                        instance.name()
                    ));
                    Ok((image, record.boot))
                }
                Err(OpenError::Cancelled) => Err(Failure::interrupted()),
                Err(error) => Err(Failure::new(
                    Exit::Environment,
                    format!("the image that \"{}\" stands on cannot be used: {error}", instance.name()),
                )
                .with_remedy("`archibald up --recreate` starts over from a fresh disk; what was changed inside is lost.")),
            };
        }
        let image = build::image(file, self.how.locked, false, steps, cancel)?;
        let boot = boot_files(&image)?;
        if self.recreate {
            // The other half of each snapshot is in the disk.
            snapshot::forget_all(instance)?;
            let _ = fs::remove_file(instance.files().disk);
        }
        Ok((image, boot))
    }

    /// Puts the instance's disk, keys, network, devices and credentials in place.
    #[allow(clippy::too_many_arguments, reason = "each is a thing of its own")]
    fn prepare<'a>(
        &self,
        file: &'a MachineFile,
        instance: &'a Instance,
        image: &str,
        boot: &BootFiles,
        choice: &Choice,
        qemu: &Qemu,
        steps: &Steps,
    ) -> Result<Launch<'a>, Failure> {
        let machine = &file.machine;
        fs::create_dir_all(instance.directory()).context(instance.directory().display())?;
        let files = instance.files();
        if !files.disk.exists() {
            create_disk(&boot.disk, &files.disk, machine.disk)?;
        }
        let identity =
            Identity::ensure(&instance.file("ssh"), instance.name()).context("SSH keys")?;
        let judged = choice.accelerator.judged();
        let public = identity.public_key().context("SSH keys")?;
        let host_key = identity.host_key().context("SSH keys")?;
        let door = machine.network.door_to(22).map(|(address, port)| Door { address, port });
        instance.remember(&Record {
            schema: RECORD_SCHEMA,
            machine: file.text.clone(),
            image: image.to_owned(),
            boot: boot.clone(),
            accelerator: choice.accelerator,
            because: choice.because.clone(),
            qemu: qemu.banner.clone(),
            started_ms: milliseconds(),
            door,
        })?;
        // After the record, so that whatever is broken off from here on is an instance that can be named.
        let network = borrowed::bring_up(instance, machine)?;
        for note in network.iter().flat_map(|network| &network.notes) {
            steps.note(note);
        }
        for note in borrowed::hand_over(instance, machine)? {
            steps.note(&note);
        }
        let mut settings =
            credentials::settings(machine, &public, host_key, judged).map_err(unknown)?;
        if let Some(network) = &network {
            settings.dns = network.name_server;
            let token = machine.store_wants_token().then(|| instance.store_token()).transpose()?;
            let anywhere = machine.network.is_open_to_others();
            settings.store_door = Some(StoreDoor { token, anywhere });
        }
        let credentials = credentials::smbios(&settings).map_err(unknown)?;
        instance.write("credentials", credentials.as_bytes(), 0o600)?;
        let slow = choice.accelerator == Accelerator::Tcg;
        let patience = self.timeout.unwrap_or(if slow { 600 } else { 120 });
        Ok(Launch {
            instance,
            machine,
            keeper: keeper(machine)?,
            qemu: qemu.program.clone(),
            arguments: argv(
                machine,
                boot,
                &files,
                choice.accelerator,
                network.is_some_and(|network| network.vhost),
            ),
            online: places::host_limits().cpus.unwrap_or_default(),
            patience: Duration::from_secs(patience),
            state: None,
        })
    }
}

/// Why the machine cannot be told what it should be.
pub(super) fn unknown(error: CredentialError) -> Failure {
    let remedy = match &error {
        CredentialError::MungeKey { .. } => Some(
            "It is that of the cluster's other hosts: copy it here, and name it by --munge-key or \
             cluster.munge-key; root may read /etc/munge/munge.key.",
        ),
        CredentialError::NoMungeKey { .. } => Some("`mungekey --create` makes one."),
        _ => None,
    };
    let failure = Failure::new(Exit::Use, error);
    match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}

fn qemu() -> Result<Qemu, Failure> {
    Qemu::find(places::qemu())
        .map_err(|e| Failure::new(Exit::Environment, &e).with_remedy(e.remedy()))
}

/// The files of an image that QEMU boots.
pub(super) fn boot_files(image: &Image) -> Result<BootFiles, Failure> {
    let missing = || Failure::new(Exit::Environment, "the image has no kernel or no initrd");
    Ok(BootFiles {
        disk: image.disk(),
        kernel: image.vmlinux().or_else(|| image.vmlinuz()).ok_or_else(missing)?,
        initrd: image.initrd().ok_or_else(missing)?,
        arguments: image.kernel_arguments().to_vec(),
    })
}

/// The keeper's command line up to QEMU's.
fn keeper(machine: &Machine) -> Result<Vec<OsString>, Failure> {
    let mut words: Vec<OsString> = vec![places::this_program()?.into(), "keep".into()];
    words.push(machine.name.clone().into());
    words.push(format!("--bind={}", machine.network.bind).into());
    if machine.network.is_on_bridge() {
        return Ok(words);
    }
    let ranges = machine.network.forward.iter().filter(|forward| is_relayed(forward));
    words.extend(ranges.map(|range| format!("--relay={range}").into()));
    let own = forwarded_by_qemu(machine).into_iter();
    let own = own.filter(|(transport, ..)| *transport == Transport::Tcp);
    words.extend(own.map(|(_, host, _)| format!("--except={host}").into()));
    Ok(words)
}

fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn boot_up(launch: &Launch<'_>, steps: &Steps, cancel: &AtomicBool) -> Result<(), Failure> {
    let what = if launch.state.is_some() { "restore" } else { "boot" };
    steps.step(what);
    let result = launch.start(cancel, |event| match event {
        Event::Phase(phase) => steps.step(&format!("{what}: {phase}")),
        Event::Placed(threads) => {
            for thread in threads.iter().filter(|thread| !thread.in_force) {
                let why = thread.missing.as_deref().unwrap_or("it is not in force");
                steps.note(&format!("{} is not placed: {why}", thread.wanted.thread));
            }
        }
    });
    let name = launch.instance.name();
    result.map_err(|error| match error {
        StartError::Cancelled => Failure::interrupted(),
        StartError::NotReady { .. } => Failure::new(Exit::Failed, error)
            .with_remedy("--timeout gives it longer; the console's last lines stand above."),
        StartError::Failed { .. } => Failure::new(Exit::Failed, error),
        StartError::Ended { .. } => Failure::new(Exit::Environment, error)
            .with_remedy(format!("Nothing of \"{name}\" is left running.")),
        _ => Failure::new(Exit::Environment, error),
    })
}

/// Makes a copy-on-write disk over an image's, whole or not at all.
pub(super) fn create_disk(backing: &Path, disk: &Path, size: Bytes) -> Result<(), Failure> {
    let partial = disk.with_extension("partial");
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
        .args([backing, &partial])
        .arg(size.0.to_string())
        .output()
        .context("qemu-img")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::new(
            Exit::Environment,
            format!("the disk cannot be made: {}", said.trim()),
        ));
    }
    fs::rename(&partial, disk).context(disk.display())
}

fn ports_free(machine: &Machine, file: &Path) -> Result<(), Failure> {
    let all = forwarded(machine);
    let wanted: Vec<_> = all.iter().map(|(transport, host, _)| (*transport, *host)).collect();
    let taken = ports::taken(Path::new("/"), machine.network.bind, &wanted);
    let Some(first) = taken.first() else { return Ok(()) };
    let list: Vec<String> = taken
        .iter()
        .take(8)
        .map(|port| {
            let holder = port.holder.as_deref().unwrap_or("another program");
            format!("port {} ({}) is in use by {holder}", port.port, port.transport)
        })
        .collect();
    let more = taken.len().saturating_sub(list.len());
    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
    let of_port = |forward: &&Forward| {
        forward.pairs().any(|(host, _)| host == first.port) && forward.transport == first.transport
    };
    let instead = machine.network.forward.iter().find(of_port).map(elsewhere);
    let instead =
        instead.map_or_else(String::new, |forward| format!(": for example \"{forward}\" instead"));
    Err(Failure::new(Exit::Environment, list.join("\n") + &more).with_remedy(format!(
        "End that program, or change network.forward in {}{instead}.",
        file.display(),
    )))
}

/// The same forward from other ports of the host.
fn elsewhere(forward: &Forward) -> Forward {
    // Ten thousand higher is easy to remember, and still a port for every port below that.
    let host = (10_000 + forward.host % 10_000).min(u16::MAX - forward.count);
    Forward { host, ..*forward }
}

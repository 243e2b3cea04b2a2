//! What a machine's sound card is given in QEMU's arguments, taken by a real QEMU. `ARCHIBALD_QEMU` names
//! another one than the usual; one without such a card is told.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use archibald_machine::{HostLimits, Machine, SoundBackend};
use archibald_vm::argv::audiodev;
use archibald_vm::qemu::{Qemu, QemuError};

const ALL: [SoundBackend; 4] =
    [SoundBackend::Silence, SoundBackend::PipeWire, SoundBackend::Jack, SoundBackend::Alsa];

fn qemu() -> Option<Qemu> {
    let program = std::env::var_os("ARCHIBALD_QEMU");
    let found = Qemu::find(program.unwrap_or_else(|| "qemu-system-x86_64".into()));
    let qemu = match found {
        Ok(qemu) => qemu,
        Err(error) => {
            println!("SKIPPED the sound card: {error}");
            return None;
        }
    };
    match qemu.plays(SoundBackend::Silence) {
        Ok(()) => Some(qemu),
        Err(error) => {
            // The only ground on which this QEMU may be let off.
            assert!(
                matches!(error, QemuError::NoSoundCard { .. }) && qemu.version < (8, 2),
                "{error}"
            );
            println!("SKIPPED the sound card: {error}");
            None
        }
    }
}

/// Starts QEMU without a guest and lets it go at once; what it said against it.
fn said(qemu: &Qemu, arguments: &[&str]) -> Result<(), String> {
    let mut child = Command::new(&qemu.program)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-S"])
        .args(["-m", "64", "-qmp", "stdio"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that has ended already takes no words.
    let words = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
    let _ = child.stdin.take().unwrap().write_all(words);
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn qemu_takes_the_card_and_every_backend_s_options() {
    let Some(qemu) = qemu() else { return };
    let machine = Machine::parse("", "", &HostLimits::default()).unwrap();
    for backend in ALL {
        let text = audiodev(&machine, backend);
        match (backend, qemu.plays(backend)) {
            (SoundBackend::Silence, can) => {
                can.unwrap();
                let device = "virtio-sound-pci,audiodev=sound,streams=2";
                said(&qemu, &["-audiodev", &text, "-device", device]).unwrap();
            }
            // Options are read before the driver is opened, so a host without sound servers tells
            // nothing but that it has none.
            (_, can) => {
                let error = said(&qemu, &["-audiodev", &text]).err().unwrap_or_default();
                assert!(
                    !error.contains("Parameter") && !error.contains("parameter"),
                    "{text}: {error}"
                );
                println!(
                    "{}: {}",
                    backend.word(),
                    can.map_or_else(|e| e.to_string(), |()| "there".into())
                );
            }
        }
        // A QEMU that takes anything would pass the above.
        let error = said(&qemu, &["-audiodev", &format!("{text},out.no-such=1")]).unwrap_err();
        assert!(error.contains("no-such"), "{error}");
    }
}

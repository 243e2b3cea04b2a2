//! The kernel's arguments: which ones, and the files that hold them for each boot loader.

use archibald_machine::units::Bytes;

use super::{Activation, Change, Effect, Host, LeftOut, Plan, Target};
use crate::facts::{Bootloader, Extension};

/// The arguments for this host, and what is left out of them.
pub(super) fn arguments(host: &Host<'_>, extra: &[String], plan: &mut Plan) -> Vec<String> {
    let mut words = Vec::new();
    let cpus = &host.wanted.cpus;
    if !cpus.is_empty() {
        // tuned's realtime-virtual-host profile; the kernel calls isolcpus deprecated, and nothing
        // else keeps managed interrupts away.
        words.push(format!("isolcpus=managed_irq,domain,{cpus}"));
        words.push(format!("irqaffinity={}", host.housekeeping()));
        match host.facts.kernel.built_with("CONFIG_NO_HZ_FULL=y") {
            // It implies RCU offload, which is named all the same for those who read the line.
            None | Some(true) => {
                words.push(format!("nohz_full={cpus}"));
                words.push(format!("rcu_nocbs={cpus}"));
            }
            Some(false) => plan.left_out.push(LeftOut::new(
                format!("nohz_full={cpus}"),
                "this kernel was built without CONFIG_NO_HZ_FULL, and would ignore it",
            )),
        }
        words.push("skew_tick=1".to_owned());
        words.push("nosoftlockup".to_owned());
        words.push("transparent_hugepage=never".to_owned());
        words.extend(huge_pages(host).filter(|_| host.fits_memory()));
    }
    if !host.devices.is_empty() {
        let extension = host.facts.virtualization.extension.as_ref().map(|fact| fact.value);
        // AMD's IOMMU is on by default, and amd_iommu=on is no value that the kernel knows.
        words.extend((extension == Some(Extension::Vmx)).then(|| "intel_iommu=on".to_owned()));
        words.push("iommu=pt".to_owned());
    }
    words.extend(extra.iter().cloned());
    words
}

/// Pages of 1 GiB, set aside at boot while memory is in one piece.
fn huge_pages(host: &Host<'_>) -> Option<String> {
    let gib = host.wanted.memory.0 / Bytes::GIB;
    let whole = host.wanted.memory.0 % Bytes::GIB == 0 && host.facts.cpus.gigabyte_pages;
    whole.then(|| format!("hugepagesz=1G hugepages={gib}"))
}

const WHY: &str = "keeps the dedicated CPUs free of the scheduler, ticks and interrupts, sets memory aside, \
                   and lets devices be handed over";

/// Puts the arguments where the boot loader finds them.
pub(super) fn place(host: &Host<'_>, words: &[String], plan: &mut Plan) {
    if words.is_empty() {
        return;
    }
    let line = words.join(" ");
    for word in
        &host.facts.kernel.arguments.as_ref().map(|fact| fact.value.clone()).unwrap_or_default()
    {
        let key = key_of(word);
        let clashes = ["isolcpus", "nohz_full", "irqaffinity"].contains(&key)
            && !words.iter().any(|own| own == word);
        if clashes {
            plan.notes.push(format!("The running kernel has {word}, which is not from here: take it out of your own settings, or both are in force."));
        }
    }
    let twice = |program: &str, arguments: &[&str], why: &str| {
        let run: Vec<String> =
            [program].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
        Activation { undo: run.clone(), run, why: why.to_owned() }
    };
    match host.facts.system.bootloader {
        Some(Bootloader::GrubDropIns) => {
            // The entry for recovery has only GRUB_CMDLINE_LINUX, and so boots as it always did.
            let text =
                format!("GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {line}\"\n");
            let path = "/etc/default/grub.d/50-archibald.cfg";
            plan.changes.push(host.own_file(path, &text, WHY, Effect::Reboot));
            plan.activations.push(twice("update-grub", &[], "writes GRUB's menu"));
        }
        Some(Bootloader::Grub) => {
            let path = "/etc/default/grub";
            let text = format!(
                "\n# From here on: `archibald host apply`.\nGRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT {line}\"\n"
            );
            edit(host, path, plan, |mut bytes| {
                bytes.extend_from_slice(text.as_bytes());
                bytes
            });
            let arguments = ["-o", "/boot/grub/grub.cfg"];
            plan.activations.push(twice("grub-mkconfig", &arguments, "writes GRUB's menu"));
        }
        Some(Bootloader::Entries(at)) => entries(host, at, words, plan),
        None => plan.left_out.push(LeftOut::new(
            format!("the kernel's arguments {line}"),
            "no boot loader that is known here: give them to the kernel by hand",
        )),
    }
}

/// Loader entries are read at boot as they are. A rescue entry stays as it is, to boot from when the
/// others do not.
fn entries(host: &Host<'_>, at: &str, words: &[String], plan: &mut Plan) {
    let own = |bytes: Vec<u8>, prefix: &str| each_line(&bytes, prefix, words);
    for name in &host.facts.system.entries {
        if !name.contains("rescue") {
            edit(host, &format!("{at}/{name}"), plan, |bytes| own(bytes, "options"));
        }
    }
    // What kernel-install gives to the kernels that come later.
    let later = "/etc/kernel/cmdline";
    if host.originals.read(later).is_some() {
        edit(host, later, plan, |bytes| own(bytes, ""));
    } else {
        plan.notes.push(
            "A kernel that is installed later gets the arguments of the one that then runs, where kernel-install makes its entry, else none: run `archibald host apply` again."
                .to_owned(),
        );
    }
}

fn edit(host: &Host<'_>, path: &str, plan: &mut Plan, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let Some(before) = host.originals.read(path) else { return };
    let after = change(before.clone());
    let target = Target::File { before: Some(before), after };
    plan.changes.push(Change {
        path: path.to_owned(),
        target,
        why: WHY.to_owned(),
        effect: Effect::Reboot,
    });
}

/// `isolcpus` of `isolcpus=2-3`.
fn key_of(word: &str) -> &str {
    word.split('=').next().unwrap_or(word)
}

/// The words put at the end of every line that starts with `prefix`, those of the same keys taken out.
fn each_line(bytes: &[u8], prefix: &str, words: &[String]) -> Vec<u8> {
    let keys: Vec<&str> = words.iter().flat_map(|words| words.split(' ')).map(key_of).collect();
    let mut out = Vec::with_capacity(bytes.len() + 256);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (text, end) = match line.strip_suffix(b"\n") {
            Some(text) => (text, "\n"),
            None => (line, ""),
        };
        let is_options = match prefix {
            "" => !text.is_empty(),
            prefix => text
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| rest.first().is_some_and(|byte| byte.is_ascii_whitespace())),
        };
        if !is_options {
            out.extend_from_slice(line);
            continue;
        }
        let kept = text
            .split(|byte| *byte == b' ')
            .filter(|word| !keys.iter().any(|key| key_of(&String::from_utf8_lossy(word)) == *key));
        let mut kept: Vec<&[u8]> = kept.collect();
        kept.extend(words.iter().map(|word| word.as_bytes()));
        out.extend_from_slice(&kept.join(&b' '));
        out.extend_from_slice(end.as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_to_the_end_of_options_once() {
        let words = ["isolcpus=2-3".to_owned(), "hugepagesz=1G hugepages=4".to_owned()];
        let entry = b"title Linux\noptions root=/dev/x isolcpus=1 hugepages=9 ro\noptionsx y";
        let edited = each_line(entry, "options", &words);
        let expected = "title Linux\noptions root=/dev/x ro isolcpus=2-3 hugepagesz=1G hugepages=4\noptionsx y";
        assert_eq!(String::from_utf8(edited.clone()).unwrap(), expected);
        assert_eq!(each_line(&edited, "options", &words), edited);
        assert_eq!(each_line(b"root=x\n", "", &words[..1]), b"root=x isolcpus=2-3\n");
    }
}

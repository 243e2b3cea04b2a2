//! NixOS: one module to import, because its /etc is made from modules.

use std::fmt::Write as _;

use super::boot::{sysctl_values, sysfs_values};
use super::{Effect, Host, Plan, arguments};
use archibald_machine::units::Bytes;

const MODULE: &str = "/etc/nixos/archibald-host.nix";

pub(super) fn plan(host: &Host<'_>, extra: &[String], plan: &mut Plan) {
    let words = arguments::arguments(host, extra, plan);
    let text = module(host, &words);
    plan.changes.push(host.own_file(
        MODULE,
        &text,
        "everything, as a NixOS module",
        Effect::Reboot,
    ));
    plan.notes.push(format!(
        "Add {MODULE} to the imports of configuration.nix, then: nixos-rebuild boot. Take it out of the imports before a revert."
    ));
}

/// A string of the Nix language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

fn module(host: &Host<'_>, words: &[String]) -> String {
    let mut text = String::from("{ ... }:\n{\n");
    let mut line = |line: &str| {
        let _ = writeln!(text, "{line}");
    };
    line("  boot.kernelParams = [");
    for word in words.iter().flat_map(|words| words.split(' ')) {
        line(&format!("    {}", quoted(word)));
    }
    line("  ];");
    if !host.wanted.cpus.is_empty() {
        line("  boot.kernel.sysctl = {");
        for (name, value, why) in sysctl_values(host) {
            line(&format!("    # {why}"));
            line(&format!("    {} = {value};", quoted(name)));
        }
        line("  };");
        line("  boot.extraModprobeConfig = ''");
        line("    options kvm halt_poll_ns=0");
        line("  '';");
        line("  systemd.tmpfiles.rules = [");
        for (path, value, _) in sysfs_values(host) {
            line(&format!("    {}", quoted(&format!("w {path} - - - - {value}"))));
        }
        line("  ];");
        let allowed = quoted(&host.housekeeping().to_string());
        line(&format!("  systemd.slices.system.sliceConfig.AllowedCPUs = {allowed};"));
        if host.facts.system.irqbalance.is_some() {
            let banned = quoted(&host.wanted.cpus.to_string());
            line(&format!(
                "  systemd.services.irqbalance.environment.IRQBALANCE_BANNED_CPULIST = {banned};"
            ));
        }
    }
    if !host.devices.is_empty() {
        line("  boot.kernelModules = [ \"vfio-pci\" ];");
        line("  services.udev.extraRules = ''");
        for address in &host.devices {
            line(&format!(
                "    ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", ATTR{{driver_override}}=\"vfio-pci\""
            ));
        }
        line("    SUBSYSTEM==\"vfio\", GROUP=\"kvm\", MODE=\"0660\"");
        line("  '';");
    }
    let kib = (host.wanted.memory.0 + Bytes::GIB) >> 10;
    line("  security.pam.loginLimits = [");
    line(&format!(
        "    {{ domain = \"@kvm\"; type = \"-\"; item = \"memlock\"; value = \"{kib}\"; }}"
    ));
    line("    { domain = \"@kvm\"; type = \"-\"; item = \"rtprio\"; value = \"10\"; }");
    line("  ];");
    line("}");
    text
}

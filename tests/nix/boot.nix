# The machine booted by NixOS' own test driver (`nix build .#checks.x86_64-linux.boot`; needs KVM to be
# bearable). Without settings from a host, so what it looks at is the system as built.
{ pkgs, module }:
pkgs.testers.runNixOSTest {
  name = "archibaldos-vm";
  nodes.machine = { lib, ... }: {
    imports = [ module ];
    virtualisation.cores = 2;
    virtualisation.memorySize = 2048;
    # The test driver's network is its own.
    networking.useNetworkd = lib.mkForce false;
    systemd.network.networks = lib.mkForce { };
  };
  testScript = ''
    machine.wait_for_unit("multi-user.target")
    machine.succeed("uname -v | grep PREEMPT_RT")
    machine.succeed("grep -w 1 /sys/devices/system/cpu/isolated")
    machine.wait_for_open_port(22)
    machine.wait_for_open_port(8080)
    machine.succeed("curl -fsS http://127.0.0.1:8080/health")
    machine.wait_for_open_port(4713)
    machine.succeed("su -l audio-user -c 'ulimit -r' | grep -x 98")
    machine.succeed("su -l audio-user -c 'XDG_RUNTIME_DIR=/run/user/$(id -u) pw-jack jack_bufsize' | grep -w 32")
    for tool in ["gcc", "cmake", "git", "python3", "emacs", "nvim", "sclang", "scsynth", "cyclictest", "rtcqs"]:
        machine.succeed(f"su -l audio-user -c 'command -v {tool}'")
  '';
}

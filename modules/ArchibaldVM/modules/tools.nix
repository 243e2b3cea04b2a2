# What a developer finds in the machine: the Debian image's tools by their names in nixpkgs.
{ config, pkgs, lib, ... }:
let
  extra = config.archibald.machine.image.packages;
  # "python3Packages.numpy"
  find = name: lib.attrByPath (lib.splitString "." name)
    (throw "image.packages of the machine file: nixpkgs has no `${name}'")
    pkgs;
in
{
  environment.systemPackages = with pkgs; [
    # Development
    gcc
    gnumake
    cmake
    git
    gdb
    python3
    rustc
    cargo
    pkg-config
    emacs-nox
    neovim
    # Measuring and shaping latency
    rt-tests
    config.boot.kernelPackages.cpupower
    stress-ng
    trace-cmd
    real_time_config_quick_scan
    # What one misses first
    curl
    rsync
    procps
    iproute2
    pciutils
    usbutils
  ] ++ map find extra;
}

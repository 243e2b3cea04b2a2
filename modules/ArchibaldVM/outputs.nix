# What the machine's flake has to offer; the root flake offers the same and the host besides.
{ nixpkgs, musnix }:
let
  system = "x86_64-linux";
  pkgs = nixpkgs.legacyPackages.${system};
  module = {
    imports = [ musnix.nixosModules.musnix ./modules ];
  };

  # The machine of a machine file; null: of the repository's archibald.toml.
  machineOf = file: nixpkgs.lib.nixosSystem {
    inherit system;
    modules = [ module { archibald.machineFile = file; } ];
  };
  machine = machineOf null;
  own = import ./packages.nix { inherit pkgs; };
in
{
  nixosModules = { archibaldos-vm = module; default = module; };
  nixosConfigurations.archibaldos-vm = machine;

  # For `archibald build`, which has a machine file of its own to give.
  lib.machine = machineOf;
  lib.disk = file: (machineOf file).config.system.build.archibaldDisk;

  packages.${system} = {
    inherit (own) archibald archibald-guest streamdb;
    # bin/run-nixos-vm; it mounts the store of the host that built it.
    archibaldos-vm-image = machine.config.system.build.vm;
    # A disk that runs anywhere, with kernel and initrd beside it.
    archibaldos-vm-qcow2 = machine.config.system.build.archibaldDisk;
    default = machine.config.system.build.vm;
  };
}

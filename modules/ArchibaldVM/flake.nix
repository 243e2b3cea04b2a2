{
  description = "ArchibaldOS VM: the machine for real-time audio, as NixOS";

  # The root flake imports outputs.nix and has no lock entry for this one: a nested `path:` input goes
  # stale silently in Nix before 2.26.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  inputs.musnix.url = "github:musnix/musnix/8548782f0d1d0928daa3fffde8a008f72219a3f3";
  inputs.musnix.inputs.nixpkgs.follows = "nixpkgs";

  outputs = { nixpkgs, musnix, ... }:
    let machine = import ./outputs.nix { inherit nixpkgs musnix; }; in
    {
      inherit (machine) nixosModules nixosConfigurations packages lib;
    };
}

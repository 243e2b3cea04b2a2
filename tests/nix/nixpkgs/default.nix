# What the flakes ask of nixpkgs. `ARCHIBALD_NIXPKGS_LIB` (with --impure) puts nixpkgs' own lib in place
# of the small one, so that the two can be compared.
{ lib ? let own = builtins.getEnv "ARCHIBALD_NIXPKGS_LIB"; in if own != "" then import own else import ./lib }:
let
  packages = import ./packages.nix { inherit lib; };
  system = import ./nixos.nix { inherit lib packages; };
in
{
  lib = lib // { inherit (system) nixosSystem; };
  legacyPackages.x86_64-linux = system.packages;
}

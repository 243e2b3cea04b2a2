# The arguments of nixpkgs' nixos/lib/make-disk-image.nix that the modules give.
{ config, lib, pkgs, format, partitionTableType, installBootLoader, copyChannel, additionalSpace, label }:
assert lib.elem format [ "qcow2" "qcow2-compressed" "vdi" "vpc" "raw" ];
assert lib.elem partitionTableType [ "legacy" "legacy+gpt" "efi" "efixbootldr" "hybrid" "none" ];
pkgs.runCommand "nixos-disk-image" { } (toString [ config.system.build.toplevel installBootLoader copyChannel additionalSpace label ])

# What `archibald build` asks Nix for: disk, kernel and initrd of the machine that a machine file describes.
# Impure, because the file may lie anywhere.
{ flake, machineFile }:
(builtins.getFlake flake).lib.disk machineFile

{
  description = "A stand-in for musnix: the options that the modules use, and what they define";
  outputs = _: { nixosModules.musnix = import ./module.nix; };
}

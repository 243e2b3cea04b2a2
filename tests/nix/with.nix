# A machine and a host with one more module, straight from the files: for planted faults.
{ fault ? { }, hostFault ? { }, machineFile ? null }:
let
  nixpkgs = import ./nixpkgs { };
  musnix.nixosModules.musnix =
    let real = builtins.getEnv "ARCHIBALD_MUSNIX"; in
    if real != "" then import real else import ./musnix/module.nix;
  outputs = import ../../modules/ArchibaldVM/outputs.nix { inherit nixpkgs musnix; };
in
rec {
  machine = nixpkgs.lib.nixosSystem {
    modules = [ outputs.nixosModules.default { archibald.machineFile = nixpkgs.lib.mkDefault machineFile; } fault ];
  };
  host = nixpkgs.lib.nixosSystem {
    modules = [ ../../modules/ArchibaldHost ../../modules/ArchibaldHost/hardware.nix hostFault ];
  };
  both = [ machine.config.system.build.toplevel.drvPath machine.config.system.build.vm.drvPath host.config.system.build.toplevel.drvPath ];
}

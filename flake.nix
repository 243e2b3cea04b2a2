{
  description = "ArchibaldOS VM: a virtual machine for real-time audio, and the host that runs it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  inputs.musnix.url = "github:musnix/musnix/8548782f0d1d0928daa3fffde8a008f72219a3f3";
  inputs.musnix.inputs.nixpkgs.follows = "nixpkgs";

  outputs = { nixpkgs, musnix, ... }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      # Imported, not an input: see modules/ArchibaldVM/flake.nix.
      machine = import ./modules/ArchibaldVM/outputs.nix { inherit nixpkgs musnix; };
      archibald = machine.packages.${system}.archibald;
      host = nixpkgs.lib.nixosSystem {
        inherit system;
        modules = [ ./modules/ArchibaldHost ./modules/ArchibaldHost/hardware.nix ];
      };
    in
    {
      nixosModules = machine.nixosModules // { host = ./modules/ArchibaldHost; };
      nixosConfigurations = machine.nixosConfigurations // { inherit host; };
      inherit (machine) packages lib;

      apps.${system} = {
        # The machine by Nix alone.
        default = { type = "app"; program = "${machine.packages.${system}.default}/bin/run-nixos-vm"; };
        # The command, with everything it does.
        archibald = { type = "app"; program = "${archibald}/bin/archibald"; };
      };

      devShells.${system}.default = pkgs.mkShell {
        packages = with pkgs; [ cargo rustc rustfmt clippy qemu_kvm openssh e2fsprogs mmdebstrap nixpkgs-fmt ];
      };
      formatter.${system} = pkgs.nixpkgs-fmt;

      checks.${system} = {
        host = host.config.system.build.toplevel;
        machine = machine.nixosConfigurations.archibaldos-vm.config.system.build.toplevel;
        boot = import ./tests/nix/boot.nix { inherit pkgs; module = machine.nixosModules.default; };
      };
    };
}

# Packages by the names they have in nixpkgs (pkgs/top-level/all-packages.nix, pkgs/by-name), and the
# builders that the modules call. A package is an empty derivation: only its name can be wrong.
{ lib }:
let
  stub = name: attributes:
    derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; }
    // { pname = name; meta.mainProgram = name; } // attributes;

  # A derivation that depends on what its text or attributes name.
  build = name: inputs: derivation {
    inherit name inputs;
    system = "x86_64-linux";
    builder = "/bin/sh";
  };
  # Texts name store paths; toFile does not take those, a derivation does.
  textFile = name: text: build name text // { inherit text; };

  names = [
    # pkgs/top-level/all-packages.nix
    "alsa-utils"
    "bridge-utils"
    "emacs-nox"
    "gcc"
    "pulseaudio"
    "su"
    "supercollider"
    "qemu_kvm"
    # pkgs/by-name
    "cargo"
    "clippy"
    "cmake"
    "coreutils"
    "curl"
    "dnsmasq"
    "e2fsprogs"
    "gdb"
    "git"
    "gnumake"
    "iproute2"
    "jack-example-tools"
    "jack2"
    "makeWrapper"
    "mmdebstrap"
    "neovim"
    "nix"
    "nixpkgs-fmt"
    "openssh"
    "pciutils"
    "pkg-config"
    "procps"
    "real_time_config_quick_scan"
    "rsync"
    "rt-tests"
    "rustc"
    "rustfmt"
    "slurm"
    "stress-ng"
    "systemd"
    "trace-cmd"
    "usbutils"
    "util-linux"
    "wireplumber"
    "das_watchdog"
    "gawk"
    "gnugrep"
    "gnused"
    "ffado"
  ];

  # pkgs/os-specific/linux/kernel/generic.nix: `override`, and what it passes through.
  kernel = { version, structuredExtraConfig ? { }, ignoreConfigErrors ? false }@arguments:
    stub "linux-${version}" {
      inherit version structuredExtraConfig ignoreConfigErrors;
      modDirVersion = version;
      configfile = stub "linux-config-${version}" { };
      override = changes: kernel (arguments // changes);
    };
  linuxPackagesFor = kernel: {
    inherit kernel;
    cpupower = stub "cpupower-${kernel.version}" { };
    extend = _: linuxPackagesFor kernel;
  };

  packages = lib.genAttrs names (name: stub name { }) // {
    inherit lib linuxPackagesFor;
    path = ./.;
    pkgs = packages;
    stdenv.hostPlatform = { system = "x86_64-linux"; isx86_64 = true; };
    # For musnix' own packages, where its real modules are at hand.
    stdenv.mkDerivation = attributes:
      let a = if builtins.isFunction attributes then attributes a else attributes; in
      stub "${a.pname}-${a.version}" { };
    fetchurl = _: ./.;
    fetchPypi = _: ./.;
    python3 = stub "python3" { pkgs = { setuptools = stub "setuptools" { }; buildPythonApplication = a: stub "${a.pname}-${a.version}" { }; }; };
    # pkgs/by-name/pi/pipewire: `jack` is an output of it
    pipewire = stub "pipewire" { jack = stub "pipewire-jack" { }; };
    runtimeShell = "${stub "bash" { }}/bin/bash";
    # Versions as of the releases named in docs/nixos.md; 6.6 stands for the kernels before 6.12.
    linuxPackages = linuxPackagesFor (kernel { version = "6.18.1"; });
    linuxPackages_6_6 = linuxPackagesFor (kernel { version = "6.6.100"; });
    linuxPackages_6_12 = linuxPackagesFor (kernel { version = "6.12.50"; });

    # pkgs/build-support/trivial-builders
    writeText = textFile;
    writeTextDir = path: text: textFile (baseNameOf path) text // { inherit path; };
    writeShellScriptBin = name: text: textFile name text // { pname = name; };
    runCommand = name: attributes: script: build name (script + toString (lib.attrValues attributes));
    linkFarm = name: entries: assert lib.all (e: !(lib.hasPrefix "/" e.name)) entries; build name (map (e: "${e.name} ${e.path}") entries) // { inherit entries; };
    symlinkJoin = { name, paths, nativeBuildInputs ? [ ], postBuild ? "", meta ? { } }:
      build name (paths ++ nativeBuildInputs ++ [ postBuild ]) // { inherit meta; };
    mkShell = { packages }: build "nix-shell" packages;

    # pkgs/build-support/rust/build-rust-package
    rustPlatform.buildRustPackage =
      { pname, version, src, cargoLock, cargoBuildFlags ? [ ], doCheck ? true, meta ? { } }:
        assert builtins.isBool doCheck && builtins.pathExists cargoLock.lockFile;
        build "${pname}-${version}" ([ "${src}" ] ++ cargoBuildFlags) // { inherit pname version meta; };

    callPackage = file: arguments:
      let f = if builtins.isFunction file then file else import file; in
      f (builtins.intersectAttrs (builtins.functionArgs f) packages // arguments);
  };
in
packages

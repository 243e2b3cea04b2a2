# The machine. Each file is one concern of it; the numbers come from archibald.toml (settings.nix).
{
  imports = [
    ./settings.nix
    ./realtime.nix
    ./audio.nix
    ./users.nix
    ./network.nix
    ./streamdb.nix
    ./guest.nix
    ./cluster.nix
    ./tools.nix
    ./image.nix
  ];
}

# One card with the address that the host expects, SSH, and the ports of the machine file.
{ config, lib, ... }:
let
  cfg = config.archibald;
  inherit (cfg.derived) address gateway onlyHost;
  # "8000-9000:8000-9000/udp" as the guest's side of it.
  forward = text:
    let
      parts = builtins.match "[0-9-]+:([0-9]+)(-([0-9]+))?(/(tcp|udp))?" text;
      at = builtins.elemAt parts;
      from = lib.toInt (at 0);
    in
    {
      inherit from;
      to = if at 2 == null then from else lib.toInt (at 2);
      udp = at 4 == "udp";
    };
  forwards = map forward cfg.machine.network.forward;
  single = udp: map (f: f.from) (builtins.filter (f: f.udp == udp && f.from == f.to) forwards);
  ranges = udp: map (f: { inherit (f) from to; }) (builtins.filter (f: f.udp == udp && f.from != f.to) forwards);
in
{
  networking = {
    hostName = cfg.machine.name;
    useDHCP = false;
    useNetworkd = true;
    nameservers = [ (if cfg.machine.network.mode == "user" then "10.0.2.3" else gateway) ];
    firewall = {
      enable = true;
      allowedTCPPorts = single false;
      allowedUDPPorts = single true;
      allowedTCPPortRanges = ranges false;
      allowedUDPPortRanges = ranges true;
    };
  };

  systemd.network.networks."10-archibald" = {
    matchConfig = { Type = "ether"; Kind = "!*"; };
    address = [ address ];
    routes = [{ Gateway = gateway; }];
    networkConfig = { DHCP = "no"; LinkLocalAddressing = "no"; IPv6AcceptRA = false; LLMNR = false; MulticastDNS = false; };
    linkConfig.RequiredForOnline = "no";
  };
  systemd.network.wait-online.enable = false;
  # networkd's usual companion; here /etc/resolv.conf names the host's name server.
  services.resolved.enable = false;

  services.openssh = {
    enable = true;
    openFirewall = true;
    settings = {
      PermitRootLogin = "no";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      X11Forwarding = false;
    };
    # The second place is filled from the settings at each start.
    authorizedKeysFiles = [ "/run/archibald/keys/%u" ];
    # The published password opens only where the host alone can come from.
    extraConfig = lib.mkAfter ''
      Match Address ${onlyHost},127.0.0.0/8
          PasswordAuthentication yes
    '';
  };
}

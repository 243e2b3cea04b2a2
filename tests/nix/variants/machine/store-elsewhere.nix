{
  services.streamdb = {
    port = 9090;
    address = "127.0.0.1";
    dataDir = "/srv/takes";
    tokenFile = "/run/keys/streamdb";
    openFirewall = true;
    cpuAffinity = "0";
    allowFrom = [ "192.168.122.0/24" ];
  };
}

{
  archibald.machine = {
    network.mode = "bridge";
    devices.shares = [ "/srv/farm" "/srv/takes:/mnt/takes:ro" ];
    cluster.controller = "192.168.122.1";
  };
}

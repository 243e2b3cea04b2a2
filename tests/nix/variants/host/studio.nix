{
  archibald.host = {
    cpuCount = 8;
    cpus = "4-7";
    vfioIds = [ "8086:a170" "10de:1c82" ];
    hugepages = 4;
    bridge = "audio0";
    address = "10.9.8.1/24";
    users = [ "alice" ];
  };
}

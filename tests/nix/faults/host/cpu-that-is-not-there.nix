# expect: the host has 2 CPUs
{ archibald.host.cpuCount = 2; }

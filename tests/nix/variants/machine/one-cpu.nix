{ archibald.machine = { machine.vcpus = 1; realtime.isolated = ""; }; }

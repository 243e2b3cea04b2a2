{ archibald.machine.network.mode = "bridge"; }

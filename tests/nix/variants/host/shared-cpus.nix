{ archibald.host.cpus = ""; }

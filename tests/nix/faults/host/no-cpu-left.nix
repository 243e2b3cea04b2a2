# expect: leaves no CPU for the host
{ archibald.host.cpus = "0-3"; }

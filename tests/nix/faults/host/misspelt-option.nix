# expect: The option `archibald.host.vfioIDs' does not exist
{ archibald.host.vfioIDs = [ "8086:a170" ]; }

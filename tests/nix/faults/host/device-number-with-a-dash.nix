# expect: option `archibald.host.vfioIds
{ archibald.host.vfioIds = [ "8086-a170" ]; }

# expect: option `networking.interfaces
{ archibald.host.address = "192.168.122.1/99"; }

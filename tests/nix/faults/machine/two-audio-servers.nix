# expect: JACK emulation doesn't use the JACK service
{ services.jack.jackd.enable = true; }

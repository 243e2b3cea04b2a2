# expect: The option `boot.kernalParams' does not exist
{ boot.kernalParams = [ "quiet" ]; }

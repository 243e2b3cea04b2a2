# expect: conflicting definition values
{ networking.hostName = "another"; }

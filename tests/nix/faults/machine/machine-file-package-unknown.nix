# expect: nixpkgs has no `ardourr'
{ archibald.machine.image.packages = [ "ardourr" ]; }

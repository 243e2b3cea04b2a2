# expect: attribute 'supercolider' missing
{ pkgs, ... }: { environment.systemPackages = [ pkgs.supercolider ]; }

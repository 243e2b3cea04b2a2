# expect: requires Polkit to be enabled
{ lib, ... }: { security.polkit.enable = lib.mkForce false; }

# expect: is not real-time (PREEMPT_RT: not set)
{ lib, pkgs, ... }: { boot.kernelPackages = lib.mkForce pkgs.linuxPackages_6_12; }

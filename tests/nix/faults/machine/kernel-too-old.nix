# expect: before 6.12 musnix leaves it without PREEMPT_RT
{ pkgs, ... }: { archibald.kernelPackages = pkgs.linuxPackages_6_6; }

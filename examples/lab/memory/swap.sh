#!/bin/sh
# Swap in compressed memory: somewhere to put pages that are not locked.
set -eu
PATH=/usr/sbin:/sbin:$PATH
modprobe zram
echo 512M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0

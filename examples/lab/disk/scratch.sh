#!/bin/sh
# A disk whose every answer takes four milliseconds, as an ordinary one's does, mounted on /scratch: a
# memory disk is done at once. The kernel's null_blk keeps the time with a timer.
set -eu
PATH=/usr/sbin:/sbin:$PATH
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 irqmode=2 completion_nsec=4000000
busybox mkfs.ext2 /dev/nullb0 65536 >/dev/null
mkdir -p /scratch
mount -t ext4 /dev/nullb0 /scratch
chmod 1777 /scratch

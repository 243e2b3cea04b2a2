#!/bin/sh
# A disk that answers after four milliseconds, as an ordinary one does; memory answers at once. The
# kernel's null_blk keeps that time by a timer. It is written to without a file system.
set -eu
PATH=/usr/sbin:/sbin:$PATH
modprobe null_blk nr_devices=1 gb=1 memory_backed=1 irqmode=2 completion_nsec=4000000
chmod 666 /dev/nullb0

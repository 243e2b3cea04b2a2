#!/bin/sh
# Starts the store's server as the words say (nice -n 10, or chrt), and waits until it listens. The uploads
# run elsewhere and as somebody else, so they find their script beside its data.
set -eu
here=/tmp/store-upload
mkdir -p $here/data
cp upload.sh $here
setsid "$@" streamdb serve --data $here/data --listen 127.0.0.1:8080 >$here/log 2>&1 &
until grep -q '^listening on' $here/log; do
	# Behind sudo it is root's, and no signal of ours tells whether it is there.
	[ -d /proc/$! ] || { cat $here/log >&2; exit 1; }
	sleep 0.05
done

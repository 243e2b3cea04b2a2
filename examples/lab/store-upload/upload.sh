#!/bin/sh
# Uploads without a pause. One that fails, or is not stored whole, ends it, and with it the lab's run.
set -eu
head -c 4194304 /dev/urandom >take
sent=0
while :; do
	key=upload-$((sent % 8))
	curl -sS --fail-with-body -T take http://127.0.0.1:8080/v1/objects/$key -o stored || { cat stored; exit 1; }
	grep -q '"size":4194304' stored || { echo "$key is not stored whole"; cat stored; exit 1; }
	sent=$((sent + 1))
	echo "$sent uploads, $((sent * 4)) MiB"
done

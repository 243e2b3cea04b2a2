#!/bin/sh
# Starts sender and receiver of ROC and the client between them, and makes its links.
set -eu
pipewire -c "$PWD/receive.conf" &
receiver=$!
pipewire -c "$PWD/send.conf" &
sender=$!
./client &
client=$!
trap 'kill $client $sender $receiver' TERM
link() {
	tries=0
	until pw-link "$1" "$2" 2>/tmp/link; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ]; then
			cat /tmp/link >&2
			kill $client $sender $receiver
			exit 1
		fi
		sleep 0.05
	done
}
link tone:out roc-out:send_FL
link tone:out roc-out:send_FR
link roc-in:receive_FL tone:in
wait $client

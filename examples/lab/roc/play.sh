#!/bin/sh
# Starts sender and receiver of ROC and the client between them, which makes the links.
set -eu
pipewire -c "$PWD/receive.conf" &
receiver=$!
pipewire -c "$PWD/send.conf" &
sender=$!
./client &
client=$!
trap 'kill $client $sender $receiver' TERM
wait $client || {
	status=$?
	kill $sender $receiver 2>/dev/null || true
	exit $status
}

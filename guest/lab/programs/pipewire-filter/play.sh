#!/bin/sh
# Starts the filter and makes its links: noise to low-pass to the sink.
set -eu
./filter &
filter=$!
trap 'kill $filter' TERM
link() {
	tries=0
	until pw-link "$1" "$2" 2>/tmp/link; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ]; then
			cat /tmp/link >&2
			kill $filter
			exit 1
		fi
		sleep 0.05
	done
}
link noise:out lowpass:in
link lowpass:out archibald-null:playback_FL
echo "the filter plays"
wait $filter

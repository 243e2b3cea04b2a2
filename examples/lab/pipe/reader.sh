#!/bin/sh
# Reads a page, then does something else for a quarter of a second.
while dd bs=4096 count=1 of=/dev/null 2>/dev/null; do
	sleep 0.25
done

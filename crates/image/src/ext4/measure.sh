# Blocks of 4096 bytes and inodes that the files below $1 take, whatever file system they lie on.
cd "$1" && find . -xdev -printf '%y %s\n' |
	awk '{ inodes++; blocks += ($1 == "f") ? int(($2 + 4095) / 4096) : 1 } END { printf "%d %d\n", blocks, inodes }'

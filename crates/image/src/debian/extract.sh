# Once apt knows what the mirror has, and before anything is installed: refuse what the lock does
# not allow, since the rest takes minutes.
set -eu
[ -e "$ARCHIBALD_WORK/locked" ] || exit 0
cut -d ' ' -f 1 "$ARCHIBALD_WORK/locked" |
	APT_CONFIG=$MMDEBSTRAP_APT_CONFIG xargs apt-cache policy |
	awk '/^[^ ]/ { name = substr($1, 1, length($1) - 1) } $1 == "Candidate:" { print name, $2 }' |
	LC_ALL=C sort >"$ARCHIBALD_WORK/candidates"
cmp -s "$ARCHIBALD_WORK/locked" "$ARCHIBALD_WORK/candidates"

# Everything is installed and apt's lists are still there: write down what it is, with the checksums
# of the archive's signed index.
set -eu
rm -f "$1/etc/apt/preferences.d/archibald-lock"
chroot "$1" dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' >"$ARCHIBALD_WORK/installed"
awk '{ print $1 "=" $2 }' "$ARCHIBALD_WORK/installed" |
	APT_CONFIG=$MMDEBSTRAP_APT_CONFIG xargs apt-cache show >"$ARCHIBALD_WORK/records"

# Before apt runs in the new root ($1): give it the packages that are here already, and the pins.
set -eu
archives=$1/var/cache/apt/archives
mkdir -p "$archives"
# Links, not copies: the cache lies on the same file system, and apt only reads them.
find "$ARCHIBALD_DEBS" -maxdepth 1 -name '*.deb' -exec cp -l -t "$archives" {} +
if [ -e "$ARCHIBALD_WORK/preferences" ]; then
	mkdir -p "$1/etc/apt/preferences.d"
	cp "$ARCHIBALD_WORK/preferences" "$1/etc/apt/preferences.d/archibald-lock"
fi

# Make the finished root ($1) the same for every build and of nobody in particular.
set -eu
cd "$1"

# devtmpfs, tmpfs and the like are mounted over these.
find dev proc sys run tmp var/tmp -mindepth 1 -xdev -delete

# What a machine makes for itself at its first boot.
rm -f etc/ssh/ssh_host_* etc/hostname etc/.pwd.lock var/lib/dbus/machine-id
rm -f var/lib/systemd/random-seed var/lib/systemd/credential.secret root/.bash_history
rm -f etc/munge/munge.key etc/ssl/private/ssl-cert-snakeoil.key etc/ssl/certs/ssl-cert-snakeoil.pem
[ -h etc/resolv.conf ] || rm -f etc/resolv.conf
: >etc/machine-id
chmod 0444 etc/machine-id

# A node of a cluster starts these, and nobody else does.
for unit in munge slurmd slurmctld; do
	rm -f "etc/systemd/system/multi-user.target.wants/$unit.service"
done

# What installing left behind: logs, caches, backups of what it changed.
rm -f etc/apt/apt.conf.d/99mmdebstrap etc/dpkg/dpkg.cfg.d/99mmdebstrap
rm -f etc/passwd- etc/shadow- etc/group- etc/gshadow- etc/subuid- etc/subgid-
find var/cache/apt/archives -maxdepth 1 -name '*.deb' -delete
rm -f var/cache/apt/*.bin var/cache/ldconfig/aux-cache var/lib/dpkg/*-old var/cache/debconf/*-old
rm -rf var/cache/fontconfig var/cache/man
find var/log -type f ! -size 0 -delete
find var/lib/apt/lists -type f ! -name lock -delete

# apt gives these to its own user only where that user can reach them during the build.
chown "$(awk -F: '$1 == "_apt" { print $3 }' etc/passwd):0" \
	var/cache/apt/archives/partial var/lib/apt/lists/partial

# One age for everything that was not older.
find . -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# With debconf in place and the asked packages still to come: jackd may run with real-time priority.
echo 'jackd2 jackd/tweak_rt_limits boolean true' | chroot "$1" debconf-set-selections

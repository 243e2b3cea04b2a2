# What `archibald run` has bash do in the machine. Lines on its error output that begin with \036 are for
# `archibald run`, all others are the program's.
#   $1 the project's folder   $2 what builds it, or nothing   $3 what runs it, after `exec`
#   $4 what tells of xruns, or nothing
# Its input is the program's, and its end is the program's end: so Ctrl-C on the host, or a host that is no
# more, ends what runs here.
tell() { printf '\036%s\n' "$1" >&2; }

# A process group for each job, so that one can be ended with all that it has started, and Ctrl-C reaches it.
set -m
cd "$1" || exit
input=$(mktemp -u "${XDG_RUNTIME_DIR:-/tmp}/archibald-run.XXXXXX")
mkfifo -m 600 "$input" || exit

{
	if [ -n "$2" ]; then
		tell build
		# In a shell of its own: it may well say `cd` or `exit`.
		bash -c "$2" </dev/null || { tell "build-failed $?"; exit 1; }
	fi
	tell run
	eval "exec $3"
} <"$input" &
work=$!

{
	cat >"$input"
	kill -INT -- -$work
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		sleep 0.3
		kill -0 -- -$work || exit
	done
	kill -KILL -- -$work
} <&0 >/dev/null 2>&1 &
end=$!
disown $end # so that bash says nothing of its end

watch=
if [ -n "$4" ]; then
	bash -c "$4" </dev/null 2>/dev/null | while IFS= read -r line; do tell "xruns $line"; done >/dev/null &
	watch=$!
	disown $watch
fi

wait $work 2>/dev/null
status=$?
# What the program has started and left behind goes too.
kill -TERM -- -$work -$end ${watch:+-$(ps -o pgid= -p $watch | tr -d ' ')} 2>/dev/null
rm -f "$input"
exit $status

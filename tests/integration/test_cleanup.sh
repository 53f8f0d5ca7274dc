#!/bin/sh
# Nothing is left behind: after life cycles, and after any one of our processes is killed.
# CYCLES and KILLS set how many; `make check` runs fewer than `make check-long`.
# In a PID namespace of its own: all that can be seen there is this test's, whatever else runs.
if [ -z "${CLEANUP_INSIDE:-}" ]; then
	CLEANUP_INSIDE=1 exec unshare --pid --fork --kill-child --mount-proc sh -c 'sh "$0"; exit $?' "$0"
fi
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
: "${CYCLES:=40}" "${KILLS:=24}"

b=$work/sleeper
bundle "$b" sh -c 'sleep 1000 & sleep 1000'

# Every process that carries our flag in its environment or is one of our roles, by its name.
ours() {
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/exe" 2>/dev/null)" = "$(readlink -f "$RUNSC")" ] && echo "${p#/proc/}"
		case $(readlink "$p/exe" 2>/dev/null) in
		*memfd:zygote* | *memfd:*guest*) echo "${p#/proc/}" ;;
		esac
	done
}
before=$(ours)
mounts_before=$(wc -l </proc/self/mounts)

new_processes() {
	for p in $(ours); do
		case " $(echo "$before" | tr '\n' ' ') " in
		*" $p "*) ;;
		*) echo "$p" ;;
		esac
	done
}
nothing_left() {
	wait_for 10 sh -c 'true' # one turn for the last exits
	tries=100
	while [ -n "$(new_processes)" ] && [ $tries -gt 0 ]; do
		sleep 0.05
		tries=$((tries - 1))
	done
	left=$(new_processes)
	[ -z "$left" ] || { for p in $left; do echo "process $p: $(tr '\0' ' ' <"/proc/$p/cmdline")"; done; return 1; }
	[ "$(wc -l </proc/self/mounts)" = "$mounts_before" ] || { echo "mounts are left"; return 1; }
	files=$(find "$root" -mindepth 1)
	[ -z "$files" ] || { echo "left: $files"; return 1; }
}

cycles() {
	for i in $(seq "$CYCLES"); do
		runsc create --bundle "$b" "cycle$i" </dev/null >/dev/null 2>&1 || { echo "create $i"; return 1; }
		runsc start "cycle$i" || { echo "start $i"; return 1; }
		runsc kill "cycle$i" KILL || { echo "kill $i"; return 1; }
		wait_for 5 sh -c "'$RUNSC' --root '$root' state cycle$i | grep -q stopped" || { echo "stop $i"; return 1; }
		runsc delete "cycle$i" || { echo "delete $i"; return 1; }
	done
}
check "$CYCLES"_cycles cycles
check nothing_is_left_after_cycles nothing_left

# VICTIM is the CLI, the sentry, the gofer or a guest process, at a random moment.
pick() {
	case $1 in
	cli) echo "$2" ;;
	sentry) new_processes | while read -r p; do tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q 'runsc boot' && echo "$p"; done ;;
	gofer) new_processes | while read -r p; do tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q 'runsc gofer' && echo "$p"; done ;;
	guest) new_processes | while read -r p; do readlink "/proc/$p/exe" 2>/dev/null | grep -q memfd && echo "$p"; done | tail -1 ;;
	esac
}
kill_run() { # VICTIM SEED
	"$RUNSC" --root "$root" run --bundle "$b" victim </dev/null >/dev/null 2>"$work/victim.err" &
	cli=$!
	sleep "0.0$(($2 % 10))$(($2 * 7 % 10))"
	for v in $(pick "$1" $cli | head -1); do kill -9 "$v" 2>/dev/null; done
	[ "$1" = guest ] && sleep 0.1
	"$RUNSC" --root "$root" kill victim KILL 2>/dev/null
	wait $cli 2>/dev/null
	tries=0
	until "$RUNSC" --root "$root" delete --force victim 2>"$work/delete.err"; do
		tries=$((tries + 1))
		[ $tries -lt 20 ] || { cat "$work/delete.err"; return 1; }
		sleep 0.1
	done
}
kills() {
	for i in $(seq $((KILLS / 4))); do
		kill_run "$1" "$i" || { echo "run $i"; return 1; }
	done
	nothing_left
}
for victim in cli sentry gofer guest; do
	check "killed_${victim}_leaves_nothing" kills $victim
done

# `do` leaves no state at all, whoever is killed.
kill_do() {
	for v in cli sentry gofer; do
		"$RUNSC" --root "$root" "do" sleep 1000 </dev/null >/dev/null 2>&1 &
		cli=$!
		sleep 0.2
		for p in $(pick $v $cli | head -1); do kill -9 "$p"; done
		wait $cli 2>/dev/null
	done
	nothing_left
}
check do_leaves_nothing kill_do

clean_message() {
	"$RUNSC" --root "$root" "do" sleep 1000 </dev/null >"$work/msg" 2>&1 &
	cli=$!
	sleep 0.3
	for p in $(pick sentry $cli | head -1); do kill -9 "$p"; done
	wait $cli
	status=$?
	cat "$work/msg"
	[ $status = 128 ] && [ "$(wc -l <"$work/msg")" = 1 ]
}
check dead_sentry_is_one_line_and_128 clean_message

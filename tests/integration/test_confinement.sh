#!/bin/sh
# What can be reached from inside, and what walls the processes stand behind.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

mkdir -p "$work/rootfs/bin" "$work/rootfs/tmp" "$work/rootfs/proc"
cp /bin/busybox "$work/rootfs/bin/sh"
cp "$BUILD/tests/escape" "$work/rootfs/bin/escape"
echo secret >"$work/secret"
name=runsc-test-$$
python3 - "$name" <<'X' &
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("\0" + sys.argv[1])
s.listen()
s.settimeout(600)
s.accept()
X
listener=$!
trap 'kill $listener 2>/dev/null; clean_up' EXIT

for platform in systrap ptrace; do
	b=$work/$platform
	mkdir "$b"
	(cd "$b" && "$RUNSC" spec -- /bin/escape)
	jq --arg root "$work/rootfs" --arg s "HOST_SECRET=$work/secret" --arg a "HOST_ABSTRACT=$name" \
		'.root.path = $root | .process.terminal = false | .process.env += [$s, $a]' \
		"$b/config.json" >"$b/new" && mv "$b/new" "$b/config.json"
	timeout 400 "$RUNSC" --root "$root" --platform=$platform run --bundle "$b" escape-$platform </dev/null 2>"$work/err" |
		sed -E "s,^(ok|not ok|skip) ,\1 $platform/,"
	check $platform/sandbox_ended_in_order sh -c "! grep -q unexpectedly '$work/err'"
	check $platform/nothing_was_written_outside sh -c "[ ! -e '$work/rootfs/escaped' ] && [ ! -e /escaped ] && grep -qx secret '$work/secret'"
done

# The walls, seen from outside.
b=$work/idle
bundle "$b" sleep 1000
runsc run --detach --bundle "$b" idle </dev/null >/dev/null 2>&1
sentry=$(runsc state idle | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
status_is() { # FIELD VALUE PID
	[ "$(sed -n "s/^$1:[[:space:]]*//p" "/proc/$3/status")" = "$2" ]
}
own_namespaces() { # PID
	for ns in user mnt pid net ipc uts; do
		[ "$(readlink "/proc/$1/ns/$ns")" != "$(readlink "/proc/self/ns/$ns")" ] || {
			echo "shares $ns"
			return 1
		}
	done
}
gofer=$(for p in /proc/[0-9]*; do
	tr '\0' ' ' <"$p/cmdline" 2>/dev/null | grep -q 'runsc gofer' && basename "$p"
done | tail -1)
guest=$(pgrep -P "$sentry" | tail -1)
check sentry_has_no_capabilities status_is CapEff 0000000000000000 "$sentry"
check sentry_has_no_bounding_set status_is CapBnd 0000000000000000 "$sentry"
check sentry_has_a_seccomp_filter status_is Seccomp 2 "$sentry"
check sentry_has_no_new_privs status_is NoNewPrivs 1 "$sentry"
check sentry_has_own_namespaces own_namespaces "$sentry"
check sentry_root_is_empty sh -c "[ -z \"\$(ls -A /proc/$sentry/root/)\" ]"
check sentry_is_not_root_outside sh -c "! grep -q '^Uid:[[:space:]]*0' /proc/$sentry/status"
check gofer_has_file_capabilities_only status_is CapEff 000000000000001f "$gofer"
check gofer_has_a_seccomp_filter status_is Seccomp 2 "$gofer"
check gofer_has_no_new_privs status_is NoNewPrivs 1 "$gofer"
check gofer_has_own_namespaces own_namespaces "$gofer"
check guest_has_no_capabilities status_is CapEff 0000000000000000 "$guest"
check guest_has_a_seccomp_filter status_is Seccomp 2 "$guest"
check guest_has_no_new_privs status_is NoNewPrivs 1 "$guest"
check guest_root_is_empty sh -c "[ -z \"\$(ls -A /proc/$guest/root/)\" ]"

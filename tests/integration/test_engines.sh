#!/bin/sh
# podman and containerd call runsc in runc's place.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# podman passes its own limits on; beyond the hard limit it fails
# shellcheck disable=SC3045 # dash has it
ulimit -n "$(ulimit -Hn)"

mkdir -p "$work/image/bin" "$work/image/proc" "$work/image/sys" "$work/image/dev" "$work/image/tmp" \
	"$work/image/etc" "$work/image/root"
cp /bin/busybox "$work/image/bin/busybox"
for a in sh ls cat echo sleep id ps true uname wc tty stty env touch; do ln -s busybox "$work/image/bin/$a"; done
echo root:x:0:0::/root:/bin/sh >"$work/image/etc/passwd"

image=runsc-test-$$
pm() {
	timeout 60 podman --cgroup-manager=cgroupfs --runtime "$RUNSC" "$@"
}
tar -C "$work/image" -c . | podman import - $image >/dev/null 2>"$work/import.err" ||
	echo "not ok podman/import - $(tail -1 "$work/import.err")"
trap 'podman rm -af >/dev/null 2>&1; podman rmi -f $image >/dev/null 2>&1; clean_up' EXIT

check podman/run expect 0 hello pm run --rm --network=none $image echo hello
check podman/exit_code expect 7 "" pm run --rm --network=none $image sh -c 'exit 7'
check podman/our_kernel expect 0 runsc pm run --rm --network=none $image uname -r
check podman/env_user_workdir expect 0 "v 5 /tmp" pm run --rm --network=none -e V=v --user 5 --workdir /tmp $image sh -c 'echo $V $(id -u) $(pwd)'
check podman/stdin sh -c "echo from outside | timeout 60 podman --cgroup-manager=cgroupfs --runtime '$RUNSC' run --rm -i --network=none $image cat | grep -q 'from outside'"
mkdir "$work/vol"
check podman/volume sh -c "timeout 60 podman --cgroup-manager=cgroupfs --runtime '$RUNSC' run --rm --network=none -v '$work/vol:/vol' $image touch /vol/made && [ -e '$work/vol/made' ]"
printf '[engine]\nruntime_supports_nocgroup = ["runsc"]\n[engine.runtimes]\nrunsc = ["%s"]\n' \
	"$(readlink -f "$RUNSC")" >"$work/containers.conf"
no_cgroups() {
	expect 0 fine env CONTAINERS_CONF="$work/containers.conf" timeout 60 podman --cgroup-manager=cgroupfs --runtime runsc \
		run --rm --network=none --cgroups=disabled $image echo fine
}
check podman/no_cgroups no_cgroups

detached() {
	pm run -d --name $image-d --network=none $image sh -c 'echo started; sleep 1000' &&
		wait_for 5 sh -c "podman logs $image-d | grep -q started" &&
		expect 0 "sleep" pm exec $image-d ps &&
		expect 4 "" pm exec $image-d sh -c 'exit 4' &&
		pm stop -t 1 $image-d && pm rm $image-d
}
check podman/detached_logs_exec_stop detached

cat >"$work/tty.exp" <<X
set timeout 30
spawn podman --cgroup-manager=cgroupfs --runtime $RUNSC run --rm -it --network=none $image sh
expect "# "
send "tty; echo A\\\$((1+1))B\r"
expect { "A2B" {} timeout { exit 10 } }
send "sleep 100\r"
sleep 0.5
send "\003"
expect "# "
send "echo st=\\\$?\r"
expect { "st=130" {} timeout { exit 11 } }
send "exit 5\r"
expect eof
exit [lindex [wait] 3]
X
check podman/terminal_with_ctrl_c expect 5 "" timeout 90 expect "$work/tty.exp"

cat >"$work/containerd.toml" <<X
version = 2
root = "$work/ctd/root"
state = "$work/ctd/state"
[grpc]
  address = "$work/ctd.sock"
X
containerd -c "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; podman rm -af >/dev/null 2>&1; podman rmi -f $image >/dev/null 2>&1; sleep 0.3; clean_up' EXIT
ctrd() {
	timeout 60 ctr -a "$work/ctd.sock" "$@"
}
wait_for 10 ctrd version
check containerd/run expect 0 hello ctrd run --rm --runc-binary "$RUNSC" --rootfs "$work/image" c1 /bin/echo hello
check containerd/exit_code expect 3 "" ctrd run --rm --runc-binary "$RUNSC" --rootfs "$work/image" c2 /bin/sh -c 'exit 3'
task() {
	ctrd run -d --runc-binary "$RUNSC" --rootfs "$work/image" c3 /bin/sleep 1000 &&
		expect 0 in-exec ctrd task exec --exec-id e1 c3 /bin/echo in-exec &&
		expect 0 RUNNING ctrd task ls && ctrd task kill -s KILL c3 &&
		wait_for 5 sh -c "ctr -a '$work/ctd.sock' task ls | grep -q STOPPED"
	ctrd task rm c3
	ctrd container rm c3
}
check containerd/detached_exec_kill task

#!/bin/sh
# What the host does to files that are shared with a sandbox: changes, and refusals.
. "$(dirname "$0")/lib.sh"

shared=$work/shared
mkdir "$shared"

# ---- changes by others ----

watch() {
	"$RUNSC" --root "$root" do --quiet --volume "$shared:/shared" --volume "$here:/scripts:ro" \
		python3 /scripts/watch_changes.py /shared /shared/file >"$work/events" 2>&1 &
	wait_for 20 grep -q ready "$work/events" || return 1
	echo a >"$shared/new"
	sleep 0.1
	mv "$shared/new" "$shared/newer"
	echo more >>"$shared/file"
	chmod 600 "$shared/other"
	mkdir "$shared/dir"
	sleep 0.1
	rm "$shared/newer" "$shared/file"
	sleep 0.1
	touch "$shared/done"
	wait $!
}

saw() {
	grep -qx "$1" "$work/events" || { echo "no \"$1\":"; cat "$work/events"; return 1; }
}

saw_changes() {
	for e in 'create new' 'closew new' 'from new' 'to newer' 'modify file' 'attrib other' \
		'create|dir dir' 'delete newer' 'delete file'; do
		saw "/shared $e" || return 1
	done
	saw '/shared/file modify ' && saw '/shared/file attrib '
}

# One event for each change that the sandbox makes itself, not another one from the host.
saw_own_changes_once() {
	for e in 'create own' 'modify own' 'closew own' 'attrib own' 'from own' 'to own2' \
		'delete own2' 'modify kept' 'closew kept'; do
		saw "own $e 30" || return 1
	done
}

echo x >"$shared/file"
echo x >"$shared/other"
echo x >"$shared/kept"
if command -v python3 >/dev/null; then
	check watch_runs watch
	check inotify_sees_changes_made_on_the_host saw_changes
	check inotify_sees_own_changes_once saw_own_changes_once
fi

# ---- refusals ----

# in_sandbox SCRIPT: a shell with the shared directory at /shared
in_sandbox() {
	"$RUNSC" --root "$root" do --quiet --volume "$shared:/shared" sh -c "$1"
}

full_disk() {
	expect 1 'No space left on device' in_sandbox \
		'dd if=/dev/zero of=/shared/full/a bs=4k count=64 2>&1' || return 1
	[ "$(stat -c %s "$shared/full/a")" = 65536 ] || { echo "not all that fits is there"; return 1; }
	expect 1 'No space left on device' in_sandbox 'mkdir /shared/full/d 2>&1' || return 1
	rm "$shared/full/a"
	expect 0 '' in_sandbox 'echo again >/shared/full/b'
}

read_only_host() {
	expect 2 'Read-only file system' in_sandbox 'echo x >/shared/ro/f' || return 1
	expect 1 'Read-only file system' in_sandbox 'mkdir /shared/ro/d 2>&1' || return 1
	expect 1 'Read-only file system' in_sandbox 'rm /shared/ro/kept 2>&1' || return 1
	expect 0 kept in_sandbox 'cat /shared/ro/kept'
}

if [ "$(id -u)" = 0 ]; then
	mkdir "$shared/full" "$shared/ro"
	mount -t tmpfs -o size=64k,nr_inodes=2 full "$shared/full"
	mount -t tmpfs -o size=64k ro "$shared/ro"
	trap 'umount -l "$shared/full" "$shared/ro" 2>/dev/null; clean_up' EXIT
	echo kept >"$shared/ro/kept"
	mount -o remount,ro "$shared/ro"
	check full_disk_is_enospc full_disk
	check read_only_host_is_erofs read_only_host
fi

# Files that are only remembered are given up; what the guest holds open is bounded by EMFILE or
# ENFILE, and everything works again afterwards.
few_descriptors() {
	i=0
	while [ $i -lt 200 ]; do
		echo $i >"$shared/many$i"
		i=$((i + 1))
	done
	# shellcheck disable=SC3045 # dash has it
	(ulimit -n 100 && expect 0 'sum 19900' in_sandbox '
		s=0
		for r in 1 2 3; do
			s=0; i=0
			while [ $i -lt 200 ]; do read n </shared/many$i; s=$((s + n)); i=$((i + 1)); done
		done
		echo sum $s')
}

held_descriptors() {
	cat >"$shared/hold.py" <<'P'
import errno
held = []
try:
    for i in range(200):
        held.append(open("/shared/many%d" % i, "r+"))
    print("all")
except OSError as e:
    assert e.errno in (errno.EMFILE, errno.ENFILE), e
    print("bounded")
held.clear()
print(open("/shared/many7").read().strip(), "read")
P
	# shellcheck disable=SC3045 # dash has it
	(ulimit -n 100 && expect 0 '7 read' in_sandbox '/usr/bin/python3 /shared/hold.py')
}

check few_descriptors_are_enough_for_many_files few_descriptors
command -v python3 >/dev/null && check short_of_descriptors_is_an_error held_descriptors
exit 0

#!/bin/sh
# Programs that make namespaces, and those that gain rights by a file's set-id bits or capabilities,
# say the same inside the sandbox and on the host.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

if ! unshare -U true 2>/dev/null; then
	echo "skip namespaces - this user makes no user namespaces here"
	exit 0
fi

# as_native FLAG COMMAND: as a shell runs it natively, and inside with the flag
as_native() {
	sh -c "$2" >"$work/native" 2>&1
	"$RUNSC" --root "$root" "$1" do sh -c "$2" >"$work/inside" 2>&1
	diff "$work/native" "$work/inside"
}

same() {
	check "$1" as_native --debug=false "$2"
}

same_suid() {
	check "$1" as_native --allow-suid "$2"
}

nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"

same "unshare -Ur id" "unshare -Ur id"
same "ids without a map" "unshare -U id"
same "a nobody's namespace" "$nobody unshare -Ur sh -c 'id; cat /proc/self/uid_map /proc/self/setgroups'"
same "mounts in a namespace" "unshare -Urm sh -c 'mount -t tmpfs none /mnt && touch /mnt/a && ls /mnt'"
same "ps in namespaces" "unshare -Urpf --mount-proc ps -o pid,user,args"
same "namespaces in namespaces" \
	"unshare -Urpf --mount-proc unshare -Urpf --mount-proc ps -o pid,args"
same "a host name of one's own" "unshare -Uru sh -c 'hostname inner; hostname'"
same "nsenter" "unshare -u sh -c 'hostname inner; sleep 1' & sleep 0.5
	nsenter -t \$! -u hostname; wait"
same "ids mapped by another" "unshare -U sleep 1 & sleep 0.3
	echo '0 100000 10' >/proc/\$!/uid_map; cat /proc/\$!/uid_map; wait"

if command -v bwrap >/dev/null; then
	same "bwrap" "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev \
		sh -c 'id -u; ps -e | wc -l; ls /dev; touch /x; echo >/dev/null'"
	same "bwrap as another user" "bwrap --unshare-all --ro-bind / / --proc /proc \
		--dev /dev --tmpfs /tmp --uid 1000 --gid 1000 --hostname box sh -c 'id -u; hostname'"
	same "a nobody's bwrap" "$nobody bwrap --unshare-user --unshare-pid --unshare-uts \
		--ro-bind / / --proc /proc --dev /dev sh -c 'id -u; cat /proc/self/uid_map'"
fi

dir=$work/programs
chmod 755 "$work"
mkdir "$dir"
cp /usr/bin/id "$dir/uid" && chmod 4755 "$dir/uid"
cp /usr/bin/id "$dir/gid" && chgrp 7 "$dir/gid" && chmod 2755 "$dir/gid"
same_suid "set-user-ID" "$nobody $dir/uid"
same_suid "set-group-ID" "$nobody $dir/gid"
same_suid "set-user-ID without new privileges" "$nobody --no-new-privs $dir/uid"
check "set-user-ID is off by default" expect 1 "" sh -c \
	"'$RUNSC' --root '$root' do $nobody $dir/uid | grep euid"
if command -v setcap >/dev/null; then
	cp /bin/cat "$dir/cat" && setcap cap_dac_read_search+ep "$dir/cat"
	same_suid "file capabilities" "$nobody $dir/cat /etc/shadow | wc -l"
	same_suid "file capabilities set inside" \
		"cp /bin/cat /tmp/c.\$\$ && setcap cap_dac_read_search+ep /tmp/c.\$\$
		$nobody /tmp/c.\$\$ /etc/shadow | wc -l; rm /tmp/c.\$\$"
	check "file capabilities are off by default" expect 1 "Permission denied" \
		"$RUNSC" --root "$root" do sh -c "$nobody $dir/cat /etc/shadow"
fi
if command -v sudo >/dev/null; then
	same_suid "sudo" "echo 'nobody ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/compat
		$nobody sudo -n -l; $nobody sudo -n id; rm /etc/sudoers.d/compat"
fi

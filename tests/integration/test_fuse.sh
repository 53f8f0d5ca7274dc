#!/bin/sh
# File systems of packages, served and used inside: bindfs, squashfuse, fuse-overlayfs, fusermount3.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

# in_box SCRIPT: in an empty directory of a sandbox, with mount points m and n
in_box() {
	runsc --allow-suid "do" sh -ec "mkdir -p /tmp/box/m /tmp/box/n; cd /tmp/box; chmod 755 .; $1"
}

# needs PROGRAM NAME…: true if it is there, else the cases are skipped
needs() {
	program=$1
	shift
	command -v "$program" >/dev/null && return 0
	for case in "$@"; do
		echo "skip $case - no $program"
	done
	return 1
}

if needs bindfs bindfs_passes_files_through bindfs_runs_programs bindfs_ends_with_its_mount; then
	check bindfs_passes_files_through expect 0 "3 hello 600 moved" in_box '
		mkdir src; bindfs src m; echo hello >m/file; chmod 600 m/file; mkdir m/dir; ln -s file m/link
		echo moved >m/dir/old; mv m/dir/old m/dir/new
		echo "$(ls m | wc -l) $(cat src/link) $(stat -c %a src/file) $(cat src/dir/new)"; umount m'
	check bindfs_runs_programs expect 0 "m/ls" in_box '
		mkdir src; bindfs src m; cp /bin/ls m/; m/ls m/ls; umount m'
	check bindfs_large_files_are_the_same expect 0 "same" in_box '
		mkdir src; bindfs src m; head -c 9000000 /dev/urandom >m/big; cmp m/big src/big && echo same; umount m'
	check bindfs_ends_with_its_mount expect 0 "gone" in_box '
		mkdir src; bindfs -f src m & until grep -q /tmp/box/m /proc/mounts; do sleep 0.1; done
		umount m; wait $!; echo gone'
fi

if needs mksquashfs squashfuse_shows_an_image fusermount_serves_users && needs squashfuse squashfuse_shows_an_image; then
	check squashfuse_shows_an_image expect 0 "100 500000 m" in_box '
		mkdir src; seq 100 >src/a; head -c 500000 /dev/urandom >src/b; cp /bin/ls src
		mksquashfs src image -noappend >/dev/null 2>&1; squashfuse image m
		cmp m/b src/b; echo "$(tail -1 m/a) $(stat -c %s m/b) $(m/ls -d m)"; umount m'
	check fusermount_serves_users expect 0 "100 0" in_box '
		mkdir src; seq 100 >src/a; mksquashfs src image -noappend >/dev/null 2>&1; chmod 644 image; chown nobody m
		exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec "
			squashfuse image m; last=\$(tail -1 m/a); fusermount3 -u m; echo \$last \$(grep -c fuse. /proc/mounts || true)"'
	check users_mount_in_their_namespace expect 0 "100" in_box '
		mkdir src; seq 100 >src/a; mksquashfs src image -noappend >/dev/null 2>&1
		unshare -Ur -m sh -ec "squashfuse image m; tail -1 m/a; umount m"'
fi

if needs fuse-overlayfs fuse_overlayfs_merges; then
	check fuse_overlayfs_merges expect 0 "lower changed b c lower" in_box '
		mkdir low up work; echo lower >low/a; echo x >low/c; fuse-overlayfs -o lowerdir=low,upperdir=up,workdir=work m
		was=$(cat m/a); echo changed >m/a; mv m/a m/b; echo "$was $(cat m/b) $(echo $(ls m)) $(cat low/a)"; umount m'
fi

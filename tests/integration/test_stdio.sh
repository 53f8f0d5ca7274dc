#!/bin/sh
# Standard streams that are regular files: their position is the description's, which the host's
# processes share, as a shell and its commands do.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

# same FILE TEXT
same() {
	printf "$2" | cmp - "$1"
}

writes_in_turn() {
	(echo a; runsc do echo b; echo c) >"$work/turn" || return 1
	same "$work/turn" 'a\nb\nc\n' || return 1
	(echo d; runsc do sh -c 'echo e; echo f >&2'; echo g) >>"$work/turn" 2>&1
	same "$work/turn" 'a\nb\nc\nd\ne\nf\ng\n'
}
check output_goes_on_where_the_shell_was writes_in_turn

reads_in_turn() {
	printf '1\n2\n3\n4\n' >"$work/lines"
	(read -r x; runsc do sh -c 'read y; echo $y'; read -r z; echo "$x $z") <"$work/lines" >"$work/read"
	same "$work/read" '2\n1 3\n'
}
check input_goes_on_where_the_guest_was reads_in_turn

both_at_once() {
	: >"$work/both"
	(runsc do sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do echo guest; sleep 0.02; done' &
	 for _ in 1 2 3 4 5 6 7 8 9 10; do echo host; sleep 0.05; done; wait) >"$work/both"
	[ "$(grep -cx guest "$work/both")" = 10 ] && [ "$(grep -cx host "$work/both")" = 10 ]
}
check writers_inside_and_outside_lose_nothing both_at_once

many_appenders() {
	: >"$work/all"
	for _ in 1 2 3 4; do
		runsc do sh -c 'for i in 1 2 3 4 5; do echo line; done' >>"$work/all" &
	done
	wait
	[ "$(grep -cx line "$work/all")" = 20 ]
}
check appenders_lose_nothing many_appenders

positions() {
	runsc do python3 -c '
import os
assert os.write(1, b"0123456789") == 10
assert os.pwrite(1, b"AB", 10) == 2 and os.lseek(1, 0, 1) == 10
assert os.pread(1, 4, 10) == b"AB" and os.lseek(1, 0, 1) == 10
assert os.write(1, b"cd") == 2
os.ftruncate(1, 5)
assert os.fstat(1).st_size == 5 and os.lseek(1, 0, 1) == 12
assert os.lseek(1, 0, 2) == 5
assert os.write(1, b"x" * 3000000) == 3000000
' 1<>"$work/position" || return 1
	[ "$(stat -c %s "$work/position")" = 3000005 ] && [ "$(head -c 6 "$work/position")" = 01234x ]
}
check positions_sizes_and_large_writes positions

guest_appends() {
	runsc do python3 -c '
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETFL, os.O_APPEND)
os.lseek(1, 0, 0)
os.write(1, b"end")
assert os.lseek(1, 0, 1) == 6
' 1<>"$work/append" || return 1
	same "$work/append" 'abcend'
}
printf abc >"$work/append"
check a_guest_may_append guest_appends

#!/bin/sh
# Call sites are patched whatever made the program, and not at all when the flag says so.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

# Calls often, says so, and stays to be asked about it.
cat >"$work/calls.c" <<'X'
#include <errno.h>
#include <unistd.h>
int main(void)
{
	for (int i = 0; i < 20000; i++)
		if (lseek(-1, i, SEEK_SET) != -1 || errno != EBADF)
			return 1;
	write(1, "done\n", 5);
	sleep(1000);
	return 0;
}
X
cat >"$work/calls.go" <<'X'
package main

import (
	"os"
	"syscall"
	"time"
)

func main() {
	for i := 0; i < 20000; i++ {
		if _, err := syscall.Seek(-1, 0, 0); err != syscall.EBADF {
			os.Exit(1)
		}
	}
	os.Stdout.WriteString("done\n")
	time.Sleep(1000 * time.Second)
}
X

# counts ID: what it did, as shell variables
counts() {
	runsc debug --stats "$1" | sed -n 's/^calls from patched sites *\([0-9]*\)$/fast=\1/p
		s/^calls by a trap *\([0-9]*\)$/trapped=\1/p; s/^call sites patched *\([0-9]*\)$/sites=\1/p'
}

# run_calls ID TIMES PROGRAM FLAG…: runs it until it has said that it is done, and takes the counts
run_calls() {
	id=$1 times=$2 program=$3
	shift 3
	bundle "$work/b-$id" "$program" || return 1
	"$RUNSC" --root "$root" "$@" run --detach --bundle "$work/b-$id" "$id" </dev/null >"$work/$id.out" 2>&1
	wait_for 30 sh -c "[ \$(grep -c done '$work/$id.out') -eq $times ]" || { cat "$work/$id.out"; return 1; }
	counts "$id" >"$work/$id.counts"
	cat "$work/$id.counts"
	runsc delete --force "$id"
	fast='' trapped='' sites=''
	# shellcheck disable=SC1090 # three assignments
	. "$work/$id.counts"
}

is_patched() {
	run_calls "$@" && [ "$fast" -gt 15000 ] && [ "$trapped" -lt 4000 ] && [ "$sites" -gt 0 ]
}

is_patched_at_last() {
	run_calls "$@" && [ "$fast" -gt 15000 ] && [ "$sites" -gt 0 ]
}

is_not_patched() {
	run_calls "$@" && [ "$fast" -eq 0 ] && [ "$trapped" -gt 15000 ] && [ "$sites" -eq 0 ]
}

gcc -O1 -o "$work/dynamic" "$work/calls.c"
gcc -O1 -static -no-pie -o "$work/static" "$work/calls.c"
gcc -O1 -static-pie -o "$work/static-pie" "$work/calls.c"
musl-gcc -O1 -static -o "$work/musl" "$work/calls.c"
if command -v go >/dev/null; then
	GO111MODULE=off GOCACHE=$work/go-cache HOME=$work go build -o "$work/go" "$work/calls.go"
fi
sleep 2 # what was written just now is left alone
for kind in dynamic static static-pie musl; do
	check "sites_of_a_${kind}_program_are_patched" is_patched "$kind" 1 "$work/$kind"
done
# It has several threads, and one site for all calls, between whose instructions they may stand.
if [ -x "$work/go" ]; then
	printf '#!/bin/sh\n"%s" & sleep 2; exec "%s"\n' "$work/go" "$work/go" >"$work/twice"
	chmod +x "$work/twice"
	check sites_of_a_go_program_are_patched_from_its_second_start is_patched_at_last go 2 "$work/twice"
fi
check the_flag_turns_patching_off is_not_patched off 1 "$work/dynamic" --systrap-disable-syscall-patching

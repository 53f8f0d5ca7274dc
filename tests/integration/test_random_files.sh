#!/bin/sh
# Random operations on files, the same seed natively and inside on each kind of file system: every
# result and the tree at the end have to agree.  OPERATIONS=1000000 SEED=n for a long run.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

: "${OPERATIONS:=6000}" "${SEED:=1}"
play="/usr/bin/python3 $here/random_ops.py"
mkdir "$work/native" "$work/volume"
# shellcheck disable=SC2086
if ! $play "$work/native" "$SEED" "$OPERATIONS" >"$work/want" 2>"$work/err"; then
	echo "not ok random_files - natively: $(tail -1 "$work/err")"
	exit 0
fi

same() {
	"$@" >"$work/got" 2>"$work/err" || { tail -3 "$work/err"; return 1; }
	diff "$work/want" "$work/got"
}

# shellcheck disable=SC2086
for p in systrap ptrace; do
	rm -rf "$work/volume"
	mkdir "$work/volume"
	check $p/random_files_gofer same "$RUNSC" --root "$root" --platform=$p do --quiet \
		-volume="$work/volume:/mnt" $play /mnt "$SEED" "$OPERATIONS"
	check $p/random_files_overlay same "$RUNSC" --root "$root" --platform=$p do --quiet \
		sh -c "mkdir /var/tmp/play && exec $play /var/tmp/play $SEED $OPERATIONS"
	check $p/random_files_tmpfs same "$RUNSC" --root "$root" --platform=$p do --quiet \
		sh -c "mount -t tmpfs none /mnt && exec $play /mnt $SEED $OPERATIONS"
done

# lib.sh - sourced by the integration tests.  RUNSC and BUILD come from tests/run.
# A case is `check NAME COMMAND …`: ok when the command succeeds.  Messages go to stderr.
# shellcheck shell=sh

set -u
here=$(cd "$(dirname "$0")" && pwd)
: "${RUNSC:=$here/../../build/runsc}" "${BUILD:=$here/../../build/release}"
work=$(mktemp -d "${TMPDIR:-/tmp}/runsc-test.XXXXXX")
root=$work/root
mkdir "$root"
trap 'clean_up' EXIT
trap 'exit 1' INT TERM

clean_up() {
	for id in $("$RUNSC" --root "$root" list -q 2>/dev/null); do
		"$RUNSC" --root "$root" delete --force "$id" 2>/dev/null
	done
	rm -rf "$work"
}

runsc() {
	"$RUNSC" --root "$root" "$@"
}

check() {
	name=$1
	shift
	if "$@" >"$work/out" 2>&1; then
		echo "ok $name"
	else
		status=$?
		echo "not ok $name - exit $status: $(tail -c 200 "$work/out" | tr '\n' ' ')"
	fi
}

# expect STATUS TEXT COMMAND …: exits with STATUS and its output holds TEXT
expect() {
	want=$1 text=$2
	shift 2
	"$@" >"$work/expected" 2>&1
	got=$?
	cat "$work/expected"
	[ "$got" = "$want" ] || { echo "exit $got, not $want"; return 1; }
	[ -z "$text" ] || grep -qF -- "$text" "$work/expected" || { echo "no \"$text\""; return 1; }
}

# bundle DIRECTORY ARGS…: an OCI bundle on the host's own root, read-only below an overlay
bundle() {
	dir=$1
	shift
	mkdir -p "$dir"
	(cd "$dir" && "$RUNSC" spec -- "$@") || return 1
	sed -i 's,"path": *"rootfs","path": "/",; s,"terminal": *true,"terminal": false,' "$dir/config.json"
}

# wait_for SECONDS COMMAND …
wait_for() {
	tries=$(($1 * 20))
	shift
	while ! "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

# Processes of ours that are left: whatever carries this work directory or is our child.
processes_of() {
	pgrep -f "$1" | grep -vx $$
}

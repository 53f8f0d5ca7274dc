# timing.sh - sourced by programs.sh and files.sh, which define `programs` (lines `name [needed]`),
# a function of each name, and, where something has to be made first, prepare_NAME.

work=$(mktemp -d /tmp/bench.XXXXXX)
trap 'rm -rf "$work"' EXIT

wanted() {
	local name=$1 word
	shift
	[ $# = 0 ] && return
	for word; do [[ $name == *"$word"* ]] && return; done
	return 1
}

now() { echo "${EPOCHREALTIME/./}"; }

# Once unmeasured, so that caches are warm, then the median of three; what is named _cold only once.
measure() {
	local name=$1 begin times=() rounds=3 round
	if [[ $name == *_cold ]]; then rounds=1; else "$name" > /dev/null; fi
	for ((round = 0; round < rounds; round++)); do
		begin=$(now)
		"$name" > /dev/null
		times+=($(($(now) - begin)))
	done
	printf '%s %d000\n' "$name" "$(printf '%s\n' "${times[@]}" | sort -n | sed -n $((rounds / 2 + 1))p)"
}

# measure_all [WORD ...]: those whose names contain one of the words
measure_all() {
	programs | while read -r name needs; do
		wanted "$name" "$@" || continue
		[ -z "$needs" ] || command -v "$needs" > /dev/null || continue
		! declare -F "prepare_$name" > /dev/null || "prepare_$name"
		measure "$name" < /dev/null
	done
}

#!/bin/sh
# Terminals: names, sizes, job control, signals from the keyboard.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

b=$work/term
bundle "$b" bash --norc -i
jq '.process.terminal = true' "$b/config.json" >"$work/config.json" &&
	mv "$work/config.json" "$b/config.json"

# on_terminal DIALOGUE: the interactive shell, talked to
on_terminal() {
	n=$((${n:-0} + 1))
	python3 "$here/on_pty.py" "$1" "$RUNSC" --root "$root" run --bundle "$b" "term$n"
}

check shell_exits_with_its_code expect 3 "" on_terminal '# =>exit 3\n'
check tty_has_a_name expect 0 /dev/console on_terminal '# =>tty\n
/dev/console=>exit 0\n'
check size_can_be_set_and_read expect 0 "33 77" on_terminal '# =>stty rows 33 cols 77; stty size\n
33 77=>exit 0\n'
check ctrl_c_interrupts_the_foreground expect 0 "code=130" on_terminal '# =>sh -c "echo g\"o\"; exec sleep 1000"\n
go=>\x03
# =>echo code=$?\n
code=130=>exit 0\n'
check ctrl_z_stops_and_fg_continues expect 0 "again" on_terminal '# =>sh -c "echo g\"o\"; exec cat"\n
go=>\x1a
Stopped=>
# =>fg\n
exec cat=>again\n
again=>\x04
# =>exit 0\n'
check background_reader_is_stopped expect 0 Stopped on_terminal '# =>cat &\n
[1]=>sleep 1; jobs\n
Stopped=>kill %1; wait; exit 0\n'
check dev_tty_is_the_terminal expect 0 "by name" on_terminal '# =>echo by" "name > /dev/tty\n
by name=>exit 0\n'
check pipeline_in_the_foreground expect 0 "n=3" on_terminal '# =>echo n=$(seq 3 | wc -l)\n
n=3=>exit 0\n'
check end_of_file_ends_the_shell expect 0 "" on_terminal '# =>\x04'

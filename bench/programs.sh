#!/bin/bash
# Whole programs, timed from inside: one line each, `name nanoseconds`, as bench/ops.c prints them.
#
# Usage: bench/programs.sh [WORD ...]     those whose names contain one of the words
set -eu
# shellcheck source=bench/timing.sh
. "$(dirname "$0")/timing.sh"

shell_loop() { for ((i = 0; i < 300; i++)); do /bin/true; done; }
pipelines() { for ((i = 0; i < 50; i++)); do echo "line $i" | cat | grep line | wc -l; done; }
python_start() { for ((i = 0; i < 20; i++)); do python3 -c pass; done; }
node_start() { node -e 0; }
find_usr() { find /usr -xdev; }
tar_usr_share() { tar cf - -C /usr share/doc share/perl | cat; }

prepare_c_build() {
	mkdir "$work/c"
	for ((i = 0; i < 60; i++)); do
		printf '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint f%d(int x)\n{\n\tchar b[64];\n\tsnprintf(b, sizeof(b), "%%d", x);\n\treturn (int)strlen(b) + %d;\n}\n' \
			"$i" "$i" > "$work/c/f$i.c"
	done
	{
		echo 'OBJS := $(patsubst %.c,%.o,$(wildcard f*.c))'
		echo 'lib.a: $(OBJS)'
		printf '\tar rcs $@ $^\n'
	} > "$work/c/Makefile"
}
c_build() { make -s -C "$work/c" -B -j2 lib.a; }

prepare_git() {
	[ ! -d "$work/git" ] || return 0
	git init -q "$work/git"
	cd "$work/git"
	git config user.email bench@example.org
	git config user.name bench
	for ((i = 0; i < 40; i++)); do
		mkdir -p "d$i"
		for ((j = 0; j < 25; j++)); do seq "$i" $((i + j * 7)) > "d$i/f$j"; done
		git add -A
		git commit -q -m "commit $i"
	done
	cd /
}
prepare_git_status() { prepare_git; }
prepare_git_log() { prepare_git; }
git_status() { for ((i = 0; i < 5; i++)); do git -C "$work/git" status --short; done; }
git_log() { git -C "$work/git" log -p; }

# On a tmpfs, natively too.
sqlite_transactions() {
	rm -f /dev/shm/bench.db
	{
		echo 'create table t(a integer primary key, b text);'
		for ((i = 0; i < 2000; i++)); do echo "insert into t(b) values('row $i');"; done
	} | sqlite3 /dev/shm/bench.db
	rm -f /dev/shm/bench.db
}

# name [the command that must exist]
programs() {
	cat <<-END
		shell_loop
		pipelines
		python_start python3
		node_start node
		c_build make
		git_status git
		git_log git
		sqlite_transactions sqlite3
		find_usr
		tar_usr_share
	END
}

measure_all "$@"

#!/bin/bash
# What programs do with files, timed from inside as bench/programs.sh: large ones from end to end,
# and many small ones.  /tmp is the root's upper layer, /dev/shm a tmpfs, natively whatever the host
# has there.
#
# Usage: bench/files.sh [WORD ...]     those whose names contain one of the words
set -eu
# shellcheck source=bench/timing.sh
. "$(dirname "$0")/timing.sh"
shm=$(mktemp -d /dev/shm/bench.XXXXXX)
trap 'rm -rf "$work" "$shm"' EXIT
size=256 # MiB

large() { [ -f "$1" ] || dd if=/dev/zero of="$1" bs=1M count=$size status=none; }
prepare_read_64k() { large "$work/large"; }
prepare_read_1m() { large "$work/large"; }
prepare_cat_large() { large "$work/large"; }
prepare_sha256_large() { large "$work/large"; }
prepare_cp_large() { large "$work/large"; }
prepare_shm_read_64k() { large "$shm/large"; }
read_64k() { dd if="$work/large" of=/dev/null bs=64k status=none; }
read_1m() { dd if="$work/large" of=/dev/null bs=1M status=none; }
cat_large() { cat "$work/large"; } # measured into /dev/null
sha256_large() { sha256sum "$work/large"; }
cp_large() { cp "$work/large" "$work/copy"; }
write_64k() { dd if=/dev/zero of="$work/written" bs=64k count=$((size * 16)) status=none; }
write_1m() { dd if=/dev/zero of="$work/written" bs=1M count=$size status=none; }
shm_read_64k() { dd if="$shm/large" of=/dev/null bs=64k status=none; }
shm_write_64k() { dd if=/dev/zero of="$shm/written" bs=64k count=$((size * 16)) status=none; }

prepare_random_4k() { large "$work/large"; }
random_4k() {
	python3 - "$work/large" <<-'END'
		import os, random, sys
		fd = os.open(sys.argv[1], os.O_RDONLY)
		random.seed(1)
		pages = os.fstat(fd).st_size // 4096
		for _ in range(50000):
		    os.pread(fd, 4096, random.randrange(pages) * 4096)
	END
}

# small DIRECTORY FILES: of some hundred bytes, 100 a directory
small() {
	[ ! -d "$1" ] || return 0
	python3 - "$1" "$2" <<-'END'
		import os, sys
		for i in range(int(sys.argv[2])):
		    d = '%s/%d' % (sys.argv[1], i // 100)
		    if i % 100 == 0:
		        os.makedirs(d)
		    with open('%s/%d' % (d, i), 'w') as f:
		        f.write('line of file %d\n' % i * (i % 40 + 1))
	END
}
prepare_grep_small() { small "$work/small" 20000; }
grep_small() { grep -r nowhere "$work/small" || true; }
prepare_tar() { small "$work/tree" 5000; [ -f "$work/tree.tar" ] || tar cf "$work/tree.tar" -C "$work" tree; }
prepare_untar() { prepare_tar; }
prepare_shm_untar() { prepare_tar; }
untar() { rm -rf "$work/un"; mkdir "$work/un"; tar xf "$work/tree.tar" -C "$work/un"; }
shm_untar() { rm -rf "$shm/un"; mkdir "$shm/un"; tar xf "$work/tree.tar" -C "$shm/un"; }

find_usr_cold() { find /usr -xdev; }
du_usr() { du -xs /usr; }
tar_usr_lib() { tar cf - /usr/lib/python3* 2> /dev/null | cat; }
prepare_git_large() {
	small "$work/repository" 20000
	git -C "$work/repository" init -q
	git -C "$work/repository" add -A
	git -C "$work/repository" -c user.email=bench@example.org -c user.name=bench commit -q -m all
}
git_large() { git -C "$work/repository" status --short; }
python_imports() {
	python3 - <<-'END'
		import importlib, sys
		names = sorted(n for n in sys.stdlib_module_names if n[0] not in '_ait')
		done = 0
		for n in names:
		    try:
		        importlib.import_module(n)
		        done += 1
		    except ImportError:
		        pass
		    if done == 100:
		        break
	END
}
apt_simulate() { apt-get --simulate upgrade; }

programs() {
	cat <<-END
		find_usr_cold
		read_64k
		read_1m
		cat_large
		sha256_large
		cp_large
		write_64k
		write_1m
		shm_read_64k
		shm_write_64k
		random_4k python3
		grep_small python3
		untar python3
		shm_untar python3
		du_usr
		tar_usr_lib
		git_large git
		python_imports python3
		apt_simulate apt-get
	END
}

measure_all "$@"

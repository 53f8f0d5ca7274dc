#!/bin/sh
# Real programs on the host's own root, under both platforms, compared with native runs.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

cat >"$work/shell.sh" <<'X'
set -e
trap 'echo trapped' USR1
kill -USR1 $$
printf 'b\na\nc\n' | sort | tr a-z A-Z | tee /tmp/sorted | wc -l
cat <<HERE
here $(cat /tmp/sorted | head -1)
HERE
(exit 5) || echo "status $?"
for i in 1 2 3; do sleep 0.01 & done; wait; echo waited
set -o pipefail; false | true || echo "pipefail"
X
cat >"$work/build.sh" <<'X'
set -e
d=$(mktemp -d) && cd "$d"
printf '#include <stdio.h>\nint f(int);\nint main(void){printf("%%d\\n",f(20));return 0;}\n' >a.c
printf 'int f(int n){return n<2?n:f(n-1)+f(n-2);}\n' >b.c
printf 'all: p\np: a.o b.o\n\tgcc -o $@ $^\n%%.o: %%.c\n\tgcc -O2 -c $<\n' >Makefile
make -s -j2 && ./p
X
cat >"$work/git.sh" <<'X'
set -e
d=$(mktemp -d) && cd "$d"
export HOME=$d GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global user.email a@example.org; git config --global user.name n
git config --global init.defaultBranch main
git init -q r && cd r
for i in 1 2 3; do echo $i >f$i; git add f$i; git commit -qm "commit $i"; done
git log --format=%s; cd .. && git clone -q r copy && git -C copy rev-parse HEAD && git -C copy fsck
X
cat >"$work/archive.sh" <<'X'
set -e
d=$(mktemp -d) && cd "$d"
mkdir in; seq 1 20000 >in/numbers; cp -r /usr/share/doc/libc6 /etc/pam.d in/ 2>/dev/null || true
for z in z J; do
	tar c${z}f a.tar in && mkdir out && tar x${z}f a.tar -C out
	(cd in && find . -type f | sort | xargs sha1sum) >1; (cd out/in && find . -type f | sort | xargs sha1sum) >2
	cmp 1 2 && echo "same $z"; rm -r out a.tar
done
X
cat >"$work/sqlite.sh" <<'X'
set -e
d=$(mktemp -d) && cd "$d"
sqlite3 t.db "pragma journal_mode=wal; create table t(a); with recursive c(n) as (select 1 union all select n+1 from c where n<1000) insert into t select n from c; select sum(a), count(*) from t; pragma integrity_check;"
X
cat >"$work/python.py" <<'X'
import asyncio, ctypes, mmap, multiprocessing, os, sqlite3, subprocess, sys, threading, time


def square(q, n):
    q.put(n * n)


async def children():
    p = await asyncio.create_subprocess_exec("echo", "hi", stdout=subprocess.PIPE)
    out, _ = await p.communicate()
    await asyncio.gather(*[asyncio.sleep(0.01) for _ in range(50)])
    return out


if __name__ == "__main__":
    threads = [threading.Thread(target=time.sleep, args=(0.05,)) for _ in range(100)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print("100 threads")
    q = multiprocessing.Queue()
    ps = [multiprocessing.Process(target=square, args=(q, i)) for i in range(8)]
    [p.start() for p in ps]
    print(sorted(q.get() for _ in ps))
    [p.join() for p in ps]
    print(asyncio.run(children()))
    print(ctypes.CDLL(None).getpid() == os.getpid())
    m = mmap.mmap(-1, 1 << 20)
    if os.fork() == 0:
        m[0:3] = b"xyz"
        os._exit(0)
    os.wait()
    print(m[0:3])
    with multiprocessing.Pool(4) as pool:
        print(sum(pool.map(abs, range(-100, 0))))
    for method in ("fork", "spawn", "forkserver"):
        c = multiprocessing.get_context(method)
        p = c.Process(target=time.sleep, args=(0,))
        p.start()
        p.join()
        print(method, p.exitcode)
    ps = [subprocess.Popen(["sleep", "100"]) for _ in range(300)]
    print(sum(os.path.exists("/proc/%d" % p.pid) for p in ps))
    [p.kill() for p in ps]
    print({p.wait() for p in ps})
    print(sqlite3.connect(":memory:").execute("select 1+1").fetchone())
    b = bytearray(1 << 30)
    for i in range(0, 1 << 30, 4096):
        b[i] = 1
    print(sum(b[::4096]))
X

same() { # PLATFORM COMMAND …: the same output and exit code as natively
	platform=$1
	shift
	"$@" >"$work/native" 2>&1 </dev/null
	native=$?
	timeout 120 "$RUNSC" --root "$root" --platform="$platform" "do" "$@" >"$work/inside" 2>&1 </dev/null
	inside=$?
	diff "$work/native" "$work/inside" && [ $native = $inside ]
}

stream() {
	head -c 1G /dev/zero | tr '\0' x | "$RUNSC" --root "$root" --platform="$1" do cat | sha1sum >"$work/sum"
	head -c 1G /dev/zero | tr '\0' x | sha1sum | cmp - "$work/sum"
}

cat >"$work/hello.go" <<'X'
package main

import (
	"fmt"
	"sync"
)

func main() {
	var wg sync.WaitGroup
	sum := make(chan int, 1000)
	for i := 0; i < 1000; i++ {
		wg.Add(1)
		go func(n int) { defer wg.Done(); sum <- n }(i)
	}
	wg.Wait()
	close(sum)
	t := 0
	for n := range sum {
		t += n
	}
	fmt.Println("hello from go", t)
}
X
command -v go >/dev/null && (cd "$work" && CGO_ENABLED=0 GOCACHE=$work/gocache HOME=$work go build -o hello hello.go) >&2

for p in ${PLATFORMS:-systrap ptrace}; do
	check $p/shell same $p bash "$work/shell.sh"
	check $p/coreutils same $p sh -c 'seq 1 1000 | sha256sum; stat -c %s /bin/true; ls -ld / /usr | cut -c1-10; expr 6 \* 7; date -d @0 -u; factor 360; basename /a/b; head -c 3 /etc/passwd | od -c'
	check $p/build same $p sh "$work/build.sh"
	check $p/git same $p sh "$work/git.sh"
	check $p/archives same $p bash "$work/archive.sh"
	check $p/sqlite_wal same $p sh "$work/sqlite.sh"
	check $p/python same $p /usr/bin/python3 "$work/python.py"
	check $p/perl same $p perl -e 'my $p = fork; if (!$p) { exit 3 } waitpid $p, 0; print $? >> 8, "\n"; print join(",", sort { $b <=> $a } 1..5), "\n"'
	check $p/node same $p node -e 'setTimeout(() => console.log(require("child_process").execSync("echo from node").toString()), 10)'
	check $p/static_busybox same $p /bin/busybox sh -c 'echo static | busybox tr a-z A-Z'
	[ -x "$work/hello" ] && check $p/static_go same $p "$work/hello"
	check $p/stream_of_1_GiB stream $p
done
check find_equals_native sh -c "[ \$(find /usr -xdev | wc -l) = \$('$RUNSC' --root '$root' do sh -c 'find /usr -xdev | wc -l') ]"

#!/bin/sh
# strace and gdb on programs, all inside the sandbox, under both platforms.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

cat >"$work/prog.c" <<'X'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int total;

int add(int a, int b)
{
	total += a;
	return a + b;
}

void *work(void *arg)
{
	usleep(10000);
	write(1, arg, 2);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t th[2];

	printf("sum %d\n", add(1, 2));
	fflush(stdout);
	for (int i = 0; i < 2; i++)
		pthread_create(&th[i], NULL, work, "w\n");
	for (int i = 0; i < 2; i++)
		pthread_join(th[i], NULL);
	if (argc > 1)
		sleep(atoi(argv[1]));
	if (fork() == 0)
		_exit(3);
	int status;
	wait(&status);
	return WEXITSTATUS(status) + add(3, 0) - 6;
}
X
gcc -g -O0 -pthread -w -o "$work/prog" "$work/prog.c" || exit 1
cat >"$work/crash.c" <<'X'
#include <pthread.h>
#include <string.h>
#include <unistd.h>

char word[32];

void *rest(void *arg)
{
	for (;;)
		pause();
}

void fall_over(int *where)
{
	*where = 1;
}

int main(void)
{
	pthread_t th;

	strcpy(word, "left in the core");
	pthread_create(&th, NULL, rest, NULL);
	usleep(50000);
	fall_over((int *)16);
}
X
gcc -g -O0 -pthread -w -o "$work/crash" "$work/crash.c" || exit 1
cat >"$work/commands" <<'X'
break add
run
bt
info registers rip
finish
delete
print total
print add(10, 20)
continue
X

inside() { # PLATFORM COMMAND …
	platform=$1
	shift
	timeout 120 "$RUNSC" --root "$root" --platform="$platform" "do" "$@" </dev/null
}

gdb_attach="$work/prog 2 & sleep 0.5; gdb -batch -p \$! -ex bt -ex 'info threads' -ex detach; wait \$!"
core="cd \$(mktemp -d); ulimit -c unlimited; $work/crash; gdb -batch -ex bt -ex 'p word'"
core="$core -ex 'thread apply all bt' $work/crash core"
core_pattern="cd \$(mktemp -d); echo '/tmp/%e.%p.%s' >/proc/sys/kernel/core_pattern"
core_pattern="$core_pattern; ulimit -c unlimited; $work/crash; ls /tmp/crash.*.11"
strace_attach="$work/prog 2 & sleep 0.5; timeout 1 strace -f -p \$!; wait \$!"

for p in systrap ptrace; do
	if command -v strace >/dev/null; then
		check "$p/strace_follows_threads_and_forks" \
			expect 0 'exited with 3' inside $p strace -f "$work/prog"
		check "$p/strace_shows_calls" \
			expect 0 'write(1, "sum 3\n", 6' inside $p strace -f "$work/prog"
		check "$p/strace_counts" expect 0 '100.00' inside $p strace -c ls /
		check "$p/strace_by_seccomp" \
			expect 0 'openat(AT_FDCWD' inside $p strace -f --seccomp-bpf -e openat ls /
		check "$p/strace_attaches" expect 0 'restart_syscall' inside $p sh -c "$strace_attach"
	else
		echo "skip $p/strace - not installed"
	fi
	check "$p/core_pattern_names_the_core" \
		expect 0 '/tmp/crash.' inside $p sh -c "$core_pattern"
	if command -v gdb >/dev/null; then
		check "$p/gdb_breaks_and_calls" \
			expect 0 '= 30' inside $p gdb -batch -x "$work/commands" "$work/prog"
		check "$p/gdb_finishes" \
			expect 0 'Value returned is $1 = 3' inside $p gdb -batch -x "$work/commands" \
			"$work/prog"
		check "$p/gdb_sees_threads" \
			expect 0 'work (arg=' inside $p gdb -batch -ex 'break work' -ex run -ex bt \
			-ex 'info threads' "$work/prog"
		check "$p/gdb_opens_a_core" expect 0 'fall_over (where=0x10)' inside $p sh -c "$core"
		check "$p/gdb_finds_memory_in_a_core" \
			expect 0 'left in the core' inside $p sh -c "$core"
		check "$p/gdb_finds_threads_in_a_core" expect 0 'rest (arg=' inside $p sh -c "$core"
		check "$p/gdb_attaches" expect 0 'in main (' inside $p sh -c "$gdb_attach"
	else
		echo "skip $p/gdb - not installed"
	fi
done

/* Debug registers by ptrace: breakpoints and watchpoints.  ptrace(2), PTRACE_POKEUSER. */
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "tests/compat/compat.h"

#define DR(n) offsetof(struct user, u_debugreg[n])

static volatile long watched, other;

__attribute__((noinline, noclone)) static void place(void)
{
	__asm__ volatile("" ::: "memory");
}

static void work(void)
{
	for (int i = 0; i < 3; i++) {
		other++;
		(void)getppid();
		watched += 5;
		place();
	}
}

static pid_t traced(void)
{
	int status;
	pid_t pid = (pid_t)EXPECT_OK(fork());

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		work();
		_exit(7);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	return pid;
}

static void poke(pid_t pid, int n, uint64_t v)
{
	EXPECT_OK(ptrace(PTRACE_POKEUSER, pid, DR(n), v));
}

/* Goes on to the next stop; false: it ended. */
static bool go_on(pid_t pid)
{
	int status;

	EXPECT_OK(ptrace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status)) {
		EXPECT_EQ(WEXITSTATUS(status), 7);
		return false;
	}
	EXPECT(WIFSTOPPED(status));
	EXPECT_EQ(WSTOPSIG(status), SIGTRAP);
	return true;
}

TEST(ptrace_debug_registers_refuse_nonsense)
{
	pid_t pid = traced();

	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(4), 1), EIO);
	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(5), 1), EIO);
	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(0), -1UL), EINVAL);
	/* A breakpoint is one byte long; ports are not to be watched. */
	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(7), 1 | 3 << 18), EINVAL);
	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(7), 1 | 2 << 16), EINVAL);
	poke(pid, 0, (uintptr_t)&watched + 1);
	EXPECT_ERRNO(ptrace(PTRACE_POKEUSER, pid, DR(7), 1 | 1 << 16 | 3 << 18), EINVAL);
	kill(pid, SIGKILL);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(ptrace_hardware_breakpoints_stop)
{
	struct user_regs_struct regs;
	siginfo_t info;
	pid_t pid = traced();
	int n = 0;

	poke(pid, 0, (uintptr_t)place);
	poke(pid, 7, 1);
	while (go_on(pid)) {
		n++;
		EXPECT_OK(ptrace(PTRACE_GETREGS, pid, 0, &regs));
		EXPECT_EQ(regs.rip, (uintptr_t)place);
		EXPECT_EQ(ptrace(PTRACE_PEEKUSER, pid, DR(6), 0) & 15, 1);
		EXPECT_OK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info));
		EXPECT_EQ(info.si_code, 4 /* TRAP_HWBKPT */);
		poke(pid, 6, 0);
	}
	EXPECT_EQ(n, 3);
}

TEST(ptrace_hardware_watchpoints_stop)
{
	pid_t pid = traced();
	long was = 0;
	int n = 0;

	poke(pid, 1, (uintptr_t)&watched);
	poke(pid, 7, 1 << 2 | 1 << 20 | 2 << 22);
	while (go_on(pid)) {
		n++;
		errno = 0;
		long v = ptrace(PTRACE_PEEKDATA, pid, &watched, 0);
		EXPECT_EQ(errno, 0);
		EXPECT_EQ(v, was + 5);
		was = v;
		EXPECT_EQ(ptrace(PTRACE_PEEKUSER, pid, DR(6), 0) & 15, 2);
		poke(pid, 6, 0);
	}
	EXPECT_EQ(n, 3);
}

TEST(ptrace_hardware_watchpoints_are_turned_off)
{
	pid_t pid = traced();

	poke(pid, 1, (uintptr_t)&watched);
	poke(pid, 7, 1 << 2 | 1 << 20 | 2 << 22);
	EXPECT(go_on(pid));
	poke(pid, 7, 0);
	EXPECT(!go_on(pid));
}

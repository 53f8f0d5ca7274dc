/* What the tests of PID namespaces share. */
#pragma once

#include <sched.h>

#include "compat.h"

#define CLONE_FLAG_NEWPID 0x20000000UL
#define CLONE_FLAG_NEWNS 0x00020000UL
#define CLONE_FLAG_PARENT 0x00008000UL

/* What a child saw, in memory that it shares with the test. */
static inline volatile int *shared(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static inline int fork_with(unsigned long flags)
{
	return (int)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

/* The init of a new namespace: 0 there, its number here. */
static inline int new_init(void)
{
	int pid = fork_with(CLONE_FLAG_NEWPID);

	if (pid < 0 && errno == EPERM)
		test_skip("no right to make PID namespaces");
	EXPECT(pid >= 0);
	return pid;
}

static inline int wait_status(int pid)
{
	int status;

	EXPECT_EQ(EXPECT_OK(waitpid(pid, &status, 0)), pid);
	return status;
}

static inline void wait_exited(int pid, int code)
{
	int status = wait_status(pid);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		FAIL("status %#x, not exit %d", status, code);
}

static inline void wait_killed(int pid, int sig)
{
	int status = wait_status(pid);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != sig)
		FAIL("status %#x, not signal %d", status, sig);
}

static inline void wait_for(volatile int *word, int value)
{
	for (int i = 0; i < 2000 && *word != value; i++)
		test_sleep_ms(1);
	EXPECT_EQ(*word, value);
}

#define CHECK(cond)                                \
	do {                                       \
		if (!(cond))                       \
			_exit(__LINE__ % 250 + 1); \
	} while (0)

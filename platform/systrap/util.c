#include "platform/systrap/internal.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int64_t st_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 * NS_PER_MS + t.tv_nsec;
}

void st_futex_wait(void *word, uint32_t val, int64_t timeout_ns)
{
	struct timespec t = {timeout_ns / (1000 * NS_PER_MS), timeout_ns % (1000 * NS_PER_MS)};

	syscall(SYS_futex, word, FUTEX_WAIT, val, timeout_ns < 0 ? NULL : &t, NULL, 0);
}

void st_futex_wake(void *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

#include "platform/platform.h"

#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>

#include "sentry/abi/futex.h"

const struct platform_ops *const platforms[] = {&platform_systrap, &platform_ptrace, NULL};

const struct platform_ops *platform_lookup(const char *name)
{
	for (const struct platform_ops *const *p = platforms; *p; p++)
		if (!strcmp((*p)->name, name))
			return *p;
	return NULL;
}

static bool passes_futex(uint32_t op)
{
	if (op & ~(uint32_t)(0x7f | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME))
		return false;
	switch (op & FUTEX_CMD_MASK) {
	case FUTEX_WAIT:
	case FUTEX_WAIT_BITSET:
	case FUTEX_REQUEUE:
	case FUTEX_CMP_REQUEUE:
	case FUTEX_WAKE:
	case FUTEX_WAKE_OP:
	case FUTEX_WAKE_BITSET:
		return true;
	}
	return false;
}

static bool passes_membarrier(uint32_t cmd)
{
	switch (cmd) {
	case MEMBARRIER_CMD_QUERY:
	case MEMBARRIER_CMD_PRIVATE_EXPEDITED:
	case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED:
	case MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE:
	case MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE:
		return true;
	}
	return false;
}

bool platform_passes(const struct arch_regs *regs)
{
	switch ((uint32_t)regs->orig_rax) {
	case SYS_futex:
		return passes_futex((uint32_t)regs->rsi);
	case SYS_membarrier:
		return passes_membarrier((uint32_t)regs->rdi);
	case SYS_sched_yield:
	case SYS_rseq:
	case LINUX_SYS_futex_waitv:
	case LINUX_SYS_futex_wake:
	case LINUX_SYS_futex_wait:
	case LINUX_SYS_futex_requeue:
		return true;
	}
	return false;
}

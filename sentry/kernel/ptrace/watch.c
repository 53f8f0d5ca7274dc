/*
 * Debug registers.  The processor's own are the host's, so a traced thread that has breakpoints or
 * write watchpoints in its registers is single-stepped, and looked at after each instruction.  A
 * write that leaves the value as it was is not seen, nor are reads: those cannot be watched.
 * Source: the Intel manual, volume 3, "Debug registers"; ptrace(2).
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/task.h"

#define NPLACES 4

enum watch_kind { WATCH_EXEC, WATCH_WRITE, WATCH_IO, WATCH_ACCESS };

static bool is_enabled(uint64_t dr7, unsigned n)
{
	return dr7 >> (2 * n) & 3;
}

static enum watch_kind kind_of(uint64_t dr7, unsigned n)
{
	return (enum watch_kind)(dr7 >> (16 + 4 * n) & 3);
}

static size_t length_of(uint64_t dr7, unsigned n)
{
	static const uint8_t lengths[] = {1, 2, 8, 4};

	return lengths[dr7 >> (18 + 4 * n) & 3];
}

static uint64_t value_at(struct mm *mm, uint64_t addr, size_t len)
{
	const struct umem um = {.mm = mm};
	uint64_t v = 0;

	(void)copy_in_partial(&um, &v, UADDR(addr), len);
	return v;
}

/* What is there now is what a write would change. */
static void refresh(struct task *t, struct mm *mm)
{
	struct trace *tr = &t->trace;
	uint64_t dr7 = tr->debugreg[7];

	for (unsigned n = 0; n < NPLACES; n++)
		if (is_enabled(dr7, n) && kind_of(dr7, n) == WATCH_WRITE)
			tr->watched[n] = value_at(mm, tr->debugreg[n], length_of(dr7, n));
}

static int check_place(const struct task *t, uint64_t dr7, unsigned n)
{
	size_t len = length_of(dr7, n);

	switch (kind_of(dr7, n)) {
	case WATCH_EXEC:
		return len == 1 ? 0 : -EINVAL;
	case WATCH_WRITE:
		return t->trace.debugreg[n] & (len - 1) ? -EINVAL : 0;
	case WATCH_ACCESS:
		return -ENOSPC;
	default:
		return -EINVAL;
	}
}

long ptrace_set_debugreg(struct task *target, unsigned n, uint64_t word)
{
	if (n == 4 || n == 5)
		return -EIO;
	if (n < NPLACES && word >= target->k->pf->ops->limits(target->k->pf)->task_size)
		return -EINVAL;
	for (unsigned i = 0; n == 7 && i < NPLACES; i++) {
		int err = is_enabled(word, i) ? check_place(target, word, i) : 0;
		if (err)
			return err;
	}
	target->trace.debugreg[n] = word;
	return 0;
}

bool ptrace_watches(const struct task *t)
{
	return t->trace.debugreg[7] & 0xff && task_is_traced(t);
}

void ptrace_watch_begin(struct task *t)
{
	if (!t->trace.watch_goes_on && ptrace_watches(t))
		refresh(t, t->mm);
	t->trace.watch_goes_on = false;
}

int ptrace_watch_step(struct task *t, int code)
{
	struct trace *tr = &t->trace;
	const struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	uint64_t dr7 = tr->debugreg[7], hits = 0;

	/* A trap flag that is still there is the program's own. */
	if (code != TRAP_TRACE || !ptrace_watches(t) || regs->eflags & ARCH_EFLAGS_TF)
		return code;
	for (unsigned n = 0; n < NPLACES; n++) {
		if (!is_enabled(dr7, n))
			continue;
		if (kind_of(dr7, n) == WATCH_EXEC) {
			hits |= (uint64_t)(regs->rip == tr->debugreg[n]) << n;
			continue;
		}
		uint64_t v = value_at(t->mm, tr->debugreg[n], length_of(dr7, n));
		hits |= (uint64_t)(v != tr->watched[n]) << n;
		tr->watched[n] = v;
	}
	tr->debugreg[6] |= hits;
	if (atomic_load(&tr->step))
		return code;
	tr->watch_goes_on = !hits;
	return hits ? TRAP_HWBKPT : 0;
}

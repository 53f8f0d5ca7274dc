/* What a tracer does to a task that is stopped. */
#include <errno.h>
#include <string.h>

#include "sentry/arch/xstate.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"

static void let_run(struct task *target, int signo) REQUIRES(lc_tasks)
{
	target->trace.resume_signal = signo;
	target->trace.unreported = false;
	atomic_store(&target->trace.stopped, false);
	task_wake(target);
}

long ptrace_resume(struct task *target, enum trace_mode mode, bool step, int signo)
{
	long ret = -ESRCH;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (atomic_load(&target->trace.stopped)) {
		atomic_store(&target->trace.mode, mode);
		atomic_store(&target->trace.step, step);
		let_run(target, signo);
		ret = 0;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long ptrace_listen(struct task *target)
{
	struct trace *tr = &target->trace;
	long ret = -EIO;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tr->seized && atomic_load(&tr->stopped) && tr->code >> 8 == PTRACE_EVENT_STOP) {
		atomic_store(&tr->listening, true);
		let_run(target, 0);
		ret = 0;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

long ptrace_interrupt(struct task *target)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool seized = target->trace.seized;
	if (seized) {
		mutex_lock(&target->tg->siglock, &lc_signal);
		atomic_store(&target->trace.trap_wanted, true);
		signal_kick_locked(target);
		mutex_unlock(&target->tg->siglock, &lc_signal);
		task_wake(target); /* one that listens */
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return seized ? 0 : -EIO;
}

long ptrace_detach(struct task *target, int signo)
{
	long ret = -ESRCH;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (atomic_load(&target->trace.stopped)) {
		target->trace.resume_signal = signo;
		target->trace.unreported = false;
		trace_unlink(target);
		ret = 0;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

/* ---- registers ---- */

/* Its registers are ours until use_end(). */
static struct p_thread *use_begin(struct task *target) NO_LOCK_ANALYSIS
{
	struct p_thread *pt = NULL;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (atomic_load(&target->trace.stopped) && (pt = target->pt))
		mutex_lock(&target->trace.lock, &lc_trace);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return pt;
}

static void use_end(struct task *target) NO_LOCK_ANALYSIS
{
	mutex_unlock(&target->trace.lock, &lc_trace);
}

long ptrace_get_regs(struct task *target, struct arch_regs *out)
{
	struct p_thread *pt = use_begin(target);

	if (!pt)
		return -ESRCH;
	*out = *target->k->pf->ops->regs(pt);
	use_end(target);
	return 0;
}

long ptrace_set_regs(struct task *target, const struct arch_regs *in)
{
	uint64_t top = target->k->pf->ops->limits(target->k->pf)->task_size;

	if ((in->cs & 0xffff) != ARCH_USER_CS || (in->ss & 0xffff) != ARCH_USER_DS ||
	    in->fs_base >= top || in->gs_base >= top || in->rip >= top)
		return -EIO;
	struct p_thread *pt = use_begin(target);
	if (!pt)
		return -ESRCH;
	struct arch_regs *regs = target->k->pf->ops->regs(pt);
	*regs = *in;
	regs->cs = ARCH_USER_CS;
	regs->ss = ARCH_USER_DS;
	regs->ds = regs->es = regs->fs = regs->gs = 0;
	regs->eflags = (in->eflags & ARCH_EFLAGS_USER) | ARCH_EFLAGS_FIXED;
	use_end(target);
	return 0;
}

static struct xstate_format format_of(struct task *target)
{
	const struct p_limits *l = target->k->pf->ops->limits(target->k->pf);

	return (struct xstate_format){.size = MIN(l->xstate_size, (size_t)ARCH_XSTATE_MAX),
				      .mask = l->xstate_mask};
}

long ptrace_get_xstate(struct task *target, uint8_t *area)
{
	struct xstate_format fmt = format_of(target);
	struct p_thread *pt = use_begin(target);

	if (!pt)
		return -ESRCH;
	int err = target->k->pf->ops->xstate_get(pt, area, fmt.size);
	use_end(target);
	/* Debuggers learn from here which components there are. */
	if (!err)
		memcpy(area + ARCH_XSTATE_SW_BYTES, &fmt.mask, sizeof(fmt.mask));
	return err;
}

long ptrace_set_xstate(struct task *target, uint8_t *area)
{
	struct xstate_format fmt = format_of(target);

	memset(area + ARCH_XSTATE_SW_BYTES, 0, XSTATE_LEGACY_SIZE - ARCH_XSTATE_SW_BYTES);
	int err = xstate_check(&fmt, area);
	if (err)
		return err;
	struct p_thread *pt = use_begin(target);
	if (!pt)
		return -ESRCH;
	err = target->k->pf->ops->xstate_set(pt, area, fmt.size);
	use_end(target);
	return err;
}

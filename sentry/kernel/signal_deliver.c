/* The way back to guest code: stops, default actions, handlers, restarts, and rt_sigreturn. */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/core/core.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"

struct delivery {
	int signo;
	ksiginfo info;
	struct ksigaction action;
};

/* ---- group stop ---- */

/* Under siglock: have all threads that live on stopped?  Then the stop is complete. */
static bool stop_complete(struct thread_group *tg) REQUIRES(lc_signal)
{
	struct task *t;

	if (tg->stop_state != STOP_PENDING)
		return false;
	list_for_each (t, &tg->threads, thread_link)
		if (!t->stopped && !t->sig_exiting)
			return false;
	tg->stop_state = STOP_STOPPED;
	tg->stop_unreported = true;
	tg->cont_unreported = false;
	return true;
}

static void stop_begin(struct thread_group *tg, int signo) REQUIRES(lc_signal)
{
	struct task *t;

	tg->stop_state = STOP_PENDING;
	tg->stop_signo = signo;
	tg->stop_notify = 0;
	list_for_each (t, &tg->threads, thread_link) {
		t->trace.stop_seen = false;
		signal_kick_locked(t);
	}
}

/* Waits for the end of the stop.  Called and returns with siglock held, which it drops. */
static void stop_wait(struct task *t) REQUIRES(lc_signal)
{
	struct thread_group *tg = t->tg;

	t->stopped = true;
	signal_recalc(t);
	if (stop_complete(tg)) {
		int signo = tg->stop_signo;
		mutex_unlock(&tg->siglock, &lc_signal);
		task_notify_parent_stop(tg, CLD_STOPPED, signo);
		mutex_lock(&tg->siglock, &lc_signal);
	}
	while (tg->stop_state != STOP_NONE && !t->trace.stop_seen && !task_must_die(t)) {
		mutex_unlock(&tg->siglock, &lc_signal);
		if (task_is_traced(t)) {
			ptrace_group_stop(t);
			mutex_lock(&tg->siglock, &lc_signal);
			t->trace.stop_seen = task_is_traced(t) && tg->stop_state != STOP_NONE;
			continue;
		}
		/* The token or the end of the task: both are what the loop looks at. */
		(void)!task_park(t, TASK_STOPPED, TIME_NEVER);
		mutex_lock(&tg->siglock, &lc_signal);
	}
	t->stopped = false;
	signal_recalc(t);
}

void signal_task_exit(struct task *t)
{
	struct thread_group *tg = t->tg;

	mutex_lock(&tg->siglock, &lc_signal);
	t->sig_exiting = true;
	sigqueue_flush(&t->pending);
	signal_retarget(t, ~t->mask);
	bool stopped = !atomic_load(&tg->exiting) && stop_complete(tg);
	int signo = tg->stop_signo;
	mutex_unlock(&tg->siglock, &lc_signal);
	if (stopped)
		task_notify_parent_stop(tg, CLD_STOPPED, signo);
}

/* SIGTTIN, SIGTTOU and SIGTSTP do nothing to a group that nobody could continue (setpgid(2)). */
static bool stop_is_void(struct task *t, int signo)
{
	if (signo == SIGSTOP)
		return false;
	mutex_lock(&t->k->tasks_lock, &lc_tasks);
	bool orphaned = pgrp_is_orphaned(t->tg->pgid);
	mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	return orphaned;
}

/* ---- choosing what to do ---- */

enum next { NEXT_NONE, NEXT_HANDLER, NEXT_DIE };

/* Applies one signal that was taken from the queues.  Under siglock, which it may drop. */
static enum next act_on(struct task *t, struct delivery *d) REQUIRES(lc_signal)
{
	struct thread_group *tg = t->tg;
	struct ksigaction *a = &tg->sighand->action[d->signo - 1];
	sigset_k bit = SIG_BIT(d->signo);

	if (a->handler > LINUX_SIG_IGN) {
		d->action = *a;
		if (a->flags & (uint32_t)SA_RESETHAND)
			a->handler = LINUX_SIG_DFL;
		return NEXT_HANDLER;
	}
	if (ksigaction_ignores(a, d->signo))
		return NEXT_NONE;
	if (signal_protected(tg, &d->info, true))
		return NEXT_NONE;
	if (bit & SIG_SET_STOP) {
		tg->stop_dequeued = true;
		mutex_unlock(&tg->siglock, &lc_signal);
		bool is_void = stop_is_void(t, d->signo);
		mutex_lock(&tg->siglock, &lc_signal);
		/* A SIGCONT in between has the last word. */
		if (!is_void && tg->stop_dequeued && tg->stop_state == STOP_NONE &&
		    !atomic_load(&tg->exiting))
			stop_begin(tg, d->signo);
		return NEXT_NONE;
	}
	if (bit & SIG_SET_CORE) {
		mutex_unlock(&tg->siglock, &lc_signal);
		core_dump(t, &d->info);
		mutex_lock(&tg->siglock, &lc_signal);
	} else {
		signal_group_exit_locked(tg, d->signo);
	}
	return NEXT_DIE;
}

/* The next thing that this task has to do on its way out. */
static enum next next_action(struct task *t, struct delivery *d)
{
	struct thread_group *tg = t->tg;
	enum next ret = NEXT_NONE;

	mutex_lock(&tg->siglock, &lc_signal);
	while (ret == NEXT_NONE) {
		if (tg->stop_notify) {
			int code = tg->stop_notify;
			int signo = code == CLD_CONTINUED ? SIGCONT : tg->stop_signo;
			tg->stop_notify = 0;
			mutex_unlock(&tg->siglock, &lc_signal);
			task_notify_parent_stop(tg, code, signo);
			mutex_lock(&tg->siglock, &lc_signal);
			continue;
		}
		if (task_must_die(t)) {
			ret = NEXT_DIE;
			break;
		}
		if (atomic_exchange(&t->trace.trap_wanted, false)) {
			mutex_unlock(&tg->siglock, &lc_signal);
			ptrace_trap(t);
			mutex_lock(&tg->siglock, &lc_signal);
			continue;
		}
		if (tg->stop_state != STOP_NONE && !t->trace.stop_seen) {
			stop_wait(t);
			continue;
		}
		d->signo = signal_dequeue_locked(t, ~t->mask, &d->info);
		if (!d->signo)
			break;
		if (task_is_traced(t)) {
			mutex_unlock(&tg->siglock, &lc_signal);
			d->signo = ptrace_signal(t, d->signo, &d->info);
			mutex_lock(&tg->siglock, &lc_signal);
			if (!d->signo)
				continue;
		}
		ret = act_on(t, d);
	}
	mutex_unlock(&tg->siglock, &lc_signal);
	return ret;
}

/* ---- interrupted system calls ---- */

/* Is there a restart code?  Then 0 < code. */
static int restart_code(const struct arch_regs *regs)
{
	int64_t code = -(int64_t)regs->rax;

	if ((int64_t)regs->orig_rax < 0)
		return 0;
	return code == ERESTARTSYS || code == ERESTARTNOINTR || code == ERESTARTNOHAND ||
			       code == ERESTART_RESTARTBLOCK
		       ? (int)code
		       : 0;
}

static void restart(struct arch_regs *regs, uint64_t nr)
{
	regs->rax = nr;
	regs->rip -= ARCH_SYSCALL_INSN_LEN;
	regs->orig_rax = ~0ULL;
}

/* No handler runs: whatever code it was, the call goes on as if nothing had happened. */
static void restart_silently(struct arch_regs *regs)
{
	int code = restart_code(regs);

	if (code)
		restart(regs, code == ERESTART_RESTARTBLOCK ? SYS_restart_syscall : regs->orig_rax);
}

/* A handler is about to run: signal(7), "Interruption of system calls". */
static void restart_or_fail(struct arch_regs *regs, uint64_t sa_flags)
{
	int code = restart_code(regs);

	if (code == ERESTARTNOINTR || (code == ERESTARTSYS && (sa_flags & SA_RESTART)))
		restart(regs, regs->orig_rax);
	else if (code)
		regs->rax = (uint64_t)-EINTR;
	regs->orig_rax = ~0ULL;
}

/* ---- handlers ---- */

#define FRAME_GAP_MAX (64 + 16)

static struct xstate_format xstate_format(struct task *t)
{
	const struct p_limits *l = t->k->pf->ops->limits(t->k->pf);

	return (struct xstate_format){.size = MIN(l->xstate_size, (size_t)ARCH_XSTATE_MAX),
				      .mask = l->xstate_mask};
}

static int push_frame(struct task *t, struct arch_regs *regs, const struct delivery *d)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct xstate_format fmt = xstate_format(t);
	struct linux_stack alt = signal_altstack(t);
	struct sigframe_place place;
	struct linux_rt_sigframe frame;
	struct sigframe_fault fault = {t->fault_trapno, t->fault_error, t->fault_cr2};
	uint8_t buf[sizeof(frame) + FRAME_GAP_MAX + ARCH_XSTATE_MAX + LINUX_FP_XSTATE_MAGIC2_SIZE];

	if (!(d->action.flags & 0x04000000 /* SA_RESTORER */))
		return -EFAULT;
	int err = sigframe_locate(regs->rsp, d->action.flags & SA_ONSTACK, &alt,
				  xstate_frame_size(&fmt), &place);
	if (err)
		return err;

	/* Frame and state go out in one piece: what lies between is alignment. */
	uint64_t fp_off = place.fpstate - place.frame;
	memset(buf, 0, fp_off);
	err = ops->xstate_get(t->pt, buf + fp_off, fmt.size);
	if (err)
		return err;
	xstate_export(&fmt, buf + fp_off);
	sigframe_fill(&frame, regs, &place, d->action.restorer,
		      t->has_saved_mask ? t->saved_mask : t->mask, &alt, &fault, &d->info);
	memcpy(buf, &frame, sizeof(frame));
	err = copy_out(&t->um, UADDR(place.frame), buf, fp_off + xstate_frame_size(&fmt));
	if (!err)
		sigframe_enter_handler(regs, &place, d->action.handler, d->signo);
	return err;
}

/* The frame could not be built: SIGSEGV, and when it was about that one, for good. */
static void frame_failed(struct task *t, int signo)
{
	ksiginfo info;

	signal_info_kernel(&info, SIGSEGV);
	if (signo == SIGSEGV) {
		mutex_lock(&t->tg->siglock, &lc_signal);
		t->tg->sighand->action[SIGSEGV - 1].handler = LINUX_SIG_DFL;
		mutex_unlock(&t->tg->siglock, &lc_signal);
	}
	signal_force(t, &info);
}

static void deliver(struct task *t, struct arch_regs *regs, const struct delivery *d)
{
	restart_or_fail(regs, d->action.flags);
	if (push_frame(t, regs, d)) {
		frame_failed(t, d->signo);
		return;
	}
	t->has_saved_mask = false;
	sigset_k mask = t->mask | d->action.mask;
	if (!(d->action.flags & SA_NODEFER))
		mask |= SIG_BIT(d->signo);
	signal_set_mask(t, mask);
	if ((uint32_t)t->altstack.flags & LINUX_SS_AUTODISARM)
		t->altstack = (struct sigaltstack_k){.flags = SS_DISABLE};
	ptrace_step_into_handler(t);
}

bool signal_deliver(struct task *t)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	struct delivery d;

	for (;;) {
		switch (next_action(t, &d)) {
		case NEXT_HANDLER:
			deliver(t, regs, &d);
			continue;
		case NEXT_DIE:
			return false;
		case NEXT_NONE:
			break;
		}
		restart_silently(regs);
		if (!t->has_saved_mask)
			return true;
		/* What the temporary mask held back may be deliverable now. */
		signal_restore_saved_mask(t);
	}
}

/* ---- rt_sigreturn(2) ---- */

static int restore_xstate(struct task *t, uint64_t fpstate)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct xstate_format fmt = xstate_format(t);
	uint8_t frame[ARCH_XSTATE_MAX + LINUX_FP_XSTATE_MAGIC2_SIZE];
	uint8_t image[ARCH_XSTATE_MAX];

	if (!fpstate)
		return ops->xstate_reset(t->pt);
	if (fpstate % 64)
		return -EINVAL; /* XRSTOR would fault */
	size_t n = copy_in_partial(&t->um, frame, UADDR(fpstate), xstate_frame_size(&fmt));
	int err = xstate_import(&fmt, frame, n, image);
	return err ? err : ops->xstate_set(t->pt, image, fmt.size);
}

/* Code that runs on where no guest code can be: the fault that the processor would report. */
static void check_resume_address(struct task *t, uint64_t rip)
{
	ksiginfo info;
	bool canonical = (uint64_t)((int64_t)(rip << 16) >> 16) == rip;

	if (rip < t->k->pf->ops->limits(t->k->pf)->task_size)
		return;
	signal_info_kernel(&info, SIGSEGV);
	t->fault_trapno = canonical ? 14 : 13;
	t->fault_error = canonical ? 0x14 : 0; /* user, instruction fetch */
	if (canonical) {
		info.si_code = SEGV_MAPERR;
		info.si_addr = (void *)(uintptr_t)rip;
		t->fault_cr2 = rip;
	}
	signal_force(t, &info);
}

long signal_sigreturn(struct task *t)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	struct linux_ucontext uc;
	struct sigaltstack_k alt;
	ksiginfo info;

	/* The handler's return has taken the restorer's address off the stack. */
	uint64_t frame = regs->rsp - sizeof(uint64_t);
	uint64_t at = frame + offsetof(struct linux_rt_sigframe, uc);

	t->restart_fn = NULL;
	if (copy_in_val(&t->um, &uc, UADDR(at)))
		goto bad;
	signal_set_mask(t, uc.sigmask);
	if (sigframe_restore_regs(&uc, regs) || restore_xstate(t, uc.mcontext.fpstate))
		goto bad;
	alt = (struct sigaltstack_k){
		.sp = uc.stack.sp, .flags = uc.stack.flags, .size = uc.stack.size};
	(void)!signal_altstack_set(t, &alt, regs->rsp); /* Linux ignores a refusal here */
	check_resume_address(t, regs->rip);
	return (long)regs->rax;

bad:
	regs->orig_rax = ~0ULL;
	signal_info_kernel(&info, SIGSEGV);
	signal_force(t, &info);
	return 0;
}

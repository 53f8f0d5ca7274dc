/* The task loop: guest code, its event, the handler, signals, and again. */
#include "sentry/kernel/run.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "sentry/kernel/async_io.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/stream.h"
#include "sentry/lib/log.h"
#include "syscalls/syscalls.h"

/* May the platform answer calls by itself?  Not where somebody wants to see them. */
static bool may_answer_directly(const struct task *t)
{
	return seccomp_mode(t) == SECCOMP_MODE_DISABLED && !t->sud_on && !t->k->strace &&
	       !task_is_traced(t);
}

/* What the platform may answer by itself, and from what. */
static bool set_answers(struct task *t)
{
	const struct platform_ops *ops = t->k->pf->ops;
	const struct cred *c = t->cred;
	const struct user_ns *u = c->user_ns;
	/* Until ids are mapped, by another process at any time, only the sentry knows them. */
	const struct p_ids ids = {user_ns_is_mapped(u) ? (uint32_t)pid_nr_own(t->tg->pid) : 0,
				  (uint32_t)pid_nr_own(t->pid),
				  uid_show(u, c->uid),
				  uid_show(u, c->euid),
				  gid_show(u, c->gid),
				  gid_show(u, c->egid)};
	bool direct = may_answer_directly(t);

	if (ops->set_direct)
		ops->set_direct(t->pt, direct);
	if (ops->set_ids && direct)
		ops->set_ids(t->pt, &ids);
	if (ops->set_clock_offset)
		ops->set_clock_offset(t->pt, task_time_offsets(t)->monotonic);
	signal_lend_mask(t, direct);
	return direct;
}

/* Runs on the worker's stack, when the fiber's registers are saved. */
static void enter_guest(void *arg)
{
	struct task *t = arg;
	struct p_thread *pt = t->pt;
	const struct platform_ops *ops = t->k->pf->ops;

	bool direct = set_answers(t);
	streams_give(t);
	atomic_store(&t->in_guest, true);
	/* Whoever made a signal pending before that did not see us in the guest. */
	if (signal_pending(t) || task_must_die(t) || direct != may_answer_directly(t))
		ops->interrupt(pt);
	signal_recall_pending(t);
	if (task_is_traced(t))
		ptrace_enter_guest(t);
	if (t->pass_on)
		ops->resume_direct(pt);
	else
		ops->resume(pt);
}

/*
 * Before the call itself: what the guest has said about its own calls, and its tracer, in Linux's
 * order.  False: the call is skipped, and *ret is the result.
 */
static bool enter_syscall(struct task *t, bool hosts, long *ret)
{
	if (!sud_enter(t, ret))
		return false;
	/* Whatever tracers see of these calls, they would see half of them: entries only. */
	if (!hosts && task_is_traced(t) && !ptrace_syscall_enter(t)) {
		*ret = (long)t->k->pf->ops->regs(t->pt)->rax;
		return false;
	}
	return seccomp_enter(t, ret);
}

/* What was put off could not be done. */
static void late_failure(struct task *t, int err)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	long ret;

	if (mm_late_failed(t->mm, t->pt, err, &ret)) {
		regs->rax = (uint64_t)ret;
	} else {
		log_limited(LOG_WARN, "guest process %d killed: the host did not unmap (error %d)",
			    t->tg->tgid, -err);
		signal_group_exit(t->tg, SIGKILL);
	}
}

/* Somebody else than guest code is about to look at its memory: what was put off is done. */
static void settle(struct task *t)
{
	const struct platform_ops *ops = t->k->pf->ops;
	int err = ops->mem_settle ? ops->mem_settle(t->pt) : 0;

	if (err)
		late_failure(t, err);
	if (ops->settle)
		ops->settle(t->pt);
}

static void run_syscall(struct task *t, const struct p_event *ev)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	bool aborted = ev->host_wait_aborted;
	bool hosts = !aborted && !may_answer_directly(t) && t->k->pf->ops->resume_direct &&
		     platform_passes(regs);
	long ret = 0;

	t->passed_on = false;
	t->nsyscalls++;
	t->retry = ev->retry;
	if (!t->retry)
		t->lent_file = NULL;
	if (!aborted && !enter_syscall(t, hosts, &ret)) {
		regs->rax = (uint64_t)ret;
	} else if (hosts) {
		t->pass_on = t->passed_on = true;
		return;
	} else {
		/* Only now: a tracer may have changed them.  The entry code looks at eax. */
		uint64_t nr = (uint32_t)regs->orig_rax;
		const uint64_t a[6] = {regs->rdi, regs->rsi, regs->rdx,
				       regs->r10, regs->r8,  regs->r9};
		ret = syscall_run(t, nr, a);
		async_io_flush();
		/* execve and rt_sigreturn replaced the registers and return what rax must be. */
		regs = t->k->pf->ops->regs(t->pt);
		regs->rax = (uint64_t)ret;
		if (nr == SYS_execve || nr == SYS_execveat)
			regs->orig_rax = ret == 0 ? ~0ULL : nr;
	}
	if (!aborted && !hosts && task_is_traced(t)) {
		settle(t);
		ptrace_syscall_exit(t);
	}
}

static void run_fault(struct task *t, const struct p_event *ev)
{
	ksiginfo info;
	int code = ev->si_code;

	if (ev->signo == SIGSEGV && code > 0 && code != SI_KERNEL) {
		int segv = code;
		unsigned access = MM_ACCESS_USER | (ev->error_code & 2 ? MM_ACCESS_WRITE : 0) |
				  (ev->error_code & 16 ? MM_ACCESS_EXEC : 0);
		if (mm_fault(t->mm, t->pt, ev->addr, access, &segv))
			return;
		code = segv;
	}
	if (ev->signo == SIGTRAP && !(code = ptrace_watch_step(t, code)))
		return;
	memset(&info, 0, sizeof(info));
	info.si_signo = ev->signo;
	info.si_code = code;
	info.si_addr = (void *)(uintptr_t)ev->addr;
	t->fault_trapno = ev->trapno;
	t->fault_error = ev->error_code;
	t->fault_cr2 = ev->cr2;
	signal_force(t, &info);
}

static bool is_restart(const struct arch_regs *regs)
{
	if ((int64_t)regs->orig_rax < 0)
		return false;
	switch (-(int64_t)regs->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		return true;
	}
	return false;
}

/* A call that was handed back to the platform may not have begun: then it is begun again. */
static void call_interrupted(struct task *t)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);

	if (t->passed_on && (int64_t)regs->orig_rax >= 0)
		regs->rax = (uint64_t)-ERESTARTNOINTR;
	else
		regs->orig_rax = ~0ULL;
	t->passed_on = false;
}

static void handle_event(struct task *t)
{
	const struct p_event *ev = t->k->pf->ops->event(t->pt);

	t->pass_on = false;
	ptrace_left_guest(t);
	switch (ev->kind) {
	case P_EVENT_SYSCALL:
		run_syscall(t, ev);
		break;
	case P_EVENT_SIGNAL:
		t->k->pf->ops->regs(t->pt)->orig_rax = ~0ULL;
		t->passed_on = false;
		run_fault(t, ev);
		break;
	case P_EVENT_INTERRUPTED:
		call_interrupted(t);
		break;
	case P_EVENT_OWED:
		t->k->pf->ops->regs(t->pt)->orig_rax = ~0ULL;
		t->passed_on = false;
		late_failure(t, ev->si_code);
		break;
	case P_EVENT_DEAD:
		log_limited(LOG_WARN, "guest process %d was killed by the host (signal %d)",
			    t->tg->tgid, ev->signo);
		if (ev->signo == SIGKILL && !atomic_exchange(&t->tg->host_killed, true))
			atomic_fetch_add(&t->k->oom_kills, 1);
		signal_group_exit(t->tg, SIGKILL);
		break;
	}
}

/* What the platform has answered, and we have to know. */
static void take_notes(struct task *t)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct p_notes n;

	if (!ops->take_notes || !ops->take_notes(t->pt, &n))
		return;
	if (n.robust)
		t->robust_list = UADDR(n.robust_list);
	if (n.clear_tid)
		t->clear_child_tid = UADDR(n.clear_child_tid);
}

void task_main(void *arg)
{
	struct task *t = arg;

	task_work_begins(t);
	for (;;) {
		if (t->exit_requested || task_must_die(t))
			task_exit(t);
		ptrace_watch_begin(t);
		task_work_ends(t);
		fiber_suspend(&t->fiber, enter_guest, t);
		task_work_begins(t);
		signal_take_mask(t);
		streams_take(t);
		take_notes(t);
		handle_event(t);
		if (t->pass_on && signal_pending(t)) {
			t->pass_on = false;
			call_interrupted(t);
		}
		if (t->exit_requested || task_must_die(t))
			task_exit(t);
		if (signal_pending(t) || is_restart(t->k->pf->ops->regs(t->pt))) {
			settle(t);
			if (!signal_deliver(t))
				task_exit(t);
		}
	}
}

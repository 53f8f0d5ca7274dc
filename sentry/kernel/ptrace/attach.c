/* Who traces whom: attaching, detaching, children, the end of the tracer. */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>

#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"

void trace_init(struct trace *tr)
{
	list_init(&tr->tracees);
	list_init(&tr->link);
	mutex_init(&tr->lock);
}

static void trace_link(struct task *tracer, struct task *t, bool seized, uint32_t options)
	REQUIRES(lc_tasks)
{
	struct trace *tr = &t->trace;

	tr->seized = seized;
	tr->options = options;
	tr->code = 0;
	tr->unreported = false;
	atomic_store(&tr->mode, TRACE_CONT);
	atomic_store(&tr->step, false);
	list_add_tail(&task_get(t)->trace.link, &tracer->trace.tracees);
	atomic_store(&tr->tracer, task_get(tracer));
}

void trace_unlink(struct task *t)
{
	struct trace *tr = &t->trace;
	struct task *tracer = atomic_load(&tr->tracer);

	if (!tracer)
		return;
	list_del(&tr->link);
	list_init(&tr->link);
	atomic_store(&tr->tracer, NULL);
	tr->options = 0;
	tr->seized = false;
	atomic_store(&tr->mode, TRACE_CONT);
	atomic_store(&tr->step, false);
	mutex_lock(&t->tg->siglock, &lc_signal);
	atomic_store(&tr->trap_wanted, false);
	tr->stop_seen = false; /* a group stop that is in effect is so again */
	signal_kick_locked(t);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	atomic_store(&tr->listening, false);
	if (atomic_exchange(&tr->stopped, false))
		task_wake(t);
	/* Neither is the last: both are in the tree or at work. */
	task_put(tracer);
	task_put(t);
}

bool ptrace_options_ok(struct task *t, uint64_t options)
{
	if (options & ~(uint64_t)PTRACE_O_MASK)
		return false;
	return !(options & PTRACE_O_SUSPEND_SECCOMP) ||
	       (task_capable(t, CAP_SYS_ADMIN) && seccomp_mode(t) == SECCOMP_MODE_DISABLED);
}

/* The task sees that it is traced when it next looks: it may be in the guest, or stopped. */
static void look_again(struct task *t)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	if (atomic_load(&t->in_guest) && t->pt)
		t->k->pf->ops->interrupt(t->pt);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	task_wake(t);
}

/* The thread that made t, or, when that has ended, its group's first. */
static struct task *parent_thread(struct task *t) REQUIRES(lc_tasks)
{
	struct task *p = task_lookup(t->trace.parent_tid);

	if (p && p->tg == t->tg->parent && !p->sig_exiting)
		return p;
	return t->tg->parent ? t->tg->parent->leader : NULL;
}

long ptrace_traceme(struct task *t)
{
	struct task *parent = NULL;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (!task_is_traced(t))
		parent = parent_thread(t);
	if (parent && !landlock_domain_covers(parent->cred->landlock, t->cred->landlock))
		parent = NULL;
	if (parent)
		trace_link(parent, t, false, 0);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return parent ? 0 : -EPERM;
}

long ptrace_attach(struct task *t, struct task *target, bool seize, uint64_t options)
{
	ksiginfo info;
	long ret = 0;

	if (target->tg == t->tg || !task_may_ptrace(t, target, false))
		return -EPERM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int state = atomic_load(&target->state);
	if (task_is_traced(target) || target->sig_exiting || state == TASK_ZOMBIE ||
	    state == TASK_DEAD)
		ret = -EPERM;
	else
		trace_link(t, target, seize, (uint32_t)options);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (ret)
		return ret;
	if (!seize) {
		signal_info_kernel(&info, SIGSTOP);
		ret = signal_send_task(target, &info);
	}
	look_again(target);
	return ret;
}

/* ---- children ---- */

int ptrace_clone_event(struct task *t, uint64_t flags, int exit_signal)
{
	int event = flags & CLONE_VFORK	     ? PTRACE_EVENT_VFORK
		    : exit_signal != SIGCHLD ? PTRACE_EVENT_CLONE
					     : PTRACE_EVENT_FORK;

	if (!task_is_traced(t) || (flags & CLONE_UNTRACED))
		return 0;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool wanted = t->trace.options >> event & 1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return wanted ? event : 0;
}

void ptrace_inherit(struct task *parent, struct task *child)
{
	struct task *tracer = atomic_load(&parent->trace.tracer);
	ksiginfo info;

	if (!tracer)
		return;
	trace_link(tracer, child, parent->trace.seized, parent->trace.options);
	if (parent->trace.seized) {
		atomic_store(&child->trace.trap_wanted, true);
		signal_kick(child);
	} else {
		signal_info_kernel(&info, SIGSTOP);
		(void)!signal_send_task(child, &info);
	}
}

/* ---- the end of the tracer ---- */

void ptrace_tracer_exit(struct task *t)
{
	for (;;) {
		struct task *c = NULL;
		bool kill = false, thread = false, group = false;

		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		if (!list_empty(&t->trace.tracees)) {
			c = task_get(list_first(&t->trace.tracees, struct task, trace.link));
			kill = c->trace.options & PTRACE_O_EXITKILL;
			thread = c->trace.zombie;
			group = c->tg->leader == c && c->tg->zombie;
			trace_unlink(c);
			if (thread)
				task_unhash(c);
		}
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		if (!c)
			return;
		if (kill)
			signal_group_exit(c->tg, SIGKILL);
		if (group)
			thread_group_untraced(c->tg);
		task_put(c);
	}
}

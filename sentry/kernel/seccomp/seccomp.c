#include "sentry/kernel/seccomp/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/lib/log.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
/* All instructions of a chain, with four for each older filter. */
#define PATH_LEN_MAX 32768
#define FILTER_PENALTY 4

/* ---- filters ---- */

static void filter_unuse(struct seccomp_filter *f)
{
	while (f && atomic_fetch_sub(&f->users, 1) == 1) {
		if (f->listener)
			seccomp_listener_unused(f->listener);
		f = f->prev;
	}
}

void seccomp_filter_put(struct seccomp_filter *f)
{
	while (f && ref_put(&f->ref)) {
		struct seccomp_filter *prev = f->prev;
		seccomp_listener_free(f->listener);
		free(f);
		f = prev;
	}
}

static struct seccomp_filter *filter_get_used(struct seccomp_filter *f)
{
	if (f) {
		ref_get(&f->ref);
		atomic_fetch_add(&f->users, 1);
	}
	return f;
}

static void filter_put_used(struct seccomp_filter *f)
{
	filter_unuse(f);
	seccomp_filter_put(f);
}

static struct seccomp_filter *filter_new(unsigned flags, const struct sock_filter *prog, size_t len)
{
	struct seccomp_filter *f = calloc(1, sizeof(*f) + len * sizeof(*prog));

	if (!f)
		return NULL;
	ref_init(&f->ref, 1);
	atomic_init(&f->users, 1);
	f->log = flags & SECCOMP_FILTER_FLAG_LOG;
	f->wait_killable = flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
	f->len = len;
	memcpy(f->prog, prog, len * sizeof(*prog));
	if ((flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) && !(f->listener = seccomp_listener_new())) {
		free(f);
		return NULL;
	}
	return f;
}

int seccomp_mode(const struct task *t)
{
	if (atomic_load(&t->seccomp_strict))
		return SECCOMP_MODE_STRICT;
	return atomic_load(&t->seccomp) ? SECCOMP_MODE_FILTER : SECCOMP_MODE_DISABLED;
}

int seccomp_filter_count(const struct task *t)
{
	const struct seccomp_filter *f = atomic_load(&t->seccomp);

	return f ? (int)f->depth : 0;
}

bool seccomp_may_filter(const struct task *t)
{
	return atomic_load(&t->no_new_privs) || task_own_capable(t, CAP_SYS_ADMIN);
}

/* ---- setting them ---- */

static bool is_ancestor(const struct seccomp_filter *old, const struct seccomp_filter *f)
{
	if (!old)
		return true;
	for (; f; f = f->prev)
		if (f == old)
			return true;
	return false;
}

/* The first thread that cannot take over t's chain, or NULL. */
static struct task *sync_obstacle(struct task *t) REQUIRES(lc_signal)
{
	struct task *s;

	list_for_each (s, &t->tg->threads, thread_link) {
		if (s == t || s->sig_exiting)
			continue;
		if (atomic_load(&s->seccomp_strict) ||
		    !is_ancestor(atomic_load(&s->seccomp), atomic_load(&t->seccomp)))
			return s;
	}
	return NULL;
}

/* Others may be in the guest, taking the platform's answers: the interrupt ends that. */
static void sync_threads(struct task *t) REQUIRES(lc_signal)
{
	struct seccomp_filter *f = atomic_load(&t->seccomp);
	struct task *s;

	list_for_each (s, &t->tg->threads, thread_link) {
		if (s == t || s->sig_exiting)
			continue;
		struct seccomp_filter *was = atomic_load(&s->seccomp);
		atomic_store(&s->seccomp, filter_get_used(f));
		/* An ancestor of f: neither put can be its last. */
		filter_put_used(was);
		if (atomic_load(&t->no_new_privs))
			atomic_store(&s->no_new_privs, true);
		if (atomic_load(&s->in_guest) && s->pt)
			t->k->pf->ops->interrupt(s->pt);
	}
}

static long attach(struct task *t, unsigned flags, struct seccomp_filter *f) REQUIRES(lc_signal)
{
	struct seccomp_filter *old = atomic_load(&t->seccomp), *p;

	if (atomic_load(&t->seccomp_strict))
		return -EINVAL;
	for (p = f->listener ? old : NULL; p; p = p->prev)
		if (p->listener)
			return -EBUSY;
	f->path_len = f->len + (old ? old->path_len + FILTER_PENALTY : 0);
	if (f->path_len > PATH_LEN_MAX)
		return -ENOMEM;
	if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
		struct task *s = sync_obstacle(t);
		if (s)
			return flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH ? -ESRCH
								       : pid_nr_own(s->pid);
	}
	f->depth = old ? old->depth + 1 : 1;
	f->prev = old; /* the task's reference and use become the filter's */
	atomic_store(&t->seccomp, f);
	if (flags & SECCOMP_FILTER_FLAG_TSYNC)
		sync_threads(t);
	return 0;
}

long seccomp_set_filter(struct task *t, unsigned flags, const struct sock_filter *prog, size_t len)
{
	struct file *file = NULL;
	int32_t fd = -1;

	int err = bpf_check(prog, len);
	if (err)
		return err;
	struct seccomp_filter *f = filter_new(flags, prog, len);
	if (!f)
		return -ENOMEM;
	if (f->listener) {
		err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &fd);
		if (!err && (err = seccomp_listener_file(f, &file)))
			fdtable_unreserve(t->fds, 1, &fd);
		if (err) {
			seccomp_filter_put(f);
			return err;
		}
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	mutex_lock(&t->tg->siglock, &lc_signal);
	long ret = attach(t, flags, f);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (ret) {
		if (file) {
			fdtable_unreserve(t->fds, 1, &fd);
			file_put(file);
		}
		seccomp_filter_put(f);
		return ret;
	}
	if (!file)
		return 0;
	fdtable_commit(t->fds, fd, file, true);
	return fd;
}

int seccomp_set_strict(struct task *t)
{
	int err = 0;

	mutex_lock(&t->tg->siglock, &lc_signal);
	if (atomic_load(&t->seccomp))
		err = -EINVAL;
	else
		atomic_store(&t->seccomp_strict, true);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return err;
}

void seccomp_inherit(struct task *parent, struct task *child)
{
	atomic_store(&child->seccomp, filter_get_used(atomic_load(&parent->seccomp)));
	atomic_store(&child->seccomp_strict, atomic_load(&parent->seccomp_strict));
	atomic_store(&child->no_new_privs, atomic_load(&parent->no_new_privs));
}

void seccomp_task_exit(struct task *t)
{
	filter_put_used(atomic_exchange(&t->seccomp, NULL));
}

/* ---- a call ---- */

static uint32_t run_chain(const struct seccomp_data *data, struct seccomp_filter *f,
			  struct seccomp_filter **match)
{
	uint32_t ret = SECCOMP_RET_ALLOW;

	*match = f;
	for (; f; f = f->prev) {
		uint32_t r = bpf_run(f->prog, data);
		/* As signed numbers the actions are ordered by precedence; the newest wins ties. */
		if ((int32_t)(r & SECCOMP_RET_ACTION_FULL) <
		    (int32_t)(ret & SECCOMP_RET_ACTION_FULL)) {
			ret = r;
			*match = f;
		}
	}
	return ret;
}

static void sigsys_info(ksiginfo *info, int code, const struct arch_regs *regs, int err)
{
	memset(info, 0, sizeof(*info));
	info->si_signo = SIGSYS;
	info->si_code = code;
	info->si_errno = err;
	info->si_call_addr = (void *)(uintptr_t)regs->rip;
	info->si_syscall = (int)regs->orig_rax;
	info->si_arch = AUDIT_ARCH_X86_64;
}

/* The process ends by SIGSYS, whatever it does about that signal. */
static void kill_process(struct task *t)
{
	signal_group_exit(t->tg, SIGSYS);
}

static bool has_siblings(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool yes = t->tg->nthreads > 1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return yes;
}

static void deny(struct task *t, uint32_t action, uint32_t data, long *ret)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	ksiginfo info;

	/* The registers are as before the call: a handler may look, and return to repeat it. */
	*ret = (int32_t)regs->orig_rax;
	switch (action) {
	case SECCOMP_RET_ERRNO:
		*ret = -(long)MIN(data, 4095U);
		break;
	case SECCOMP_RET_TRAP:
		sigsys_info(&info, 1 /* SYS_SECCOMP */, regs, (int)data);
		signal_force(t, &info);
		break;
	case SECCOMP_RET_KILL_THREAD:
		if (has_siblings(t))
			task_exit_self(t, SIGSYS);
		else
			kill_process(t);
		break;
	default: /* SECCOMP_RET_KILL_PROCESS, and what no kernel knows */
		kill_process(t);
	}
}

static bool allowed_strictly(uint64_t nr)
{
	return nr == SYS_read || nr == SYS_write || nr == SYS_exit || nr == SYS_rt_sigreturn;
}

/* retraced: a tracer has seen the call, and does not see it again. */
static bool filter_call(struct task *t, bool retraced, long *ret)
{
	const struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	struct seccomp_filter *match;
	uint32_t r, action;

	struct seccomp_data data = {
		.nr = (int)regs->orig_rax,
		.arch = AUDIT_ARCH_X86_64,
		.instruction_pointer = regs->rip,
	};
	for (int i = 0; i < 6; i++)
		data.args[i] = arch_syscall_arg(regs, i);
	r = run_chain(&data, atomic_load(&t->seccomp), &match);
	action = r & SECCOMP_RET_ACTION_FULL;
	switch (action) {
	case SECCOMP_RET_ALLOW:
		return true;
	case SECCOMP_RET_LOG:
		log_limited(LOG_INFO, "seccomp: process %d: call %d logged", t->tg->tgid, data.nr);
		return true;
	case SECCOMP_RET_TRACE:
		if (retraced)
			return true;
		*ret = -ENOSYS;
		if (!ptrace_seccomp(t, (uint16_t)r))
			return false;
		/* The tracer may have changed the call, or made it none. */
		*ret = (long)regs->rax;
		return !task_must_die(t) && (int)regs->orig_rax != -1 && filter_call(t, true, ret);
	case SECCOMP_RET_USER_NOTIF:
		return seccomp_ask(t, match, &data, ret);
	}
	if (match->log || action == SECCOMP_RET_KILL_PROCESS || action == SECCOMP_RET_KILL_THREAD)
		log_limited(LOG_INFO, "seccomp: process %d: call %d denied (%#x)", t->tg->tgid,
			    data.nr, r);
	deny(t, action, r & SECCOMP_RET_DATA, ret);
	return false;
}

bool seccomp_enter(struct task *t, long *ret)
{
	if (task_is_traced(t) && ptrace_suspends_seccomp(t))
		return true;
	if (atomic_load(&t->seccomp_strict)) {
		if (allowed_strictly(t->k->pf->ops->regs(t->pt)->orig_rax))
			return true;
		task_exit_self(t, SIGKILL);
		return false;
	}
	return !atomic_load(&t->seccomp) || filter_call(t, false, ret);
}

/* ---- syscall user dispatch ---- */

#define SUD_OFF 0
#define SUD_ON 1
#define SELECTOR_ALLOW 0
#define SELECTOR_BLOCK 1

int sud_set(struct task *t, uint64_t mode, uint64_t start, uint64_t len, uint64_t selector)
{
	if (mode == SUD_OFF) {
		if (start || len || selector)
			return -EINVAL;
	} else if (mode == SUD_ON) {
		if (start && start + len <= start)
			return -EINVAL;
		if (selector >= t->mm->task_size)
			return -EFAULT;
	} else {
		return -EINVAL;
	}
	t->sud_on = mode == SUD_ON;
	t->sud_start = start;
	t->sud_len = len;
	t->sud_selector = UADDR(selector);
	return 0;
}

bool sud_enter(struct task *t, long *ret)
{
	const struct arch_regs *regs = t->k->pf->ops->regs(t->pt);
	uint8_t selector;
	ksiginfo info;

	if (!t->sud_on || regs->rip - t->sud_start < t->sud_len)
		return true;
	if (!uaddr_is_null(t->sud_selector)) {
		if (copy_in_val(&t->um, &selector, t->sud_selector)) {
			signal_group_exit(t->tg, SIGSEGV);
			return false;
		}
		if (selector == SELECTOR_ALLOW)
			return true;
		if (selector != SELECTOR_BLOCK) {
			signal_group_exit(t->tg, SIGSYS);
			return false;
		}
	}
	sigsys_info(&info, 2 /* SYS_USER_DISPATCH */, regs, 0);
	signal_force(t, &info);
	*ret = (int32_t)regs->orig_rax;
	return false;
}

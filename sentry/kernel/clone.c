/* clone(2), clone3(2), fork, vfork: a new task out of a running one. */
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>

#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"

/* The kinds that struct ns_set holds. */
#define CLONE_IN_SET                                                                   \
	(CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | \
	 CLONE_NEWTIME)
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif
#define TASKS_MAX 65536

static int check_flags(const struct task *t, const struct clone_args_k *a)
{
	uint64_t f = a->flags;

	if ((f & CLONE_THREAD) && !(f & CLONE_SIGHAND))
		return -EINVAL;
	if ((f & CLONE_SIGHAND) && (!(f & CLONE_VM) || (f & CLONE_CLEAR_SIGHAND)))
		return -EINVAL;
	if ((f & (CLONE_FS | CLONE_NEWNS)) == (CLONE_FS | CLONE_NEWNS))
		return -EINVAL;
	if ((f & CLONE_THREAD) && (f & (CLONE_NEWUSER | CLONE_NEWPID)))
		return -EINVAL;
	/* Threads are all in one PID namespace; a namespace's orphans belong to its init. */
	if (task_pid_ns_children(t) != task_pid_ns(t) && (f & (CLONE_THREAD | CLONE_NEWPID)))
		return -EINVAL;
	if ((f & CLONE_PARENT) && task_pid_ns(t)->init == t->tg)
		return -EINVAL;
	/* Both would be stored at the same place. */
	if ((f & CLONE_PIDFD) && (f & CLONE_PARENT_SETTID) && a->pidfd == a->parent_tid)
		return -EINVAL;
	if ((f & CLONE_PIDFD) && (f & (CLONE_THREAD | CLONE_DETACHED)))
		return -EINVAL;
	if (a->exit_signal > LINUX_NSIG)
		return -EINVAL;
	if ((f & (CLONE_FS | CLONE_NEWUSER)) == (CLONE_FS | CLONE_NEWUSER))
		return -EINVAL;
	if ((f & (CLONE_NEWIPC | CLONE_SYSVSEM)) == (CLONE_NEWIPC | CLONE_SYSVSEM))
		return -EINVAL;
	if (atomic_load(&kernel->ntasks) >= TASKS_MAX)
		return -EAGAIN;
	/* What was admitted was admitted for one task: sched(7). */
	if (t->sched_policy == SCHED_DEADLINE && !t->sched_reset_on_fork)
		return -EAGAIN;
	return 0;
}

static uint64_t count_user_tasks(uint32_t uid)
{
	struct thread_group *tg;
	uint64_t n = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link)
		if (tg->leader->cred->uid == uid)
			n += (uint64_t)MAX(tg->nthreads, 1);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return n;
}

/* RLIMIT_NPROC: setrlimit(2).  Root and the privileged are not bound by it. */
static bool over_nproc(struct task *t)
{
	uint64_t limit = task_rlimit(t, RLIMIT_NPROC);

	if (limit == RLIM_K_INFINITY || t->cred->uid == 0 ||
	    task_capable(t, 24 /* SYS_RESOURCE */) || task_capable(t, 21 /* SYS_ADMIN */))
		return false;
	return count_user_tasks(t->cred->uid) >= limit;
}

static struct thread_group *group_for_child(struct task *t, uint64_t flags, int exit_signal)
{
	struct thread_group *parent = t->tg;

	if (flags & CLONE_THREAD)
		return thread_group_get(parent);
	struct thread_group *tg = thread_group_new(parent->container);
	if (!tg)
		return NULL;
	tg->sighand =
		flags & CLONE_SIGHAND ? sighand_get(parent->sighand) : sighand_dup(parent->sighand);
	if (!tg->sighand) {
		thread_group_put(tg);
		return NULL;
	}
	if (flags & CLONE_CLEAR_SIGHAND)
		for (int i = 0; i < LINUX_NSIG; i++)
			if (tg->sighand->action[i].handler != 1 /* SIG_IGN */)
				memset(&tg->sighand->action[i], 0, sizeof(struct ksigaction));
	tg->exit_signal = flags & CLONE_PARENT ? parent->exit_signal : exit_signal;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	tg->oom_score_adj = parent->oom_score_adj;
	tg->oom_score_adj_min = parent->oom_score_adj_min;
	tg->coredump_filter = parent->coredump_filter;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return tg;
}

static void reset_scheduling(struct task *c)
{
	if (c->sched_policy == SCHED_FIFO || c->sched_policy == SCHED_RR ||
	    c->sched_policy == SCHED_DEADLINE) {
		c->sched_policy = SCHED_OTHER;
		c->sched_priority = 0;
		c->nice = 0;
	}
	c->nice = MAX(c->nice, 0);
}

/* Shares or copies what the flags say; on failure the task's put frees what is there. */
static int copy_resources(struct task *t, struct task *c, uint64_t flags)
{
	int err = 0;

	if (!(flags & CLONE_NEWUSER))
		c->cred = cred_get(t->cred);
	else if ((err = task_new_user_ns(t, &c->cred)))
		return err;
	struct user_ns *owner = c->cred->user_ns;
	const struct ns_maker maker = {owner, t->cred->euid};
	if (flags & (CLONE_NEWNS | CLONE_IN_SET) && !task_ns_capable(t, owner, CAP_SYS_ADMIN))
		return -EPERM;
	c->fds = flags & CLONE_FILES ? fdtable_get(t->fds) : fdtable_dup(t->fds, &err);
	if (!c->fds)
		return err ? err : -ENOMEM;
	c->fs = flags & CLONE_FS ? fs_context_get(t->fs) : fs_context_dup(t->fs);
	if (!c->fs)
		return -ENOMEM;
	if (flags & CLONE_NEWNS && (err = fs_context_new_mnt_ns(c->fs, &maker)))
		return err;
	if (!(flags & CLONE_IN_SET))
		c->ns = ns_set_get(t->ns);
	else if ((err = ns_set_unshare(t->ns, flags, &maker, &c->ns)))
		return err;
	if (!(flags & CLONE_VM) && (err = ns_set_enter_time(&c->ns)))
		return err;
	if (c->tg != t->tg)
		c->tg->pid_ns = pid_ns_get(task_pid_ns_children(c));
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(c->comm, t->comm, sizeof(c->comm));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	c->mask = t->mask;
	if (!(flags & CLONE_VM) || (flags & CLONE_VFORK))
		c->altstack = t->altstack;
	c->nice = t->nice;
	c->sched_policy = t->sched_policy;
	c->sched_priority = t->sched_priority;
	if (t->sched_reset_on_fork) /* SCHED_RESET_ON_FORK: sched(7) */
		reset_scheduling(c);
	c->timer_slack = t->timer_slack;
	c->personality = t->personality;
	c->ioprio = t->ioprio;
	c->mce_kill = t->mce_kill;
	c->mempolicy = t->mempolicy;
	c->cpu_affinity = t->cpu_affinity;
	keys_clone(t, c, flags);
	return sem_undo_clone(t, c, flags);
}

static int copy_memory(struct task *t, struct task *c, uint64_t flags)
{
	if (!(flags & CLONE_VM))
		return mm_fork(t->mm, t->pt, &c->mm, &c->pt);
	int err = t->k->pf->ops->thread_create(t->pt, &c->pt);
	if (!err)
		c->mm = mm_get(t->mm);
	return err;
}

static void child_registers(struct task *t, struct task *c, const struct clone_args_k *a)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct arch_regs *regs = ops->regs(c->pt);

	*regs = *ops->regs(t->pt);
	regs->rax = 0;
	regs->orig_rax = ~0ULL;
	if (a->stack)
		regs->rsp = a->stack + a->stack_size;
	if (a->flags & CLONE_SETTLS)
		regs->fs_base = a->tls;
	ops->set_owner(c->pt, c);
	c->um = (struct umem){.mm = c->mm, .th = c->pt};
	if (c->mm != t->mm)
		task_show_own_time(c);
}

/* Puts the child in the tree: from here on others see it. */
static int link_child(struct task *t, struct task *c, uint64_t flags, int event,
		      const struct pid_choice *pids)
{
	struct thread_group *parent = t->tg, *tg = c->tg;
	int err;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	mutex_lock(&parent->siglock, &lc_signal);
	/* A fork that races with a fatal signal or another thread's exec does not happen. */
	err = task_must_die(t) ? -ERESTARTNOINTR : 0;
	if (!err)
		seccomp_inherit(t, c);
	mutex_unlock(&parent->siglock, &lc_signal);
	if (!err && tg != parent)
		memcpy(tg->rlimit, parent->rlimit, sizeof(tg->rlimit));
	if (!err)
		err = task_link(c, parent, pids);
	if (!err && tg != parent) {
		struct thread_group *p = flags & CLONE_PARENT ? parent->parent : parent;
		tg->parent = p;
		if (p)
			list_add_tail(&tg->sibling, &p->children);
	}
	if (!err && (flags & CLONE_VFORK))
		c->vfork_parent = task_get(t);
	c->trace.parent_tid = flags & (CLONE_PARENT | CLONE_THREAD) ? t->trace.parent_tid : t->tid;
	if (!err && (event || (flags & CLONE_PTRACE)))
		ptrace_inherit(t, c);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

/* Undoes a child that was never linked. */
static void discard_child(struct task *c)
{
	if (c->pt) {
		task_host_drop(c);
		c->k->pf->ops->thread_destroy(c->pt);
	}
	mm_put(c->mm);
	fdtable_put(c->fds);
	fs_context_put(c->fs);
	task_put(c);
}

/* The ids that the guest asked to be told.  Faults are ignored, as Linux does. */
static void tell_ids(struct task *t, struct task *c, const struct clone_args_k *a)
{
	int32_t tid = pid_nr_in(c->pid, task_pid_ns(t)), own = pid_nr_own(c->pid);

	if (a->flags & CLONE_CHILD_SETTID)
		(void)!copy_out_val(&c->um, UADDR(a->child_tid), &own);
	if (a->flags & CLONE_CHILD_CLEARTID)
		c->clear_child_tid = UADDR(a->child_tid);
	if (a->flags & CLONE_PARENT_SETTID)
		(void)!copy_out_val(&t->um, UADDR(a->parent_tid), &tid);
}

static int give_pidfd(struct task *t, struct task *c, const struct clone_args_k *a, int fd)
{
	struct file *f;
	int err = pidfd_create(c->tg, 0, &f);

	if (err)
		return err;
	(void)a;
	fdtable_commit(t->fds, fd, f, true);
	return 0;
}

/* CLONE_INTO_CGROUP: where the child begins, with a reference; *out NULL: where its parent is. */
static int choose_cgroup(struct task *t, const struct clone_args_k *a, struct cgroup **out)
{
	*out = NULL;
	if (!(a->flags & CLONE_INTO_CGROUP))
		return 0;
	if (a->flags & CLONE_THREAD)
		return -EOPNOTSUPP;
	CLEANUP_FILE struct file *f =
		a->cgroup > INT32_MAX ? NULL : fdtable_file_any(t->fds, (int)a->cgroup);
	struct cgroup *c = f && cgroup_of_file ? cgroup_of_file(f) : NULL;
	if (!c)
		return -EBADF;
	int err = path_permission(f->path, 2 /* MAY_WRITE */, t->cred);
	if (!err)
		*out = cgroup_get(c);
	return err;
}

long task_clone(struct task *t, const struct clone_args_k *a, const struct pid_choice *pids)
{
	int32_t pidfd = -1;
	int err = check_flags(t, a);

	if (err)
		return err;
	if (over_nproc(t))
		return -EAGAIN;
	struct cgroup *into;
	if ((err = choose_cgroup(t, a, &into)))
		return err;
	if (a->flags & CLONE_PIDFD) {
		err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &pidfd);
		if (err) {
			cgroup_put(into);
			return err;
		}
		if ((err = copy_out_val(&t->um, UADDR(a->pidfd), &pidfd)))
			goto no_pidfd;
	}
	err = -ENOMEM;
	struct thread_group *tg = group_for_child(t, a->flags, (int)a->exit_signal);
	struct task *c = tg ? task_new(tg) : NULL;
	thread_group_put(tg);
	if (!c)
		goto no_pidfd;
	if (into)
		c->tg->cgroup = steal(into);
	if ((err = copy_resources(t, c, a->flags)) || (err = copy_memory(t, c, a->flags)))
		goto discard;
	child_registers(t, c, a);
	int event = ptrace_clone_event(t, a->flags, (int)a->exit_signal);
	task_host_restore(c, t);
	if ((err = link_child(t, c, a->flags, event, pids)))
		goto discard;

	int tid = pid_nr_in(c->pid, task_pid_ns(t)), root_tid = c->tid;
	tell_ids(t, c, a);
	if (pidfd >= 0)
		(void)!give_pidfd(t, c, a, pidfd);
	atomic_fetch_add(&kernel->nforks, 1);
	atomic_store(&t->vfork_done, false);
	task_make_runnable(c);
	if (event)
		ptrace_event_pid(t, event, root_tid);
	if (a->flags & CLONE_VFORK) {
		while (!atomic_load(&t->vfork_done))
			if (task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER))
				break;
		ptrace_event_pid(t, PTRACE_EVENT_VFORK_DONE, root_tid);
	}
	return tid;

discard:
	discard_child(c);
no_pidfd:
	cgroup_put(into);
	if (pidfd >= 0)
		fdtable_unreserve(t->fds, 1, &pidfd);
	return err;
}

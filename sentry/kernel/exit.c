/* The end of tasks and groups.  Source: exit(2), set_robust_list(2), credentials(7), wait(2). */
#include <errno.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/core/core.h"
#include "sentry/kernel/futex/pi.h"
#include "sentry/kernel/helper.h"
#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/signal_queue.h"
#include "sentry/kernel/tty.h"
#include "sentry/time/posix_timers.h"

/* ---- what the guest's memory is told ---- */

static void futex_wake_user(struct task *t, uint64_t addr)
{
	/* Not private: joiners may wait through a shared mapping, and libcs wait so for tids. */
	struct p_memop op = {.kind = P_MEMOP_WAKE, .addr = addr, .len = 1};

	if (t->k->pf->ops->mem(t->pt, &op, 1))
		return; /* the process is gone: nobody waits in it */
}

#define ROBUST_LIMIT 2048

static void robust_futex_died(struct task *t, uint64_t addr, bool pi, bool pending)
{
	uint32_t val, seen;

	if (addr % 4 || copy_in_val(&t->um, &val, UADDR(addr)))
		return;
	for (int tries = 0; tries < 100; tries++) {
		/* The owner died between unlocking and waking: wake on its behalf. */
		if (pending && !pi && val == 0) {
			futex_wake_user(t, addr);
			return;
		}
		if ((val & FUTEX_TID_MASK) != (uint32_t)pid_nr_own(t->pid))
			return;
		uint32_t died = (val & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
		if (t->k->pf->ops->cmpxchg32(t->pt, addr, val, died, &seen))
			return;
		if (seen == val) {
			if (!pi && (val & FUTEX_WAITERS))
				futex_wake_user(t, addr);
			return;
		}
		val = seen;
	}
}

/* The list is the guest's: entries may be anything, and go in a circle for ever. */
static void robust_list_walk(struct task *t)
{
	struct {
		uint64_t next;
		int64_t futex_offset;
		uint64_t pending;
	} head;

	if (uaddr_is_null(t->robust_list) || copy_in_val(&t->um, &head, t->robust_list))
		return;
	uint64_t entry = head.next;
	for (int i = 0; i < ROBUST_LIMIT && (entry & ~1ULL) != t->robust_list.v; i++) {
		uint64_t next;
		bool last = copy_in_val(&t->um, &next, UADDR(entry & ~1ULL));
		if ((entry & ~1ULL) != (head.pending & ~1ULL))
			robust_futex_died(t, (entry & ~1ULL) + (uint64_t)head.futex_offset,
					  entry & 1, false);
		if (last)
			break;
		entry = next;
	}
	if (head.pending)
		robust_futex_died(t, (head.pending & ~1ULL) + (uint64_t)head.futex_offset,
				  head.pending & 1, true);
}

void task_release_user(struct task *t, bool gone)
{
	uint32_t zero = 0;

	robust_list_walk(t);
	t->robust_list = UADDR_NULL;
	futex_pi_release(t, gone);
	if (!uaddr_is_null(t->clear_child_tid) && ref_read(&t->mm->ref) > 1 &&
	    !copy_out_val(&t->um, t->clear_child_tid, &zero))
		futex_wake_user(t, t->clear_child_tid.v);
	t->clear_child_tid = UADDR_NULL;
}

void task_vfork_done(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *parent = t->vfork_parent;
	t->vfork_parent = NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!parent)
		return;
	atomic_store(&parent->vfork_done, true);
	task_wake(parent);
	task_put(parent);
}

/* ---- the tree ---- */

static struct thread_group *new_parent_for_orphans(struct thread_group *tg)
{
	struct pid_ns *ns = tg->pid_ns;

	/* A subreaper is one for its own namespace. */
	for (struct thread_group *p = tg->parent; p && p->pid_ns->level == ns->level; p = p->parent)
		if (p->child_subreaper && !p->zombie && !atomic_load(&p->exiting))
			return p;
	return ns->init != tg ? ns->init : NULL;
}

/*
 * Signals and notifications that the end of a group causes: gathered under lc_tasks and sent after,
 * lest those that wake wait for the lock.  When there are very many, the rest go at once.
 */
#define NOTICE_MAX 16
struct notice {
	struct thread_group *tg; /* reference */
	ksiginfo info;
	bool children_changed;
};
struct notices {
	int n;
	struct notice list[NOTICE_MAX];
};

static void notice_send(const struct notice *n)
{
	if (n->info.si_signo)
		(void)!signal_send_group(n->tg, &n->info);
	if (n->children_changed)
		waitq_notify(&n->tg->wait_children, POLLIN);
}

/* info NULL: no signal. */
static void notice_add(struct notices *ns, struct thread_group *tg, const ksiginfo *info,
		       bool children_changed) REQUIRES(lc_tasks)
{
	struct notice extra, *n = ns->n < NOTICE_MAX ? &ns->list[ns->n] : &extra;

	n->tg = tg;
	n->children_changed = children_changed;
	if (info)
		n->info = *info;
	else
		n->info.si_signo = 0;
	if (n == &extra) {
		notice_send(n);
		return;
	}
	thread_group_get(tg);
	ns->n++;
}

static void notices_send(struct notices *ns)
{
	for (int i = 0; i < ns->n; i++) {
		notice_send(&ns->list[i]);
		thread_group_put(ns->list[i].tg);
	}
	ns->n = 0;
}

/* For the parent, or tracer, `to`. */
static void status_info(ksiginfo *info, struct task *t, int status, const struct thread_group *to)
{
	memset(info, 0, sizeof(*info));
	info->si_signo = SIGCHLD;
	info->si_pid = pid_nr_in(t->pid, to->pid_ns);
	info->si_uid = t->cred->uid;
	if ((status & 0x7f) == 0) {
		info->si_code = CLD_EXITED;
		info->si_status = status >> 8;
	} else {
		info->si_code = status & 0x80 ? CLD_DUMPED : CLD_KILLED;
		info->si_status = status & 0x7f;
	}
}

static void child_info(ksiginfo *info, struct thread_group *tg, const struct thread_group *to)
	REQUIRES(lc_tasks)
{
	struct cpu_times used = thread_group_last_times(tg);

	status_info(info, tg->leader, tg->wait_status, to);
	info->si_signo = tg->exit_signal;
	info->si_utime = used.user / (NSEC_PER_SEC / 100);
	info->si_stime = used.system / (NSEC_PER_SEC / 100);
}

void thread_group_reap(struct thread_group *tg)
{
	struct thread_group *parent = tg->parent;

	trace_unlink(tg->leader);
	if (parent) {
		struct cpu_times used = thread_group_last_times(tg);
		parent->child_times.user += used.user + tg->child_times.user;
		parent->child_times.system += used.system + tg->child_times.system;
		mm_usage_add(&parent->child_usage, &tg->dead_usage);
		mm_usage_add(&parent->child_usage, &tg->child_usage);
	}
	thread_group_unlink(tg);
	atomic_store(&tg->leader->state, TASK_DEAD);
}

/* What becomes of a group that just turned zombie, or whose parent changed.  Returns true when it
 * was reaped: the caller puts the tree's references. */
static bool zombie_settle(struct thread_group *tg, struct notices *ns) REQUIRES(lc_tasks)
{
	struct thread_group *parent = tg->parent;
	struct task *tracer = atomic_load(&tg->leader->trace.tracer);
	ksiginfo info;

	/* Who traces it waits for it first. */
	if (tracer && tracer->tg != parent) {
		child_info(&info, tg, tracer->tg);
		info.si_signo = SIGCHLD;
		notice_add(ns, tracer->tg, &info, true);
		return false;
	}
	if (parent) {
		bool ignored = tg->exit_signal == SIGCHLD && sigchld_ignored(parent);
		child_info(&info, tg, parent);
		notice_add(ns, parent, tg->exit_signal ? &info : NULL, true);
		if (!ignored)
			return false;
	}
	thread_group_reap(tg);
	return true;
}

/* setpgid(2): a stopped group that becomes orphaned gets SIGHUP and SIGCONT. */
static void orphaned_pgrp_check(int pgid, struct notices *ns) REQUIRES(lc_tasks)
{
	struct thread_group *tg;
	bool stopped = false;
	ksiginfo info;

	if (!pgrp_is_orphaned(pgid))
		return;
	list_for_each (tg, &kernel->groups, link)
		if (tg->pgid == pgid && tg->stop_state == STOP_STOPPED && !tg->zombie)
			stopped = true;
	if (!stopped)
		return;
	list_for_each (tg, &kernel->groups, link) {
		if (tg->pgid != pgid || tg->zombie)
			continue;
		signal_info_kernel(&info, SIGHUP);
		notice_add(ns, tg, &info, false);
		signal_info_kernel(&info, SIGCONT);
		notice_add(ns, tg, &info, false);
	}
}

/* Hands the children on; returns them as a list of reaped groups to put. */
static void reparent_children(struct thread_group *tg, struct notices *ns, struct list_head *dead)
	REQUIRES(lc_tasks)
{
	struct thread_group *heir = new_parent_for_orphans(tg), *c, *tmp;

	list_for_each_safe (c, tmp, &tg->children, sibling) {
		struct task *leader = c->leader;
		list_del(&c->sibling);
		c->parent = heir;
		thread_group_show_kin(c, P_KIN_PARENT);
		if (leader->pdeath_signal && !c->zombie) {
			ksiginfo info;
			signal_info_kernel(&info, leader->pdeath_signal);
			notice_add(ns, c, &info, false);
		}
		if (heir)
			list_add_tail(&c->sibling, &heir->children);
		c->exit_signal = SIGCHLD;
		if (c->zombie && zombie_settle(c, ns))
			list_add_tail(&c->sibling, dead);
		else if (c->pgid != tg->pgid)
			orphaned_pgrp_check(c->pgid, ns);
	}
}

static void put_tree_refs(struct thread_group *tg)
{
	struct task *leader = tg->leader;

	tg->leader = NULL;
	task_put(leader);
	thread_group_put(tg);
}

void thread_group_untraced(struct thread_group *tg)
{
	struct notices ns;
	bool reaped = false;

	ns.n = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tg->zombie && tg->leader && atomic_load(&tg->leader->state) == TASK_ZOMBIE)
		reaped = zombie_settle(tg, &ns);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	notices_send(&ns);
	if (reaped)
		put_tree_refs(tg);
}

/* ---- the end of a PID namespace: pid_namespaces(7) ---- */

/* Nobody comes in any more, and everybody else in it dies. */
static void pid_ns_kill(struct pid_ns *ns, const struct thread_group *init)
{
	struct thread_group *tg;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	ns->dead = true;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	for (int nr = 1; (tg = thread_group_next(ns, &nr)); nr++) {
		if (tg != init)
			signal_group_exit(tg, SIGKILL);
		thread_group_put(tg);
	}
}

/* A child that ended before nobody waits for children any more. */
static struct thread_group *reap_one_child(struct thread_group *tg) REQUIRES(lc_tasks)
{
	struct thread_group *c;

	list_for_each (c, &tg->children, sibling) {
		if (!c->zombie || task_is_traced(c->leader))
			continue;
		thread_group_reap(c);
		return c;
	}
	return NULL;
}

/*
 * The init of a namespace below the sandbox's own stays until nobody else is in it: who waits for
 * it knows then that all are gone.  Those whose parent is elsewhere go when that has waited.
 */
static void pid_ns_end(struct task *t)
{
	struct thread_group *tg = t->tg, *c;
	struct pid_ns *ns = tg->pid_ns;

	mutex_lock(&tg->siglock, &lc_signal);
	tg->sighand->action[SIGCHLD - 1].handler = LINUX_SIG_IGN; /* they reap themselves */
	mutex_unlock(&tg->siglock, &lc_signal);
	pid_ns_kill(ns, tg);
	for (;;) {
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		c = reap_one_child(tg);
		bool alone = ns->ntasks == 1;
		ns->ending = alone ? NULL : t;
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		if (c)
			put_tree_refs(c);
		else if (alone)
			return;
		else
			task_park_always(t);
	}
}

static void thread_group_exited(struct task *t)
{
	struct thread_group *tg = t->tg, *d, *tmp;
	struct notices ns;
	struct list_head dead;
	bool is_init = tg->container->init == tg, ends_ns = tg->pid_ns->init == tg;

	if (ends_ns && tg->pid_ns->level)
		pid_ns_end(t);
	ns.n = 0;
	list_init(&dead);
	posix_timers_exit(tg);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	tg->wait_status = atomic_load(&tg->exiting) ? tg->group_exit_status : t->exit_status;
	tg->zombie = true;
	atomic_store(&tg->leader->state, TASK_ZOMBIE);
	bool leads = tg->session->sid == tg->tgid;
	struct tty *tty = leads ? tg->session->tty : NULL;
	int fg = tty ? tty->fg_pgid : leads ? tg->session->old_fg_pgid : 0;
	if (fg) {
		ksiginfo info;
		list_for_each (d, &kernel->groups, link) {
			if (d->pgid != fg || d == tg || d->zombie)
				continue;
			signal_info_kernel(&info, SIGHUP);
			notice_add(&ns, d, &info, false);
			signal_info_kernel(&info, SIGCONT);
			notice_add(&ns, d, &info, false);
		}
	}
	if (tty) {
		tty->session = NULL;
		tty->fg_pgid = 0;
		tg->session->tty = NULL;
	}
	reparent_children(tg, &ns, &dead);
	if (tg->parent && tg->parent->pgid != tg->pgid && tg->parent->session == tg->session)
		orphaned_pgrp_check(tg->pgid, &ns);
	bool reaped = zombie_settle(tg, &ns);
	int status = tg->wait_status;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);

	if (tty)
		tty_put(tty);
	list_for_each_safe (d, tmp, &dead, sibling) {
		list_del(&d->sibling);
		put_tree_refs(d);
	}
	notices_send(&ns);
	waitq_notify(&tg->exit_waitq, POLLIN);
	if (ends_ns && !tg->pid_ns->level)
		pid_ns_kill(tg->pid_ns, tg);
	if (is_init && tg->container->init_exited)
		tg->container->init_exited(tg->container, status);
	if (reaped)
		put_tree_refs(tg);
}

/* ---- one task ---- */

static void forget_task(void *arg)
{
	task_put(arg);
}

/* What a thread leaves behind when nobody can see it any more. */
struct remains {
	struct later later;
	struct platform *pf;
	struct p_thread *pt;
	struct mm *mm;
};

static void remains_put(struct later *l)
{
	struct remains *r = container_of(l, struct remains, later);

	r->pf->ops->thread_destroy(r->pt);
	mm_put(r->mm);
}

static void remains_free(struct later *l)
{
	remains_put(l);
	free(container_of(l, struct remains, later));
}

/*
 * *remains: host thread and memory, which the caller lets go.  Those of a group's last thread can
 * wait until the parent knows of the end: to have a host process die takes as long as all the rest.
 */
static void leave_resources(struct task *t, struct remains *remains)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct fdtable *fds = t->fds;
	struct fs_context *fs = t->fs;
	struct mm *mm = t->mm;
	bool last_user = ref_read(&mm->ref) == 1;
	t->fds = NULL;
	t->fs = NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);

	fdtable_put(fds);
	fs_context_put(fs);
	if (last_user) {
		struct mm_usage usage;
		mm_last_usage(mm, t->pt, &usage);
		int64_t used = thread_group_cpu_time(t->tg);
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		t->tg->dead_cpu = used;
		mm_usage_add(&t->tg->dead_usage, &usage);
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->mm = NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	task_host_drop(t);
	mutex_lock(&t->tg->siglock, &lc_signal);
	*remains = (struct remains){.pf = t->k->pf, .pt = t->pt, .mm = mm};
	t->pt = NULL;
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

static void let_go_later(struct remains *r)
{
	struct remains *copy = malloc(sizeof(*copy));

	if (!copy) {
		remains_put(&r->later);
		return;
	}
	*copy = *r;
	copy->later.fn = remains_free;
	worker_later(&copy->later);
}

/* The last thread of a group whose memory is nobody else's. */
static bool ends_alone(struct task *t, const struct mm *mm)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool alone = t->tg->nthreads == 1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return alone && ref_read(&mm->ref) == 1;
}

static int end_status(const struct task *t)
{
	return atomic_load(&t->tg->exiting) ? t->tg->group_exit_status : t->exit_status;
}

/* A thread that is traced stays, as a zombie, until its tracer has waited for it. */
static bool thread_stays(struct task *t) REQUIRES(lc_tasks)
{
	struct task *tracer = atomic_load(&t->trace.tracer);
	int status = end_status(t);
	ksiginfo info;

	if (!tracer)
		return false;
	t->trace.zombie = true;
	t->exit_status = status;
	status_info(&info, t, status, tracer->tg);
	(void)!signal_send_group(tracer->tg, &info);
	waitq_notify(&tracer->tg->wait_children, POLLIN);
	return true;
}

void task_exit(struct task *t)
{
	struct thread_group *tg = t->tg;

	core_wait(t);
	if (task_is_traced(t)) {
		int status = end_status(t);
		if (status != SIGKILL)
			ptrace_event(t, PTRACE_EVENT_EXIT, (uint64_t)status);
	}
	ptrace_tracer_exit(t);
	helpers_stop(t);
	task_release_user(t, true);
	sem_undo_exit(t);
	signal_task_exit(t);
	struct remains remains;
	leave_resources(t, &remains);
	bool later = ends_alone(t, remains.mm);
	if (later)
		mm_empty(remains.mm);
	else
		remains_put(&remains.later);
	task_vfork_done(t);
	seccomp_task_exit(t);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	mutex_lock(&tg->siglock, &lc_signal);
	list_del(&t->thread_link);
	task_io_add(&tg->dead_io, &t->io);
	task_work_ends(t);
	tg->dead_work += atomic_load(&t->work_ticks);
	if (tg->core)
		task_wake(tg->core->dumper);
	mutex_unlock(&tg->siglock, &lc_signal);
	bool last = --tg->nthreads == 0;
	cgroup_uncharge(tg->cgroup);
	if (last)
		cgroup_leave(tg);
	struct task *exec = atomic_load(&tg->exec_task);
	if (exec)
		task_get(exec);
	bool stays = t == tg->leader || thread_stays(t);
	if (!stays)
		task_unhash(t);
	atomic_store(&t->state, stays ? TASK_ZOMBIE : TASK_DEAD);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (exec) {
		task_wake(exec);
		task_put(exec);
	}
	if (last)
		thread_group_exited(t);
	if (later)
		let_go_later(&remains);
	fiber_exit(&t->fiber, forget_task, t);
}

void task_exit_self(struct task *t, int wait_status)
{
	t->exit_status = wait_status;
	t->exit_requested = true;
}

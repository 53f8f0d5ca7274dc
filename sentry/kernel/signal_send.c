/* From whoever sends a signal to the queue, and to the thread that shall look at it. */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"

void signal_info_kernel(ksiginfo *info, int signo)
{
	memset(info, 0, sizeof(*info));
	info->si_signo = signo;
	info->si_code = SI_KERNEL;
}

void signal_info_user(ksiginfo *info, int signo, int code, const struct task *sender)
{
	memset(info, 0, sizeof(*info));
	info->si_signo = signo;
	info->si_code = code;
	info->si_pid = pid_nr_own(sender->tg->pid);
	info->si_uid = sender->cred->uid;
}

/* ---- waking ---- */

void signal_kick_locked(struct task *t)
{
	if (!signal_recalc(t))
		return;
	task_wake(t);
	/* The hint is stored before this load, and whoever enters the guest stores in_guest before
	 * loading the hint: one of the two sees the other. */
	if (atomic_load(&t->in_guest) && t->pt)
		t->k->pf->ops->interrupt(t->pt);
}

void signal_kick(struct task *t)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	signal_kick_locked(t);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

static bool wants(struct task *t, sigset_k set)
{
	return !t->sig_exiting && (set & (~signal_mask_locked(t) | t->sigwait));
}

/* A thread for a group's signal: the first that does not block it, at best one with nothing else to
 * do.  All block it: it waits in the queue. */
static void kick_one_of(struct thread_group *tg, int signo) REQUIRES(lc_signal)
{
	struct task *t, *best = NULL;

	list_for_each (t, &tg->threads, thread_link) {
		if (!wants(t, SIG_BIT(signo)))
			continue;
		if (!best)
			best = t;
		if (!atomic_load(&t->sigpending)) {
			best = t;
			break;
		}
	}
	if (best)
		signal_kick_locked(best);
}

void signal_retarget(struct task *t, sigset_k set)
{
	struct task *s;

	set &= t->tg->pending.set;
	if (!set)
		return;
	list_for_each (s, &t->tg->threads, thread_link) {
		if (s == t || !wants(s, set))
			continue;
		signal_kick_locked(s);
		set &= s->mask & ~s->sigwait;
		if (!set)
			return;
	}
}

/* ---- what a signal does by being sent ---- */

static bool signal_unkillable(const struct thread_group *tg)
{
	return __atomic_load_n(&tg->pid_ns->init, __ATOMIC_RELAXED) == tg && !tg->killable_init;
}

/* The operator's signals name no sender; a guest does, or is in the container's namespace or in one
 * below, so that its init sees it. */
static bool is_operators(const struct thread_group *tg, const ksiginfo *info)
{
	return info->si_code == SI_USER && info->si_pid == 0 && tg->container->init == tg;
}

/*
 * The init of a PID namespace is protected from signals that it has no handler for
 * (pid_namespaces(7)); the kernel's own SIGKILL and SIGSTOP get through, and those of its
 * ancestors.  So does whatever the operator sends to a container's init, where Linux would want a
 * handler for all but these two: `runsc kill` means it.
 */
bool signal_protected(const struct thread_group *tg, const ksiginfo *info, bool forced)
{
	if (!signal_unkillable(tg) || is_operators(tg, info))
		return false;
	return !forced || !(SIG_BIT(info->si_signo) & SIG_SET_KERNEL_ONLY);
}

/* Does the siginfo say who sent it?  sigaction(2). */
static bool names_sender(const ksiginfo *info)
{
	return info->si_code <= 0 && info->si_code != SI_TIMER && info->si_code != SI_SIGIO;
}

/* Is the sender, who is at work on this host thread, in a namespace that tg does not see? */
static bool sender_unseen(const struct thread_group *tg, const ksiginfo *info)
{
	const struct task *sender = names_sender(info) ? task_current() : NULL;

	return sender && sender->tg->pid && !pid_nr_in(sender->tg->pid, tg->pid_ns);
}

static bool sig_ignored(const struct thread_group *tg, struct task *t, const ksiginfo *info,
			bool forced)
{
	sigset_k bit = SIG_BIT(info->si_signo);
	const struct ksigaction *a = &tg->sighand->action[info->si_signo - 1];

	/* A tracer sees what the program ignores. */
	if ((signal_mask_locked(t) & bit) || (task_is_traced(t) && info->si_signo != SIGKILL))
		return false;
	if (a->handler == LINUX_SIG_DFL && signal_protected(tg, info, forced))
		return true;
	return ksigaction_ignores(a, info->si_signo);
}

/* SIGCONT: ends a stop, or one that is under way, whether or not it is blocked or ignored. */
static void group_continue(struct thread_group *tg) REQUIRES(lc_signal)
{
	struct task *t;

	signal_discard(tg, SIG_SET_STOP);
	tg->stop_dequeued = false;
	if (tg->stop_state == STOP_NONE)
		return;
	/* A stop that not all threads had reached yet is reported as if they had. */
	tg->stop_notify = tg->stop_state == STOP_STOPPED ? CLD_CONTINUED : CLD_STOPPED;
	tg->stop_state = STOP_NONE;
	tg->stop_unreported = false;
	tg->cont_unreported = true;
	list_for_each (t, &tg->threads, thread_link)
		signal_kick_locked(t);
}

void signal_group_exit_locked(struct thread_group *tg, int wait_status)
{
	struct task *t;

	if (atomic_load(&tg->exiting))
		return;
	tg->group_exit_status = wait_status;
	tg->stop_state = STOP_NONE;
	atomic_store(&tg->exiting, true);
	list_for_each (t, &tg->threads, thread_link)
		signal_kick_locked(t);
}

void signal_group_exit(struct thread_group *tg, int wait_status)
{
	mutex_lock(&tg->siglock, &lc_signal);
	signal_group_exit_locked(tg, wait_status);
	mutex_unlock(&tg->siglock, &lc_signal);
}

/* ---- queueing ---- */

/* -EAGAIN when a siginfo that must not be lost has no room (sigqueue(3)). */
static int enqueue_copy(struct thread_group *tg, struct sigqueue_head *q, const ksiginfo *info)
{
	bool realtime = info->si_signo >= LINUX_SIGRTMIN;
	/* The kernel's own and kill's standard signals come through beyond the limit: each is
	 * pending at most once. */
	bool over_limit = !realtime && info->si_code >= 0;
	struct sigqueue *e = NULL;

	bool charged = sigqueue_charge(tg);
	if (!charged && over_limit) {
		atomic_fetch_add(&tg->nsigqueued, 1);
		charged = true;
	}
	if (charged && !(e = calloc(1, sizeof(*e))))
		sigqueue_uncharge(tg);
	if (!e && realtime && info->si_code != SI_USER)
		return -EAGAIN;
	if (e) {
		e->info = *info;
		e->count = &tg->nsigqueued;
		list_add_tail(&e->node, &q->list);
	}
	q->set |= SIG_BIT(info->si_signo);
	return 0;
}

int signal_send_locked(struct thread_group *tg, struct task *t, const ksiginfo *info,
		       struct sigqueue *own)
{
	int signo = info->si_signo;
	sigset_k bit = SIG_BIT(signo);
	bool forced = info->si_code == SI_KERNEL;
	ksiginfo seen;

	if (list_empty(&tg->threads) || atomic_load(&tg->exiting) || (t && t->sig_exiting))
		return SIGNAL_QUEUED; /* nobody is left to see that it was lost */
	if (bit & SIG_SET_STOP)
		signal_discard(tg, SIG_BIT(SIGCONT));
	else if (signo == SIGCONT)
		group_continue(tg);
	if (sender_unseen(tg, info)) {
		seen = *info;
		seen.si_pid = 0;
		info = &seen;
		forced = true;
	}
	if (sig_ignored(tg, t ? t : list_first(&tg->threads, struct task, thread_link), info,
			forced))
		return SIGNAL_IGNORED;
	if (signo == SIGKILL) {
		signal_group_exit_locked(tg, SIGKILL);
		return SIGNAL_QUEUED;
	}

	struct sigqueue_head *q = t ? &t->pending : &tg->pending;
	if (own) {
		list_add_tail(&own->node, &q->list);
		own->on = q;
		q->set |= bit;
	} else {
		if (signo < LINUX_SIGRTMIN && (q->set & bit))
			return SIGNAL_QUEUED;
		int err = enqueue_copy(tg, q, info);
		if (err)
			return err;
	}
	if (!t)
		kick_one_of(tg, signo);
	else if (wants(t, bit))
		signal_kick_locked(t);
	signalfd_notify();
	return SIGNAL_QUEUED;
}

int signal_send_task(struct task *t, const ksiginfo *info)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	int ret = signal_send_locked(t->tg, t, info, NULL);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return ret < 0 ? ret : 0;
}

int signal_send_group(struct thread_group *tg, const ksiginfo *info)
{
	if (info->si_signo == 0) /* only asks whether there is somebody */
		return 0;
	mutex_lock(&tg->siglock, &lc_signal);
	int ret = signal_send_locked(tg, NULL, info, NULL);
	mutex_unlock(&tg->siglock, &lc_signal);
	return ret < 0 ? ret : 0;
}

void signal_force(struct task *t, const ksiginfo *info)
{
	struct thread_group *tg = t->tg;
	sigset_k bit = SIG_BIT(info->si_signo);

	mutex_lock(&tg->siglock, &lc_signal);
	struct ksigaction *a = &tg->sighand->action[info->si_signo - 1];
	if ((t->mask & bit) || a->handler == LINUX_SIG_IGN) {
		a->handler = LINUX_SIG_DFL;
		t->mask &= ~bit;
	}
	if (a->handler == LINUX_SIG_DFL)
		tg->killable_init = true;
	(void)signal_send_locked(tg, t, info, NULL);
	signal_recalc(t);
	mutex_unlock(&tg->siglock, &lc_signal);
}

/* ---- kill(2) ---- */

static bool permitted(const struct task *sender, const struct thread_group *target, int signo)
	REQUIRES(lc_tasks)
{
	const struct cred *c = sender->cred, *tc = target->leader ? target->leader->cred : NULL;

	if (sender->tg == target || !tc)
		return true;
	if (landlock_is_scoped(c->landlock, tc->landlock, LL_SCOPE_SIGNAL))
		return false;
	if (c->euid == tc->suid || c->euid == tc->uid || c->uid == tc->suid || c->uid == tc->uid)
		return true;
	if (cred_ns_capable(c, tc->user_ns, CAP_KILL))
		return true;
	return signo == SIGCONT && sender->tg->session == target->session;
}

bool signal_permitted(const struct task *sender, const struct thread_group *target, int signo)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool ok = permitted(sender, target, signo);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ok;
}

int signal_send_pgrp(int pgid, const ksiginfo *info)
{
	struct thread_group *tg;
	int ret = -ESRCH;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		if (tg->pgid != pgid)
			continue;
		(void)signal_send_group(tg, info);
		ret = 0;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

static int kill_one(const struct task *sender, struct thread_group *tg, const ksiginfo *info)
	REQUIRES(lc_tasks)
{
	if (!permitted(sender, tg, info->si_signo))
		return -EPERM;
	return signal_send_group(tg, info);
}

int signal_kill_pgrp(const struct task *sender, int pgid, const ksiginfo *info)
{
	struct thread_group *tg;
	bool success = false;
	int ret = -ESRCH;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		if (tg->pgid != pgid)
			continue;
		ret = kill_one(sender, tg, info);
		success |= ret == 0;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return success ? 0 : ret;
}

/* Everybody in its namespace but the sender and the init; what is not permitted is passed over. */
int signal_kill_all(const struct task *sender, const ksiginfo *info)
{
	struct thread_group *tg;
	int ret = -ESRCH;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		if (tg == sender->tg || pid_nr_in(tg->pid, task_pid_ns(sender)) <= 1)
			continue;
		int err = kill_one(sender, tg, info);
		if (ret == -ESRCH)
			ret = 0;
		if (err && err != -EPERM)
			ret = err;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ret;
}

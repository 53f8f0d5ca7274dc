/* Queues, masks and actions.  Sending is in signal_send.c, the way to handlers in signal_deliver.c.
 */
#include "sentry/kernel/signal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/abi/signal.h"
#include "sentry/arch/sigframe.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"
#include "sentry/time/posix_timers.h"

/* What sigaction(2) keeps of sa_flags; unknown bits read back as zero. */
#define LINUX_SA_RESTORER 0x04000000
#define LINUX_SA_EXPOSE_TAGBITS 0x00000800
#define SA_KNOWN                                                                                  \
	(SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | LINUX_SA_EXPOSE_TAGBITS | LINUX_SA_RESTORER | \
	 SA_ONSTACK | SA_RESTART | SA_NODEFER | (uint32_t)SA_RESETHAND)

/* ---- queues ---- */

void sigqueue_init(struct sigqueue_head *q)
{
	q->set = 0;
	list_init(&q->list);
}

static void entry_free(struct sigqueue *e)
{
	list_del(&e->node);
	e->on = NULL;
	if (e->timer)
		return;
	atomic_fetch_sub(e->count, 1);
	free(e);
}

/* Under siglock, but for queues of what nobody can reach any more: those hold no timers. */
static void queue_discard(struct sigqueue_head *q, sigset_k set) NO_LOCK_ANALYSIS
{
	struct sigqueue *e, *tmp;

	if (!(q->set & set))
		return;
	q->set &= ~set;
	list_for_each_safe (e, tmp, &q->list, node) {
		struct posix_timer *timer = e->timer;
		if (!(SIG_BIT(e->info.si_signo) & set))
			continue;
		entry_free(e);
		if (timer)
			posix_timer_discarded(timer);
	}
}

void sigqueue_flush(struct sigqueue_head *q)
{
	queue_discard(q, ~0ULL);
}

void signal_discard(struct thread_group *tg, sigset_k set)
{
	struct task *t;

	queue_discard(&tg->pending, set);
	list_for_each (t, &tg->threads, thread_link)
		queue_discard(&t->pending, set);
}

/* The limit is counted by process, where Linux counts by user; "unlimited" ends somewhere. */
#define SIGPENDING_MAX (1U << 17)

bool sigqueue_charge(struct thread_group *tg)
{
	uint64_t limit = __atomic_load_n(&tg->rlimit[RLIMIT_SIGPENDING].cur, __ATOMIC_RELAXED);

	if (atomic_fetch_add(&tg->nsigqueued, 1) < MIN(limit, SIGPENDING_MAX))
		return true;
	atomic_fetch_sub(&tg->nsigqueued, 1);
	return false;
}

void sigqueue_uncharge(struct thread_group *tg)
{
	atomic_fetch_sub(&tg->nsigqueued, 1);
}

void sigqueue_remove_timer(struct sigqueue *e)
{
	struct sigqueue_head *q = e->on;
	struct sigqueue *other;

	if (!q)
		return;
	list_del(&e->node);
	e->on = NULL;
	list_for_each (other, &q->list, node)
		if (other->info.si_signo == e->info.si_signo)
			return;
	q->set &= ~SIG_BIT(e->info.si_signo);
}

/* Faults first: their siginfo describes the registers as they are now.  Then the lowest. */
static int lowest_signal(sigset_k set)
{
	if (set & SIG_SET_SYNC)
		set &= SIG_SET_SYNC;
	return set ? __builtin_ctzll(set) + 1 : 0;
}

static int queue_take(struct sigqueue_head *q, sigset_k want, ksiginfo *info,
		      struct posix_timer **timer)
{
	struct sigqueue *e, *found = NULL;
	bool more = false;
	int signo = lowest_signal(q->set & want);

	*timer = NULL;
	if (!signo)
		return 0;
	list_for_each (e, &q->list, node) {
		if (e->info.si_signo != signo)
			continue;
		if (found) {
			more = true;
			break;
		}
		found = e;
	}
	if (!more)
		q->set &= ~SIG_BIT(signo);
	if (found) {
		*info = found->info;
		*timer = found->timer;
		entry_free(found);
	} else {
		/* There was no memory or no room for its siginfo. */
		memset(info, 0, sizeof(*info));
		info->si_signo = signo;
		info->si_code = SI_USER;
	}
	return signo;
}

bool signal_info_has_uid(const ksiginfo *info)
{
	if (info->si_signo == SIGCHLD && info->si_code > 0)
		return info->si_code <= CLD_CONTINUED;
	return info->si_code <= 0 && info->si_code != SI_TIMER && info->si_code != SI_SIGIO;
}

int signal_dequeue_locked(struct task *t, sigset_k want, ksiginfo *info)
{
	struct thread_group *tg = t->tg;
	struct posix_timer *timer;

	int signo = queue_take(&t->pending, want, info, &timer);
	if (!signo) {
		signo = queue_take(&tg->pending, want, info, &timer);
		if (signo == SIGALRM)
			itimer_real_dequeued(tg);
	}
	if (timer)
		posix_timer_dequeued(timer, info);
	if (signo && t->cred->user_ns != &user_ns_top && signal_info_has_uid(info))
		info->si_uid = uid_show(t->cred->user_ns, info->si_uid);
	signal_recalc(t);
	return signo;
}

int signal_dequeue(struct task *t, sigset_k want, ksiginfo *info)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	int signo = signal_dequeue_locked(t, want & ~SIG_UNBLOCKABLE, info);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return signo;
}

sigset_k signal_pending_set(struct task *t)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	sigset_k set = t->pending.set | t->tg->pending.set;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return set;
}

/* ---- masks that are lent to the platform ---- */

void signal_lend_mask(struct task *t, bool lend)
{
	const struct platform_ops *ops = t->k->pf->ops;

	lend = lend && ops->lend_mask;
	if (atomic_load(&t->mask_lent) != lend)
		atomic_store(&t->mask_lent, lend);
	if (lend)
		ops->lend_mask(t->pt, t->mask);
}

/* Whoever queues a signal does it before looking at in_guest; we look after setting it. */
void signal_recall_pending(struct task *t)
{
	if (atomic_load(&t->mask_lent) && (__atomic_load_n(&t->pending.set, __ATOMIC_RELAXED) ||
					   __atomic_load_n(&t->tg->pending.set, __ATOMIC_RELAXED)))
		t->k->pf->ops->recall_mask(t->pt);
}

static void set_mask_locked(struct task *t, sigset_k mask) REQUIRES(lc_signal)
{
	sigset_k newly_blocked = mask & ~t->mask;

	t->mask = mask & ~SIG_UNBLOCKABLE;
	if (atomic_load(&t->sigpending) && newly_blocked)
		signal_retarget(t, newly_blocked);
	signal_recalc(t);
}

void signal_take_mask(struct task *t)
{
	if (!atomic_load(&t->mask_lent))
		return;
	sigset_k mask = t->k->pf->ops->lent_mask(t->pt) & ~SIG_UNBLOCKABLE;
	if (mask != t->mask)
		signal_set_mask(t, mask);
}

sigset_k signal_mask_locked(struct task *t)
{
	const struct platform_ops *ops = t->k->pf->ops;

	if (atomic_load(&t->in_guest) && atomic_load(&t->mask_lent) && t->pt) {
		ops->recall_mask(t->pt);
		t->mask = ops->lent_mask(t->pt) & ~SIG_UNBLOCKABLE;
	}
	return t->mask;
}

/* ---- the hint, and masks ---- */

bool signal_recalc(struct task *t)
{
	struct thread_group *tg = t->tg;
	sigset_k mask = signal_mask_locked(t);
	bool pending = task_must_die(t);

	/* A stopped thread looks at nothing but its end and the end of the stop. */
	if (!pending && !(t->stopped && tg->stop_state != STOP_NONE))
		pending = ((t->pending.set | tg->pending.set) & (~mask | t->sigwait)) ||
			  (tg->stop_state != STOP_NONE && !t->trace.stop_seen) || tg->stop_notify ||
			  atomic_load(&t->trace.trap_wanted);
	atomic_store(&t->sigpending, pending);
	return pending;
}

bool signal_pending(const struct task *t)
{
	return atomic_load(&t->sigpending);
}

bool signal_fatal_pending(const struct task *t)
{
	return task_must_die(t);
}

void signal_set_mask(struct task *t, sigset_k mask)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	set_mask_locked(t, mask);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

void signal_set_temp_mask(struct task *t, sigset_k mask)
{
	if (!t->has_saved_mask) {
		t->saved_mask = t->mask;
		t->has_saved_mask = true;
	}
	signal_set_mask(t, mask);
}

void signal_restore_saved_mask(struct task *t)
{
	if (!t->has_saved_mask)
		return;
	t->has_saved_mask = false;
	signal_set_mask(t, t->saved_mask);
}

/* ---- actions ---- */

struct sighand *sighand_new(void)
{
	struct sighand *s = calloc(1, sizeof(*s));
	if (s)
		ref_init(&s->ref, 1);
	return s;
}

struct sighand *sighand_dup(struct sighand *src)
{
	struct sighand *s = sighand_new();
	if (s)
		memcpy(s->action, src->action, sizeof(s->action));
	return s;
}

struct sighand *sighand_get(struct sighand *s)
{
	ref_get(&s->ref);
	return s;
}

void sighand_put(struct sighand *s)
{
	if (s && ref_put(&s->ref))
		free(s);
}

int ksigaction_set(struct task *t, int signo, const struct ksigaction *new, struct ksigaction *old)
{
	struct thread_group *tg = t->tg;

	if (signo < 1 || signo > LINUX_NSIG || (new && (SIG_BIT(signo) & SIG_SET_KERNEL_ONLY)))
		return -EINVAL;
	mutex_lock(&tg->siglock, &lc_signal);
	struct ksigaction *a = &tg->sighand->action[signo - 1];
	if (old)
		*old = *a;
	if (new) {
		*a = *new;
		a->flags &= SA_KNOWN;
		a->mask &= ~SIG_UNBLOCKABLE;
		/* POSIX: what becomes ignored is no longer pending, blocked or not. */
		if (ksigaction_ignores(a, signo)) {
			signal_discard(tg, SIG_BIT(signo));
			if (signo == SIGALRM)
				itimer_real_dequeued(tg);
			struct task *s;
			list_for_each (s, &tg->threads, thread_link)
				signal_recalc(s);
		}
	}
	mutex_unlock(&tg->siglock, &lc_signal);
	return 0;
}

bool sigchld_ignored(struct thread_group *parent)
{
	mutex_lock(&parent->siglock, &lc_signal);
	const struct ksigaction *a = &parent->sighand->action[SIGCHLD - 1];
	bool ignored = a->handler == LINUX_SIG_IGN || (a->flags & SA_NOCLDWAIT);
	mutex_unlock(&parent->siglock, &lc_signal);
	return ignored;
}

/* ---- life ---- */

void signal_exec(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct sighand *own = NULL, *shared = NULL;

	posix_timers_exec(tg);
	cpu_limit_changed(tg);
	if (ref_read(&tg->sighand->ref) > 1)
		own = sighand_dup(tg->sighand);
	mutex_lock(&tg->siglock, &lc_signal);
	/* Without memory for a copy the others' handlers go as well: their owner is already in
	 * trouble, while jumping to handlers of the old program would be ours. */
	if (own) {
		shared = tg->sighand;
		tg->sighand = own;
	}
	for (int i = 0; i < LINUX_NSIG; i++) {
		struct ksigaction *a = &tg->sighand->action[i];
		uint64_t handler = a->handler == LINUX_SIG_IGN ? LINUX_SIG_IGN : LINUX_SIG_DFL;
		*a = (struct ksigaction){.handler = handler};
	}
	signal_recalc(t);
	mutex_unlock(&tg->siglock, &lc_signal);
	sighand_put(shared);
	tg->threaded = false;
	t->altstack.sp = t->altstack.size = 0;
	t->restart_fn = NULL;
}

void signal_thread_group_fini(struct thread_group *tg)
{
	sigqueue_flush(&tg->pending);
}

/* ---- sigaltstack(2) ---- */

static bool on_altstack(const struct task *t, uint64_t rsp)
{
	struct linux_stack alt = signal_altstack(t);

	return sigframe_on_stack(&alt, rsp);
}

void signal_altstack_get(const struct task *t, uint64_t rsp, struct sigaltstack_k *out)
{
	uint32_t state = t->altstack.size == 0 ? SS_DISABLE : on_altstack(t, rsp) ? SS_ONSTACK : 0;

	*out = t->altstack;
	out->flags = (int32_t)(state | ((uint32_t)t->altstack.flags & LINUX_SS_AUTODISARM));
	out->pad = 0;
}

int signal_altstack_set(struct task *t, const struct sigaltstack_k *ss, uint64_t rsp)
{
	uint32_t mode = (uint32_t)ss->flags & ~LINUX_SS_AUTODISARM;

	if (on_altstack(t, rsp))
		return -EPERM;
	if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
		return -EINVAL;
	if (mode == SS_DISABLE) {
		t->altstack = (struct sigaltstack_k){.flags = ss->flags};
		return 0;
	}
	if (ss->size < LINUX_MINSIGSTKSZ)
		return -ENOMEM;
	t->altstack = (struct sigaltstack_k){.sp = ss->sp, .flags = ss->flags, .size = ss->size};
	return 0;
}

/* timer_create(2) and its kin. */
#include "sentry/kernel/pid.h"
#include "sentry/time/posix_timers.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/time/timers_internal.h"

struct posix_timer *posix_timer_lookup(struct posix_timers *pt, int id)
{
	struct rb_node *n = pt->by_id.node;

	while (n) {
		struct posix_timer *timer = rb_entry(n, struct posix_timer, node);
		if (id == timer->id)
			return timer;
		n = id < timer->id ? n->left : n->right;
	}
	return NULL;
}

static void table_insert(struct posix_timers *pt, struct posix_timer *timer) REQUIRES(lc_signal)
{
	struct rb_node **link = &pt->by_id.node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = timer->id < rb_entry(parent, struct posix_timer, node)->id ? &parent->left
										  : &parent->right;
	}
	rb_insert(&pt->by_id, &timer->node, parent, link);
}

/* Ids count up, as Linux's do; the table is far smaller than the number space. */
static int table_new_id(struct posix_timers *pt) REQUIRES(lc_signal)
{
	int id = pt->last_id;

	while (posix_timer_lookup(pt, id))
		id = id == INT_MAX ? 0 : id + 1;
	pt->last_id = id == INT_MAX ? 0 : id + 1;
	return id;
}

/* ---- expiry ---- */

/* Wall clocks: has the ktimer fire when the clock shows `expires`. */
static void arm_wall(struct posix_timer *timer, int64_t now, int64_t at_least) REQUIRES(lc_signal)
{
	int64_t wait = timer->expires > now ? timer->expires - now : 0;

	ktimer_arm(&timer->kt, time_add(time_monotonic(), MAX(wait, at_least)));
}

static struct task *find_thread(struct thread_group *tg, int tid) REQUIRES(lc_signal)
{
	struct task *t;

	list_for_each (t, &tg->threads, thread_link)
		if (pid_nr_own(t->pid) == tid)
			return t;
	return NULL;
}

void posix_timer_expire(struct posix_timer *timer, int64_t now)
{
	struct thread_group *tg = timer->tg;
	struct task *target = NULL;
	int sent = SIGNAL_QUEUED;

	if (timer->notify == SIGEV_THREAD_ID && !(target = find_thread(tg, timer->tid))) {
		timer->armed = false;
		return;
	}
	if (timer->entry.on)
		timer->overrun++;
	else
		sent = signal_send_locked(tg, target, &timer->entry.info, &timer->entry);
	if (!timer->interval) {
		timer->armed = false;
	} else if (timer->clock.kind != GUEST_CLOCK_WALL) {
		/* Polled, at a bounded rate: it need not wait for its signal. */
		timer->overrun += timer_forward(&timer->expires, timer->interval, now);
	} else if (sent == SIGNAL_IGNORED || !timer->entry.on) {
		timer->overrun += timer_forward(&timer->expires, timer->interval, now);
		arm_wall(timer, now, TIMER_TICK);
	} else {
		timer->waiting = true;
	}
}

static void timer_fire(struct ktimer *kt)
{
	struct posix_timer *timer = container_of(kt, struct posix_timer, kt);
	struct thread_group *tg = timer->tg;

	mutex_lock(&tg->siglock, &lc_signal);
	if (timer->armed && !timer->waiting) {
		int64_t now = guest_clock_now(&timer->clock);
		/* It was set anew, or the clock was set back. */
		if (timer->expires > now)
			arm_wall(timer, now, 0);
		else
			posix_timer_expire(timer, now);
	}
	mutex_unlock(&tg->siglock, &lc_signal);
}

static void resume_periodic(struct posix_timer *timer, int64_t at_least) REQUIRES(lc_signal)
{
	if (!timer->waiting)
		return;
	int64_t now = guest_clock_now(&timer->clock);
	timer->waiting = false;
	timer->overrun += timer_forward(&timer->expires, timer->interval, now);
	arm_wall(timer, now, at_least);
}

void posix_timer_dequeued(struct posix_timer *timer, ksiginfo *info)
{
	resume_periodic(timer, 0);
	timer->overrun_last = (int)MIN(timer->overrun, (int64_t)INT_MAX);
	timer->overrun = 0;
	info->si_overrun = timer->overrun_last;
}

void posix_timer_discarded(struct posix_timer *timer)
{
	resume_periodic(timer, TIMER_TICK);
}

/* ---- the calls ---- */

static int check_event(struct task *t, const struct linux_sigevent *ev)
{
	switch (ev->notify) {
	case SIGEV_NONE:
		return 0;
	case SIGEV_THREAD_ID:
		mutex_lock(&t->tg->siglock, &lc_signal);
		bool found = find_thread(t->tg, ev->tid);
		mutex_unlock(&t->tg->siglock, &lc_signal);
		if (!found)
			return -EINVAL;
		break;
	case SIGEV_SIGNAL:
	case SIGEV_THREAD:
		break;
	default:
		return -EINVAL;
	}
	return ev->signo < 1 || ev->signo > LINUX_NSIG ? -EINVAL : 0;
}

static int check_clock(struct task *t, const struct guest_clock *c)
{
	if (!guest_clock_can_wait(c))
		return -EOPNOTSUPP;
	if (c->alarm)
		return task_capable(t, CAP_WAKE_ALARM) ? -EOPNOTSUPP : -EPERM;
	return 0;
}

static struct posix_timer *timer_new(struct thread_group *tg, const struct linux_sigevent *ev)
{
	struct posix_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return NULL;
	timer->tg = tg;
	timer->notify = ev->notify;
	timer->tid = ev->tid;
	ktimer_init(&timer->kt, timer_fire);
	list_init(&timer->entry.node);
	timer->entry.timer = timer;
	timer->entry.info.si_signo = ev->signo;
	timer->entry.info.si_code = SI_TIMER;
	timer->entry.info.si_value.sival_ptr = (void *)(uintptr_t)ev->value;
	return timer;
}

/* A timer must not keep its own group alive. */
static void timer_own_clock(struct posix_timer *timer, const struct guest_clock *c)
{
	timer->clock = *c;
	if (c->tg == timer->tg)
		thread_group_put(c->tg); /* the group outlives its timers */
}

static void timer_free(struct posix_timer *timer)
{
	ktimer_cancel(&timer->kt);
	if (timer->clock.tg != timer->tg)
		guest_clock_fini(&timer->clock);
	sigqueue_uncharge(timer->tg);
	free(timer);
}

int posix_timer_create(struct task *t, int clock, const struct linux_sigevent *given, int *id)
{
	const struct linux_sigevent by_default = {.signo = SIGALRM, .notify = SIGEV_SIGNAL};
	const struct linux_sigevent *ev = given ? given : &by_default;
	struct posix_timers *pt = posix_timers_obtain(t->tg);
	struct guest_clock c;

	if (!pt)
		return -ENOMEM;
	int err = guest_clock_lookup(t, clock, &c);
	if (err)
		return err;
	if ((err = check_clock(t, &c)) || (err = check_event(t, ev)))
		goto out;
	err = -EAGAIN;
	if (!sigqueue_charge(t->tg))
		goto out;
	struct posix_timer *timer = timer_new(t->tg, ev);
	if (!timer) {
		sigqueue_uncharge(t->tg);
		goto out;
	}
	timer_own_clock(timer, &c);
	mutex_lock(&t->tg->siglock, &lc_signal);
	timer->id = table_new_id(pt);
	timer->entry.info.si_timerid = timer->id;
	if (!given)
		timer->entry.info.si_value.sival_ptr = (void *)(uintptr_t)timer->id;
	table_insert(pt, timer);
	*id = timer->id;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return 0;

out:
	guest_clock_fini(&c);
	return err;
}

int64_t posix_timer_read_clock(const struct posix_timer *timer)
{
	struct thread_group *tg = timer->tg;
	struct guest_clock c = timer->clock;

	if (c.tg)
		thread_group_get(c.tg);
	if (c.task)
		task_get(c.task);
	mutex_unlock(&tg->siglock, &lc_signal);
	int64_t now = guest_clock_now(&c);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (c.tg && c.tg != tg && c.tg->zombie)
		now = -1;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	guest_clock_fini(&c);
	mutex_lock(&tg->siglock, &lc_signal);
	return now;
}

/*
 * Finds a timer and reads its clock; NULL: there is none.  Returns with siglock held.  CPU clocks
 * are read without it, and the timer looked up again.
 */
static struct posix_timer *timer_lock(struct task *t, int id, int64_t *now) ACQUIRES(lc_signal)
{
	struct thread_group *tg = t->tg;

	*now = 0;
	mutex_lock(&tg->siglock, &lc_signal);
	struct posix_timer *timer = tg->timers ? posix_timer_lookup(tg->timers, id) : NULL;
	if (!timer)
		return NULL;
	if (timer->clock.kind == GUEST_CLOCK_WALL) {
		*now = guest_clock_now(&timer->clock);
		return timer;
	}
	*now = posix_timer_read_clock(timer);
	timer = posix_timer_lookup(tg->timers, id);
	if (timer && *now < 0) {
		timer->armed = false;
		*now = 0;
	}
	return timer;
}

static void get_locked(const struct posix_timer *timer, int64_t now, struct itimer_ns *out)
	REQUIRES(lc_signal)
{
	*out = (struct itimer_ns){.interval = timer->interval};
	if (!timer->armed)
		return;
	int64_t expires = timer->expires;
	if (timer->interval && (timer->notify == SIGEV_NONE || timer->waiting))
		timer_forward(&expires, timer->interval, now);
	if (expires > now)
		out->value = expires - now;
	else
		out->value = timer->notify == SIGEV_NONE ? 0 : 1; /* due, its signal on the way */
}

int posix_timer_gettime(struct task *t, int id, struct itimer_ns *out)
{
	int64_t now;
	struct posix_timer *timer = timer_lock(t, id, &now);

	if (timer)
		get_locked(timer, now, out);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return timer ? 0 : -EINVAL;
}

static void settime_locked(struct posix_timer *timer, bool absolute, const struct itimer_ns *new,
			   int64_t now) REQUIRES(lc_signal)
{
	/* A signal that the old setting has queued is void. */
	sigqueue_remove_timer(&timer->entry);
	timer->waiting = false;
	timer->overrun = 0;
	timer->overrun_last = 0;
	timer->armed = new->value != 0;
	timer->interval = new->value ? new->interval : 0;
	timer->expires = absolute ? new->value : time_add(now, new->value);
	if (!timer->armed || timer->notify == SIGEV_NONE)
		return;
	if (timer->clock.kind == GUEST_CLOCK_WALL)
		arm_wall(timer, now, 0);
	else
		cpu_timers_kick(timer->tg->timers);
}

int posix_timer_settime(struct task *t, int id, bool absolute, const struct itimer_ns *new,
			struct itimer_ns *old)
{
	int64_t now;
	struct posix_timer *timer = timer_lock(t, id, &now);

	if (timer) {
		if (old)
			get_locked(timer, now, old);
		settime_locked(timer, absolute, new, now);
	}
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return timer ? 0 : -EINVAL;
}

int posix_timer_getoverrun(struct task *t, int id)
{
	struct thread_group *tg = t->tg;
	int ret = -EINVAL;

	mutex_lock(&tg->siglock, &lc_signal);
	struct posix_timer *timer = tg->timers ? posix_timer_lookup(tg->timers, id) : NULL;
	if (timer)
		ret = timer->overrun_last;
	mutex_unlock(&tg->siglock, &lc_signal);
	return ret;
}

/* Takes it out of everything that is reached under siglock; the caller frees it without. */
static void timer_unlink(struct posix_timers *pt, struct posix_timer *timer) REQUIRES(lc_signal)
{
	rb_erase(&pt->by_id, &timer->node);
	timer->armed = false;
	sigqueue_remove_timer(&timer->entry);
}

int posix_timer_delete(struct task *t, int id)
{
	struct thread_group *tg = t->tg;

	mutex_lock(&tg->siglock, &lc_signal);
	struct posix_timer *timer = tg->timers ? posix_timer_lookup(tg->timers, id) : NULL;
	if (timer)
		timer_unlink(tg->timers, timer);
	mutex_unlock(&tg->siglock, &lc_signal);
	if (!timer)
		return -EINVAL;
	timer_free(timer);
	return 0;
}

/* The clock as a guest would name it: clock_getcpuclockid(3). */
static int clock_id(const struct guest_clock *c)
{
	return c->kind == GUEST_CLOCK_WALL	? (int)c->host
	       : c->kind == GUEST_CLOCK_PROCESS ? -6
						: -2;
}

void posix_timers_each(struct thread_group *tg, void (*fn)(const struct posix_timer_info *, void *),
		       void *arg)
{
	struct rb_node *n;

	mutex_lock(&tg->siglock, &lc_signal);
	if (tg->timers && tg->pid) {
		rb_for_each (n, &tg->timers->by_id) {
			const struct posix_timer *timer = rb_entry(n, struct posix_timer, node);
			const struct posix_timer_info info = {
				.id = timer->id,
				.clock = clock_id(&timer->clock),
				.signo = timer->entry.info.si_signo,
				.notify = timer->notify,
				.target = timer->notify == SIGEV_THREAD_ID ? timer->tid
									   : pid_nr_own(tg->pid),
				.value = (uintptr_t)timer->entry.info.si_value.sival_ptr,
			};
			fn(&info, arg);
		}
	}
	mutex_unlock(&tg->siglock, &lc_signal);
}

void posix_timers_exec(struct thread_group *tg)
{
	struct rb_node *n = NULL;

	do {
		mutex_lock(&tg->siglock, &lc_signal);
		n = tg->timers ? rb_first(&tg->timers->by_id) : NULL;
		if (n)
			timer_unlink(tg->timers, rb_entry(n, struct posix_timer, node));
		mutex_unlock(&tg->siglock, &lc_signal);
		if (n)
			timer_free(rb_entry(n, struct posix_timer, node));
	} while (n);
}

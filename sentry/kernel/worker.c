/*
 * Workers: the host threads that run tasks' fibers.
 *
 * A worker takes the next runnable fiber, or else the platform's next event, runs the handler to
 * its end or to its first wait, and goes on.  Whoever makes a task runnable from inside a handler
 * leaves it to its own worker, which is about to be free: waking another CPU costs more than most
 * handlers take.  Only what is left over wakes a second worker.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "sentry/host/crash.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/task.h"
#include "sentry/lib/log.h"
#include "sentry/lib/sleep_lock.h"

#define WORKERS_MAX 64
#define WORKER_STACK (128UL << 10)

enum { PARK_NONE, PARK_TOKEN, PARK_ASLEEP };

static struct mutex runq_lock;
static struct list_head runq = LIST_HEAD_INIT(runq); /* of task.run_link; lc_runq */
static _Atomic int runq_len;
static _Atomic int workers, blocked, idle;
static __thread bool is_worker;
static __thread struct task *running;

/* Put off; a busy run queue must not put it off for ever. */
#define LATER_MAX 8
static __thread struct later *laters;
static __thread int nlaters;

static void run_laters(void)
{
	while (laters) {
		struct later *l = laters;
		laters = l->next;
		l->fn(l);
	}
	nlaters = 0;
}

void worker_later(struct later *l)
{
	if (!is_worker) {
		l->fn(l);
		return;
	}
	l->next = laters;
	laters = l;
	nlaters++;
}

static void kick_one(void)
{
	if (atomic_load(&idle) > 0)
		kernel->pf->ops->kick(kernel->pf);
}

void task_make_runnable(struct task *t)
{
	mutex_lock(&runq_lock, &lc_runq);
	list_add_tail(&t->run_link, &runq);
	atomic_fetch_add(&runq_len, 1);
	mutex_unlock(&runq_lock, &lc_runq);
	if (!is_worker)
		kick_one();
}

static struct task *runq_pop(void)
{
	if (atomic_load(&runq_len) == 0)
		return NULL;
	struct task *t = NULL;
	mutex_lock(&runq_lock, &lc_runq);
	if (!list_empty(&runq)) {
		t = list_first(&runq, struct task, run_link);
		list_del(&t->run_link);
		atomic_fetch_sub(&runq_len, 1);
	}
	mutex_unlock(&runq_lock, &lc_runq);
	return t;
}

/* The next task to run, from the queue or with a fresh event; NULL: look again. */
static struct task *next_task(void)
{
	struct task *t = nlaters < LATER_MAX ? runq_pop() : NULL;
	if (t) {
		if (atomic_load(&runq_len) > 0)
			kick_one();
		return t;
	}
	if (laters) {
		run_laters();
		return NULL;
	}
	atomic_fetch_add(&idle, 1);
	if (atomic_load(&runq_len) > 0) {
		atomic_fetch_sub(&idle, 1);
		return NULL;
	}
	struct p_thread *pt = kernel->pf->ops->next(kernel->pf);
	atomic_fetch_sub(&idle, 1);
	if (!pt)
		return NULL;
	t = kernel->pf->ops->owner(pt);
	atomic_store_explicit(&t->in_guest, false, memory_order_release);
	return t;
}

/* Not inlined: a fiber that moved to another worker must not keep this one's address. */
__attribute__((noinline)) struct task *task_current(void)
{
	return running;
}

static void *worker_main(void *arg)
{
	struct fiber_home home;

	(void)arg;
	crash_thread_init();
	memset(&home, 0, sizeof(home));
	is_worker = true;
	for (;;) {
		struct task *t = next_task();
		if (!t)
			continue;
		running = t;
		fiber_run(&home, &t->fiber);
		running = NULL;
	}
	return NULL;
}

static int worker_spawn(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	atomic_fetch_add(&workers, 1);
	int err = pthread_create(&thread, &attr, worker_main, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		atomic_fetch_sub(&workers, 1);
	return -err;
}

int kernel_start_workers(void)
{
	unsigned n = kernel->ncpus > 2 ? kernel->ncpus : 2;

	for (unsigned i = 0; i < n; i++) {
		int err = worker_spawn();
		if (err)
			return err;
	}
	return 0;
}

static void hint_parked(struct task *t)
{
	void (*parks)(struct p_thread *) = t->k->pf->ops->parks;

	if (parks && t->pt)
		parks(t->pt);
}

void worker_host_block_begin(void)
{
	if (!is_worker)
		return;
	if (running)
		hint_parked(running);
	int away = atomic_fetch_add(&blocked, 1) + 1;
	int all = atomic_load(&workers);
	if (all - away < (int)kernel->ncpus && all < WORKERS_MAX && worker_spawn())
		log_limited(LOG_WARN, "no host thread for another worker");
	if (atomic_load(&runq_len) > 0)
		kick_one();
}

void worker_host_block_end(void)
{
	if (is_worker)
		atomic_fetch_sub(&blocked, 1);
}

/* ---- sleeping ---- */

void task_wake(struct task *t)
{
	if (atomic_exchange(&t->park, PARK_TOKEN) == PARK_ASLEEP)
		task_make_runnable(t);
}

static void park_after(void *arg)
{
	struct task *t = arg;
	uint32_t none = PARK_NONE;

	/* Once it can be woken, its platform thread is somebody else's. */
	hint_parked(t);
	if (!atomic_compare_exchange_strong(&t->park, &none, PARK_ASLEEP))
		task_make_runnable(t); /* the token came while the fiber was leaving */
}

static void park_timeout(struct ktimer *timer)
{
	struct task *t = container_of(timer, struct task, park_timer);

	atomic_store(&t->timer_fired, true);
	task_wake(t);
}

bool task_must_die(const struct task *t)
{
	const struct task *exec = atomic_load(&t->tg->exec_task);

	return atomic_load(&t->tg->exiting) || (exec && exec != t);
}

/* Is there something that a task must look at instead of sleeping? */
static bool park_ends(const struct task *t, enum task_state state)
{
	return (state != TASK_TRACED_AT_EXIT && task_must_die(t)) ||
	       (state == TASK_SLEEPING && signal_pending(t));
}

int task_park(struct task *t, enum task_state state, int64_t deadline)
{
	int ret = 0;

	if (atomic_load(&t->park) == PARK_TOKEN)
		goto woken;
	if (park_ends(t, state))
		return -EINTR;
	if (deadline != TIME_NEVER) {
		if (time_monotonic() >= deadline)
			return -ETIMEDOUT;
		atomic_store(&t->timer_fired, false);
		ktimer_init(&t->park_timer, park_timeout);
		ktimer_arm(&t->park_timer, deadline);
	}
	if (t->helps)
		helper_sleeps(t);
	atomic_store(&t->state, state);
	task_work_ends(t);
	fiber_suspend(&t->fiber, park_after, t);
	task_work_begins(t);
	atomic_store(&t->state, TASK_RUNNING);
	if (deadline != TIME_NEVER) {
		ktimer_cancel(&t->park_timer);
		if (atomic_load(&t->timer_fired))
			ret = -ETIMEDOUT;
	}
woken:
	atomic_store(&t->park, PARK_NONE);
	if (park_ends(t, state))
		return -EINTR;
	return ret;
}

void task_park_always(struct task *t)
{
	if (atomic_load(&t->park) != PARK_TOKEN)
		fiber_suspend(&t->fiber, park_after, t);
	atomic_store(&t->park, PARK_NONE);
}

static void waiter_wake(struct waiter *w, uint32_t events)
{
	(void)events;
	task_wake(container_of(w, struct task_waiter, w)->t);
}

void task_waiter_init(struct task_waiter *tw, struct task *t)
{
	memset(tw, 0, sizeof(*tw));
	list_init(&tw->w.node);
	tw->w.notify = waiter_wake;
	tw->t = t;
}

int task_sleep_lock(struct task *t, struct sleep_lock *l)
{
	struct task_waiter tw;
	int err = 0;

	if (sleep_lock_try(l))
		return 0;
	task_waiter_init(&tw, t);
	atomic_fetch_add(&l->sleepers, 1);
	waitq_add(&l->wq, &tw.w, POLLIN);
	while (!sleep_lock_try(l) && !err)
		err = task_park(t, TASK_UNINTERRUPTIBLE, TIME_NEVER);
	waitq_remove(&tw.w);
	atomic_fetch_sub(&l->sleepers, 1);
	return err;
}

int task_wait_file(struct task *t, struct file *f, uint32_t events, int64_t deadline)
{
	struct waitq *q = file_waitq(f);
	struct task_waiter tw;
	int err = 0;

	if (!q)
		return 0;
	task_waiter_init(&tw, t);
	waitq_add(q, &tw.w, events);
	while (!(file_poll(f) & (events | POLLERR | POLLHUP)) && !err)
		err = task_park(t, TASK_SLEEPING, deadline);
	waitq_remove(&tw.w);
	return err == -EINTR ? -ERESTARTSYS : err;
}

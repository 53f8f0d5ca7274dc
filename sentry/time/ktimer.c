#include "sentry/time/ktimer.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sentry/host/crash.h"
#include "sentry/lib/lock.h"

/*
 * The queue, ordered by deadline.  All but the two words is guarded by `lock` (lc_timer).
 *
 * `sleeping_until` is what the thread last went to sleep for.  Arming an earlier timer wakes it;
 * cancelling one does not: it then wakes once for nothing, which is far cheaper than a wake-up for
 * each of the many timeouts that are armed and cancelled before they are due.
 */
static struct {
	struct mutex lock;
	struct rb_root tree;
	int64_t sleeping_until;
	struct ktimer *running;	   /* whose callback runs now; may be freed by it, only compared */
	unsigned cancel_waiters;   /* threads waiting in ktimer_cancel */
	_Atomic uint32_t rearmed;  /* bumped to wake the timer thread */
	_Atomic uint32_t finished; /* bumped when a callback that somebody waits for ended */
} queue;

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

int64_t time_monotonic(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t time_realtime(void)
{
	return clock_ns(CLOCK_REALTIME);
}

int64_t time_boottime(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

static void futex_wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* Sleeps while *word is `seen`, until the absolute CLOCK_MONOTONIC time. */
static void futex_wait_until(_Atomic uint32_t *word, uint32_t seen, int64_t deadline)
{
	struct timespec ts = {.tv_sec = deadline / NSEC_PER_SEC,
			      .tv_nsec = deadline % NSEC_PER_SEC};
	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen,
		deadline == TIME_NEVER ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
}

static void queue_insert(struct ktimer *t) REQUIRES(lc_timer)
{
	struct rb_node **link = &queue.tree.node, *parent = NULL;
	while (*link) {
		parent = *link;
		/* Equal deadlines fire in the order in which they were armed. */
		if (t->deadline < rb_entry(parent, struct ktimer, node)->deadline)
			link = &parent->left;
		else
			link = &parent->right;
	}
	rb_insert(&queue.tree, &t->node, parent, link);
	t->queued = true;
}

static void queue_remove(struct ktimer *t) REQUIRES(lc_timer)
{
	rb_erase(&queue.tree, &t->node);
	t->queued = false;
}

/* The earliest timer if it is due; otherwise NULL, and the deadline to sleep for. */
static struct ktimer *queue_take_due(int64_t now, int64_t *next) REQUIRES(lc_timer)
{
	struct rb_node *n = rb_first(&queue.tree);
	struct ktimer *t = n ? rb_entry(n, struct ktimer, node) : NULL;

	*next = t ? t->deadline : TIME_NEVER;
	if (!t || t->deadline > now)
		return NULL;
	queue_remove(t);
	return t;
}

static void *timer_thread(void *arg)
{
	(void)arg;
	crash_thread_init();
	/* The default slack of 50 µs would be added to that of whoever is woken. */
	prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);

	mutex_lock(&queue.lock, &lc_timer);
	for (;;) {
		int64_t next;
		struct ktimer *t = queue_take_due(time_monotonic(), &next);
		if (t) {
			queue.running = t;
			queue.sleeping_until = INT64_MIN; /* awake: nobody need wake us */
			mutex_unlock(&queue.lock, &lc_timer);
			t->fn(t);
			mutex_lock(&queue.lock, &lc_timer);
			queue.running = NULL;
			if (queue.cancel_waiters) {
				atomic_fetch_add(&queue.finished, 1);
				futex_wake_all(&queue.finished);
			}
			continue;
		}
		queue.sleeping_until = next;
		uint32_t seen = atomic_load(&queue.rearmed);
		mutex_unlock(&queue.lock, &lc_timer);
		futex_wait_until(&queue.rearmed, seen, next);
		mutex_lock(&queue.lock, &lc_timer);
	}
	return NULL;
}

int ktimer_start_thread(void)
{
	pthread_t th;
	pthread_attr_t attr;

	queue.sleeping_until = INT64_MIN;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int err = pthread_create(&th, &attr, timer_thread, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *))
{
	*t = (struct ktimer){.fn = fn};
}

void ktimer_arm(struct ktimer *t, int64_t deadline)
{
	bool wake = false;

	mutex_lock(&queue.lock, &lc_timer);
	if (t->queued)
		queue_remove(t);
	if (!t->cancelling) {
		t->deadline = deadline;
		queue_insert(t);
	}
	if (t->queued && deadline < queue.sleeping_until) {
		queue.sleeping_until = deadline;
		atomic_fetch_add(&queue.rearmed, 1);
		wake = true;
	}
	mutex_unlock(&queue.lock, &lc_timer);
	if (wake)
		futex_wake_all(&queue.rearmed);
}

bool ktimer_cancel(struct ktimer *t)
{
	mutex_lock(&queue.lock, &lc_timer);
	bool pending = t->queued;
	if (pending)
		queue_remove(t);
	t->cancelling++;
	while (queue.running == t) {
		uint32_t seen = atomic_load(&queue.finished);
		queue.cancel_waiters++;
		mutex_unlock(&queue.lock, &lc_timer);
		futex_wait_until(&queue.finished, seen, TIME_NEVER);
		mutex_lock(&queue.lock, &lc_timer);
		queue.cancel_waiters--;
	}
	t->cancelling--;
	mutex_unlock(&queue.lock, &lc_timer);
	return pending;
}

/*
 * Priority-inheritance futexes: the words that somebody waits for, their queues, and how a lock
 * goes from one task to the next; see pi.h.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "sentry/kernel/futex/pi_queue.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"

#define CHAIN_MAX 1024 /* owners that wait for owners: Linux's limit for chains of rt-mutexes */

struct mutex pi_futex_lock;
static struct list_head futexes = LIST_HEAD_INIT(futexes);

/* ---- keys ---- */

int pi_key_get(struct task *t, uaddr_t addr, bool shared, struct pi_key *k)
{
	struct vma v;

	if (addr.v % 4)
		return -EINVAL;
	if (addr.v >= t->mm->task_size)
		return -EFAULT;
	*k = (struct pi_key){.space = t->mm, .addr = addr.v};
	if (!shared)
		return 0;
	if (!mm_lookup(t->mm, addr.v, &v))
		return -EFAULT;
	if (v.file && v.flags & MAP_SHARED)
		*k = (struct pi_key){v.file->inode, v.off + addr.v - v.start, v.file};
	else
		file_put(v.file);
	return 0;
}

bool pi_key_equal(const struct pi_key *a, const struct pi_key *b)
{
	return a->space == b->space && a->addr == b->addr;
}

/* ---- words and their queues ---- */

struct pi_futex *pi_find(const struct pi_key *k)
{
	struct pi_futex *f;

	list_for_each (f, &futexes, link)
		if (pi_key_equal(&f->key, k))
			return f;
	return NULL;
}

struct pi_futex *pi_use(const struct pi_key *k)
{
	struct pi_futex *f = pi_find(k);

	if (!f) {
		f = calloc(1, sizeof(*f));
		if (!f)
			return NULL;
		f->key = *k;
		if (k->file)
			file_get(k->file);
		list_init(&f->waiters);
		list_init(&f->owned);
		list_add(&f->link, &futexes);
	}
	f->users++;
	return f;
}

struct file *pi_unuse(struct pi_futex *f)
{
	struct file *file = f->key.file;

	if (--f->users)
		return NULL;
	list_del(&f->link);
	list_del(&f->owned);
	free(f);
	return file;
}

void pi_set_owner(struct pi_futex *f, struct task *owner)
{
	f->owner = owner;
	list_del(&f->owned);
	if (owner)
		list_add(&f->owned, &owner->pi_owned);
}

void pi_enqueue(struct pi_waiter *w, struct pi_futex *f)
{
	struct pi_waiter *other;

	list_for_each (other, &f->waiters, link)
		if (other->rank < w->rank)
			break;
	list_add_tail(&w->link, &other->link);
	w->f = f;
	w->state = PI_WAITING;
	w->t->pi_waiter = w;
}

struct file *pi_dequeue(struct pi_waiter *w, enum pi_state state)
{
	struct pi_futex *f = w->f;

	list_del(&w->link);
	w->f = NULL;
	w->state = state;
	w->t->pi_waiter = NULL;
	return pi_unuse(f);
}

struct pi_waiter *pi_first(struct pi_futex *f)
{
	return list_empty(&f->waiters) ? NULL : list_first(&f->waiters, struct pi_waiter, link);
}

/* Would t wait for itself, by way of owner and what that waits for? */
static bool closes_circle(const struct task *t, const struct task *owner) REQUIRES(lc_futex)
{
	for (int i = 0; owner && i < CHAIN_MAX; i++) {
		if (owner == t)
			return true;
		owner = owner->pi_waiter ? owner->pi_waiter->f->owner : NULL;
	}
	return owner != NULL;
}

struct pi_waiter *pi_waiter_new(struct task *t)
{
	struct pi_waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	list_init(&w->link);
	w->t = t;
	w->tid = pid_nr_own(t->pid);
	w->state = PI_LOOK;
	w->rank = t->sched_policy == SCHED_FIFO || t->sched_policy == SCHED_RR ? t->sched_priority
									       : 0;
	w->refs = 1;
	return w;
}

static void waiter_put(struct pi_waiter *w) REQUIRES(lc_futex)
{
	if (!--w->refs)
		free(w);
}

void pi_waiter_end(struct pi_waiter *w)
{
	struct file *file = NULL;

	mutex_lock(&pi_futex_lock, &lc_futex);
	if (w->state == PI_WAITING)
		file = pi_dequeue(w, PI_LOOK);
	w->t->pi_waiter = NULL;
	w->left = true;
	waiter_put(w);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	file_put(file);
}

/* ---- the word ---- */

int pi_word_read(struct task *t, uaddr_t addr, uint32_t *val)
{
	return copy_in_val(&t->um, val, addr);
}

int pi_word_change(struct task *t, uaddr_t addr, uint32_t from, uint32_t to)
{
	uint32_t seen;
	int err = t->k->pf->ops->cmpxchg32(t->pt, addr.v, from, to, &seen);

	return err ? -EFAULT : seen == from;
}

void pi_wake_first(const struct pi_key *k)
{
	struct file *file = NULL;

	mutex_lock(&pi_futex_lock, &lc_futex);
	struct pi_futex *f = pi_find(k);
	struct pi_waiter *w = f ? pi_first(f) : NULL;
	if (w && !w->target.space) {
		file = pi_dequeue(w, PI_LOOK);
		task_wake(w->t);
	}
	mutex_unlock(&pi_futex_lock, &lc_futex);
	file_put(file);
}

/* ---- waiting ---- */

struct task *pi_owner_of(const struct task *t, uint32_t val)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *owner = task_named(t, (int)(val & FUTEX_TID_MASK));
	/* One that is not gone has futex_pi_release before it, which needs lc_futex. */
	if (owner && owner->pi_gone)
		owner = NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return owner;
}

int pi_queue_for_owner(struct pi_waiter *w, const struct pi_key *k, uint32_t val)
{
	struct task *owner = pi_owner_of(w->t, val);

	if (!owner)
		return -ESRCH;
	if (closes_circle(w->t, owner))
		return -EDEADLK;
	struct pi_futex *f = pi_use(k);
	if (!f)
		return -ENOMEM;
	pi_set_owner(f, owner);
	pi_enqueue(w, f);
	return 0;
}

long pi_sleep(struct pi_waiter *w, int64_t deadline)
{
	int err = 0;

	for (;;) {
		struct file *file = NULL;
		mutex_lock(&pi_futex_lock, &lc_futex);
		enum pi_state state = w->state;
		if (state == PI_WAITING && err)
			file = pi_dequeue(w, PI_LOOK);
		mutex_unlock(&pi_futex_lock, &lc_futex);
		file_put(file);
		if (state == PI_GRANTED)
			return 0;
		if (state == PI_LOOK)
			return 1;
		if (err && (state == PI_WAITING || task_must_die(w->t)))
			return err == -EINTR ? -ERESTARTNOINTR : err;
		if (state == PI_HANDING)
			err = task_park(w->t, TASK_UNINTERRUPTIBLE, TIME_NEVER);
		else
			err = task_park(w->t, TASK_SLEEPING, deadline);
	}
}

/* ---- handing over ---- */

struct pi_waiter *pi_hand_over(struct pi_futex *f)
{
	struct pi_waiter *w = f ? pi_first(f) : NULL;

	if (!w)
		return NULL;
	list_del(&w->link);
	w->state = PI_HANDING;
	w->refs++;
	return w;
}

bool pi_hand_over_done(struct pi_waiter *w, const struct pi_key *lock, bool written)
{
	struct file *file = NULL;

	mutex_lock(&pi_futex_lock, &lc_futex);
	bool left = w->left;
	struct pi_futex *held = pi_find(lock);
	if (left) {
		file = pi_unuse(w->f);
	} else if (written) {
		if (held)
			pi_set_owner(held, w->t);
		file = pi_dequeue(w, PI_GRANTED);
		task_wake(w->t);
	} else {
		list_add(&w->link, &w->f->waiters);
		w->state = PI_WAITING;
		task_wake(w->t); /* it may have had a reason to leave */
	}
	waiter_put(w);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	file_put(file);
	return !left;
}

/* Requeueing to priority-inheritance futexes: how a condition variable's waiters get its mutex. */
#include <errno.h>
#include <linux/futex.h>

#include "sentry/kernel/futex/pi_queue.h"

/* The keys of the word and of the lock, which the caller puts.  -EINVAL when both are one. */
static int keys_get(struct task *t, uaddr_t addr, uaddr_t target, bool shared, struct pi_key *k,
		    struct pi_key *lock)
{
	int err = pi_key_get(t, addr, shared, k);

	if (err)
		return err;
	err = pi_key_get(t, target, shared, lock);
	if (!err && !pi_key_equal(k, lock))
		return 0;
	file_put(k->file);
	if (err)
		return err;
	file_put(lock->file);
	return -EINVAL;
}

static long wait_requeue(struct pi_waiter *w, uaddr_t addr, const struct pi_key *k, uint32_t val,
			 int64_t deadline, uaddr_t target, const struct pi_key *lock)
{
	uint32_t now;

	w->target = *lock;
	mutex_lock(&pi_futex_lock, &lc_futex);
	struct pi_futex *f = pi_use(k);
	if (f)
		pi_enqueue(w, f);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	if (!f)
		return -ENOMEM;
	if (pi_word_read(w->t, addr, &now))
		return -EFAULT;
	if (now != val)
		return -EAGAIN;
	long ret = pi_sleep(w, deadline);
	if (ret > 0)
		ret = pi_lock_word(w, target, lock, false, deadline);
	/* Started again, it would find that the word has changed. */
	return ret == -ERESTARTNOINTR && w->requeued ? -EAGAIN : ret;
}

long futex_pi_wait_requeue(struct task *t, uaddr_t addr, bool shared, uint32_t val,
			   int64_t deadline, uaddr_t target)
{
	struct pi_key k, lock;
	long ret = keys_get(t, addr, target, shared, &k, &lock);

	if (ret)
		return ret;
	struct pi_waiter *w = pi_waiter_new(t);
	ret = -ENOMEM;
	if (w) {
		ret = wait_requeue(w, addr, &k, val, deadline, target, &lock);
		pi_waiter_end(w);
	}
	file_put(k.file);
	file_put(lock.file);
	return ret;
}

/* The first waiter of k, if it waits to be moved to that lock; else NULL and *err. */
static struct pi_waiter *first_to_move(const struct pi_key *k, const struct pi_key *lock, long *err)
	REQUIRES(lc_futex)
{
	struct pi_futex *f = pi_find(k);
	struct pi_waiter *w = f ? pi_first(f) : NULL;

	*err = w && !(w->target.space && pi_key_equal(&w->target, lock)) ? -EINVAL : 0;
	return *err ? NULL : w;
}

/* Gives a lock that is free to the first waiter of k: how many got it, or an error. */
static long requeue_free(struct task *t, const struct pi_key *k, uaddr_t target,
			 const struct pi_key *lock, uint32_t val)
{
	long err;

	mutex_lock(&pi_futex_lock, &lc_futex);
	struct pi_waiter *w = first_to_move(k, lock, &err);
	uint32_t tid = w ? (uint32_t)w->tid : 0;
	if (w)
		pi_hand_over(w->f);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	if (!w)
		return err;
	uint32_t flags = (val & FUTEX_OWNER_DIED) | FUTEX_WAITERS;
	int changed = pi_word_change(t, target, val, tid | flags);
	pi_hand_over_done(w, lock, changed > 0);
	return changed;
}

/* Moves at most n waiters from k to the lock whose word is `val`: how many, or an error. */
static long requeue_owned(const struct pi_key *k, const struct pi_key *lock, int n, uint32_t val)
{
	struct file *file[2] = {NULL, NULL};
	long moved = 0, err = 0;

	mutex_lock(&pi_futex_lock, &lc_futex);
	struct pi_futex *from = pi_find(k);
	if (from)
		from->users++;
	while (from && moved < n) {
		struct pi_waiter *w = first_to_move(k, lock, &err);
		if (!w)
			break;
		file[0] = pi_dequeue(w, PI_LOOK); /* NULL: we use it, too */
		err = pi_queue_for_owner(w, lock, val);
		if (err) {
			from->users++;
			pi_enqueue(w, from);
			break;
		}
		w->target.space = NULL;
		w->requeued = true;
		moved++;
	}
	if (from)
		file[1] = pi_unuse(from);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	file_put(file[1]);
	return moved ? moved : err;
}

static long cmp_requeue(struct task *t, const struct pi_key *k, int n, uaddr_t target,
			const struct pi_key *lock)
{
	long moved = 0;

	for (;;) {
		uint32_t val, now;
		if (pi_word_read(t, target, &val))
			return -EFAULT;
		long ret;
		if (!(val & FUTEX_TID_MASK)) {
			ret = requeue_free(t, k, target, lock, val);
			if (ret < 0)
				return ret;
			moved += ret;
			mutex_lock(&pi_futex_lock, &lc_futex);
			bool none = !first_to_move(k, lock, &ret);
			mutex_unlock(&pi_futex_lock, &lc_futex);
			if (ret || none || moved >= n)
				return moved ? moved : ret;
			continue;
		}
		if (!(val & FUTEX_WAITERS)) {
			int changed = pi_word_change(t, target, val, val | FUTEX_WAITERS);
			if (changed < 0)
				return changed;
			if (!changed)
				continue;
		}
		ret = requeue_owned(k, lock, n - (int)moved, val);
		if (ret < 0)
			return moved ? moved : ret;
		/* It may have been freed before they were on its queue. */
		if (pi_word_read(t, target, &now) || !(now & FUTEX_TID_MASK))
			pi_wake_first(lock);
		return moved + ret;
	}
}

long futex_pi_cmp_requeue(struct task *t, uaddr_t addr, bool shared, int move, uaddr_t target,
			  uint32_t val)
{
	struct pi_key k, lock;
	uint32_t now;
	long ret = keys_get(t, addr, target, shared, &k, &lock);

	if (ret)
		return ret;
	if (pi_word_read(t, addr, &now))
		ret = -EFAULT;
	else if (now != val)
		ret = -EAGAIN;
	else
		ret = cmp_requeue(t, &k, move < INT32_MAX ? move + 1 : move, target, &lock);
	file_put(k.file);
	file_put(lock.file);
	return ret;
}

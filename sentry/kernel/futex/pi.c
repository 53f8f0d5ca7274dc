/*
 * Locking and unlocking priority-inheritance futexes; see pi.h.
 *
 * A word is 0, or the owner's tid with FUTEX_WAITERS when somebody may be queued here, so that
 * unlocking in user space fails.  A waiter queues itself first and looks at the word again
 * afterwards; who frees a word looks at the queue again afterwards.  So one of the two sees the
 * other, and a waiter that is told to look again tries from the start.
 */
#include <errno.h>
#include <linux/futex.h>

#include "sentry/kernel/futex/pi_queue.h"
#include "sentry/kernel/pid.h"

/* Takes a free word for w's task: 1, 0 (it changed), or -EFAULT. */
static int take_free(struct pi_waiter *w, uaddr_t addr, const struct pi_key *k, uint32_t val)
{
	uint32_t mine = (uint32_t)w->tid | (val & (FUTEX_WAITERS | FUTEX_OWNER_DIED));

	if (val & FUTEX_TID_MASK)
		mine |= FUTEX_OWNER_DIED;
	mutex_lock(&pi_futex_lock, &lc_futex);
	if (pi_find(k))
		mine |= FUTEX_WAITERS;
	mutex_unlock(&pi_futex_lock, &lc_futex);
	int changed = pi_word_change(w->t, addr, val, mine);
	if (changed <= 0)
		return changed;
	mutex_lock(&pi_futex_lock, &lc_futex);
	struct pi_futex *f = pi_find(k);
	if (f && !w->t->pi_gone)
		pi_set_owner(f, w->t);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	return 1;
}

/* Waits in the queue for the lock that `val` says is another's: as pi_sleep. */
static long wait_for_owner(struct pi_waiter *w, uaddr_t addr, const struct pi_key *k, uint32_t val,
			   int64_t deadline)
{
	uint32_t now;

	mutex_lock(&pi_futex_lock, &lc_futex);
	int err = pi_queue_for_owner(w, k, val);
	mutex_unlock(&pi_futex_lock, &lc_futex);
	if (err && err != -ESRCH)
		return err;
	if (pi_word_read(w->t, addr, &now))
		return -EFAULT;
	bool same = (now & FUTEX_TID_MASK) == (val & FUTEX_TID_MASK);
	if (err)
		return same ? err : 1;
	if (!same) { /* it may have been freed before we were on the queue */
		struct file *file = NULL;
		mutex_lock(&pi_futex_lock, &lc_futex);
		if (w->state == PI_WAITING)
			file = pi_dequeue(w, PI_LOOK);
		mutex_unlock(&pi_futex_lock, &lc_futex);
		file_put(file);
	}
	return pi_sleep(w, deadline);
}

long pi_lock_word(struct pi_waiter *w, uaddr_t addr, const struct pi_key *k, bool try,
		  int64_t deadline)
{
	for (;;) {
		uint32_t val;
		if (pi_word_read(w->t, addr, &val))
			return -EFAULT;
		uint32_t owner = val & FUTEX_TID_MASK;
		if (owner == (uint32_t)w->tid)
			return -EDEADLK;
		if (!owner || owner == (uint32_t)w->dead_tid) {
			int taken = take_free(w, addr, k, val);
			if (taken)
				return MIN(taken, 0);
			continue;
		}
		if (try) {
			mutex_lock(&pi_futex_lock, &lc_futex);
			bool there = pi_owner_of(w->t, val) != NULL;
			mutex_unlock(&pi_futex_lock, &lc_futex);
			return there ? -EAGAIN : -ESRCH;
		}
		if (!(val & FUTEX_WAITERS)) {
			int changed = pi_word_change(w->t, addr, val, val | FUTEX_WAITERS);
			if (changed < 0)
				return changed;
			if (!changed)
				continue;
		}
		long ret = wait_for_owner(w, addr, k, val, deadline);
		if (ret <= 0)
			return ret;
	}
}

long futex_pi_lock(struct task *t, uaddr_t addr, bool shared, bool try, int64_t deadline)
{
	struct pi_key k;
	long ret = pi_key_get(t, addr, shared, &k);

	if (ret)
		return ret;
	struct pi_waiter *w = pi_waiter_new(t);
	ret = -ENOMEM;
	if (w) {
		ret = pi_lock_word(w, addr, &k, try, deadline);
		pi_waiter_end(w);
	}
	file_put(k.file);
	return ret;
}

long futex_pi_unlock(struct task *t, uaddr_t addr, bool shared)
{
	uint32_t val, mine = (uint32_t)pid_nr_own(t->pid);
	struct pi_key k;
	long ret = pi_key_get(t, addr, shared, &k);

	if (ret)
		return ret;
	for (;;) {
		ret = pi_word_read(t, addr, &val);
		if (ret)
			break;
		if ((val & FUTEX_TID_MASK) != mine) {
			/* Of a waiter that died with the lock in its hands it is no more our
			 * matter. */
			ret = mine == (uint32_t)pid_nr_own(t->pid) ? -EPERM : 0;
			break;
		}
		mutex_lock(&pi_futex_lock, &lc_futex);
		struct pi_waiter *w = pi_hand_over(pi_find(&k));
		uint32_t heir = w ? (uint32_t)w->tid : 0;
		mutex_unlock(&pi_futex_lock, &lc_futex);
		int changed = pi_word_change(t, addr, val, w ? heir | FUTEX_WAITERS : 0);
		ret = MIN(changed, 0);
		if (w && !pi_hand_over_done(w, &k, changed > 0) && changed > 0) {
			mine = heir;
			continue;
		}
		if (changed > 0 && !w)
			pi_wake_first(&k);
		if (changed)
			break;
	}
	file_put(k.file);
	return ret;
}

void futex_pi_release(struct task *t, bool gone)
{
	struct file *file;

	mutex_lock(&pi_futex_lock, &lc_futex);
	t->pi_gone = gone;
	while (!list_empty(&t->pi_owned)) {
		struct pi_futex *f = list_first(&t->pi_owned, struct pi_futex, owned);
		struct pi_waiter *w;
		f->users++;
		pi_set_owner(f, NULL);
		while ((w = pi_first(f))) {
			w->dead_tid = pid_nr_own(t->pid);
			file = pi_dequeue(w, PI_LOOK); /* NULL: we use f, too */
			task_wake(w->t);
		}
		file = pi_unuse(f);
		mutex_unlock(&pi_futex_lock, &lc_futex);
		file_put(file);
		mutex_lock(&pi_futex_lock, &lc_futex);
	}
	mutex_unlock(&pi_futex_lock, &lc_futex);
}

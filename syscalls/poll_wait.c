#include "syscalls/poll_wait.h"

#include <errno.h>
#include <sys/time.h>

#include "syscalls/file_io.h"

static int scan(struct poll_entry *e, size_t n)
{
	int ready = 0;

	for (size_t i = 0; i < n; i++) {
		if (!e[i].file)
			continue;
		e[i].got = file_poll(e[i].file) & e[i].want;
		ready += e[i].got != 0;
	}
	return ready;
}

int poll_wait(struct task *t, struct poll_entry *e, size_t n, int64_t deadline)
{
	int ready = scan(e, n);

	if (ready || deadline_is_past(deadline))
		return ready;
	for (size_t i = 0; i < n; i++) {
		struct waitq *q = e[i].file ? file_waitq(e[i].file) : NULL;
		task_waiter_init(&e[i].tw, t);
		e[i].tw.w.q = NULL;
		if (q)
			waitq_add(q, &e[i].tw.w, e[i].want);
	}
	int err = 0;
	while (!(ready = scan(e, n)) && !err)
		err = task_park(t, TASK_SLEEPING, deadline);
	for (size_t i = 0; i < n; i++)
		waitq_remove(&e[i].tw.w);
	return ready ? ready : err == -ETIMEDOUT ? 0 : err;
}

void poll_entries_put(struct poll_entry *e, size_t n)
{
	for (size_t i = 0; i < n; i++)
		file_put(e[i].file);
}

/* ---- time ---- */

bool deadline_is_past(int64_t deadline)
{
	return deadline == DEADLINE_PAST || deadline <= time_monotonic();
}

int64_t deadline_after(int64_t sec, int64_t nsec)
{
	int64_t ns;

	if (!sec && !nsec)
		return DEADLINE_PAST;
	if (__builtin_mul_overflow(sec, NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, nsec, &ns) ||
	    __builtin_add_overflow(ns, time_monotonic(), &ns))
		return TIME_NEVER;
	return ns;
}

int64_t deadline_after_ms(int ms)
{
	return ms < 0 ? TIME_NEVER : deadline_after(ms / 1000, ms % 1000 * 1000000LL);
}

int deadline_from_timespec(struct task *t, uaddr_t from, int64_t *deadline)
{
	struct timespec ts;

	*deadline = TIME_NEVER;
	if (uaddr_is_null(from))
		return 0;
	if (copy_in_val(&t->um, &ts, from))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	*deadline = deadline_after(ts.tv_sec, ts.tv_nsec);
	return 0;
}

void deadline_left_out(struct task *t, uaddr_t to, int64_t deadline, bool timeval)
{
	if (uaddr_is_null(to) || deadline == TIME_NEVER)
		return;
	int64_t left = MAX(deadline - time_monotonic(), (int64_t)0);
	/* Both structures are two 64-bit words. */
	int64_t out[2] = {left / NSEC_PER_SEC, left % NSEC_PER_SEC / (timeval ? 1000 : 1)};
	(void)!copy_out(&t->um, to, out, sizeof(out));
}

/* ---- signal masks ---- */

int temp_mask_begin(struct task *t, uaddr_t mask, uint64_t size)
{
	sigset_k set;

	if (uaddr_is_null(mask))
		return 0;
	if (size != sizeof(set))
		return -EINVAL;
	if (copy_in_val(&t->um, &set, mask))
		return -EFAULT;
	signal_set_temp_mask(t, set & ~SIG_UNBLOCKABLE);
	return 0;
}

void temp_mask_end(struct task *t, bool interrupted)
{
	if (!interrupted && t->has_saved_mask)
		signal_restore_saved_mask(t);
}

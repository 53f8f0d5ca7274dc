/*
 * io_uring: from entries to requests that run.
 *
 * A chain - a single request, or linked ones - runs on a helper (sentry/kernel/helper.h), one
 * request after the other.  Submitting waits until the helper sleeps or has ended, so what is done
 * at once is done in order, and structures of the guest's are read before the call returns.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/helper.h"
#include "syscalls/file_io.h"
#include "syscalls/uring.h"

#define LINKS (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)

/* ---- running ---- */

static int32_t final_result(int64_t res, bool cancelled)
{
	switch (-res) {
	case EINTR:
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
	case ERESTART_RESTARTBLOCK:
		return cancelled ? -ECANCELED : -EINTR;
	default:
		return (int32_t)res;
	}
}

static void post(struct uring *u, const struct io_uring_sqe *sqe, int32_t res, uint32_t flags)
{
	if (res >= 0 && sqe->flags & IOSQE_CQE_SKIP_SUCCESS && !flags)
		return;
	uring_post(u, sqe->user_data, res, flags);
}

/* A timeout that is linked to a request. */
struct link_timer {
	struct ktimer timer;
	struct task *h;
	_Atomic bool fired;
};

static void link_timer_fired(struct ktimer *timer)
{
	struct link_timer *lt = container_of(timer, struct link_timer, timer);

	atomic_store(&lt->fired, true);
	helper_cancel(lt->h);
}

static bool chain_cancelled(struct uring_chain *c)
{
	mutex_lock(&c->u->lock, &lc_pipe);
	bool yes = c->cancelled;
	mutex_unlock(&c->u->lock, &lc_pipe);
	return yes;
}

static void set_now(struct uring_chain *c, const struct io_uring_sqe *sqe)
{
	mutex_lock(&c->u->lock, &lc_pipe);
	c->now = sqe;
	mutex_unlock(&c->u->lock, &lc_pipe);
}

/* One request, under the timeout of the next entry if `limit` is one.  False: the link breaks. */
static bool run_one(struct task *h, struct uring_chain *c, const struct io_uring_sqe *sqe,
		    const struct io_uring_sqe *limit)
{
	struct link_timer lt = {.h = h};
	struct uring_result r = {0};
	int64_t deadline = TIME_NEVER;
	int err = 0;

	set_now(c, sqe);
	if (limit)
		err = uring_deadline(h, UADDR(limit->addr), limit->timeout_flags, &deadline);
	if (chain_cancelled(c) || err) {
		r.res = -ECANCELED;
	} else {
		if (limit) {
			ktimer_init(&lt.timer, link_timer_fired);
			ktimer_arm(&lt.timer, deadline);
		}
		uring_perform(h, c->u, sqe, &r);
		if (limit)
			ktimer_cancel(&lt.timer);
	}
	bool fired = atomic_load(&lt.fired), cancelled = chain_cancelled(c);
	int32_t res = final_result(r.res, fired || cancelled);
	if (fired && !cancelled)
		atomic_store(&h->sigpending, false);
	set_now(c, NULL);
	post(c->u, sqe, res, r.flags);
	if (limit)
		post(c->u, limit, err ? err : fired ? -ETIME : -ECANCELED, 0);
	return (res >= 0 || r.fine) && !r.failed;
}

static bool is_first(struct uring_chain *c)
{
	mutex_lock(&c->u->lock, &lc_pipe);
	bool first = list_first(&c->u->chains, struct uring_chain, link) == c;
	mutex_unlock(&c->u->lock, &lc_pipe);
	return first;
}

static void wait_for_earlier(struct task *h, struct uring_chain *c)
{
	struct task_waiter tw;
	int err = 0;

	task_waiter_init(&tw, h);
	waitq_add(&c->u->wq, &tw.w, POLLIN);
	while (!is_first(c) && !err)
		err = task_park(h, TASK_SLEEPING, TIME_NEVER);
	waitq_remove(&tw.w);
}

static void chain_main(struct task *h, void *arg)
{
	struct uring_chain *c = arg;
	struct uring *u = c->u;
	bool broken = false;

	mutex_lock(&u->lock, &lc_pipe);
	c->h = h;
	if (c->cancelled)
		helper_cancel(h);
	mutex_unlock(&u->lock, &lc_pipe);
	if (c->drain)
		wait_for_earlier(h, c);
	for (unsigned i = 0; i < c->n; i++) {
		const struct io_uring_sqe *sqe = &c->sqe[i], *limit = NULL;
		if (sqe->flags & LINKS && i + 1 < c->n &&
		    c->sqe[i + 1].opcode == IORING_OP_LINK_TIMEOUT)
			limit = &c->sqe[++i];
		if (broken) {
			post(u, sqe, -ECANCELED, 0);
			if (limit)
				post(u, limit, -ECANCELED, 0);
		} else if (!run_one(h, c, sqe, limit)) {
			broken = !(sqe->flags & IOSQE_IO_HARDLINK);
		}
	}
	mutex_lock(&u->lock, &lc_pipe);
	list_del(&c->link);
	u->nchains--;
	u->drains -= c->drain;
	c->h = NULL;
	mutex_unlock(&u->lock, &lc_pipe);
	waitq_notify(&u->wq, POLLIN);
	free(c);
	uring_put(u);
}

/* ---- submitting ---- */

/* Consumes the chain. */
static int chain_start(struct task *t, struct uring *u, struct uring_chain *c)
{
	bool drain = false;

	for (unsigned i = 0; i < c->n; i++)
		drain = drain || c->sqe[i].flags & IOSQE_IO_DRAIN;
	c->u = uring_get(u);
	mutex_lock(&u->lock, &lc_pipe);
	c->drain = (drain || u->drains) && u->nchains;
	u->drains += c->drain;
	u->nchains++;
	list_add_tail(&c->link, &u->chains);
	mutex_unlock(&u->lock, &lc_pipe);
	if (!helper_start(t, chain_main, c))
		return 0;
	mutex_lock(&u->lock, &lc_pipe);
	list_del(&c->link);
	u->nchains--;
	u->drains -= c->drain;
	mutex_unlock(&u->lock, &lc_pipe);
	for (unsigned i = 0; i < c->n; i++)
		uring_post(u, c->sqe[i].user_data, -ENOMEM, 0);
	free(c);
	uring_put(u);
	return 0;
}

/* What changes mappings needs the task's own thread, and never sleeps; nor does nothing at all. */
static bool run_directly(struct task *t, struct uring *u, const struct io_uring_sqe *sqe)
{
	struct uring_result r = {0};

	if ((sqe->opcode != IORING_OP_MADVISE && sqe->opcode != IORING_OP_NOP) ||
	    sqe->flags & ~(IOSQE_CQE_SKIP_SUCCESS | IOSQE_ASYNC) || u->drains)
		return false;
	uring_perform(t, u, sqe, &r);
	post(u, sqe, final_result(r.res, false), r.flags);
	return true;
}

static struct uring_chain *chain_add(struct uring_chain *c, const struct io_uring_sqe *sqe)
{
	unsigned n = c ? c->n : 0;
	/* Room by powers of two. */
	if (!(n & (n - 1))) {
		struct uring_chain *more =
			realloc(c, sizeof(*c) + (n ? n * 2 : 1) * sizeof(c->sqe[0]));
		if (!more)
			return NULL;
		if (!c)
			memset(more, 0, sizeof(*more));
		c = more;
	}
	c->sqe[c->n++] = *sqe;
	return c;
}

/* All of a chain that cannot run. */
static void chain_fail(struct uring *u, struct uring_chain *c)
{
	for (unsigned i = 0; c && i < c->n; i++)
		uring_post(u, c->sqe[i].user_data, -ECANCELED, 0);
	free(c);
}

long uring_submit(struct task *t, struct uring *u, unsigned n)
{
	struct uring_chain *c = NULL;
	struct io_uring_sqe sqe;
	bool bad = false;
	long done = 0;

	while (done < n) {
		if (u->nchains >= URING_MAX_CHAINS) {
			if (!done)
				return -EBUSY;
			break;
		}
		if (!uring_take(u, &sqe))
			break;
		done++;
		int err = uring_check(u, &sqe);
		if (err) {
			uring_post(u, sqe.user_data, err, 0);
			bad = bad || c || sqe.flags & LINKS;
			if (!(u->flags & IORING_SETUP_SUBMIT_ALL))
				break;
		} else if (!c && run_directly(t, u, &sqe)) {
			continue;
		} else {
			struct uring_chain *more = chain_add(c, &sqe);
			if (!more) {
				uring_post(u, sqe.user_data, -ENOMEM, 0);
				bad = true;
			} else {
				c = more;
			}
		}
		if (sqe.flags & LINKS)
			continue;
		if (bad)
			chain_fail(u, c);
		else if (c)
			(void)!chain_start(t, u, c);
		c = NULL;
		bad = false;
	}
	/* A chain ends with the call that submits it. */
	if (c && bad)
		chain_fail(u, c);
	else if (c)
		(void)!chain_start(t, u, c);
	return done;
}

/* ---- cancelling ---- */

static bool matches(const struct uring_match *m, const struct io_uring_sqe *sqe)
{
	if (m->op >= 0 && sqe->opcode != m->op)
		return false;
	if (m->any)
		return true;
	return m->fd >= 0 ? sqe->fd == m->fd && m->fixed == !!(sqe->flags & IOSQE_FIXED_FILE)
			  : sqe->user_data == m->user_data;
}

int uring_cancel(struct uring *u, const struct uring_match *m, const struct task *own)
{
	struct uring_chain *c;
	int n = 0;

	mutex_lock(&u->lock, &lc_pipe);
	list_for_each (c, &u->chains, link) {
		/* One that has not begun yet waits in a drain. */
		const struct io_uring_sqe *now = c->now ? c->now : &c->sqe[0];
		if (c->h == own || c->cancelled || !matches(m, now))
			continue;
		c->cancelled = true;
		if (c->h)
			helper_cancel(c->h);
		n++;
		if (!m->all)
			break;
	}
	mutex_unlock(&u->lock, &lc_pipe);
	return n;
}

int uring_deadline(struct task *t, uaddr_t uts, unsigned flags, int64_t *deadline)
{
	struct __kernel_timespec ts;
	int64_t ns, now = time_monotonic();

	if (flags & ~(IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK |
		      IORING_TIMEOUT_ETIME_SUCCESS) ||
	    (flags & IORING_TIMEOUT_CLOCK_MASK) == IORING_TIMEOUT_CLOCK_MASK)
		return -EINVAL;
	if (copy_in_val(&t->um, &ts, uts))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	if (__builtin_mul_overflow(ts.tv_sec, NSEC_PER_SEC, &ns) ||
	    __builtin_add_overflow(ns, ts.tv_nsec, &ns)) {
		*deadline = TIME_NEVER;
		return 0;
	}
	if (!(flags & IORING_TIMEOUT_ABS))
		ns = now > TIME_NEVER - ns ? TIME_NEVER : now + ns;
	else if (flags & IORING_TIMEOUT_BOOTTIME)
		ns -= time_boottime() + task_time_offsets(t)->boottime - now;
	else if (flags & IORING_TIMEOUT_REALTIME)
		ns -= time_realtime() - now;
	else
		ns -= task_time_offsets(t)->monotonic;
	*deadline = ns;
	return 0;
}

/*
 * Linux AIO: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).
 *
 * As in Linux, requests on files that are not open for direct I/O are performed by io_submit
 * itself; here that holds for all but IOCB_CMD_POLL.  So there is nothing else to cancel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "sentry/aio/aio.h"
#include "sentry/fs/eventfd/eventfd.h"
#include "syscalls/aio_poll.h"
#include "syscalls/file_io.h"
#include "syscalls/poll_wait.h"
#include "syscalls/syscalls.h"

#define AIO_NR_LIMIT (0x10000000U / sizeof(struct io_event))
#define EVENTS_AT_ONCE 64
#define IOV_STACK 16

/* ---- contexts ---- */

long sys_io_setup(struct task *t, unsigned nr, uaddr_t ctxp)
{
	uint64_t ctx;
	int err;

	if (copy_in_val(&t->um, &ctx, ctxp))
		return -EFAULT;
	if (ctx || !nr)
		return -EINVAL;
	if (nr > AIO_NR_LIMIT)
		return -EINVAL;
	if ((err = aio_ctx_create(t->mm, t->pt, nr, &ctx)))
		return err;
	if (!copy_out_val(&t->um, ctxp, &ctx))
		return 0;
	(void)!sys_io_destroy(t, ctx);
	return -EFAULT;
}

long sys_io_destroy(struct task *t, uint64_t ctx)
{
	struct aio_ctx *c = aio_ctx_find(t->mm, ctx);
	uint64_t len;

	if (!c)
		return -EINVAL;
	bool killed = aio_ctx_kill(c, &len);
	if (killed)
		aio_poll_cancel_all(t, c);
	aio_ctx_put(c);
	return killed ? mm_unmap(t->mm, t->pt, ctx, len) : -EINVAL;
}

/* ---- requests ---- */

static int rw_flags(const struct iocb *cb, bool write, int *flags)
{
	int rwf = cb->aio_rw_flags;

	if (rwf & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	*flags = (rwf & RWF_NOWAIT ? IO_NONBLOCK : 0) |
		 (write && rwf & RWF_APPEND ? IO_APPEND : 0) |
		 (rwf & (RWF_DSYNC | RWF_SYNC) ? IO_SYNC : 0);
	return 0;
}

/* Reads or writes; *res is what the completion says.  -errno: the request itself is wrong. */
static int do_rw(struct task *t, const struct iocb *cb, struct file *f, bool write, bool vec,
		 int64_t *res)
{
	CLEANUP_FREE struct uio_seg *many = NULL;
	struct uio_seg few[IOV_STACK];
	struct uio io;
	int flags, err = rw_flags(cb, write, &flags);

	if (err)
		return err;
	if (!(write ? file_writable(f) : file_readable(f)))
		return -EBADF;
	if (!(write ? f->ops->write != NULL : f->ops->read != NULL))
		return -EINVAL;
	if (!vec) {
		uint64_t limit = t->um.mm->task_size;
		if (cb->aio_nbytes > limit || cb->aio_buf > limit - cb->aio_nbytes)
			return -EFAULT;
		uio_init_user(&io, few, &t->um, UADDR(cb->aio_buf),
			      MIN(cb->aio_nbytes, MAX_RW_COUNT));
	} else {
		if (cb->aio_nbytes > UIO_MAXIOV)
			return -EINVAL;
		if (cb->aio_nbytes > IOV_STACK && !(many = malloc(cb->aio_nbytes * sizeof(*many))))
			return -ENOMEM;
		err = uio_import(&io, many ? many : few, &t->um, UADDR(cb->aio_buf),
				 cb->aio_nbytes);
		if (err)
			return err;
	}
	int64_t off = cb->aio_offset;
	int64_t *at = file_has_pos(f) ? &off : NULL;
	if (at && off < 0)
		return -EINVAL;
	ssize_t n = write ? io_write(t, f, &io, at, flags) : io_read(t, f, &io, at, flags);
	/* A request cannot be restarted by the one that made it. */
	*res = n == -ERESTARTSYS ? -EINTR : n;
	return 0;
}

static int perform(struct task *t, const struct iocb *cb, struct file *f, int64_t *res)
{
	switch (cb->aio_lio_opcode) {
	case IOCB_CMD_PREAD:
		return do_rw(t, cb, f, false, false, res);
	case IOCB_CMD_PWRITE:
		return do_rw(t, cb, f, true, false, res);
	case IOCB_CMD_PREADV:
		return do_rw(t, cb, f, false, true, res);
	case IOCB_CMD_PWRITEV:
		return do_rw(t, cb, f, true, true, res);
	case IOCB_CMD_FSYNC:
	case IOCB_CMD_FDSYNC:
		if (cb->aio_buf || cb->aio_offset || cb->aio_nbytes || cb->aio_rw_flags)
			return -EINVAL;
		if (!f->ops->fsync)
			return -EINVAL;
		*res = file_fsync(f, cb->aio_lio_opcode == IOCB_CMD_FDSYNC);
		return 0;
	default:
		return -EINVAL;
	}
}

/* Not performed but left to wait. */
static int start_poll(struct task *t, struct aio_ctx *c, const struct iocb *cb, uaddr_t ucb,
		      struct file *f, struct file *tell)
{
	const struct io_event ev = {.data = cb->aio_data, .obj = ucb.v};

	if (cb->aio_buf > UINT16_MAX || cb->aio_offset || cb->aio_nbytes || cb->aio_rw_flags)
		return -EINVAL;
	return aio_poll_start(t, c, f, tell, (uint32_t)cb->aio_buf, &ev);
}

static int submit_one(struct task *t, struct aio_ctx *c, uaddr_t ucb)
{
	const uint32_t key = 0;
	struct iocb cb;
	int64_t res = 0;

	if (copy_in_val(&t->um, &cb, ucb))
		return -EFAULT;
	if (cb.aio_reserved2 || (int64_t)cb.aio_nbytes < 0)
		return -EINVAL;
	int err = aio_slot_take(c);
	if (err)
		return err;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, (int)cb.aio_fildes);
	CLEANUP_FILE struct file *tell = NULL;
	if (!f)
		err = -EBADF;
	if (!err && cb.aio_flags & IOCB_FLAG_RESFD) {
		tell = fdtable_file(t->fds, (int)cb.aio_resfd);
		err = !tell ? -EBADF : file_is_eventfd(tell) ? 0 : -EINVAL;
	}
	if (!err)
		err = copy_out_val(&t->um, uaddr_add(ucb, offsetof(struct iocb, aio_key)), &key);
	bool poll = cb.aio_lio_opcode == IOCB_CMD_POLL;
	if (!err)
		err = poll ? start_poll(t, c, &cb, ucb, f, tell) : perform(t, &cb, f, &res);
	if (err) {
		aio_slot_drop(c);
		return err;
	}
	if (poll)
		return 0;
	const struct io_event ev = {.data = cb.aio_data, .obj = ucb.v, .res = res};
	aio_complete(c, &ev);
	if (tell)
		eventfd_signal(tell);
	return 0;
}

long sys_io_submit(struct task *t, uint64_t ctx, int64_t nr, uaddr_t cbpp)
{
	long done = 0;
	int err = 0;

	if (nr < 0)
		return -EINVAL;
	struct aio_ctx *c = aio_ctx_find(t->mm, ctx);
	if (!c)
		return -EINVAL;
	nr = MIN(nr, (int64_t)c->nr);
	while (done < nr && !err) {
		uint64_t ucb;
		if (copy_in_val(&t->um, &ucb, uaddr_add(cbpp, (uint64_t)done * sizeof(ucb))))
			err = -EFAULT;
		else if (!(err = submit_one(t, c, UADDR(ucb))))
			done++;
	}
	aio_ctx_put(c);
	return done ? done : err;
}

long sys_io_cancel(struct task *t, uint64_t ctx, uaddr_t ucb, uaddr_t result)
{
	uint32_t key;

	(void)result;
	if (copy_in_val(&t->um, &key, uaddr_add(ucb, offsetof(struct iocb, aio_key))))
		return -EFAULT;
	struct aio_ctx *c = aio_ctx_find(t->mm, ctx);
	bool found = c && !key && aio_poll_cancel(c, ucb.v);
	aio_ctx_put(c);
	return found ? -EINPROGRESS : -EINVAL; /* the completion comes by the ring */
}

/* ---- completions ---- */

/* Moves what is there to the guest.  -EFAULT: what was not copied is still there. */
static long collect(struct task *t, struct aio_ctx *c, uaddr_t to, uint64_t max)
{
	struct io_event ev[EVENTS_AT_ONCE];
	uint64_t done = 0;

	long err = task_sleep_lock(t, &c->reading);
	while (!err && done < max) {
		unsigned n = aio_peek(c, ev, (unsigned)MIN(max - done, (uint64_t)EVENTS_AT_ONCE));
		if (!n)
			break;
		if (copy_out(&t->um, uaddr_add(to, done * sizeof(*ev)), ev, n * sizeof(*ev))) {
			err = -EFAULT;
			break;
		}
		aio_consume(c, n);
		done += n;
	}
	if (err != -EINTR)
		sleep_lock_release(&c->reading);
	return done ? (long)done : err;
}

/* Sleeps until min completions wait, or the context is gone. */
static int wait_ready(struct task *t, struct aio_ctx *c, uint64_t min, int64_t deadline)
{
	struct task_waiter tw;
	int err = 0;

	task_waiter_init(&tw, t);
	waitq_add(&c->wq, &tw.w, POLLIN);
	while (aio_ready(c) < min && !err)
		err = task_park(t, TASK_SLEEPING, deadline);
	waitq_remove(&tw.w);
	return err == -ETIMEDOUT ? 0 : err;
}

static long getevents(struct task *t, uint64_t ctx, int64_t min, int64_t nr, uaddr_t events,
		      uaddr_t timeout)
{
	int64_t deadline;
	int err = deadline_from_timespec(t, timeout, &deadline);

	if (err)
		return err;
	struct aio_ctx *c = aio_ctx_find(t->mm, ctx);
	if (!c)
		return -EINVAL;
	long ret = -EINVAL;
	if (min >= 0 && min <= nr) {
		ret = collect(t, c, events, (uint64_t)nr);
		while (ret >= 0 && ret < min && !c->dead) {
			err = deadline > time_monotonic()
				      ? wait_ready(t, c, (uint64_t)(min - ret), deadline)
				      : 0;
			long more = collect(t, c, uaddr_add(events, (uint64_t)ret * 32),
					    (uint64_t)(nr - ret));
			if (more > 0)
				ret += more;
			else if (!ret && (more < 0 || err))
				ret = more < 0 ? more : err;
			if (err || more < 0 || deadline <= time_monotonic())
				break;
		}
	}
	aio_ctx_put(c);
	return ret;
}

long sys_io_getevents(struct task *t, uint64_t ctx, int64_t min, int64_t nr, uaddr_t events,
		      uaddr_t timeout)
{
	return getevents(t, ctx, min, nr, events, timeout);
}

long sys_io_pgetevents(struct task *t, uint64_t ctx, int64_t min, int64_t nr, uaddr_t events,
		       uaddr_t timeout, uaddr_t usig)
{
	struct {
		uint64_t mask, size;
	} sig = {0, 0};

	if (!uaddr_is_null(usig) && copy_in_val(&t->um, &sig, usig))
		return -EFAULT;
	int err = temp_mask_begin(t, UADDR(sig.mask), sig.size);
	if (err)
		return err;
	long ret = getevents(t, ctx, min, nr, events, timeout);
	temp_mask_end(t, ret == -EINTR);
	return ret == -EINTR && !uaddr_is_null(usig) ? -ERESTARTNOHAND : ret;
}

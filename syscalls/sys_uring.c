/* io_uring_setup(2), io_uring_enter(2), io_uring_register(2). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/eventfd/eventfd.h"
#include "syscalls/file_io.h"
#include "syscalls/poll_wait.h"
#include "syscalls/syscalls.h"
#include "syscalls/uring.h"

#define SETUP_FLAGS                                                                        \
	(IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED |              \
	 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | \
	 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SQPOLL |   \
	 IORING_SETUP_SQ_AFF | IORING_SETUP_IOPOLL | IORING_SETUP_ATTACH_WQ |              \
	 IORING_SETUP_SQE128 | IORING_SETUP_CQE32)
#define FEATURES                                                                        \
	(IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |     \
	 IORING_FEAT_RW_CUR_POS | IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | \
	 IORING_FEAT_SQPOLL_NONFIXED | IORING_FEAT_POLL_32BITS | IORING_FEAT_EXT_ARG |  \
	 IORING_FEAT_NATIVE_WORKERS | IORING_FEAT_CQE_SKIP)

/* ---- setup ---- */

static unsigned power_of_two(unsigned n)
{
	unsigned p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

static int check_sizes(struct io_uring_params *p, unsigned entries)
{
	bool clamp = p->flags & IORING_SETUP_CLAMP;

	if (!entries || (entries > URING_MAX_ENTRIES && !clamp))
		return -EINVAL;
	p->sq_entries = power_of_two(MIN(entries, URING_MAX_ENTRIES));
	if (!(p->flags & IORING_SETUP_CQSIZE)) {
		p->cq_entries = 2 * p->sq_entries;
		return 0;
	}
	if (!p->cq_entries || (p->cq_entries > URING_MAX_CQ_ENTRIES && !clamp))
		return -EINVAL;
	p->cq_entries = power_of_two(MIN(p->cq_entries, URING_MAX_CQ_ENTRIES));
	return p->cq_entries < p->sq_entries ? -EINVAL : 0;
}

/* Who polls, and with whom workers are shared, which they are anyway. */
static int check_polling(struct task *t, const struct io_uring_params *p)
{
	const unsigned no_sqpoll =
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_DEFER_TASKRUN;

	if (p->flags & IORING_SETUP_SQPOLL && p->flags & no_sqpoll)
		return -EINVAL;
	if (p->flags & IORING_SETUP_SQ_AFF &&
	    (!(p->flags & IORING_SETUP_SQPOLL) || p->sq_thread_cpu >= kernel->ncpus))
		return -EINVAL;
	if (!(p->flags & IORING_SETUP_ATTACH_WQ))
		return 0;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, (int)p->wq_fd);
	if (!f)
		return -ENXIO;
	return uring_of(f) ? 0 : -EINVAL;
}

long sys_io_uring_setup(struct task *t, unsigned entries, uaddr_t params)
{
	struct io_uring_params p;
	struct file *f;
	int32_t fd;

	if (copy_in_val(&t->um, &p, params))
		return -EFAULT;
	if (p.resv[0] || p.resv[1] || p.resv[2] || p.flags & ~SETUP_FLAGS)
		return -EINVAL;
	int err = check_polling(t, &p);
	if (err)
		return err;
	/* What each flag needs of the others. */
	if ((p.flags & IORING_SETUP_TASKRUN_FLAG &&
	     !(p.flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN))) ||
	    (p.flags & IORING_SETUP_DEFER_TASKRUN && !(p.flags & IORING_SETUP_SINGLE_ISSUER)))
		return -EINVAL;
	if ((err = check_sizes(&p, entries)) || (err = uring_create_file(&p, &f)))
		return err;
	p.features = FEATURES;
	if ((err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &fd))) {
		file_put(f);
		return err;
	}
	if (copy_out_val(&t->um, params, &p)) {
		fdtable_unreserve(t->fds, 1, &fd);
		file_put(f);
		return -EFAULT;
	}
	fdtable_commit(t->fds, fd, f, true);
	return fd;
}

/* ---- enter ---- */

struct enter_wait {
	unsigned min;
	int64_t deadline;
	struct io_uring_getevents_arg arg; /* the signal mask */
};

static int wait_decode(struct task *t, struct enter_wait *w, unsigned flags, uaddr_t arg,
		       uint64_t size)
{
	*w = (struct enter_wait){.deadline = TIME_NEVER};
	if (!(flags & IORING_ENTER_EXT_ARG)) {
		w->arg.sigmask = arg.v;
		w->arg.sigmask_sz = (uint32_t)size;
		return 0;
	}
	if (size != sizeof(w->arg))
		return -EINVAL;
	if (copy_in_val(&t->um, &w->arg, arg))
		return -EFAULT;
	if (w->arg.pad)
		return -EINVAL;
	return w->arg.ts ? deadline_from_timespec(t, UADDR(w->arg.ts), &w->deadline) : 0;
}

static int wait_completions(struct task *t, struct uring *u, const struct enter_wait *w)
{
	struct task_waiter tw;
	int err = temp_mask_begin(t, UADDR(w->arg.sigmask), w->arg.sigmask_sz);

	if (err)
		return err;
	task_waiter_init(&tw, t);
	waitq_add(&u->wq, &tw.w, POLLIN);
	while (uring_flush(u), uring_ready(u) < w->min && !err)
		err = task_park(t, TASK_SLEEPING, w->deadline);
	waitq_remove(&tw.w);
	if (uring_ready(u) >= w->min)
		err = 0;
	temp_mask_end(t, err == -EINTR);
	return err == -ETIMEDOUT ? -ETIME : err;
}

long sys_io_uring_enter(struct task *t, int fd, unsigned to_submit, unsigned min, int flags,
			uaddr_t arg, uint64_t size)
{
	struct enter_wait w;
	long done = 0;
	int err;

	if (flags & ~(IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT |
		      IORING_ENTER_EXT_ARG))
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	struct uring *u = uring_of(f);
	if (!u)
		return -EOPNOTSUPP;
	if (u->disabled)
		return -EBADFD;
	/* The thread that polls for entries sleeps at once: it works when it is woken. */
	bool polled = u->flags & IORING_SETUP_SQPOLL;
	if (polled ? flags & IORING_ENTER_SQ_WAKEUP : to_submit) {
		if ((err = task_sleep_lock(t, &u->entering)))
			return err;
		done = uring_submit(t, u, polled ? UINT_MAX : to_submit);
		sleep_lock_release(&u->entering);
		if (!polled && done != (long)to_submit)
			return done;
	}
	if (polled)
		done = to_submit;
	if (!(flags & IORING_ENTER_GETEVENTS))
		return done;
	if (!(err = wait_decode(t, &w, flags, arg, size))) {
		w.min = MIN(min, u->cq_entries);
		err = wait_completions(t, u, &w);
	}
	return done ? done : err;
}

/* ---- register ---- */

static int register_buffers(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	struct uio io;

	if (u->bufs)
		return -EBUSY;
	if (!n || n > URING_MAX_BUFFERS)
		return -EINVAL;
	struct uio_seg *bufs = calloc(n, sizeof(*bufs));
	if (!bufs)
		return -ENOMEM;
	int err = 0;
	for (unsigned i = 0; i < n && !err; i += UIO_MAXIOV)
		err = uio_import(&io, bufs + i, &t->um, uaddr_add(arg, i * sizeof(*bufs)),
				 MIN(n - i, (unsigned)UIO_MAXIOV));
	for (unsigned i = 0; i < n && !err; i++) {
		if (bufs[i].len > 1UL << 30)
			err = -EFAULT;
		else if (bufs[i].base &&
			 (!bufs[i].len || !mm_may_access(t->mm, bufs[i].base, bufs[i].len, true)))
			err = -EFAULT;
	}
	if (err) {
		free(bufs);
		return err;
	}
	mutex_lock(&u->lock, &lc_pipe);
	u->bufs = bufs;
	u->nbufs = n;
	mutex_unlock(&u->lock, &lc_pipe);
	return 0;
}

/* The newer form: a table may be empty at first.  Tags are not known. */
static int register_files2(struct task *t, struct uring *u, uaddr_t arg, unsigned size)
{
	struct io_uring_rsrc_register r;

	if (size != sizeof(r))
		return -EINVAL;
	if (copy_in_val(&t->um, &r, arg))
		return -EFAULT;
	if (!r.nr || r.resv2 || r.flags & ~IORING_RSRC_REGISTER_SPARSE || r.tags)
		return -EINVAL;
	if (r.flags & IORING_RSRC_REGISTER_SPARSE && r.data)
		return -EINVAL;
	return uring_register_files(t, u, UADDR(r.data), r.nr,
				    r.flags & IORING_RSRC_REGISTER_SPARSE);
}

static int register_eventfd(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	int32_t fd;

	if (n != 1)
		return -EINVAL;
	if (copy_in_val(&t->um, &fd, arg))
		return -EFAULT;
	struct file *f = fdtable_file(t->fds, fd);
	if (!f || !file_is_eventfd(f)) {
		int err = f ? -EINVAL : -EBADF;
		file_put(f);
		return err;
	}
	mutex_lock(&u->lock, &lc_pipe);
	bool busy = u->eventfd;
	if (!busy)
		u->eventfd = f;
	mutex_unlock(&u->lock, &lc_pipe);
	if (busy)
		file_put(f);
	return busy ? -EBUSY : 0;
}

static int unregister_eventfd(struct uring *u)
{
	mutex_lock(&u->lock, &lc_pipe);
	struct file *f = u->eventfd;
	u->eventfd = NULL;
	mutex_unlock(&u->lock, &lc_pipe);
	file_put(f);
	return f ? 0 : -ENXIO;
}

static int probe(struct task *t, uaddr_t arg, unsigned n)
{
	struct {
		struct io_uring_probe head;
		struct io_uring_probe_op ops[IORING_OP_LAST];
	} p, in;
	_Static_assert(sizeof(p) == 16 + 8 * IORING_OP_LAST, "ABI");

	n = MIN(n, (unsigned)IORING_OP_LAST);
	size_t size = sizeof(p.head) + n * sizeof(p.ops[0]);
	if (copy_in(&t->um, &in, arg, size))
		return -EFAULT;
	for (size_t i = 0; i < size; i++)
		if (((const char *)&in)[i])
			return -EINVAL;
	memset(&p, 0, sizeof(p));
	p.head.last_op = IORING_OP_LAST - 1;
	p.head.ops_len = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		p.ops[i].op = (uint8_t)i;
		p.ops[i].flags = uring_op_supported(i) ? IO_URING_OP_SUPPORTED : 0;
	}
	return copy_out(&t->um, arg, &p, size);
}

static long update_files_arg(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	struct io_uring_files_update up;

	if (copy_in_val(&t->um, &up, arg))
		return -EFAULT;
	return up.resv ? -EINVAL : uring_update_files(t, u, up.offset, UADDR(up.fds), n);
}

static long do_register(struct task *t, struct uring *u, unsigned op, uaddr_t arg, unsigned n)
{
	bool none = uaddr_is_null(arg) && !n;

	switch (op) {
	case IORING_REGISTER_BUFFERS:
		return uaddr_is_null(arg) ? -EFAULT : register_buffers(t, u, arg, n);
	case IORING_UNREGISTER_BUFFERS:
		if (!none)
			return -EINVAL;
		if (!u->bufs)
			return -ENXIO;
		uring_drop_buffers(u);
		return 0;
	case IORING_REGISTER_FILES:
		return uaddr_is_null(arg) ? -EFAULT : uring_register_files(t, u, arg, n, false);
	case IORING_UNREGISTER_FILES:
		if (!none)
			return -EINVAL;
		if (!u->files)
			return -ENXIO;
		uring_drop_files(u);
		return 0;
	case IORING_REGISTER_FILES_UPDATE:
		return update_files_arg(t, u, arg, n);
	case IORING_REGISTER_FILES2:
		return register_files2(t, u, arg, n);
	case IORING_REGISTER_PBUF_RING:
		return uring_register_buf_ring(t, u, arg, n);
	case IORING_UNREGISTER_PBUF_RING:
		return uring_unregister_buf_ring(t, u, arg, n);
	case IORING_REGISTER_EVENTFD:
	case IORING_REGISTER_EVENTFD_ASYNC:
		return register_eventfd(t, u, arg, n);
	case IORING_UNREGISTER_EVENTFD:
		return none ? unregister_eventfd(u) : -EINVAL;
	case IORING_REGISTER_PROBE:
		return uaddr_is_null(arg) || n > 256 ? -EINVAL : probe(t, arg, n);
	case IORING_REGISTER_ENABLE_RINGS:
		if (!none)
			return -EINVAL;
		if (!u->disabled)
			return -EBADFD;
		u->disabled = false;
		return 0;
	default:
		return -EINVAL;
	}
}

long sys_io_uring_register(struct task *t, int fd, unsigned op, uaddr_t arg, unsigned n)
{
	if (op >= IORING_REGISTER_LAST)
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	struct uring *u = uring_of(f);
	if (!u)
		return -EOPNOTSUPP;
	int err = task_sleep_lock(t, &u->entering);
	if (err)
		return err;
	long ret = do_register(t, u, op, arg, n);
	sleep_lock_release(&u->entering);
	return ret;
}

/* io_uring_setup(2), io_uring_enter(2), io_uring_register(2). */
#include <errno.h>
#include <fcntl.h>
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
	 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
#define FEATURES                                                                        \
	(IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |     \
	 IORING_FEAT_RW_CUR_POS | IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL | \
	 IORING_FEAT_POLL_32BITS | IORING_FEAT_EXT_ARG | IORING_FEAT_NATIVE_WORKERS |   \
	 IORING_FEAT_CQE_SKIP)

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

long sys_io_uring_setup(struct task *t, unsigned entries, uaddr_t params)
{
	struct io_uring_params p;
	struct file *f;
	int32_t fd;

	if (copy_in_val(&t->um, &p, params))
		return -EFAULT;
	if (p.resv[0] || p.resv[1] || p.resv[2] || p.flags & ~SETUP_FLAGS)
		return -EINVAL;
	/* What each flag needs of the others. */
	if ((p.flags & IORING_SETUP_TASKRUN_FLAG &&
	     !(p.flags & (IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN))) ||
	    (p.flags & IORING_SETUP_DEFER_TASKRUN && !(p.flags & IORING_SETUP_SINGLE_ISSUER)))
		return -EINVAL;
	int err = check_sizes(&p, entries);
	if (err || (err = uring_create_file(&p, &f)))
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
	if (to_submit) {
		if ((err = task_sleep_lock(t, &u->entering)))
			return err;
		done = uring_submit(t, u, to_submit);
		sleep_lock_release(&u->entering);
		if (done != (long)to_submit)
			return done;
	}
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

/* The file that a number in guest memory means: -1 none.  Rings are no registered files: one that
 * held itself would never go. */
static int file_at(struct task *t, uaddr_t at, struct file **out)
{
	int32_t fd;

	*out = NULL;
	if (copy_in_val(&t->um, &fd, at))
		return -EFAULT;
	if (fd == IORING_REGISTER_FILES_SKIP)
		return 1;
	if (fd == -1)
		return 0;
	struct file *f = fdtable_file(t->fds, fd);
	if (!f || uring_of(f)) {
		file_put(f);
		return -EBADF;
	}
	*out = f;
	return 0;
}

static int register_files(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	if (u->files)
		return -EBUSY;
	if (!n)
		return -EINVAL;
	if (n > URING_MAX_FILES || n > task_rlimit(t, RLIMIT_NOFILE))
		return -EMFILE;
	struct file **files = calloc(n, sizeof(struct file *));
	if (!files)
		return -ENOMEM;
	int err = 0;
	for (unsigned i = 0; i < n && !err; i++) {
		err = file_at(t, uaddr_add(arg, i * sizeof(int32_t)), &files[i]);
		if (err > 0)
			err = -EBADF;
	}
	if (err) {
		for (unsigned i = 0; i < n; i++)
			file_put(files[i]);
		free(files);
		return err;
	}
	mutex_lock(&u->lock, &lc_pipe);
	u->files = files;
	u->nfiles = n;
	mutex_unlock(&u->lock, &lc_pipe);
	return 0;
}

long uring_update_files(struct task *t, struct uring *u, unsigned first, uaddr_t fds, unsigned n)
{
	unsigned done = 0;
	int err = 0;

	if (!u->files)
		return -ENXIO;
	if (!n || n > URING_MAX_FILES || first > URING_MAX_FILES)
		return -EINVAL;
	while (done < n && !err) {
		struct file *f, *old = NULL;
		err = file_at(t, uaddr_add(fds, done * sizeof(int32_t)), &f);
		if (err < 0)
			break;
		bool skip = err > 0;
		err = 0;
		mutex_lock(&u->lock, &lc_pipe);
		if (first + done >= u->nfiles) {
			err = -EINVAL;
			old = f;
		} else if (!skip) {
			old = u->files[first + done];
			u->files[first + done] = f;
		}
		mutex_unlock(&u->lock, &lc_pipe);
		file_put(old);
		done += !err;
	}
	return done ? (long)done : err;
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
		return uaddr_is_null(arg) ? -EFAULT : register_files(t, u, arg, n);
	case IORING_UNREGISTER_FILES:
		if (!none)
			return -EINVAL;
		if (!u->files)
			return -ENXIO;
		uring_drop_files(u);
		return 0;
	case IORING_REGISTER_FILES_UPDATE:
		return update_files_arg(t, u, arg, n);
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

/* fcntl(2). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <linux/capability.h>

#include "sentry/fs/notify/dnotify.h"
#include "sentry/vfs/lease.h"
#include "syscalls/file_io.h"
#include "sentry/kernel/async_io.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#define LINUX_F_DUPFD_QUERY 1027
#define RW_HINT_MAX 5 /* RWH_WRITE_LIFE_EXTREME */
#define SETTABLE_FLAGS (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | FASYNC)

_Static_assert(sizeof(struct flock) == 32, "ABI");

int file_set_async(struct task *t, struct file *f, bool on, int fd)
{
	int err = task_sleep_lock(t, &f->pos_busy);

	if (err)
		return err;
	err = async_io_set(f, on, fd);
	sleep_lock_release(&f->pos_busy);
	return err;
}

static long set_status(struct task *t, struct file *f, int flags, int fd)
{
	int err;

	if (flags & O_NOATIME && !(f->flags & O_NOATIME) &&
	    !inode_owner_or_capable(f->inode, t->cred))
		return -EPERM;
	if ((flags ^ f->flags) & FASYNC && (err = file_set_async(t, f, flags & FASYNC, fd)))
		return err;
	return file_set_flags(f, flags, SETTABLE_FLAGS);
}

static long dup_from(struct task *t, struct file *f, uint64_t from, bool cloexec)
{
	uint64_t limit = task_rlimit(t, RLIMIT_NOFILE);
	int32_t fd;

	if (from > INT_MAX || from >= limit)
		return -EINVAL;
	int err = fdtable_reserve(t->fds, (int)from, limit, 1, &fd);
	if (err)
		return err;
	fdtable_commit(t->fds, fd, file_get(f), cloexec);
	return fd;
}

/* ---- record locks ---- */

struct lock_request {
	struct flock_owner owner;
	short type;
	int64_t start, end;
};

static int lock_base(struct file *f, short whence, int64_t *base)
{
	struct kstat st;
	int err;

	switch (whence) {
	case SEEK_SET:
		*base = 0;
		return 0;
	case SEEK_CUR:
		*base = f->pos;
		return 0;
	case SEEK_END:
		if ((err = vfs_getattr(f->path, &st)))
			return err;
		*base = (int64_t)st.size;
		return 0;
	default:
		return -EINVAL;
	}
}

static int lock_decode(struct task *t, struct file *f, const struct flock *l, bool ofd,
		       struct lock_request *r)
{
	int64_t base;
	int err = lock_base(f, l->l_whence, &base);

	if (err)
		return err;
	if (ofd && l->l_pid != 0)
		return -EINVAL;
	if (l->l_type != F_RDLCK && l->l_type != F_WRLCK && l->l_type != F_UNLCK)
		return -EINVAL;
	r->type = l->l_type;
	if (__builtin_add_overflow(base, (int64_t)l->l_start, &r->start))
		return -EOVERFLOW;
	if (r->start < 0)
		return -EINVAL;
	r->end = INT64_MAX;
	if (l->l_len > 0) {
		if (l->l_len - 1 > INT64_MAX - r->start)
			return -EOVERFLOW;
		r->end = r->start + l->l_len - 1;
	} else if (l->l_len < 0) {
		if (r->start + l->l_len < 0)
			return -EINVAL;
		r->end = r->start - 1;
		r->start += l->l_len;
	}
	r->owner = ofd ? (struct flock_owner){f, -1} : (struct flock_owner){t->fds, t->tg->tgid};
	return 0;
}

static int lock_wait(struct task *t, struct file *f, const struct lock_request *r, bool ofd)
{
	struct task_waiter tw;
	int err;

	task_waiter_init(&tw, t);
	waitq_add(flock_waitq(f), &tw.w, POLLIN);
	while ((err = flock_posix_set(f, &r->owner, r->type, r->start, r->end)) == -EAGAIN) {
		if (!ofd && (err = flock_posix_wait_begin(f, &r->owner, r->type, r->start, r->end)))
			break;
		err = task_park(t, TASK_SLEEPING, TIME_NEVER);
		if (!ofd)
			flock_posix_wait_end(&r->owner);
		if (err)
			break;
	}
	waitq_remove(&tw.w);
	return err == -EINTR ? -ERESTARTSYS : err;
}

static long lock_set(struct task *t, struct file *f, int fd, uaddr_t arg, bool ofd, bool wait)
{
	struct lock_request r;
	struct flock l;

	if (copy_in_val(&t->um, &l, arg))
		return -EFAULT;
	int err = lock_decode(t, f, &l, ofd, &r);
	if (err)
		return err;
	if ((r.type == F_RDLCK && !file_readable(f)) || (r.type == F_WRLCK && !file_writable(f)))
		return -EBADF;
	err = flock_posix_set(f, &r.owner, r.type, r.start, r.end);
	if (err == -EAGAIN && wait)
		err = lock_wait(t, f, &r, ofd);
	if (!err && !ofd && r.type != F_UNLCK) {
		/* A close by a sibling meanwhile has not seen this lock. */
		CLEANUP_FILE struct file *now = fdtable_file_any(t->fds, fd);
		if (now != f) {
			r.type = F_UNLCK;
			(void)!flock_posix_set(f, &r.owner, r.type, r.start, r.end);
			return -EBADF;
		}
	}
	return err;
}

static long lock_get(struct task *t, struct file *f, uaddr_t arg, bool ofd)
{
	struct lock_request r;
	struct flock l;

	if (copy_in_val(&t->um, &l, arg))
		return -EFAULT;
	int err = lock_decode(t, f, &l, ofd, &r);
	if (err)
		return err;
	if (r.type == F_UNLCK)
		return -EINVAL;
	int pid;
	if (flock_posix_test(f, &r.owner, &r.type, &r.start, &r.end, &pid)) {
		l.l_type = r.type;
		l.l_whence = SEEK_SET;
		l.l_start = r.start;
		l.l_len = r.end == INT64_MAX ? 0 : r.end - r.start + 1;
		l.l_pid = pid_to_guest(t, pid);
	} else {
		l.l_type = F_UNLCK;
	}
	return copy_out_last_val(&t->um, arg, &l);
}

/* ---- who gets SIGIO ---- */

static long set_owner(struct task *t, struct file *f, int kind, int id)
{
	bool exists = id == 0;

	if (id < 0)
		return -EINVAL;
	if (!exists) {
		mutex_lock(&t->k->tasks_lock, &lc_tasks);
		id = pid_resolve(task_pid_ns(t), id);
		if (kind == F_OWNER_TID)
			exists = task_lookup(id);
		else if (kind == F_OWNER_PID)
			exists = thread_group_lookup(id);
		else
			exists = pgrp_exists_in_session(id, t->tg->session->sid);
		mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	}
	if (!exists)
		return -ESRCH;
	async_io_set_owner(f, kind, id, t->cred);
	return 0;
}

static long set_owner_ex(struct task *t, struct file *f, uaddr_t arg)
{
	struct f_owner_ex ex;

	if (copy_in_val(&t->um, &ex, arg))
		return -EFAULT;
	if (ex.type != F_OWNER_TID && ex.type != F_OWNER_PID && ex.type != F_OWNER_PGRP)
		return -EINVAL;
	return set_owner(t, f, (int)ex.type, ex.pid);
}

static long owner_cmd(struct task *t, struct file *f, unsigned cmd, uint64_t arg)
{
	int id = (int)arg;

	switch (cmd) {
	case F_SETOWN:
		if (id == INT_MIN)
			return -EINVAL;
		return id < 0 ? set_owner(t, f, F_OWNER_PGRP, -id)
			      : set_owner(t, f, F_OWNER_PID, id);
	case F_GETOWN:
		id = pid_to_guest(t, f->owner_id);
		return f->owner_kind == F_OWNER_PGRP ? -id : id;
	case F_SETOWN_EX:
		return set_owner_ex(t, f, UADDR(arg));
	case F_GETOWN_EX: {
		struct f_owner_ex ex = {.type = (enum __pid_type)f->owner_kind,
					.pid = pid_to_guest(t, f->owner_id)};
		return copy_out_last_val(&t->um, UADDR(arg), &ex);
	}
	case F_SETSIG:
		if (arg > LINUX_NSIG)
			return -EINVAL;
		f->owner_sig = id;
		return 0;
	default: /* F_GETSIG */
		return f->owner_sig;
	}
}

/* ---- leases ---- */

static long set_lease(struct task *t, struct file *f, int fd, int type)
{
	if (f->inode->uid != t->cred->fsuid && !inode_capable(f->inode, t->cred, CAP_LEASE))
		return -EACCES;
	if (!S_ISREG(f->inode->mode))
		return -EINVAL;
	int err = lease_set(f, type, fd, t->tg->tgid);
	if (!err && type != F_UNLCK)
		async_io_own(f, t);
	return err;
}

/* ---- how long data will live ---- */

static long rw_hint(struct task *t, struct file *f, unsigned cmd, uaddr_t arg)
{
	uint64_t hint = f->inode->rw_hint;

	if (cmd == F_GET_RW_HINT)
		return copy_out_val(&t->um, arg, &hint);
	if (!inode_owner_or_capable(f->inode, t->cred))
		return -EPERM;
	if (copy_in_val(&t->um, &hint, arg))
		return -EFAULT;
	if (hint > RW_HINT_MAX)
		return -EINVAL;
	f->inode->rw_hint = (uint8_t)hint;
	return 0;
}

/* ---- dispatch ---- */

/* The commands that O_PATH descriptors know.  -ENOSYS: none of them. */
static long descriptor_cmd(struct task *t, struct file *f, int fd, unsigned cmd, uint64_t arg)
{
	switch (cmd) {
	case F_DUPFD:
		return dup_from(t, f, arg, false);
	case F_DUPFD_CLOEXEC:
		return dup_from(t, f, arg, true);
	case F_GETFD:
		return fdtable_get_cloexec(t->fds, fd);
	case F_SETFD:
		return fdtable_set_cloexec(t->fds, fd, arg & FD_CLOEXEC);
	case F_GETFL:
		return f->flags;
	case LINUX_F_DUPFD_QUERY: {
		CLEANUP_FILE struct file *other = fdtable_file_any(t->fds, (int)arg);
		return other ? other == f : -EBADF;
	}
	default:
		return -ENOSYS;
	}
}

long sys_fcntl(struct task *t, int fd, unsigned cmd, uint64_t arg)
{
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, fd);

	if (!f)
		return -EBADF;
	long ret = descriptor_cmd(t, f, fd, cmd, arg);
	if (ret != -ENOSYS)
		return ret;
	if (f->flags & O_PATH)
		return -EBADF;
	switch (cmd) {
	case F_SETFL:
		return set_status(t, f, (int)arg, fd);
	case F_GETLK:
	case F_OFD_GETLK:
		return lock_get(t, f, UADDR(arg), cmd == F_OFD_GETLK);
	case F_SETLK:
	case F_SETLKW:
		return lock_set(t, f, fd, UADDR(arg), false, cmd == F_SETLKW);
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return lock_set(t, f, fd, UADDR(arg), true, cmd == F_OFD_SETLKW);
	case F_SETOWN:
	case F_GETOWN:
	case F_SETOWN_EX:
	case F_GETOWN_EX:
	case F_SETSIG:
	case F_GETSIG:
		return owner_cmd(t, f, cmd, arg);
	case F_GETLEASE:
		return lease_get(f);
	case F_GET_RW_HINT:
	case F_SET_RW_HINT:
		return rw_hint(t, f, cmd, UADDR(arg));
	case F_SETLEASE:
		return set_lease(t, f, fd, (int)arg);
	case F_NOTIFY:
		return dnotify_watch(f, t, fd, (uint32_t)arg);
	}
	if (f->ops->fcntl)
		return f->ops->fcntl(f, t, cmd, arg);
	return cmd == F_SETPIPE_SZ || cmd == F_GETPIPE_SZ ? -EBADF : -EINVAL;
}

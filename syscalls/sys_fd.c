/* Descriptors: dup(2), close_range(2), flock(2), ioctl(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "sentry/vfs/landlock.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

long sys_dup(struct task *t, int fd)
{
	struct file *f = fdtable_file_any(t->fds, fd);

	if (!f)
		return -EBADF;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, false);
}

static long dup_to(struct task *t, int oldfd, int newfd, bool cloexec)
{
	struct file *f = fdtable_file_any(t->fds, oldfd);

	if (!f)
		return -EBADF;
	return fdtable_replace(t->fds, newfd, task_rlimit(t, RLIMIT_NOFILE), f, cloexec);
}

long sys_dup2(struct task *t, int oldfd, int newfd)
{
	if (oldfd == newfd) {
		CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, oldfd);
		return f ? newfd : -EBADF;
	}
	return dup_to(t, oldfd, newfd, false);
}

long sys_dup3(struct task *t, int oldfd, int newfd, int flags)
{
	if (flags & ~O_CLOEXEC || oldfd == newfd)
		return -EINVAL;
	return dup_to(t, oldfd, newfd, flags & O_CLOEXEC);
}

long sys_close_range(struct task *t, unsigned first, unsigned last, unsigned flags)
{
	if (flags & ~(unsigned)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || first > last)
		return -EINVAL;
	if (flags & CLOSE_RANGE_UNSHARE) {
		int err = task_unshare_fds(t);
		if (err)
			return err;
	}
	return fdtable_close_range(t->fds, first, last, flags & CLOSE_RANGE_CLOEXEC);
}

/* ---- flock ---- */

long sys_flock(struct task *t, int fd, int op)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	struct task_waiter tw;
	int cmd = op & ~LOCK_NB, err;

	if (cmd != LOCK_SH && cmd != LOCK_EX && cmd != LOCK_UN)
		return -EINVAL;
	if (!f)
		return -EBADF;
	err = flock_bsd_set(f, cmd, t->tg->tgid);
	if (err != -EAGAIN || op & LOCK_NB)
		return err;
	task_waiter_init(&tw, t);
	waitq_add(flock_waitq(f), &tw.w, POLLIN);
	while ((err = flock_bsd_set(f, cmd, t->tg->tgid)) == -EAGAIN)
		if ((err = task_park(t, TASK_SLEEPING, TIME_NEVER)))
			break;
	waitq_remove(&tw.w);
	return err == -EINTR ? -ERESTARTSYS : err;
}

/* ---- ioctl ---- */

static long ioctl_set_flag(struct task *t, struct file *f, int fd, int flag, uint64_t arg)
{
	int on, err;

	if (copy_in_val(&t->um, &on, UADDR(arg)))
		return -EFAULT;
	/* Signals about readiness only make sense where readiness changes. */
	if (flag == FASYNC && !!(f->flags & FASYNC) != !!on && !f->ops->poll)
		return -ENOTTY;
	if (flag == FASYNC && !!(f->flags & FASYNC) != !!on &&
	    (err = file_set_async(t, f, on != 0, fd)))
		return err;
	return file_set_flags(f, on ? flag : 0, flag);
}

/* What is left to read of a regular file. */
static long ioctl_fionread(struct task *t, struct file *f, uint64_t arg)
{
	struct kstat st;
	int err = vfs_getattr(f->path, &st);

	if (err)
		return err;
	int left = (int)((int64_t)st.size - f->pos);
	return copy_out_val(&t->um, UADDR(arg), &left);
}

static long ioctl_fioqsize(struct task *t, struct file *f, uint64_t arg)
{
	struct kstat st;
	int err = vfs_getattr(f->path, &st);

	if (err)
		return err;
	int64_t size = (int64_t)st.size;
	return copy_out_val(&t->um, UADDR(arg), &size);
}

/* No file system here shares blocks between files; what is wrong otherwise comes first. */
static long ioctl_clone(struct task *t, const struct file *out, int src_fd)
{
	CLEANUP_FILE struct file *in = fdtable_file(t->fds, src_fd);

	if (!in)
		return -EBADF;
	if (in->inode->sb != out->inode->sb)
		return -EXDEV;
	if (inode_is_dir(in->inode) || inode_is_dir(out->inode))
		return -EISDIR;
	if (!S_ISREG(in->inode->mode) || !S_ISREG(out->inode->mode))
		return -EINVAL;
	if (!file_readable(in) || !file_writable(out) || out->flags & O_APPEND)
		return -EBADF;
	return -EOPNOTSUPP;
}

long sys_ioctl(struct task *t, int fd, unsigned cmd, uint64_t arg)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	int err = landlock_may_ioctl(f, cmd);
	if (err)
		return err;
	uint32_t type = f->inode->mode & S_IFMT;
	switch (cmd) {
	case FIOCLEX:
		return fdtable_set_cloexec(t->fds, fd, true);
	case FIONCLEX:
		return fdtable_set_cloexec(t->fds, fd, false);
	case FIONBIO:
		return ioctl_set_flag(t, f, fd, O_NONBLOCK, arg);
	case FIOASYNC:
		return ioctl_set_flag(t, f, fd, FASYNC, arg);
	case FIOQSIZE:
		if (type != S_IFREG && type != S_IFDIR && type != S_IFLNK)
			return -ENOTTY;
		return ioctl_fioqsize(t, f, arg);
	case FIGETBSZ: {
		int size = PAGE_SIZE;
		return copy_out_val(&t->um, UADDR(arg), &size);
	}
	case FICLONE:
		return ioctl_clone(t, f, (int)arg);
	case FICLONERANGE: {
		struct file_clone_range r;
		if (copy_in_val(&t->um, &r, UADDR(arg)))
			return -EFAULT;
		return ioctl_clone(t, f, (int)r.src_fd);
	}
	case FIDEDUPERANGE:
		return -EOPNOTSUPP;
	case FS_IOC_FIEMAP:
		return type == S_IFREG || type == S_IFDIR ? -EOPNOTSUPP : -ENOTTY;
	case FIBMAP:
		if (type != S_IFREG)
			return -ENOTTY;
		return task_capable(t, CAP_SYS_RAWIO) ? -EINVAL : -EPERM;
	case FIONREAD:
		if (type == S_IFREG)
			return ioctl_fionread(t, f, arg);
		break;
	}
	return f->ops->ioctl ? f->ops->ioctl(f, t, cmd, arg) : -ENOTTY;
}

/* Calls on the contents of open files: fsync(2), truncate(2), fallocate(2), getdents(2) … */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "sentry/abi/dirent.h"
#include "sentry/vfs/notify.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- to stable storage ---- */

static long do_fsync(struct task *t, int fd, bool datasync)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	return f ? file_fsync(f, datasync) : -EBADF;
}

long sys_fsync(struct task *t, int fd)
{
	return do_fsync(t, fd, false);
}

long sys_fdatasync(struct task *t, int fd)
{
	return do_fsync(t, fd, true);
}

static int sync_super(struct super_block *sb)
{
	return sb->ops->sync ? sb->ops->sync(sb) : 0;
}

static int sync_mount(struct mount *m, void *arg)
{
	(void)arg;
	/* sync(2) reports no errors. */
	(void)!sync_super(m->sb);
	return 0;
}

long sys_sync(struct task *t)
{
	(void)!mnt_ns_for_each(t->fs->mnt_ns, sync_mount, NULL);
	return 0;
}

long sys_syncfs(struct task *t, int fd)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	return f ? sync_super(f->inode->sb) : -EBADF;
}

long sys_sync_file_range(struct task *t, int fd, int64_t offset, int64_t n, unsigned flags)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	if (flags & ~(unsigned)(SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				SYNC_FILE_RANGE_WAIT_AFTER))
		return -EINVAL;
	if (offset < 0 || n < 0 || n > INT64_MAX - offset)
		return -EINVAL;
	uint32_t type = f->inode->mode & S_IFMT;
	if (type != S_IFREG && type != S_IFBLK && type != S_IFDIR)
		return -ESPIPE;
	return flags ? file_fsync(f, true) : 0;
}

/* ---- size ---- */

/* RLIMIT_FSIZE for a new size. */
static int check_new_size(struct task *t, uint64_t size)
{
	if (size <= task_rlimit(t, RLIMIT_FSIZE))
		return 0;
	task_send_own_signal(t, SIGXFSZ);
	return -EFBIG;
}

long sys_truncate(struct task *t, uaddr_t name, int64_t length)
{
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (length < 0)
		return -EINVAL;
	int err = path_at(t, AT_FDCWD, name, 0, &p);
	if (err)
		return err;
	if (S_ISREG(p.dentry->inode->mode) && (err = check_new_size(t, (uint64_t)length)))
		return err;
	return vfs_truncate(p, (uint64_t)length, t->cred);
}

long sys_ftruncate(struct task *t, int fd, int64_t length)
{
	if (length < 0)
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	if (!S_ISREG(f->inode->mode) || !file_writable(f))
		return -EINVAL;
	if (f->landlock_denied & LL_TRUNCATE)
		return -EACCES;
	int err = check_new_size(t, (uint64_t)length);
	if (!err && !(err = inode_truncate(f->inode, (uint64_t)length, t->cred)))
		notify_dentry(f->path.dentry, IN_MODIFY);
	return err;
}

/* ---- the page cache, of which the host's is not ours to see ---- */

struct linux_cachestat_range {
	uint64_t off, len;
};
struct linux_cachestat {
	uint64_t cache, dirty, writeback, evicted, recently_evicted;
};
_Static_assert(sizeof(struct linux_cachestat) == 40, "ABI");

static bool may_see_cache(struct task *t, struct file *f)
{
	return file_writable(f) || inode_owner_or_capable(f->inode, t->cred) ||
	       !inode_permission(f->inode, W_OK, t->cred);
}

long sys_cachestat(struct task *t, int fd, uaddr_t range, uaddr_t to, unsigned flags)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	struct linux_cachestat_range r;
	struct linux_cachestat cs = {0};
	struct kstat st;
	int err;

	if (!f)
		return -EBADF;
	if (copy_in_val(&t->um, &r, range))
		return -EFAULT;
	if (!may_see_cache(t, f))
		return -EPERM;
	if (flags)
		return -EINVAL;
	if (S_ISREG(f->inode->mode)) {
		if ((err = vfs_getattr(f->path, &st)))
			return err;
		uint64_t pages = st.size / PAGE_SIZE + (st.size % PAGE_SIZE != 0);
		uint64_t first = r.off / PAGE_SIZE, end = pages;
		if (r.len && r.len - 1 <= UINT64_MAX - r.off)
			end = MIN(pages, (r.off + r.len - 1) / PAGE_SIZE + 1);
		cs.cache = end > first ? end - first : 0;
	}
	return copy_out_val(&t->um, to, &cs);
}

long sys_fallocate(struct task *t, int fd, int mode, int64_t offset, int64_t len)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	if (offset >= 0 && len > 0 && file_writable(f) && S_ISREG(f->inode->mode)) {
		int err = len > INT64_MAX - offset ? -EFBIG
						   : check_new_size(t, (uint64_t)(offset + len));
		if (!err)
			err = inode_remove_privs(f->inode, t->cred);
		if (err)
			return err;
	}
	return file_fallocate(f, mode, offset, len);
}

/* ---- advice ---- */

long sys_fadvise64(struct task *t, int fd, int64_t offset, int64_t len, int advice)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	(void)offset;
	if (!f)
		return -EBADF;
	if (S_ISFIFO(f->inode->mode))
		return -ESPIPE;
	if (len < 0 || advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE)
		return -EINVAL;
	return 0;
}

long sys_readahead(struct task *t, int fd, int64_t offset, uint64_t count)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	(void)offset;
	(void)count;
	if (!f || !file_readable(f))
		return -EBADF;
	return S_ISREG(f->inode->mode) || S_ISBLK(f->inode->mode) ? 0 : -EINVAL;
}

/* ---- directories ---- */

#define DIRENTS_MAX 32768 /* as much as is listed in one call */

struct dirents {
	struct dir_context ctx;
	char *buf;
	size_t size, used;
	bool old; /* getdents(2), not getdents64(2) */
	bool full;
};

static bool dirents_emit(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
			 uint64_t ino, unsigned dtype)
{
	struct dirents *d = container_of(ctx, struct dirents, ctx);
	size_t at = d->old ? offsetof(struct linux_dirent, d_name)
			   : offsetof(struct linux_dirent64, d_name);
	/* A NUL behind the name; in the old form the type is the last byte. */
	size_t reclen = (at + len + (d->old ? 2 : 1) + 7) & ~(size_t)7;
	char *to = d->buf + d->used;

	if (reclen > d->size - d->used) {
		d->full = true;
		return false;
	}
	memset(to, 0, reclen);
	if (d->old) {
		struct linux_dirent e = {ino, (uint64_t)next_off, (uint16_t)reclen};
		memcpy(to, &e, at);
		to[reclen - 1] = (char)dtype;
	} else {
		struct linux_dirent64 e = {ino, next_off, (uint16_t)reclen, (uint8_t)dtype};
		memcpy(to, &e, at);
	}
	memcpy(to + at, name, len);
	d->used += reclen;
	return true;
}

static long list_into(struct task *t, struct file *f, struct dirents *d, uaddr_t buf)
{
	int64_t before = f->pos;
	int err = file_readdir(f, &d->ctx);

	if (err && !d->used)
		return err;
	if (!d->used)
		return d->full ? -EINVAL : 0;
	if (copy_out_last(&t->um, buf, d->buf, d->used)) {
		f->pos = before;
		return -EFAULT;
	}
	return (long)d->used;
}

static long do_getdents(struct task *t, int fd, uaddr_t buf, unsigned n, bool old)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	if (!f->ops->readdir)
		return -ENOTDIR;
	struct dirents d = {
		.ctx.emit = dirents_emit,
		.size = MIN(n, (unsigned)DIRENTS_MAX),
		.old = old,
	};
	CLEANUP_FREE char *mem = d.buf = malloc(d.size + 1);
	if (!mem)
		return -ENOMEM;
	long ret = file_ask_access(f);
	if (ret || (ret = task_sleep_lock(t, &f->pos_busy)))
		return ret;
	ret = list_into(t, f, &d, buf);
	sleep_lock_release(&f->pos_busy);
	return ret;
}

long sys_getdents(struct task *t, int fd, uaddr_t buf, unsigned n)
{
	return do_getdents(t, fd, buf, n, true);
}

long sys_getdents64(struct task *t, int fd, uaddr_t buf, unsigned n)
{
	return do_getdents(t, fd, buf, n, false);
}

#include "syscalls/file_io.h"
#include "sentry/vfs/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void task_send_own_signal(struct task *t, int signo)
{
	ksiginfo info;

	signal_info_user(&info, signo, SI_USER, t);
	signal_send_task(t, &info);
}

/* ---- blocking ---- */

struct io_wait {
	struct task_waiter tw;
	int64_t deadline;
	bool queued, timed_out;
};

static bool may_block(const struct file *f, int flags)
{
	return !(f->flags & O_NONBLOCK) && !(flags & IO_NONBLOCK);
}

/*
 * After an -EAGAIN: gets onto the file's queue the first time (and returns at once, so that the
 * operation is tried again with the waiter in place), then sleeps.
 */
static int io_wait_more(struct io_wait *w, struct task *t, struct file *f, bool write)
{
	struct waitq *q = file_waitq(f);

	if (!q)
		return -EAGAIN;
	if (!w->queued) {
		int64_t ns = f->ops->io_timeout ? f->ops->io_timeout(f, write) : TIME_NEVER;
		w->deadline = ns == TIME_NEVER ? TIME_NEVER : time_monotonic() + ns;
		task_waiter_init(&w->tw, t);
		waitq_add(q, &w->tw.w,
			  write ? POLLOUT | POLLWRNORM : POLLIN | POLLRDNORM | POLLPRI | POLLRDHUP);
		w->queued = true;
		return 0;
	}
	int err = task_park(t, TASK_SLEEPING, w->deadline);
	if (err == -ETIMEDOUT) {
		w->timed_out = true;
		return -EAGAIN;
	}
	/* A wait with a timeout is not restarted: signal(7). */
	if (err == -EINTR)
		return w->deadline == TIME_NEVER ? -ERESTARTSYS : -EINTR;
	return err;
}

static void io_wait_end(struct io_wait *w)
{
	if (w->queued)
		waitq_remove(&w->tw.w);
}

int io_open_wait(struct task *t, struct file *f)
{
	struct io_wait w = {.queued = false};
	int err = 0;

	while (!err && f->ops->open_wait && (err = f->ops->open_wait(f)) == -EAGAIN)
		err = io_wait_more(&w, t, f, !file_readable(f));
	io_wait_end(&w);
	return err;
}

/* ---- reading ---- */

int file_ask_access(struct file *f)
{
	return f->noted ? notify_ask(&f->path, NOTIFY_ACCESS_PERM) : 0;
}

static ssize_t read_once(struct task *t, struct file *f, struct uio *io, int64_t *off)
{
	if (off || !file_has_pos(f))
		return file_read(f, io, off);
	ssize_t n = task_sleep_lock(t, &f->pos_busy);
	if (n)
		return n;
	n = file_read(f, io, NULL);
	sleep_lock_release(&f->pos_busy);
	return n;
}

ssize_t io_read(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags)
{
	struct io_wait w = {.queued = false};
	ssize_t n = file_ask_access(f);

	if (n)
		return n;
	while ((n = read_once(t, f, io, off)) == -EAGAIN && may_block(f, flags)) {
		int err = io_wait_more(&w, t, f, false);
		if (err) {
			n = w.timed_out && f->ops->timeout_ends_read ? 0 : err;
			break;
		}
	}
	io_wait_end(&w);
	t->io.syscr++;
	t->io.rchar += n > 0 ? (uint64_t)n : 0;
	return n;
}

/* ---- writing ---- */

/* Files whose short write means "full", so that a blocking write goes on. */
static bool writes_all(const struct file *f)
{
	uint32_t type = f->inode->mode & S_IFMT;
	return f->ops->stream && (type == S_IFIFO || type == S_IFSOCK || type == S_IFCHR);
}

static ssize_t write_locked(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags)
{
	uint64_t limit = task_rlimit(t, RLIMIT_FSIZE);
	ssize_t n = inode_remove_privs(f->inode, t->cred);

	if (n)
		return n;
	n = flags & IO_APPEND ? file_append(f, io, !off, limit) : file_write(f, io, off, limit);
	if (n == -EFBIG && limit != RLIM_K_INFINITY)
		task_send_own_signal(t, SIGXFSZ);
	return n;
}

static ssize_t write_once(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags)
{
	bool append = flags & IO_APPEND || (f->flags & O_APPEND && !(flags & IO_NOAPPEND));
	struct sleep_lock *end = NULL;

	if (!file_has_pos(f))
		return file_write(f, io, off, RLIM_K_INFINITY);
	ssize_t n = off ? 0 : task_sleep_lock(t, &f->pos_busy);
	if (n)
		return n;
	if (append) {
		end = inode_append_lock(f->inode);
		n = task_sleep_lock(t, end);
	}
	if (!n) {
		n = write_locked(t, f, io, off, flags);
		if (append)
			sleep_lock_release(end);
	}
	if (!off)
		sleep_lock_release(&f->pos_busy);
	return n;
}

ssize_t io_write(struct task *t, struct file *f, struct uio *io, int64_t *off, int flags)
{
	struct io_wait w = {.queued = false};
	ssize_t n, total = 0;

	io->in_place = flags & IO_NOAPPEND;
	for (;;) {
		n = write_once(t, f, io, off, flags);
		if (n >= 0) {
			total += n;
			if (!n || !io->left || !writes_all(f))
				break;
		} else if (n != -EAGAIN || !may_block(f, flags)) {
			break;
		} else if ((n = io_wait_more(&w, t, f, true))) {
			break;
		}
	}
	io_wait_end(&w);
	t->io.syscw++;
	t->io.wchar += (uint64_t)total;
	if (n == -EPIPE && !(flags & IO_NOSIGNAL))
		task_send_own_signal(t, SIGPIPE);
	if (total > 0 && (flags & IO_SYNC || f->flags & (O_DSYNC | O_SYNC)) && file_has_pos(f)) {
		int err = file_fsync(f, (f->flags & O_SYNC) != O_SYNC && !(flags & IO_SYNC));
		if (err && err != -EINVAL)
			return err;
	}
	return total > 0 || n >= 0 ? total : n;
}

/* ---- names ---- */

ssize_t path_name_get(struct task *t, struct path_name *n, uaddr_t from)
{
	return copy_in_str(&t->um, n->s, from, sizeof(n->s));
}

int copy_in_extensible(struct task *t, void *dst, size_t n, uaddr_t src, uint64_t size)
{
	char tail[256];

	if (size > PAGE_SIZE)
		return -E2BIG;
	memset(dst, 0, n);
	if (copy_in(&t->um, dst, src, MIN(size, n)))
		return -EFAULT;
	for (uint64_t at = n; at < size;) {
		uint64_t part = MIN(size - at, sizeof(tail));
		if (copy_in(&t->um, tail, uaddr_add(src, at), part))
			return -EFAULT;
		for (uint64_t i = 0; i < part; i++)
			if (tail[i])
				return -E2BIG;
		at += part;
	}
	return 0;
}

unsigned walk_flags_from_at(int at_flags)
{
	return (at_flags & AT_SYMLINK_NOFOLLOW ? WALK_NOFOLLOW : 0) |
	       (at_flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
}

static int walk_env_at(struct task *t, int dirfd, uaddr_t name, unsigned walk_flags,
		       struct path_name *n, struct walk_env *env)
{
	if (walk_flags & WALK_EMPTY && uaddr_is_null(name)) {
		n->s[0] = '\0';
	} else {
		ssize_t len = path_name_get(t, n, name);
		if (len < 0)
			return (int)len;
		if (!len && !(walk_flags & WALK_EMPTY))
			return -ENOENT;
	}
	return task_walk_env(t, dirfd, n->s, env);
}

int path_at(struct task *t, int dirfd, uaddr_t name, unsigned walk_flags, struct path *out)
{
	struct path_name n;
	struct walk_env env;
	int err = walk_env_at(t, dirfd, name, walk_flags, &n, &env);

	if (err)
		return err;
	err = path_walk(&env, n.s, walk_flags, out);
	walk_env_fini(&env);
	return err;
}

int stat_at(struct task *t, int dirfd, uaddr_t name, unsigned walk_flags, struct kstat *st)
{
	struct path_name n;
	struct walk_env env;
	int err = walk_env_at(t, dirfd, name, walk_flags, &n, &env);

	if (err)
		return err;
	err = vfs_stat(&env, n.s, walk_flags, st);
	walk_env_fini(&env);
	return err;
}

int at_name_init(struct task *t, struct at_name *a, int dirfd, uaddr_t name)
{
	ssize_t len = path_name_get(t, &a->name, name);

	if (len < 0)
		return (int)len;
	return len ? task_walk_env(t, dirfd, a->name.s, &a->env) : -ENOENT;
}

void at_name_fini(struct at_name *a)
{
	walk_env_fini(&a->env);
}

/* The descriptor of a group: events are read from it, answers written to it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "sentry/fs/notify/fanotify_impl.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/mm/uaccess.h"

#define EVENT_MAX 1024 /* three records with the longest names */
#define HANDLE_TYPE 1  /* as name_to_handle_at(2) gives them */

struct fid_record {
	struct fanotify_event_info_header hdr;
	uint32_t fsid[2];
	uint32_t handle_bytes;
	int32_t handle_type;
	struct vfs_handle handle;
};
_Static_assert(sizeof(struct fid_record) == 32, "ABI");
_Static_assert(3 * (sizeof(struct fid_record) + VFS_NAME_MAX + 4) + 64 <= EVENT_MAX, "room");

static size_t fid_size(const struct fan_fid *f, bool dot)
{
	size_t name = f->name ? (size_t)f->name_len + 1 : dot ? 2 : 0;

	return f->there ? (sizeof(struct fid_record) + name + 3) & ~(size_t)3 : 0;
}

/* A directory itself, in a group that gets names, goes by the name ".". */
static bool is_dot(const struct fan_group *g, const struct fan_event *v)
{
	return !v->dir.there && !v->new_dir.there && g->flags & FAN_REPORT_NAME &&
	       v->mask & FAN_ONDIR;
}

static size_t event_size(const struct fan_group *g, const struct fan_event *v)
{
	return FAN_EVENT_METADATA_LEN + fid_size(&v->dir, false) + fid_size(&v->new_dir, false) +
	       fid_size(&v->object, is_dot(g, v)) +
	       (g->flags & FAN_REPORT_PIDFD ? sizeof(struct fanotify_event_info_pidfd) : 0);
}

static char *put_fid(char *to, const struct fan_event *v, const struct fan_fid *f, uint8_t type,
		     bool dot)
{
	size_t size = fid_size(f, dot);
	const struct fid_record r = {
		.hdr = {.info_type = type, .len = (uint16_t)size},
		.fsid = {(uint32_t)v->fsid, (uint32_t)(v->fsid >> 32)},
		.handle_bytes = sizeof(r.handle),
		.handle_type = HANDLE_TYPE,
		.handle = {.ino = {(uint32_t)f->ino, (uint32_t)(f->ino >> 32)}},
	};

	if (!f->there)
		return to;
	memset(to, 0, size);
	memcpy(to, &r, sizeof(r));
	if (f->name || dot)
		memcpy(to + sizeof(r), f->name ? f->name : ".", f->name ? f->name_len : 1);
	return to + size;
}

static uint8_t object_type(const struct fan_group *g, const struct fan_event *v)
{
	const uint32_t entry = FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_RENAME;

	if (v->dir.there || v->new_dir.there || !(g->flags & FAN_REPORT_DIR_FID))
		return FAN_EVENT_INFO_TYPE_FID;
	if (is_dot(g, v))
		return FAN_EVENT_INFO_TYPE_DFID_NAME;
	return v->mask & (entry | FAN_ONDIR) ? FAN_EVENT_INFO_TYPE_DFID : FAN_EVENT_INFO_TYPE_FID;
}

static char *put_fids(char *to, const struct fan_group *g, const struct fan_event *v)
{
	uint8_t first = v->mask & FAN_RENAME ? FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
			: v->dir.name	     ? FAN_EVENT_INFO_TYPE_DFID_NAME
					     : FAN_EVENT_INFO_TYPE_DFID;

	to = put_fid(to, v, &v->dir, first, false);
	to = put_fid(to, v, &v->new_dir, FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, false);
	return put_fid(to, v, &v->object, object_type(g, v), is_dot(g, v));
}

/* ---- descriptors that an event brings ---- */

/* A number and the file that it will be; the file NULL: fd is what the guest reads as it is. */
struct new_fd {
	int32_t fd;
	struct file *f;
	bool cloexec;
};

static int new_fd_reserve(struct task *t, struct new_fd *n)
{
	int err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &n->fd);

	if (err) {
		file_put(n->f);
		*n = (struct new_fd){.fd = FAN_NOFD};
	}
	return err;
}

static void new_fd_end(struct task *t, struct new_fd *n, bool keep)
{
	if (!n->f)
		return;
	if (keep) {
		fdtable_commit(t->fds, n->fd, n->f, n->cloexec);
		return;
	}
	fdtable_unreserve(t->fds, 1, &n->fd);
	file_put(n->f);
}

static int open_file(struct task *t, const struct fan_group *g, const struct fan_event *v,
		     struct new_fd *n)
{
	if (!v->path.mnt)
		return 0;
	n->cloexec = g->event_flags & O_CLOEXEC;
	int err = file_open_quiet(v->path, g->event_flags & ~O_CLOEXEC, &n->f);
	return err ? err : new_fd_reserve(t, n);
}

static void open_pidfd(struct task *t, const struct fan_group *g, const struct fan_event *v,
		       struct new_fd *n)
{
	if (!(g->flags & FAN_REPORT_PIDFD) || !v->tg)
		return;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool lives = thread_group_lookup(v->tg->tgid) == v->tg;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	n->cloexec = true;
	if (lives && (pidfd_create(v->tg, 0, &n->f) || new_fd_reserve(t, n)))
		n->fd = FAN_EPIDFD;
}

/* ---- reading ---- */

static int shown_pid(const struct task *t, const struct fan_group *g, const struct fan_event *v)
{
	if (g->unprivileged && v->pid != t->tg->tgid)
		return 0;
	return pid_to_guest(t, v->pid);
}

/* The first event, if it fits: taken off.  NULL with *err: -EAGAIN none, -EINVAL too long. */
static struct fan_event *next_event(struct fan_group *g, uint64_t room, int *err)
{
	struct fan_event *v = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	*err = -EAGAIN;
	if (!list_empty(&g->queue)) {
		v = list_first(&g->queue, struct fan_event, node);
		*err = event_size(g, v) > room ? -EINVAL : 0;
		if (*err) {
			v = NULL;
		} else {
			list_del(&v->node);
			g->nqueued--;
			v->state = FAN_READ;
			if (v->mask & FAN_Q_OVERFLOW)
				g->overflown = false;
			if (fan_is_question(v)) {
				v->refs++; /* its asker may give up meanwhile */
				list_add_tail(&v->node, &g->waiting);
			}
		}
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return v;
}

/* Shows an event to the guest: its size, or -errno. */
static ssize_t show_event(struct task *t, const struct fan_group *g, struct fan_event *v,
			  struct uio *io, int *fd)
{
	struct new_fd file = {.fd = FAN_NOFD}, pidfd = {.fd = FAN_NOPIDFD};
	char buf[EVENT_MAX], *end = buf + FAN_EVENT_METADATA_LEN;
	int err = open_file(t, g, v, &file);

	if (err && !(g->flags & FAN_REPORT_FD_ERROR))
		return err;
	if (err)
		file.fd = err;
	open_pidfd(t, g, v, &pidfd);
	end = put_fids(end, g, v);
	if (g->flags & FAN_REPORT_PIDFD) {
		const struct fanotify_event_info_pidfd r = {
			.hdr = {.info_type = FAN_EVENT_INFO_TYPE_PIDFD, .len = sizeof(r)},
			.pidfd = pidfd.fd,
		};
		memcpy(end, &r, sizeof(r));
		end += sizeof(r);
	}
	const struct fanotify_event_metadata head = {
		.event_len = (uint32_t)(end - buf),
		.vers = FANOTIFY_METADATA_VERSION,
		.metadata_len = FAN_EVENT_METADATA_LEN,
		.mask = v->mask,
		.fd = file.fd,
		.pid = shown_pid(t, g, v),
	};
	memcpy(buf, &head, sizeof(head));
	bool shown = uio_put(io, buf, (size_t)(end - buf)) == end - buf;
	*fd = file.fd;
	new_fd_end(t, &file, shown);
	new_fd_end(t, &pidfd, shown);
	return shown ? end - buf : -EFAULT;
}

/* A question that was read waits for its answer, or cannot be answered. */
static void question_shown(struct fan_event *v, int fd, bool shown)
{
	if (!fan_is_question(v))
		return;
	mutex_lock(&notify_lock, &lc_notify);
	v->fd = fd;
	if (!shown && v->state == FAN_READ)
		fan_answer(v, FAN_DENY);
	mutex_unlock(&notify_lock, &lc_notify);
}

static ssize_t fan_read(struct file *f, struct uio *io, int64_t *off)
{
	struct task *t = task_current();
	struct fan_group *g = f->priv;
	ssize_t total = 0;
	struct fan_event *v;
	int err, fd = FAN_NOFD;

	(void)off;
	if (!t)
		return -EBADF;
	io->last = false; /* files are opened between the events */
	while ((v = next_event(g, io->left, &err))) {
		ssize_t n = show_event(t, g, v, io, &fd);
		question_shown(v, fd, n >= 0);
		fan_event_put(v);
		if (n < 0)
			return total ? total : n;
		total += n;
	}
	return total ? total : err;
}

/* ---- answering ---- */

static int check_answer(const struct fan_group *g, const struct fanotify_response *r)
{
	static const int errors[] = {0, EPERM, EIO, EBUSY, ETXTBSY, EAGAIN, ENOSPC, EDQUOT};
	unsigned verdict = r->response & (FAN_ALLOW | FAN_DENY), err = r->response >> 24;

	if (verdict != FAN_ALLOW && verdict != FAN_DENY)
		return -EINVAL;
	if (r->response & 0xffffff & ~(unsigned)(FAN_ALLOW | FAN_DENY | FAN_AUDIT))
		return -EINVAL;
	if (r->response & FAN_AUDIT && !(g->flags & FAN_ENABLE_AUDIT))
		return -EINVAL;
	if (err && (verdict != FAN_DENY || !(g->flags & FAN_CLASS_PRE_CONTENT)))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (err == (unsigned)errors[i])
			return r->fd < 0 ? -EINVAL : 0;
	return -EINVAL;
}

static ssize_t fan_write(struct file *f, struct uio *io, int64_t *off)
{
	struct fan_group *g = f->priv;
	struct fanotify_response r;
	struct fan_event *v;
	int err;

	(void)off;
	if (!(g->flags & (FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT)) || io->left < sizeof(r))
		return -EINVAL;
	if (uio_get(io, &r, sizeof(r)) != sizeof(r))
		return -EFAULT;
	if ((err = check_answer(g, &r)))
		return err;
	err = -ENOENT;
	mutex_lock(&notify_lock, &lc_notify);
	list_for_each (v, &g->waiting, node) {
		if (v->fd == r.fd) {
			fan_answer(v, r.response);
			err = 0;
			break;
		}
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return err ? err : (ssize_t)sizeof(r);
}

/* ---- the rest of the file ---- */

static uint32_t fan_poll(struct file *f)
{
	struct fan_group *g = f->priv;

	mutex_lock(&notify_lock, &lc_notify);
	bool any = !list_empty(&g->queue);
	mutex_unlock(&notify_lock, &lc_notify);
	return any ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *fan_waitq(struct file *f)
{
	return &((struct fan_group *)f->priv)->wq;
}

static long fan_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct fan_group *g = f->priv;
	const struct fan_event *v;
	size_t bytes = 0;

	if (cmd != FIONREAD)
		return -ENOTTY;
	mutex_lock(&notify_lock, &lc_notify);
	list_for_each (v, &g->queue, node)
		bytes += event_size(g, v);
	mutex_unlock(&notify_lock, &lc_notify);
	int n = (int)MIN(bytes, (size_t)INT_MAX);
	return copy_out_val(task_umem(t), UADDR(arg), &n);
}

static int show_mark(const struct fan_mark *m, char *buf, size_t size)
{
	uint64_t dev = m->mark.inode ? m->mark.inode->sb->dev : m->sb->dev;
	unsigned sdev = major(dev) << 20 | minor(dev);

	switch (m->kind) {
	case FAN_MARK_MOUNT:
		return snprintf(buf, size, "fanotify mnt_id:%x mflags:%x mask:%x ignored_mask:%x\n",
				m->mount_id, m->flags, m->mask, m->ignored);
	case FAN_MARK_FILESYSTEM:
		return snprintf(buf, size, "fanotify sdev:%x mflags:%x mask:%x ignored_mask:%x\n",
				sdev, m->flags, m->mask, m->ignored);
	default:
		return snprintf(
			buf, size, "fanotify ino:%lx sdev:%x mflags:%x mask:%x ignored_mask:%x \n",
			(unsigned long)m->mark.inode->ino, sdev, m->flags, m->mask, m->ignored);
	}
}

/* As proc_pid_fdinfo(5) shows groups; lines that do not fit are left out. */
static size_t fan_show(struct file *f, char *buf, size_t size)
{
	struct fan_group *g = f->priv;
	const struct fan_mark *m;
	size_t len = (size_t)snprintf(buf, size, "fanotify flags:%x event-flags:%x\n", g->flags,
				      (unsigned)g->event_flags);

	mutex_lock(&notify_lock, &lc_notify);
	list_for_each (m, &g->marks, node) {
		int n = len < size ? show_mark(m, buf + len, size - len) : -1;
		if (n < 0 || (size_t)n >= size - len)
			break;
		len += (size_t)n;
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return MIN(len, size);
}

static void fan_release(struct file *f)
{
	fan_group_close(f->priv);
}

const struct file_ops fanotify_ops = {
	.async = true,
	.read = fan_read,
	.write = fan_write,
	.stream = true,
	.poll = fan_poll,
	.waitq = fan_waitq,
	.ioctl = fan_ioctl,
	.show_fdinfo = fan_show,
	.release = fan_release,
};

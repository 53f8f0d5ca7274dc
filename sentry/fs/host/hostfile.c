#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sentry/fs/host/host.h"
#include "sentry/mm/uaccess.h"

/* One move between host and guest. */
#define SMALL 4096
#define MOVE_MAX 65536

int host_private_fd(int fd)
{
	struct stat st;
	char name[64];

	if (fstat(fd, &st) || !(S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
		return fd;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return fd;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	int own = open(name, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (own < 0)
		return fd;
	close(fd);
	return own;
}

/* ---- moving bytes ---- */

/* A host read or write that does not wait: bytes or -errno. */
static ssize_t try_move(struct hostfile *h, void *buf, size_t n, bool write_it)
{
	struct iovec iov = {buf, n};
	ssize_t got;

	if (!h->nonblock && !h->no_nowait) {
		got = write_it ? pwritev2(h->fd, &iov, 1, -1, RWF_NOWAIT)
			       : preadv2(h->fd, &iov, 1, -1, RWF_NOWAIT);
		if (got >= 0 || (errno != EOPNOTSUPP && errno != EINVAL))
			return got < 0 ? -errno : got;
		h->no_nowait = true;
	}
	if (!h->nonblock) {
		struct pollfd p = {.fd = h->fd, .events = write_it ? POLLOUT : POLLIN};
		if (poll(&p, 1, 0) <= 0)
			return -EAGAIN;
		n = MIN(n, (size_t)PIPE_BUF);
	}
	got = write_it ? write(h->fd, buf, n) : read(h->fd, buf, n);
	return got < 0 ? -errno : got;
}

/* After -EAGAIN the poller is armed, so that whoever waits is told when to try again. */
static ssize_t host_move(struct hostfile *h, void *buf, size_t n, bool write_it)
{
	ssize_t got;

	do
		got = try_move(h, buf, n, write_it);
	while (got == -EINTR);
	if (got == -EAGAIN)
		poller_arm(&h->src, write_it ? POLLOUT : POLLIN);
	return got;
}

/* The buffer of a move of n bytes: `small` on the caller's stack, or memory. */
static void *move_buffer(char *small, size_t *n)
{
	if (*n <= SMALL)
		return small;
	*n = MIN(*n, (size_t)MOVE_MAX);
	void *big = malloc(*n);
	if (big)
		return big;
	*n = SMALL;
	return small;
}

ssize_t hostfile_stream_read(struct hostfile *h, struct uio *io)
{
	char small[SMALL];
	size_t n = io->left;

	if (n == 0)
		return 0;
	char *buf = move_buffer(small, &n);
	/* What the host gives cannot be given back: the guest's buffer must be good before. */
	ssize_t got = uio_probe_put(io, n);
	if (!got)
		got = host_move(h, buf, n, false);
	if (got > 0)
		got = uio_put(io, buf, got);
	if (buf != small)
		free(buf);
	return got;
}

ssize_t hostfile_stream_write(struct hostfile *h, struct uio *io)
{
	char small[SMALL];
	size_t n = io->left;

	if (n == 0)
		return 0;
	char *buf = move_buffer(small, &n);
	ssize_t got = uio_get(io, buf, n);
	if (got > 0) {
		ssize_t done = host_move(h, buf, got, true);
		uio_revert(io, got - (done > 0 ? done : 0));
		got = done;
	}
	if (buf != small)
		free(buf);
	return got;
}

/* ---- readiness ---- */

uint32_t hostfile_poll(struct hostfile *h, bool readable, bool writable)
{
	struct pollfd p = {.fd = h->fd};

	if (!h->src.registered)
		return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
	p.events = (readable ? POLLIN | POLLPRI | POLLRDHUP : 0) | (writable ? POLLOUT : 0);
	if (poll(&p, 1, 0) < 0)
		p.revents = 0;
	uint32_t missing = p.events & (POLLIN | POLLOUT) & ~p.revents;
	if (missing && !(p.revents & (POLLHUP | POLLERR)))
		poller_arm(&h->src, missing);
	uint32_t ev = p.revents & ~POLLNVAL;
	if (ev & POLLIN)
		ev |= POLLRDNORM;
	if (ev & POLLOUT)
		ev |= POLLWRNORM;
	return ev;
}

static uint32_t hostfile_file_poll(struct file *f)
{
	return hostfile_poll(f->priv, file_readable(f), file_writable(f));
}

static struct waitq *hostfile_waitq(struct file *f)
{
	struct hostfile *h = f->priv;

	return h->src.registered ? &h->wq : NULL;
}

/* ---- streams: pipes, sockets, character devices ---- */

static ssize_t stream_read(struct file *f, struct uio *io, int64_t *off)
{
	(void)off;
	return hostfile_stream_read(f->priv, io);
}

static ssize_t stream_write(struct file *f, struct uio *io, int64_t *off)
{
	(void)off;
	return hostfile_stream_write(f->priv, io);
}

static long stream_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct hostfile *h = f->priv;
	int n;

	if (cmd != FIONREAD)
		return -ENOTTY;
	if (ioctl(h->fd, FIONREAD, &n))
		return -errno;
	return copy_out_val(task_umem(t), UADDR(arg), &n);
}

static const struct file_ops stream_ops = {
	.read = stream_read,
	.write = stream_write,
	.stream = true,
	.poll = hostfile_file_poll,
	.waitq = hostfile_waitq,
	.ioctl = stream_ioctl,
};

/* ---- regular files ---- */

/* Pieces of what a uio moves at a time, until one is short. */
static ssize_t move_at_own_position(struct hostfile *h, struct uio *io, bool write_it)
{
	ssize_t done = 0;

	while (io->left) {
		uint64_t left = io->left;
		ssize_t n =
			write_it ? uio_host_write(io, h->fd, NULL) : uio_host_read(io, h->fd, NULL);
		if (n <= 0)
			return done ? done : n;
		done += n;
		if ((uint64_t)n < MIN(left, (uint64_t)MOVE_MAX))
			break;
	}
	return done;
}

/*
 * A move at the file's position is made at the description's own, which host processes share: a
 * shell that runs a container with its output in a file goes on behind that output.  So it is with
 * appending, where the host appends, too.
 */
static ssize_t regular_move(struct file *f, struct uio *io, int64_t *off, bool write_it)
{
	struct hostfile *h = f->priv;
	bool ours = write_it && f->flags & O_APPEND && !h->append; /* only the guest appends */
	ssize_t n;

	if (!io->at_pos || ours) {
		n = write_it ? uio_host_write(io, h->fd, off) : uio_host_read(io, h->fd, off);
		if (io->at_pos && n > 0)
			(void)!lseek(h->fd, *off, SEEK_SET);
		return n;
	}
	n = move_at_own_position(h, io, write_it);
	if (n > 0) {
		off_t pos = lseek(h->fd, 0, SEEK_CUR);
		*off = pos >= 0 ? pos : *off + n;
	}
	return n;
}

static ssize_t regular_read(struct file *f, struct uio *io, int64_t *off)
{
	return regular_move(f, io, off, false);
}

static ssize_t regular_write(struct file *f, struct uio *io, int64_t *off)
{
	return regular_move(f, io, off, true);
}

static int64_t regular_llseek(struct file *f, int64_t off, int whence)
{
	struct hostfile *h = f->priv;
	off_t pos = lseek(h->fd, off, whence);

	return pos < 0 ? -errno : pos;
}

static int regular_fsync(struct file *f, bool datasync)
{
	struct hostfile *h = f->priv;

	return (datasync ? fdatasync(h->fd) : fsync(h->fd)) ? -errno : 0;
}

static int regular_fallocate(struct file *f, int mode, int64_t off, int64_t len)
{
	struct hostfile *h = f->priv;

	return fallocate(h->fd, mode, off, len) ? -errno : 0;
}

static const struct file_ops regular_ops = {
	.read = regular_read,
	.write = regular_write,
	.llseek = regular_llseek,
	.fsync = regular_fsync,
	.fallocate = regular_fallocate,
};

/* ---- the inode ---- */

static int hostfile_getattr(struct inode *in, struct kstat *st)
{
	struct hostfile *h = in->priv;
	struct stat hst;

	inode_fill_stat(in, st);
	if (fstat(h->fd, &hst))
		return -errno;
	st->size = hst.st_size;
	st->blocks = hst.st_blocks;
	st->blksize = hst.st_blksize;
	st->mtime = (struct ktime){hst.st_mtim.tv_sec, hst.st_mtim.tv_nsec};
	return 0;
}

/* Owner and mode are the sandbox's affair, the size is the file's. */
static int hostfile_setattr(struct inode *in, const struct iattr *a)
{
	struct hostfile *h = in->priv;

	if (a->valid & ATTR_SIZE) {
		if (h->fops != &regular_ops)
			return -EINVAL;
		if (ftruncate(h->fd, (off_t)a->size))
			return -errno;
	}
	inode_apply_attr(in, a);
	return 0;
}

/* Opening it anew, as /dev/stdout does: another file of the same description. */
static int hostfile_open(struct inode *in, struct dentry *d, struct file *f)
{
	struct hostfile *h = in->priv;

	(void)d;
	if ((file_readable(f) && h->access == O_WRONLY) ||
	    (file_writable(f) && h->access == O_RDONLY))
		return -EACCES;
	f->ops = h->fops;
	f->priv = h;
	if (h->fops == &regular_ops) {
		off_t pos = lseek(h->fd, 0, SEEK_CUR);
		f->pos = pos > 0 ? pos : 0;
	}
	return 0;
}

static void source_free(struct poll_source *s)
{
	struct hostfile *h = container_of(s, struct hostfile, src);

	close(h->fd);
	free(h);
}

static void hostfile_free(void *priv)
{
	struct hostfile *h = priv;

	poller_remove(&h->src);
}

void hostfile_put_unused(struct hostfile *h)
{
	hostfile_free(h);
}

struct hostfile *hostfile_new(int host_fd, const struct file_ops *fops, int *err)
{
	struct hostfile *h = calloc(1, sizeof(*h));
	struct stat st;

	int flags = fcntl(host_fd, F_GETFL);
	if (!h || flags < 0 || fstat(host_fd, &st)) {
		*err = h ? -errno : -ENOMEM;
		free(h);
		close(host_fd);
		return NULL;
	}
	waitq_init(&h->wq);
	h->fd = host_fd;
	h->mode = st.st_mode;
	h->access = flags & O_ACCMODE;
	h->nonblock = flags & O_NONBLOCK;
	h->append = flags & O_APPEND;
	h->fops = fops ? fops : S_ISREG(st.st_mode) ? &regular_ops : &stream_ops;
	h->src.free = source_free;
	if ((*err = poller_add(&h->src, host_fd, &h->wq))) {
		source_free(&h->src);
		return NULL;
	}
	return h;
}

int hostfile_new_file(struct hostfile *h, const char *name, uint32_t mode, uint64_t rdev, int flags,
		      struct file **out)
{
	struct inode *in = anon_inode_new(mode, h, hostfile_free);
	if (!in) {
		hostfile_put_unused(h);
		return -ENOMEM;
	}
	h->iops = *in->ops;
	h->iops.getattr = hostfile_getattr;
	h->iops.setattr = hostfile_setattr;
	h->iops.open = hostfile_open;
	in->ops = &h->iops;
	in->own_open = true;
	in->rdev = rdev;
	int err = file_new_anon(in, name, h->fops, h, flags, out);
	if (!err && h->fops == &regular_ops) {
		off_t pos = lseek(h->fd, 0, SEEK_CUR);
		(*out)->pos = pos > 0 ? pos : 0;
	}
	return err;
}

/* What /proc/PID/fd shows. */
static const char *stream_name(const struct hostfile *h, uint64_t rdev)
{
	switch (h->mode & S_IFMT) {
	case S_IFIFO:
		return "pipe:[%lu]";
	case S_IFSOCK:
		return "socket:[%lu]";
	case S_IFCHR:
		return rdev == dev_encode(1, 3) ? "/dev/null" : "/dev/host-device";
	default:
		return "/dev/host-file";
	}
}

int hostfile_create(int host_fd, int flags, struct file **out)
{
	struct stat st;
	int err;

	if (isatty(host_fd))
		return hosttty_create_stream(host_fd, flags, out);
	uint64_t rdev = fstat(host_fd, &st) ? 0 : st.st_rdev;
	struct hostfile *h = hostfile_new(host_fd, NULL, &err);
	if (!h)
		return err;
	return hostfile_new_file(h, stream_name(h, rdev), h->mode | 0600, rdev, flags, out);
}

void hostfile_set_owner(struct file *f, uint32_t uid)
{
	mutex_lock(&f->inode->lock, &lc_inode);
	f->inode->uid = uid;
	mutex_unlock(&f->inode->lock, &lc_inode);
}

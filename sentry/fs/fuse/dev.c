/* /dev/fuse: the server's end of a connection. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/fs/dev/dev.h"
#include "sentry/fs/fuse/fuse.h"
#include "sentry/fs/fuse/node.h"
#include "sentry/mm/uaccess.h"

#define MISC_MAJOR 10
#define FUSE_MINOR 229

struct fuse_dev {
	struct fuse_conn *_Atomic fc; /* reference; NULL: nothing is mounted with it yet */
	struct waitq idle;	      /* in place of the connection's until then */
};

/* ---- reading ---- */

static size_t least_buffer(const struct fuse_conn *fc)
{
	size_t n = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in) + fc->max_write;

	return MAX(n, (size_t)FUSE_MIN_READ_BUFFER);
}

static ssize_t read_interrupt(struct uio *io, uint64_t number)
{
	struct {
		struct fuse_in_header h;
		struct fuse_interrupt_in in;
	} m = {
		.h = {.len = sizeof(m), .opcode = FUSE_INTERRUPT, .unique = number | 1},
		.in = {.unique = number},
	};

	return uio_put(io, &m, sizeof(m));
}

static ssize_t dev_read(struct file *f, struct uio *io, int64_t *off)
{
	struct fuse_dev *dev = f->priv;
	struct fuse_conn *fc = atomic_load(&dev->fc);
	struct fuse_req *r;
	uint64_t number;

	(void)off;
	if (!fc)
		return -EPERM;
	if (io->left < least_buffer(fc))
		return -EINVAL;
	for (;;) {
		int err = fuse_next(fc, &r, &number);
		if (err == -ENODEV && fc->flags & FUSE_ABORT_ERROR && fc->aborted_by_user)
			return -ECONNABORTED;
		if (err)
			return err;
		if (!r)
			return read_interrupt(io, number);
		size_t n = r->len;
		if (n > io->left) {
			fuse_sent(r, dev, r->opcode == FUSE_SETXATTR ? -E2BIG : -EIO);
			continue;
		}
		ssize_t put = uio_put(io, r->msg, n);
		bool whole = put == (ssize_t)n;
		fuse_sent(r, dev, whole ? 0 : -EIO);
		return whole ? put : -EFAULT;
	}
}

static uint32_t dev_poll(struct file *f)
{
	struct fuse_dev *dev = f->priv;
	struct fuse_conn *fc = atomic_load(&dev->fc);
	uint32_t events = POLLOUT | POLLWRNORM;

	if (!fc)
		return POLLERR;
	mutex_lock(&fc->lock, &lc_fuse);
	if (!fc->connected)
		events = POLLERR;
	else if (!list_empty(&fc->pending) || !list_empty(&fc->interrupts))
		events |= POLLIN | POLLRDNORM;
	mutex_unlock(&fc->lock, &lc_fuse);
	return events;
}

static struct waitq *dev_waitq(struct file *f)
{
	struct fuse_dev *dev = f->priv;
	struct fuse_conn *fc = atomic_load(&dev->fc);

	return fc ? &fc->readers : &dev->idle;
}

/* ---- writing ---- */

/* The bytes of an answer, as many as the request may have; *out is malloc'ed. */
static int take_answer(const struct fuse_req *r, struct uio *io, char **out, size_t *n)
{
	*n = io->left;
	if (*n < r->min || *n > r->max)
		return -EINVAL;
	if (!*n)
		return 0;
	if (!(*out = malloc(*n)))
		return -ENOMEM;
	ssize_t got = uio_get(io, *out, *n);
	if (got == (ssize_t)*n)
		return 0;
	free(*out);
	*out = NULL;
	return -EFAULT;
}

static ssize_t dev_write(struct file *f, struct uio *io, int64_t *off)
{
	struct fuse_dev *dev = f->priv;
	struct fuse_conn *fc = atomic_load(&dev->fc);
	struct fuse_out_header h;
	size_t whole = io->left, n = 0;
	char *out = NULL;

	(void)off;
	if (!fc)
		return -EPERM;
	if (whole < sizeof(h))
		return -EINVAL;
	ssize_t got = uio_get(io, &h, sizeof(h));
	if (got != sizeof(h))
		return -EFAULT;
	if (h.len != whole)
		return -EINVAL;
	if (!h.unique) {
		int err = fuse_notify(fc, h.error, io);
		return err ? err : (ssize_t)whole;
	}
	if (h.error <= -512 || h.error > 0)
		return -EINVAL;
	if (h.unique & 1) {
		if (whole != sizeof(h))
			return -EINVAL;
		fuse_interrupt_refused(fc, h.unique & ~1ULL, h.error);
		return (ssize_t)whole;
	}
	struct fuse_req *r = fuse_answered(fc, h.unique);
	if (!r)
		return -ENOENT;
	int err = h.error ? (io->left ? -EINVAL : 0) : take_answer(r, io, &out, &n);
	fuse_finish(r, err ? -EIO : h.error, out, n);
	return err ? err : (ssize_t)whole;
}

/* ---- the file ---- */

/* -EINVAL: it has a connection. */
static int attach(struct fuse_dev *dev, struct fuse_conn *fc)
{
	struct fuse_conn *none = NULL;

	mutex_lock(&fc->lock, &lc_fuse);
	fc->devs++;
	mutex_unlock(&fc->lock, &lc_fuse);
	fuse_conn_get(fc);
	if (atomic_compare_exchange_strong(&dev->fc, &none, fc))
		return 0;
	mutex_lock(&fc->lock, &lc_fuse);
	fc->devs--;
	mutex_unlock(&fc->lock, &lc_fuse);
	fuse_conn_put(fc);
	return -EINVAL;
}

static const struct file_ops dev_fops;

int fuse_dev_attach(struct file *f, struct fuse_conn *fc)
{
	return f->ops == &dev_fops ? attach(f->priv, fc) : -EINVAL;
}

/* Another descriptor for the same connection, for a server's further threads. */
static long dev_clone(struct task *t, struct fuse_dev *dev, uint64_t arg)
{
	uint32_t fd;

	if (copy_in_val(task_umem(t), &fd, (uaddr_t){arg}))
		return -EFAULT;
	CLEANUP_FILE struct file *old = fdtable_file(t->fds, (int)fd);
	if (!old || old->ops != &dev_fops)
		return -EINVAL;
	struct fuse_conn *fc = atomic_load(&((struct fuse_dev *)old->priv)->fc);
	return fc ? attach(dev, fc) : -EINVAL;
}

static long dev_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	return cmd == FUSE_DEV_IOC_CLONE ? dev_clone(t, f->priv, arg) : -ENOTTY;
}

static void dev_release(struct file *f)
{
	struct fuse_dev *dev = f->priv;
	struct fuse_conn *fc = atomic_load(&dev->fc);

	if (fc) {
		fuse_conn_dev_gone(fc, dev);
		fuse_conn_put(fc);
	}
	free(dev);
}

static const struct file_ops dev_fops = {
	.stream = true,
	.messages = true,
	.read = dev_read,
	.write = dev_write,
	.poll = dev_poll,
	.waitq = dev_waitq,
	.ioctl = dev_ioctl,
	.release = dev_release,
};

static int dev_open(struct inode *in, struct file *f)
{
	struct fuse_dev *dev = calloc(1, sizeof(*dev));

	(void)in;
	if (!dev)
		return -ENOMEM;
	waitq_init(&dev->idle);
	f->priv = dev;
	f->ops = &dev_fops;
	return 0;
}

int fuse_init(void)
{
	return dev_register(false, MISC_MAJOR, FUSE_MINOR, dev_open);
}

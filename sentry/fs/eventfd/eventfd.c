#include "sentry/fs/eventfd/eventfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

#define COUNT_MAX (UINT64_MAX - 1)

struct eventfd {
	struct mutex lock; /* lc_pipe */
	struct waitq wq;
	uint64_t count;
	bool semaphore;
};

static ssize_t efd_read(struct file *f, struct uio *io, int64_t *off)
{
	struct eventfd *e = f->priv;

	(void)off;
	if (io->left < sizeof(uint64_t))
		return -EINVAL;
	mutex_lock(&e->lock, &lc_pipe);
	uint64_t value = e->semaphore && e->count ? 1 : e->count;
	e->count -= value;
	mutex_unlock(&e->lock, &lc_pipe);
	if (value == 0)
		return -EAGAIN;

	ssize_t n = uio_put(io, &value, sizeof(value));
	if (n != sizeof(value)) {
		/* The value goes back: a fault takes nothing. */
		mutex_lock(&e->lock, &lc_pipe);
		e->count = value > COUNT_MAX - e->count ? COUNT_MAX : e->count + value;
		mutex_unlock(&e->lock, &lc_pipe);
		waitq_notify(&e->wq, POLLIN);
		return -EFAULT;
	}
	waitq_notify(&e->wq, POLLOUT);
	return n;
}

static ssize_t efd_write(struct file *f, struct uio *io, int64_t *off)
{
	struct eventfd *e = f->priv;
	uint64_t value;

	(void)off;
	if (io->left < sizeof(value))
		return -EINVAL;
	ssize_t n = uio_get(io, &value, sizeof(value));
	if (n != sizeof(value))
		return -EFAULT;
	if (value == UINT64_MAX)
		return -EINVAL;
	mutex_lock(&e->lock, &lc_pipe);
	bool fits = value <= COUNT_MAX - e->count;
	if (fits)
		e->count += value;
	mutex_unlock(&e->lock, &lc_pipe);
	if (!fits) {
		uio_revert(io, sizeof(value));
		return -EAGAIN;
	}
	waitq_notify(&e->wq, POLLIN);
	return n;
}

static uint32_t eventfd_poll(struct file *f)
{
	struct eventfd *e = f->priv;

	mutex_lock(&e->lock, &lc_pipe);
	uint64_t count = e->count;
	mutex_unlock(&e->lock, &lc_pipe);
	return (count ? POLLIN : 0) | (count < COUNT_MAX ? POLLOUT : 0);
}

static struct waitq *eventfd_waitq(struct file *f)
{
	return &((struct eventfd *)f->priv)->wq;
}

static size_t eventfd_show(struct file *f, char *buf, size_t size)
{
	struct eventfd *e = f->priv;

	mutex_lock(&e->lock, &lc_pipe);
	uint64_t count = e->count;
	mutex_unlock(&e->lock, &lc_pipe);
	return snprintf(buf, size, "eventfd-count: %16" PRIx64 "\n", count);
}

static void eventfd_release(struct file *f)
{
	free(f->priv);
}

static const struct file_ops eventfd_ops = {
	.read = efd_read,
	.write = efd_write,
	.stream = true,
	.poll = eventfd_poll,
	.waitq = eventfd_waitq,
	.show_fdinfo = eventfd_show,
	.release = eventfd_release,
};

bool file_is_eventfd(const struct file *f)
{
	return f->ops == &eventfd_ops;
}

void eventfd_signal(struct file *f)
{
	struct eventfd *e = f->priv;

	mutex_lock(&e->lock, &lc_pipe);
	if (e->count < COUNT_MAX)
		e->count++;
	mutex_unlock(&e->lock, &lc_pipe);
	waitq_notify(&e->wq, POLLIN);
}

int eventfd_create_file(unsigned count, int flags, struct file **out)
{
	struct eventfd *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	mutex_init(&e->lock);
	waitq_init(&e->wq);
	e->count = count;
	e->semaphore = flags & EFD_SEMAPHORE;

	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int err = in ? file_new_anon(in, "anon_inode:[eventfd]", &eventfd_ops, e,
				     O_RDWR | (flags & EFD_NONBLOCK), out)
		     : -ENOMEM;
	if (err)
		free(e);
	return err;
}

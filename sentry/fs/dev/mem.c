/* null, zero, full, random, urandom. */
#include "sentry/fs/dev/mem.h"

#include <errno.h>
#include <linux/random.h>
#include <sys/random.h>

#include "sentry/fs/dev/dev.h"
#include "sentry/mm/uaccess.h"

static ssize_t null_read(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)io, (void)off;
	return 0;
}

/* Takes everything, without a look at it. */
static ssize_t null_write(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)off;
	ssize_t n = io->left;
	io->left = 0;
	return n;
}

static ssize_t zero_read(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)off;
	return io->left ? uio_zero(io, io->left) : 0;
}

static ssize_t full_write(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)off;
	return io->left ? -ENOSPC : 0;
}

static int64_t null_llseek(struct file *f, int64_t off, int whence)
{
	(void)f, (void)off, (void)whence;
	return 0;
}

/* A mapping is one of memory that belongs to no file, private or shared. */
static int zero_map_fd(struct file *f, bool shared, int *fd)
{
	(void)f, (void)shared;
	*fd = -1;
	return 0;
}

static ssize_t random_read(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)off;
	char buf[1024];
	ssize_t total = 0;
	while (io->left) {
		ssize_t n = getrandom(buf, MIN(io->left, sizeof(buf)), 0);
		if (n < 0 && errno == EINTR)
			continue;
		n = n < 0 ? -errno : uio_put(io, buf, n);
		if (n <= 0)
			return total ? total : n;
		total += n;
	}
	return total;
}

/* Whatever guests would like to add to the host's entropy is taken, and dropped. */
static ssize_t random_write(struct file *f, struct uio *io, int64_t *off)
{
	return null_write(f, io, off);
}

static long random_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	(void)f;
	int bits = 256;
	if (cmd == RNDGETENTCNT)
		return copy_out_val(task_umem(t), UADDR(arg), &bits);
	if (cmd == RNDADDTOENTCNT || cmd == RNDADDENTROPY || cmd == RNDZAPENTCNT ||
	    cmd == RNDCLEARPOOL || cmd == RNDRESEEDCRNG)
		return -EPERM;
	return -EINVAL;
}

static const struct file_ops null_fops = {
	.read = null_read,
	.write = null_write,
	.llseek = null_llseek,
};

static const struct file_ops zero_fops = {
	.read = zero_read,
	.write = null_write,
	.llseek = null_llseek,
	.map_fd = zero_map_fd,
};

static const struct file_ops full_fops = {
	.read = zero_read,
	.write = full_write,
	.llseek = null_llseek,
};

static const struct file_ops random_fops = {
	.read = random_read,
	.write = random_write,
	.ioctl = random_ioctl,
	.llseek = null_llseek,
};

static int mem_open(struct inode *in, struct file *f)
{
	switch (in->rdev & 0xff) {
	case MEM_NULL:
		f->ops = &null_fops;
		return 0;
	case MEM_ZERO:
		f->ops = &zero_fops;
		return 0;
	case MEM_FULL:
		f->ops = &full_fops;
		return 0;
	case MEM_RANDOM:
	case MEM_URANDOM:
		f->ops = &random_fops;
		return 0;
	default:
		return -ENXIO;
	}
}

int mem_devices_register(void)
{
	static const unsigned minors[] = {MEM_NULL, MEM_ZERO, MEM_FULL, MEM_RANDOM, MEM_URANDOM};
	int err = 0;
	for (size_t i = 0; i < ARRAY_SIZE(minors) && !err; i++)
		err = dev_register(false, MEM_MAJOR, minors[i], mem_open);
	return err;
}

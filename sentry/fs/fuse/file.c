/* Open regular files. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/fs/fuse/node.h"
#include "sentry/mm/uaccess.h"

#define IOCTL_MAX (1U << 14) /* what a command's number can say */

/* ---- reading ---- */

size_t fuse_read_max(const struct fuse_conn *fc)
{
	size_t n = fc->max_pages * PAGE_SIZE;

	return fc->max_read ? MIN(n, MAX(fc->max_read, (uint32_t)PAGE_SIZE)) : n;
}

int fuse_read_at(struct fuse_handle *h, uint64_t off, size_t n, struct fuse_req **out)
{
	const struct fuse_read_in in = {
		.fh = h->fh, .offset = off, .size = (uint32_t)n, .flags = (uint32_t)h->flags};
	struct fuse_req *r = fuse_req_new(conn_of(&h->node->in), FUSE_READ, h->node->nodeid);

	fuse_req_add(r, &in, sizeof(in));
	int err = fuse_call_var(r, 0, n);
	if (err)
		fuse_req_put(r);
	else
		*out = r;
	return err;
}

/* Without the cache: as much as the server gives. */
static ssize_t read_direct(struct fuse_handle *h, struct uio *io, int64_t *off)
{
	size_t max = fuse_read_max(conn_of(&h->node->in));
	ssize_t total = 0;

	while (io->left) {
		size_t want = MIN(io->left, max);
		struct fuse_req *r;
		ssize_t n = fuse_read_at(h, (uint64_t)*off, want, &r);
		if (n)
			return total ? total : n;
		n = r->out_len ? uio_put(io, r->out, r->out_len) : 0;
		size_t had = r->out_len;
		fuse_req_put(r);
		if (n < 0)
			return total ? total : n;
		*off += n;
		total += n;
		if ((size_t)n < had || had < want)
			break;
	}
	return total;
}

static bool is_direct(const struct file *f, const struct fuse_handle *h)
{
	return h->open_flags & FOPEN_DIRECT_IO || f->flags & O_DIRECT;
}

static ssize_t file_read_op(struct file *f, struct uio *io, int64_t *off)
{
	struct fuse_handle *h = f->priv;
	int64_t start = 0;

	if (!off)
		off = &start;
	if (is_direct(f, h))
		return read_direct(h, io, off);
	/* Where the file ends may have changed. */
	if (*off + (int64_t)MIN(io->left, (uint64_t)FUSE_DATA_MAX) > (int64_t)fuse_size(h->node) ||
	    conn_of(f->inode)->flags & FUSE_AUTO_INVAL_DATA) {
		int err = fuse_attr_refresh(h->node, false);
		if (err)
			return err;
	}
	return fuse_cache_read(h, io, off);
}

/* ---- writing ---- */

/* One WRITE: how many of the n bytes of io the server took. */
static ssize_t write_some(struct file *f, struct uio *io, int64_t off, size_t n)
{
	struct fuse_handle *h = f->priv;
	const struct fuse_write_in in = {.fh = h->fh,
					 .offset = (uint64_t)off,
					 .size = (uint32_t)n,
					 .flags = (uint32_t)f->flags};
	struct fuse_req *r = fuse_req_new(conn_of(f->inode), FUSE_WRITE, h->node->nodeid);

	fuse_req_add(r, &in, sizeof(in));
	char *data = fuse_req_add(r, NULL, n);
	ssize_t got = data ? uio_get(io, data, n) : -ENOMEM;
	if (got <= 0) {
		fuse_req_put(r);
		return got;
	}
	((struct fuse_write_in *)(r->msg + sizeof(struct fuse_in_header)))->size = (uint32_t)got;
	r->len -= n - (size_t)got;
	size_t at = r->len - (size_t)got;
	ssize_t done =
		fuse_call_var(r, sizeof(struct fuse_write_out), sizeof(struct fuse_write_out));
	if (!done) {
		struct fuse_write_out out;
		memcpy(&out, r->out, sizeof(out));
		done = out.size > (size_t)got ? -EIO : (ssize_t)out.size;
	}
	if (done > 0) {
		fuse_cache_written(h->node, r->msg + at, (size_t)done, (uint64_t)off);
		fuse_size_changed(h->node, (uint64_t)(off + done), false);
	}
	fuse_req_put(r);
	if (done < got)
		uio_revert(io, (size_t)(got - MAX(done, 0)));
	return done;
}

static ssize_t file_write_op(struct file *f, struct uio *io, int64_t *off)
{
	size_t max = conn_of(f->inode)->max_write;
	int64_t start = 0;
	ssize_t total = 0;

	if (!off)
		off = &start;
	int err = inode_remove_privs(f->inode, task_current()->cred);
	if (err)
		return err;
	while (io->left) {
		size_t want = MIN(io->left, max);
		ssize_t n = write_some(f, io, *off, want);
		if (n <= 0)
			return total ? total : n;
		*off += n;
		total += n;
		if ((size_t)n < want)
			break;
	}
	return total;
}

/* ---- the rest ---- */

static int64_t ask_lseek(struct fuse_handle *h, int64_t off, int whence)
{
	struct fuse_conn *fc = conn_of(&h->node->in);
	const struct fuse_lseek_in in = {
		.fh = h->fh, .offset = (uint64_t)off, .whence = (uint32_t)whence};
	struct fuse_lseek_out out;

	if (fuse_lacks(fc, FUSE_LSEEK))
		return -ENOSYS;
	struct fuse_req *r = fuse_req_new(fc, FUSE_LSEEK, h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	int err = fuse_call(r, &out, sizeof(out));
	if (err)
		return err;
	return out.offset > INT64_MAX ? -EIO : (int64_t)out.offset;
}

static int64_t file_llseek(struct file *f, int64_t off, int whence)
{
	struct fuse_handle *h = f->priv;
	int err = 0;

	if (h->open_flags & (FOPEN_NONSEEKABLE | FOPEN_STREAM))
		return -ESPIPE;
	switch (whence) {
	case SEEK_SET:
		return off < 0 ? -EINVAL : off;
	case SEEK_CUR:
		return __builtin_add_overflow(off, (int64_t)f->pos, &off) || off < 0 ? -EINVAL
										     : off;
	case SEEK_DATA:
	case SEEK_HOLE: {
		int64_t at = ask_lseek(h, off, whence);
		if (at != -ENOSYS)
			return at;
	} /* fallthrough */
	case SEEK_END:
		err = fuse_attr_refresh(h->node, false);
		break;
	default:
		return -EINVAL;
	}
	if (err)
		return err;
	int64_t size = (int64_t)fuse_size(h->node);
	if (whence == SEEK_END)
		return __builtin_add_overflow(off, size, &off) || off < 0 ? -EINVAL : off;
	if (off < 0 || off >= size)
		return -ENXIO;
	return whence == SEEK_DATA ? off : size;
}

static int file_fsync_op(struct file *f, bool datasync)
{
	struct fuse_handle *h = f->priv;
	struct fuse_conn *fc = conn_of(f->inode);
	const struct fuse_fsync_in in = {.fh = h->fh, .fsync_flags = datasync};

	int err = fuse_cache_flush(h->node, true);
	if (err || fuse_lacks(fc, FUSE_FSYNC))
		return err;
	struct fuse_req *r = fuse_req_new(fc, FUSE_FSYNC, h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	err = fuse_call(r, NULL, 0);
	return err == -ENOSYS ? 0 : err;
}

static int file_flush(struct file *f)
{
	struct fuse_handle *h = f->priv;
	struct fuse_conn *fc = conn_of(f->inode);
	const struct task *t = task_current();
	const struct fuse_flush_in in = {.fh = h->fh, .lock_owner = t ? (uint64_t)t->tg->tgid : 0};

	int err = fuse_cache_flush(h->node, true);
	if (err || fuse_lacks(fc, FUSE_FLUSH) || h->open_flags & FOPEN_NOFLUSH || h->no_open)
		return err;
	struct fuse_req *r = fuse_req_new(fc, FUSE_FLUSH, h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	err = fuse_call(r, NULL, 0);
	return err == -ENOSYS ? 0 : err;
}

static int file_fallocate_op(struct file *f, int mode, int64_t off, int64_t len)
{
	struct fuse_handle *h = f->priv;
	struct fuse_conn *fc = conn_of(f->inode);
	const struct fuse_fallocate_in in = {.fh = h->fh,
					     .offset = (uint64_t)off,
					     .length = (uint64_t)len,
					     .mode = (uint32_t)mode};

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) ||
	    fuse_lacks(fc, FUSE_FALLOCATE))
		return -EOPNOTSUPP;
	int err = fuse_cache_flush(h->node, true);
	if (err)
		return err;
	struct fuse_req *r = fuse_req_new(fc, FUSE_FALLOCATE, h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	err = fuse_call(r, NULL, 0);
	if (err)
		return err == -ENOSYS ? -EOPNOTSUPP : err;
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		fuse_size_changed(h->node, (uint64_t)(off + len), false);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		fuse_cache_drop(h->node, (uint64_t)off, (uint64_t)len);
	fuse_attr_expire(h->node);
	return 0;
}

/* Restricted ones: the command's number says how much goes which way. */
static long file_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct fuse_handle *h = f->priv;
	unsigned size = _IOC_SIZE(cmd), dir = _IOC_DIR(cmd);
	struct fuse_ioctl_in in = {.fh = h->fh, .cmd = cmd, .arg = arg};
	struct fuse_ioctl_out out;

	if (fuse_lacks(conn_of(f->inode), FUSE_IOCTL) || size >= IOCTL_MAX)
		return -ENOTTY;
	in.in_size = dir & _IOC_WRITE ? size : 0;
	in.out_size = dir & _IOC_READ ? size : 0;
	struct fuse_req *r = fuse_req_new(conn_of(f->inode), FUSE_IOCTL, h->node->nodeid);
	fuse_req_add(r, &in, sizeof(in));
	char *data = in.in_size ? fuse_req_add(r, NULL, in.in_size) : NULL;
	if (data && copy_in(task_umem(t), data, (uaddr_t){arg}, in.in_size)) {
		fuse_req_put(r);
		return -EFAULT;
	}
	long ret = fuse_call_var(r, sizeof(out), sizeof(out) + in.out_size);
	if (!ret) {
		memcpy(&out, r->out, sizeof(out));
		size_t n = r->out_len - sizeof(out);
		ret = out.flags & FUSE_IOCTL_RETRY ? -EIO : out.result;
		if (ret >= 0 && n &&
		    copy_out(task_umem(t), (uaddr_t){arg}, r->out + sizeof(out), n))
			ret = -EFAULT;
		if (ret <= -512)
			ret = -EIO;
	}
	fuse_req_put(r);
	return ret == -ENOSYS ? -ENOTTY : ret;
}

static void file_release(struct file *f)
{
	struct fuse_handle *h = f->priv;

	/* What was written to mappings that outlived their descriptor. */
	(void)!fuse_cache_flush(h->node, false);
	fuse_handle_put(h);
}

#define FILE_OPS                                                                     \
	.read = file_read_op, .write = file_write_op, .llseek = file_llseek,         \
	.fsync = file_fsync_op, .flush = file_flush, .fallocate = file_fallocate_op, \
	.ioctl = file_ioctl, .release = file_release

static const struct file_ops file_fops = {FILE_OPS, .map_prepare = fuse_map_prepare,
					  .map_fd = fuse_map_fd};
static const struct file_ops stream_fops = {FILE_OPS, .stream = true};

/* One that CREATE opened for this task. */
static struct fuse_handle *take_created(struct fuse_node *n)
{
	mutex_lock(&n->in.lock, &lc_inode);
	struct fuse_handle *h = n->created_by == task_current() ? steal(n->created) : NULL;
	mutex_unlock(&n->in.lock, &lc_inode);
	return h;
}

int fuse_file_open(struct inode *in, struct dentry *d, struct file *f)
{
	struct fuse_node *n = node_of(in);
	struct fuse_handle *h = take_created(n);
	int err = h ? 0 : fuse_handle_open(n, f->flags, false, &h);

	(void)d;
	if (err)
		return err;
	if (!(h->open_flags & (FOPEN_KEEP_CACHE | FOPEN_DIRECT_IO)))
		fuse_cache_drop(n, 0, 0);
	f->priv = h;
	f->ops = h->open_flags & FOPEN_STREAM ? &stream_fops : &file_fops;
	return 0;
}

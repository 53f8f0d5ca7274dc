/* Regular files: text made at the first read, writes handed over whole. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/synth/node.h"
#include "sentry/mm/uaccess.h"

/* The text as one open file sees it; shared by the reads that are under way. */
struct synth_buf {
	ref_t ref;
	struct text text;
};

struct synth_open {
	struct mutex lock;     /* lc_leaf */
	struct synth_buf *buf; /* reference; NULL: not made yet */
	_Atomic uint64_t seen; /* by poll */
};

static void buf_put(struct synth_buf *b)
{
	if (b && ref_put(&b->ref)) {
		text_fini(&b->text);
		free(b);
	}
}

static int buf_new(struct synth_node *n, struct synth_buf **out)
{
	struct synth_buf *b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	ref_init(&b->ref, 1);
	b->text.of = &n->in;
	int err = n->file_ops->show(&b->text, n->arg);
	if (!err)
		err = text_error(&b->text);
	if (err) {
		buf_put(b);
		return err;
	}
	*out = b;
	return 0;
}

/* The text for a read at off, with a reference: made anew for reads from the start. */
static int open_text(struct file *f, int64_t off, struct synth_buf **out)
{
	struct synth_open *o = f->priv;
	if (off > 0) {
		mutex_lock(&o->lock, &lc_leaf);
		struct synth_buf *have = o->buf;
		if (have)
			ref_get(&have->ref);
		mutex_unlock(&o->lock, &lc_leaf);
		if (have) {
			*out = have;
			return 0;
		}
	}
	struct synth_buf *b;
	int err = buf_new(synth_node(f->inode), &b);
	if (err)
		return err;
	ref_get(&b->ref);
	mutex_lock(&o->lock, &lc_leaf);
	struct synth_buf *old = o->buf;
	o->buf = b;
	mutex_unlock(&o->lock, &lc_leaf);
	buf_put(old);
	*out = b;
	return 0;
}

static ssize_t file_ops_read(struct file *f, struct uio *io, int64_t *off)
{
	if (!synth_node(f->inode)->file_ops->show)
		return -EINVAL;
	struct synth_buf *b;
	int err = open_text(f, *off, &b);
	if (err)
		return err;
	ssize_t n = 0;
	if (*off >= 0 && (uint64_t)*off < b->text.len && io->left)
		n = uio_put(io, b->text.buf + *off, MIN(b->text.len - *off, io->left));
	buf_put(b);
	if (n > 0)
		*off += n;
	return n;
}

static ssize_t file_ops_write(struct file *f, struct uio *io, int64_t *off)
{
	struct synth_node *node = synth_node(f->inode);
	size_t n = io->left;
	if (!node->file_ops->write || n > SYNTH_WRITE_MAX)
		return -EINVAL;
	char *buf = malloc(n + 1);
	if (!buf)
		return -ENOMEM;
	ssize_t got = n ? uio_get(io, buf, n) : 0;
	if (got >= 0 && (size_t)got < n)
		got = -EFAULT;
	if (got >= 0) {
		buf[n] = '\0';
		got = node->file_ops->write(f, buf, n, node->arg);
	}
	free(buf);
	if (got > 0)
		*off += got;
	return got;
}

static void file_ops_release(struct file *f)
{
	struct synth_open *o = f->priv;
	buf_put(o->buf);
	free(o);
}

static uint32_t file_ops_poll(struct file *f)
{
	struct synth_node *n = synth_node(f->inode);
	struct synth_open *o = f->priv;

	if (!n->file_ops->poll)
		return POLLIN | POLLOUT;
	return n->file_ops->poll(n->arg, &o->seen);
}

static struct waitq *file_ops_waitq(struct file *f)
{
	struct synth_node *n = synth_node(f->inode);

	return n->file_ops->waitq ? n->file_ops->waitq(n->arg) : NULL;
}

static const struct file_ops synth_fops = {
	.read = file_ops_read,
	.write = file_ops_write,
	.poll = file_ops_poll,
	.waitq = file_ops_waitq,
	.release = file_ops_release,
};

static int file_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)d;
	struct synth_node *n = synth_node(in);
	int err = synth_may_open(in, f);
	if (err)
		return err;
	if (n->file_ops->open)
		return n->file_ops->open(in, f, n->arg);
	struct synth_open *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	mutex_init(&o->lock);
	if (n->file_ops->poll)
		(void)n->file_ops->poll(n->arg, &o->seen);
	f->priv = o;
	f->ops = &synth_fops;
	return 0;
}

const struct inode_ops synth_file_iops = {
	.open = file_open,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.free = synth_free,
};

const struct inode_ops synth_file_guarded_iops = {
	.open = file_open,
	.getattr = synth_getattr,
	.setattr = synth_setattr,
	.permission = synth_permission,
	.free = synth_free,
};

struct inode *synth_file_new(struct super_block *sb, uint32_t mode,
			     const struct synth_file_ops *ops, void *arg)
{
	const struct inode_ops *iops =
		ops->common.permission ? &synth_file_guarded_iops : &synth_file_iops;
	struct synth_node *n = synth_node_new(sb, S_IFREG | mode, iops, ops, &ops->common, arg);
	return n ? &n->in : NULL;
}

static int text_show(struct text *out, void *arg)
{
	text_puts(out, arg);
	return 0;
}

static const struct synth_file_ops text_ops = {
	.common = {.free_arg = free},
	.show = text_show,
};

struct inode *synth_text_new(struct super_block *sb, uint32_t mode, const char *text)
{
	char *copy = strdup(text);
	return copy ? synth_file_new(sb, mode, &text_ops, copy) : NULL;
}

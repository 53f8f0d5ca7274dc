/*
 * Open directories.  Entries come from the directory's listing, as of when reading began.  In
 * shared mode, and of very large directories, they come in batches that the open file keeps.
 * Positions are those of the host's directory, so that the gofer's handle can be set to any of
 * them.  Position 0 starts anew, as rewinddir(3) wants.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/gofer/listing.h"
#include "sentry/vfs/file.h"

#define BATCH_SIZE 32768

struct dir_file {
	struct mutex lock;  /* lc_inode_data2 */
	uint64_t handle;    /* 0: none */
	uint8_t *buf;	    /* BATCH_SIZE, made by the first read; checked when received */
	size_t len, next;   /* bytes in buf, and where the entry for `pos` begins */
	int64_t start, pos; /* position before the first entry, and before the next one */
	bool filled, eof;
	struct gofer_listing *listing; /* reference; NULL: in batches */
	size_t at;		       /* in the listing: of the entry for `pos` */
};

static void close_handle(struct gofer_inode *gi, struct dir_file *df)
{
	if (df->handle)
		gofer_close_node(gi_conn(gi), df->handle, false);
	df->handle = 0;
}

/* Gets the batch that begins at `pos`; 0 begins anew. */
static int fetch(struct gofer_inode *gi, struct dir_file *df, int64_t pos)
{
	struct gofer_readdir_req rq = {.node = df->handle, .offset = pos};
	struct rpc r = {
		.op = GOFER_READDIR,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep_min = sizeof(struct gofer_readdir_rep),
		.rep_max = BATCH_SIZE,
	};
	struct gofer_readdir_rep head;

	if (!df->buf && !(df->buf = malloc(BATCH_SIZE)))
		return -ENOMEM;
	r.rep = df->buf;
	rq.max = BATCH_SIZE - sizeof(head);
	int err = 0;
	if (pos == 0) {
		close_handle(gi, df);
		err = gofer_node(gi, &rq.node);
		rq.flags = GOFER_READDIR_START;
	}
	df->filled = false;
	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	if (err)
		return err;
	memcpy(&head, df->buf, sizeof(head));
	if (head.flags & ~(uint32_t)GOFER_READDIR_EOF ||
	    (!head.count && !(head.flags & GOFER_READDIR_EOF)) ||
	    !gofer_records_ok(df->buf + sizeof(head), r.rep_len - sizeof(head), head.count))
		return gofer_conn_fail(gi_conn(gi), "a malformed directory");
	if (pos == 0)
		df->handle = head.handle;
	df->len = r.rep_len;
	df->next = sizeof(head);
	df->start = df->pos = pos;
	df->eof = head.flags & GOFER_READDIR_EOF;
	df->filled = true;
	return 0;
}

/* Finds a position that seekdir(3) asked for in the batch at hand, or fetches from there. */
static int seek(struct gofer_inode *gi, struct dir_file *df, int64_t pos)
{
	struct gofer_dirent e;

	if (df->filled) {
		df->pos = df->start;
		df->next = sizeof(struct gofer_readdir_rep);
		while (df->pos != pos && df->next < df->len) {
			memcpy(&e, df->buf + df->next, sizeof(e));
			df->next += gofer_record_size(&e);
			df->pos = e.off;
		}
		if (df->pos == pos)
			return 0;
	}
	if (!df->handle) {
		/* The whole directory was here: start over, and search once more. */
		int err = df->filled && df->start == 0 && df->eof ? -EINVAL : fetch(gi, df, 0);
		if (err == -EINVAL) {
			df->pos = pos;
			df->next = df->len;
			return 0;
		}
		return err ? err : seek(gi, df, pos);
	}
	return fetch(gi, df, pos);
}

static uint64_t entry_ino(struct file *f, uint64_t ino, const char *name, size_t len)
{
	struct gofer_inode *gi = gi_of(f->inode);
	bool dot = len == 1 && name[0] == '.';
	bool dotdot = len == 2 && name[0] == '.' && name[1] == '.';

	/* Above the root is nothing that the guest may know about. */
	if (dot || (dotdot && f->path.dentry == f->inode->sb->root))
		return f->inode->ino;
	return gofer_present_ino(gsb_of(f->inode->sb), gi->host_dev, ino);
}

static int emit_entries(struct file *f, struct dir_file *df, struct dir_context *ctx, int64_t *off)
{
	struct gofer_inode *gi = gi_of(f->inode);
	struct gofer_dirent e;

	for (;;) {
		if (df->next == df->len) {
			if (df->eof)
				return 0;
			int err = fetch(gi, df, df->pos);
			if (err)
				return err;
			continue;
		}
		memcpy(&e, df->buf + df->next, sizeof(e));
		size_t size = gofer_record_size(&e);
		const char *name = gofer_record_name(df->buf + df->next, &e);
		if (!ctx->emit(ctx, name, e.name_len, e.off, entry_ino(f, e.ino, name, e.name_len),
			       e.type))
			return 0;
		df->next += size;
		*off = df->pos = e.off;
	}
}

/* ---- from the listing ---- */

/* The listing to begin with, a reference; NULL: there is none. */
static int begin_listing(struct file *f, struct gofer_listing **out)
{
	struct gofer_inode *gi = gi_of(f->inode);

	*out = NULL;
	if (gi_shared(gi))
		return 0;
	*out = gofer_listing_get(gi);
	if (*out || atomic_load(&gi->large))
		return 0;
	return gofer_list(gi, f->path.dentry, out);
}

/* Names that have gone since are left out; the others keep their positions. */
static void emit_listing(struct file *f, struct dir_file *df, struct dir_context *ctx, int64_t *off)
{
	const struct gofer_listing *l = df->listing;

	if (df->pos != *off) {
		for (df->at = 0; df->at < l->len; df->at = listing_after(l, df->at))
			if (listing_at(l, df->at)->off == *off)
				break;
		if (df->at < l->len)
			df->at = listing_after(l, df->at);
		df->pos = *off;
	}
	while (df->at < l->len) {
		const struct listing_rec *r = listing_at(l, df->at);
		if (!(r->state & REC_GONE) &&
		    !ctx->emit(ctx, r->name, r->name_len, r->off,
			       entry_ino(f, r->ino, r->name, r->name_len), r->type))
			return;
		df->at = listing_after(l, df->at);
		*off = df->pos = r->off;
	}
}

static int emit_batches(struct file *f, struct dir_file *df, struct dir_context *ctx, int64_t *off)
{
	struct gofer_inode *gi = gi_of(f->inode);
	int err = 0;

	if (*off == 0)
		err = fetch(gi, df, 0);
	else if (!df->filled || df->pos != *off)
		err = seek(gi, df, *off);
	return err ? err : emit_entries(f, df, ctx, off);
}

static int gofer_dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct dir_file *df = f->priv;
	struct gofer_listing *fresh = NULL, *old = NULL;
	int err = 0;

	if (*off == 0 && (err = begin_listing(f, &fresh)))
		return err;
	mutex_lock(&df->lock, &lc_inode_data2);
	if (*off == 0) {
		old = df->listing;
		df->listing = fresh;
		df->at = 0;
		df->pos = 0;
	}
	if (df->listing)
		emit_listing(f, df, ctx, off);
	else
		err = emit_batches(f, df, ctx, off);
	mutex_unlock(&df->lock, &lc_inode_data2);
	listing_put(old);
	return err;
}

static int64_t gofer_dir_llseek(struct file *f, int64_t off, int whence)
{
	int64_t base = whence == SEEK_CUR ? f->pos : 0, pos;

	if (whence != SEEK_SET && whence != SEEK_CUR)
		return -EINVAL;
	if (__builtin_add_overflow(base, off, &pos) || pos < 0)
		return -EINVAL;
	return pos;
}

static int gofer_dir_fsync(struct file *f, bool datasync)
{
	struct gofer_inode *gi = gi_of(f->inode);
	struct gofer_fsync_req rq = {.datasync = datasync};
	struct rpc r = {.op = GOFER_FSYNC, .fixed = &rq, .fixed_len = sizeof(rq)};
	int err = gofer_node(gi, &rq.node);

	return err ? err : gofer_rpc(gi_conn(gi), &r);
}

static void gofer_dir_release(struct file *f)
{
	struct dir_file *df = f->priv;

	close_handle(gi_of(f->inode), df);
	listing_put(df->listing);
	free(df->buf);
	free(df);
}

static const struct file_ops gofer_dir_ops = {
	.llseek = gofer_dir_llseek,
	.readdir = gofer_dir_readdir,
	.fsync = gofer_dir_fsync,
	.release = gofer_dir_release,
};

int gofer_open_dir(struct inode *in, struct dentry *d, struct file *f)
{
	struct dir_file *df = calloc(1, sizeof(*df));

	(void)in;
	(void)d;
	if (!df)
		return -ENOMEM;
	mutex_init(&df->lock);
	f->priv = df;
	f->ops = &gofer_dir_ops;
	return 0;
}

/*
 * Reads and writes that guest processes make themselves, in the memfd (uio_by_guest).
 *
 * What one adds to the file is charged for before, and counted anew when others were in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/mm/uaccess.h"

static int twin(struct tmpfs_inode *ti, int accmode)
{
	int fd;

	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	int err = tmpfs_twin_locked(ti, accmode, &fd);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return err ? err : fd;
}

static int lend_fd(void *arg, bool write)
{
	return twin(arg, write ? O_RDWR : O_RDONLY);
}

/* For a guest that must not read. */
static int lend_fd_only(void *arg, bool write)
{
	(void)write;
	return twin(arg, O_WRONLY);
}

static void name_locked(struct tmpfs_inode *ti, bool only, struct uio_file *f)
{
	static _Atomic uint64_t keys;
	struct tmpfs_data *td = &ti->data;

	if (!td->lent)
		td->lent = ++keys;
	*f = (struct uio_file){
		/* What has another access is another file to guest processes. */
		.key = {UINT64_MAX - only, td->lent},
		/* A mapping that reads a hole would fill it. */
		.no_map = !td->dense,
		.fd = only ? lend_fd_only : lend_fd,
		.arg = ti,
	};
}

void tmpfs_forget(struct inode *in)
{
	uint64_t lent = tmpfs_inode(in)->data.lent;

	for (int only = 0; lent && only < 2; only++)
		uio_forget_file((uint64_t[2]){UINT64_MAX - (uint64_t)only, lent});
}

size_t tmpfs_lend_read(struct tmpfs_inode *ti, struct uio *io, int64_t *off)
{
	struct uio_file f;
	size_t n = 0;

	if (!io->lend)
		return 0;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	if (ti->data.memfd >= 0 && (uint64_t)*off < ti->in.size) {
		name_locked(ti, false, &f);
		n = MIN(io->left, ti->in.size - (uint64_t)*off);
	}
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return n ? uio_by_guest(io, &f, off, n, false) : 0;
}

/* ---- writing ---- */

/* Seals cannot come, so that what was lent is not in their way. */
static bool may_write(const struct tmpfs_inode *ti)
{
	return ti->data.seals == F_SEAL_SEAL;
}

/* A write that changes no size, through a mapping. */
static size_t write_in_place(struct tmpfs_inode *ti, struct uio *io, int64_t *off)
{
	struct uio_file f;
	size_t n = io->left;

	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	bool ok = may_write(ti) && ti->data.memfd >= 0 && ti->data.dense &&
		  (uint64_t)*off < ti->in.size && n <= ti->in.size - (uint64_t)*off;
	if (ok)
		name_locked(ti, false, &f);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	if (!ok)
		return 0;
	struct p_file p = {{f.key[0], f.key[1]}, -1, false};
	enum p_lend got = uio_lend(io, &p, off, n, true);
	if (got == P_LEND_FD && (p.fd = f.fd(ti, true)) >= 0)
		got = uio_lend(io, &p, off, n, true);
	if (got != P_LEND_DONE)
		return 0;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	ti->data.mapped = true; /* it may have become shorter meanwhile */
	tmpfs_data_changed_locked(ti, 0, false);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return n;
}

struct growth {
	uint64_t size;	/* before */
	uint64_t pages; /* charged for */
	bool dense;	/* it will still be */
};

static int write_begin_locked(struct tmpfs_inode *ti, uint64_t off, size_t n, struct growth *g)
{
	if (!may_write(ti) || off > INT64_MAX - n ||
	    (ti->data.memfd < 0 && off + n <= TMPFS_MEM_MAX))
		return -EAGAIN;
	int err = tmpfs_to_memfd_locked(ti);
	if (err)
		return err;
	g->size = ti->in.size;
	g->pages = tmpfs_missing_locked(ti, off / PAGE_SIZE, (off + n - 1) / PAGE_SIZE);
	g->dense = ti->data.dense && off / PAGE_SIZE <= tmpfs_pages_of(g->size);
	err = tmpfs_charge(tmpfs_super(ti->in.sb), g->pages);
	if (!err)
		ti->charged += g->pages;
	return err;
}

static void write_end_locked(struct tmpfs_inode *ti, size_t n, size_t done, const struct growth *g)
{
	struct stat st;
	bool alone = ti->in.size == g->size && ti->data.dense;

	if (!done && alone) {
		tmpfs_set_charge_locked(ti, ti->charged - g->pages);
		return;
	}
	if (!alone || !g->dense || done < n) {
		ti->data.dense = false;
		tmpfs_fd_recount_locked(ti);
	}
	if (!syscall(SYS_fstat, ti->data.memfd, &st))
		tmpfs_data_changed_locked(ti, (uint64_t)st.st_size, true);
}

size_t tmpfs_lend_write(struct tmpfs_inode *ti, bool only, struct uio *io, int64_t *off)
{
	struct uio_file f;
	struct growth g;

	if (!io->lend)
		return 0;
	size_t n = only ? 0 : write_in_place(ti, io, off);
	if (n || io->left < P_MOVE_MIN)
		return n;
	n = io->left;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	int err = write_begin_locked(ti, (uint64_t)*off, n, &g);
	if (!err)
		name_locked(ti, only, &f);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	if (err)
		return 0;
	size_t done = uio_by_guest(io, &f, off, n, true);
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	write_end_locked(ti, n, done, &g);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return done;
}

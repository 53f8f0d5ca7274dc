/*
 * Reads and writes that guest processes make themselves, by descriptors of their own
 * (uio_by_guest).
 *
 * They may come at any time from when they are asked for until the guest's next call, or even its
 * death, so what they change is learnt from the host afterwards, and never foretold.
 */
#include "sentry/fs/gofer/client.h"
#include "sentry/mm/uaccess.h"

static int lend_fd(void *arg, bool write)
{
	struct gofer_inode *gi = arg;
	int err;

	if (write) {
		err = gofer_need_fds(gi, GOFER_OPEN_WRITE);
		return err ? err : atomic_load(&gi->rw_fd);
	}
	err = gofer_need_fds(gi, GOFER_OPEN_READ);
	return err ? err : atomic_load(&gi->ro_fd);
}

/* For a guest that must not read. */
static int lend_fd_only(void *arg, bool write)
{
	struct gofer_inode *gi = arg;

	(void)write;
	int err = gofer_need_fds(gi, GOFER_OPEN_ONLY_WRITE);
	return err ? err : atomic_load(&gi->wo_fd);
}

/* Nobody changes it, and it stays when its name goes: it need not be let go of. */
static bool is_fixed(const struct gofer_inode *gi)
{
	return gi->in.sb->fixed_readonly && !gi_shared(gi);
}

static struct uio_file file_of(struct gofer_inode *gi, bool only)
{
	return (struct uio_file){
		/* What has another access is another file to guest processes. */
		.key = {gi->host_dev | (uint64_t)only << 63, gi->host_ino},
		.no_map = !is_fixed(gi),
		.fd = only ? lend_fd_only : lend_fd,
		.arg = gi,
	};
}

/* The host's word, where others may have changed it. */
static int size_now(struct gofer_inode *gi, uint64_t *size)
{
	struct stat st;

	if (gi_shared(gi) || atomic_load(&gi->stale) || atomic_load(&gi->written_by_map)) {
		int err = gofer_fstat(gofer_io_fd(gi), &st);
		*size = err ? 0 : (uint64_t)st.st_size;
		return err;
	}
	mutex_lock(&gi->in.lock, &lc_inode);
	*size = gi->in.size;
	mutex_unlock(&gi->in.lock, &lc_inode);
	return 0;
}

size_t gofer_lend_read(struct gofer_inode *gi, struct uio *io, int64_t *off)
{
	uint64_t size;

	if (!io->lend || size_now(gi, &size) || (uint64_t)*off >= size)
		return 0;
	struct uio_file file = file_of(gi, false);
	size_t n = MIN(io->left, size - (uint64_t)*off);
	if (!is_fixed(gi))
		atomic_store(&gi->lent, true);
	return uio_by_guest(io, &file, off, n, false);
}

size_t gofer_lend_write(struct gofer_inode *gi, bool only, struct uio *io, int64_t *off)
{
	struct stat st;

	if (!io->lend)
		return 0;
	struct uio_file file = file_of(gi, only);
	atomic_store(&gi->lent, true);
	size_t done = uio_by_guest(io, &file, off, io->left, true);
	if (!done)
		return 0;
	mutex_lock(&gi->in.data_lock, &lc_inode_data2);
	if (gofer_fstat(atomic_load(&gi->rw_fd), &st) == 0) {
		mutex_lock(&gi->in.lock, &lc_inode);
		gi->in.size = (uint64_t)st.st_size;
		mutex_unlock(&gi->in.lock, &lc_inode);
	}
	gofer_changed(gi);
	mutex_unlock(&gi->in.data_lock, &lc_inode_data2);
	return done;
}

void gofer_forget(struct inode *in)
{
	for (int only = 0; only < 2; only++)
		uio_forget_file(file_of(gi_of(in), only).key);
}

void gofer_lend_end(struct gofer_inode *gi)
{
	if (!atomic_load_explicit(&gi->lent, memory_order_relaxed) ||
	    !atomic_exchange(&gi->lent, false))
		return;
	gofer_forget(&gi->in);
}

/* Contents of regular files, wherever they are. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/lib/log.h"

/* When the sentry runs out of descriptors, files up to this size stay in memory. */
#define MEM_MAX_NO_FD (64UL << 20)

void tmpfs_data_init(struct tmpfs_inode *ti)
{
	ti->data.memfd = ti->data.ro_fd = ti->data.wo_fd = -1;
	ti->data.seals = F_SEAL_SEAL;
}

void tmpfs_data_fini(struct tmpfs_inode *ti)
{
	struct tmpfs_data *td = &ti->data;
	for (size_t i = 0; i < td->npages; i++)
		free(td->pages[i]);
	free(td->pages);
	tmpfs_uncharge(tmpfs_super(ti->in.sb), ti->charged);
	/* Processes keep their windows until they need them for other files. */
	if (td->lent && td->memfd >= 0 && ftruncate(td->memfd, 0))
		log_limited(LOG_WARN, "tmpfs: cannot free a file's memory");
	tmpfs_backing_close(td->memfd);
	tmpfs_backing_close(td->ro_fd);
	tmpfs_backing_close(td->wo_fd);
}

void tmpfs_data_changed_locked(struct tmpfs_inode *ti, uint64_t size, bool exact)
{
	struct inode *in = &ti->in;
	struct ktime now = ktime_now();
	mutex_lock(&in->lock, &lc_inode);
	if (exact || size > in->size)
		in->size = size;
	in->blocks = ti->charged * (PAGE_SIZE / 512);
	in->mtime = in->ctime = now;
	mutex_unlock(&in->lock, &lc_inode);
}

void tmpfs_data_recount(struct tmpfs_inode *ti)
{
	struct tmpfs_data *td = &ti->data;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	if (td->memfd >= 0 && td->mapped && !td->dense)
		tmpfs_fd_recount_locked(ti);
	uint64_t blocks = ti->charged * (PAGE_SIZE / 512);
	mutex_lock(&ti->in.lock, &lc_inode);
	ti->in.blocks = blocks;
	mutex_unlock(&ti->in.lock, &lc_inode);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
}

/* Moves to a memfd when the file will reach `end`, unless there are no descriptors left. */
static int place_for(struct tmpfs_inode *ti, uint64_t end)
{
	if (ti->data.memfd >= 0 || end <= TMPFS_MEM_MAX)
		return 0;
	int err = tmpfs_to_memfd_locked(ti);
	if ((err == -EMFILE || err == -ENFILE) && end <= MEM_MAX_NO_FD)
		return 0;
	return err;
}

ssize_t tmpfs_data_read(struct tmpfs_inode *ti, void *buf, size_t n, uint64_t off)
{
	char *dst = buf;
	size_t done = 0;
	mutex_lock(&ti->in.lock, &lc_inode);
	if (ti->data.memfd >= 0) {
		mutex_unlock(&ti->in.lock, &lc_inode);
		return -EREMOTE;
	}
	n = off < ti->in.size ? MIN(n, ti->in.size - off) : 0;
	while (done < n) {
		uint64_t page = (off + done) / PAGE_SIZE;
		size_t in_page = (off + done) % PAGE_SIZE, cap = 0;
		size_t part = MIN(n - done, PAGE_SIZE - in_page);
		const char *bytes = tmpfs_mem_bytes(&ti->data, page, &cap);
		size_t have = bytes && in_page < cap ? MIN(part, cap - in_page) : 0;
		if (have)
			memcpy(dst + done, bytes + in_page, have);
		memset(dst + done + have, 0, part - have);
		done += part;
	}
	mutex_unlock(&ti->in.lock, &lc_inode);
	return done;
}

static ssize_t write_locked(struct tmpfs_inode *ti, const void *buf, size_t n, uint64_t off)
{
	if (ti->data.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if ((ti->data.seals & F_SEAL_GROW) && off + n > ti->in.size)
		return -EPERM;
	int err = place_for(ti, off + n);
	if (err)
		return err;
	ssize_t done = ti->data.memfd >= 0 ? tmpfs_fd_write_locked(ti, buf, n, off)
					   : tmpfs_mem_write(ti, buf, n, off);
	if (done > 0)
		tmpfs_data_changed_locked(ti, off + done, false);
	return done;
}

ssize_t tmpfs_data_write(struct tmpfs_inode *ti, const void *buf, size_t n, bool append,
			 uint64_t *off)
{
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	if (append)
		*off = ti->in.size;
	ssize_t done = -EFBIG;
	if (*off <= INT64_MAX && n <= INT64_MAX - *off)
		done = write_locked(ti, buf, n, *off);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return done;
}

static int truncate_locked(struct tmpfs_inode *ti, uint64_t size)
{
	struct tmpfs_data *td = &ti->data;
	uint64_t old = ti->in.size;
	if (td->secret && old)
		return -EINVAL;
	if (size < old && (td->seals & F_SEAL_SHRINK))
		return -EPERM;
	if (size > old && (td->seals & F_SEAL_GROW))
		return -EPERM;
	int err = place_for(ti, size);
	if (err)
		return err;
	if (td->memfd >= 0) {
		if ((err = tmpfs_fd_truncate_locked(ti, size)))
			return err;
	} else if (size < old) {
		/* Readers go by the size: they must not meet the pages that go. */
		mutex_lock(&ti->in.lock, &lc_inode);
		ti->in.size = size;
		mutex_unlock(&ti->in.lock, &lc_inode);
		tmpfs_mem_zero(ti, size, page_up(size));
	}
	if (td->memfd < 0 && size <= old)
		tmpfs_mem_free_from(ti, tmpfs_pages_of(size));
	tmpfs_data_changed_locked(ti, size, true);
	return 0;
}

int tmpfs_data_truncate(struct tmpfs_inode *ti, uint64_t size)
{
	if (size > INT64_MAX)
		return -EFBIG;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	int err = truncate_locked(ti, size);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return err;
}

/* Frees the whole pages of [off, end) and clears the rest of it. */
static void mem_punch(struct tmpfs_inode *ti, uint64_t off, uint64_t end)
{
	end = MIN(end, ti->data.npages * PAGE_SIZE);
	if (off >= end)
		return;
	uint64_t first = tmpfs_pages_of(off), last = end / PAGE_SIZE;
	if (first > last || first == last) {
		tmpfs_mem_zero(ti, off, end);
		return;
	}
	tmpfs_mem_zero(ti, off, first * PAGE_SIZE);
	tmpfs_mem_zero(ti, last * PAGE_SIZE, end);
	for (uint64_t page = first; page < last; page++)
		tmpfs_mem_drop(ti, page);
}

/* Makes the pages of [off, end) present; all or none. */
static int mem_reserve(struct tmpfs_inode *ti, uint64_t off, uint64_t end)
{
	uint64_t first = off / PAGE_SIZE, last = (end - 1) / PAGE_SIZE, page;
	uint8_t *fresh = calloc(last - first + 1, 1);
	if (!fresh)
		return -ENOMEM;
	int err = 0;
	for (page = first; page <= last && !err; page++) {
		fresh[page - first] = page >= ti->data.npages || !ti->data.pages[page];
		err = tmpfs_mem_page(ti, page, PAGE_SIZE);
	}
	for (page = first; err && page <= last; page++)
		if (fresh[page - first])
			tmpfs_mem_drop(ti, page);
	free(fresh);
	return err;
}

static int fallocate_locked(struct tmpfs_inode *ti, int mode, uint64_t off, uint64_t len)
{
	struct tmpfs_data *td = &ti->data;
	uint64_t end = off + len;
	bool punch = mode & FALLOC_FL_PUNCH_HOLE;
	if (punch && (td->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)))
		return -EPERM;
	if (!punch && !(mode & FALLOC_FL_KEEP_SIZE) && end > ti->in.size &&
	    (td->seals & F_SEAL_GROW))
		return -EPERM;
	int err = punch ? 0 : place_for(ti, end);
	if (err)
		return err;
	if (td->memfd >= 0)
		err = tmpfs_fd_fallocate_locked(ti, mode, off, len);
	else if (punch)
		mem_punch(ti, off, end);
	else
		err = mem_reserve(ti, off, end);
	if (!err)
		tmpfs_data_changed_locked(ti, mode & FALLOC_FL_KEEP_SIZE ? 0 : end, false);
	return err;
}

int tmpfs_data_fallocate(struct tmpfs_inode *ti, int mode, uint64_t off, uint64_t len)
{
	if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE &&
	    mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EFBIG;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	int err = fallocate_locked(ti, mode, off, len);
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return err;
}

int64_t tmpfs_data_seek(struct tmpfs_inode *ti, int64_t off, int whence)
{
	struct tmpfs_data *td = &ti->data;
	int64_t found = -ENXIO;
	mutex_lock(&ti->in.lock, &lc_inode);
	int64_t size = ti->in.size;
	int memfd = td->memfd;
	if (memfd < 0 && off >= 0 && off < size) {
		uint64_t page = off / PAGE_SIZE, pages = tmpfs_pages_of(size);
		size_t cap;
		while (page < pages &&
		       (tmpfs_mem_bytes(td, page, &cap) != NULL) != (whence == SEEK_DATA))
			page++;
		if (page < pages)
			found = MAX(off, (int64_t)(page * PAGE_SIZE));
		else if (whence == SEEK_HOLE)
			found = size;
	}
	mutex_unlock(&ti->in.lock, &lc_inode);
	if (memfd < 0 || off < 0)
		return found;
	/* Nobody uses the memfd's own position for anything. */
	found = lseek(memfd, off, whence);
	return found < 0 ? -errno : found;
}

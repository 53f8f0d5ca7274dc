/*
 * Contents of large and mapped files: a memfd each.
 *
 * The instance is charged for the pages that the memfd has.  While a file is `dense` - no holes up
 * to its size - that follows from its size; otherwise the host is asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/node.h"
#include "sentry/host/reopen.h"
#include "sentry/mm/uaccess.h"

/* The seals that the host has to know: mappings of guests are its business. */
#define HOST_SEALS (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)

/*
 * Files without contents cost guests nothing, but a descriptor each here: this many, so that there
 * are always enough left for everything else.
 */
static _Atomic long backings, backings_max;

void tmpfs_backing_init(void)
{
	struct rlimit rl;
	backings_max = getrlimit(RLIMIT_NOFILE, &rl) ? 512 : (long)MIN(rl.rlim_cur / 2, 1UL << 20);
}

/* One more descriptor: -ENFILE when there are too many. */
static int backing_count(void)
{
	if (atomic_fetch_add(&backings, 1) < backings_max)
		return 0;
	backings--;
	return -ENFILE;
}

static int backing_create(void)
{
	int err = backing_count();
	if (err)
		return err;
	int fd = memfd_create("tmpfs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd >= 0)
		return fd;
	err = -errno;
	backings--;
	return err;
}

void tmpfs_backing_close(int fd)
{
	if (fd < 0)
		return;
	close(fd);
	backings--;
}

void tmpfs_set_charge_locked(struct tmpfs_inode *ti, uint64_t pages)
{
	struct tmpfs_super *ts = tmpfs_super(ti->in.sb);
	if (pages > ti->charged)
		ts->pages += pages - ti->charged; /* they exist: too late to refuse */
	else
		tmpfs_uncharge(ts, ti->charged - pages);
	ti->charged = pages;
}

void tmpfs_fd_recount_locked(struct tmpfs_inode *ti)
{
	struct stat st;
	if (!syscall(SYS_fstat, ti->data.memfd, &st))
		tmpfs_set_charge_locked(ti, st.st_blocks / (PAGE_SIZE / 512));
}

uint64_t tmpfs_missing_locked(struct tmpfs_inode *ti, uint64_t first, uint64_t last)
{
	int fd = ti->data.memfd;
	if (ti->data.dense) {
		uint64_t have = tmpfs_pages_of(ti->in.size);
		return last < have ? 0 : last - MAX(first, have) + 1;
	}
	uint64_t missing = 0, page = first;
	while (page <= last) {
		off_t data = lseek(fd, page * PAGE_SIZE, SEEK_DATA);
		if (data < 0 || (uint64_t)data / PAGE_SIZE > last)
			return missing + last - page + 1;
		missing += data / PAGE_SIZE - page;
		off_t hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			break;
		page = tmpfs_pages_of(hole);
	}
	return missing;
}

/* Writes the pages that are present into a fresh memfd. */
static int copy_pages(const struct tmpfs_inode *ti, int fd, bool *dense)
{
	uint64_t size = ti->in.size;
	*dense = true;
	for (uint64_t page = 0; page < tmpfs_pages_of(size); page++) {
		size_t cap;
		const char *bytes = tmpfs_mem_bytes(&ti->data, page, &cap);
		if (!bytes) {
			*dense = false;
			continue;
		}
		size_t n = MIN(cap, size - page * PAGE_SIZE);
		ssize_t done = pwrite(fd, bytes, n, page * PAGE_SIZE);
		if (done != (ssize_t)n)
			return done < 0 ? -errno : -ENOSPC;
	}
	return 0;
}

int tmpfs_to_memfd_locked(struct tmpfs_inode *ti)
{
	struct tmpfs_data *td = &ti->data;
	if (td->memfd >= 0)
		return 0;
	int fd = backing_create();
	if (fd < 0)
		return fd;
	bool dense = false;
	int err = ftruncate(fd, ti->in.size) ? -errno : copy_pages(ti, fd, &dense);
	if (!err && (td->seals & HOST_SEALS) && fcntl(fd, F_ADD_SEALS, td->seals & HOST_SEALS))
		err = -errno;
	if (err) {
		tmpfs_backing_close(fd);
		return err;
	}
	mutex_lock(&ti->in.lock, &lc_inode);
	td->memfd = fd;
	mutex_unlock(&ti->in.lock, &lc_inode);
	/* Readers that find no memfd copy under in.lock, so none looks at the pages any more. */
	for (size_t i = 0; i < td->npages; i++)
		free(td->pages[i]);
	free(td->pages);
	td->pages = NULL;
	td->npages = 0;
	td->dense = dense;
	tmpfs_fd_recount_locked(ti);
	return 0;
}

ssize_t tmpfs_fd_write_locked(struct tmpfs_inode *ti, const void *buf, size_t n, uint64_t off)
{
	struct tmpfs_data *td = &ti->data;
	uint64_t first = off / PAGE_SIZE, last = (off + n - 1) / PAGE_SIZE;
	uint64_t have = tmpfs_pages_of(ti->in.size);
	uint64_t missing = tmpfs_missing_locked(ti, first, last);
	int err = tmpfs_charge(tmpfs_super(ti->in.sb), missing);
	if (err)
		return err;
	ti->charged += missing;
	ssize_t done = pwrite(td->memfd, buf, n, off);
	if (done < 0)
		done = -errno;
	if (first > have)
		td->dense = false;
	if (!td->dense || done != (ssize_t)n)
		tmpfs_fd_recount_locked(ti);
	return done;
}

int tmpfs_fd_truncate_locked(struct tmpfs_inode *ti, uint64_t size)
{
	struct tmpfs_data *td = &ti->data;
	if (ftruncate(td->memfd, size))
		return -errno;
	if (tmpfs_pages_of(size) > tmpfs_pages_of(ti->in.size))
		td->dense = false;
	if (size == 0)
		td->dense = true;
	if (td->dense)
		tmpfs_set_charge_locked(ti, tmpfs_pages_of(size));
	else
		tmpfs_fd_recount_locked(ti);
	return 0;
}

int tmpfs_fd_fallocate_locked(struct tmpfs_inode *ti, int mode, uint64_t off, uint64_t len)
{
	struct tmpfs_data *td = &ti->data;
	uint64_t missing = 0;
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		missing = tmpfs_missing_locked(ti, off / PAGE_SIZE, (off + len - 1) / PAGE_SIZE);
	int err = tmpfs_charge(tmpfs_super(ti->in.sb), missing);
	if (err)
		return err;
	ti->charged += missing;
	if (fallocate(td->memfd, mode, off, len))
		err = -errno;
	bool stays_dense = td->dense && !err && !mode && off <= ti->in.size;
	td->dense = stays_dense;
	if (!stays_dense)
		tmpfs_fd_recount_locked(ti);
	return err;
}

int tmpfs_twin_locked(struct tmpfs_inode *ti, int accmode, int *fd)
{
	struct tmpfs_data *td = &ti->data;
	int *twin = accmode == O_RDONLY ? &td->ro_fd : &td->wo_fd;
	if (accmode == O_RDWR || (accmode == O_RDONLY && td->seals & F_SEAL_WRITE)) {
		*fd = td->memfd;
		return 0;
	}
	if (*twin < 0) {
		int err = backing_count();
		if (err)
			return err;
		int fresh = host_reopen_as(td->memfd, accmode);
		if (fresh < 0) {
			backings--;
			return fresh;
		}
		*twin = fresh;
	}
	*fd = *twin;
	return 0;
}

int tmpfs_map_fd(struct tmpfs_inode *ti, bool writable_open, bool shared, int *fd)
{
	struct tmpfs_data *td = &ti->data;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	int err = tmpfs_to_memfd_locked(ti);
	if (!err) {
		td->mapped = true;
		if (shared && writable_open)
			*fd = td->memfd;
		else
			err = tmpfs_twin_locked(ti, O_RDONLY, fd);
	}
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return err;
}

int tmpfs_add_seals(struct tmpfs_inode *ti, unsigned seals)
{
	struct tmpfs_data *td = &ti->data;
	if (seals & ~(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE |
		      F_SEAL_FUTURE_WRITE | LINUX_F_SEAL_EXEC))
		return -EINVAL;
	int err = 0;
	mutex_lock(&ti->in.data_lock, &lc_inode_data);
	if ((seals & LINUX_F_SEAL_EXEC) && (ti->in.mode & 0111))
		seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
	if (td->seals & F_SEAL_SEAL)
		err = -EPERM;
	/* The host knows whether a guest has a writable mapping: EBUSY then. */
	else if (td->memfd >= 0 && (seals & HOST_SEALS & ~td->seals) &&
		 fcntl(td->memfd, F_ADD_SEALS, seals & HOST_SEALS))
		err = -errno;
	if (!err)
		td->seals |= seals;
	mutex_unlock(&ti->in.data_lock, &lc_inode_data);
	return err;
}

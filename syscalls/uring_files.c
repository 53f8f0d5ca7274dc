/* io_uring: registered files, and files that come to be as such (direct descriptors). */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "sentry/kernel/fdtable.h"
#include "syscalls/file_io.h"
#include "syscalls/uring.h"

/* The file that a number in guest memory means: -1 none.  Rings are no registered files: one that
 * held itself would never go. */
static int file_at(struct task *t, uaddr_t at, struct file **out)
{
	int32_t fd;

	*out = NULL;
	if (copy_in_val(&t->um, &fd, at))
		return -EFAULT;
	if (fd == IORING_REGISTER_FILES_SKIP)
		return 1;
	if (fd == -1)
		return 0;
	struct file *f = fdtable_file(t->fds, fd);
	if (!f || uring_of(f)) {
		file_put(f);
		return -EBADF;
	}
	*out = f;
	return 0;
}

int uring_register_files(struct task *t, struct uring *u, uaddr_t arg, unsigned n, bool sparse)
{
	if (u->files)
		return -EBUSY;
	if (!n)
		return -EINVAL;
	if (n > URING_MAX_FILES || n > task_rlimit(t, RLIMIT_NOFILE))
		return -EMFILE;
	struct file **files = calloc(n, sizeof(struct file *));
	if (!files)
		return -ENOMEM;
	int err = 0;
	for (unsigned i = 0; i < n && !err && !sparse; i++) {
		err = file_at(t, uaddr_add(arg, i * sizeof(int32_t)), &files[i]);
		if (err > 0)
			err = -EBADF;
	}
	if (err) {
		for (unsigned i = 0; i < n; i++)
			file_put(files[i]);
		free(files);
		return err;
	}
	mutex_lock(&u->lock, &lc_pipe);
	u->files = files;
	u->nfiles = n;
	mutex_unlock(&u->lock, &lc_pipe);
	return 0;
}

long uring_update_files(struct task *t, struct uring *u, unsigned first, uaddr_t fds, unsigned n)
{
	unsigned done = 0;
	int err = 0;

	if (!u->files)
		return -ENXIO;
	if (!n || n > URING_MAX_FILES || first > URING_MAX_FILES)
		return -EINVAL;
	while (done < n && !err) {
		struct file *f, *old = NULL;
		err = file_at(t, uaddr_add(fds, done * sizeof(int32_t)), &f);
		if (err < 0)
			break;
		bool skip = err > 0;
		err = 0;
		mutex_lock(&u->lock, &lc_pipe);
		if (first + done >= u->nfiles) {
			err = -EINVAL;
			old = f;
		} else if (!skip) {
			old = u->files[first + done];
			u->files[first + done] = f;
		}
		mutex_unlock(&u->lock, &lc_pipe);
		file_put(old);
		done += !err;
	}
	return done ? (long)done : err;
}

/* ---- direct descriptors ---- */

/* Where a file that an entry asks to be registered goes: -ENXIO, -EINVAL, -ENFILE. */
static int64_t slot_for(const struct uring *u, uint32_t index) REQUIRES(lc_pipe)
{
	if (!u->files)
		return -ENXIO;
	if (index != IORING_FILE_INDEX_ALLOC)
		return index - 1 < u->nfiles ? (int64_t)index - 1 : -EINVAL;
	/* From after the last one on, as Linux has it. */
	for (unsigned i = 0; i < u->nfiles; i++)
		if (!u->files[(u->file_hint + i) % u->nfiles])
			return (u->file_hint + i) % u->nfiles;
	return -ENFILE;
}

int64_t uring_file_install(struct task *h, struct uring *u, const struct io_uring_sqe *s,
			   int64_t fd)
{
	if (fd < 0)
		return fd;
	struct file *f = fdtable_take(h->fds, (int)fd);
	if (!f)
		return -EBADF; /* a sibling has closed it */
	mutex_lock(&u->lock, &lc_pipe);
	int64_t slot = slot_for(u, s->file_index);
	if (slot >= 0) {
		struct file *old = u->files[slot];
		u->files[slot] = f;
		u->file_hint = (unsigned)slot + 1;
		f = old;
	}
	mutex_unlock(&u->lock, &lc_pipe);
	file_put(f);
	return slot < 0 || s->file_index == IORING_FILE_INDEX_ALLOC ? slot : 0;
}

int64_t uring_file_remove(struct uring *u, uint32_t slot)
{
	struct file *f = NULL;
	int err = 0;

	mutex_lock(&u->lock, &lc_pipe);
	if (!u->files)
		err = -ENXIO;
	else if (slot >= u->nfiles)
		err = -EINVAL;
	else if (!(f = u->files[slot]))
		err = -EBADF;
	else
		u->files[u->file_hint = slot] = NULL;
	mutex_unlock(&u->lock, &lc_pipe);
	file_put(f);
	return err;
}

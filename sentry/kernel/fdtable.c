/*
 * Descriptor tables.  A slot is free, reserved (between fdtable_reserve and commit; nobody else
 * sees it) or holds a reference to a file.  A bitmap of slots in use finds the lowest free number.
 */
#include "sentry/kernel/fdtable.h"
#include "sentry/vfs/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define NR_OPEN_MAX 1048576u /* /proc/sys/fs/nr_open */
#define FIRST_SIZE 64u
#define WORD_BITS 64u

struct slot {
	struct file *file; /* reference, or NULL: reserved when its bit in `used` is set */
	bool cloexec;
};

struct fdtable {
	ref_t ref;
	struct mutex lock; /* lc_fdtable: the fields below */
	unsigned size;	   /* multiple of WORD_BITS */
	unsigned lowest;   /* no free number is below this */
	struct slot *slots;
	uint64_t *used;
};

static bool bit_get(const struct fdtable *t, unsigned fd)
{
	return t->used[fd / WORD_BITS] >> (fd % WORD_BITS) & 1;
}

static void bit_set(struct fdtable *t, unsigned fd, bool on)
{
	uint64_t bit = 1ULL << (fd % WORD_BITS);

	if (on)
		t->used[fd / WORD_BITS] |= bit;
	else
		t->used[fd / WORD_BITS] &= ~bit;
	if (!on && fd < t->lowest)
		t->lowest = fd;
}

static int grow(struct fdtable *t, unsigned fd) REQUIRES(lc_fdtable)
{
	unsigned size = t->size ? t->size : FIRST_SIZE;

	while (size <= fd)
		size *= 2;
	if (size == t->size)
		return 0;
	struct slot *slots = realloc(t->slots, size * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	t->slots = slots;
	uint64_t *used = realloc(t->used, size / WORD_BITS * sizeof(*used));
	if (!used)
		return -ENOMEM;
	t->used = used;
	memset(slots + t->size, 0, (size - t->size) * sizeof(*slots));
	memset(used + t->size / WORD_BITS, 0, (size - t->size) / WORD_BITS * sizeof(*used));
	t->size = size;
	return 0;
}

/* Nobody else knows the table yet: its lock is not needed. */
struct fdtable *fdtable_new(void) NO_LOCK_ANALYSIS
{
	struct fdtable *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	ref_init(&t->ref, 1);
	mutex_init(&t->lock);
	if (grow(t, 0)) {
		free(t->slots);
		free(t);
		return NULL;
	}
	return t;
}

struct fdtable *fdtable_get(struct fdtable *t)
{
	ref_get(&t->ref);
	return t;
}

/* The end of a descriptor: what close(2) does besides freeing the number. */
static int close_file(struct fdtable *t, struct file *f)
{
	int err = 0;

	if (!(f->flags & O_PATH)) {
		if (f->ops->flush)
			err = f->ops->flush(f);
		notify_closed(f, t);
		flock_release_owner(f, t);
	}
	file_put(f);
	return err;
}

bool fdtable_is_alone(struct fdtable *t, int fd, const struct file *f)
{
	if (fdtable_is_shared(t))
		return false;
	mutex_lock(&t->lock, &lc_fdtable);
	bool alone = (size_t)fd < t->size && t->slots[fd].file == f && ref_read(&f->ref) == 1;
	mutex_unlock(&t->lock, &lc_fdtable);
	return alone;
}

bool fdtable_is_shared(struct fdtable *t)
{
	return ref_read(&t->ref) > 1;
}

void fdtable_put(struct fdtable *t)
{
	if (!t || !ref_put(&t->ref))
		return;
	for (unsigned fd = 0; fd < t->size; fd++)
		if (t->slots[fd].file)
			close_file(t, t->slots[fd].file);
	free(t->slots);
	free(t->used);
	free(t);
}

struct fdtable *fdtable_dup(struct fdtable *src, int *err)
{
	struct fdtable *t = fdtable_new();

	*err = -ENOMEM;
	if (!t)
		return NULL;
	mutex_lock(&src->lock, &lc_fdtable);
	unsigned top = src->size;
	while (top && !src->used[top / WORD_BITS - 1])
		top -= WORD_BITS;
	/* The new table is nobody else's yet: its lock is not needed. */
	bool ok = !top || !grow(t, top - 1);
	for (unsigned fd = 0; ok && fd < top; fd++) {
		if (!src->slots[fd].file)
			continue;
		t->slots[fd] = src->slots[fd];
		file_get(t->slots[fd].file);
		bit_set(t, fd, true);
	}
	mutex_unlock(&src->lock, &lc_fdtable);
	if (!ok) {
		fdtable_put(t);
		return NULL;
	}
	*err = 0;
	return t;
}

struct file *fdtable_file_any(struct fdtable *t, int fd)
{
	struct file *f = NULL;

	mutex_lock(&t->lock, &lc_fdtable);
	if (fd >= 0 && (unsigned)fd < t->size && t->slots[fd].file)
		f = file_get(t->slots[fd].file);
	mutex_unlock(&t->lock, &lc_fdtable);
	return f;
}

struct file *fdtable_file(struct fdtable *t, int fd)
{
	struct file *f = NULL;

	mutex_lock(&t->lock, &lc_fdtable);
	if (fd >= 0 && (unsigned)fd < t->size && t->slots[fd].file &&
	    !(t->slots[fd].file->flags & O_PATH))
		f = file_get(t->slots[fd].file);
	mutex_unlock(&t->lock, &lc_fdtable);
	return f;
}

/* ---- numbers ---- */

/* The lowest free number ≥ from; may be t->size or more. */
static unsigned find_free(const struct fdtable *t, unsigned from)
{
	unsigned fd = from > t->lowest ? from : t->lowest;

	while (fd < t->size) {
		uint64_t free_bits = ~t->used[fd / WORD_BITS] >> (fd % WORD_BITS);
		if (free_bits)
			return fd + (unsigned)__builtin_ctzll(free_bits);
		fd = (fd / WORD_BITS + 1) * WORD_BITS;
	}
	return fd;
}

static void release_locked(struct fdtable *t, unsigned fd) REQUIRES(lc_fdtable)
{
	t->slots[fd].file = NULL;
	bit_set(t, fd, false);
}

static int reserve_locked(struct fdtable *t, unsigned from, uint64_t limit) REQUIRES(lc_fdtable)
{
	unsigned fd = find_free(t, from);

	if (fd >= limit || fd >= NR_OPEN_MAX)
		return -EMFILE;
	int err = grow(t, fd);
	if (err)
		return err;
	bit_set(t, fd, true);
	if (from <= t->lowest)
		t->lowest = fd + 1;
	t->slots[fd] = (struct slot){NULL, false};
	return (int)fd;
}

int fdtable_reserve(struct fdtable *t, int from, uint64_t limit, int n, int32_t *fds)
{
	int done = 0, err = 0;

	mutex_lock(&t->lock, &lc_fdtable);
	while (done < n && err >= 0) {
		err = reserve_locked(t, (unsigned)from, limit);
		if (err >= 0)
			fds[done++] = err;
	}
	while (err < 0 && done > 0)
		release_locked(t, (unsigned)fds[--done]);
	mutex_unlock(&t->lock, &lc_fdtable);
	return err < 0 ? err : 0;
}

void fdtable_unreserve(struct fdtable *t, int n, const int32_t *fds)
{
	mutex_lock(&t->lock, &lc_fdtable);
	for (int i = 0; i < n; i++)
		release_locked(t, (unsigned)fds[i]);
	mutex_unlock(&t->lock, &lc_fdtable);
}

void fdtable_commit(struct fdtable *t, int fd, struct file *f, bool cloexec)
{
	mutex_lock(&t->lock, &lc_fdtable);
	t->slots[fd] = (struct slot){f, cloexec};
	mutex_unlock(&t->lock, &lc_fdtable);
}

int fdtable_install(struct fdtable *t, uint64_t limit, struct file *f, bool cloexec)
{
	mutex_lock(&t->lock, &lc_fdtable);
	int fd = reserve_locked(t, 0, limit);
	if (fd >= 0)
		t->slots[fd] = (struct slot){f, cloexec};
	mutex_unlock(&t->lock, &lc_fdtable);
	if (fd < 0)
		file_put(f);
	return fd;
}

int fdtable_replace(struct fdtable *t, int newfd, uint64_t limit, struct file *f, bool cloexec)
{
	struct file *old = NULL;
	unsigned fd = (unsigned)newfd;
	int err = 0;

	if (newfd < 0 || fd >= limit || fd >= NR_OPEN_MAX) {
		file_put(f);
		return -EBADF;
	}
	mutex_lock(&t->lock, &lc_fdtable);
	err = grow(t, fd);
	if (!err && bit_get(t, fd) && !t->slots[fd].file)
		err = -EBUSY; /* a sibling is just opening this number */
	if (!err) {
		old = t->slots[fd].file;
		bit_set(t, fd, true);
		t->slots[fd] = (struct slot){f, cloexec};
	}
	mutex_unlock(&t->lock, &lc_fdtable);
	if (err)
		file_put(f);
	else if (old)
		close_file(t, old);
	return err ? err : newfd;
}

/* ---- closing ---- */

struct file *fdtable_take(struct fdtable *t, int fd)
{
	struct file *f = NULL;

	mutex_lock(&t->lock, &lc_fdtable);
	if (fd >= 0 && (unsigned)fd < t->size && t->slots[fd].file) {
		f = t->slots[fd].file;
		release_locked(t, (unsigned)fd);
	}
	mutex_unlock(&t->lock, &lc_fdtable);
	return f;
}

int fdtable_close(struct fdtable *t, int fd)
{
	struct file *f = fdtable_take(t, fd);

	return f ? close_file(t, f) : -EBADF;
}

/* Takes the first file in [*fd, last] (that is close-on-exec, if asked) out of the table. */
static struct file *take_next(struct fdtable *t, unsigned *fd, unsigned last, bool cloexec_only)
{
	struct file *f = NULL;

	mutex_lock(&t->lock, &lc_fdtable);
	for (; !f && *fd < t->size && *fd <= last; (*fd)++) {
		if (!t->slots[*fd].file || (cloexec_only && !t->slots[*fd].cloexec))
			continue;
		f = t->slots[*fd].file;
		release_locked(t, *fd);
	}
	mutex_unlock(&t->lock, &lc_fdtable);
	return f;
}

int fdtable_close_range(struct fdtable *t, unsigned first, unsigned last, bool cloexec_only)
{
	struct file *f;

	if (first > last)
		return -EINVAL;
	if (!cloexec_only) {
		while ((f = take_next(t, &first, last, false)))
			close_file(t, f);
		return 0;
	}
	mutex_lock(&t->lock, &lc_fdtable);
	for (unsigned fd = first; fd < t->size && fd <= last; fd++)
		if (t->slots[fd].file)
			t->slots[fd].cloexec = true;
	mutex_unlock(&t->lock, &lc_fdtable);
	return 0;
}

void fdtable_exec(struct fdtable *t)
{
	unsigned fd = 0;
	struct file *f;

	while ((f = take_next(t, &fd, UINT32_MAX, true)))
		close_file(t, f);
}

int fdtable_get_cloexec(struct fdtable *t, int fd)
{
	int ret = -EBADF;

	mutex_lock(&t->lock, &lc_fdtable);
	if (fd >= 0 && (unsigned)fd < t->size && t->slots[fd].file)
		ret = t->slots[fd].cloexec;
	mutex_unlock(&t->lock, &lc_fdtable);
	return ret;
}

int fdtable_set_cloexec(struct fdtable *t, int fd, bool on)
{
	int ret = -EBADF;

	mutex_lock(&t->lock, &lc_fdtable);
	if (fd >= 0 && (unsigned)fd < t->size && t->slots[fd].file) {
		t->slots[fd].cloexec = on;
		ret = 0;
	}
	mutex_unlock(&t->lock, &lc_fdtable);
	return ret;
}

int fdtable_next(struct fdtable *t, int from)
{
	int found = -1;

	mutex_lock(&t->lock, &lc_fdtable);
	for (unsigned fd = from < 0 ? 0 : (unsigned)from; fd < t->size && found < 0; fd++)
		if (t->slots[fd].file)
			found = (int)fd;
	mutex_unlock(&t->lock, &lc_fdtable);
	return found;
}

unsigned fdtable_size(struct fdtable *t)
{
	mutex_lock(&t->lock, &lc_fdtable);
	unsigned size = t->size;
	mutex_unlock(&t->lock, &lc_fdtable);
	return size;
}

/* Scattered buffers: struct uio of uaccess.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"
#include "sentry/lib/compiler.h"
#include "sentry/lib/lock.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

/* Linux's MAX_RW_COUNT: what one call moves at most. */
#define MAX_RW_COUNT (0x7fffffffUL & PAGE_MASK)

void uio_init_user(struct uio *io, struct uio_seg *one, const struct umem *um, uaddr_t base,
		   uint64_t len)
{
	*one = (struct uio_seg){.base = base.v, .len = MIN(len, (uint64_t)MAX_RW_COUNT)};
	*io = (struct uio){.um = um, .segs = one, .nsegs = 1, .left = one->len};
}

void uio_init_kernel(struct uio *io, struct uio_seg *one, void *base, uint64_t len)
{
	*one = (struct uio_seg){.base = (uintptr_t)base, .len = len};
	*io = (struct uio){.segs = one, .nsegs = 1, .left = len};
}

int uio_import(struct uio *io, struct uio_seg *segs, const struct umem *um, uaddr_t iov, uint64_t n)
{
	uint64_t total = 0;

	/* A struct uio_seg is laid out as a 64-bit struct iovec, so the array is read in place. */
	_Static_assert(sizeof(struct uio_seg) == 16, "struct iovec");
	if (n > UIO_MAXIOV)
		return -EINVAL;
	if (n && copy_in(um, segs, iov, n * sizeof(*segs)))
		return -EFAULT;
	for (uint64_t i = 0; i < n; i++) {
		if ((int64_t)segs[i].len < 0)
			return -EINVAL;
		if (segs[i].len > um->mm->task_size ||
		    segs[i].base > um->mm->task_size - segs[i].len)
			return -EFAULT;
		segs[i].len = MIN(segs[i].len, MAX_RW_COUNT - total);
		total += segs[i].len;
	}
	*io = (struct uio){.um = um, .segs = segs, .nsegs = n, .left = total};
	return 0;
}

/* Skips empty segments; false at the end. */
static bool uio_at_data(struct uio *io)
{
	while (io->seg < io->nsegs && io->off == io->segs[io->seg].len) {
		io->seg++;
		io->off = 0;
	}
	return io->seg < io->nsegs;
}

/* Moves up to n bytes between buf and the buffer: into it when `put`. */
static ssize_t uio_move(struct uio *io, void *buf, size_t n, bool put)
{
	size_t done = 0;

	n = MIN(n, io->left);
	while (done < n && uio_at_data(io)) {
		const struct uio_seg *s = &io->segs[io->seg];
		size_t part = MIN(n - done, s->len - io->off), moved = part;
		uint64_t at = s->base + io->off;
		char *p = (char *)buf + done;

		if (!io->um && put)
			memcpy((void *)(uintptr_t)at, p, part);
		else if (!io->um)
			memcpy(p, (const void *)(uintptr_t)at, part);
		else if (put && io->last)
			moved = copy_out_last_partial(io->um, UADDR(at), p, part);
		else if (put)
			moved = copy_out_partial(io->um, UADDR(at), p, part);
		else
			moved = copy_in_partial(io->um, p, UADDR(at), part);
		io->off += moved;
		io->left -= moved;
		done += moved;
		if (moved < part)
			return done ? (ssize_t)done : -EFAULT;
	}
	return (ssize_t)done;
}

ssize_t uio_put(struct uio *io, const void *src, size_t n)
{
	return uio_move(io, (void *)(uintptr_t)src, n, true);
}

ssize_t uio_get(struct uio *io, void *dst, size_t n)
{
	return uio_move(io, dst, n, false);
}

ssize_t uio_zero(struct uio *io, size_t n)
{
	/* Never written: all of it is the host's zero page. */
	static char zeros[16 * PAGE_SIZE];
	size_t done = 0;

	while (done < n && io->left) {
		size_t part = MIN(n - done, sizeof(zeros));
		part = MIN(part, io->left);
		ssize_t moved = uio_put(io, zeros, part);
		if (moved < 0)
			return done ? (ssize_t)done : moved;
		done += (size_t)moved;
		if ((size_t)moved < part)
			break;
	}
	return (ssize_t)done;
}

void uio_revert(struct uio *io, size_t n)
{
	io->left += n;
	while (n) {
		size_t part = MIN(n, io->off);
		io->off -= part;
		n -= part;
		if (n)
			io->off = io->segs[--io->seg].len;
	}
}

/* A file's page may be missing although it is mapped: it lies beyond the file's end. */
static bool probe_file_pages(const struct umem *um, uint64_t addr, uint64_t end)
{
	while (addr < end) {
		struct vma v;
		if (!mm_lookup(um->mm, addr, &v))
			return false;
		uint64_t stop = MIN(v.end, end);
		bool of_file = v.file;
		file_put(v.file);
		for (; of_file && addr < stop; addr = page_down(addr) + PAGE_SIZE) {
			char byte;
			if (copy_in(um, &byte, UADDR(addr), 1))
				return false;
		}
		addr = stop;
	}
	return true;
}

static bool probe_range(const struct umem *um, uint64_t addr, uint64_t len)
{
	int si_code;

	if (len > um->mm->task_size || addr > um->mm->task_size - len)
		return false;
	/* Below a stack that would grow: it does, as the copy itself would make it. */
	while (!mm_may_access(um->mm, addr, len, true)) {
		struct vma v;
		bool mapped = mm_lookup(um->mm, addr, &v);
		if (mapped)
			file_put(v.file);
		if (mapped || !um->th || !mm_fault(um->mm, um->th, addr, MM_ACCESS_WRITE, &si_code))
			return false;
	}
	return probe_file_pages(um, addr, addr + len);
}

/*
 * The VMA tree decides what is writable, so it is asked, without touching the guest: nothing is
 * changed, and the common case costs no host call.  Only pages of files are also read, one byte
 * each, since they can be mapped and missing.  A sibling that unmaps between probe and copy
 * makes the copy fail; it asked for that.
 */
int uio_probe_put(struct uio *io, size_t n)
{
	struct uio at = *io;

	lock_assert_none_held();
	n = MIN(n, at.left);
	while (n && uio_at_data(&at)) {
		const struct uio_seg *s = &at.segs[at.seg];
		size_t part = MIN(n, s->len - at.off);
		if (at.um && !probe_range(at.um, s->base + at.off, part))
			return -EFAULT;
		at.off += part;
		n -= part;
	}
	return 0;
}

/* The platform, if the guest's process may be asked to move n bytes. */
static const struct platform_ops *may_ask(const struct uio *io, size_t n)
{
	if (!io->lend || !n || io->seg || n > io->segs[0].len - io->off || !io->um->th)
		return NULL;
	return io->um->mm->pf->ops;
}

static void advance(struct uio *io, int64_t *off, size_t n)
{
	io->off += n;
	io->left -= n;
	*off += (int64_t)n;
}

enum p_lend uio_lend(struct uio *io, const struct p_file *f, int64_t *off, size_t n, bool write)
{
	const struct platform_ops *ops = may_ask(io, n);

	if (!ops || !ops->copy_file_late)
		return P_LEND_NO;
	enum p_lend got = ops->copy_file_late(io->um->th, f, (uint64_t)*off,
					      io->segs[0].base + io->off, n, write);
	if (got != P_LEND_DONE)
		return got;
	io->lent = true;
	advance(io, off, n);
	return got;
}

/* The one platform, once it has been asked for a file: whom uio_forget_file() is to tell. */
static struct platform *_Atomic asked;

void uio_forget_file(const uint64_t key[2])
{
	struct platform *pf = atomic_load(&asked);

	if (pf && pf->ops->forget_file)
		pf->ops->forget_file(pf, key);
}

static bool ask_fd(const struct uio *io, const struct uio_file *file, struct p_file *f, bool write)
{
	atomic_store(&asked, io->um->mm->pf);
	if (f->fd < 0)
		f->fd = file->fd(file->arg, write);
	return f->fd >= 0;
}

/* One piece of a move; 0: not by the guest. */
static size_t move_once(struct uio *io, const struct uio_file *file, struct p_file *f, int64_t *off,
			size_t n, bool write)
{
	const struct platform_ops *ops = may_ask(io, n);

	if (!ops || !ops->move_file)
		return 0;
	for (;;) {
		ssize_t r = ops->move_file(io->um->th, f, (uint64_t)*off,
					   io->segs[0].base + io->off, n, write);
		if (r == -EBADF && f->fd < 0 && ask_fd(io, file, f, write))
			continue;
		if (r <= 0)
			return 0;
		advance(io, off, (size_t)r);
		return (size_t)r;
	}
}

size_t uio_by_guest(struct uio *io, const struct uio_file *file, int64_t *off, size_t n, bool write)
{
	struct p_file f = {{file->key[0], file->key[1]}, -1, file->no_map};
	size_t done = 0;

	lock_assert_none_held();
	n = MIN(n, io->left);
	while (done < n) {
		size_t part = MIN(n - done, P_MOVE_MAX);
		enum p_lend got = P_LEND_NO;
		if (!write && part == n - done)
			got = uio_lend(io, &f, off, part, false);
		if (got == P_LEND_FD && ask_fd(io, file, &f, false))
			got = uio_lend(io, &f, off, part, false);
		if (got == P_LEND_DONE)
			return n;
		size_t moved = move_once(io, file, &f, off, part, write);
		done += moved;
		if (moved < part)
			break;
	}
	return done;
}

/* ---- host descriptors ---- */

#define BOUNCE_SMALL 4096
#define BOUNCE_LARGE 65536

static ssize_t host_read(int fd, void *buf, size_t n, const int64_t *off)
{
	ssize_t r = off ? pread(fd, buf, n, *off) : read(fd, buf, n);

	return r < 0 ? -errno : r;
}

static ssize_t host_write(int fd, const void *buf, size_t n, const int64_t *off)
{
	ssize_t r = off ? pwrite(fd, buf, n, *off) : write(fd, buf, n);

	return r < 0 ? -errno : r;
}

/* One piece of at most `size` bytes through buf; bytes or -errno, *want what it tried. */
static ssize_t read_piece(struct uio *io, int fd, int64_t *off, char *buf, size_t size,
			  size_t *want)
{
	*want = MIN(size, io->left);
	ssize_t n = host_read(fd, buf, *want, off);
	if (n > 0)
		n = uio_put(io, buf, (size_t)n);
	if (n > 0 && off)
		*off += n;
	return n;
}

static ssize_t write_piece(struct uio *io, int fd, int64_t *off, char *buf, size_t size,
			   size_t *want)
{
	*want = MIN(size, io->left);
	ssize_t got = uio_get(io, buf, *want);
	if (got <= 0)
		return got;
	ssize_t n = host_write(fd, buf, (size_t)got, off);
	uio_revert(io, (size_t)(got - MAX(n, 0)));
	if (n > 0 && off)
		*off += n;
	return n;
}

static ssize_t move_pieces(struct uio *io, int fd, int64_t *off, bool write)
{
	char small[BOUNCE_SMALL];
	CLEANUP_FREE char *large = NULL;
	char *buf = small;
	size_t size = sizeof(small);
	ssize_t done = 0;

	if (io->left > sizeof(small)) {
		if (!(large = malloc(BOUNCE_LARGE)))
			return -ENOMEM;
		buf = large;
		size = BOUNCE_LARGE;
	}
	while (io->left) {
		size_t want;
		ssize_t n = write ? write_piece(io, fd, off, buf, size, &want)
				  : read_piece(io, fd, off, buf, size, &want);
		if (n < 0)
			return done ? done : n;
		done += n;
		/* Short, or a stream, which may have nothing more: not asked twice. */
		if ((size_t)n < want || !off)
			break;
	}
	return done;
}

ssize_t uio_host_read(struct uio *io, int fd, int64_t *off)
{
	/* What a stream gives cannot be put back. */
	if (io->um && !off && uio_probe_put(io, MIN(io->left, (uint64_t)BOUNCE_LARGE)))
		return -EFAULT;
	return move_pieces(io, fd, off, false);
}

ssize_t uio_host_write(struct uio *io, int fd, int64_t *off)
{
	return move_pieces(io, fd, off, true);
}

/*
 * The only way to guest memory.
 *
 * A struct umem says whose memory: a task embeds one for itself; a remote one (no thread) is made
 * from any mm.  Copies are whole or -EFAULT.  A process that died gives -EFAULT as well (the task
 * is about to be told).  No lock may be held (a page can take for ever).  Fetch once into a local,
 * then check the local.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "platform/platform.h"
#include "sentry/lib/uaddr.h"

struct mm;

struct umem {
	struct mm *mm;	     /* borrowed */
	struct p_thread *th; /* the calling task's own thread, stopped; NULL: remote */
};

int copy_in(const struct umem *um, void *dst, uaddr_t src, size_t n) MUST_CHECK;
int copy_out(const struct umem *um, uaddr_t dst, const void *src, size_t n) MUST_CHECK;
/* As far as it goes: bytes copied (0…n).  For bulk data, ptrace and process_vm_*. */
size_t copy_in_partial(const struct umem *um, void *dst, uaddr_t src, size_t n);
size_t copy_out_partial(const struct umem *um, uaddr_t dst, const void *src, size_t n);
/*
 * copy_out as the last thing of a call, after which it only returns: it may happen as late as the
 * task goes on, which saves a round trip.  Nothing may block after it, nor read what it wrote.
 */
int copy_out_last(const struct umem *um, uaddr_t dst, const void *src, size_t n) MUST_CHECK;
size_t copy_out_last_partial(const struct umem *um, uaddr_t dst, const void *src, size_t n);
/*
 * Copies a string of at most size-1 bytes and its NUL.  Returns its length, -EFAULT, or
 * -ENAMETOOLONG when no NUL comes in time.
 */
ssize_t copy_in_str(const struct umem *um, char *dst, uaddr_t src, size_t size) MUST_CHECK;
/* Fills with zeros; whole or -EFAULT. */
int clear_out(const struct umem *um, uaddr_t dst, size_t n) MUST_CHECK;

/* The calling task's own memory (kernel/umem.c): for operations below the kernel, such as ioctls,
 * that are handed a task without knowing what is in it. */
struct task;
const struct umem *task_umem(struct task *t);

#define copy_in_val(um, ptr, src) copy_in(um, ptr, src, sizeof(*(ptr)))
#define copy_out_val(um, dst, ptr) copy_out(um, dst, ptr, sizeof(*(ptr)))
#define copy_out_last_val(um, dst, ptr) copy_out_last(um, dst, ptr, sizeof(*(ptr)))

/*
 * A position in a scattered buffer, guest or sentry memory: what read and write operations of
 * files get.  uio_put moves bytes *into* the buffer (a read by the guest), uio_get out of it.
 * Both advance and return the bytes moved: short only at a fault or at the end, and -EFAULT when a
 * fault stopped the very first byte.
 */
struct uio_seg {
	uint64_t base; /* guest address, or a sentry pointer when um is NULL */
	uint64_t len;
};

struct uio {
	const struct umem *um; /* NULL: sentry memory */
	struct uio_seg *segs;  /* borrowed */
	size_t nsegs;
	size_t seg; /* current segment and offset in it */
	uint64_t off;
	uint64_t left; /* bytes left in all */
	bool lend;     /* … or start: uio_lend may do all of it */
	bool lent;     /* … and has */
	bool last;     /* uio_put is the call's end: copy_out_last */
	bool at_pos;   /* at the file's own position: set by the vfs */
	bool in_place; /* a write goes to its offset, O_APPEND or not (RWF_NOAPPEND) */
};

#ifndef UIO_MAXIOV /* sys/uio.h has it too */
#define UIO_MAXIOV 1024
#endif

void uio_init_user(struct uio *io, struct uio_seg *one, const struct umem *um, uaddr_t base,
		   uint64_t len);
void uio_init_kernel(struct uio *io, struct uio_seg *one, void *base, uint64_t len);
/* Imports a guest iovec array into segs (room for UIO_MAXIOV); total length ≤ MAX_RW_COUNT. */
int uio_import(struct uio *io, struct uio_seg *segs, const struct umem *um, uaddr_t iov,
	       uint64_t n) MUST_CHECK;
ssize_t uio_put(struct uio *io, const void *src, size_t n) MUST_CHECK;
ssize_t uio_get(struct uio *io, void *dst, size_t n) MUST_CHECK;
ssize_t uio_zero(struct uio *io, size_t n) MUST_CHECK;
/*
 * Has the guest's own process move n bytes, the call's only ones, between `off` of a file and the
 * buffer (platform.h, copy_file_late; write: to the file).  f->fd may be -1 at first.  Advances.
 */
enum p_lend uio_lend(struct uio *io, const struct p_file *f, int64_t *off, size_t n, bool write);
/*
 * A regular file's bytes, for uio_by_guest(): what names it (struct p_file), and where to get a
 * host descriptor with the access that reading or writing needs and no more: borrowed, or -errno.
 */
struct uio_file {
	uint64_t key[2];
	bool no_map;
	int (*fd)(void *arg, bool write);
	void *arg;
};
/*
 * Has the guest's own process move up to n bytes between *off of a file and the buffer: how many it
 * did, or will (reads, if they are all of the call's).  0 or short: the caller moves the rest, and
 * what the host then says is the call's result.  No lock may be held.  Advances.
 */
size_t uio_by_guest(struct uio *io, const struct uio_file *file, int64_t *off, size_t n,
		    bool write);
/* Guest processes let go of the file as they make their next calls. */
void uio_forget_file(const uint64_t key[2]);
/* Probes that the first n bytes could be written (read side of consuming reads, design rule 14):
 * 0 or -EFAULT.  Does not advance. */
int uio_probe_put(struct uio *io, size_t n) MUST_CHECK;
/* Moves back by n bytes that were moved before (a commit that failed). */
void uio_revert(struct uio *io, size_t n);
/*
 * preadv/pwritev between a host descriptor and the buffer, at *off (or the descriptor's own
 * position when off is NULL), through a bounded bounce buffer.  Advances both; returns bytes or
 * -errno; short is allowed.
 */
ssize_t uio_host_read(struct uio *io, int fd, int64_t *off) MUST_CHECK;
ssize_t uio_host_write(struct uio *io, int fd, int64_t *off) MUST_CHECK;

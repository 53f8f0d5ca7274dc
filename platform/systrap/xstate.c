/*
 * Guest bytes: copies, and the extended state that lies in the signal frame on the stub's stack.
 *
 * rt_sigreturn loads that state with XRSTOR, which faults on a bad header or MXCSR; so everything
 * that is written there is checked here first, and what cannot be right is the caller's -EINVAL.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define COPY_CHUNK (1UL << 20)
#define COPY_BY_STUB_MAX (16UL << 10)

/* Offsets in the XSAVE area, standard format (Intel SDM vol. 1, 13.4). */
#define XS_FCW 0
#define XS_MXCSR 24
#define XS_MXCSR_MASK 28
#define XS_HEADER 512
#define XS_HEADER_LEN 64
#define XS_XCOMP_BV (XS_HEADER + 8)
#define FCW_DEFAULT 0x37f
#define MXCSR_DEFAULT 0x1f80
#define MXCSR_MASK_DEFAULT 0xffbf
#define FP_XSTATE_MAGIC1 0x46505853U

/* ---- copies ---- */

static ssize_t copy(struct p_aspace *as, uint64_t addr, void *buf, size_t n, bool write)
{
	size_t done = 0;

	while (done < n) {
		size_t len = MIN(n - done, COPY_CHUNK);
		struct iovec l = {(char *)buf + done, len};
		struct iovec r = {(void *)(addr + done), len};

		if (atomic_load(&as->dead))
			return -ESRCH;
		ssize_t k = write ? process_vm_writev(as->pid, &l, 1, &r, 1, 0)
				  : process_vm_readv(as->pid, &l, 1, &r, 1, 0);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return errno == EFAULT ? (ssize_t)done : -ESRCH;
		done += (size_t)k;
		if ((size_t)k < len)
			break;
	}
	return (ssize_t)done;
}

/*
 * Whether the stub had better move the bytes: while it spins for our answer that takes a tenth of
 * the time of the host's process_vm_readv(2), up to some size; woken from a sleep, many times it.
 */
static bool stub_is_nearer(const struct p_aspace *as, const struct p_thread *th, size_t n)
{
	return th && th->as == as && th->stub_spins && n <= COPY_BY_STUB_MAX &&
	       !__atomic_load_n(&th->ps->stub_sleeps, __ATOMIC_RELAXED) &&
	       st_tsc() - th->spins_since < th->stub_spins / 2;
}

long thread_copy(struct p_thread *th, uint64_t dst, uint64_t src, uint64_t n)
{
	th->ps->arg[0] = dst;
	th->ps->arg[1] = src;
	th->ps->arg[2] = n;
	return command_run(th, ST_CMD_COPY);
}

/* Through the page set, a piece at a time. */
static ssize_t copy_by_stub(struct p_thread *th, uint64_t addr, char *buf, size_t n, bool write)
{
	struct st_pageset *ps = th->ps;
	const uint64_t window = th->ps_addr + offsetof(struct st_pageset, ops);
	size_t done = 0;

	while (done < n) {
		size_t len = MIN(n - done, sizeof(ps->ops));
		if (write)
			memcpy(ps->ops, buf + done, len);
		long left = write ? thread_copy(th, addr + done, window, len)
				  : thread_copy(th, window, addr + done, len);
		if (left < 0)
			return -ESRCH;
		size_t moved = len - MIN((size_t)left, len);
		if (!write)
			memcpy(buf + done, ps->ops, moved);
		done += moved;
		if (left)
			break;
	}
	return (ssize_t)done;
}

static ssize_t copy_guest(struct p_aspace *as, struct p_thread *th, uint64_t addr, void *buf,
			  size_t n, bool write)
{
	if (th && !write && marshal_copy_in(th, buf, addr, n))
		return (ssize_t)n;
	if (th && (write || th->nlate))
		marshal_flush(th);
	if (th && th->as == as)
		owed_run(th);
	bool stub = stub_is_nearer(as, th, n);

	st_count(stub ? &as->pf->stats.copies_stub : &as->pf->stats.copies_host);
	if (stub)
		return copy_by_stub(th, addr, buf, n, write);
	return copy(as, addr, buf, n, write);
}

static size_t clip(uint64_t addr, size_t n)
{
	if (addr >= ST_TASK_SIZE)
		return 0;
	return MIN(n, ST_TASK_SIZE - addr);
}

ssize_t aspace_copy_in(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src, size_t n)
{
	return copy_guest(as, th, src, dst, clip(src, n), false);
}

ssize_t aspace_write_raw(struct p_aspace *as, uint64_t addr, const void *bytes, size_t n)
{
	return copy(as, addr, (void *)(uintptr_t)bytes, n, true);
}

ssize_t aspace_copy_out(struct p_aspace *as, struct p_thread *th, uint64_t dst, const void *src,
			size_t n)
{
	return copy_guest(as, th, dst, (void *)(uintptr_t)src, clip(dst, n), true);
}

/* ---- extended state ---- */

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

/* The frame must lie in the thread's own stub stack; it says so itself, so look. */
static bool frame_ok(const struct p_thread *th, size_t size)
{
	uint64_t block = th->ps_addr & ~(ST_BLOCK_SIZE - 1);
	uint64_t slot = ((th->ps_addr & (ST_BLOCK_SIZE - 1)) - ST_SETS_OFF) / ST_SET_SIZE;
	uint64_t stack = block + slot * ST_STACK_SIZE;

	return th->fpstate >= stack && th->fpstate <= stack + ST_STACK_SIZE - size &&
	       th->fpstate % 64 == 0;
}

static int frame_io(struct p_thread *th, size_t off, uint8_t *buf, size_t size, bool write)
{
	if (!frame_ok(th, off + size))
		return -EFAULT;
	ssize_t n = copy_guest(th->as, th, th->fpstate + off, buf, size, write);
	if (n < 0)
		return (int)n;
	return (size_t)n == size ? 0 : -EFAULT;
}

/* What the host's frames hold, from the zygote's; also the self-check of process_vm_readv. */
int xstate_learn(struct systrap *pf, struct p_thread *th)
{
	uint8_t legacy[XS_HEADER];
	int err = frame_io(th, 0, legacy, sizeof(legacy), false);

	if (err)
		return err;
	pf->mxcsr_mask = get32(legacy + XS_MXCSR_MASK);
	if (!pf->mxcsr_mask)
		pf->mxcsr_mask = MXCSR_MASK_DEFAULT;
	pf->limits.xstate_size = XS_HEADER;
	pf->limits.xstate_mask = 3;
	const uint8_t *sw = legacy + ARCH_XSTATE_SW_BYTES;
	if (get32(sw) != FP_XSTATE_MAGIC1)
		return 0; /* a host without XSAVE */
	pf->limits.xstate_mask = get64(sw + 8);
	pf->limits.xstate_size = get32(sw + 16);
	if (pf->limits.xstate_size < XS_HEADER + XS_HEADER_LEN ||
	    pf->limits.xstate_size > ARCH_XSTATE_MAX)
		return -E2BIG;
	return 0;
}

/* Of a thread in a fast call, which has no frame: its registers are as guest code left them. */
static int save_fast(struct p_thread *th, void *buf, size_t want)
{
	struct st_pageset *ps = th->ps;

	_Static_assert(ST_XSAVE_HEADER == XS_HEADER && ST_XSAVE_HEADER_LEN == XS_HEADER_LEN, "SDM");
	owed_run(th); /* it lies where the state is going to */
	memset((char *)ps->ops + ARCH_XSTATE_SW_BYTES, 0, XS_HEADER - ARCH_XSTATE_SW_BYTES);
	ps->arg[0] = th->as->pf->limits.xstate_mask;
	if (command_run(th, ST_CMD_XSAVE))
		return -ESRCH;
	memcpy(buf, ps->ops, want);
	return 0;
}

int thread_xstate_get(struct p_thread *th, void *buf, size_t size)
{
	size_t want = th->as->pf->limits.xstate_size;

	if (size < want)
		return -EINVAL;
	if (th->fast && th->as->pf->limits.xstate_size > XS_HEADER && want <= sizeof(th->ps->ops))
		return save_fast(th, buf, want);
	if (thread_convert(th))
		return -ESRCH;
	return frame_io(th, 0, buf, want, false);
}

/* Both parts that write_checked() writes, by one host call. */
static int frame_write_parts(struct p_thread *th, uint8_t *x, size_t size)
{
	size_t more = size > XS_HEADER ? size - XS_HEADER : 0;
	struct iovec l[2] = {{x, ARCH_XSTATE_SW_BYTES}, {x + XS_HEADER, more}};
	struct iovec r[2] = {{(void *)th->fpstate, ARCH_XSTATE_SW_BYTES},
			     {(void *)(th->fpstate + XS_HEADER), more}};

	if (!frame_ok(th, size))
		return -EFAULT;
	st_count(&th->as->pf->stats.copies_host);
	ssize_t n = process_vm_writev(th->as->pid, l, 2, r, 2, 0);
	if (n < 0)
		return errno == EFAULT ? -EFAULT : -ESRCH;
	return (size_t)n == ARCH_XSTATE_SW_BYTES + more ? 0 : -EFAULT;
}

static int write_checked(struct p_thread *th, uint8_t *x, size_t size)
{
	struct systrap *pf = th->as->pf;

	if (get32(x + XS_MXCSR) & ~pf->mxcsr_mask)
		return -EINVAL;
	if (size > XS_HEADER) {
		/* A compacted image, unknown components or reserved bits would fault in XRSTOR. */
		if (get64(x + XS_HEADER) & ~pf->limits.xstate_mask)
			return -EINVAL;
		for (size_t i = XS_XCOMP_BV; i < XS_HEADER + XS_HEADER_LEN; i++)
			if (x[i])
				return -EINVAL;
	}
	/* The bytes that tell the host kernel what the frame holds stay its own. */
	if (!stub_is_nearer(th->as, th, size))
		return frame_write_parts(th, x, size);
	int err = frame_io(th, 0, x, ARCH_XSTATE_SW_BYTES, true);
	if (err || size <= XS_HEADER)
		return err;
	return frame_io(th, XS_HEADER, x + XS_HEADER, size - XS_HEADER, true);
}

int thread_xstate_set(struct p_thread *th, const void *buf, size_t size)
{
	size_t want = th->as->pf->limits.xstate_size;
	uint8_t x[ARCH_XSTATE_MAX];

	if (size < want)
		return -EINVAL;
	if (thread_convert(th))
		return -ESRCH;
	memcpy(x, buf, want);
	return write_checked(th, x, want);
}

uint64_t thread_frame_to_init(const struct p_thread *th)
{
	_Static_assert(ST_XSAVE_MXCSR == XS_MXCSR && ST_MXCSR_DEFAULT == MXCSR_DEFAULT, "SDM");
	if (th->as->pf->limits.xstate_size < XS_HEADER + XS_HEADER_LEN)
		return 0; /* a host without XSAVE */
	return frame_ok(th, XS_HEADER + XS_HEADER_LEN) ? th->fpstate : 0;
}

int thread_xstate_reset(struct p_thread *th)
{
	size_t want = th->as->pf->limits.xstate_size;
	uint8_t x[ARCH_XSTATE_MAX] = {0};
	const uint32_t mxcsr = MXCSR_DEFAULT, mask = th->as->pf->mxcsr_mask;
	const uint16_t fcw = FCW_DEFAULT;

	if (thread_convert(th))
		return -ESRCH;
	/* An empty header means "initial state" to XRSTOR, which takes MXCSR from memory anyway. */
	memcpy(x + XS_FCW, &fcw, sizeof(fcw));
	memcpy(x + XS_MXCSR, &mxcsr, sizeof(mxcsr));
	memcpy(x + XS_MXCSR_MASK, &mask, sizeof(mask));
	return write_checked(th, x, want);
}

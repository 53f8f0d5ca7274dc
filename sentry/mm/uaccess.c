/*
 * Copies between the sentry and guest memory.  The platform moves the bytes; here are the range
 * check, the growth of a stack that the guest has not touched yet, and strings.
 */
#include "sentry/mm/uaccess.h"

#include <errno.h>
#include <string.h>

#include "sentry/lib/lock.h"
#include "sentry/mm/mm.h"

/* Below task_size, and not wrapping: what lies above is the platform's. */
static bool range_ok(const struct umem *um, uint64_t addr, size_t n)
{
	return n <= um->mm->task_size && addr <= um->mm->task_size - n;
}

/* One copy by the platform; a process that died copies nothing. */
static size_t copy_once(const struct umem *um, void *buf, uint64_t addr, size_t n, bool out)
{
	const struct platform_ops *ops = um->mm->pf->ops;

	if (atomic_load_explicit(&um->mm->gone, memory_order_relaxed))
		return 0;
	ssize_t done = out ? ops->copy_out(um->mm->as, um->th, addr, buf, n)
			   : ops->copy_in(um->mm->as, um->th, buf, addr, n);

	return done > 0 ? (size_t)done : 0;
}

/*
 * Copies as far as it goes.  As in Linux, an access by the kernel grows a stack like one by the
 * program; another process's access does not.
 */
static size_t copy_grow(const struct umem *um, void *buf, uint64_t addr, size_t n, bool out)
{
	int si_code;

	lock_assert_none_held();
	if (!n || !range_ok(um, addr, n) || (!um->th && mm_holds_secret(um->mm, addr, n)))
		return 0;
	size_t done = copy_once(um, buf, addr, n, out);
	while (done < n && um->th &&
	       mm_fault(um->mm, um->th, addr + done, out ? MM_ACCESS_WRITE : 0, &si_code)) {
		size_t more = copy_once(um, (char *)buf + done, addr + done, n - done, out);
		if (!more)
			break;
		done += more;
	}
	return done;
}

size_t copy_in_partial(const struct umem *um, void *dst, uaddr_t src, size_t n)
{
	return copy_grow(um, dst, src.v, n, false);
}

size_t copy_out_partial(const struct umem *um, uaddr_t dst, const void *src, size_t n)
{
	/* Only read: one function serves both directions. */
	return copy_grow(um, (void *)(uintptr_t)src, dst.v, n, true);
}

/* More than this is not worth the look at the tree. */
#define LATE_MAX PAGE_SIZE

static bool copy_late(const struct umem *um, uaddr_t dst, const void *src, size_t n)
{
	const struct platform_ops *ops = um->mm->pf->ops;

	return ops->copy_out_late && um->th && n && n <= LATE_MAX && range_ok(um, dst.v, n) &&
	       mm_is_plain(um->mm, dst.v, n) && ops->copy_out_late(um->th, dst.v, src, n);
}

size_t copy_out_last_partial(const struct umem *um, uaddr_t dst, const void *src, size_t n)
{
	return copy_late(um, dst, src, n) ? n : copy_out_partial(um, dst, src, n);
}

int copy_out_last(const struct umem *um, uaddr_t dst, const void *src, size_t n)
{
	return copy_late(um, dst, src, n) ? 0 : copy_out(um, dst, src, n);
}

int copy_in(const struct umem *um, void *dst, uaddr_t src, size_t n)
{
	return copy_in_partial(um, dst, src, n) == n ? 0 : -EFAULT;
}

int copy_out(const struct umem *um, uaddr_t dst, const void *src, size_t n)
{
	return copy_out_partial(um, dst, src, n) == n ? 0 : -EFAULT;
}

/* Most strings are short and end before this; a longer fetch costs more than it saves. */
#define STR_FIRST 256

ssize_t copy_in_str(const struct umem *um, char *dst, uaddr_t src, size_t size)
{
	size_t done = 0, chunk = STR_FIRST;

	while (done < size) {
		uint64_t at = src.v + done;
		if (at >= um->mm->task_size)
			return -EFAULT;
		/* Never across a page boundary: the next page may be missing and not needed. */
		size_t n = MIN(chunk, size - done);
		n = MIN(n, (size_t)(PAGE_SIZE - (at & ~PAGE_MASK)));
		size_t got = copy_in_partial(um, dst + done, UADDR(at), n);
		const char *nul = memchr(dst + done, '\0', got);
		if (nul)
			return nul - dst;
		if (got < n)
			return -EFAULT;
		done += n;
		chunk = PAGE_SIZE;
	}
	return -ENAMETOOLONG;
}

int clear_out(const struct umem *um, uaddr_t dst, size_t n)
{
	static const char zeros[PAGE_SIZE];

	while (n) {
		size_t part = MIN(n, sizeof(zeros));
		if (copy_out(um, dst, zeros, part))
			return -EFAULT;
		dst = uaddr_add(dst, part);
		n -= part;
	}
	return 0;
}

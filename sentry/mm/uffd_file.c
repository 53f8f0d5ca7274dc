/* The descriptor of userfaultfd(2): messages about faults, and what is done about them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <string.h>

#include "sentry/mm/uaccess.h"
#include "sentry/mm/uffd.h"
#include "sentry/mm/uffd_file.h"
#include "sentry/vfs/file.h"

#ifndef UFFD_FEATURE_EXACT_ADDRESS
#define UFFD_FEATURE_EXACT_ADDRESS (1 << 11)
#endif

#define FEATURES (UFFD_FEATURE_THREAD_ID | UFFD_FEATURE_EXACT_ADDRESS)
#define FEATURE_READY (1ULL << 63) /* ours: UFFDIO_API has been */
#define IOCTLS (1ULL << _UFFDIO_REGISTER | 1ULL << _UFFDIO_UNREGISTER | 1ULL << _UFFDIO_API)
#define RANGE_IOCTLS (1ULL << _UFFDIO_WAKE | 1ULL << _UFFDIO_COPY | 1ULL << _UFFDIO_ZEROPAGE)

/* ---- messages ---- */

static bool take_message(struct uffd *u, struct uffd_msg *m)
{
	mutex_lock(&u->lock, &lc_leaf);
	bool any = !list_empty(&u->fresh);
	if (any) {
		struct uffd_waiter *w = list_first(&u->fresh, struct uffd_waiter, node);
		list_del(&w->node);
		list_add_tail(&w->node, &u->told);
		memset(m, 0, sizeof(*m));
		m->event = UFFD_EVENT_PAGEFAULT;
		m->arg.pagefault.address = w->addr;
		m->arg.pagefault.flags = w->flags;
		m->arg.pagefault.feat.ptid = (uint32_t)w->tid;
	}
	mutex_unlock(&u->lock, &lc_leaf);
	return any;
}

static ssize_t uffd_read(struct file *f, struct uio *io, int64_t *off)
{
	struct uffd *u = f->priv;
	struct uffd_msg m;
	ssize_t done = 0;

	(void)off;
	if (!atomic_load(&u->features))
		return -EINVAL;
	while (io->left >= sizeof(m)) {
		int err = uio_probe_put(io, sizeof(m));
		if (err)
			return done ? done : err;
		if (!take_message(u, &m))
			return done ? done : -EAGAIN;
		ssize_t n = uio_put(io, &m, sizeof(m));
		if (n != sizeof(m))
			return done ? done : -EFAULT;
		done += n;
	}
	return done ? done : -EINVAL;
}

static uint32_t uffd_poll(struct file *f)
{
	struct uffd *u = f->priv;

	/* A fault may be over before it is read: a read that follows must not wait for ever. */
	if (!atomic_load(&u->features) || !(f->flags & O_NONBLOCK))
		return POLLERR;
	mutex_lock(&u->lock, &lc_leaf);
	bool any = !list_empty(&u->fresh);
	mutex_unlock(&u->lock, &lc_leaf);
	return any ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *uffd_waitq(struct file *f)
{
	return &((struct uffd *)f->priv)->readers;
}

/* ---- ioctl ---- */

/* The caller's own thread, if the memory is his. */
static struct p_thread *own_thread(const struct uffd *u, const struct umem *um)
{
	return um->mm == u->mm ? um->th : NULL;
}

static int check_range(const struct uffd *u, uint64_t start, uint64_t len)
{
	const struct mm *mm = u->mm;

	if ((start | len) & ~PAGE_MASK || !len || start < mm->mmap_min || start >= mm->task_size ||
	    len > mm->task_size - start)
		return -EINVAL;
	return 0;
}

static long set_api(struct uffd *u, const struct umem *um, uaddr_t arg)
{
	struct uffdio_api a;
	uint64_t none = 0;

	if (copy_in_val(um, &a, arg))
		return -EFAULT;
	if (a.api == UFFD_API && !(a.features & ~(uint64_t)FEATURES) &&
	    !atomic_load(&u->features)) {
		const struct uffdio_api answer = {UFFD_API, FEATURES, IOCTLS};
		if (copy_out_val(um, arg, &answer))
			return -EFAULT;
		if (atomic_compare_exchange_strong(&u->features, &none, a.features | FEATURE_READY))
			return 0;
	}
	memset(&a, 0, sizeof(a));
	return copy_out_val(um, arg, &a) ? -EFAULT : -EINVAL;
}

static long do_register(struct uffd *u, const struct umem *um, uaddr_t arg)
{
	struct uffdio_register r;
	uint64_t ioctls = RANGE_IOCTLS;

	if (copy_in(um, &r, arg, offsetof(struct uffdio_register, ioctls)))
		return -EFAULT;
	if (r.mode != UFFDIO_REGISTER_MODE_MISSING)
		return -EINVAL;
	int err = check_range(u, r.range.start, r.range.len);
	if (!err)
		err = uffd_register(u, own_thread(u, um), r.range.start,
				    r.range.start + r.range.len);
	if (err)
		return err;
	return copy_out_val(um, uaddr_add(arg, offsetof(struct uffdio_register, ioctls)), &ioctls);
}

static long do_range(struct uffd *u, const struct umem *um, uaddr_t arg, bool wake)
{
	struct uffdio_range r;

	if (copy_in_val(um, &r, arg))
		return -EFAULT;
	int err = check_range(u, r.start, r.len);
	if (err)
		return err;
	if (!wake)
		return uffd_unregister(u, own_thread(u, um), r.start, r.start + r.len);
	uffd_wake(u, r.start, r.start + r.len);
	return 0;
}

/* Fills [dst, dst+len) from src of the caller's memory, or with zeros: bytes done, or an error. */
static int64_t fill(struct uffd *u, const struct umem *um, uint64_t dst, const uaddr_t *src,
		    uint64_t len)
{
	uint8_t page[PAGE_SIZE] = {0};
	int64_t done = 0;
	int err = uffd_check_range(u, dst, dst + len);

	while (!err && (uint64_t)done < len) {
		if (src)
			err = copy_in(um, page, uaddr_add(*src, (uint64_t)done), sizeof(page));
		if (!err)
			err = uffd_fill(u, own_thread(u, um), dst + (uint64_t)done, page);
		if (!err)
			done += PAGE_SIZE;
	}
	return done ? done : err;
}

/* How both filling calls end: the number of bytes goes out, and who waits for them goes on. */
static long filled(struct uffd *u, const struct umem *um, uaddr_t result, uint64_t dst,
		   uint64_t len, int64_t done, bool wake)
{
	if (copy_out_val(um, result, &done))
		return -EFAULT;
	if (done < 0)
		return done;
	if (wake)
		uffd_wake(u, dst, dst + (uint64_t)done);
	return (uint64_t)done == len ? 0 : -EAGAIN;
}

static long do_copy(struct uffd *u, const struct umem *um, uaddr_t arg)
{
	struct uffdio_copy c;

	if (copy_in(um, &c, arg, offsetof(struct uffdio_copy, copy)))
		return -EFAULT;
	int err = check_range(u, c.dst, c.len);
	if (err)
		return err;
	if (c.src + c.len < c.src || c.mode & ~(uint64_t)UFFDIO_COPY_MODE_DONTWAKE)
		return -EINVAL;
	const uaddr_t src = UADDR(c.src);
	int64_t done = fill(u, um, c.dst, &src, c.len);
	return filled(u, um, uaddr_add(arg, offsetof(struct uffdio_copy, copy)), c.dst, c.len, done,
		      !(c.mode & UFFDIO_COPY_MODE_DONTWAKE));
}

static long do_zeropage(struct uffd *u, const struct umem *um, uaddr_t arg)
{
	struct uffdio_zeropage z;

	if (copy_in(um, &z, arg, offsetof(struct uffdio_zeropage, zeropage)))
		return -EFAULT;
	int err = check_range(u, z.range.start, z.range.len);
	if (err)
		return err;
	if (z.mode & ~(uint64_t)UFFDIO_ZEROPAGE_MODE_DONTWAKE)
		return -EINVAL;
	int64_t done = fill(u, um, z.range.start, NULL, z.range.len);
	return filled(u, um, uaddr_add(arg, offsetof(struct uffdio_zeropage, zeropage)),
		      z.range.start, z.range.len, done, !(z.mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE));
}

static long uffd_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t uarg)
{
	struct uffd *u = f->priv;
	const struct umem *um = task_umem(t);
	uaddr_t arg = UADDR(uarg);

	if (cmd != UFFDIO_API && !atomic_load(&u->features))
		return -EINVAL;
	switch (cmd) {
	case UFFDIO_API:
		return set_api(u, um, arg);
	case UFFDIO_REGISTER:
		return do_register(u, um, arg);
	case UFFDIO_UNREGISTER:
		return do_range(u, um, arg, false);
	case UFFDIO_WAKE:
		return do_range(u, um, arg, true);
	case UFFDIO_COPY:
		return do_copy(u, um, arg);
	case UFFDIO_ZEROPAGE:
		return do_zeropage(u, um, arg);
	}
	return -EINVAL;
}

static void uffd_release(struct file *f)
{
	struct uffd *u = f->priv;

	uffd_unregister_all(u);
	uffd_put(u);
}

static const struct file_ops uffd_ops = {
	.read = uffd_read,
	.stream = true,
	.poll = uffd_poll,
	.waitq = uffd_waitq,
	.ioctl = uffd_ioctl,
	.release = uffd_release,
};

int uffd_create_file(struct mm *mm, bool user_only, int flags, struct file **out)
{
	struct uffd *u = uffd_new(mm, user_only);

	if (!u)
		return -ENOMEM;
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int err = in ? file_new_anon(in, "anon_inode:[userfaultfd]", &uffd_ops, u,
				     O_RDONLY | (flags & O_NONBLOCK), out)
		     : -ENOMEM;
	if (err)
		uffd_put(u);
	return err;
}

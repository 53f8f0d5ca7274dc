#include "sentry/aio/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/kernel/helper.h"
#include "sentry/vfs/file.h"

/* One cache line for each word that one side writes. */
struct uring_shared {
	_Atomic uint32_t sq_head __attribute__((aligned(64)));
	_Atomic uint32_t sq_tail __attribute__((aligned(64)));
	_Atomic uint32_t cq_head __attribute__((aligned(64)));
	_Atomic uint32_t cq_tail __attribute__((aligned(64)));
	uint32_t sq_mask __attribute__((aligned(64)));
	uint32_t cq_mask, sq_entries, cq_entries;
	_Atomic uint32_t sq_dropped, sq_flags, cq_flags, cq_overflow;
	struct io_uring_cqe cqes[] __attribute__((aligned(64)));
};

struct waiting_cqe {
	struct list_head link;
	struct io_uring_cqe cqe;
};

/* ---- life ---- */

struct uring *uring_get(struct uring *u)
{
	ref_get(&u->ref);
	return u;
}

void uring_drop_files(struct uring *u)
{
	mutex_lock(&u->lock, &lc_pipe);
	struct file **files = u->files;
	unsigned n = u->nfiles;
	u->files = NULL;
	u->nfiles = 0;
	mutex_unlock(&u->lock, &lc_pipe);
	for (unsigned i = 0; i < n; i++)
		file_put(files[i]);
	free(files);
}

void uring_drop_buffers(struct uring *u)
{
	mutex_lock(&u->lock, &lc_pipe);
	struct uio_seg *bufs = u->bufs;
	u->bufs = NULL;
	u->nbufs = 0;
	mutex_unlock(&u->lock, &lc_pipe);
	free(bufs);
}

void uring_put(struct uring *u)
{
	if (!u || !ref_put(&u->ref))
		return;
	while (!list_empty(&u->overflow)) {
		struct waiting_cqe *w = list_first(&u->overflow, struct waiting_cqe, link);
		list_del(&w->link);
		free(w);
	}
	while (!list_empty(&u->provided)) {
		struct uring_buf *b = list_first(&u->provided, struct uring_buf, link);
		list_del(&b->link);
		free(b);
	}
	while (!list_empty(&u->buf_rings)) {
		struct uring_buf_ring *r = list_first(&u->buf_rings, struct uring_buf_ring, link);
		list_del(&r->link);
		free(r);
	}
	uring_drop_files(u);
	uring_drop_buffers(u);
	file_put(u->eventfd);
	shared_mem_unmap(u->sh, u->ring_size);
	shared_mem_unmap((void *)(uintptr_t)u->sqes, u->sqes_size);
	if (u->mem.fd >= 0)
		shared_mem_close(&u->mem);
	free(u);
}

/* The file is closed: nobody can look at what the requests would say. */
static void uring_release(struct file *f)
{
	struct uring *u = f->priv;
	struct uring_chain *c;

	mutex_lock(&u->lock, &lc_pipe);
	list_for_each (c, &u->chains, link) {
		c->cancelled = true;
		if (c->h)
			helper_cancel(c->h);
	}
	mutex_unlock(&u->lock, &lc_pipe);
	/* A registered ring file would keep itself. */
	uring_drop_files(u);
	uring_put(u);
}

/* ---- the file ---- */

static int uring_map_fd(struct file *f, bool shared, int *fd)
{
	struct uring *u = f->priv;

	if (!shared)
		return -EINVAL;
	*fd = u->mem.fd;
	return 0;
}

/* Both rings are one piece, which may be mapped by either's offset. */
static uint64_t uring_map_offset(struct file *f, uint64_t off)
{
	(void)f;
	return off == IORING_OFF_CQ_RING ? 0 : off;
}

static uint32_t uring_poll(struct file *f)
{
	struct uring *u = f->priv;
	uint32_t used = atomic_load(&u->sh->sq_tail) - atomic_load(&u->sh->sq_head);

	return (uring_ready(u) ? POLLIN | POLLRDNORM : 0) |
	       (used < u->sq_entries ? POLLOUT | POLLWRNORM : 0);
}

static struct waitq *uring_waitq(struct file *f)
{
	return &((struct uring *)f->priv)->wq;
}

static const struct file_ops uring_ops = {
	.stream = true,
	.poll = uring_poll,
	.waitq = uring_waitq,
	.map_fd = uring_map_fd,
	.map_offset = uring_map_offset,
	.release = uring_release,
};

struct uring *uring_of(const struct file *f)
{
	return f->ops == &uring_ops ? f->priv : NULL;
}

/* Both rings in one piece at offset 0, the entries where mmap's offset for them says. */
static int uring_memory(struct uring *u)
{
	size_t array = sizeof(struct uring_shared) +
		       (u->cq_entries * sizeof(struct io_uring_cqe) << u->cqe_shift);

	u->ring_size = page_up(array + u->sq_entries * sizeof(uint32_t));
	u->sqes_size = page_up(u->sq_entries * sizeof(struct io_uring_sqe) << u->sqe_shift);
	int err = shared_mem_create(IORING_OFF_SQES + u->sqes_size, &u->mem);
	if (err)
		return err;
	u->sh = shared_mem_map(&u->mem, 0, u->ring_size);
	u->sqes = shared_mem_map(&u->mem, IORING_OFF_SQES, u->sqes_size);
	if (!u->sh || !u->sqes)
		return -ENOMEM;
	u->cqes = u->sh->cqes;
	u->sq_array = (const uint32_t *)((char *)u->sh + array);
	u->sh->sq_entries = u->sq_entries;
	u->sh->cq_entries = u->cq_entries;
	u->sh->sq_mask = u->sq_entries - 1;
	u->sh->cq_mask = u->cq_entries - 1;
	if (u->flags & IORING_SETUP_SQPOLL)
		u->sh->sq_flags = IORING_SQ_NEED_WAKEUP;
	return 0;
}

static void fill_offsets(const struct uring *u, struct io_uring_params *p)
{
	p->sq_off = (struct io_sqring_offsets){
		.head = offsetof(struct uring_shared, sq_head),
		.tail = offsetof(struct uring_shared, sq_tail),
		.ring_mask = offsetof(struct uring_shared, sq_mask),
		.ring_entries = offsetof(struct uring_shared, sq_entries),
		.flags = offsetof(struct uring_shared, sq_flags),
		.dropped = offsetof(struct uring_shared, sq_dropped),
		.array = (uint32_t)((const char *)u->sq_array - (const char *)u->sh),
	};
	p->cq_off = (struct io_cqring_offsets){
		.head = offsetof(struct uring_shared, cq_head),
		.tail = offsetof(struct uring_shared, cq_tail),
		.ring_mask = offsetof(struct uring_shared, cq_mask),
		.ring_entries = offsetof(struct uring_shared, cq_entries),
		.overflow = offsetof(struct uring_shared, cq_overflow),
		.cqes = offsetof(struct uring_shared, cqes),
		.flags = offsetof(struct uring_shared, cq_flags),
	};
}

int uring_create_file(struct io_uring_params *p, struct file **out)
{
	struct uring *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	ref_init(&u->ref, 1);
	u->mem.fd = -1;
	u->sq_entries = p->sq_entries;
	u->cq_entries = p->cq_entries;
	u->flags = p->flags;
	u->disabled = p->flags & IORING_SETUP_R_DISABLED;
	sleep_lock_init(&u->entering);
	waitq_init(&u->wq);
	mutex_init(&u->lock);
	list_init(&u->overflow);
	list_init(&u->chains);
	list_init(&u->provided);
	list_init(&u->buf_rings);
	u->sqe_shift = p->flags & IORING_SETUP_SQE128 ? 1 : 0;
	u->cqe_shift = p->flags & IORING_SETUP_CQE32 ? 1 : 0;
	int err = uring_memory(u);
	if (!err) {
		fill_offsets(u, p);
		struct inode *in = anon_inode_new(0600, NULL, NULL);
		err = in ? file_new_anon(in, "anon_inode:[io_uring]", &uring_ops, u, O_RDWR, out)
			 : -ENOMEM;
	}
	if (err)
		uring_put(u);
	return err;
}

/* ---- the rings ---- */

bool uring_take(struct uring *u, struct io_uring_sqe *out)
{
	while (atomic_load(&u->sh->sq_tail) != u->sq_head) {
		uint32_t i = __atomic_load_n(&u->sq_array[u->sq_head & (u->sq_entries - 1)],
					     __ATOMIC_RELAXED);
		bool good = i < u->sq_entries;
		if (good)
			memcpy(out, &u->sqes[i << u->sqe_shift], sizeof(*out));
		else
			atomic_fetch_add(&u->sh->sq_dropped, 1);
		atomic_store(&u->sh->sq_head, ++u->sq_head);
		if (good)
			return true;
	}
	return false;
}

static bool cq_has_room(const struct uring *u) REQUIRES(lc_pipe)
{
	return u->cq_tail - atomic_load(&u->sh->cq_head) < u->cq_entries;
}

static void cq_put(struct uring *u, const struct io_uring_cqe *cqe) REQUIRES(lc_pipe)
{
	/* The other half of a large one stays zero. */
	u->cqes[(u->cq_tail & (u->cq_entries - 1)) << u->cqe_shift] = *cqe;
	atomic_store(&u->sh->cq_tail, ++u->cq_tail);
}

static void flush_locked(struct uring *u) REQUIRES(lc_pipe)
{
	if (list_empty(&u->overflow))
		return;
	while (!list_empty(&u->overflow) && cq_has_room(u)) {
		struct waiting_cqe *w = list_first(&u->overflow, struct waiting_cqe, link);
		list_del(&w->link);
		cq_put(u, &w->cqe);
		free(w);
	}
	if (list_empty(&u->overflow))
		atomic_fetch_and(&u->sh->sq_flags, ~IORING_SQ_CQ_OVERFLOW);
}

void uring_flush(struct uring *u)
{
	mutex_lock(&u->lock, &lc_pipe);
	flush_locked(u);
	mutex_unlock(&u->lock, &lc_pipe);
}

void uring_post(struct uring *u, uint64_t user_data, int32_t res, uint32_t flags)
{
	const struct io_uring_cqe cqe = {.user_data = user_data, .res = res, .flags = flags};
	struct file *tell = NULL;

	mutex_lock(&u->lock, &lc_pipe);
	flush_locked(u);
	u->completed++;
	if (list_empty(&u->overflow) && cq_has_room(u)) {
		cq_put(u, &cqe);
	} else {
		struct waiting_cqe *w = malloc(sizeof(*w));
		if (w) {
			w->cqe = cqe;
			list_add_tail(&w->link, &u->overflow);
			atomic_fetch_or(&u->sh->sq_flags, IORING_SQ_CQ_OVERFLOW);
		} else {
			atomic_fetch_add(&u->sh->cq_overflow, 1);
		}
	}
	if (u->eventfd && !(atomic_load(&u->sh->cq_flags) & IORING_CQ_EVENTFD_DISABLED))
		tell = file_get(u->eventfd);
	mutex_unlock(&u->lock, &lc_pipe);
	waitq_notify(&u->wq, POLLIN | POLLRDNORM);
	if (tell) {
		eventfd_signal(tell);
		file_put(tell);
	}
}

unsigned uring_ready(struct uring *u)
{
	mutex_lock(&u->lock, &lc_pipe);
	unsigned n = u->cq_tail - atomic_load(&u->sh->cq_head);
	mutex_unlock(&u->lock, &lc_pipe);
	return MIN(n, u->cq_entries);
}

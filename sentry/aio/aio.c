#include "sentry/aio/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sentry/aio/shared_mem.h"
#include "sentry/mm/mm.h"
#include "sentry/vfs/file.h"

#define RING_MAGIC 0xa10a10a1

/* As libaio and others know it. */
struct aio_ring {
	uint32_t id, nr;
	_Atomic uint32_t head; /* moved by guests too */
	_Atomic uint32_t tail; /* ours; c->tail is what counts */
	uint32_t magic, compat_features, incompat_features, header_length;
	struct io_event events[];
};
_Static_assert(sizeof(struct aio_ring) == 32, "ABI");

static struct mutex contexts_lock = MUTEX_INIT; /* lc_leaf */
static struct list_head contexts = LIST_HEAD_INIT(contexts);
static unsigned total; /* of all max */

/* ---- the ring's memory, as a file that the guest's mapping holds ---- */

static int ring_map_fd(struct file *f, bool shared, int *fd)
{
	const struct shared_mem *m = f->priv;

	if (!shared)
		return -EACCES;
	*fd = m->fd;
	return 0;
}

static void ring_release(struct file *f)
{
	shared_mem_close(f->priv);
	free(f->priv);
}

static const struct file_ops ring_ops = {.map_fd = ring_map_fd, .release = ring_release};

static int ring_file(size_t size, struct file **out)
{
	struct shared_mem *m = malloc(sizeof(*m));
	int err = m ? shared_mem_create(size, m) : -ENOMEM;

	if (err) {
		free(m);
		return err;
	}
	struct inode *in = anon_inode_new(S_IFREG | 0600, NULL, NULL);
	err = in ? file_new_anon(in, "/[aio] (deleted)", &ring_ops, m, O_RDWR, out) : -ENOMEM;
	if (err) {
		shared_mem_close(m);
		free(m);
	}
	return err;
}

/* ---- contexts ---- */

static void ctx_free(struct aio_ctx *c)
{
	shared_mem_unmap(c->ring, c->size);
	mutex_lock(&contexts_lock, &lc_leaf);
	total -= c->max;
	mutex_unlock(&contexts_lock, &lc_leaf);
	free(c);
}

void aio_ctx_put(struct aio_ctx *c)
{
	if (c && ref_put(&c->ref))
		ctx_free(c);
}

static int charge(unsigned nr)
{
	mutex_lock(&contexts_lock, &lc_leaf);
	int err = nr > AIO_MAX_NR - total ? -EAGAIN : 0;
	if (!err)
		total += nr;
	mutex_unlock(&contexts_lock, &lc_leaf);
	return err;
}

/* The ring, in our memory and in a file for the guest's. */
static int ctx_memory(struct aio_ctx *c, struct file **out)
{
	/* Twice as many as asked for, and whole pages of them, as Linux gives. */
	c->size = (sizeof(struct aio_ring) + (c->max * 2UL + 2) * sizeof(struct io_event) +
		   PAGE_SIZE - 1) &
		  PAGE_MASK;
	c->nr = (unsigned)((c->size - sizeof(struct aio_ring)) / sizeof(struct io_event));
	int err = ring_file(c->size, out);
	if (err)
		return err;
	c->ring = shared_mem_map((*out)->priv, 0, c->size);
	if (!c->ring) {
		file_put(*out);
		return -ENOMEM;
	}
	c->ring->nr = c->nr;
	c->ring->magic = RING_MAGIC;
	c->ring->compat_features = 1;
	c->ring->header_length = sizeof(struct aio_ring);
	return 0;
}

int aio_ctx_create(struct mm *mm, struct p_thread *th, unsigned nr, uint64_t *addr)
{
	int err = charge(nr);
	if (err)
		return err;
	struct aio_ctx *c = calloc(1, sizeof(*c));
	if (!c) {
		mutex_lock(&contexts_lock, &lc_leaf);
		total -= nr;
		mutex_unlock(&contexts_lock, &lc_leaf);
		return -ENOMEM;
	}
	ref_init(&c->ref, 1);
	c->mm = mm;
	c->max = nr;
	sleep_lock_init(&c->reading);
	waitq_init(&c->wq);
	list_init(&c->polls);
	mutex_init(&c->lock);
	struct file *f;
	err = ctx_memory(c, &f);
	if (!err) {
		const struct mm_map_args a = {.len = c->size,
					      .prot = PROT_READ | PROT_WRITE,
					      .flags = MAP_SHARED,
					      .file = f};
		err = mm_map(mm, th, &a, &c->addr);
		file_put(f);
	}
	if (err) {
		aio_ctx_put(c);
		return err;
	}
	*addr = c->addr;
	mutex_lock(&contexts_lock, &lc_leaf);
	list_add(&c->link, &contexts);
	mutex_unlock(&contexts_lock, &lc_leaf);
	return 0;
}

struct aio_ctx *aio_ctx_find(const struct mm *mm, uint64_t addr)
{
	struct aio_ctx *c, *found = NULL;

	mutex_lock(&contexts_lock, &lc_leaf);
	list_for_each (c, &contexts, link) {
		if (c->mm == mm && c->addr == addr) {
			ref_get(&c->ref);
			found = c;
			break;
		}
	}
	mutex_unlock(&contexts_lock, &lc_leaf);
	return found;
}

bool aio_ctx_kill(struct aio_ctx *c, uint64_t *len)
{
	mutex_lock(&contexts_lock, &lc_leaf);
	bool ours = !list_empty(&c->link);
	list_del(&c->link);
	mutex_unlock(&contexts_lock, &lc_leaf);
	if (!ours)
		return false;
	mutex_lock(&c->lock, &lc_pipe);
	c->dead = true;
	mutex_unlock(&c->lock, &lc_pipe);
	waitq_notify(&c->wq, POLLIN);
	*len = c->size;
	aio_ctx_put(c); /* the list's */
	return true;
}

/* The address space is gone: so are its contexts. */
static void mm_gone(const struct mm *mm)
{
	struct aio_ctx *c, *tmp;
	struct list_head gone = LIST_HEAD_INIT(gone);

	mutex_lock(&contexts_lock, &lc_leaf);
	list_for_each_safe (c, tmp, &contexts, link) {
		if (c->mm == mm) {
			list_del(&c->link);
			list_add(&c->link, &gone);
		}
	}
	mutex_unlock(&contexts_lock, &lc_leaf);
	list_for_each_safe (c, tmp, &gone, link) {
		list_del(&c->link);
		aio_ctx_put(c);
	}
}

void aio_init(void)
{
	mm_gone_hook = mm_gone;
}

/* ---- slots and completions ---- */

/* How many completions wait to be taken; the guest may have moved the head anywhere. */
static unsigned waiting(struct aio_ctx *c, unsigned *head) REQUIRES(lc_pipe)
{
	*head = atomic_load(&c->ring->head) % c->nr;
	return (c->tail + c->nr - *head) % c->nr;
}

int aio_slot_take(struct aio_ctx *c)
{
	unsigned head;
	int err = 0;

	mutex_lock(&c->lock, &lc_pipe);
	if (c->dead)
		err = -EINVAL;
	else if (c->inflight + waiting(c, &head) >= c->nr - 1)
		err = -EAGAIN;
	else
		c->inflight++;
	mutex_unlock(&c->lock, &lc_pipe);
	return err;
}

void aio_slot_drop(struct aio_ctx *c)
{
	mutex_lock(&c->lock, &lc_pipe);
	c->inflight--;
	mutex_unlock(&c->lock, &lc_pipe);
	waitq_notify(&c->wq, POLLIN);
}

void aio_complete(struct aio_ctx *c, const struct io_event *ev)
{
	mutex_lock(&c->lock, &lc_pipe);
	c->inflight--;
	c->ring->events[c->tail] = *ev;
	c->tail = (c->tail + 1) % c->nr;
	atomic_store(&c->ring->tail, c->tail);
	mutex_unlock(&c->lock, &lc_pipe);
	waitq_notify(&c->wq, POLLIN);
}

unsigned aio_peek(struct aio_ctx *c, struct io_event *ev, unsigned max)
{
	unsigned head;

	mutex_lock(&c->lock, &lc_pipe);
	unsigned n = MIN(waiting(c, &head), max);
	for (unsigned i = 0; i < n; i++)
		ev[i] = c->ring->events[(head + i) % c->nr];
	mutex_unlock(&c->lock, &lc_pipe);
	return n;
}

void aio_consume(struct aio_ctx *c, unsigned n)
{
	unsigned head;

	mutex_lock(&c->lock, &lc_pipe);
	n = MIN(n, waiting(c, &head));
	atomic_store(&c->ring->head, (head + n) % c->nr);
	mutex_unlock(&c->lock, &lc_pipe);
}

unsigned aio_ready(struct aio_ctx *c)
{
	unsigned head;

	mutex_lock(&c->lock, &lc_pipe);
	unsigned n = c->dead ? c->nr : waiting(c, &head);
	mutex_unlock(&c->lock, &lc_pipe);
	return n;
}

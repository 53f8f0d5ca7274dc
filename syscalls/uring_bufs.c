/*
 * io_uring: buffers of which a request chooses one when it has something to put there: single ones
 * (IORING_OP_PROVIDE_BUFFERS), and rings in guest memory that guests fill
 * (IORING_REGISTER_PBUF_RING).
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#include "syscalls/uring.h"

#define RING_MAX 32768
#define RINGS_MAX 256 /* of one io_uring */
#define RETRIES 64

/* ---- single ones ---- */

/* The first buffer of a group of single ones, taken; NULL: none. */
static struct uring_buf *single_take(struct uring *u, uint16_t group)
{
	struct uring_buf *b, *found = NULL;

	mutex_lock(&u->lock, &lc_pipe);
	list_for_each (b, &u->provided, link) {
		if (b->group == group) {
			found = b;
			list_del(&b->link);
			u->nprovided--;
			break;
		}
	}
	mutex_unlock(&u->lock, &lc_pipe);
	return found;
}

static void single_give_back(struct uring *u, struct uring_buf *b)
{
	mutex_lock(&u->lock, &lc_pipe);
	list_add(&b->link, &u->provided);
	u->nprovided++;
	mutex_unlock(&u->lock, &lc_pipe);
}

int64_t uring_provide_buffers(struct uring *u, const struct io_uring_sqe *s)
{
	unsigned n = (unsigned)s->fd;

	if (s->fd <= 0 || n > 65536 || !s->len || s->off > UINT16_MAX || s->off + n > 65536)
		return n && s->fd > 0 && s->len ? -E2BIG : -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		struct uring_buf *b = malloc(sizeof(*b));
		mutex_lock(&u->lock, &lc_pipe);
		bool room = b && u->nprovided < 65536;
		if (room) {
			*b = (struct uring_buf){.addr = s->addr + (uint64_t)i * s->len,
						.len = s->len,
						.group = s->buf_group,
						.id = (uint16_t)(s->off + i)};
			list_add_tail(&b->link, &u->provided);
			u->nprovided++;
		}
		mutex_unlock(&u->lock, &lc_pipe);
		if (!room) {
			free(b);
			return i ? 0 : -ENOMEM;
		}
	}
	return 0;
}

int64_t uring_remove_buffers(struct uring *u, const struct io_uring_sqe *s)
{
	int64_t n = 0;

	if (s->fd <= 0 || s->fd > 65536)
		return -EINVAL;
	while (n < s->fd) {
		struct uring_buf *b = single_take(u, s->buf_group);
		if (!b)
			break;
		free(b);
		n++;
	}
	return n ? n : -ENOENT;
}

/* ---- rings ---- */

static struct uring_buf_ring *ring_find(struct uring *u, uint16_t group) REQUIRES(lc_pipe)
{
	struct uring_buf_ring *r;

	list_for_each (r, &u->buf_rings, link)
		if (r->group == group)
			return r;
	return NULL;
}

static int check_reg(const struct io_uring_buf_reg *reg)
{
	uint32_t n = reg->ring_entries;

	if (reg->pad || reg->resv[0] || reg->resv[1] || reg->resv[2])
		return -EINVAL;
	if (!reg->ring_addr)
		return -EFAULT;
	return reg->ring_addr & (PAGE_SIZE - 1) || !n || n & (n - 1) || n > RING_MAX ? -EINVAL : 0;
}

int uring_register_buf_ring(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	struct io_uring_buf_reg reg;
	int err;

	if (n != 1)
		return -EINVAL;
	if (copy_in_val(&t->um, &reg, arg))
		return -EFAULT;
	if ((err = check_reg(&reg)))
		return err;
	struct uring_buf_ring *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct uring_buf_ring){
		.addr = reg.ring_addr, .entries = reg.ring_entries, .group = reg.bgid};
	mutex_lock(&u->lock, &lc_pipe);
	if (ring_find(u, reg.bgid))
		err = -EEXIST;
	else if (u->nbuf_rings >= RINGS_MAX)
		err = -ENOMEM;
	if (!err) {
		list_add_tail(&r->link, &u->buf_rings);
		u->nbuf_rings++;
		r = NULL;
	}
	mutex_unlock(&u->lock, &lc_pipe);
	free(r);
	return err;
}

int uring_unregister_buf_ring(struct task *t, struct uring *u, uaddr_t arg, unsigned n)
{
	struct io_uring_buf_reg reg;

	if (n != 1)
		return -EINVAL;
	if (copy_in_val(&t->um, &reg, arg))
		return -EFAULT;
	if (reg.pad || reg.resv[0] || reg.resv[1] || reg.resv[2])
		return -EINVAL;
	mutex_lock(&u->lock, &lc_pipe);
	struct uring_buf_ring *r = ring_find(u, reg.bgid);
	if (r) {
		list_del(&r->link);
		u->nbuf_rings--;
	}
	mutex_unlock(&u->lock, &lc_pipe);
	free(r);
	return r ? 0 : -ENOENT;
}

/* A copy of the group's ring as it is now. */
static bool ring_get(struct uring *u, uint16_t group, struct uring_buf_ring *out)
{
	mutex_lock(&u->lock, &lc_pipe);
	const struct uring_buf_ring *r = ring_find(u, group);
	if (r)
		*out = *r;
	mutex_unlock(&u->lock, &lc_pipe);
	return r;
}

/* Moves the head from where it was, if nobody else has, by one. */
static bool ring_move(struct uring *u, uint16_t group, uint16_t from, int by)
{
	mutex_lock(&u->lock, &lc_pipe);
	struct uring_buf_ring *r = ring_find(u, group);
	bool same = r && r->head == from;
	if (same)
		r->head = (uint16_t)(r->head + by);
	mutex_unlock(&u->lock, &lc_pipe);
	return same;
}

/* The next buffer of a ring: memory of the guest's, read once. */
static int ring_take(struct task *h, struct uring *u, const struct uring_buf_ring *r,
		     struct uring_choice *c)
{
	uaddr_t base = UADDR(r->addr);
	struct io_uring_buf b;
	uint16_t tail;

	if (copy_in_val(&h->um, &tail, uaddr_add(base, offsetof(struct io_uring_buf_ring, tail))))
		return -EFAULT;
	if (tail == r->head)
		return -ENOBUFS;
	if (copy_in_val(&h->um, &b, uaddr_add(base, (r->head & (r->entries - 1)) * sizeof(b))))
		return -EFAULT;
	if (!ring_move(u, r->group, r->head, 1))
		return -EAGAIN;
	*c = (struct uring_choice){
		.addr = b.addr, .len = b.len, .id = b.bid, .group = r->group, .head = r->head};
	return 0;
}

/* ---- choosing ---- */

int uring_buf_take(struct task *h, struct uring *u, uint16_t group, struct uring_choice *c)
{
	struct uring_buf_ring r;

	for (int i = 0; i < RETRIES && ring_get(u, group, &r); i++) {
		int err = ring_take(h, u, &r, c);
		if (err != -EAGAIN)
			return err;
	}
	struct uring_buf *b = single_take(u, group);
	if (!b)
		return -ENOBUFS;
	*c = (struct uring_choice){.addr = b->addr, .len = b->len, .id = b->id, .single = b};
	return 0;
}

void uring_buf_used(struct uring_choice *c)
{
	free(c->single);
}

void uring_buf_give_back(struct uring *u, struct uring_choice *c)
{
	if (c->single)
		single_give_back(u, c->single);
	else /* others have gone on: it is lost, as its place in the ring is */
		(void)ring_move(u, c->group, (uint16_t)(c->head + 1), -1);
}

/*
 * What travels with a fast call and with its answer (stub/marshal.c).
 *
 * data[] of the page set holds first the bytes that came with the call, then those that its results
 * are: whoever puts off a copy gives up the former.  Both are the guest's own; it may spoil them.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <string.h>

void marshal_take(struct p_thread *th, const struct st_event *ev)
{
	window_leave(th);
	th->in_len = 0;
	th->nlate = 0;
	th->late_failed = false;
	if (!th->fast || !(ev->flags & ST_EV_BROUGHT))
		return;
	th->in_addr = ev->addr;
	th->in_len = MIN(ev->trapno, sizeof(th->ps->data));
}

bool marshal_copy_in(struct p_thread *th, void *dst, uint64_t src, size_t n)
{
	uint64_t skip = src - th->in_addr;

	if (!th->in_len || src < th->in_addr || skip > th->in_len || n > th->in_len - skip)
		return false;
	memcpy(dst, th->ps->data + skip, n);
	return true;
}

bool thread_copy_out_late(struct p_thread *th, uint64_t dst, const void *src, size_t n)
{
	struct st_pageset *ps = th->ps;

	if (!th->fast || !atomic_load_explicit(&th->direct, memory_order_relaxed))
		return false;
	if (th->window || th->kept)
		return false;
	size_t used = th->nlate ? th->late_used : 0;
	if (th->nlate == ST_LATE_MAX || n > sizeof(ps->data) - used)
		return false;
	th->in_len = 0;
	memcpy(ps->data + used, src, n);
	th->late[th->nlate++] =
		(struct st_late){dst, th->ps_addr + offsetof(struct st_pageset, data) + used, n, 0};
	th->late_used = used + n;
	return true;
}

static void flush_one(struct p_thread *th, const struct st_late *l)
{
	long r = l->file ? kept_move(th, (int)l->file - 1, l->src, l->dst, l->len, false)
			 : thread_copy(th, l->dst, l->src, l->len);

	if (r == (l->file ? (long)l->len : 0))
		return;
	th->late_failed = true;
	th->late_result = l->file && r >= 0 ? r : -EFAULT;
}

void marshal_flush(struct p_thread *th)
{
	unsigned n = th->nlate;

	th->in_len = 0;
	th->nlate = 0;
	for (unsigned i = 0; i < n; i++)
		flush_one(th, &th->late[i]);
	window_leave(th);
}

void thread_settle(struct p_thread *th)
{
	marshal_flush(th);
	if (th->late_failed)
		th->regs.rax = (uint64_t)th->late_result;
	th->late_failed = false;
}

void marshal_send(struct p_thread *th)
{
	struct st_pageset *ps = th->ps;

	memcpy(ps->late, th->late, sizeof(ps->late));
	ps->nlate = th->nlate;
	ps->late_retry = th->window || th->kept;
	th->nlate = 0;
}

/*
 * Descriptors of files that a guest's process keeps, so that its stub makes the reads and writes of
 * large pieces itself: one copy, at the host's own price, with the host's own idea of where a file
 * ends.
 *
 * What a guest could do with them: no more than with the mapping that it may have of the same file,
 * since they have the access that some open of the guest's gave; what can be written can also be
 * made longer, as by ftruncate(2).  The numbers are the stub's word, and count only in what it is
 * told to do with them.
 *
 * A file's descriptor is worth sending (it costs some microseconds) once it is read or written in
 * earnest.  The one not used for longest makes room.  A file that is read on and on needs no word
 * of the sentry's for each piece: the stub moves the position (a stream) and says how far it got
 * with the next event, which comes at the end of the file at the latest.  Children that are forked
 * have their parents'. When nobody has the file open any more, forget_file() marks them, and each
 * process closes its own as it is resumed the next time.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <string.h>

/* So many bytes in all are in earnest, as are P_MOVE_MIN at a time. */
#define IN_ALL (64UL << 10)

static struct kept *kept_find(struct p_aspace *as, const struct p_file *f, bool write)
{
	for (int i = 0; i < ST_KEPT; i++) {
		struct kept *k = &as->kept[i];
		if (k->fd >= 0 && !k->gone && k->write == write && k->key[0] == f->key[0] &&
		    k->key[1] == f->key[1])
			return k;
	}
	return NULL;
}

static bool in_earnest(struct p_aspace *as, const struct p_file *f, size_t n, bool write)
{
	struct interest *at = NULL;

	if (n >= P_MOVE_MIN)
		return true;
	for (int i = 0; i < ST_KEPT && !at; i++) {
		struct interest *it = &as->interest[i];
		if (it->write == write && it->key[0] == f->key[0] && it->key[1] == f->key[1])
			at = it;
	}
	if (!at) {
		at = &as->interest[as->next_interest++ % ST_KEPT];
		*at = (struct interest){.key = {f->key[0], f->key[1]}, .write = write};
	}
	at->bytes += n;
	return at->bytes >= IN_ALL;
}

/* A free one, or the one not used for longest; NULL when threads are in all of them. */
static struct kept *kept_choose(struct p_aspace *as)
{
	struct kept *best = NULL;

	for (int i = 0; i < ST_KEPT; i++) {
		struct kept *k = &as->kept[i];
		if (k->fd < 0)
			return k;
		if (!atomic_load(&k->users) && (!best || k->used < best->used))
			best = k;
	}
	return best;
}

static uint64_t bit_of(const struct kept *k)
{
	return k->fd < 0 ? 0 : 1UL << k->fd;
}

static bool kept_receive(struct p_thread *th, struct kept *k, const struct p_file *f, bool write)
{
	struct p_aspace *as = th->as;

	th->ps->arg[0] = bit_of(k);
	th->ps->ctl_fd = as->guest_ctl;
	long fd = command_send_fds(as, &f->fd, 1);
	if (!fd)
		fd = command_run(th, ST_CMD_KEEP);
	mutex_lock(&as->pf->lock, &lc_platform);
	*k = (struct kept){.key = {f->key[0], f->key[1]}, .write = write, .fd = -1};
	if (fd > ST_FD_DOORBELL && fd < ST_KEPT_END)
		k->fd = (int)fd;
	mutex_unlock(&as->pf->lock, &lc_platform);
	return k->fd >= 0;
}

/* cmd_lock is held.  The caller, if it is done, is one of its users. */
static enum p_lend kept_get(struct p_thread *th, const struct p_file *f, size_t n, bool write,
			    struct kept **out)
{
	struct p_aspace *as = th->as;
	struct kept *k = kept_find(as, f, write);

	if (!k) {
		if (!in_earnest(as, f, n, write) || !(k = kept_choose(as)))
			return P_LEND_NO;
		if (f->fd < 0)
			return P_LEND_FD;
		marshal_flush(th);
		if (!kept_receive(th, k, f, write))
			return P_LEND_NO;
	}
	atomic_fetch_add(&k->users, 1);
	k->used = ++as->window_clock;
	*out = k;
	return P_LEND_DONE;
}

static void kept_put(struct p_thread *th, struct kept *k)
{
	if (k && atomic_fetch_sub(&k->users, 1) == 1 && k->gone)
		atomic_store(&th->as->kept_gone, true);
}

void kept_leave(struct p_thread *th)
{
	struct kept *k = th->kept;

	th->kept = NULL;
	kept_put(th, k);
}

/* ---- streams: a file that is read on and on, by the stub alone ---- */

_Static_assert(ST_STREAMS == P_STREAMS && ST_STREAM_MAX == P_MOVE_MAX, "platform.h");

bool lent_stream_begin(struct p_thread *th, unsigned i, int fd)
{
	if (!th->kept)
		return false;
	lent_stream_end(th, i);
	th->streams[i] = th->kept;
	atomic_fetch_add(&th->kept->users, 1);
	th->ps->streams[i] = (struct st_stream){(uint32_t)fd + 1, (uint32_t)th->kept->fd, 0};
	return true;
}

bool lent_stream_go(struct p_thread *th, unsigned i, int64_t pos)
{
	st_put(th->ps->streams[i].pos, pos);
	return th->streams[i] && !th->streams[i]->gone;
}

int64_t lent_stream_pos(struct p_thread *th, unsigned i)
{
	return __atomic_load_n(&th->ps->streams[i].pos, __ATOMIC_RELAXED);
}

void lent_stream_end(struct p_thread *th, unsigned i)
{
	struct kept *k = th->streams[i];

	if (!k)
		return;
	th->streams[i] = NULL;
	th->ps->streams[i].fd = 0;
	kept_put(th, k);
}

void lent_streams_leave(struct p_thread *th)
{
	for (unsigned i = 0; i < ST_STREAMS; i++)
		lent_stream_end(th, i);
}

enum p_lend kept_read_late(struct p_thread *th, const struct p_file *f, uint64_t off, uint64_t addr,
			   size_t n)
{
	struct kept *k;
	enum p_lend got = n > P_MOVE_MAX ? P_LEND_NO : kept_get(th, f, n, false, &k);

	if (got != P_LEND_DONE)
		return got;
	th->kept = k;
	th->in_len = 0;
	th->late[0] = (struct st_late){addr, off, n, (uint64_t)k->fd + 1};
	th->nlate = 1;
	return P_LEND_DONE;
}

long kept_move(struct p_thread *th, int fd, uint64_t off, uint64_t addr, size_t n, bool write)
{
	struct st_pageset *ps = th->ps;

	ps->arg[0] = (uint64_t)fd << 1 | write;
	ps->arg[1] = addr;
	ps->arg[2] = n;
	ps->arg[3] = off;
	th->cmd_patient = true;
	long r = command_run(th, ST_CMD_MOVE);
	th->cmd_patient = false;
	return r > (long)n || r < -4095 ? -EIO : r;
}

ssize_t thread_move_file(struct p_thread *th, const struct p_file *f, uint64_t off, uint64_t addr,
			 size_t n, bool write)
{
	struct p_aspace *as = th->as;
	struct kept *k;

	if (!n || n > P_MOVE_MAX || addr >= ST_TASK_SIZE || n > ST_TASK_SIZE - addr || th->nlate ||
	    atomic_load(&as->dead))
		return -EAGAIN;
	owed_run(th);
	mutex_lock(&as->cmd_lock, &lc_aspace);
	enum p_lend got = kept_get(th, f, n, write, &k);
	mutex_unlock(&as->cmd_lock, &lc_aspace);
	if (got != P_LEND_DONE)
		return got == P_LEND_FD ? -EBADF : -EAGAIN;
	th->kept = k;
	long r = kept_move(th, k->fd, off, addr, n, write);
	kept_leave(th);
	return r;
}

void systrap_forget_file(struct platform *p, const uint64_t key[2])
{
	struct systrap *pf = container_of(p, struct systrap, base);
	struct p_aspace *as;

	mutex_lock(&pf->lock, &lc_platform);
	list_for_each (as, &pf->aspaces, link) {
		for (int i = 0; i < ST_KEPT; i++) {
			struct kept *k = &as->kept[i];
			if (k->fd < 0 || k->key[0] != key[0] || k->key[1] != key[1])
				continue;
			k->gone = true;
			atomic_store(&as->kept_gone, true);
		}
	}
	mutex_unlock(&pf->lock, &lc_platform);
}

/* Those that threads are in are closed after they have left. */
void kept_close_gone(struct p_thread *th)
{
	struct p_aspace *as = th->as;
	uint64_t mask = 0;

	atomic_store(&as->kept_gone, false);
	mutex_lock(&as->cmd_lock, &lc_aspace);
	mutex_lock(&as->pf->lock, &lc_platform);
	for (int i = 0; i < ST_KEPT; i++) {
		struct kept *k = &as->kept[i];
		if (k->fd < 0 || !k->gone || atomic_load(&k->users))
			continue;
		mask |= bit_of(k);
		k->fd = -1;
	}
	mutex_unlock(&as->pf->lock, &lc_platform);
	if (mask) {
		th->ps->arg[0] = mask;
		(void)!command_run(th, ST_CMD_CLOSE);
	}
	mutex_unlock(&as->cmd_lock, &lc_aspace);
}

uint64_t kept_mask(const struct p_aspace *as)
{
	uint64_t mask = 0;

	for (int i = 0; i < ST_KEPT; i++)
		mask |= bit_of(&as->kept[i]);
	return mask;
}

void kept_reset(struct p_aspace *as)
{
	mutex_lock(&as->pf->lock, &lc_platform);
	for (int i = 0; i < ST_KEPT; i++)
		as->kept[i] = (struct kept){.fd = -1};
	mutex_unlock(&as->pf->lock, &lc_platform);
	memset(as->interest, 0, sizeof(as->interest));
}

void kept_inherit(struct p_aspace *child, const struct p_aspace *parent)
{
	for (int i = 0; i < ST_KEPT; i++) {
		const struct kept *k = &parent->kept[i];
		child->kept[i] = (struct kept){.key = {k->key[0], k->key[1]},
					       .write = k->write,
					       .gone = k->gone,
					       .fd = k->fd};
	}
	atomic_store(&child->kept_gone, atomic_load(&parent->kept_gone));
}

/*
 * Windows: mappings of files above the guest's addresses, through which a guest's process moves the
 * bytes of read(2) and write(2) itself, as the call returns (marshal.c): no host call, and no bytes
 * that travel from one CPU's cache to another's.
 *
 * A window shows ST_WINDOW_LEN bytes of one file, with the access that some open of the guest's
 * gave, as a mapping of the guest's own would; the guest may read or spoil what it shows at any
 * time.  A mapping costs some system calls and the faults at its first use, so a part of a file has
 * to be read or written several times before it gets one.  The one not used for longest makes room.
 *
 * A thread whose answer goes through a window keeps it in place until its next event.  Forked
 * children do not have their parents' windows.
 */
#include "platform/systrap/internal.h"

#include <sys/mman.h>
#include <sys/syscall.h>

/* A call's score is 1, and 1 more for each SCORE_BYTES; at HOT it is time. */
#define SCORE_BYTES (16UL << 10)
#define HOT 6
#define SMALL 4096

static bool is_same(const uint64_t key[2], uint64_t index, const struct p_file *f, uint64_t at)
{
	return key[0] == f->key[0] && key[1] == f->key[1] && index == at;
}

static struct window *window_find(struct p_aspace *as, const struct p_file *f, uint64_t index)
{
	for (int i = 0; i < ST_WINDOWS; i++) {
		struct window *w = &as->windows[i];
		if (w->mapped && is_same(w->key, w->index, f, index))
			return w;
	}
	return NULL;
}

/*
 * What goes on where the last move ended is not read again, however much it is: a mapping that is
 * used once costs more than it saves, where descriptors (lent.c) can be had.
 */
static bool is_hot(struct p_aspace *as, const struct p_file *f, uint64_t off, size_t n)
{
	uint64_t index = off / ST_WINDOW_LEN;
	struct warmth *w = NULL;

	for (int i = 0; i < ST_WINDOWS && !w; i++)
		if (is_same(as->warmth[i].key, as->warmth[i].index, f, index))
			w = &as->warmth[i];
	if (!w) {
		w = &as->warmth[as->next_warmth++ % ST_WINDOWS];
		*w = (struct warmth){{f->key[0], f->key[1]}, index, 0, index * ST_WINDOW_LEN};
	}
	if (n <= SMALL || off != w->next)
		w->score += 1 + n / SCORE_BYTES;
	w->next = off + n;
	return w->score >= HOT;
}

/* The one not used for longest, or NULL when threads are in all of them. */
static struct window *window_choose(struct p_aspace *as)
{
	struct window *best = NULL;

	for (int i = 0; i < ST_WINDOWS; i++) {
		struct window *w = &as->windows[i];
		if (!atomic_load(&w->users) && (!best || w->used < best->used))
			best = w;
	}
	return best;
}

static bool window_map(struct p_thread *th, struct window *w, const struct p_file *f,
		       uint64_t index, bool write)
{
	struct p_aspace *as = th->as;
	struct st_pageset *ps = th->ps;
	uint64_t at = ST_WINDOW((uint64_t)(w - as->windows));
	int prot = write ? PROT_READ | PROT_WRITE : PROT_READ;

	w->mapped = false;
	ps->ops[0] = (struct st_op){.nr = SYS_mmap,
				    .flags = ST_OP_FD,
				    .arg = {at, ST_WINDOW_LEN, (uint64_t)prot,
					    MAP_SHARED | MAP_FIXED, 0, index * ST_WINDOW_LEN}};
	ps->ops[1] = (struct st_op){.nr = SYS_madvise, .arg = {at, ST_WINDOW_LEN, MADV_DONTFORK}};
	ps->nops = 2;
	ps->nfds = 1;
	ps->ctl_fd = as->guest_ctl;
	if (command_send_fds(as, &f->fd, 1) || command_run(th, ST_CMD_OPS) ||
	    __atomic_load_n(&ps->ops[0].ret, __ATOMIC_RELAXED) != (int64_t)at ||
	    __atomic_load_n(&ps->ops[1].ret, __ATOMIC_RELAXED))
		return false;
	w->key[0] = f->key[0];
	w->key[1] = f->key[1];
	w->index = index;
	w->writable = write;
	w->mapped = true;
	return true;
}

/* cmd_lock is held. */
static enum p_lend window_get(struct p_thread *th, const struct p_file *f, uint64_t off, size_t n,
			      bool write, struct window **out)
{
	struct p_aspace *as = th->as;
	uint64_t index = off / ST_WINDOW_LEN;
	struct window *w = window_find(as, f, index);

	if (!w || (write && !w->writable)) {
		if (w && atomic_load(&w->users))
			return P_LEND_NO;
		if (!w && (!is_hot(as, f, off, n) || !(w = window_choose(as))))
			return P_LEND_NO;
		if (f->fd < 0)
			return P_LEND_FD;
		if (!window_map(th, w, f, index, write))
			return P_LEND_NO;
	}
	atomic_fetch_add(&w->users, 1);
	w->used = ++as->window_clock;
	*out = w;
	return P_LEND_DONE;
}

enum p_lend thread_copy_file_late(struct p_thread *th, const struct p_file *f, uint64_t off,
				  uint64_t addr, size_t n, bool write)
{
	struct p_aspace *as = th->as;
	uint64_t in = off % ST_WINDOW_LEN;
	struct window *w;

	if (!th->fast || th->nlate || !n || addr >= ST_TASK_SIZE || n > ST_TASK_SIZE - addr ||
	    atomic_load(&as->dead) || !atomic_load_explicit(&th->direct, memory_order_relaxed))
		return P_LEND_NO;
	enum p_lend got = P_LEND_NO;
	mutex_lock(&as->cmd_lock, &lc_aspace);
	if (!f->no_map && n <= ST_WINDOW_LEN - in)
		got = window_get(th, f, off, n, write, &w);
	if (got == P_LEND_NO && !write && n > SMALL) {
		got = kept_read_late(th, f, off, addr, n);
		mutex_unlock(&as->cmd_lock, &lc_aspace);
		return got;
	}
	mutex_unlock(&as->cmd_lock, &lc_aspace);
	if (got != P_LEND_DONE)
		return got;
	uint64_t at = ST_WINDOW((uint64_t)(w - as->windows)) + in;
	th->window = w;
	th->in_len = 0;
	th->late[0] = write ? (struct st_late){at, addr, n, 0} : (struct st_late){addr, at, n, 0};
	th->nlate = 1;
	return P_LEND_DONE;
}

void window_leave(struct p_thread *th)
{
	if (th->window)
		atomic_fetch_sub(&th->window->users, 1);
	th->window = NULL;
	kept_leave(th);
}

void window_reset(struct p_aspace *as)
{
	mutex_lock(&as->cmd_lock, &lc_aspace);
	for (int i = 0; i < ST_WINDOWS; i++) {
		as->windows[i].mapped = false;
		as->warmth[i].score = 0;
	}
	mutex_unlock(&as->cmd_lock, &lc_aspace);
}

/*
 * The sentry's side of level 0: what the stub may answer from (stub/answer.c).  All of it lies in
 * page sets; it is written there only when it changes, so that a round trip carries no more of the
 * page set from CPU to CPU than it has to.
 */
#include "platform/systrap/internal.h"

#include <string.h>

#include "platform/vdso.h"

void thread_set_ids(struct p_thread *th, const struct p_ids *ids)
{
	const struct st_ids new = {ids->pid, ids->tid, ids->uid, ids->euid, ids->gid, ids->egid};

	if (memcmp(&th->ps->ids, &new, sizeof(new)))
		th->ps->ids = new;
}

void notes_fetch(struct p_thread *th)
{
	const struct st_pageset *ps = th->ps;
	uint32_t new = __atomic_load_n(&ps->notes_given, __ATOMIC_RELAXED);

	if (new &ST_NOTE_ROBUST_LIST) {
		th->notes.robust = true;
		th->notes.robust_list = __atomic_load_n(&ps->robust_list, __ATOMIC_RELAXED);
	}
	if (new &ST_NOTE_CLEAR_TID) {
		th->notes.clear_tid = true;
		th->notes.clear_child_tid = __atomic_load_n(&ps->clear_tid, __ATOMIC_RELAXED);
	}
}

bool thread_take_notes(struct p_thread *th, struct p_notes *out)
{
	if (!th->notes.robust && !th->notes.clear_tid)
		return false;
	*out = th->notes;
	th->notes = (struct p_notes){0};
	return true;
}

_Static_assert((int)P_KINS == (int)ST_KINS && (int)P_KIN_PARENT == (int)ST_KIN_PARENT &&
		       (int)P_KIN_GROUP == (int)ST_KIN_GROUP &&
		       (int)P_KIN_SESSION == (int)ST_KIN_SESSION,
	       "platform.h");

void thread_set_kin(struct p_thread *th, enum p_kin which, uint32_t pid)
{
	__atomic_store_n(&th->ps->kin[which], pid + 1, __ATOMIC_SEQ_CST);
}

void thread_set_clock_offset(struct p_thread *th, int64_t monotonic)
{
	st_put(th->ps->monotonic_offset, monotonic);
}

void thread_lend_mask(struct p_thread *th, uint64_t mask)
{
	struct st_pageset *ps = th->ps;

	if (__atomic_load_n(&ps->mask, __ATOMIC_RELAXED) != mask)
		__atomic_store_n(&ps->mask, mask, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&ps->mask_lent, __ATOMIC_RELAXED))
		__atomic_store_n(&ps->mask_lent, 1, __ATOMIC_SEQ_CST);
	atomic_thread_fence(memory_order_seq_cst);
}

void thread_recall_mask(struct p_thread *th)
{
	__atomic_store_n(&th->ps->mask_lent, 0, __ATOMIC_SEQ_CST);
}

uint64_t thread_lent_mask(struct p_thread *th)
{
	return __atomic_load_n(&th->ps->mask, __ATOMIC_SEQ_CST);
}

void systrap_stats(struct platform *platform, struct p_stats *out)
{
	struct systrap *pf = systrap_of(platform);
	struct p_aspace *as;
	struct p_thread *th;

	mutex_lock(&pf->lock, &lc_platform);
	*out = pf->stats;
	list_for_each (as, &pf->aspaces, link)
		list_for_each (th, &as->threads, link)
			out->answered += __atomic_load_n(&th->ps->answered, __ATOMIC_RELAXED);
	mutex_unlock(&pf->lock, &lc_platform);
}

/* ---- the vDSO ---- */

void vdso_learn(struct systrap *pf)
{
	pf->limits.vdso_clock = vdso_function(&pf->limits, "__vdso_clock_gettime");
	pf->vdso_getcpu = vdso_function(&pf->limits, "__vdso_getcpu");
}

void vdso_publish(struct p_thread *th)
{
	if (th->as->vdso_gone)
		return;
	th->ps->vdso_clock = th->as->pf->limits.vdso_clock;
	th->ps->vdso_getcpu = th->as->pf->vdso_getcpu;
}

/* Guest code takes its vDSO away, or puts something else in its place. */
static void vdso_retract(struct p_aspace *as)
{
	struct p_thread *th;

	mutex_lock(&as->pf->lock, &lc_platform);
	as->vdso_gone = true;
	list_for_each (th, &as->threads, link)
		th->ps->vdso_clock = th->ps->vdso_getcpu = 0;
	mutex_unlock(&as->pf->lock, &lc_platform);
}

void vdso_before_op(struct p_thread *th, const struct p_memop *m)
{
	const struct p_limits *lim = &th->as->pf->limits;
	uint64_t end = lim->vdso_base + lim->vdso_len;

	if (!lim->vdso_base || m->kind == P_MEMOP_WAKE || m->kind == P_MEMOP_ADVISE ||
	    m->kind == P_MEMOP_CLEAR || m->kind == P_MEMOP_WRITE || m->kind == P_MEMOP_RESET)
		return;
	if ((m->addr < end && m->addr + m->len > lim->vvar_base) ||
	    (m->kind == P_MEMOP_MOVE && m->new_addr < end &&
	     m->new_addr + m->new_len > lim->vvar_base))
		vdso_retract(th->as);
}

/*
 * Operations that are put off until the thread is resumed: a process that maps its libraries does
 * little else than that, and a hand-off for the map and one for going on are one too many.
 *
 * Only where nobody could tell: the address space has one thread, and the kernel says, by calling,
 * that nothing but that thread's guest code comes next.  Whatever else wants the thread or its page
 * set has the operation done first; when it fails then, the next resume says so.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <sys/mman.h>

static bool can_wait(const struct p_thread *th, const struct p_memop *op)
{
	const struct p_limits *lim = &th->as->pf->limits;

	/* Hosts may refuse to change their vDSO. */
	if (lim->vdso_base && op->addr + op->len > lim->vvar_base)
		return false;
	switch (op->kind) {
	case P_MEMOP_MAP:
	case P_MEMOP_PROTECT:
		if (op->prot & PROT_EXEC)
			return false; /* text: patch.c has more to do about it */
		break;
	case P_MEMOP_UNMAP:
		break;
	default:
		return false;
	}
	return !th->owed && !th->owed_error && !atomic_load(&th->as->dead);
}

static bool is_alone(struct p_aspace *as)
{
	mutex_lock(&as->pf->lock, &lc_platform);
	bool alone = as->nthreads == 1;
	mutex_unlock(&as->pf->lock, &lc_platform);
	return alone;
}

bool thread_mem_later(struct p_thread *th, struct p_memop *op)
{
	struct patch_batch b;

	if (!can_wait(th, op) || !is_alone(th->as))
		return false;
	vdso_before_op(th, op);
	patch_begin(th, op, 1, &b);
	op->ret = command_put(th, op);
	patch_end(th, op, 1, &b);
	th->owed = op->ret == 0;
	th->owed_op = *op;
	return th->owed;
}

int thread_mem_settle(struct p_thread *th)
{
	int err = th->owed_error;

	th->owed_error = 0;
	if (!th->owed)
		return err;
	th->owed = false;
	long r = command_run(th, ST_CMD_OPS);
	if (r == 0)
		r = command_result(th, &th->owed_op, 0);
	return r < 0 ? (r > -4096 ? (int)r : -EFAULT) : 0;
}

void owed_run(struct p_thread *th)
{
	if (th->owed)
		th->owed_error = thread_mem_settle(th);
}

/*
 * Faults that the guest's own map explains: growth of the stack (design rule 24), or the code of a
 * SIGSEGV.
 */
#include <signal.h>
#include <sys/mman.h>

#include "sentry/mm/uffd.h"
#include "sentry/mm/vma.h"

/* Grown by at least this much, so that a deepening recursion faults seldom. */
#define GROW_MIN (128UL << 10)
#define GROW_MAX (1UL << 20)

/*
 * Was the page missing when th touched it?  Else a retry would fault for ever: the tree does not
 * know whether it was, say, an instruction fetch from a stack that is not executable.
 */
static bool was_unmapped(const struct mm *mm, struct p_thread *th)
{
	const struct p_event *ev = mm->pf->ops->event(th);

	return ev->kind != P_EVENT_SIGNAL || ev->si_code == SEGV_MAPERR;
}

static bool access_allowed(const struct vma *v, unsigned access)
{
	if (access & MM_ACCESS_EXEC)
		return v->prot & PROT_EXEC;
	return access & MM_ACCESS_WRITE ? v->prot & PROT_WRITE : v->prot != PROT_NONE;
}

/* The lowest start that v, which grows down, may have: its limit and the guard gap say it. */
static uint64_t lowest_start(const struct mm *mm, const struct vma *v)
{
	uint64_t low = mm->mmap_min;
	const struct vma *prev = vma_prev(v);

	if (v->end - v->start >= mm->rlimit_stack)
		return v->start;
	if (mm->rlimit_stack < v->end)
		low = MAX(low, page_up(v->end - mm->rlimit_stack));
	if (prev) {
		bool guarded = prev->prot != PROT_NONE && !(prev->flags & MAP_GROWSDOWN);
		low = MAX(low, prev->end + (guarded ? STACK_GUARD_GAP : 0));
	}
	return low;
}

/* Grows v down so far that it holds addr.  Under map_lock. */
static bool grow_down(struct mm *mm, struct p_thread *th, struct vma *v, uint64_t addr)
{
	uint64_t low = lowest_start(mm, v), need = page_down(addr);

	if (need < low || need >= v->start)
		return false;
	uint64_t step = v->end - v->start;
	step = MAX(MIN(step, GROW_MAX), GROW_MIN);
	uint64_t start = need > low + step ? need - step : low;
	if (!mm_may_expand(mm, v->start - start, false)) {
		start = need;
		if (!mm_may_expand(mm, v->start - start, false))
			return false;
	}
	struct p_memop op = mm_anon_op(start, v->start, v->prot);
	if (mm_run(mm, th, &op, 1))
		return false;
	mutex_lock(&mm->lock, &lc_mm);
	vma_resize(mm, v, start, v->end);
	mutex_unlock(&mm->lock, &lc_mm);
	return true;
}

bool mm_fault(struct mm *mm, struct p_thread *th, uint64_t addr, unsigned access, int *si_code)
{
	enum uffd_verdict verdict = UFFD_NO;
	struct uffd *u = NULL;
	bool retry = false;

	*si_code = SEGV_MAPERR;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	struct vma *v = addr < mm->task_size ? vma_find(mm, addr) : NULL;
	if (v && v->start <= addr) {
		*si_code = SEGV_ACCERR;
		/* A sibling has grown it since: the access will succeed now. */
		retry = v->flags & MAP_GROWSDOWN && access_allowed(v, access) &&
			was_unmapped(mm, th);
		if (v->hidden && access_allowed(v, access))
			verdict = uffd_fault(mm, th, v, addr, &u);
	} else if (v && v->flags & MAP_GROWSDOWN) {
		/* Linux grows first and judges the access when it is repeated. */
		retry = grow_down(mm, th, v, addr);
	}
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	if (verdict == UFFD_WAIT)
		return uffd_wait(u, addr, access & MM_ACCESS_WRITE, access & MM_ACCESS_USER);
	return retry || verdict == UFFD_RETRY;
}

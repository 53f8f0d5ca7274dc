/* mprotect(2), mseal(2), mlock(2) and their like: changes of what existing mappings are, not of
 * where. */
#include <errno.h>
#include <sys/mman.h>

#include "sentry/mm/uffd.h"
#include "sentry/mm/vma.h"

/* Not in every libc's headers: mprotect(2)'s "extend to the start (end) of a growing mapping". */
#define LINUX_PROT_SEM 0x8
#define LINUX_PROT_GROWSDOWN 0x01000000
#define LINUX_PROT_GROWSUP 0x02000000

static void set_prot(struct vma *v, void *arg)
{
	v->prot = *(int *)arg;
	vma_note_writable(v);
}

static bool prot_allowed(const struct vma *v, int prot)
{
	return (v->may_write || !(prot & PROT_WRITE)) && (v->may_exec || !(prot & PROT_EXEC));
}

/* What PR_MDWE_REFUSE_EXEC_GAIN refuses: code that is, or was, data. */
static bool gains_exec(const struct vma *v, int prot)
{
	return prot & PROT_EXEC && (prot & PROT_WRITE || !(v->prot & PROT_EXEC));
}

/*
 * How far the change gets: Linux works from mapping to mapping and stops at the first that is
 * missing or refuses, with the ones before it changed.  Returns the errno for the stop, or 0.
 */
static int protect_reach(const struct mm *mm, uint64_t start, uint64_t end, int prot,
			 uint64_t *stop)
{
	uint64_t new_data = 0;
	const struct vma *v = vma_find(mm, start);

	for (*stop = start; *stop < end; v = vma_next(v)) {
		if (!v || v->start > *stop)
			return -ENOMEM;
		if (v->sealed)
			return -EPERM;
		if (!prot_allowed(v, prot) || (mm->mdwe && gains_exec(v, prot)))
			return -EACCES;
		uint64_t upto = MIN(v->end, end);
		if (vma_is_data(prot, v->flags) && !vma_is_data(v->prot, v->flags)) {
			uint64_t len = upto - *stop;
			bool data_ok = mm->data_pages + ((new_data + len) >> PAGE_SHIFT) <=
				       mm->rlimit_data >> PAGE_SHIFT;
			if (!data_ok || (!(v->flags & MAP_NORESERVE) && !mm_may_commit(len)))
				return -ENOMEM;
			new_data += len;
		}
		*stop = upto;
	}
	return 0;
}

static int protect_locked(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
			  int prot, struct vma **dead)
{
	uint64_t stop;
	int stopped = protect_reach(mm, start, end, prot, &stop);

	if (stop == start)
		return stopped;
	if (mm->nvmas + vma_cuts(mm, start, stop) > VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 2);
	if (err)
		return err;

	struct p_memop op = {.kind = P_MEMOP_PROTECT,
			     .addr = start,
			     .len = stop - start,
			     .prot = mm_host_prot(prot),
			     .fd = -1};
	bool hidden = uffd_any_hidden(mm, start, stop);
	/* Less than before is never refused. */
	bool later = !hidden && !(prot & PROT_WRITE) && mm_run_later(mm, th, &op, MM_LATE_OTHER);
	if (hidden)
		err = uffd_protect(mm, th, start, stop, prot);
	else if (!later)
		err = mm_run(mm, th, &op, 1);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, stop, set_prot, &prot, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return stopped;
}

int mm_protect(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len, int prot)
{
	int grows = prot & (LINUX_PROT_GROWSDOWN | LINUX_PROT_GROWSUP);
	uint64_t end;

	prot &= ~grows;
	if (grows == (LINUX_PROT_GROWSDOWN | LINUX_PROT_GROWSUP))
		return -EINVAL;
	if (addr & ~PAGE_MASK)
		return -EINVAL;
	if (!len)
		return 0;
	int err = mm_check_range(addr, len, -ENOMEM, &end);
	if (err)
		return err;
	if (end == addr || addr >= mm->task_size)
		return -ENOMEM;
	if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC | LINUX_PROT_SEM))
		return -EINVAL;
	prot &= ~LINUX_PROT_SEM;
	if (grows == LINUX_PROT_GROWSUP)
		return -EINVAL; /* nothing grows up on this architecture */

	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	if (grows) {
		const struct vma *v = vma_find(mm, addr);
		if (!v || v->start >= end)
			err = -ENOMEM;
		else if (!(v->flags & MAP_GROWSDOWN))
			err = -EINVAL;
		else
			addr = v->start;
	}
	if (!err)
		err = protect_locked(mm, th, addr, MIN(end, mm->task_size), prot, &dead);
	if (!err && end > mm->task_size)
		err = -ENOMEM;
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

/* ---- mseal ---- */

static void set_sealed(struct vma *v, void *arg)
{
	(void)arg;
	v->sealed = true;
}

static int seal_locked(struct mm *mm, uint64_t start, uint64_t end, struct vma **dead)
{
	if (vma_mapped_bytes(mm, start, end) != end - start)
		return -ENOMEM;
	if (mm->nvmas + vma_cuts(mm, start, end) > VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 2);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, end, set_sealed, NULL, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

int mm_seal(struct mm *mm, uint64_t addr, uint64_t len)
{
	uint64_t end;
	int err = mm_check_range(addr, len, -EINVAL, &end);

	if (err || (len && end == addr))
		return -EINVAL;
	if (!len)
		return 0;
	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	err = seal_locked(mm, addr, end, &dead);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

/* ---- mlock: counted, not pinned ---- */

static void set_locked(struct vma *v, void *arg)
{
	v->locked = *(bool *)arg;
}

static int lock_locked(struct mm *mm, uint64_t start, uint64_t end, bool on, struct vma **dead)
{
	uint64_t stop = start;
	const struct vma *v = vma_find(mm, start);

	while (stop < end && v && v->start <= stop) {
		stop = v->end;
		v = vma_next(v);
	}
	stop = MIN(stop, end);
	int stopped = stop < end ? -ENOMEM : 0;
	if (stop == start)
		return stopped;
	if (mm->nvmas + vma_cuts(mm, start, stop) > VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 2);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, stop, set_locked, &on, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return stopped;
}

int mm_lock_range(struct mm *mm, uint64_t addr, uint64_t len, bool on)
{
	uint64_t start = page_down(addr), end;
	int err = mm_check_range(start, len + (addr - start), -EINVAL, &end);
	if (err || end == start)
		return err;

	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	err = lock_locked(mm, start, end, on, &dead);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

int mm_lock_allowed(struct mm *mm, uint64_t addr, uint64_t len, bool exempt)
{
	uint64_t start = page_down(addr), end;

	if (exempt)
		return 0;
	int err = mm_check_range(start, len + (addr - start), -EINVAL, &end);
	if (err)
		return err;

	mutex_lock(&mm->lock, &lc_mm);
	uint64_t limit = mm->rlimit_memlock >> PAGE_SHIFT;
	uint64_t pages = mm->locked_pages + ((end - start) >> PAGE_SHIFT);
	if (pages > limit) /* what is locked already does not count twice */
		for (const struct vma *v = vma_find(mm, start); v && v->start < end;
		     v = vma_next(v))
			if (v->locked)
				pages -= (MIN(v->end, end) - MAX(v->start, start)) >> PAGE_SHIFT;
	if (!mm->rlimit_memlock)
		err = -EPERM;
	else if (pages > limit)
		err = -ENOMEM;
	mutex_unlock(&mm->lock, &lc_mm);
	return err;
}

int mm_lock_all(struct mm *mm, bool current, bool future, bool exempt)
{
	struct vma *dead = NULL;
	bool on = true;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	mutex_lock(&mm->lock, &lc_mm);
	int err = 0;
	if (!exempt && !mm->rlimit_memlock)
		err = -EPERM;
	else if (!exempt && current && mm->total_pages > mm->rlimit_memlock >> PAGE_SHIFT)
		err = -ENOMEM;
	if (!err) {
		mm->lock_future = future;
		mm->lock_exempt = exempt;
		if (current) /* no cuts: every mapping is inside the range */
			vma_change(mm, 0, UINT64_MAX, set_locked, &on, &dead);
	}
	mutex_unlock(&mm->lock, &lc_mm);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

void mm_unlock_all(struct mm *mm)
{
	struct vma *dead = NULL;
	bool on = false;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	mutex_lock(&mm->lock, &lc_mm);
	mm->lock_future = false;
	vma_change(mm, 0, UINT64_MAX, set_locked, &on, &dead);
	mutex_unlock(&mm->lock, &lc_mm);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
}

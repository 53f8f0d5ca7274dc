/*
 * madvise(2), msync(2), mincore(2).
 *
 * Advice about pages goes to the host process, which owns them; advice about mappings (fork,
 * dumps) is the tree's.  MADV_REMOVE and MADV_DOFORK never reach the host (design rule 1): the
 * first is done on the file, the other when the sentry forks.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <sys/mman.h>

#include "sentry/lib/cleanup.h"
#include "sentry/mm/uffd.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
enum advice_kind {
	ADVICE_UNKNOWN,
	ADVICE_HINT,	/* accepted, nothing to do */
	ADVICE_HOST,	/* performed by the host process */
	ADVICE_MAPPING, /* a property of the mapping */
	ADVICE_REMOVE,
	ADVICE_POISON,
};

static enum advice_kind advice_kind(int advice)
{
	switch (advice) {
	case MADV_NORMAL:
	case MADV_RANDOM:
	case MADV_SEQUENTIAL:
		return ADVICE_HINT;
	case MADV_DONTNEED:
	case MADV_FREE:
	case MADV_WILLNEED:
	case MADV_COLD:
	case MADV_PAGEOUT:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_POPULATE_READ:
	case MADV_POPULATE_WRITE:
	case MADV_DONTNEED_LOCKED:
	case MADV_COLLAPSE:
		return ADVICE_HOST;
	case MADV_DONTFORK:
	case MADV_DOFORK:
	case MADV_WIPEONFORK:
	case MADV_KEEPONFORK:
	case MADV_DONTDUMP:
	case MADV_DODUMP:
		return ADVICE_MAPPING;
	case MADV_REMOVE:
		return ADVICE_REMOVE;
	case MADV_HWPOISON:
	case MADV_SOFT_OFFLINE:
		return ADVICE_POISON;
	default:
		/* MADV_MERGEABLE too: shared pages between guests are a side channel. */
		return ADVICE_UNKNOWN;
	}
}

/* mseal(2): what may be written may be discarded, as can what somebody else keeps. */
static bool sealed_against(const struct vma *v, int advice)
{
	if (!v->sealed || vma_is_shared(v) || v->prot & PROT_WRITE)
		return false;
	return advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	       advice == MADV_REMOVE || advice == MADV_DONTFORK || advice == MADV_WIPEONFORK;
}

/* What Linux refuses for one mapping. */
static int advice_check(const struct vma *v, int advice)
{
	if (sealed_against(v, advice))
		return -EPERM;
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_COLD:
	case MADV_PAGEOUT:
		return v->locked ? -EINVAL : 0;
	case MADV_FREE:
	case MADV_WIPEONFORK:
		return vma_is_anon(v) ? 0 : -EINVAL;
	case MADV_POPULATE_READ:
		return v->prot & PROT_READ ? 0 : -EINVAL;
	case MADV_POPULATE_WRITE:
		return v->prot & PROT_WRITE ? 0 : -EINVAL;
	case MADV_REMOVE:
		if (v->locked || !v->file)
			return -EINVAL;
		return vma_is_shared(v) && v->prot & PROT_WRITE ? 0 : -EACCES;
	default:
		return 0;
	}
}

static void set_flags(struct vma *v, void *arg)
{
	switch (*(int *)arg) {
	case MADV_DONTFORK:
		v->dontfork = true;
		break;
	case MADV_DOFORK:
		v->dontfork = false;
		break;
	case MADV_WIPEONFORK:
		v->wipeonfork = true;
		break;
	case MADV_KEEPONFORK:
		v->wipeonfork = false;
		break;
	case MADV_DONTDUMP:
		v->dontdump = true;
		break;
	case MADV_DODUMP:
		v->dontdump = false;
		break;
	}
}

static int advise_mapping(struct mm *mm, uint64_t start, uint64_t end, int advice,
			  struct vma **dead)
{
	if (mm->nvmas + vma_cuts(mm, start, end) > VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 2);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, end, set_flags, &advice, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

static int advise_host(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end, int advice)
{
	/* Nothing is locked on the host. */
	if (advice == MADV_DONTNEED_LOCKED)
		advice = MADV_DONTNEED;
	struct p_memop op = {.kind = P_MEMOP_ADVISE,
			     .addr = start,
			     .len = end - start,
			     .flags = advice,
			     .fd = -1};
	if (uffd_any_hidden(mm, start, end)) {
		/* Pages may be dropped later, or never. */
		if (advice == MADV_FREE)
			return 0;
		int err = advice == MADV_DONTNEED ? uffd_before_drop(mm, th, start, end) : 0;
		if (err)
			return err;
	}
	return mm_run(mm, th, &op, 1);
}

/*
 * Works through [start, end): the longest run without a hole whose mappings all agree is one
 * operation.  A hole is skipped, except for the populating ones, and becomes ENOMEM at the end.
 * Without a thread of the address space (th NULL) the host process is not told.
 */
static int advise_locked(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
			 int advice, struct vma **dead)
{
	bool populate = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
	int result = 0;

	while (start < end) {
		const struct vma *v = vma_find_overlap(mm, start, end);
		if (!v || v->start > start) {
			result = -ENOMEM;
			if (!v || populate)
				break;
			start = v->start;
		}
		uint64_t stop = start;
		int err = 0;
		while (v && v->start <= stop && stop < end && !(err = advice_check(v, advice))) {
			stop = MIN(v->end, end);
			v = vma_next(v);
		}
		int done = 0;
		if (stop > start && th && advice_kind(advice) == ADVICE_HOST)
			done = advise_host(mm, th, start, stop, advice);
		else if (stop > start && advice_kind(advice) == ADVICE_MAPPING)
			done = advise_mapping(mm, start, stop, advice, dead);
		if (done || err)
			return done ? done : err;
		start = stop;
	}
	return result;
}

/* MADV_REMOVE: a hole in the file.  The file is asked without a lock, as it may take long. */
static int advise_remove(struct mm *mm, uint64_t start, uint64_t end)
{
	while (start < end) {
		struct vma v;
		if (!mm_lookup(mm, start, &v))
			return -ENOMEM;
		CLEANUP_FILE struct file *file = v.file;
		int err = advice_check(&v, MADV_REMOVE);
		if (err)
			return err;
		uint64_t stop = MIN(v.end, end);
		err = file_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     (int64_t)(v.off + (start - v.start)), (int64_t)(stop - start));
		if (err)
			return err;
		start = stop;
	}
	return 0;
}

int mm_advise(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len, int advice)
{
	enum advice_kind kind = advice_kind(advice);
	uint64_t end;

	if (kind == ADVICE_UNKNOWN)
		return -EINVAL;
	int err = mm_check_range(addr, len, -EINVAL, &end);
	if (!err && len && end == addr)
		return -EINVAL;
	if (err || end == addr)
		return err;
	if (kind == ADVICE_POISON)
		return -EPERM;
	if (kind == ADVICE_REMOVE)
		return advise_remove(mm, addr, end);

	/* What lies above the guest's range is a hole to it, and the platform's to the host. */
	uint64_t stop = MIN(end, mm->task_size);
	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	err = addr < stop ? advise_locked(mm, th, addr, stop, advice, &dead) : 0;
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return !err && stop < end ? -ENOMEM : err;
}

int mm_advise_remote(struct mm *mm, uint64_t addr, uint64_t len, int advice)
{
	return mm_advise(mm, NULL, addr, len, advice);
}

static void set_policy(struct vma *v, void *arg)
{
	v->policy = *(const struct mempolicy *)arg;
}

int mm_set_policy(struct mm *mm, uint64_t start, uint64_t end, const struct mempolicy *policy)
{
	struct mempolicy p = *policy;
	struct vma *dead = NULL;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	int err = vma_reserve(mm, 2);
	if (!err && p.mode && vma_mapped_bytes(mm, start, end) != end - start)
		err = -EFAULT;
	if (!err && mm->nvmas + vma_cuts(mm, start, end) > VMA_COUNT_MAX)
		err = -ENOMEM;
	if (!err) {
		mutex_lock(&mm->lock, &lc_mm);
		vma_change(mm, start, end, set_policy, &p, &dead);
		mutex_unlock(&mm->lock, &lc_mm);
	}
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

int mm_sync(struct mm *mm, uint64_t addr, uint64_t len, int flags)
{
	uint64_t end;
	int result = 0;

	if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC))
		return -EINVAL;
	if (flags & MS_ASYNC && flags & MS_SYNC)
		return -EINVAL;
	int err = mm_check_range(addr, len, -ENOMEM, &end);
	if (err)
		return err;

	while (addr < end) {
		struct vma v;
		mutex_lock(&mm->lock, &lc_mm);
		const struct vma *found = vma_find_overlap(mm, addr, end);
		if (found) {
			v = *found;
			if (v.file)
				file_get(v.file);
		}
		mutex_unlock(&mm->lock, &lc_mm);
		if (!found)
			return -ENOMEM;

		CLEANUP_FILE struct file *file = v.file;
		if (v.start > addr)
			result = -ENOMEM;
		if (flags & MS_INVALIDATE && v.locked)
			return -EBUSY;
		if (flags & MS_SYNC && file && vma_is_shared(&v) && file->ops->fsync &&
		    (err = file_fsync(file, true)))
			return err;
		addr = v.end;
	}
	return result;
}

/* Says of each page of [addr, end), which is mapped, whether it is there. */
static void mincore_fill(struct mm *mm, uint64_t addr, uint64_t end, uint8_t *vec)
{
	CLEANUP_FD int pagemap = mm_pagemap_open(mm);
	uint64_t bits[128];

	while (addr < end) {
		size_t n = MIN((end - addr) >> PAGE_SHIFT, ARRAY_SIZE(bits));
		size_t known = mm_page_bits(pagemap, addr, bits, n);
		for (size_t i = 0; i < n; i++) {
			bool file = true;
			if (i < known && !(bits[i] & MM_PAGE_PRESENT)) {
				mutex_lock(&mm->lock, &lc_mm);
				const struct vma *v = vma_find(mm, addr + i * PAGE_SIZE);
				file = v && v->file;
				mutex_unlock(&mm->lock, &lc_mm);
			}
			*vec++ = file;
		}
		addr += n * PAGE_SIZE;
	}
}

int mm_mincore(struct mm *mm, uint64_t addr, uint64_t len, uint8_t *vec)
{
	uint64_t end;
	int err = mm_check_range(addr, len, -ENOMEM, &end);

	if (err)
		return err;
	if (end > mm->task_size)
		return -ENOMEM;
	mutex_lock(&mm->lock, &lc_mm);
	bool whole = vma_mapped_bytes(mm, addr, end) == end - addr;
	mutex_unlock(&mm->lock, &lc_mm);
	if (!whole)
		return -ENOMEM;
	mincore_fill(mm, addr, end, vec);
	return 0;
}

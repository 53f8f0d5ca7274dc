/*
 * mremap(2).  The host moves pages; the tree moves the mapping.  A shrink is an munmap of the tail,
 * a growth happens in place when there is room and by a move otherwise.
 */
#include <errno.h>
#include <sys/mman.h>

#include "sentry/lib/cleanup.h"
#include "sentry/mm/uffd.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

struct remap {
	uint64_t old, old_len, new_len, new_addr;
	int flags;
	struct vma *v; /* the mapping that holds `old` */
	/* For what stays or comes anew under the same file; its reference is held. */
	struct file *file;
	int host_fd;
};

static int check_flags(const struct mm *mm, const struct remap *r)
{
	if (r->flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP))
		return -EINVAL;
	if (r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(r->flags & MREMAP_MAYMOVE))
		return -EINVAL;
	if (r->flags & MREMAP_DONTUNMAP && r->old_len != r->new_len)
		return -EINVAL;
	if (r->old & ~PAGE_MASK || !r->new_len)
		return -EINVAL;
	if (!(r->flags & MREMAP_FIXED))
		return 0;
	if (r->new_addr & ~PAGE_MASK || r->new_len > mm->task_size ||
	    r->new_addr > mm->task_size - r->new_len)
		return -EINVAL;
	if (r->old + r->old_len > r->new_addr && r->new_addr + r->new_len > r->old)
		return -EINVAL;
	return r->new_addr < mm->mmap_min ? -EPERM : 0;
}

/* May the mapping at r->v become new_len bytes long? */
static int check_growth(const struct mm *mm, const struct remap *r)
{
	const struct vma *v = r->v;
	uint64_t grow = r->new_len - r->old_len;

	if (r->old_len > v->end - r->old)
		return -EFAULT;
	if (r->flags & MREMAP_DONTUNMAP &&
	    !mm_may_expand(mm, r->new_len, vma_is_data(v->prot, v->flags)))
		return -ENOMEM;
	if (r->new_len <= r->old_len)
		return 0;
	if (v->file && v->off + (r->old - v->start) + r->new_len < r->new_len)
		return -EINVAL;
	if (v->locked && !mm->lock_exempt &&
	    mm->locked_pages + (grow >> PAGE_SHIFT) > mm->rlimit_memlock >> PAGE_SHIFT)
		return -EAGAIN;
	if (!mm_may_expand(mm, grow, vma_is_data(v->prot, v->flags)))
		return -ENOMEM;
	if (vma_is_data(v->prot, v->flags) && !(v->flags & MAP_NORESERVE) && !mm_may_commit(grow))
		return -ENOMEM;
	return 0;
}

static int unmap_range(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
		       struct vma **dead)
{
	struct p_memop op = {.kind = P_MEMOP_UNMAP, .addr = start, .len = end - start, .fd = -1};

	if (!vma_find_overlap(mm, start, end))
		return 0;
	int err = vma_reserve(mm, 2);
	if (!err)
		err = mm_run(mm, th, &op, 1);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_remove_range(mm, start, end, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

/* Tries to lengthen the mapping where it is; -ENOMEM: no room there. */
static int grow_in_place(struct mm *mm, struct p_thread *th, struct remap *r, struct vma **dead)
{
	uint64_t end = r->old + r->new_len;

	if (r->v->end != r->old + r->old_len || end > mm->task_size ||
	    !vma_range_free(mm, r->v->end, end - r->v->end))
		return -ENOMEM;
	struct p_memop op = {.kind = P_MEMOP_RESIZE,
			     .addr = r->old,
			     .len = r->old_len,
			     .new_len = r->new_len,
			     .fd = -1};
	int err = mm_run(mm, th, &op, 1);
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_resize(mm, r->v, r->v->start, end);
	vma_merge_up(mm, r->v, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

/* The operation that maps at `addr` again what r->v is. */
static struct p_memop again_op(const struct remap *r, uint64_t addr, uint64_t len)
{
	struct p_memop op = mm_anon_op(addr, addr + len, r->v->prot);

	if (r->host_fd >= 0) {
		op.flags = vma_is_shared(r->v) ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
		op.fd = r->host_fd;
		op.off = r->v->off + (r->old - r->v->start);
	}
	return op;
}

/* A node for [addr, addr+len) that is like r->v. */
static struct vma *clone_vma(struct mm *mm, const struct remap *r, uint64_t addr, uint64_t len)
{
	struct vma *v = vma_take(mm);

	*v = *r->v;
	v->next_free = NULL;
	if (v->file)
		file_get(v->file);
	v->off = r->v->off + (r->old - r->v->start);
	v->start = addr;
	v->end = addr + len;
	v->name = NULL;
	return v;
}

/* Moves the mapping (old_len 0: maps it a second time) to new_addr, which is free or FIXED. */
static int move_to(struct mm *mm, struct p_thread *th, struct remap *r, struct vma **dead)
{
	bool keep = !r->old_len || r->flags & MREMAP_DONTUNMAP;
	struct p_memop ops[2];
	size_t n = 0;

	/* One new node, two for the cut at each place, as Linux asks for a margin. */
	if (mm->nvmas + 4 > VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 6);
	if (err)
		return err;
	if (r->old_len)
		ops[n++] = (struct p_memop){.kind = P_MEMOP_MOVE,
					    .addr = r->old,
					    .len = r->old_len,
					    .new_addr = r->new_addr,
					    .new_len = r->new_len,
					    .fd = -1};
	else
		ops[n++] = again_op(r, r->new_addr, r->new_len);
	if (r->old_len && keep)
		ops[n++] = again_op(r, r->old, r->old_len);
	if ((err = mm_run(mm, th, ops, n)) && ops[0].ret < 0)
		return err;
	if (err)
		keep = false; /* moved, but the old place could not be mapped again */

	struct vma *v = clone_vma(mm, r, r->new_addr, r->new_len);
	mutex_lock(&mm->lock, &lc_mm);
	if (!keep)
		vma_remove_range(mm, r->old, r->old + r->old_len, dead);
	vma_remove_range(mm, r->new_addr, r->new_addr + r->new_len, dead);
	vma_insert(mm, v);
	mutex_unlock(&mm->lock, &lc_mm);
	return err;
}

static int remap_locked(struct mm *mm, struct p_thread *th, struct remap *r, struct vma **dead)
{
	int err;

	r->v = vma_find(mm, r->old);
	if (!r->v || r->v->start > r->old)
		return -EFAULT;
	/* Between the look-up of the descriptor and now, somebody else remapped. */
	if (r->v->file != r->file)
		return -EFAULT;
	if (vma_any_sealed(mm, r->old, r->old + MAX(r->old_len, PAGE_SIZE)))
		return -EPERM;
	if (!r->old_len && !vma_is_shared(r->v))
		return -EINVAL;
	if (r->flags & MREMAP_FIXED && vma_any_sealed(mm, r->new_addr, r->new_addr + r->new_len))
		return -EPERM;

	if (!(r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && r->old_len >= r->new_len) {
		r->new_addr = r->old;
		if (r->old_len == r->new_len)
			return 0;
		return unmap_range(mm, th, r->old + r->new_len, r->old + r->old_len, dead);
	}
	if (r->flags & MREMAP_FIXED) {
		if (r->old_len > r->new_len) {
			err = unmap_range(mm, th, r->old + r->new_len, r->old + r->old_len, dead);
			if (err)
				return err;
			r->old_len = r->new_len;
		}
		r->v = vma_find(mm, r->old);
	}
	if ((err = check_growth(mm, r)))
		return err;
	if (!(r->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && r->old_len) {
		err = grow_in_place(mm, th, r, dead);
		r->new_addr = r->old;
		if (err != -ENOMEM || !(r->flags & MREMAP_MAYMOVE))
			return err;
	}
	if (!(r->flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	if (!(r->flags & MREMAP_FIXED) && !(r->new_addr = vma_choose(mm, r->new_len, PAGE_SIZE)))
		return -ENOMEM;
	return move_to(mm, th, r, dead);
}

int mm_remap_file(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len, uint64_t page,
		  bool lock_exempt)
{
	struct vma v;
	uint64_t placed;

	addr = page_down(addr);
	len = page_down(len);
	if (addr + len <= addr || page + (len >> PAGE_SHIFT) < page ||
	    page + (len >> PAGE_SHIFT) > UINT64_MAX >> PAGE_SHIFT)
		return -EINVAL;
	if (!mm_lookup(mm, addr, &v))
		return -EINVAL;
	CLEANUP_FILE struct file *file = v.file;
	if (!vma_is_shared(&v))
		return -EINVAL;
	/* The rest of the range must be the same file's, seen in the same way. */
	for (uint64_t end = v.end; end < addr + len;) {
		struct vma next;
		if (!mm_lookup(mm, end, &next))
			return -EINVAL;
		file_put(next.file);
		if (next.file != file || next.prot != v.prot || next.flags != v.flags)
			return -EINVAL;
		end = next.end;
	}
	const struct mm_map_args a = {
		.addr = addr,
		.len = len,
		.prot = v.prot,
		.flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE | (v.locked ? MAP_LOCKED : 0),
		.file = file,
		.off = page << PAGE_SHIFT,
		.name = v.name,
		.lock_exempt = lock_exempt,
	};
	return mm_map(mm, th, &a, &placed);
}

int mm_remap(struct mm *mm, struct p_thread *th, uint64_t old, uint64_t old_len, uint64_t new_len,
	     int flags, uint64_t new_addr, uint64_t *out)
{
	struct remap r = {.old = old,
			  .old_len = page_up(old_len),
			  .new_len = page_up(new_len),
			  .new_addr = new_addr,
			  .flags = flags,
			  .host_fd = -1};
	int err = check_flags(mm, &r);
	if (err)
		return err;
	if (old > mm->task_size || r.old_len > mm->task_size - old)
		return -EFAULT;
	if (r.new_len > mm->task_size)
		return -EINVAL;

	/* Only what is mapped again needs the host descriptor; it is asked for without locks. */
	struct vma copy;
	if (!mm_lookup(mm, old, &copy))
		return -EFAULT;
	CLEANUP_FILE struct file *file = copy.file;
	r.file = file;
	if (file && file->ops->map_prepare &&
	    (err = file->ops->map_prepare(file, vma_is_shared(&copy), copy.off + (old - copy.start),
					  r.new_len)))
		return err;
	if (file && (!r.old_len || flags & MREMAP_DONTUNMAP) &&
	    (err = file->ops->map_fd(file, vma_is_shared(&copy), &r.host_fd)))
		return err;

	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	if (uffd_any_hidden(mm, old, old + r.old_len))
		err = uffd_unhide(mm, th, old, old + r.old_len, &dead);
	if (!err)
		err = remap_locked(mm, th, &r, &dead);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	if (!err)
		*out = r.new_addr;
	return err;
}

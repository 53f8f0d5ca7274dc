/*
 * mmap(2), munmap(2), brk(2): how a map is judged, where it goes, and that the tree and the host
 * process agree about it afterwards.
 *
 * A map goes into the tree first (so that the next one of the same call finds its place), then the
 * host performs all of them in one batch.  What the host refuses is unmapped on both sides.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "sentry/lib/cleanup.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

/* Linux prefers whole huge pages for anonymous memory that fills them. */
#define HUGE_PAGE_SIZE (2UL << 20)
#define MAP_32BIT_LOW 0x40000000UL
#define MAP_32BIT_HIGH 0x80000000UL

/* Flags that MAP_SHARED_VALIDATE knows of ordinary files (LEGACY_MAP_MASK). */
#define LEGACY_MAP_FLAGS                                                                         \
	(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE | \
	 0x4000000 /* MAP_UNINITIALIZED */ | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE |        \
	 MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT |                     \
	 63U << MAP_HUGE_SHIFT)

#define LINUX_MAP_DROPPABLE 0x08

/* One map that is being made. */
struct plan {
	uint64_t start, end, off;
	int prot, flags; /* flags as vma.flags */
	int host_fd;
	bool shared, locked, populate, may_write, may_exec, wipeonfork, dontdump;
	struct file *file; /* a reference, moved into the vma */
	const char *name;
};

/* ---- judging ---- */

static bool file_is_noexec(const struct file *f)
{
	return f->path.mnt && f->path.mnt->flags & MS_NOEXEC;
}

static int check_file(const struct mm_map_args *a, struct plan *p)
{
	struct file *f = a->file;

	switch (a->flags & MAP_TYPE) {
	case MAP_SHARED_VALIDATE:
		if ((unsigned)a->flags & ~LEGACY_MAP_FLAGS & ~(unsigned)MAP_FIXED_NOREPLACE)
			return -EOPNOTSUPP;
		/* fallthrough */
	case MAP_SHARED:
		if (a->prot & PROT_WRITE && !file_writable(f))
			return -EACCES;
		p->shared = true;
		p->may_write = file_writable(f);
		break;
	case MAP_PRIVATE:
		p->may_write = true;
		break;
	default:
		return -EINVAL;
	}
	if (!file_readable(f))
		return -EACCES;
	p->may_exec = !file_is_noexec(f);
	if (a->prot & PROT_EXEC && !p->may_exec)
		return -EPERM;
	if (!f->ops->map_fd)
		return -ENODEV;
	if (a->flags & MAP_GROWSDOWN)
		return -EINVAL;
	if (a->flags & MAP_HUGETLB)
		return -EINVAL;
	return 0;
}

static int check_anonymous(const struct mm_map_args *a, struct plan *p)
{
	switch (a->flags & MAP_TYPE) {
	case MAP_SHARED:
		if (a->flags & MAP_GROWSDOWN)
			return -EINVAL;
		p->shared = true;
		break;
	case MAP_PRIVATE:
		break;
	case LINUX_MAP_DROPPABLE:
		/* Private memory that a fork wipes; that pages may vanish is not promised. */
		if (a->flags & (MAP_GROWSDOWN | MAP_HUGETLB | MAP_LOCKED))
			return -EINVAL;
		p->wipeonfork = true;
		break;
	default:
		return -EINVAL;
	}
	p->may_write = p->may_exec = true;
	/* As on a host whose pool of huge pages is empty. */
	return a->flags & MAP_HUGETLB ? -ENOMEM : 0;
}

/*
 * Gets what the host will map, before any lock is taken.  A file whose map_fd answers -1 has
 * memory like that of no file (/dev/zero).
 */
static int prepare_file(const struct mm_map_args *a, struct plan *p)
{
	p->host_fd = -1;
	p->off = a->off;
	if (a->file) {
		int (*prepare)(struct file *, bool, uint64_t, uint64_t) = a->file->ops->map_prepare;
		int err = prepare ? prepare(a->file, p->shared, a->off, a->len) : 0;
		if (!err)
			err = a->file->ops->map_fd(a->file, p->shared, &p->host_fd);
		if (err)
			return err;
		if (a->file->ops->map_offset)
			p->off = a->file->ops->map_offset(a->file, a->off);
		if (p->host_fd >= 0 || !p->shared) {
			p->file = file_get(a->file);
			return 0;
		}
	}
	if (!p->shared)
		return 0;
	p->off = 0;
	if (!mm_shared_anon_file)
		return -ENODEV;
	if (!(a->flags & MAP_NORESERVE) && !mm_may_commit(page_up(a->len)))
		return -ENOMEM;
	int err = mm_shared_anon_file(page_up(a->len), &p->file);
	return err ? err : p->file->ops->map_fd(p->file, true, &p->host_fd);
}

/* All that can be said without knowing the address space. */
static int plan_check(const struct mm *mm, const struct mm_map_args *a, struct plan *p)
{
	if (a->off & ~PAGE_MASK || !a->len)
		return -EINVAL;
	uint64_t len = page_up(a->len);
	if (!len || len > mm->task_size)
		return -ENOMEM;
	if (a->file && (a->off > INT64_MAX || len > INT64_MAX - a->off))
		return -EOVERFLOW;
	if (a->flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (a->addr > mm->task_size - len)
			return -ENOMEM;
		if (a->addr & ~PAGE_MASK)
			return -EINVAL;
		if (a->addr < mm->mmap_min)
			return -EPERM;
	}
	int err = a->file ? check_file(a, p) : check_anonymous(a, p);
	if (err)
		return err;

	p->prot = a->prot & (PROT_READ | PROT_WRITE | PROT_EXEC);
	p->flags = (p->shared ? MAP_SHARED : MAP_PRIVATE) | (a->file ? 0 : MAP_ANONYMOUS) |
		   (a->flags & (MAP_GROWSDOWN | MAP_NORESERVE));
	p->populate = a->flags & (MAP_POPULATE | MAP_LOCKED) && !(a->flags & MAP_NONBLOCK);
	p->name = a->name;
	return prepare_file(a, p);
}

uint64_t vma_choose(const struct mm *mm, uint64_t len, uint64_t align)
{
	uint64_t addr = vma_gap_topdown(mm, len, align, mm->mmap_min, mm->mmap_top);

	return addr ? addr : vma_gap_topdown(mm, len, align, mm->mmap_min, mm->task_size);
}

uint64_t mm_find_gap(struct mm *mm, uint64_t len, uint64_t align, uint64_t below)
{
	mutex_lock(&mm->lock, &lc_mm);
	uint64_t addr = below ? vma_gap_topdown(mm, len, align, mm->mmap_min, below)
			      : vma_choose(mm, len, align);
	mutex_unlock(&mm->lock, &lc_mm);
	return addr;
}

bool mm_range_free(struct mm *mm, uint64_t addr, uint64_t len)
{
	mutex_lock(&mm->lock, &lc_mm);
	bool is_free = addr + len >= addr && vma_range_free(mm, addr, len);
	mutex_unlock(&mm->lock, &lc_mm);
	return is_free;
}

/* mmap(2)'s choice of address; 0: none. */
static uint64_t choose_address(const struct mm *mm, const struct mm_map_args *a, uint64_t len)
{
	uint64_t hint = page_down(a->addr);

	if (hint) {
		hint = MAX(hint, mm->mmap_min);
		if (hint <= mm->task_size - len && vma_range_free(mm, hint, len))
			return hint;
	}
	if (a->flags & MAP_32BIT)
		return vma_gap_topdown(mm, len, PAGE_SIZE, MAP_32BIT_LOW, MAP_32BIT_HIGH);
	if (!a->file && a->flags & MAP_PRIVATE && len % HUGE_PAGE_SIZE == 0) {
		uint64_t addr =
			vma_gap_topdown(mm, len, HUGE_PAGE_SIZE, mm->mmap_min, mm->mmap_top);
		if (addr)
			return addr;
	}
	return vma_choose(mm, len, PAGE_SIZE);
}

static int check_locked(const struct mm *mm, const struct mm_map_args *a, struct plan *p,
			uint64_t len)
{
	p->dontdump = a->file && a->file->ops->map_secret;
	p->locked = a->flags & MAP_LOCKED || mm->lock_future || p->dontdump;
	if (!p->locked || a->lock_exempt)
		return 0;
	if (!mm->rlimit_memlock && a->flags & MAP_LOCKED)
		return -EPERM;
	if (mm->locked_pages + (len >> PAGE_SHIFT) > mm->rlimit_memlock >> PAGE_SHIFT)
		return -EAGAIN;
	return 0;
}

/* The checks that depend on what is mapped already, and the place.  Under map_lock. */
static int plan_place(struct mm *mm, const struct mm_map_args *a, struct plan *p)
{
	uint64_t len = page_up(a->len);

	if (mm->nvmas >= VMA_COUNT_MAX)
		return -ENOMEM;
	if (a->flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
		p->start = a->addr;
	else
		p->start = choose_address(mm, a, len);
	if (!p->start)
		return -ENOMEM;
	p->end = p->start + len;
	if (a->flags & MAP_FIXED_NOREPLACE && vma_find_overlap(mm, p->start, p->end))
		return -EEXIST;
	if (vma_any_sealed(mm, p->start, p->end))
		return -EPERM;

	if (mm->mdwe && (p->prot & (PROT_WRITE | PROT_EXEC)) == (PROT_WRITE | PROT_EXEC))
		return -EACCES;
	int err = check_locked(mm, a, p, len);
	if (err)
		return err;
	bool data = vma_is_data(p->prot, p->flags);
	if (!mm_may_expand(mm, len, data) &&
	    !mm_may_expand(mm, len - vma_mapped_bytes(mm, p->start, p->end), data))
		return -ENOMEM;
	if (p->prot & PROT_WRITE && !p->shared && !(p->flags & MAP_NORESERVE) &&
	    !mm_may_commit(len))
		return -ENOMEM;
	if (!p->shared && !p->file)
		p->off = p->start; /* so that neighbours merge like those of one file */
	return 0;
}

/* ---- doing ---- */

/* Room for the node and for cutting what is in its way. */
#define PLAN_NODES 3

static void plan_commit(struct mm *mm, struct plan *p, struct vma **dead)
{
	struct vma *v = vma_take(mm);

	v->start = p->start;
	v->end = p->end;
	v->prot = p->prot;
	v->flags = p->flags;
	v->locked = p->locked;
	v->may_write = p->may_write;
	v->may_exec = p->may_exec;
	v->wipeonfork = p->wipeonfork;
	v->dontdump = p->dontdump;
	v->file = steal(p->file);
	v->off = p->off;
	v->name = p->name;
	vma_note_writable(v);
	mutex_lock(&mm->lock, &lc_mm);
	vma_remove_range(mm, p->start, p->end, dead);
	vma_insert(mm, v);
	mutex_unlock(&mm->lock, &lc_mm);
}

static struct p_memop plan_op(const struct plan *p)
{
	struct p_memop op = mm_anon_op(p->start, p->end, p->prot);

	if (p->host_fd >= 0) {
		op.flags = p->shared ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
		op.fd = p->host_fd;
		op.off = p->off;
	}
	if (p->populate)
		op.flags |= MAP_POPULATE;
	return op;
}

/* Takes [start, end) away on both sides after a failure. */
static void undo(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
		 struct vma **dead)
{
	struct p_memop op = {.kind = P_MEMOP_UNMAP, .addr = start, .len = end - start, .fd = -1};

	/* The nodes were reserved for as many cuts as the map itself could need. */
	mutex_lock(&mm->lock, &lc_mm);
	vma_remove_range(mm, start, end, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	if (mm_run(mm, th, &op, 1))
		return; /* the process is dead, or had nothing there */
}

/* After the maps: returns how many operations there are now. */
static size_t add_contents(const struct mm_map_args *a, size_t n, struct p_memop *ops, size_t nops)
{
	for (size_t i = 0; i < n; i++) {
		if (a[i].clear_len)
			ops[nops++] = (struct p_memop){.kind = P_MEMOP_CLEAR,
						       .addr = a[i].clear_addr,
						       .len = a[i].clear_len,
						       .fd = -1};
		for (const struct mm_fill *f = a[i].fill; f < a[i].fill + MM_FILLS; f++)
			if (f->len)
				ops[nops++] = (struct p_memop){.kind = P_MEMOP_WRITE,
							       .addr = f->addr,
							       .len = f->len,
							       .bytes = f->bytes,
							       .fd = -1};
	}
	return nops;
}

static int map_locked(struct mm *mm, struct p_thread *th, const struct mm_map_args *a,
		      struct plan *plans, struct p_memop *ops, size_t n, struct vma **dead)
{
	/* Twice: what fails on the host is cut out again. */
	int err = vma_reserve(mm, 2 * PLAN_NODES * n);
	size_t placed = 0, before = 0;

	if (mm->reset_due)
		ops[before++] = (struct p_memop){.kind = P_MEMOP_RESET, .fd = -1};
	struct p_memop *maps = ops + before;
	while (!err && placed < n && !(err = plan_place(mm, &a[placed], &plans[placed]))) {
		maps[placed] = plan_op(&plans[placed]);
		plan_commit(mm, &plans[placed], dead);
		placed++;
	}
	size_t good = 0;
	size_t all = before + n;
	if (!err)
		all = add_contents(a, n, ops, all);
	if (!err && all == 1 && mm_run_later(mm, th, ops, MM_LATE_MAP))
		return 0;
	if (!err) {
		mm->reset_due = false;
		err = mm_run(mm, th, ops, all);
		if (!err)
			return 0;
		while (good < n && maps[good].ret >= 0)
			good++;
	}
	/* Earlier maps that were not run, or failed, must not stay in the tree. */
	for (size_t i = good; i < placed; i++)
		undo(mm, th, plans[i].start, plans[i].end, dead);
	return err;
}

int mm_map_many(struct mm *mm, struct p_thread *th, const struct mm_map_args *a, size_t n,
		uint64_t *out)
{
	CLEANUP_FREE struct plan *plans = calloc(n, sizeof(*plans));
	/* A reset before; behind, what a map holds. */
	CLEANUP_FREE struct p_memop *ops = calloc((2 + MM_FILLS) * n + 1, sizeof(*ops));
	struct vma *dead = NULL;
	int err = plans && ops ? 0 : -ENOMEM;

	for (size_t i = 0; !err && i < n; i++)
		err = plan_check(mm, &a[i], &plans[i]);
	if (!err) {
		mutex_lock(&mm->map_lock, &lc_mm_map);
		err = map_locked(mm, th, a, plans, ops, n, &dead);
		vma_trim_spares(mm);
		mutex_unlock(&mm->map_lock, &lc_mm_map);
	}
	for (size_t i = 0; plans && i < n; i++) {
		file_put(plans[i].file);
		if (!err && out)
			out[i] = plans[i].start;
	}
	vma_release_list(dead);
	return err;
}

int mm_map(struct mm *mm, struct p_thread *th, const struct mm_map_args *a, uint64_t *out)
{
	return mm_map_many(mm, th, a, 1, out);
}

/* ---- munmap ---- */

static int unmap_locked(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
			struct vma **dead)
{
	if (!vma_find_overlap(mm, start, end))
		return 0;
	if (vma_any_sealed(mm, start, end))
		return -EPERM;
	size_t cuts = vma_cuts(mm, start, end);
	/* A hole in the middle of a mapping makes two of one. */
	if (cuts == 2 && mm->nvmas >= VMA_COUNT_MAX)
		return -ENOMEM;
	int err = vma_reserve(mm, 2);
	if (err)
		return err;

	struct p_memop op = {.kind = P_MEMOP_UNMAP, .addr = start, .len = end - start, .fd = -1};
	if (!mm_run_later(mm, th, &op, MM_LATE_OTHER) && (err = mm_run(mm, th, &op, 1)))
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_remove_range(mm, start, end, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

bool mm_late_failed(struct mm *mm, struct p_thread *th, int err, long *ret)
{
	struct vma *dead = NULL;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	int kind = mm->late.kind;
	bool known = kind == MM_LATE_MAP || kind == MM_LATE_BRK;
	if (known && !vma_reserve(mm, 2)) {
		undo(mm, th, mm->late.start, mm->late.end, &dead);
		*ret = err;
		if (kind == MM_LATE_BRK) {
			mutex_lock(&mm->lock, &lc_mm);
			mm->brk = mm->late.old_brk;
			mutex_unlock(&mm->lock, &lc_mm);
			*ret = (long)mm->late.old_brk;
		}
	} else {
		known = false;
	}
	mm->late.kind = MM_LATE_NONE;
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return known;
}

int mm_unmap(struct mm *mm, struct p_thread *th, uint64_t addr, uint64_t len)
{
	if (addr & ~PAGE_MASK || addr > mm->task_size || len > mm->task_size - addr)
		return -EINVAL;
	if (!len)
		return -EINVAL;

	struct vma *dead = NULL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	int err = unmap_locked(mm, th, addr, addr + page_up(len), &dead);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

/* ---- brk ---- */

static int brk_grow(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end)
{
	uint64_t len = end - start;

	if (end > mm->task_size || !vma_range_free(mm, start, len) || mm->nvmas >= VMA_COUNT_MAX)
		return -ENOMEM;
	if (mm->lock_future && !mm->lock_exempt &&
	    mm->locked_pages + (len >> PAGE_SHIFT) > mm->rlimit_memlock >> PAGE_SHIFT)
		return -EAGAIN;
	if (!mm_may_expand(mm, len, true) || !mm_may_commit(len) || vma_reserve(mm, 1))
		return -ENOMEM;

	struct p_memop op = mm_anon_op(start, end, PROT_READ | PROT_WRITE);
	int err = mm_run_later(mm, th, &op, MM_LATE_BRK) ? 0 : mm_run(mm, th, &op, 1);
	if (err)
		return err;
	struct vma *v = vma_take(mm);
	v->start = v->off = start;
	v->end = end;
	v->prot = PROT_READ | PROT_WRITE;
	v->flags = MAP_PRIVATE | MAP_ANONYMOUS;
	v->may_write = v->may_exec = true;
	v->locked = mm->lock_future;
	v->name = "[heap]";
	mutex_lock(&mm->lock, &lc_mm);
	vma_insert(mm, v);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

static bool brk_within_limit(const struct mm *mm, uint64_t want)
{
	uint64_t used = want - mm->brk_start + (mm->data_end - mm->data_start);

	return mm->rlimit_data == RLIM_INFINITY || used <= mm->rlimit_data;
}

uint64_t mm_brk(struct mm *mm, struct p_thread *th, uint64_t want)
{
	struct vma *dead = NULL;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	if (want >= mm->brk_start && want <= mm->task_size && brk_within_limit(mm, want)) {
		uint64_t old_end = page_up(mm->brk), new_end = page_up(want);
		int err = 0;
		if (new_end < old_end)
			err = unmap_locked(mm, th, new_end, old_end, &dead);
		else if (new_end > old_end)
			err = brk_grow(mm, th, old_end, new_end);
		if (!err) {
			mutex_lock(&mm->lock, &lc_mm);
			mm->brk = want;
			mutex_unlock(&mm->lock, &lc_mm);
		}
	}
	uint64_t brk = mm->brk;
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return brk;
}

#include "sentry/mm/vma.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/vfs/file.h"

/* ---- spare nodes ---- */

#define SPARE_MAX 16

int vma_reserve(struct mm *mm, size_t n)
{
	while (mm->nspare < n) {
		struct vma *v = calloc(1, sizeof(*v));
		if (!v)
			return -ENOMEM;
		v->next_free = mm->spare;
		mm->spare = v;
		mm->nspare++;
	}
	return 0;
}

struct vma *vma_take(struct mm *mm)
{
	struct vma *v = mm->spare;

	assert(v);
	mm->spare = v->next_free;
	mm->nspare--;
	memset(v, 0, sizeof(*v));
	return v;
}

void vma_give(struct mm *mm, struct vma *v)
{
	if (mm->nspare >= SPARE_MAX) {
		free(v);
		return;
	}
	v->next_free = mm->spare;
	mm->spare = v;
	mm->nspare++;
}

void vma_trim_spares(struct mm *mm)
{
	while (mm->nspare > SPARE_MAX)
		free(vma_take(mm));
}

void vma_free_spares(struct mm *mm)
{
	while (mm->spare)
		free(vma_take(mm));
}

void vma_release_list(struct vma *dead)
{
	while (dead) {
		struct vma *next = dead->next_free;
		file_put(dead->file);
		free(dead);
		dead = next;
	}
}

static void bury(struct mm *mm, struct vma *v, struct vma **dead)
{
	if (!v->file) {
		vma_give(mm, v);
		return;
	}
	v->next_free = *dead;
	*dead = v;
}

/* ---- tree ---- */

static void vma_augment(struct rb_node *n)
{
	struct vma *v = vma_of(n);

	v->max_gap = v->gap;
	if (n->left)
		v->max_gap = MAX(v->max_gap, vma_of(n->left)->max_gap);
	if (n->right)
		v->max_gap = MAX(v->max_gap, vma_of(n->right)->max_gap);
}

void vma_tree_init(struct mm *mm)
{
	mm->vmas = (struct rb_root){.augment = vma_augment};
}

static uint64_t guarded_start(const struct vma *v)
{
	if (!(v->flags & MAP_GROWSDOWN))
		return v->start;
	return v->start > STACK_GUARD_GAP ? v->start - STACK_GUARD_GAP : 0;
}

/* Recomputes the gap before v, whose neighbour or start changed. */
static void update_gap(struct mm *mm, struct vma *v)
{
	if (!v)
		return;
	const struct vma *prev = vma_prev(v);
	uint64_t low = prev ? prev->end : 0, high = guarded_start(v);
	v->gap = high > low ? high - low : 0;
	rb_augment_path(&mm->vmas, &v->node);
}

bool vma_is_data(int prot, int flags)
{
	return prot & PROT_WRITE && flags & MAP_PRIVATE && !(flags & MAP_GROWSDOWN);
}

/* Adds (sign 1) or takes away (-1) what v counts for. */
static void account(struct mm *mm, const struct vma *v, int64_t sign)
{
	uint64_t n = (uint64_t)((int64_t)vma_pages(v) * sign);

	mm->total_pages += n;
	mm->peak_pages = MAX(mm->peak_pages, mm->total_pages);
	if (vma_is_data(v->prot, v->flags))
		mm->data_pages += n;
	if (v->flags & MAP_GROWSDOWN)
		mm->stack_pages += n;
	if (v->locked)
		mm->locked_pages += n;
	if (vma_is_shared(v))
		mm->shared_pages += n;
}

struct vma *vma_find(const struct mm *mm, uint64_t addr)
{
	struct rb_node *n = mm->vmas.node;
	struct vma *best = NULL;

	while (n) {
		struct vma *v = vma_of(n);
		if (v->end > addr) {
			best = v;
			if (v->start <= addr)
				break;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

struct vma *vma_find_overlap(const struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v = vma_find(mm, start);

	return v && v->start < end ? v : NULL;
}

struct vma *vma_last(const struct mm *mm)
{
	return vma_of(rb_last(&mm->vmas));
}

void vma_link(struct mm *mm, struct vma *v)
{
	struct rb_node **link = &mm->vmas.node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = v->start < vma_of(parent)->start ? &parent->left : &parent->right;
	}
	v->gap = 0;
	rb_insert(&mm->vmas, &v->node, parent, link);
	mm->nvmas++;
	account(mm, v, 1);
	update_gap(mm, v);
	update_gap(mm, vma_next(v));
}

static void unlink_vma(struct mm *mm, struct vma *v)
{
	struct vma *next = vma_next(v);

	rb_erase(&mm->vmas, &v->node);
	mm->nvmas--;
	account(mm, v, -1);
	update_gap(mm, next);
}

void vma_resize(struct mm *mm, struct vma *v, uint64_t start, uint64_t end)
{
	account(mm, v, -1);
	v->off += start - v->start; /* wraps as it should when the start moves down */
	v->start = start;
	v->end = end;
	account(mm, v, 1);
	update_gap(mm, v);
	update_gap(mm, vma_next(v));
}

/* Cuts v at addr, which lies inside it; returns the upper part. */
static struct vma *split(struct mm *mm, struct vma *v, uint64_t addr)
{
	struct vma *up = vma_take(mm);
	uint64_t end = v->end;

	*up = *v;
	up->next_free = NULL;
	if (up->file)
		file_get(up->file);
	up->start = addr;
	up->off = v->off + (addr - v->start);
	vma_resize(mm, v, v->start, addr);
	up->end = end;
	vma_link(mm, up);
	return up;
}

static bool alike(const struct vma *a, const struct vma *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->dontfork == b->dontfork && a->wipeonfork == b->wipeonfork &&
	       a->dontdump == b->dontdump && a->locked == b->locked && a->sealed == b->sealed &&
	       a->may_write == b->may_write && a->may_exec == b->may_exec &&
	       a->was_writable == b->was_writable && a->uffd == b->uffd && a->hidden == b->hidden &&
	       a->policy.mode == b->policy.mode && a->policy.nodes == b->policy.nodes &&
	       a->file == b->file && a->name == b->name && a->off + (a->end - a->start) == b->off;
}

/* Merges b into a, its predecessor, when they are alike.  Returns what is left of the pair that
 * reaches highest. */
static struct vma *merge_pair(struct mm *mm, struct vma *a, struct vma *b, struct vma **dead)
{
	if (!a || !b || !alike(a, b))
		return b ? b : a;
	uint64_t end = b->end;
	unlink_vma(mm, b);
	bury(mm, b, dead);
	vma_resize(mm, a, a->start, end);
	return a;
}

void vma_merge_up(struct mm *mm, struct vma *v, struct vma **dead)
{
	merge_pair(mm, v, vma_next(v), dead);
}

void vma_insert(struct mm *mm, struct vma *v)
{
	struct vma *dead = NULL;

	vma_link(mm, v);
	v = merge_pair(mm, vma_prev(v), v, &dead);
	merge_pair(mm, v, vma_next(v), &dead);
	/* The neighbour holds the same file, so these puts are never the last. */
	vma_release_list(dead);
}

size_t vma_cuts(const struct mm *mm, uint64_t start, uint64_t end)
{
	const struct vma *first = vma_find(mm, start), *last = vma_find(mm, end);

	return (first && first->start < start) + (last && last->start < end && last->end > end);
}

/* Cuts at both ends of the range; returns its first mapping or NULL. */
static struct vma *cut(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v = vma_find(mm, start);

	if (v && v->start < start)
		v = split(mm, v, start);
	struct vma *last = vma_find(mm, end);
	if (last && last->start < end)
		split(mm, last, end);
	return v && v->start < end ? v : NULL;
}

void vma_remove_range(struct mm *mm, uint64_t start, uint64_t end, struct vma **dead)
{
	struct vma *v = cut(mm, start, end);

	while (v && v->start < end) {
		struct vma *next = vma_next(v);
		unlink_vma(mm, v);
		bury(mm, v, dead);
		v = next;
	}
}

void vma_change(struct mm *mm, uint64_t start, uint64_t end, void (*fn)(struct vma *v, void *arg),
		void *arg, struct vma **dead)
{
	struct vma *v = cut(mm, start, end);

	for (; v && v->start < end; v = vma_next(v)) {
		account(mm, v, -1);
		fn(v, arg);
		account(mm, v, 1);
		v = merge_pair(mm, vma_prev(v), v, dead);
	}
	if (v)
		merge_pair(mm, vma_prev(v), v, dead);
}

/* ---- free space ---- */

static bool gap_at_least(const struct rb_node *n, uint64_t len)
{
	return n && vma_of(n)->max_gap >= len;
}

/* The highest mapping of the subtree at n (whose max_gap ≥ len) with that much room before it. */
static struct vma *gap_last(struct rb_node *n, uint64_t len)
{
	for (;;) {
		if (gap_at_least(n->right, len))
			n = n->right;
		else if (vma_of(n)->gap >= len)
			return vma_of(n);
		else
			n = n->left;
	}
}

/* The next lower mapping than v with room for len before it. */
static struct vma *gap_prev(const struct vma *v, uint64_t len)
{
	const struct rb_node *n = &v->node;

	if (gap_at_least(n->left, len))
		return gap_last(n->left, len);
	for (; n->parent; n = n->parent) {
		struct rb_node *p = n->parent;
		if (p->left == n)
			continue;
		if (vma_of(p)->gap >= len)
			return vma_of(p);
		if (gap_at_least(p->left, len))
			return gap_last(p->left, len);
	}
	return NULL;
}

/* Highest aligned place of len bytes in [low, high), or 0. */
static uint64_t place(uint64_t low, uint64_t high, uint64_t len, uint64_t align)
{
	if (high < len)
		return 0;
	uint64_t addr = (high - len) & ~(align - 1);
	return addr >= low ? addr : 0;
}

uint64_t vma_gap_topdown(const struct mm *mm, uint64_t len, uint64_t align, uint64_t low,
			 uint64_t high)
{
	struct vma *v = vma_find(mm, high);

	if (!v) {
		const struct vma *last = vma_last(mm);
		uint64_t addr = place(last ? MAX(low, last->end) : low, high, len, align);
		if (addr || !mm->vmas.node || !gap_at_least(mm->vmas.node, len))
			return addr;
		v = gap_last(mm->vmas.node, len);
	}
	for (; v; v = gap_prev(v, len)) {
		const struct vma *prev = vma_prev(v);
		uint64_t from = prev ? MAX(low, prev->end) : low;
		uint64_t addr = place(from, MIN(high, guarded_start(v)), len, align);
		if (addr)
			return addr;
		if (v->start <= low)
			break;
	}
	return 0;
}

bool vma_range_free(const struct mm *mm, uint64_t start, uint64_t len)
{
	const struct vma *v = vma_find(mm, start);

	return !v || guarded_start(v) >= start + len;
}

bool vma_any_sealed(const struct mm *mm, uint64_t start, uint64_t end)
{
	for (const struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v))
		if (v->sealed)
			return true;
	return false;
}

uint64_t vma_mapped_bytes(const struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t n = 0;

	for (const struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v))
		n += MIN(v->end, end) - MAX(v->start, start);
	return n;
}

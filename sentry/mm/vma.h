/*
 * vma.h - the VMA tree of one address space: find, link, split, merge, gap search.  Private to
 * sentry/mm.
 *
 * Nothing here knows the host: the callers decide, have the platform do it, and record it here.
 * Changes cannot fail: whoever changes the tree first calls vma_reserve() for the number of new
 * nodes that the change may need.
 *
 * Locking: changes need map_lock and lock; look-ups one of them.
 */
#pragma once

#include <sys/mman.h>

#include "sentry/mm/mm.h"

/* The host allows 65,530 mappings; it may split where the tree does not, and has the stub's. */
#define VMA_COUNT_MAX 60000
/* Linux's stack_guard_gap: kept free below a mapping that grows down. */
#define STACK_GUARD_GAP (256 * PAGE_SIZE)

static inline struct vma *vma_of(const struct rb_node *n)
{
	return n ? rb_entry(n, struct vma, node) : NULL;
}

static inline struct vma *vma_next(const struct vma *v)
{
	return vma_of(rb_next(&v->node));
}

static inline struct vma *vma_prev(const struct vma *v)
{
	return vma_of(rb_prev(&v->node));
}

/* mremap and brk ask before they place something: the address that mmap(2) would choose. */
uint64_t vma_choose(const struct mm *mm, uint64_t len, uint64_t align);

static inline bool vma_is_shared(const struct vma *v)
{
	return v->flags & MAP_SHARED;
}

/* Linux charges private pages of a file from when they can first be written, and never merges
 * charged with uncharged: a program's relro part stays a mapping of its own. */
static inline void vma_note_writable(struct vma *v)
{
	if (v->file && v->flags & MAP_PRIVATE && v->prot & PROT_WRITE)
		v->was_writable = true;
}

/* Private memory without a file behind it. */
static inline bool vma_is_anon(const struct vma *v)
{
	return !v->file && !vma_is_shared(v);
}

static inline uint64_t vma_pages(const struct vma *v)
{
	return (v->end - v->start) >> PAGE_SHIFT;
}

void vma_tree_init(struct mm *mm);
/* The first mapping that ends above addr, or NULL. */
struct vma *vma_find(const struct mm *mm, uint64_t addr);
/* The first mapping that overlaps [start, end), or NULL. */
struct vma *vma_find_overlap(const struct mm *mm, uint64_t start, uint64_t end);
struct vma *vma_last(const struct mm *mm);

/* Makes sure that n nodes can be taken; -ENOMEM. */
int vma_reserve(struct mm *mm, size_t n) MUST_CHECK;
/* A zeroed node from the reserve. */
struct vma *vma_take(struct mm *mm);
/* Gives a node that is not linked back; its file reference was moved or put. */
void vma_give(struct mm *mm, struct vma *v);
/* Keeps a few spare nodes (trim) or none. */
void vma_trim_spares(struct mm *mm);
void vma_free_spares(struct mm *mm);

/* Adds v and merges it with its neighbours where they are alike; v may be gone afterwards. */
void vma_insert(struct mm *mm, struct vma *v);
/* The same without merging, for copies of a tree that is already merged. */
void vma_link(struct mm *mm, struct vma *v);
/* Takes [start, end) out of the tree.  Needs 2 reserved nodes.  The removed nodes go to *dead, to
 * be released with vma_release_list() when no lock is held. */
void vma_remove_range(struct mm *mm, uint64_t start, uint64_t end, struct vma **dead);
/* Moves an end of a mapping; the new range must be free. */
void vma_resize(struct mm *mm, struct vma *v, uint64_t start, uint64_t end);
/* Merges v with the mapping above it, if they are alike now. */
void vma_merge_up(struct mm *mm, struct vma *v, struct vma **dead);
/* Calls fn on every mapping of [start, end), cut to the range, then merges what is alike.  Needs
 * 2 reserved nodes.  The dropped nodes go to *dead, as above. */
void vma_change(struct mm *mm, uint64_t start, uint64_t end, void (*fn)(struct vma *v, void *arg),
		void *arg, struct vma **dead);
/* Puts the files of a list of removed nodes and frees them. */
void vma_release_list(struct vma *dead);
/* How many nodes a cut of [start, end) adds: 0, 1 or 2. */
size_t vma_cuts(const struct mm *mm, uint64_t start, uint64_t end);

/*
 * The highest place of len bytes in [low, high) with this alignment; 0: none.  Keeps the guard gap
 * below mappings that grow down.
 */
uint64_t vma_gap_topdown(const struct mm *mm, uint64_t len, uint64_t align, uint64_t low,
			 uint64_t high);
/* Is [start, start+len) free, guard gap of the mapping above included? */
bool vma_range_free(const struct mm *mm, uint64_t start, uint64_t len);
/* Does mseal(2) protect any of [start, end)? */
bool vma_any_sealed(const struct mm *mm, uint64_t start, uint64_t end);
/* Bytes of [start, end) that are mapped. */
uint64_t vma_mapped_bytes(const struct mm *mm, uint64_t start, uint64_t end);
/* Does the mapping count against RLIMIT_DATA (private, writable, not a stack)? */
bool vma_is_data(int prot, int flags);

/* ---- helpers of the files that change mappings ---- */

/* What a guest's protection becomes on the host: the sentry reads and writes guest memory through
 * the host's page tables and checks, which want the VMA readable (design rule 35). */
static inline int mm_host_prot(int prot)
{
	return prot ? prot | PROT_READ : PROT_NONE;
}

/* Runs a batch; 0 or the first failure. */
int mm_run(struct mm *mm, struct p_thread *th, struct p_memop *ops, size_t n) MUST_CHECK;
/* The last thing that a call does: true when the host will do it, and the caller may record it. */
bool mm_run_later(struct mm *mm, struct p_thread *th, struct p_memop *op, int kind);
/* The operation that maps private anonymous memory for a guest. */
struct p_memop mm_anon_op(uint64_t start, uint64_t end, int prot);
/* May the address space (its data, when `data`) grow by len bytes?  RLIMIT_AS, RLIMIT_DATA. */
bool mm_may_expand(const struct mm *mm, uint64_t len, bool data);
/* Heuristic overcommit (proc(5), vm.overcommit_memory 0): false when len is plainly too much. */
bool mm_may_commit(uint64_t len);
/* Checks of a page range given by a guest: aligned start, length rounded up into *end.
 * -EINVAL; `overflow` when it wraps.  The length itself may wrap to 0 when it is rounded: an empty
 * range, as Linux has it. */
int mm_check_range(uint64_t addr, uint64_t len, int overflow, uint64_t *end) MUST_CHECK;

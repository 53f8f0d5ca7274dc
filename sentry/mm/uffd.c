#include "sentry/mm/uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/lib/cleanup.h"

const struct mm_faulter *mm_faulter;

/* ---- life ---- */

struct uffd *uffd_new(struct mm *mm, bool user_only)
{
	struct uffd *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	ref_init(&u->ref, 1);
	u->mm = mm_get(mm);
	u->user_only = user_only;
	mutex_init(&u->lock);
	list_init(&u->fresh);
	list_init(&u->told);
	waitq_init(&u->readers);
	waitq_init(&u->sleepers);
	return u;
}

void uffd_put(struct uffd *u)
{
	if (!ref_put(&u->ref))
		return;
	mm_put(u->mm);
	free(u);
}

/* ---- pages ---- */

#define PAGES_AT_ONCE 512
#define OPS_AT_ONCE 32
/* Every page is looked at: a program shall not keep the sentry busy with empty address space. */
#define RANGE_MAX (64ULL << 30)

static bool is_there(uint64_t bits)
{
	return bits & (MM_PAGE_PRESENT | MM_PAGE_SWAPPED);
}

/* What the host does not tell of counts as missing, so that nobody sees what he should not. */
static bool page_is_there(struct mm *mm, uint64_t addr)
{
	CLEANUP_FD int pagemap = mm_pagemap_open(mm);
	uint64_t bits;

	return mm_page_bits(pagemap, page_down(addr), &bits, 1) == 1 && is_there(bits);
}

static struct p_memop protect_op(uint64_t start, uint64_t end, int prot)
{
	return (struct p_memop){.kind = P_MEMOP_PROTECT,
				.addr = start,
				.len = end - start,
				.prot = mm_host_prot(prot),
				.fd = -1};
}

/* Gives the pages of [start, end) that are there (else those that are missing) this protection. */
static int protect_some(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end,
			bool there, int prot)
{
	CLEANUP_FD int pagemap = mm_pagemap_open(mm);
	CLEANUP_FREE uint64_t *bits = malloc(PAGES_AT_ONCE * sizeof(*bits));
	struct p_memop ops[OPS_AT_ONCE];
	size_t n = 0;
	int err = 0;

	if (!bits || pagemap < 0)
		return -ENOMEM;
	while (start < end && !err) {
		size_t pages = MIN((end - start) >> PAGE_SHIFT, (uint64_t)PAGES_AT_ONCE);
		pages = mm_page_bits(pagemap, start, bits, pages);
		if (!pages)
			return -ENOMEM;
		for (size_t i = 0, j; i < pages && !err; i = j) {
			for (j = i; j < pages && is_there(bits[j]) == is_there(bits[i]); j++)
				;
			if (is_there(bits[i]) != there)
				continue;
			ops[n++] = protect_op(start + i * PAGE_SIZE, start + j * PAGE_SIZE, prot);
			if (n == OPS_AT_ONCE) {
				err = mm_run(mm, th, ops, n);
				n = 0;
			}
		}
		start += pages * PAGE_SIZE;
	}
	return err ? err : mm_run(mm, th, ops, n);
}

/* ---- faults ---- */

/* How much of a mapping's present pages become accessible by one fault. */
#define SHOW_PAGES 64

enum uffd_verdict uffd_fault(struct mm *mm, struct p_thread *th, struct vma *v, uint64_t addr,
			     struct uffd **u)
{
	uint64_t start = page_down(addr), end = v->end;

	if (v->uffd && !page_is_there(mm, addr)) {
		ref_get(&v->uffd->ref);
		*u = v->uffd;
		return UFFD_WAIT;
	}
	if (v->uffd) {
		end = MIN(end, start + SHOW_PAGES * PAGE_SIZE);
		return protect_some(mm, th, start, end, true, v->prot) ? UFFD_NO : UFFD_RETRY;
	}
	struct p_memop op = protect_op(v->start, v->end, v->prot);
	if (mm_run(mm, th, &op, 1))
		return UFFD_NO;
	v->hidden = false; /* it merges with its neighbours by their next change */
	return UFFD_RETRY;
}

static bool was_woken(void *arg)
{
	return __atomic_load_n(&((struct uffd_waiter *)arg)->woken, __ATOMIC_ACQUIRE);
}

bool uffd_wait(struct uffd *u, uint64_t addr, bool write, bool user)
{
	uint64_t features = atomic_load(&u->features);
	struct uffd_waiter w = {.flags = write ? UFFD_PAGEFAULT_FLAG_WRITE : 0};

	if ((u->user_only && !user) || !mm_faulter) {
		uffd_put(u);
		return false;
	}
	w.addr = features & UFFD_FEATURE_EXACT_ADDRESS ? addr : page_down(addr);
	w.tid = features & UFFD_FEATURE_THREAD_ID ? mm_faulter->tid() : 0;
	mutex_lock(&u->lock, &lc_leaf);
	list_add_tail(&w.node, &u->fresh);
	mutex_unlock(&u->lock, &lc_leaf);
	waitq_notify(&u->readers, POLLIN | POLLRDNORM);
	/* Who filled the page before we were on the list has woken nobody. */
	int err = 0;
	if (!page_is_there(u->mm, addr))
		err = mm_faulter->wait(&u->sleepers, was_woken, &w, user);
	mutex_lock(&u->lock, &lc_leaf);
	list_del(&w.node);
	mutex_unlock(&u->lock, &lc_leaf);
	uffd_put(u);
	return !err || user; /* a signal first; then the access is made again */
}

static void wake_list(struct list_head *list, uint64_t start, uint64_t end)
{
	struct uffd_waiter *w;

	list_for_each (w, list, node)
		if (w->addr >= start && w->addr < end)
			__atomic_store_n(&w->woken, true, __ATOMIC_RELEASE);
}

void uffd_wake(struct uffd *u, uint64_t start, uint64_t end)
{
	mutex_lock(&u->lock, &lc_leaf);
	wake_list(&u->fresh, start, end);
	wake_list(&u->told, start, end);
	mutex_unlock(&u->lock, &lc_leaf);
	waitq_notify(&u->sleepers, POLLIN);
}

/* ---- changes of hidden mappings ---- */

bool uffd_any_hidden(const struct mm *mm, uint64_t start, uint64_t end)
{
	for (const struct vma *v = vma_find(mm, start); v && v->start < end; v = vma_next(v))
		if (v->hidden)
			return true;
	return false;
}

int uffd_protect(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end, int prot)
{
	int err = 0;

	for (const struct vma *v = vma_find(mm, start); v && v->start < end && !err;
	     v = vma_next(v)) {
		uint64_t low = MAX(v->start, start), high = MIN(v->end, end);
		if (v->uffd && prot) {
			err = protect_some(mm, th, low, high, true, prot);
		} else {
			struct p_memop op = protect_op(low, high, prot);
			err = mm_run(mm, th, &op, 1);
		}
	}
	return err;
}

int uffd_before_drop(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end)
{
	int err = 0;

	for (const struct vma *v = vma_find(mm, start); v && v->start < end && !err;
	     v = vma_next(v)) {
		if (!v->uffd)
			continue;
		struct p_memop op = protect_op(MAX(v->start, start), MIN(v->end, end), PROT_NONE);
		err = mm_run(mm, th, &op, 1);
	}
	return err;
}

static void set_shown(struct vma *v, void *arg)
{
	(void)arg;
	v->uffd = NULL;
	v->hidden = false;
}

int uffd_unhide(struct mm *mm, struct p_thread *th, uint64_t start, uint64_t end, struct vma **dead)
{
	int err = vma_reserve(mm, 2);

	for (const struct vma *v = vma_find(mm, start); v && v->start < end && !err;
	     v = vma_next(v)) {
		if (!v->hidden)
			continue;
		struct p_memop op = protect_op(MAX(v->start, start), MIN(v->end, end), v->prot);
		err = mm_run(mm, th, &op, 1);
	}
	if (err)
		return err;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, end, set_shown, NULL, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return 0;
}

/* ---- registering ---- */

/* The vDSO and its data, which are anonymous to the tree. */
static bool is_special(const struct vma *v)
{
	return v->name && strcmp(v->name, "[heap]") && strcmp(v->name, "[stack]");
}

/* As Linux judges them: all mappings of the range, of which there is one at least. */
static int register_check(const struct uffd *u, uint64_t start, uint64_t end)
{
	const struct vma *v = vma_find_overlap(u->mm, start, end);

	if (!v)
		return -EINVAL;
	for (; v && v->start < end; v = vma_next(v)) {
		if (!vma_is_anon(v) || is_special(v))
			return -EINVAL;
		if (!v->may_write)
			return -EPERM;
		if (v->uffd && v->uffd != u)
			return -EBUSY;
	}
	return 0;
}

static void set_registered(struct vma *v, void *arg)
{
	v->uffd = arg;
	v->hidden = true;
}

static int register_locked(struct uffd *u, struct p_thread *th, uint64_t start, uint64_t end,
			   struct vma **dead)
{
	struct mm *mm = u->mm;
	int err = register_check(u, start, end);

	if (!err &&
	    (end - start > RANGE_MAX || mm->nvmas + vma_cuts(mm, start, end) > VMA_COUNT_MAX))
		err = -ENOMEM;
	if (!err)
		err = vma_reserve(mm, 2);
	if (err)
		return err;
	for (const struct vma *v = vma_find(mm, start); v && v->start < end && !err;
	     v = vma_next(v))
		err = protect_some(mm, th, MAX(v->start, start), MIN(v->end, end), false,
				   PROT_NONE);
	/* Hidden, even after a failure: what has no access now gets it back by a fault. */
	if (err)
		u = NULL;
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, start, end, set_registered, u, dead);
	mutex_unlock(&mm->lock, &lc_mm);
	return err;
}

int uffd_register(struct uffd *u, struct p_thread *th, uint64_t start, uint64_t end)
{
	struct vma *dead = NULL;

	if (!th)
		return -EINVAL;
	mutex_lock(&u->mm->map_lock, &lc_mm_map);
	int err = register_locked(u, th, start, end, &dead);
	mutex_unlock(&u->mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	return err;
}

int uffd_unregister(struct uffd *u, struct p_thread *th, uint64_t start, uint64_t end)
{
	struct mm *mm = u->mm;
	struct vma *dead = NULL;
	int err = 0;

	if (!th)
		return -EINVAL;
	mutex_lock(&mm->map_lock, &lc_mm_map);
	const struct vma *v = vma_find_overlap(mm, start, end);
	if (!v)
		err = -EINVAL;
	for (; v && v->start < end; v = vma_next(v))
		if (!vma_is_anon(v) || (v->uffd && v->uffd != u))
			err = -EINVAL;
	if (!err && mm->nvmas + vma_cuts(mm, start, end) > VMA_COUNT_MAX)
		err = -ENOMEM;
	if (!err)
		err = uffd_unhide(mm, th, start, end, &dead);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	if (!err)
		uffd_wake(u, start, end);
	return err;
}

static void forget(struct vma *v, void *arg)
{
	if (v->uffd == arg)
		v->uffd = NULL;
}

void uffd_unregister_all(struct uffd *u)
{
	struct mm *mm = u->mm;
	struct vma *dead = NULL;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	mutex_lock(&mm->lock, &lc_mm);
	vma_change(mm, 0, UINT64_MAX, forget, u, &dead); /* cuts nothing */
	mutex_unlock(&mm->lock, &lc_mm);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
	uffd_wake(u, 0, UINT64_MAX);
}

/* ---- filling ---- */

static int check_locked(struct uffd *u, uint64_t start, uint64_t end, const struct vma **out)
{
	const struct vma *v = vma_find(u->mm, start);

	if (!v || v->start > start || v->end < end || v->uffd != u)
		return -ENOENT;
	*out = v;
	return 0;
}

int uffd_check_range(struct uffd *u, uint64_t start, uint64_t end)
{
	const struct vma *v;

	mutex_lock(&u->mm->lock, &lc_mm);
	int err = check_locked(u, start, end, &v);
	mutex_unlock(&u->mm->lock, &lc_mm);
	return err;
}

int uffd_fill(struct uffd *u, struct p_thread *th, uint64_t addr, const void *page)
{
	struct mm *mm = u->mm;
	const struct vma *v;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	int err = check_locked(u, addr, addr + PAGE_SIZE, &v);
	if (!err && page_is_there(mm, addr))
		err = -EEXIST;
	if (!err && mm_write_host(mm, addr, page, PAGE_SIZE) != PAGE_SIZE)
		err = -ENOMEM;
	/* Whoever is of another process leaves it to the next fault. */
	if (!err && th && v->prot) {
		struct p_memop op = protect_op(addr, addr + PAGE_SIZE, v->prot);
		err = mm_run(mm, th, &op, 1);
	}
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	return err;
}

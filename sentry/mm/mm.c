#include "sentry/mm/mm.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "sentry/host/reopen.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

int (*mm_shared_anon_file)(uint64_t size, struct file **out);

/* Linux's defaults of x86-64 (mmap_base() and STACK_TOP): bits of randomness in pages. */
#define MMAP_RND_PAGES (1ULL << 28)
#define STACK_RND_PAGES (1ULL << 22)
#define MMAP_GAP_MIN (128ULL << 20)
#define STACK_LIMIT_DEFAULT (8ULL << 20)

/* ---- life ---- */

static uint64_t layout_random(const struct mm *mm, enum mm_seed which, uint64_t pages)
{
	return mm->no_randomize ? 0 : mm->seed[which] % pages << PAGE_SHIFT;
}

void mm_layout(struct mm *mm)
{
	const struct p_limits *lim = mm->pf->ops->limits(mm->pf);
	uint64_t top = mm->task_size;
	uint64_t stack_span = (STACK_RND_PAGES << PAGE_SHIFT) + STACK_GUARD_GAP;
	uint64_t low_vdso = lim->vvar_base ? MIN(lim->vvar_base, lim->vdso_base) : lim->vdso_base;

	/* The vDSO stands where the platform has it; the stack goes below it. */
	if (low_vdso && low_vdso < top && low_vdso > top - 2 * stack_span)
		top = page_down(low_vdso) - PAGE_SIZE;
	mm->stack_top = top - layout_random(mm, MM_SEED_STACK, STACK_RND_PAGES);

	uint64_t gap = mm->rlimit_stack;
	if (gap + stack_span > gap)
		gap += stack_span;
	gap = MAX(gap, MMAP_GAP_MIN);
	gap = MIN(gap, top / 6 * 5);
	mm->mmap_top = page_down(top - gap - layout_random(mm, MM_SEED_MMAP, MMAP_RND_PAGES));
}

static void add_special(struct mm *mm, uint64_t base, uint64_t len, int prot, const char *name)
{
	if (!base || !len)
		return;
	struct vma *v = vma_take(mm);
	v->start = v->off = base;
	v->end = base + len;
	v->prot = prot;
	v->flags = MAP_PRIVATE | MAP_ANONYMOUS;
	v->may_write = v->may_exec = true;
	v->name = name;
	vma_insert(mm, v);
}

static struct mm *mm_alloc(struct platform *pf)
{
	struct mm *mm = calloc(1, sizeof(*mm));
	if (!mm)
		return NULL;

	const struct p_limits *lim = pf->ops->limits(pf);
	ref_init(&mm->ref, 1);
	mm->pf = pf;
	mutex_init(&mm->map_lock);
	mutex_init(&mm->lock);
	vma_tree_init(mm);
	mm->task_size = lim->task_size;
	mm->mmap_min = lim->mmap_min;
	mm->dumpable = 1;
	mm->user_ns = user_ns_get(&user_ns_top);
	mm->rlimit_as = mm->rlimit_data = mm->rlimit_memlock = RLIM_INFINITY;
	mm->rlimit_stack = STACK_LIMIT_DEFAULT;
	return mm;
}

/* One without memory yet: its host process is to come. */
static int mm_new(struct platform *pf, struct mm **out)
{
	struct mm *mm = mm_alloc(pf);
	if (!mm)
		return -ENOMEM;

	int err = vma_reserve(mm, 4);
	if (!err && getrandom(mm->seed, sizeof(mm->seed), 0) != (ssize_t)sizeof(mm->seed))
		err = -EAGAIN;
	if (err) {
		mm_put(mm);
		return err;
	}
	const struct p_limits *lim = pf->ops->limits(pf);
	add_special(mm, lim->vvar_base, lim->vvar_len, PROT_READ, "[vvar]");
	add_special(mm, lim->vdso_base, lim->vdso_len, PROT_READ | PROT_EXEC, "[vdso]");
	mm_layout(mm);
	*out = mm;
	return 0;
}

int mm_create(struct platform *pf, struct mm **out, struct p_thread **th)
{
	struct mm *mm;
	int err = mm_new(pf, &mm);

	if (!err && (err = pf->ops->aspace_create(pf, &mm->as, th)))
		mm_put(mm);
	if (!err)
		*out = mm;
	return err;
}

bool mm_renewable(struct mm *old, struct p_thread *th)
{
	const struct platform_ops *ops = old->pf->ops;

	return ref_read(&old->ref) == 1 && ops->can_reset && ops->can_reset(th);
}

int mm_renew(struct mm *old, struct p_thread *th, struct mm **out)
{
	struct mm *mm;

	if (!mm_renewable(old, th))
		return -EBUSY;
	int err = mm_new(old->pf, &mm);
	if (err)
		return err;
	mm->as = old->pf->ops->aspace_get(old->as);
	mm->reset_due = true;
	/* Whoever still finds the old one sees nothing of the new program by it. */
	atomic_store(&old->gone, true);
	*out = mm;
	return 0;
}

struct mm *mm_get(struct mm *mm)
{
	ref_get(&mm->ref);
	return mm;
}

void mm_empty(struct mm *mm)
{
	struct vma *dead = NULL;

	mutex_lock(&mm->map_lock, &lc_mm_map);
	mutex_lock(&mm->lock, &lc_mm);
	/* Cuts nothing, so it needs no node. */
	vma_remove_range(mm, 0, mm->task_size, &dead);
	mutex_unlock(&mm->lock, &lc_mm);
	mutex_unlock(&mm->map_lock, &lc_mm_map);
	vma_release_list(dead);
}

void (*mm_gone_hook)(const struct mm *mm);

void mm_put(struct mm *mm)
{
	if (!mm || !ref_put(&mm->ref))
		return;
	if (mm_gone_hook)
		mm_gone_hook(mm);
	if (mm->as)
		mm->pf->ops->aspace_put(mm->as);
	struct vma *v;
	while ((v = vma_of(mm->vmas.node))) {
		rb_erase(&mm->vmas, &v->node);
		file_put(v->file);
		free(v);
	}
	vma_free_spares(mm);
	file_put(mm->exe);
	user_ns_put(mm->user_ns);
	free(mm);
}

void mm_set_user_ns(struct mm *mm, struct user_ns *u)
{
	user_ns_put(mm->user_ns);
	mm->user_ns = user_ns_get(u);
}

unsigned mm_mdwe_inherited(const struct mm *mm)
{
	unsigned mdwe = mm->mdwe;

	return mdwe & MM_MDWE_NO_INHERIT ? 0 : mdwe;
}

/* ---- fork ---- */

static void copy_layout(struct mm *child, struct mm *parent)
{
	child->brk_start = parent->brk_start;
	child->brk = parent->brk;
	child->mmap_top = parent->mmap_top;
	child->stack_top = parent->stack_top;
	child->start_stack = parent->start_stack;
	child->code_start = parent->code_start;
	child->code_end = parent->code_end;
	child->data_start = parent->data_start;
	child->data_end = parent->data_end;
	child->arg_start = parent->arg_start;
	child->arg_end = parent->arg_end;
	child->env_start = parent->env_start;
	child->env_end = parent->env_end;
	memcpy(child->auxv, parent->auxv, sizeof(child->auxv));
	child->auxv_words = parent->auxv_words;
	child->exe = parent->exe ? file_get(parent->exe) : NULL;
	child->dumpable = parent->dumpable;
	mm_set_user_ns(child, parent->user_ns);
	child->thp_disabled = parent->thp_disabled;
	child->mdwe = mm_mdwe_inherited(parent);
	child->rlimit_as = parent->rlimit_as;
	child->rlimit_data = parent->rlimit_data;
	child->rlimit_stack = parent->rlimit_stack;
	child->rlimit_memlock = parent->rlimit_memlock;
	memcpy(child->seed, parent->seed, sizeof(child->seed));
	child->no_randomize = parent->no_randomize;
}

/*
 * Copies the tree.  The host has copied every page already; what the child must not have
 * (MADV_DONTFORK) or must have empty (MADV_WIPEONFORK) becomes an operation in `ops`, which has
 * room for one a mapping.  Returns their number.
 */
static size_t copy_tree(struct mm *child, struct mm *parent, struct p_memop *ops)
{
	struct rb_node *pos;
	size_t nops = 0;

	rb_for_each (pos, &parent->vmas) {
		const struct vma *v = vma_of(pos);
		if (v->dontfork) {
			ops[nops++] = (struct p_memop){.kind = P_MEMOP_UNMAP,
						       .addr = v->start,
						       .len = v->end - v->start,
						       .fd = -1};
			continue;
		}
		if (v->wipeonfork)
			ops[nops++] = mm_anon_op(v->start, v->end, v->prot);

		struct vma *c = vma_take(child);
		*c = *v;
		c->next_free = NULL;
		c->locked = false; /* mlock(2): locks are not inherited */
		c->uffd = NULL;
		if (c->file)
			file_get(c->file);
		vma_link(child, c);
	}
	return nops;
}

static size_t count_fork_ops(const struct mm *mm)
{
	struct rb_node *pos;
	size_t n = 0;

	rb_for_each (pos, &mm->vmas) {
		const struct vma *v = vma_of(pos);
		n += v->dontfork || v->wipeonfork;
	}
	return n;
}

static int fork_locked(struct mm *parent, struct p_thread *th, struct mm *child,
		       struct p_thread **child_th)
{
	struct p_memop *ops = NULL;
	size_t nops = count_fork_ops(parent);
	int err = vma_reserve(child, parent->nvmas);

	if (!err && nops && !(ops = calloc(nops, sizeof(*ops))))
		err = -ENOMEM;
	if (!err)
		err = parent->pf->ops->fork(th, &child->as, child_th);
	if (!err) {
		mutex_lock(&parent->lock, &lc_mm);
		copy_layout(child, parent);
		mutex_unlock(&parent->lock, &lc_mm);
		nops = copy_tree(child, parent, ops);
		if (nops && (err = mm_run(child, *child_th, ops, nops)))
			parent->pf->ops->thread_destroy(*child_th);
	}
	free(ops);
	return err;
}

int mm_fork(struct mm *parent, struct p_thread *th, struct mm **out, struct p_thread **child_th)
{
	struct mm *child = mm_alloc(parent->pf);
	if (!child)
		return -ENOMEM;

	struct p_thread *cth = NULL;
	mutex_lock(&parent->map_lock, &lc_mm_map);
	int err = fork_locked(parent, th, child, &cth);
	mutex_unlock(&parent->map_lock, &lc_mm_map);
	if (err) {
		mm_put(child);
		return err;
	}
	*out = child;
	*child_th = cth;
	return 0;
}

/* ---- host operations and limits ---- */

int mm_run(struct mm *mm, struct p_thread *th, struct p_memop *ops, size_t n)
{
	return n ? mm->pf->ops->mem(th, ops, n) : 0;
}

/* The host's own count of mappings, which may be higher, must be far from its limit: then nothing
 * but a map can fail. */
#define LATE_VMAS_MAX 20000

bool mm_run_later(struct mm *mm, struct p_thread *th, struct p_memop *op, int kind)
{
	const struct platform_ops *ops = mm->pf->ops;

	if (!ops->mem_later || mm->nvmas > LATE_VMAS_MAX || mm->reset_due ||
	    !ops->mem_later(th, op))
		return false;
	mm->late.kind = kind;
	mm->late.start = op->addr;
	mm->late.end = op->addr + op->len;
	mm->late.old_brk = mm->brk;
	return true;
}

struct p_memop mm_anon_op(uint64_t start, uint64_t end, int prot)
{
	/*
	 * Never accounted by the host: the sentry has judged the commitment already, and equal
	 * flags let the host merge neighbours as the tree does.
	 */
	return (struct p_memop){.kind = P_MEMOP_MAP,
				.addr = start,
				.len = end - start,
				.prot = mm_host_prot(prot),
				.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
				.fd = -1};
}

void mm_set_rlimit(struct mm *mm, int resource, uint64_t cur)
{
	mutex_lock(&mm->lock, &lc_mm);
	switch (resource) {
	case RLIMIT_AS:
		mm->rlimit_as = cur;
		break;
	case RLIMIT_DATA:
		mm->rlimit_data = cur;
		break;
	case RLIMIT_STACK:
		mm->rlimit_stack = cur;
		break;
	case RLIMIT_MEMLOCK:
		mm->rlimit_memlock = cur;
		break;
	}
	mutex_unlock(&mm->lock, &lc_mm);
}

bool mm_may_expand(const struct mm *mm, uint64_t len, bool data)
{
	uint64_t pages = len >> PAGE_SHIFT;

	if (mm->total_pages + pages > mm->rlimit_as >> PAGE_SHIFT)
		return false;
	return !data || mm->data_pages + pages <= mm->rlimit_data >> PAGE_SHIFT;
}

bool mm_may_commit(uint64_t len)
{
	static _Atomic uint64_t total; /* RAM and swap of the host; does not change */
	uint64_t t = atomic_load_explicit(&total, memory_order_relaxed);

	if (!t) {
		struct sysinfo si;
		if (sysinfo(&si) != 0)
			return true;
		t = ((uint64_t)si.totalram + si.totalswap) * si.mem_unit;
		atomic_store_explicit(&total, t, memory_order_relaxed);
	}
	return len <= t;
}

int mm_check_range(uint64_t addr, uint64_t len, int overflow, uint64_t *end)
{
	if (addr & ~PAGE_MASK)
		return -EINVAL;
	*end = addr + page_up(len);
	if (*end < addr)
		return overflow;
	return 0;
}

/* ---- readers ---- */

/* A copy for outside: with a file reference, and shown as /proc/PID/maps shows it. */
static void export_vma(const struct mm *mm, const struct vma *v, struct vma *out)
{
	*out = *v;
	if (out->file)
		file_get(out->file);
	if (vma_is_anon(v))
		out->off = 0;
	/* Only the part that holds the first stack frame is "[stack]". */
	if (v->flags & MAP_GROWSDOWN && v->name && v->end != mm->stack_top)
		out->name = NULL;
}

int mm_for_each(struct mm *mm, int (*fn)(const struct vma *v, void *arg), void *arg)
{
	uint64_t pos = 0;

	for (;;) {
		struct vma copy;
		mutex_lock(&mm->lock, &lc_mm);
		const struct vma *v = vma_find(mm, pos);
		if (v)
			export_vma(mm, v, &copy);
		mutex_unlock(&mm->lock, &lc_mm);
		if (!v)
			return 0;

		int err = fn(&copy, arg);
		pos = copy.end;
		file_put(copy.file);
		if (err)
			return err;
	}
}

bool mm_lookup(struct mm *mm, uint64_t addr, struct vma *out)
{
	mutex_lock(&mm->lock, &lc_mm);
	const struct vma *v = vma_find(mm, addr);
	bool found = v && v->start <= addr;
	if (found)
		export_vma(mm, v, out);
	mutex_unlock(&mm->lock, &lc_mm);
	return found;
}

/* [addr, end) is mapped, with one of the bits of `prot` in each mapping; plain: and private, and
 * the host agrees. */
static bool is_covered(struct mm *mm, uint64_t addr, uint64_t len, int prot, bool plain)
{
	int flags = plain ? MAP_SHARED : 0;

	uint64_t end = addr + len;
	bool ok = end >= addr && end <= mm->task_size;

	mutex_lock(&mm->lock, &lc_mm);
	const struct vma *v = vma_find(mm, addr);
	while (ok && addr < end) {
		ok = v && v->start <= addr && v->prot & prot && !(v->flags & flags) &&
		     !(plain && v->hidden);
		if (ok) {
			addr = v->end;
			v = vma_next(v);
		}
	}
	mutex_unlock(&mm->lock, &lc_mm);
	return ok;
}

bool mm_may_access(struct mm *mm, uint64_t addr, uint64_t len, bool write)
{
	return is_covered(mm, addr, len, write ? PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC,
			  false);
}

bool mm_is_plain(struct mm *mm, uint64_t addr, uint64_t len)
{
	return is_covered(mm, addr, len, PROT_WRITE, true);
}

bool mm_holds_secret(struct mm *mm, uint64_t addr, uint64_t len)
{
	bool found = false;

	mutex_lock(&mm->lock, &lc_mm);
	for (const struct vma *v = vma_find(mm, addr); v && v->start < addr + len && !found;
	     v = vma_next(v))
		found = v->file && v->file->ops->map_secret;
	mutex_unlock(&mm->lock, &lc_mm);
	return found;
}

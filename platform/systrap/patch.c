/*
 * Text with patched call sites in one address space: which mappings have it, how they come to have
 * it and lose it, and where in the original a thread stands.
 *
 * A mapping of a file whose patched copy exists is made of the copy from the start.  A process that
 * was there before gets the copy when its calls trap: it is mapped in the place of the file, in one
 * step, so that other threads of the process run in the one or the other: the trampolines of
 * earlier copies, where they may stand, are in all later ones.  Only a copy with a site between
 * whose instructions another thread could stand waits until there is no other.
 *
 * What guest code may want to see or change - a tracer's view, a writable or partly unmapped text -
 * is the file again before that, for good.  The trampolines stay, for who stands in one.
 */
#include "platform/systrap/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SWAP_TRAPS 4 /* in a mapping, before it is exchanged for a copy */
#define TEXTS_STEP 8
#define PAGE 4096UL

static bool has_copy(const struct text *t)
{
	return t->image && !t->restored;
}

/* The mapping that holds addr, or NULL. */
static struct text *text_at(const struct p_aspace *as, uint64_t addr)
{
	for (uint32_t i = 0; i < as->ntexts; i++)
		if (addr - as->texts[i].start < as->texts[i].len)
			return &as->texts[i];
	return NULL;
}

/* `which` counts the descriptors that go with the command. */
static struct st_op map_op(uint64_t addr, uint64_t len, uint64_t which, uint64_t off)
{
	return (struct st_op){
		.nr = SYS_mmap,
		.flags = ST_OP_FD,
		.arg = {addr, len, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, which, off}};
}

/* ---- giving a mapping its copy ---- */

static bool map_all(struct p_thread *th, int n, const int *fds, int nfds)
{
	return command_ops(th, (size_t)n, fds, nfds) == n &&
	       __atomic_load_n(&th->ps->ops[n - 1].ret, __ATOMIC_RELAXED) >= 0;
}

/* The trampolines first: the sites lead there. */
static bool map_copy(struct p_thread *th, uint64_t start, const struct text_image *im)
{
	int n = 0;

	owed_run(th);
	for (int i = im->nruns - 1; i >= 0; i--) {
		const struct text_run *r = &im->runs[i];
		th->ps->ops[n++] = map_op(start + r->off, r->len, 0, r->off);
	}
	return map_all(th, n, &im->fd, 1);
}

/* Exchanges the mapping at `start` for the latest copy of its file, unless something stands against
 * it.  Under text_change. */
static void swap(struct p_thread *th, uint64_t start)
{
	struct p_aspace *as = th->as;
	struct text_image *im = NULL, *old = NULL;

	mutex_lock(&as->pf->text_lock, &lc_text);
	struct text *t = text_at(as, start);
	if (t && !t->restored && t->file->image != t->image && !atomic_load(&as->no_patching) &&
	    (as->nthreads == 1 || !t->file->image->between || (t->image && t->image->between)))
		im = image_get(t->file->image);
	if (im) {
		as->pf->stats.texts++;
		/* Before the first thread can stand in it. */
		old = t->image;
		t->image = im;
		t->traps = 0;
	}
	mutex_unlock(&as->pf->text_lock, &lc_text);
	if (im && !map_copy(th, start, im))
		thread_misbehaved(th, "text that cannot be exchanged");
	image_put(old);
}

void patch_note(struct p_thread *th, uint64_t ret, uint32_t nr)
{
	struct p_aspace *as = th->as;
	struct systrap *pf = as->pf;
	const uint64_t call = ret - ARCH_SYSCALL_INSN_LEN;
	struct text_file *build = NULL;
	uint64_t start = 0;

	if (st_must_trap(nr) || atomic_load(&as->no_patching))
		return;
	mutex_lock(&pf->text_lock, &lc_text);
	struct text *t = text_at(as, call);
	if (t && !t->restored) {
		if (text_learn(t->file, (uint32_t)(call - t->start)))
			build = t->file;
		if (++t->traps >= SWAP_TRAPS)
			start = t->start;
	}
	mutex_unlock(&pf->text_lock, &lc_text);
	if (build)
		text_build(pf, build);
	if (start && mutex_trylock(&as->text_change, &lc_text_change)) {
		swap(th, start);
		mutex_unlock(&as->text_change, &lc_text_change);
	}
}

/* ---- and taking it away ---- */

/* The file's own code, but for the last page: there it is the copy's plain end. */
static bool map_plain(struct p_thread *th, const struct text *t)
{
	const int fds[2] = {t->image->fd, t->file->fd};
	const uint64_t last = t->len - PAGE;
	int n = 0;

	owed_run(th);
	th->ps->ops[n++] = map_op(t->start + last, PAGE, 0, t->len);
	if (last)
		th->ps->ops[n++] = map_op(t->start, last, 1, t->file->key.off);
	return map_all(th, n, fds, 2);
}

/* Under text_change, which keeps t's file mapped and t where it is said to be. */
static void restore(struct p_thread *th, const struct text *t)
{
	if (!map_plain(th, t))
		thread_misbehaved(th, "text that stays patched");
}

static bool touches(const struct text *t, uint64_t start, uint64_t len)
{
	return t->start < start + len && start < t->start + t->len;
}

static bool lies_in(const struct text *t, uint64_t start, uint64_t len)
{
	return t->start >= start && t->start + t->len <= start + len;
}

/*
 * Before [start, start+len) changes: what is touched shows its own code from now on, unless it lies
 * in there whole and that does not matter.  Under text_change.
 */
static void restore_range(struct p_thread *th, uint64_t start, uint64_t len, bool but_whole)
{
	struct p_aspace *as = th->as;

	for (uint32_t i = 0; i < as->ntexts; i++) {
		struct text *t = &as->texts[i];
		if (!touches(t, start, len) || (but_whole && lies_in(t, start, len)))
			continue;
		if (has_copy(t))
			restore(th, t);
		mutex_lock(&as->pf->text_lock, &lc_text);
		t->restored = true;
		mutex_unlock(&as->pf->text_lock, &lc_text);
	}
}

void patch_withdraw(struct p_thread *th)
{
	struct p_aspace *as = th->as;

	if (atomic_exchange(&as->no_patching, true))
		return;
	mutex_lock(&as->text_change, &lc_text_change);
	restore_range(th, 0, ST_TOP, false);
	mutex_unlock(&as->text_change, &lc_text_change);
}

/* ---- following the process's memory operations ---- */

static bool is_text(const struct p_memop *m)
{
	return m->kind == P_MEMOP_MAP && m->fd >= 0 && m->flags & MAP_PRIVATE && m->len &&
	       m->len <= INT32_MAX && m->len % PAGE == 0 &&
	       (m->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) == (PROT_READ | PROT_EXEC);
}

/* What a map is going to be of: the file's latest copy, where there is one. */
static void choose_text(struct p_thread *th, const struct p_memop *m, struct text *t)
{
	struct systrap *pf = th->as->pf;

	*t = (struct text){.start = m->addr, .len = m->len};
	t->file = text_open(pf, m->fd, m->off, m->len, &t->image);
	if (!t->image || (!atomic_load(&th->as->no_patching) && t->image->nruns == 1))
		return;
	image_put(t->image);
	t->image = NULL;
}

static void before_op(struct p_thread *th, const struct p_memop *m)
{
	switch (m->kind) {
	case P_MEMOP_MAP:
	case P_MEMOP_UNMAP:
		restore_range(th, m->addr, m->len, true);
		break;
	case P_MEMOP_RESIZE:
		restore_range(th, m->addr, m->len, false);
		break;
	case P_MEMOP_PROTECT:
		if ((m->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) != (PROT_READ | PROT_EXEC))
			restore_range(th, m->addr, m->len, false);
		break;
	case P_MEMOP_RESET:
		atomic_store(&th->as->no_patching, false); /* that was for the program before */
		break;
	case P_MEMOP_MOVE:
		restore_range(th, m->new_addr, m->new_len, true);
		restore_range(th, m->addr, m->len, m->new_len >= m->len);
		break;
	default:
		break;
	}
}

static void forget(struct p_aspace *as, struct text *t) REQUIRES(lc_text)
{
	text_close_locked(t->file);
	image_put(t->image);
	*t = as->texts[--as->ntexts];
}

static void forget_range(struct p_aspace *as, uint64_t start, uint64_t len) REQUIRES(lc_text)
{
	for (uint32_t i = as->ntexts; i-- > 0;)
		if (touches(&as->texts[i], start, len))
			forget(as, &as->texts[i]);
}

static void move_range(struct p_aspace *as, const struct p_memop *m) REQUIRES(lc_text)
{
	forget_range(as, m->new_addr, m->new_len);
	for (uint32_t i = 0; i < as->ntexts && m->new_len >= m->len; i++)
		if (lies_in(&as->texts[i], m->addr, m->len))
			as->texts[i].start += m->new_addr - m->addr;
	forget_range(as, m->addr, m->len);
}

static void after_op(struct p_aspace *as, const struct p_memop *m) REQUIRES(lc_text)
{
	if (m->ret < 0)
		return;
	switch (m->kind) {
	case P_MEMOP_MAP:
	case P_MEMOP_UNMAP:
	case P_MEMOP_RESIZE:
		forget_range(as, m->addr, m->len);
		break;
	case P_MEMOP_RESET:
		forget_range(as, 0, ST_TASK_SIZE);
		break;
	case P_MEMOP_MOVE:
		move_range(as, m);
		break;
	default:
		break;
	}
}

static bool room_for_text(struct p_aspace *as) REQUIRES(lc_text)
{
	if (as->ntexts < as->texts_cap)
		return true;
	struct text *t = realloc(as->texts, (as->texts_cap + TEXTS_STEP) * sizeof(*t));
	if (!t)
		return false;
	as->texts = t;
	as->texts_cap += TEXTS_STEP;
	return true;
}

static bool changes_maps(enum p_memop_kind kind)
{
	return kind != P_MEMOP_WAKE && kind != P_MEMOP_ADVISE && kind != P_MEMOP_CLEAR &&
	       kind != P_MEMOP_WRITE;
}

/* clang's analysis does not follow a lock that is taken in one function, sometimes, and released in
 * another: patch_end(). */
void patch_begin(struct p_thread *th, const struct p_memop *ops, size_t n,
		 struct patch_batch *b) NO_LOCK_ANALYSIS
{
	struct systrap *pf = th->as->pf;
	bool on = pf->opt.patching && pf->fsgsbase;

	b->nmaps = 0;
	b->begun = false;
	for (size_t i = 0; on && !b->begun && i < n; i++)
		b->begun = changes_maps(ops[i].kind);
	if (!b->begun)
		return;
	mutex_lock(&th->as->text_change, &lc_text_change);
	for (size_t i = 0; i < n; i++) {
		before_op(th, &ops[i]);
		if (!is_text(&ops[i]) || b->nmaps == PATCH_MAPS)
			continue;
		choose_text(th, &ops[i], &b->text[b->nmaps]);
		if (b->text[b->nmaps].file)
			b->op[b->nmaps++] = &ops[i];
	}
}

const struct text_image *patch_copy_of(const struct patch_batch *b, const struct p_memop *op)
{
	for (int i = 0; i < b->nmaps; i++)
		if (b->op[i] == op)
			return b->text[i].image;
	return NULL;
}

void patch_end(struct p_thread *th, const struct p_memop *ops, size_t n,
	       struct patch_batch *b) NO_LOCK_ANALYSIS
{
	struct p_aspace *as = th->as;
	int next = 0;

	if (!b->begun)
		return;
	mutex_lock(&as->pf->text_lock, &lc_text);
	for (size_t i = 0; i < n; i++) {
		after_op(as, &ops[i]);
		if (next == b->nmaps || b->op[next] != &ops[i])
			continue;
		struct text *t = &b->text[next++];
		if (ops[i].ret >= 0 && room_for_text(as)) {
			as->texts[as->ntexts++] = *t;
			as->pf->stats.texts += t->image != NULL;
		} else {
			text_close_locked(t->file);
			image_put(t->image);
		}
	}
	mutex_unlock(&as->pf->text_lock, &lc_text);
	mutex_unlock(&as->text_change, &lc_text_change);
}

int patch_fork(struct p_aspace *child, const struct p_aspace *parent)
{
	struct systrap *pf = parent->pf;
	int err = 0;

	atomic_store(&child->no_patching, atomic_load(&parent->no_patching));
	mutex_lock(&pf->text_lock, &lc_text);
	if (parent->ntexts) {
		child->texts = malloc(parent->ntexts * sizeof(*child->texts));
		err = child->texts ? 0 : -ENOMEM;
	}
	for (; !err && child->ntexts < parent->ntexts; child->ntexts++) {
		struct text *t = &child->texts[child->ntexts];
		*t = parent->texts[child->ntexts];
		t->file->mappings++;
		image_get(t->image);
	}
	child->texts_cap = child->ntexts;
	mutex_unlock(&pf->text_lock, &lc_text);
	return err;
}

void patch_forget(struct p_aspace *as)
{
	mutex_lock(&as->pf->text_lock, &lc_text);
	while (as->ntexts)
		forget(as, &as->texts[as->ntexts - 1]);
	mutex_unlock(&as->pf->text_lock, &lc_text);
	free(as->texts);
}

/* ---- where a thread stands ---- */

/* The place in the original of one in a trampoline; `at` if it is in none. */
static uint64_t original_place(const struct text_image *im, uint64_t at)
{
	const struct text_site *s = image_tramp(im, at);

	if (!s)
		return at;
	for (int i = 0; i < s->n; i++)
		if (at - s->tramp == s->to[i])
			return s->start + s->from[i];
	return s->call; /* all was done */
}

/* The reverse, where the jump has been written over more than its own beginning. */
static uint64_t copied_place(const struct text_image *im, uint64_t at)
{
	const struct text_site *s = im->between ? image_site(im, at) : NULL;

	for (int i = 1; s && s->between && i < s->n; i++)
		if (at - s->start == s->from[i])
			return s->tramp + s->to[i];
	return at;
}

bool patch_not_begun(struct p_aspace *as, uint64_t rip)
{
	bool found = false;

	mutex_lock(&as->pf->text_lock, &lc_text);
	const struct text *t = text_at(as, rip);
	if (t && t->image) {
		const struct text_site *s = image_tramp(t->image, rip - t->start);
		found = s && s->tramp == rip - t->start;
	}
	mutex_unlock(&as->pf->text_lock, &lc_text);
	return found;
}

void patch_original_place(struct p_aspace *as, struct arch_regs *r)
{
	mutex_lock(&as->pf->text_lock, &lc_text);
	const struct text *t = text_at(as, r->rip);
	if (t && t->image)
		r->rip = t->start + original_place(t->image, r->rip - t->start);
	mutex_unlock(&as->pf->text_lock, &lc_text);
}

void patch_copied_place(struct p_aspace *as, struct arch_regs *r)
{
	mutex_lock(&as->pf->text_lock, &lc_text);
	const struct text *t = text_at(as, r->rip);
	if (t && has_copy(t))
		r->rip = t->start + copied_place(t->image, r->rip - t->start);
	mutex_unlock(&as->pf->text_lock, &lc_text);
}

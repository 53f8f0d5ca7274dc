/*
 * loader_load: maps program, interpreter and stack into a fresh address space, in one batch to the
 * host process, and clears the ends of data pages (design rule 39).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/lib/cleanup.h"
#include "sentry/loader/image.h"
#include "sentry/mm/mm.h"
#include "sentry/vfs/file.h"

/* Where Linux puts position-independent programs: two thirds of the address range, plus up to 2^28
 * pages. */
#define PIE_BASE 0x555555554000UL
#define PIE_RND_PAGES (1UL << 28)
/* Linux moves the break up by at most this. */
#define BRK_RND_PAGES (1UL << 18)

/* The maps of one load. */
struct batch {
	struct mm_map_args *maps;
	size_t n;
	struct zero_range {
		uint64_t addr, len;
		bool must;    /* writable: a failure counts */
		size_t map;   /* whose end it is */
		size_t nmaps; /* how many maps were there when it was noted */
	} * zeros;
	size_t nzeros;
};

static void batch_fini(struct batch *b)
{
	free(b->maps);
	free(b->zeros);
}

static int batch_init(struct batch *b, size_t nsegments)
{
	*b = (struct batch){
		.maps = calloc(2 * nsegments + 1, sizeof(*b->maps)),
		.zeros = calloc(nsegments + 1, sizeof(*b->zeros)),
	};
	return b->maps && b->zeros ? 0 : -ENOMEM;
}

static void batch_map(struct batch *b, const struct elf_map *m, struct file *file)
{
	if (!m->len)
		return;
	b->maps[b->n++] = (struct mm_map_args){
		.addr = m->addr,
		.len = m->len,
		.prot = m->prot,
		.flags = MAP_PRIVATE | MAP_FIXED | (file ? 0 : MAP_ANONYMOUS),
		.file = file,
		.off = m->off,
	};
}

/* Later segments lie over earlier ones where they share pages, as in Linux. */
static int batch_image(struct batch *b, const struct elf_image *img, uint64_t bias,
		       struct file *file)
{
	for (size_t i = 0; i < img->nsegments; i++) {
		struct elf_layout lay;
		int err = elf_segment_layout(&img->segments[i], bias, &lay);
		if (err)
			return err;
		size_t map = b->n;
		batch_map(b, &lay.file, file);
		batch_map(b, &lay.anon, NULL);
		if (lay.zero_len)
			b->zeros[b->nzeros++] =
				(struct zero_range){.addr = lay.zero_addr,
						    .len = lay.zero_len,
						    .must = img->segments[i].prot & PROT_WRITE,
						    .map = map,
						    .nmaps = b->n};
	}
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
	return a < b_end && b < a_end;
}

/* A place among the libraries that keeps the file's alignment: the bias is a multiple of it. */
static uint64_t find_base(struct mm *mm, const struct elf_image *img, uint64_t below)
{
	uint64_t skew = img->low % img->align;
	uint64_t at = mm_find_gap(mm, img->high - img->low + skew, img->align, below);

	return at ? at + skew : 0;
}

/* Chooses how far the program moves from its own addresses. */
static int place_program(struct mm *mm, const struct elf_image *img, bool has_interp,
			 uint64_t stack_low, uint64_t *bias)
{
	uint64_t span = img->high - img->low, base;

	if (!img->dyn) {
		base = img->low;
	} else if (has_interp) {
		base = PIE_BASE;
		if (!mm->no_randomize)
			base += mm->seed[MM_SEED_PIE] % PIE_RND_PAGES << PAGE_SHIFT;
		base = (base & ~(img->align - 1)) + img->low % img->align;
	} else {
		/* Without an interpreter it may be one itself, called by name: it goes where
		 * libraries go, so that the heap has room. */
		base = find_base(mm, img, 0);
		if (!base)
			return -ENOMEM;
	}
	if (base > mm->task_size || span > mm->task_size - base)
		return -ENOMEM;
	if (overlap(base, base + span, stack_low, mm->task_size) || !mm_range_free(mm, base, span))
		return -EEXIST;
	*bias = base - img->low;
	return 0;
}

static int place_interp(struct mm *mm, const struct elf_image *img, uint64_t prog_low,
			uint64_t prog_high, uint64_t *bias)
{
	uint64_t span = img->high - img->low, base = img->low;

	if (img->dyn) {
		base = find_base(mm, img, 0);
		if (base && overlap(base, base + span, prog_low, prog_high))
			base = find_base(mm, img, prog_low);
		if (!base)
			return -ENOMEM;
	} else if (overlap(base, base + span, prog_low, prog_high)) {
		return -EEXIST;
	}
	*bias = base - img->low;
	return 0;
}

/* A later segment may share the page, and then it is that one's data which counts. */
static bool is_covered(const struct batch *b, const struct zero_range *z)
{
	for (size_t i = z->nmaps; i < b->n; i++)
		if (z->addr >= b->maps[i].addr && z->addr - b->maps[i].addr < b->maps[i].len)
			return true;
	return false;
}

/* Maps all, and clears the ends of data: most of them in the same batch. */
static int map_batch(struct batch *b, struct mm *mm, struct p_thread *th)
{
	const struct umem um = {.mm = mm, .th = th};
	size_t left = 0;

	for (size_t i = 0; i < b->nzeros; i++) {
		struct zero_range *z = &b->zeros[i];
		if (is_covered(b, z))
			continue;
		if (z->must) {
			b->maps[z->map].clear_addr = z->addr;
			b->maps[z->map].clear_len = z->len;
		} else {
			b->zeros[left++] = *z;
		}
	}
	int err = mm_map_many(mm, th, b->maps, b->n, NULL);
	for (size_t i = 0; !err && i < left; i++)
		if (clear_out(&um, UADDR(b->zeros[i].addr), b->zeros[i].len))
			continue; /* not writable, and Linux does not mind either */
	return err;
}

/*
 * The break follows the program.  A program among the libraries has no room for a heap there; its
 * break goes where other programs have theirs.
 */
static void set_break(struct mm *mm, const struct elf_image *img, uint64_t bias, bool has_interp)
{
	uint64_t start = page_up(img->brk + bias);

	if (img->dyn && !has_interp)
		start = PIE_BASE;
	if (!mm->no_randomize)
		start += mm->seed[MM_SEED_BRK] % BRK_RND_PAGES << PAGE_SHIFT;
	mm->brk_start = mm->brk = start;
}

static void record(struct mm *mm, const struct elf_image *img, uint64_t bias, bool has_interp)
{
	mutex_lock(&mm->lock, &lc_mm);
	mm->code_start = img->code_start == UINT64_MAX ? 0 : img->code_start + bias;
	mm->code_end = img->code_end + bias;
	mm->data_start = img->data_start + bias;
	mm->data_end = img->data_end + bias;
	set_break(mm, img, bias, has_interp);
	mutex_unlock(&mm->lock, &lc_mm);
}

/* Where everything goes; the stack is the first map. */
static int place_images(struct loader_program *prog, struct mm *mm, struct batch *b,
			struct load_addresses *at)
{
	const struct loader_image *img = prog->priv;
	uint64_t stack_low = stack_bottom(prog, mm);
	const struct elf_map stack = {.addr = stack_low,
				      .len = mm->stack_top - stack_low,
				      .prot = PROT_READ | PROT_WRITE |
					      (img->prog.exec_stack ? PROT_EXEC : 0)};

	int err = place_program(mm, &img->prog, prog->interp, stack_low, &at->bias);
	if (err)
		return err;
	batch_map(b, &stack, NULL);
	b->maps[0].flags |= MAP_GROWSDOWN;
	b->maps[0].name = "[stack]";
	if ((err = batch_image(b, &img->prog, at->bias, prog->file)))
		return err;
	at->entry = img->prog.entry + at->bias;
	if (prog->interp) {
		err = place_interp(mm, &img->interp, img->prog.low + at->bias,
				   img->prog.high + at->bias, &at->interp_base);
		if (!err)
			err = batch_image(b, &img->interp, at->interp_base, prog->interp);
		if (err)
			return err;
	}
	return 0;
}

/* What is on the stack goes along with the maps, if it is not too long for that. */
static int map_all(struct batch *b, const struct stack_image *st, struct mm *mm,
		   struct p_thread *th)
{
	const struct umem um = {.mm = mm, .th = th};

	_Static_assert(ARRAY_SIZE(st->parts) == MM_FILLS, "a map takes all parts");
	for (size_t i = 0; i < MM_FILLS; i++)
		if (st->parts[i].len <= P_WRITE_MAX)
			b->maps[0].fill[i] = st->parts[i];
	int err = map_batch(b, mm, th);
	for (size_t i = 0; !err && i < MM_FILLS; i++)
		if (st->parts[i].len > P_WRITE_MAX)
			err = copy_out(&um, UADDR(st->parts[i].addr), st->parts[i].bytes,
				       st->parts[i].len);
	return err;
}

/* Linux's kbasename() into the 16 bytes of a task's name. */
static void set_comm(char comm[16], const char *filename)
{
	const char *slash = strrchr(filename, '/');

	memset(comm, 0, 16);
	memccpy(comm, slash ? slash + 1 : filename, '\0', 15);
}

int loader_load(struct loader_program *prog, struct mm *mm, struct p_thread *th,
		const struct cred *cred, bool secure, struct loader_result *out)
{
	const struct loader_image *img = prog->priv;
	struct load_addresses at = {0};
	struct stack_image st = {0};
	struct batch b;
	int err = img->prog.load_error;

	if (!err && prog->interp)
		err = img->interp.load_error;
	if (err)
		return err;
	mm_layout(mm);
	err = batch_init(&b, img->prog.nsegments + (prog->interp ? img->interp.nsegments : 0));
	if (!err)
		err = place_images(prog, mm, &b, &at);
	if (!err)
		err = stack_build(prog, mm, cred, secure, &at, &st);
	if (!err)
		err = map_all(&b, &st, mm, th);
	batch_fini(&b);
	free(st.vectors);
	if (err)
		return err;

	uint64_t entry = prog->interp ? img->interp.entry + at.interp_base : at.entry;
	if (entry >= mm->task_size)
		return -EINVAL;
	record(mm, &img->prog, at.bias, prog->interp);
	out->stack = st.sp;
	out->entry = entry;
	out->exe = file_get(prog->file);
	set_comm(out->comm, prog->filename);
	return 0;
}

/*
 * The first stack: argc, argv, envp, the auxiliary vector, and the strings they point to.  Laid
 * out as Linux does (x86-64 psABI, "Initial Stack and Register State"; getauxval(3)).
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include "sentry/lib/cleanup.h"
#include "sentry/loader/image.h"
#include "sentry/mm/mm.h"

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#define AT_RSEQ_ALIGN 28
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define STACK_SPARE (128UL << 10) /* mapped below the first frame, as Linux does */
#define SP_RND_BYTES 8192	  /* arch_align_stack() */
#define RANDOM_BYTES 16

static const char platform_name[] = "x86_64";

/* Room between the strings and the vectors: alignment and its randomness, platform, AT_RANDOM. */
#define EXTRAS_MAX (SP_RND_BYTES + 64)

static size_t vector_words(const struct loader_program *prog)
{
	return 1 + prog->argc + 1 + prog->envc + 1; /* argc, two vectors with their NULLs */
}

uint64_t stack_bottom(const struct loader_program *prog, const struct mm *mm)
{
	const struct loader_image *img = prog->priv;
	uint64_t used = img->strings.size + EXTRAS_MAX + vector_words(prog) * sizeof(uint64_t) +
			sizeof(mm->auxv);
	uint64_t size = page_up(used + STACK_SPARE);

	/* The limit may be less, but never less than what the arguments need. */
	if (size > mm->rlimit_stack)
		size = MAX(page_down(mm->rlimit_stack), page_up(used));
	return mm->stack_top - size;
}

static void aux(struct mm *mm, uint64_t type, uint64_t value)
{
	mm->auxv[mm->auxv_words++] = type;
	mm->auxv[mm->auxv_words++] = value;
}

/* A value that describes the machine: the guest runs on it natively. */
static void aux_host(struct mm *mm, uint64_t type)
{
	unsigned long v = getauxval(type);

	if (v)
		aux(mm, type, v);
}

/* CPUID leaf 1's edx.  Not from getauxval(), whose answer glibc replaces by a word of its own. */
static uint64_t host_hwcap(void)
{
	static _Atomic unsigned cached; /* the instruction is slow in virtual machines */
	unsigned a, b, c, d = cached;

	if (!d && __get_cpuid(1, &a, &b, &c, &d))
		cached = d;
	return d;
}

static void fill_auxv(struct mm *mm, const struct loader_program *prog, const struct cred *cred,
		      bool secure, const struct load_addresses *at, uint64_t platform,
		      uint64_t random, uint64_t filename)
{
	const struct p_limits *lim = mm->pf->ops->limits(mm->pf);
	const struct elf_image *img = &((struct loader_image *)prog->priv)->prog;

	mm->auxv_words = 0;
	if (lim->vdso_base)
		aux(mm, AT_SYSINFO_EHDR, lim->vdso_base);
	aux_host(mm, AT_MINSIGSTKSZ);
	aux(mm, AT_HWCAP, host_hwcap());
	aux(mm, AT_PAGESZ, PAGE_SIZE);
	aux(mm, AT_CLKTCK, 100);
	aux(mm, AT_PHDR, img->phdr ? img->phdr + at->bias : 0);
	aux(mm, AT_PHENT, sizeof(Elf64_Phdr));
	aux(mm, AT_PHNUM, img->phnum);
	aux(mm, AT_BASE, at->interp_base);
	aux(mm, AT_FLAGS, 0);
	aux(mm, AT_ENTRY, at->entry);
	aux(mm, AT_UID, uid_show(cred->user_ns, cred->uid));
	aux(mm, AT_EUID, uid_show(cred->user_ns, cred->euid));
	aux(mm, AT_GID, gid_show(cred->user_ns, cred->gid));
	aux(mm, AT_EGID, gid_show(cred->user_ns, cred->egid));
	aux(mm, AT_SECURE, secure);
	aux(mm, AT_RANDOM, random);
	aux(mm, AT_HWCAP2, getauxval(AT_HWCAP2));
	aux(mm, AT_EXECFN, filename);
	aux(mm, AT_PLATFORM, platform);
	aux_host(mm, AT_RSEQ_FEATURE_SIZE);
	aux_host(mm, AT_RSEQ_ALIGN);
	aux(mm, AT_NULL, 0);
}

/* Writes a vector of string addresses and its NULL; returns the word after it. */
static uint64_t *put_vector(uint64_t *w, char *const *strings, size_t n, const char *base,
			    uint64_t guest_base)
{
	for (size_t i = 0; i < n; i++)
		*w++ = guest_base + (uint64_t)(strings[i] - base);
	*w++ = 0;
	return w;
}

int stack_build(const struct loader_program *prog, struct mm *mm, const struct cred *cred,
		bool secure, const struct load_addresses *at, struct stack_image *out)
{
	const struct stack_strings *st = &((struct loader_image *)prog->priv)->strings;
	uint64_t strings = mm->stack_top - st->size;
	uint64_t p = mm->no_randomize ? strings : strings - mm->seed[MM_SEED_SP] % SP_RND_BYTES;

	uint64_t platform = (p & ~15ULL) - 16;
	uint64_t random = platform - RANDOM_BYTES;

	mutex_lock(&mm->lock, &lc_mm);
	fill_auxv(mm, prog, cred, secure, at, platform, random, strings + st->filename_off);
	size_t words = vector_words(prog) + mm->auxv_words;
	uint64_t sp = (random - words * sizeof(uint64_t)) & ~15ULL;
	mm->start_stack = sp;
	mm->arg_start = strings;
	mm->arg_end = mm->env_start = strings + st->env_off;
	mm->env_end = strings + st->filename_off;
	mutex_unlock(&mm->lock, &lc_mm);

	size_t size = platform + sizeof(platform_name) - sp;
	char *buf = calloc(1, size);
	if (!buf)
		return -ENOMEM;
	uint64_t *w = (uint64_t *)buf;
	*w++ = prog->argc;
	w = put_vector(w, prog->argv, prog->argc, st->bytes, strings);
	w = put_vector(w, prog->envp, prog->envc, st->bytes, strings);
	memcpy(w, mm->auxv, mm->auxv_words * sizeof(uint64_t));
	memcpy(buf + (random - sp), &mm->seed[MM_SEED_AUXV], RANDOM_BYTES);
	memcpy(buf + (platform - sp), platform_name, sizeof(platform_name));
	*out = (struct stack_image){.sp = sp,
				    .vectors = buf,
				    .parts = {{sp, size, buf}, {strings, st->size, st->bytes}}};
	return 0;
}

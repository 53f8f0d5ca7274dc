/* image.h - what loader_prepare hands to loader_load.  Private to sentry/loader. */
#pragma once

#include "sentry/loader/elf.h"
#include "sentry/loader/loader.h"
#include "sentry/mm/mm.h"

/*
 * The strings at the top of the first stack, as they will lie there: arguments, environment, file
 * name, eight NUL bytes.  loader_program's argv, envp and filename point into it.
 */
struct stack_strings {
	char *bytes; /* owned */
	size_t size;
	size_t env_off, filename_off; /* arguments start at 0 */
};

struct loader_image {
	struct elf_image prog, interp; /* interp: only with loader_program.interp */
	struct stack_strings strings;
};

/* Where loader_load put things: what the auxiliary vector tells. */
struct load_addresses {
	uint64_t bias, interp_base, entry; /* entry: of the program, not of the interpreter */
};

/* The lowest address that the first stack may need; the strings end at mm->stack_top. */
uint64_t stack_bottom(const struct loader_program *prog, const struct mm *mm);
/* The first stack, as it is to be written: the vectors, and above a gap the strings. */
struct stack_image {
	uint64_t sp;   /* the first stack pointer */
	char *vectors; /* owned */
	struct mm_fill parts[2];
};
/* Builds it below mm->stack_top, and records in mm where its parts are.  -ENOMEM. */
int stack_build(const struct loader_program *prog, struct mm *mm, const struct cred *cred,
		bool secure, const struct load_addresses *at, struct stack_image *out) MUST_CHECK;

/*
 * loader.h - from an executable file to a ready-to-run address space: #!, ELF64 (static,
 * static-PIE, dynamic), auxv, first stack.  Source: execve(2), elf(5), getauxval(3).
 *
 * Everything in the file is hostile.  Bad headers give Linux's errno: ENOEXEC, ELIBBAD, EINVAL,
 * ENOMEM, EACCES, ELOOP (too many interpreters), E2BIG, ENOENT (missing interpreter).
 */
#pragma once

#include "sentry/auth/cred.h"
#include "sentry/kernel/task.h"

struct loader_result {
	uint64_t entry; /* first instruction */
	uint64_t stack; /* initial rsp */
	char comm[16];	/* basename of the file */
	struct file
		*exe; /* a reference: the program (scripts: the interpreter), for /proc/PID/exe */
};

/*
 * Resolves #! lines, opening interpreters through `env`, and checks execute permission.  On
 * success *prog holds what is to be loaded: a file reference and an argument vector owned by it.
 * Nothing visible has changed yet.
 */
struct loader_program {
	struct file *file; /* reference */
	char *filename;	   /* AT_EXECFN */
	size_t argc, envc;
	char **argv, **envp; /* owned */
	struct file *interp; /* PT_INTERP's file, reference, or NULL */
	uint8_t *header; /* the checked ELF and program headers of file and interp: loader's own */
	void *priv;
};
int loader_prepare(const struct walk_env *env, const struct exec_args *a, uint64_t stack_limit,
		   struct loader_program *prog) MUST_CHECK;
void loader_program_fini(struct loader_program *prog);
/* Maps it into a fresh mm and builds the stack. */
int loader_load(struct loader_program *prog, struct mm *mm, struct p_thread *th,
		const struct cred *cred, bool secure, struct loader_result *out) MUST_CHECK;

/*
 * exec_strings.h - the argument and environment vectors of execve(2), copied out of guest memory.
 */
#pragma once

#include "sentry/kernel/task.h"

struct exec_strings {
	size_t argc, envc;
	char **argv, **envp; /* NULL-terminated; all in one allocation each, owned */
	char *bytes;
	size_t used, room;
};

/* -EFAULT, -E2BIG (execve(2): a quarter of the stack limit, 128 KiB a string), -ENOMEM. */
int exec_strings_copy(struct task *t, uaddr_t argv, uaddr_t envp,
		      struct exec_strings *out) MUST_CHECK;
void exec_strings_fini(struct exec_strings *s);

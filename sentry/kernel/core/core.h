/*
 * core.h - core files: what is left of a process that a signal ends.  Source: core(5), elf(5).
 *
 * The thread that takes the signal writes the file, with its own credentials and from its own root
 * and directory, when all others of its group have come to a halt on their way out (core_wait);
 * only then the group ends.
 */
#pragma once

#include "sentry/kernel/task.h"

/* A dump that is under way: thread_group.core, guarded by siglock. */
struct core_state {
	struct task *dumper;
};

/* core(5): the names of core files, and whether the process's number is appended; lc_leaf. */
#define CORE_PATTERN_MAX 128
void core_pattern_get(char out[CORE_PATTERN_MAX]);
void core_pattern_set(const char *pattern);
extern _Atomic int core_uses_pid;

/*
 * The group ends by this signal, whose default it is to leave a core: the exit is begun, and its
 * status says whether there is a core.  On the fiber of t, without locks.
 */
void core_dump(struct task *t, const ksiginfo *info);
/* On the way out of a task: waits as long as its group is being dumped. */
void core_wait(struct task *t);

/* ---- between core.c and elf.c ---- */
struct core_out {
	struct file *file;
	uint64_t pos, written, limit; /* what is left out counts against no limit */
	bool ended;		      /* the limit was reached, or a write failed */
};
void core_write(struct core_out *o, const void *bytes, uint64_t n);
/* The next bytes are zero, and left out of the file. */
void core_skip(struct core_out *o, uint64_t n);

/* Writes the whole file.  -ENOMEM: before anything was written. */
int core_write_elf(struct task *t, const ksiginfo *info, unsigned filter,
		   struct core_out *o) MUST_CHECK;

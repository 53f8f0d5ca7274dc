/* The memory of another process, for calls that look into it. */
#pragma once

struct mm;
struct task;

/* *out: a reference to the memory of the process of thread `pid` (0: the caller's own), which the
 * caller may read as ptrace(2) has it.  -ESRCH, -EPERM. */
int remote_mm(struct task *t, int pid, struct mm **out);

/*
 * proc.h - procfs: what programs read about the kernel, about tasks, and about themselves.
 * Source: proc(5).
 *
 * Names are looked up anew each time (no dentry cache); a file keeps its task referenced while it
 * is open, and answers ESRCH once that is gone.
 */
#pragma once

#include "sentry/vfs/vfs.h"

struct pid_ns;
struct thread_group;

/* Reads what is copied from the host (/proc/cpuinfo).  Before confinement. */
void procfs_capture_host(void);
/* Shows the processes of this namespace, by its numbers. */
int procfs_mount(struct pid_ns *ns, struct super_block **out) MUST_CHECK;

/* The process whose directory /proc/PID `f` is, borrowed while the file lives; else NULL. */
struct thread_group *proc_dir_group(const struct file *f);

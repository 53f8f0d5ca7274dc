/* What the files of sentry/fs/proc share. */
#pragma once

#include "sentry/fs/synth/synth.h"
#include "sentry/kernel/task.h"

extern const char *proc_cpuinfo; /* text, or NULL */

int proc_add_global(struct inode *root) MUST_CHECK;
int proc_add_sys(struct inode *root) MUST_CHECK;
extern const struct synth_dir_ops proc_root_ops; /* the numbers: pid.c */
extern const struct synth_link_ops proc_self_ops, proc_thread_self_ops;

/* May the calling task look into `target`?  ptrace(2), "Ptrace access mode checking". */
bool proc_may_access(struct task *target);
/* The argument of every file of a task is a task reference. */
void proc_task_free(void *task);

/* Tables of the other files: fd.c, maps.c, mounts.c, status.c. */
extern const struct synth_dir_ops proc_fd_ops, proc_fdinfo_ops;
extern const struct synth_file_ops proc_maps_ops, proc_smaps_ops, proc_mem_ops, proc_statm_ops;
extern const struct synth_file_ops proc_mounts_ops, proc_mountinfo_ops;
extern const struct synth_file_ops proc_stat_ops, proc_status_ops, proc_limits_ops;

/* What the files of sentry/fs/proc share. */
#pragma once

#include "sentry/fs/synth/synth.h"
#include "sentry/kernel/task.h"

extern const char *proc_cpuinfo; /* text, or NULL */

int proc_add_global(struct inode *root) MUST_CHECK;
int proc_add_sys(struct inode *root) MUST_CHECK;
int proc_add_system(struct inode *root) MUST_CHECK;
/* Files that only ever say one thing; a NULL name ends the list. */
struct proc_constant {
	const char *name, *value;
};
/* A directory with these; *dir is borrowed from it. */
int proc_add_constants(struct inode *parent, const char *name, const struct proc_constant *v,
		       struct inode **dir) MUST_CHECK;
int proc_add_sys_net(struct inode *sys) MUST_CHECK; /* sysctl_net.c */
/* One decimal number within the bounds, and nothing else: or -EINVAL. */
int proc_parse_number(const char *buf, long least, long most, int *out) MUST_CHECK;
extern const struct synth_dir_ops proc_root_ops; /* the numbers: pid.c */
extern const struct synth_link_ops proc_self_ops, proc_thread_self_ops;

/* The PID namespace whose processes this procfs shows: the numbers in its texts are of that one. */
const struct pid_ns *proc_pid_ns(const struct super_block *sb);
/* May the calling task look into `target`?  ptrace(2), "Ptrace access mode checking". */
bool proc_may_access(struct task *target);
/* may_open of files that show a task's memory: -EACCES. */
int proc_may_look(struct inode *in, struct file *f, void *task);
/* One line of /proc/PID/maps; a file's name as the calling task sees it. */
void proc_put_map_line(struct text *out, const struct vma *v);
void proc_put_file_name(struct text *out, struct file *f);
/* Files of a task belong to its effective ids; of one that is not dumpable, to root: proc(5). */
void proc_own_by_task(struct inode *in, struct task *t);
/* The argument of every file of a task is a task reference. */
void proc_task_free(void *task);

/* Tables of the other files: fd.c, inspect.c, keys.c, maps.c, mounts.c, smaps.c, status.c,
 * timens.c, tunables.c. */
extern const struct synth_dir_ops proc_fd_ops, proc_fdinfo_ops, proc_ns_ops;
extern const struct synth_file_ops proc_maps_ops, proc_mem_ops, proc_statm_ops;
extern const struct synth_file_ops proc_smaps_ops, proc_smaps_rollup_ops, proc_numa_maps_ops,
	proc_pagemap_ops;
extern const struct synth_file_ops proc_oom_score_ops, proc_oom_adj_ops, proc_oom_score_adj_ops,
	proc_coredump_filter_ops, proc_timerslack_ops, proc_wchan_ops, proc_cpuset_ops,
	proc_schedstat_ops;
extern const struct synth_file_ops proc_keys_ops, proc_key_users_ops;
extern const struct synth_file_ops proc_mounts_ops, proc_mountinfo_ops, proc_mountstats_ops;
extern const struct synth_table proc_ns_maxima[];
extern const struct synth_table proc_ipc_limits[]; /* of /proc/sys/kernel: sysctl_ipc.c */
extern const struct synth_file_ops proc_uid_map_ops, proc_gid_map_ops, proc_projid_map_ops,
	proc_setgroups_ops;
extern const struct synth_file_ops proc_syscall_ops, proc_stack_ops, proc_timers_ops,
	proc_sched_ops, proc_autogroup_ops, proc_io_ops;
extern const struct synth_dir_ops proc_net_ops; /* net.c */
extern const struct synth_file_ops proc_timens_offsets_ops;
extern const struct synth_dir_ops proc_attr_ops, proc_map_files_ops;
extern const struct synth_file_ops proc_thread_stat_ops; /* of task/TID */
extern const struct synth_file_ops proc_stat_ops, proc_status_ops, proc_limits_ops;

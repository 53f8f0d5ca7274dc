/* /proc/PID, /proc/PID/task/TID, /proc/self: directories of tasks. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"

void proc_task_free(void *task)
{
	task_put(task);
}

bool proc_may_access(struct task *target)
{
	struct task *t = task_current();

	return !t || task_may_ptrace(t, target, true);
}

static int need_access(struct inode *in, struct file *f, void *task)
{
	(void)in, (void)f;
	return proc_may_access(task) ? 0 : -EACCES;
}

/* ---- bytes of the task's memory ---- */

static int show_memory(struct text *out, struct task *t, bool environ)
{
	struct mm *mm = task_mm_get(t);

	if (!mm)
		return 0;
	struct umem um = {.mm = mm};
	uint64_t at = environ ? mm->env_start : mm->arg_start;
	uint64_t end = environ ? mm->env_end : mm->arg_end;
	char *page = malloc(PAGE_SIZE);
	while (page && at < end) {
		size_t want = MIN(end - at, PAGE_SIZE);
		size_t n = copy_in_partial(&um, page, UADDR(at), want);
		text_put(out, page, n);
		at += n;
		if (n < want)
			break;
	}
	free(page);
	mm_put(mm);
	return page ? 0 : -ENOMEM;
}

static int show_cmdline(struct text *out, void *task)
{
	return show_memory(out, task, false);
}

static int show_environ(struct text *out, void *task)
{
	return show_memory(out, task, true);
}

static int show_auxv(struct text *out, void *task)
{
	struct mm *mm = task_mm_get(task);

	if (!mm)
		return 0;
	text_put(out, mm->auxv, mm->auxv_words * 8);
	mm_put(mm);
	return 0;
}

static int show_comm(struct text *out, void *arg)
{
	struct task *t = arg;
	char comm[16];

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(comm, t->comm, sizeof(comm));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "%.15s\n", comm);
	return 0;
}

static ssize_t write_comm(struct file *f, const char *buf, size_t n, void *arg)
{
	struct task *t = arg, *me = task_current();
	size_t len = MIN(n, sizeof(t->comm) - 1);

	(void)f;
	if (me && me->tg != t->tg)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memset(t->comm, 0, sizeof(t->comm));
	memcpy(t->comm, buf, len);
	t->comm[strcspn(t->comm, "\n")] = 0;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

/* ---- small texts ---- */

static int show_cgroup(struct text *out, void *task)
{
	char buf[VFS_PATH_MAX];
	const struct task *t = task;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const char *path = cgroup_path(t->tg->cgroup, buf, sizeof(buf));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "0::%s\n", path);
	return 0;
}

static int show_unset_id(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "4294967295");
	return 0;
}

static int show_personality(struct text *out, void *arg)
{
	text_printf(out, "%08x\n", ((struct task *)arg)->personality);
	return 0;
}

#define TASK_COMMON .common.free_arg = proc_task_free
static const struct synth_file_ops cmdline_ops = {TASK_COMMON, .show = show_cmdline};
static const struct synth_file_ops comm_ops = {TASK_COMMON, .show = show_comm, .write = write_comm};
static const struct synth_file_ops environ_ops = {TASK_COMMON, .common.may_open = need_access,
						  .show = show_environ};
static const struct synth_file_ops auxv_ops = {TASK_COMMON, .common.may_open = need_access,
					       .show = show_auxv};
static const struct synth_file_ops cgroup_ops = {TASK_COMMON, .show = show_cgroup};
static const struct synth_file_ops unset_id_ops = {TASK_COMMON, .show = show_unset_id};
static const struct synth_file_ops personality_ops = {TASK_COMMON, .show = show_personality};

/* ---- links ---- */

static int path_text(struct text *out, struct path p)
{
	struct task *t = task_current();
	char *buf = malloc(VFS_PATH_MAX * 2), *start;
	struct path root = {0};
	int err = buf ? 0 : -ENOMEM;

	if (!err && t) {
		mutex_lock(&t->fs->lock, &lc_fs);
		root = path_get(t->fs->root);
		mutex_unlock(&t->fs->lock, &lc_fs);
		ssize_t n = path_name(p, root, buf, VFS_PATH_MAX * 2, true, &start);
		if (n >= 0)
			text_put(out, start, (size_t)n);
		err = n < 0 ? (int)n : 0;
		path_put(root);
	}
	free(buf);
	return err;
}

/* Which path a link of the task leads to; references. */
static int exe_path(struct path *out, void *arg)
{
	struct task *t = arg;

	if (!proc_may_access(t))
		return -EACCES;
	struct mm *mm = task_mm_get(t);
	if (!mm)
		return -ENOENT;
	mutex_lock(&mm->lock, &lc_mm);
	struct file *exe = mm->exe ? file_get(mm->exe) : NULL;
	mutex_unlock(&mm->lock, &lc_mm);
	mm_put(mm);
	if (!exe)
		return -ENOENT;
	*out = path_get(exe->path);
	file_put(exe);
	return 0;
}

static int fs_path(struct task *t, struct path *out, bool root)
{
	if (!proc_may_access(t))
		return -EACCES;
	struct fs_context *fs = task_fs_get(t);
	if (!fs)
		return -ENOENT;
	mutex_lock(&fs->lock, &lc_fs);
	*out = path_get(root ? fs->root : fs->cwd);
	mutex_unlock(&fs->lock, &lc_fs);
	fs_context_put(fs);
	return 0;
}

static int cwd_path(struct path *out, void *task)
{
	return fs_path(task, out, false);
}

static int root_path(struct path *out, void *task)
{
	return fs_path(task, out, true);
}

static int show_link(struct text *out, void *task, int (*get)(struct path *, void *))
{
	struct path p;
	int err = get(&p, task);

	if (err)
		return err;
	err = path_text(out, p);
	path_put(p);
	return err;
}

#define LINK_OPS(name)                                                                     \
	static int show_##name(struct text *out, void *task)                               \
	{                                                                                  \
		return show_link(out, task, name##_path);                                  \
	}                                                                                  \
	static const struct synth_link_ops name##_ops = {TASK_COMMON, .show = show_##name, \
							 .follow = name##_path}
LINK_OPS(exe);
LINK_OPS(cwd);
LINK_OPS(root);

/* ---- the directory ---- */

static int task_dir_lookup(struct inode *dir, const char *name, struct inode **out, void *task);
static int task_dir_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task);
static const struct synth_dir_ops task_dir_ops = {TASK_COMMON, task_dir_lookup, task_dir_readdir};

static const struct pid_entry {
	const char *name;
	uint32_t mode;
	const struct synth_file_ops *file;
	const struct synth_dir_ops *dir;
	const struct synth_link_ops *link;
	bool group_only; /* not below task/TID */
} entries[] = {
	{"attr", 0555, NULL, &proc_attr_ops, NULL, false},
	{"autogroup", 0644, &proc_autogroup_ops, NULL, NULL, true},
	{"auxv", 0400, &auxv_ops, NULL, NULL, false},
	{"cgroup", 0444, &cgroup_ops, NULL, NULL, false},
	{"cmdline", 0444, &cmdline_ops, NULL, NULL, false},
	{"comm", 0644, &comm_ops, NULL, NULL, false},
	{"coredump_filter", 0644, &proc_coredump_filter_ops, NULL, NULL, true},
	{"cpuset", 0444, &proc_cpuset_ops, NULL, NULL, false},
	{"cwd", 0777, NULL, NULL, &cwd_ops, false},
	{"environ", 0400, &environ_ops, NULL, NULL, false},
	{"exe", 0777, NULL, NULL, &exe_ops, false},
	{"fd", 0500, NULL, &proc_fd_ops, NULL, false},
	{"fdinfo", 0555, NULL, &proc_fdinfo_ops, NULL, false},
	{"gid_map", 0644, &proc_gid_map_ops, NULL, NULL, false},
	{"io", 0400, &proc_io_ops, NULL, NULL, false},
	{"limits", 0444, &proc_limits_ops, NULL, NULL, false},
	{"loginuid", 0444, &unset_id_ops, NULL, NULL, false},
	{"map_files", 0500, NULL, &proc_map_files_ops, NULL, true},
	{"maps", 0444, &proc_maps_ops, NULL, NULL, false},
	{"mem", 0600, &proc_mem_ops, NULL, NULL, false},
	{"mountinfo", 0444, &proc_mountinfo_ops, NULL, NULL, false},
	{"mounts", 0444, &proc_mounts_ops, NULL, NULL, false},
	{"mountstats", 0400, &proc_mountstats_ops, NULL, NULL, false},
	{"net", 0555, NULL, &proc_net_ops, NULL, false},
	{"ns", 0511, NULL, &proc_ns_ops, NULL, false},
	{"numa_maps", 0444, &proc_numa_maps_ops, NULL, NULL, false},
	{"oom_adj", 0644, &proc_oom_adj_ops, NULL, NULL, false},
	{"oom_score", 0444, &proc_oom_score_ops, NULL, NULL, false},
	{"oom_score_adj", 0644, &proc_oom_score_adj_ops, NULL, NULL, false},
	{"pagemap", 0400, &proc_pagemap_ops, NULL, NULL, false},
	{"personality", 0400, &personality_ops, NULL, NULL, false},
	{"projid_map", 0644, &proc_projid_map_ops, NULL, NULL, false},
	{"root", 0777, NULL, NULL, &root_ops, false},
	{"sched", 0444, &proc_sched_ops, NULL, NULL, false},
	{"schedstat", 0444, &proc_schedstat_ops, NULL, NULL, false},
	{"sessionid", 0444, &unset_id_ops, NULL, NULL, false},
	{"setgroups", 0644, &proc_setgroups_ops, NULL, NULL, false},
	{"smaps", 0444, &proc_smaps_ops, NULL, NULL, false},
	{"smaps_rollup", 0444, &proc_smaps_rollup_ops, NULL, NULL, false},
	{"stack", 0400, &proc_stack_ops, NULL, NULL, false},
	{"stat", 0444, &proc_stat_ops, NULL, NULL, false},
	{"statm", 0444, &proc_statm_ops, NULL, NULL, false},
	{"status", 0444, &proc_status_ops, NULL, NULL, false},
	{"syscall", 0400, &proc_syscall_ops, NULL, NULL, false},
	{"task", 0555, NULL, &task_dir_ops, NULL, true},
	{"timens_offsets", 0644, &proc_timens_offsets_ops, NULL, NULL, true},
	{"timers", 0444, &proc_timers_ops, NULL, NULL, true},
	{"timerslack_ns", 0666, &proc_timerslack_ops, NULL, NULL, true},
	{"uid_map", 0644, &proc_uid_map_ops, NULL, NULL, false},
	{"wchan", 0444, &proc_wchan_ops, NULL, NULL, false},
};

void proc_own_by_task(struct inode *in, struct task *t)
{
	struct cred *c = task_cred_get(t);
	struct mm *mm = task_mm_get(t);

	if (!mm || atomic_load(&mm->dumpable) == 1) {
		synth_set_owner(in, c->euid, c->egid);
	} else {
		uint32_t uid = uid_enter(mm->user_ns, 0), gid = gid_enter(mm->user_ns, 0);
		synth_set_owner(in, uid == ID_NONE ? 0 : uid, gid == ID_NONE ? 0 : gid);
	}
	mm_put(mm);
	cred_put(c);
}

static int entry_make(struct super_block *sb, const struct pid_entry *e, size_t index,
		      struct task *t, struct inode **out)
{
	struct inode *in = e->file  ? synth_file_new(sb, e->mode, e->file, task_get(t))
			   : e->dir ? synth_dir_new(sb, e->mode, e->dir, task_get(t))
				    : synth_link_new(sb, e->mode, e->link, task_get(t));
	if (!in)
		return -ENOMEM;
	synth_set_ino(in, (uint64_t)t->tid << 16 | (index + 1));
	proc_own_by_task(in, t);
	*out = in;
	return 0;
}

static int list_entries(struct task *t, struct dir_context *ctx, int64_t *off, bool group)
{
	for (size_t i = *off > 0 ? (size_t)*off : 0; i < ARRAY_SIZE(entries); i++) {
		const struct pid_entry *e = &entries[i];
		unsigned type = e->file ? DT_REG : e->dir ? DT_DIR : DT_LNK;
		if (!group && e->group_only)
			continue;
		if (!ctx->emit(ctx, e->name, strlen(e->name), (int64_t)i + 1,
			       (uint64_t)t->tid << 16 | (i + 1), type))
			return 0;
		*off = (int64_t)i + 1;
	}
	return 0;
}

static int lookup_entry(struct inode *dir, const char *name, struct inode **out, void *task,
			bool thread)
{
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		struct pid_entry e = entries[i];
		if (strcmp(e.name, name) != 0)
			continue;
		if (thread && e.file == &proc_stat_ops)
			e.file = &proc_thread_stat_ops;
		return entry_make(dir->sb, &e, i, task, out);
	}
	return -ENOENT;
}

static int group_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	return lookup_entry(dir, name, out, task, false);
}

static int thread_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	return strcmp(name, "task") ? lookup_entry(dir, name, out, task, true) : -ENOENT;
}

static int group_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	(void)dir;
	return list_entries(task, ctx, off, true);
}

static int thread_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	(void)dir;
	return list_entries(task, ctx, off, false);
}

static const struct synth_dir_ops group_ops = {TASK_COMMON, group_lookup, group_readdir};
static const struct synth_dir_ops thread_ops = {TASK_COMMON, thread_lookup, thread_readdir};

struct thread_group *proc_dir_group(const struct file *f)
{
	struct task *t = synth_dir_is(f->inode, &group_ops) ? synth_arg(f->inode) : NULL;

	return t && t->tid == t->tg->tgid ? t->tg : NULL;
}

const struct pid_ns *proc_pid_ns(const struct super_block *sb)
{
	return synth_arg(sb->root->inode);
}

static void pid_ns_free(void *ns)
{
	pid_ns_put(ns);
}

static int parse_id(const char *name)
{
	char *end;
	long id = strtol(name, &end, 10);

	if (*end || name[0] < '1' || name[0] > '9' || id > INT32_MAX)
		return -1;
	return (int)id;
}

/* The directory of the task with this number, when `in_group` holds (NULL: any leader). */
static int make_dir(struct super_block *sb, const char *name, struct thread_group *in_group,
		    struct inode **out)
{
	int id = parse_id(name);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct pid *p = id > 0 ? pid_lookup(proc_pid_ns(sb), id) : NULL;
	struct task *t = p ? p->task : NULL;
	/* As on Linux, /proc/TID works for every thread, though only leaders are listed. */
	if (t && in_group && t->tg != in_group)
		t = NULL;
	if (t)
		task_get(t);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!t)
		return -ENOENT;
	*out = synth_dir_new(sb, 0555, in_group ? &thread_ops : &group_ops, t);
	if (!*out)
		return -ENOMEM;
	synth_set_ino(*out, (uint64_t)t->tid << 16 | (in_group ? 0xffff : 0));
	proc_own_by_task(*out, t);
	return 0;
}

static int root_lookup(struct inode *dir, const char *name, struct inode **out, void *arg)
{
	(void)arg;
	return make_dir(dir->sb, name, NULL, out);
}

/* tid: the same as id, of the top namespace. */
static int emit_id(struct dir_context *ctx, int64_t *off, int id, int tid)
{
	char name[16];
	int n = snprintf(name, sizeof(name), "%d", id);

	if (!ctx->emit(ctx, name, (size_t)n, (int64_t)id + 1, (uint64_t)tid << 16, DT_DIR))
		return 0;
	*off = (int64_t)id + 1;
	return 1;
}

static int root_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *arg)
{
	struct thread_group *tg;

	(void)dir;
	for (int id = (int)*off; (tg = thread_group_next(arg, &id)); id++) {
		int more = emit_id(ctx, off, id, tg->tgid);
		thread_group_put(tg);
		if (!more)
			break;
	}
	return 0;
}

const struct synth_dir_ops proc_root_ops = {
	.common.free_arg = pid_ns_free, .lookup = root_lookup, .readdir = root_readdir};

static int task_dir_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	return make_dir(dir->sb, name, ((struct task *)task)->tg, out);
}

static int task_dir_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	struct thread_group *tg = ((struct task *)task)->tg;
	const struct pid_ns *ns = proc_pid_ns(dir->sb);
	struct task *t;

	for (;;) {
		int best = 0, tid = 0;
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		list_for_each (t, &tg->threads, thread_link) {
			int id = pid_nr_in(t->pid, ns);
			if (id >= *off && (!best || id < best)) {
				best = id;
				tid = t->tid;
			}
		}
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		if (!best || !emit_id(ctx, off, best, tid))
			return 0;
	}
}

/* ---- /proc/self ---- */

static int show_self(struct text *out, void *arg)
{
	struct task *t = task_current();

	(void)arg;
	int tgid = t ? pid_nr_in(t->tg->pid, proc_pid_ns(out->of->sb)) : 0;
	if (!tgid)
		return -ENOENT;
	text_printf(out, "%d", tgid);
	return 0;
}

static int show_thread_self(struct text *out, void *arg)
{
	struct task *t = task_current();

	(void)arg;
	const struct pid_ns *ns = proc_pid_ns(out->of->sb);
	int tgid = t ? pid_nr_in(t->tg->pid, ns) : 0;
	if (!tgid)
		return -ENOENT;
	text_printf(out, "%d/task/%d", tgid, pid_nr_in((t->helps ? t->helps : t)->pid, ns));
	return 0;
}

const struct synth_link_ops proc_self_ops = {.show = show_self};
const struct synth_link_ops proc_thread_self_ops = {.show = show_thread_self};

/* /proc/PID: what a task is doing - syscall, stack, timers, sched, autogroup, attr, map_files. */
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/time/posix_timers.h"

/* ---- syscall, stack ---- */

/* Only of one that sleeps: others change too fast.  The platform's copy is the sentry's memory. */
static bool sleeping_regs(struct task *t, struct arch_regs *regs)
{
	int state = atomic_load(&t->state);
	bool known = t == task_current();

	mutex_lock(&t->tg->siglock, &lc_signal);
	known |= state != TASK_RUNNING && !atomic_load(&t->in_guest);
	known &= t->pt != NULL;
	if (known)
		*regs = *kernel->pf->ops->regs(t->pt);
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return known;
}

static int show_syscall(struct text *out, void *task)
{
	struct arch_regs r;

	if (!sleeping_regs(task, &r)) {
		text_puts(out, "running\n");
		return 0;
	}
	if ((int64_t)r.orig_rax < 0) {
		text_puts(out, "-1");
	} else {
		text_printf(out, "%lld", (long long)r.orig_rax);
		for (int i = 0; i < 6; i++)
			text_printf(out, " 0x%llx", (unsigned long long)arch_syscall_arg(&r, i));
	}
	text_printf(out, " 0x%llx 0x%llx\n", (unsigned long long)r.rsp, (unsigned long long)r.rip);
	return 0;
}

/* There is no kernel stack that a guest could make anything of. */
static int show_stack(struct text *out, void *task)
{
	const struct task *me = task_current();

	(void)out, (void)task;
	return me && task_capable(me, CAP_SYS_ADMIN) ? 0 : -EACCES;
}

/* ---- timers ---- */

static void put_timer(const struct posix_timer_info *i, void *arg)
{
	static const char *const how[] = {
		[SIGEV_SIGNAL] = "signal", [SIGEV_NONE] = "none", [SIGEV_THREAD] = "thread"};
	struct text *out = arg;
	bool thread = i->notify == SIGEV_THREAD_ID;

	text_printf(out, "ID: %d\nsignal: %d/%016llx\nnotify: %s/%s.%d\nClockID: %d\n", i->id,
		    i->signo, (unsigned long long)i->value, thread ? "signal" : how[i->notify],
		    thread ? "tid" : "pid", i->target, i->clock);
}

static int show_timers(struct text *out, void *task)
{
	posix_timers_each(((struct task *)task)->tg, put_timer, out);
	return 0;
}

/* ---- io ---- */

/* Of the whole process; what reaches a disk is the host's to know. */
static int show_io(struct text *out, void *task)
{
	struct thread_group *tg = ((struct task *)task)->tg;
	struct task *o;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task_io io = tg->dead_io;
	list_for_each (o, &tg->threads, thread_link)
		task_io_add(&io, &o->io);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "rchar: %llu\nwchar: %llu\nsyscr: %llu\nsyscw: %llu\n",
		    (unsigned long long)io.rchar, (unsigned long long)io.wchar,
		    (unsigned long long)io.syscr, (unsigned long long)io.syscw);
	text_puts(out, "read_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n");
	return 0;
}

/* ---- scheduling ---- */

static int show_sched(struct text *out, void *task)
{
	struct task *t = task;
	struct mm_usage usage = {0};
	struct mm *mm = task_mm_get(t);
	char comm[16];

	if (mm)
		mm_usage(mm, &usage);
	mm_put(mm);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(comm, t->comm, sizeof(comm));
	int threads = MAX(t->tg->nthreads, 1);
	int pid = t->pid ? pid_nr_in(t->pid, proc_pid_ns(out->of->sb)) : 0;
	int prio = t->sched_priority ? 99 - t->sched_priority : 120 + t->nice;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	int64_t cpu = task_cpu_time(t);

	text_printf(out, "%.15s (%d, #threads: %d)\n", comm, pid, threads);
	text_puts(out, "-------------------------------------------------------------------\n");
	text_printf(out, "%-45s:%14lld.%06lld\n", "se.sum_exec_runtime", (long long)cpu / 1000000,
		    (long long)cpu % 1000000);
	const struct {
		const char *name;
		unsigned long long value;
	} rows[] = {
		{"nr_switches", usage.voluntary_switches + usage.involuntary_switches},
		{"nr_voluntary_switches", usage.voluntary_switches},
		{"nr_involuntary_switches", usage.involuntary_switches},
		{"policy", (unsigned long long)t->sched_policy},
		{"prio", (unsigned long long)prio},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		text_printf(out, "%-45s:%21llu\n", rows[i].name, rows[i].value);
	return 0;
}

/* One group a session; its nice value is remembered. */
static int show_autogroup(struct text *out, void *task)
{
	struct task *t = task;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int id = t->tg->session->sid, nice = t->tg->session->autogroup_nice;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "/autogroup-%d nice %d\n", id, nice);
	return 0;
}

static ssize_t write_autogroup(struct file *f, const char *buf, size_t n, void *task)
{
	struct task *t = task;
	const struct task *me = task_current();
	char *end;
	long nice = strtol(buf, &end, 10);

	(void)f;
	if (end == buf || (*end && *end != '\n') || nice < -20 || nice > 19)
		return -EINVAL;
	if (nice < 0 && !(me && task_capable(me, CAP_SYS_NICE)))
		return -EPERM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->tg->session->autogroup_nice = (int)nice;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

/* ---- attr: what security modules say of a task; there is none ---- */

static const char *const attrs[] = {"current",	 "exec", "fscreate",
				    "keycreate", "prev", "sockcreate"};

static int show_attr(struct text *out, void *arg)
{
	(void)out, (void)arg;
	return -EINVAL;
}

static const struct synth_file_ops attr_ops = {.show = show_attr};

static int attr_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	(void)task;
	for (size_t i = 0; i < ARRAY_SIZE(attrs); i++) {
		if (strcmp(attrs[i], name))
			continue;
		*out = synth_file_new(dir->sb, strcmp(name, "prev") ? 0666 : 0444, &attr_ops, NULL);
		return *out ? 0 : -ENOMEM;
	}
	return -ENOENT;
}

static int attr_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	(void)task;
	for (size_t i = (size_t)*off; i < ARRAY_SIZE(attrs); i++) {
		if (!ctx->emit(ctx, attrs[i], strlen(attrs[i]), (int64_t)i + 1, dir->ino + i + 1,
			       DT_REG))
			break;
		*off = (int64_t)i + 1;
	}
	return 0;
}

/* ---- map_files: a link for every mapping of a file ---- */

struct map_arg {
	struct task *t; /* reference */
	uint64_t start, end;
};

static void map_arg_free(void *arg)
{
	struct map_arg *a = arg;

	task_put(a->t);
	free(a);
}

/* The mapping of a file that is exactly [start, end), with a reference to the file. */
static bool map_find(struct task *t, uint64_t start, uint64_t end, struct vma *out)
{
	struct mm *mm = task_mm_get(t);
	bool found = mm && mm_lookup(mm, start, out);

	mm_put(mm);
	if (found && out->start == start && out->end == end && out->file)
		return true;
	if (found)
		file_put(out->file);
	return false;
}

static int map_show(struct text *out, void *arg)
{
	const struct map_arg *a = arg;
	struct vma v;

	if (!map_find(a->t, a->start, a->end, &v))
		return -ENOENT;
	proc_put_file_name(out, v.file);
	file_put(v.file);
	return 0;
}

/* Opening what another has mapped, whatever its path: only for whoever may restore processes. */
static int map_follow(struct path *out, void *arg)
{
	const struct map_arg *a = arg;
	const struct task *me = task_current();
	struct vma v;

	if (!me || !(task_capable(me, CAP_CHECKPOINT_RESTORE) || task_capable(me, CAP_SYS_ADMIN)))
		return -EPERM;
	if (!map_find(a->t, a->start, a->end, &v))
		return -ENOENT;
	*out = path_get(v.file->path);
	file_put(v.file);
	return 0;
}

static const struct synth_link_ops map_link_ops = {
	.common.free_arg = map_arg_free, .show = map_show, .follow = map_follow};

static int map_files_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	unsigned long long start, end;
	char again[40];
	struct vma v;

	if (!proc_may_access(task))
		return -EACCES;
	if (sscanf(name, "%llx-%llx", &start, &end) != 2)
		return -ENOENT;
	snprintf(again, sizeof(again), "%llx-%llx", start, end);
	if (strcmp(name, again) || !map_find(task, start, end, &v))
		return -ENOENT;
	uint32_t mode = v.prot & PROT_WRITE && v.flags & MAP_SHARED ? 0700 : 0500;
	file_put(v.file);
	struct map_arg *a = malloc(sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct map_arg){task_get(task), start, end};
	*out = synth_link_new(dir->sb, mode, &map_link_ops, a);
	return *out ? 0 : -ENOMEM;
}

struct map_list {
	struct dir_context *ctx;
	int64_t *off, at;
	uint64_t ino;
};

static int emit_map(const struct vma *v, void *arg)
{
	struct map_list *l = arg;
	char name[40];

	if (!v->file || l->at++ < *l->off)
		return 0;
	int n = snprintf(name, sizeof(name), "%llx-%llx", (unsigned long long)v->start,
			 (unsigned long long)v->end);
	if (!l->ctx->emit(l->ctx, name, (size_t)n, l->at, l->ino + (uint64_t)l->at, DT_LNK))
		return 1;
	*l->off = l->at;
	return 0;
}

static int map_files_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	struct map_list l = {.ctx = ctx, .off = off, .ino = dir->ino};

	if (!proc_may_access(task))
		return -EACCES;
	struct mm *mm = task_mm_get(task);
	if (mm)
		(void)mm_for_each(mm, emit_map, &l);
	mm_put(mm);
	return 0;
}

#define TASK_COMMON .common.free_arg = proc_task_free
#define TASK_LOOK .common = {.free_arg = proc_task_free, .may_open = proc_may_look}
const struct synth_file_ops proc_syscall_ops = {TASK_LOOK, .show = show_syscall};
const struct synth_file_ops proc_stack_ops = {TASK_LOOK, .show = show_stack};
const struct synth_file_ops proc_io_ops = {TASK_LOOK, .show = show_io};
const struct synth_file_ops proc_timers_ops = {TASK_COMMON, .show = show_timers};
const struct synth_file_ops proc_sched_ops = {TASK_COMMON, .show = show_sched};
const struct synth_file_ops proc_autogroup_ops = {TASK_COMMON, .show = show_autogroup,
						  .write = write_autogroup};
const struct synth_dir_ops proc_attr_ops = {TASK_COMMON, attr_lookup, attr_readdir};
const struct synth_dir_ops proc_map_files_ops = {TASK_COMMON, map_files_lookup, map_files_readdir};

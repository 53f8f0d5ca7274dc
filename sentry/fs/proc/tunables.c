/* Files of a task that hold one value, to be read and often to be set.  Source: proc(5). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"

#define OOM_ADJ_MAX 15 /* … of the old file, whose -17 is "never" */
#define OOM_ADJ_NEVER (-17)
#define OOM_SCORE_ADJ_MAX 1000

#define CAP_NR_SYS_NICE 23
#define CAP_NR_SYS_RESOURCE 24

/* One number, with blanks around it. */
static int parse_number(const char *buf, long min, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(buf, &end, 0);
	bool range = errno == ERANGE;
	if (end == buf || *(end + strspn(end, " \t\n")))
		return -EINVAL;
	return range || *out < min || *out > max ? -EINVAL : 0;
}

/* ---- the OOM killer's preferences: remembered, as the host's decides ---- */

static int oom_score_adj(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int adj = t->tg->oom_score_adj;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return adj;
}

static int set_oom_score_adj(struct task *t, int adj)
{
	struct task *me = task_current();
	bool free = me && task_capable(me, CAP_NR_SYS_RESOURCE);
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *tg = t->tg;
	if (adj < tg->oom_score_adj_min && !free)
		err = -EACCES;
	else
		tg->oom_score_adj = adj;
	if (!err && free)
		tg->oom_score_adj_min = adj;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

static int show_oom_score_adj(struct text *out, void *task)
{
	text_printf(out, "%d\n", oom_score_adj(task));
	return 0;
}

static ssize_t write_oom_score_adj(struct file *f, const char *buf, size_t n, void *task)
{
	long adj;
	int err = parse_number(buf, -OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MAX, &adj);

	(void)f;
	err = err ? err : set_oom_score_adj(task, (int)adj);
	return err ? err : (ssize_t)n;
}

static int show_oom_adj(struct text *out, void *task)
{
	int adj = oom_score_adj(task);

	text_printf(out, "%d\n",
		    adj == OOM_SCORE_ADJ_MAX ? OOM_ADJ_MAX
					     : adj * -OOM_ADJ_NEVER / OOM_SCORE_ADJ_MAX);
	return 0;
}

static ssize_t write_oom_adj(struct file *f, const char *buf, size_t n, void *task)
{
	long adj;
	int err = parse_number(buf, OOM_ADJ_NEVER, OOM_ADJ_MAX, &adj);

	(void)f;
	if (!err)
		err = set_oom_score_adj(task, adj == OOM_ADJ_MAX ? OOM_SCORE_ADJ_MAX
								 : (int)adj * OOM_SCORE_ADJ_MAX /
									   -OOM_ADJ_NEVER);
	return err ? err : (ssize_t)n;
}

/* The share of all memory in thousandths, moved by the preference. */
static int show_oom_score(struct text *out, void *task)
{
	struct mm *mm = task_mm_get(task);
	uint64_t used = mm ? mm_resident_pages(mm) << PAGE_SHIFT : 0;
	struct sysinfo si;

	mm_put(mm);
	uint64_t all = sysinfo(&si) ? 0 : (uint64_t)(si.totalram + si.totalswap) * si.mem_unit;
	long points = (long)(all ? used * 1000 / all : 0) + oom_score_adj(task);
	text_printf(out, "%ld\n", MAX((points + 1000) * 2 / 3, 0L));
	return 0;
}

/* ---- others ---- */

static int show_coredump_filter(struct text *out, void *task)
{
	struct task *t = task;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	unsigned filter = t->tg->coredump_filter;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "%08x\n", filter);
	return 0;
}

static ssize_t write_coredump_filter(struct file *f, const char *buf, size_t n, void *task)
{
	struct task *t = task;
	long filter;
	int err = parse_number(buf, 0, UINT32_MAX, &filter);

	(void)f;
	if (err)
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	t->tg->coredump_filter = (unsigned)filter & COREDUMP_FILTER_ALL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

/* Another's is its own, for whoever may change priorities. */
static bool may_slack(struct task *t)
{
	struct task *me = task_current();

	return me == t || (me && task_capable(me, CAP_NR_SYS_NICE));
}

static int show_timerslack(struct text *out, void *task)
{
	if (!may_slack(task))
		return -EPERM;
	text_printf(out, "%llu\n", (unsigned long long)((struct task *)task)->timer_slack);
	return 0;
}

static ssize_t write_timerslack(struct file *f, const char *buf, size_t n, void *task)
{
	long slack;
	int err = parse_number(buf, 0, INT64_MAX, &slack);

	(void)f;
	if (err)
		return err;
	if (!may_slack(task))
		return -EPERM;
	((struct task *)task)->timer_slack = slack ? (uint64_t)slack : TIMER_SLACK_DEFAULT;
	return (ssize_t)n;
}

static int show_wchan(struct text *out, void *task)
{
	(void)task;
	text_putc(out, '0');
	return 0;
}

static int show_cpuset(struct text *out, void *task)
{
	(void)task;
	text_puts(out, "/\n");
	return 0;
}

/* Time on a CPU; how long it waited for one and how often it got one are the host's to know. */
static int show_schedstat(struct text *out, void *task)
{
	text_printf(out, "%lld 0 0\n", (long long)task_cpu_time(task));
	return 0;
}

#define TASK_COMMON .common.free_arg = proc_task_free
const struct synth_file_ops proc_oom_score_ops = {TASK_COMMON, .show = show_oom_score};
const struct synth_file_ops proc_oom_adj_ops = {TASK_COMMON, .show = show_oom_adj,
						.write = write_oom_adj};
const struct synth_file_ops proc_oom_score_adj_ops = {TASK_COMMON, .show = show_oom_score_adj,
						      .write = write_oom_score_adj};
const struct synth_file_ops proc_coredump_filter_ops = {TASK_COMMON, .show = show_coredump_filter,
							.write = write_coredump_filter};
const struct synth_file_ops proc_timerslack_ops = {TASK_COMMON, .show = show_timerslack,
						   .write = write_timerslack};
const struct synth_file_ops proc_wchan_ops = {TASK_COMMON, .show = show_wchan};
const struct synth_file_ops proc_cpuset_ops = {TASK_COMMON, .show = show_cpuset};
const struct synth_file_ops proc_schedstat_ops = {TASK_COMMON, .show = show_schedstat};

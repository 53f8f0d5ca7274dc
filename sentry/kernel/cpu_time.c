/* The CPU time of single threads, and how CPU time is told apart. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/host/reopen.h"
#include "sentry/kernel/task.h"

/* The host thread that runs t's guest code, its process, and what it had used before; false: gone,
 * or not known. */
static bool host_ids(struct task *t, pid_t *pid, pid_t *tid, int64_t *before)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct mm *mm = ops->host_tid ? task_mm_get(t) : NULL;

	*pid = *tid = -1;
	if (!mm)
		return false;
	*pid = ops->host_pid(mm->as);
	mutex_lock(&t->tg->siglock, &lc_signal);
	if (t->pt) {
		*tid = ops->host_tid(t->pt);
		*before = ops->cpu_before ? ops->cpu_before(t->pt) : 0;
	}
	mutex_unlock(&t->tg->siglock, &lc_signal);
	mm_put(mm);
	return *pid > 0 && *tid > 0;
}

/* A file of the host's about the thread: bytes read, and terminated; 0: none. */
static size_t read_thread_file(pid_t pid, pid_t tid, const char *name, char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/task/%d/%s", (int)pid, (int)tid, name);
	int fd = openat(host_proc_fd(), path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/*
 * Another process's thread clocks cannot be read by clock_gettime(2), its schedstat can: the first
 * number is the time on a CPU in ns, as of the last tick while the thread runs.
 */
static int64_t read_schedstat(struct task *t)
{
	char buf[64];
	pid_t pid, tid;
	int64_t before;

	if (host_proc_fd() < 0 || !host_ids(t, &pid, &tid, &before) ||
	    !read_thread_file(pid, tid, "schedstat", buf, sizeof(buf)))
		return 0;
	return MAX(strtoll(buf, NULL, 10) - before, 0);
}

/* The two sources differ by what an earlier program of the process used: it never runs backwards.
 */
int64_t task_cpu_time(struct task *t)
{
	int64_t now = t->tg->threaded ? read_schedstat(t) : thread_group_cpu_time(t->tg);
	int64_t last = atomic_load(&t->cpu_seen);

	while (now > last && !atomic_compare_exchange_weak(&t->cpu_seen, &last, now))
		;
	return MAX(now, last);
}

/* ---- user and system time ---- */

static struct {
	uint64_t ticks;
	int64_t ns;
} work_epoch; /* immutable after the start */

void cpu_work_init(void)
{
	work_epoch.ticks = __builtin_ia32_rdtsc();
	work_epoch.ns = time_monotonic();
}

void task_work_begins(struct task *t)
{
	t->work_since = __builtin_ia32_rdtsc();
}

void task_work_ends(struct task *t)
{
	int64_t ticks = (int64_t)(__builtin_ia32_rdtsc() - t->work_since);

	/* The counters of two CPUs may differ a little. */
	if (ticks > 0)
		atomic_store_explicit(&t->work_ticks,
				      atomic_load_explicit(&t->work_ticks, memory_order_relaxed) +
					      (uint64_t)ticks,
				      memory_order_relaxed);
	t->work_since = __builtin_ia32_rdtsc();
}

static int64_t ticks_to_ns(uint64_t ticks)
{
	uint64_t all = __builtin_ia32_rdtsc() - work_epoch.ticks;

	return all ? (int64_t)((unsigned __int128)ticks *
			       (uint64_t)(time_monotonic() - work_epoch.ns) / all)
		   : 0;
}

/*
 * The host says how much CPU time there is, with the time that the stub spins for an answer but not
 * what the sentry uses meanwhile.  So the two are taken as shares, as Linux does with its ticks;
 * what was shown once stays.
 */
static void split(struct cpu_times *shown, int64_t total, uint64_t ticks) REQUIRES(lc_tasks)
{
	int64_t work = ticks_to_ns(ticks);

	if (total <= shown->user + shown->system)
		return;
	int64_t system = (int64_t)((__int128)total * work / (total + work));
	shown->system = MAX(shown->system, system);
	int64_t user = total - shown->system;
	if (user < shown->user)
		shown->system = total - shown->user;
	else
		shown->user = user;
}

struct cpu_times task_times(struct task *t)
{
	int64_t total = task_cpu_time(t);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	split(&t->shown_times, total, atomic_load(&t->work_ticks));
	struct cpu_times times = t->shown_times;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return times;
}

static struct cpu_times group_times(struct thread_group *tg, int64_t total) REQUIRES(lc_tasks)
{
	uint64_t ticks = tg->dead_work;
	struct task *t;

	list_for_each (t, &tg->threads, thread_link)
		ticks += atomic_load(&t->work_ticks);
	split(&tg->shown_times, total, ticks);
	return tg->shown_times;
}

struct cpu_times thread_group_times(struct thread_group *tg)
{
	int64_t total = thread_group_cpu_time(tg);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct cpu_times times = group_times(tg, total);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return times;
}

struct cpu_times thread_group_last_times(struct thread_group *tg)
{
	return group_times(tg, tg->dead_cpu);
}

/* ---- faults and switches ---- */

static uint64_t number_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

void task_host_usage(struct task *t, struct mm_usage *out)
{
	char buf[2048];
	pid_t pid, tid;
	int64_t before;

	memset(out, 0, sizeof(*out));
	if (host_proc_fd() < 0 || !host_ids(t, &pid, &tid, &before))
		return;
	if (read_thread_file(pid, tid, "stat", buf, sizeof(buf))) {
		const char *at = strrchr(buf, ')');
		unsigned long long minor = 0, major = 0;
		if (at && sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu", &minor,
				 &major) == 2) {
			out->minor_faults = minor;
			out->major_faults = major;
		}
	}
	if (read_thread_file(pid, tid, "status", buf, sizeof(buf))) {
		out->voluntary_switches = number_after(buf, "\nvoluntary_ctxt_switches:");
		out->involuntary_switches = number_after(buf, "\nnonvoluntary_ctxt_switches:");
	}
}

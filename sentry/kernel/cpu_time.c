/* The CPU time of single threads. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

/*
 * Another process's thread clocks cannot be read by clock_gettime(2), its schedstat can: the first
 * number is the time on a CPU in ns, as of the last tick while the thread runs.
 */
static int64_t read_schedstat(struct task *t)
{
	char name[64], buf[64];
	pid_t pid, tid;
	int64_t before;

	if (host_proc_fd() < 0 || !host_ids(t, &pid, &tid, &before))
		return 0;
	snprintf(name, sizeof(name), "%d/task/%d/schedstat", (int)pid, (int)tid);
	int fd = openat(host_proc_fd(), name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	buf[n] = '\0';
	return MAX(strtoll(buf, NULL, 10) - before, 0);
}

/* The two sources differ by what an earlier program of the process used: it never runs backwards.
 */
int64_t task_cpu_time(struct task *t)
{
	int64_t now = t->tg->threaded ? read_schedstat(t) : thread_group_cpu_time(t->tg);
	int64_t last = atomic_load(&t->utime);

	while (now > last && !atomic_compare_exchange_weak(&t->utime, &last, now))
		;
	return MAX(now, last);
}

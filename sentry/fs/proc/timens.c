/* /proc/PID/timens_offsets: time_namespaces(7). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/time/ktimer.h"

/* Seconds that nanoseconds in 64 bits can hold. */
#define SECONDS_MAX (INT64_MAX / NSEC_PER_SEC)
#define LINES_MAX 2

static void put_offset(struct text *out, const char *name, int64_t ns)
{
	/* The fraction counts up, whatever the sign. */
	int64_t sec = ns / NSEC_PER_SEC, frac = ns % NSEC_PER_SEC;

	if (frac < 0) {
		frac += NSEC_PER_SEC;
		sec--;
	}
	text_printf(out, "%-10s %10lld %9lld\n", name, (long long)sec, (long long)frac);
}

static int show_offsets(struct text *out, void *task)
{
	struct time_offsets o;
	int err = task_child_offsets(task, &o);

	if (err)
		return err;
	put_offset(out, "monotonic", o.monotonic);
	put_offset(out, "boottime", o.boottime);
	return 0;
}

struct wanted {
	int64_t monotonic, boottime;
	bool has_monotonic, has_boottime;
};

/* "CLOCK SECONDS NANOSECONDS", the clock by its name or number. */
static int parse_line(const char *line, struct wanted *w)
{
	char clock[10];
	long long sec;
	unsigned long nsec;
	int64_t ns;

	if (sscanf(line, "%9s %lld %lu", clock, &sec, &nsec) != 3 ||
	    nsec >= (unsigned long)NSEC_PER_SEC)
		return -EINVAL;
	bool monotonic = !strcmp(clock, "monotonic") || !strcmp(clock, "1");
	if (!monotonic && strcmp(clock, "boottime") != 0 && strcmp(clock, "7") != 0)
		return -EINVAL;
	if (sec > SECONDS_MAX - 1 || sec < -SECONDS_MAX)
		return -ERANGE;
	ns = sec * NSEC_PER_SEC + (int64_t)nsec;
	if (monotonic)
		w->monotonic = ns;
	else
		w->boottime = ns;
	w->has_monotonic |= monotonic;
	w->has_boottime |= !monotonic;
	return 0;
}

/* Two lines at most; what comes after them is for the next write. */
static ssize_t write_offsets(struct file *f, const char *buf, size_t n, void *task)
{
	const struct task *me = task_current();
	struct wanted w = {0};
	size_t used = 0;
	int err = n < PAGE_SIZE && me ? 0 : -EINVAL;

	(void)f;
	for (int i = 0; i < LINES_MAX && !err && (used < n || !i); i++) {
		char line[128];
		size_t len = strcspn(buf + used, "\n");
		snprintf(line, sizeof(line), "%.*s", (int)MIN(len, sizeof(line)), buf + used);
		err = parse_line(line, &w);
		used = MIN(used + len + 1, n);
	}
	if (!err)
		err = task_set_child_offsets(task, me->cred, w.has_monotonic ? &w.monotonic : NULL,
					     w.has_boottime ? &w.boottime : NULL);
	return err ? err : (ssize_t)used;
}

const struct synth_file_ops proc_timens_offsets_ops = {
	.common.free_arg = proc_task_free, .show = show_offsets, .write = write_offsets};

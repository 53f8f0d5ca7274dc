/* The processes of a container, for `ps`. */
#include <stdio.h>
#include <time.h>

#include "sentry/boot/internal.h"
#include "sentry/kernel/pid.h"

#define NS 1000000000LL

static void clock_text(int64_t ns, char *out, size_t size)
{
	int64_t s = ns / NS;

	snprintf(out, size, "%02ld:%02ld:%02ld", (long)(s / 3600), (long)(s / 60 % 60),
		 (long)(s % 60));
}

static json_t *describe(struct thread_group *tg)
{
	struct rusage ru;
	char start[32], used[32], comm[sizeof(tg->leader->comm) + 1] = "";
	unsigned uid = 0;
	int ppid = 0, pgid = 0;
	bool has_tty = false;

	task_rusage(tg, NULL, RUSAGE_SELF, &ru);
	int64_t cpu = (ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * NS +
		      (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tg->zombie || !tg->leader) {
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		return NULL;
	}
	if (tg->leader->cred)
		uid = tg->leader->cred->uid;
	ppid = tg->parent ? tg->parent->tgid : 0;
	pgid = tg->pgid;
	has_tty = tg->session && tg->session->tty;
	snprintf(comm, sizeof(comm), "%s", tg->leader->comm);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);

	int64_t age = time_boottime() - tg->start_time;
	time_t when = (time_t)((time_realtime() - age) / NS);
	struct tm tm;
	gmtime_r(&when, &tm);
	strftime(start, sizeof(start), age > 86400 * NS ? "%b%d" : "%H:%M", &tm);
	clock_text(cpu, used, sizeof(used));
	return json_pack("{s:I, s:i, s:i, s:i, s:I, s:s, s:s, s:s, s:s}", "uid", (json_int_t)uid,
			 "pid", tg->tgid, "ppid", ppid, "pgid", pgid, "c",
			 (json_int_t)(age > 0 ? cpu * 100 / age : 0), "tty",
			 has_tty ? "pts/0" : "?", "stime", start, "time", used, "cmd", comm);
}

json_t *ps_list(struct container *ct)
{
	struct thread_group *tg;
	json_t *list = json_array();

	(void)ct;
	for (int pid = 1; (tg = thread_group_next(&pid_ns_top, &pid)); pid++) {
		json_t *j = describe(tg);
		if (j && json_array_append_new(list, j))
			j = NULL;
		thread_group_put(tg);
	}
	return list;
}

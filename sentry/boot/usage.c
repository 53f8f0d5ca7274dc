/* What the container uses, for `events`. */
#include <stdlib.h>

#include "sentry/boot/internal.h"
#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/pid.h"

json_t *usage_object(void)
{
	struct thread_group *tg;
	uint64_t user, system, pages = 0;

	cgroup_times(&cgroup_root, &user, &system);
	for (int pid = 1; (tg = thread_group_next(&pid_ns_top, &pid)); pid++) {
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		struct task *t =
			list_empty(&tg->threads)
				? NULL
				: task_get(list_first(&tg->threads, struct task, thread_link));
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		struct mm *mm = t ? task_mm_get(t) : NULL;
		if (mm)
			pages += mm_resident_pages(mm);
		mm_put(mm);
		task_put(t);
		thread_group_put(tg);
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	uint64_t tasks = cgroup_root.tasks;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return json_pack("{s:I, s:I, s:I, s:I}", "cpuUser", (json_int_t)user, "cpuSystem",
			 (json_int_t)system, "memory", (json_int_t)(pages << PAGE_SHIFT), "pids",
			 (json_int_t)tasks);
}

#include "sentry/kernel/cgroup/cgroup.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/task.h"

struct cgroup cgroup_root;
struct cgroup *(*cgroup_of_file)(struct file *f);
static unsigned ngroups; /* lc_tasks */

static void init(struct cgroup *c)
{
	ref_init(&c->ref, 1);
	list_init(&c->children);
	list_init(&c->sibling);
	waitq_init(&c->changed);
	c->pids_max = CGROUP_NO_LIMIT;
}

void cgroup_init(void)
{
	init(&cgroup_root);
}

struct cgroup *cgroup_get(struct cgroup *c)
{
	ref_get(&c->ref);
	return c;
}

void cgroup_put(struct cgroup *c)
{
	while (c && ref_put(&c->ref)) {
		struct cgroup *parent = c->parent;
		free(c);
		c = parent;
	}
}

int cgroup_new(struct cgroup *parent, const char *name, struct cgroup **out)
{
	struct cgroup *c = calloc(1, sizeof(*c));
	int err = 0;

	if (!c)
		return -ENOMEM;
	init(c);
	strncpy(c->name, name, VFS_NAME_MAX);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (parent->gone)
		err = -ENOENT;
	else if (ngroups >= CGROUPS_MAX || parent->depth + 1 >= CGROUP_DEPTH_MAX)
		err = -EAGAIN;
	if (!err) {
		c->parent = cgroup_get(parent);
		c->depth = parent->depth + 1;
		list_add_tail(&c->sibling, &parent->children);
		parent->nchildren++;
		ngroups++;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (err)
		free(c);
	else
		*out = c;
	return err;
}

int cgroup_remove(struct cgroup *c)
{
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (c->processes || c->nchildren) {
		err = -EBUSY;
	} else {
		c->gone = true;
		list_del(&c->sibling);
		list_init(&c->sibling);
		c->parent->nchildren--;
		ngroups--;
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

bool cgroup_is_in(const struct cgroup *c, const struct cgroup *top)
{
	while (c && c != top)
		c = c->parent;
	return c;
}

/* ---- counting ---- */

static void count_process(struct cgroup *c, int by) REQUIRES(lc_tasks)
{
	for (; c; c = c->parent) {
		bool populated = c->processes;
		c->processes += (unsigned)by;
		if (populated == (c->processes != 0))
			continue;
		__atomic_fetch_add(&c->changes, 1, __ATOMIC_RELAXED);
		waitq_notify(&c->changed, POLLPRI | POLLERR);
	}
}

static void count_tasks(struct cgroup *c, int64_t by) REQUIRES(lc_tasks)
{
	for (; c; c = c->parent) {
		c->tasks += (uint64_t)by;
		c->peak = MAX(c->peak, c->tasks);
	}
}

void cgroup_enter(struct thread_group *tg)
{
	count_process(tg->cgroup, 1);
}

void cgroup_leave(struct thread_group *tg)
{
	struct cpu_times used = thread_group_last_times(tg);

	for (struct cgroup *c = tg->cgroup; c; c = c->parent) {
		c->utime += (uint64_t)used.user;
		c->stime += (uint64_t)used.system;
	}
	count_process(tg->cgroup, -1);
}

static bool is_limited(const struct cgroup *c)
{
	return c->parent && c->parent->pids_below;
}

int cgroup_charge(struct cgroup *c)
{
	if (c->gone)
		return -ENODEV;
	for (struct cgroup *over = c; over; over = over->parent)
		if (is_limited(over) && over->tasks >= over->pids_max) {
			over->pids_refused++;
			return -EAGAIN;
		}
	count_tasks(c, 1);
	return 0;
}

void cgroup_uncharge(struct cgroup *c)
{
	count_tasks(c, -1);
}

int cgroup_move(struct thread_group *tg, struct cgroup *to)
{
	struct cgroup *from = tg->cgroup;

	if (to->gone)
		return -ENODEV;
	if (from == to || !tg->nthreads)
		return 0;
	count_tasks(from, -(int64_t)tg->nthreads);
	count_tasks(to, (int64_t)tg->nthreads);
	count_process(from, -1);
	count_process(to, 1);
	tg->cgroup = cgroup_get(to);
	cgroup_put(from);
	return 0;
}

/* ---- telling ---- */

const char *cgroup_path(const struct cgroup *c, char *buf, size_t size)
{
	char *p = buf + size - 1;

	*p = 0;
	for (; c->parent; c = c->parent) {
		size_t n = strlen(c->name);
		if ((size_t)(p - buf) < n + 1)
			break;
		p -= n;
		memcpy(p, c->name, n);
		*--p = '/';
	}
	return *p ? p : "/";
}

/* Those of the group that live, with references; NULL: no memory. */
static struct thread_group **members(struct cgroup *c, size_t *n)
{
	size_t max = (size_t)atomic_load(&kernel->ntasks) + 16;
	struct thread_group **all = calloc(max, sizeof(*all)), *tg;

	*n = 0;
	if (!all)
		return NULL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link)
		if (tg->nthreads && *n < max && cgroup_is_in(tg->cgroup, c))
			all[(*n)++] = thread_group_get(tg);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return all;
}

void cgroup_kill(struct cgroup *c)
{
	ksiginfo info;
	size_t n;
	struct thread_group **all = members(c, &n);

	signal_info_kernel(&info, SIGKILL);
	for (size_t i = 0; all && i < n; i++) {
		(void)!signal_send_group(all[i], &info);
		thread_group_put(all[i]);
	}
	free(all);
}

void cgroup_times(struct cgroup *c, uint64_t *utime, uint64_t *stime)
{
	size_t n;
	struct thread_group **all = members(c, &n);

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	*utime = c->utime;
	*stime = c->stime;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	for (size_t i = 0; all && i < n; i++) {
		struct cpu_times used = thread_group_times(all[i]);
		*utime += (uint64_t)used.user;
		*stime += (uint64_t)used.system;
		thread_group_put(all[i]);
	}
	free(all);
}

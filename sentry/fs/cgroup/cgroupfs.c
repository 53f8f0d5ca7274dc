#include "sentry/fs/cgroup/cgroupfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/synth/synth.h"
#include "sentry/kernel/cgroup/cgroup.h"
#include "sentry/kernel/pid.h"
#include "sentry/lib/cleanup.h"

#define NS_PER_US 1000

static struct mutex mount_once; /* lc_leaf */
static struct super_block *the_sb;
static const struct synth_dir_ops dir_ops;

static void put_arg(void *c)
{
	cgroup_put(c);
}

/* ---- processes ---- */

struct pid_list {
	int *nr;
	size_t n, max;
};

static int add_pid(struct pid_list *l, int nr)
{
	if (nr <= 0)
		return 0; /* not in the reader's namespace */
	if (l->n == l->max) {
		size_t max = MAX(2 * l->max, (size_t)64);
		int *more = realloc(l->nr, max * sizeof(*more));
		if (!more)
			return -ENOMEM;
		l->nr = more;
		l->max = max;
	}
	l->nr[l->n++] = nr;
	return 0;
}

/* Of the group's processes, or threads, as the reader calls them. */
static int list_members(struct cgroup *c, bool threads, struct pid_list *l)
{
	const struct task *me = task_current();
	const struct pid_ns *ns = me ? task_pid_ns(me) : &pid_ns_top;
	struct thread_group *tg;
	struct task *t;
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link) {
		if (tg->cgroup != c || !tg->nthreads || err)
			continue;
		if (!threads)
			err = add_pid(l, pid_nr_in(tg->pid, ns));
		else
			list_for_each (t, &tg->threads, thread_link)
				if (t->pid && !err)
					err = add_pid(l, pid_nr_in(t->pid, ns));
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

static int show_members(struct text *out, struct cgroup *c, bool threads)
{
	struct pid_list l = {NULL, 0, 0};
	int err = list_members(c, threads, &l);

	for (size_t i = 0; i < l.n && !err; i++)
		text_printf(out, "%d\n", l.nr[i]);
	free(l.nr);
	return err;
}

static int show_procs(struct text *out, void *c)
{
	return show_members(out, c, false);
}

static int show_threads(struct text *out, void *c)
{
	return show_members(out, c, true);
}

/*
 * cgroups(7), "Delegation containment": whoever moves must be able to write to this file, which
 * opening it has shown, and to that of the nearest group above both.
 */
static bool may_move(const struct cgroup *from, const struct cgroup *to, const struct cred *c)
{
	struct inode *dir = the_sb->root->inode;
	const struct cgroup *path[CGROUP_DEPTH_MAX], *common = from;
	size_t n = 0;

	while (!cgroup_is_in(to, common))
		common = common->parent;
	for (; common->parent; common = common->parent)
		path[n++] = common;
	while (n && dir)
		dir = synth_child(dir, path[--n]->name);
	struct inode *procs = dir ? synth_child(dir, "cgroup.procs") : NULL;
	return procs && !inode_permission(procs, 2 /* MAY_WRITE */, c);
}

static ssize_t write_procs(struct file *f, const char *buf, size_t n, void *arg)
{
	struct cgroup *c = arg;
	struct task *me = task_current();
	char *end;
	long nr = strtol(buf, &end, 10);
	int err = 0;

	(void)f;
	if (end == buf || *(end + strspn(end, " \n")) || nr < 0 || nr > INT32_MAX)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *tg = nr ? thread_group_named(me, (int)nr) : me->tg;
	if (!tg || !tg->cgroup)
		err = -ESRCH;
	else
		thread_group_get(tg);
	struct cgroup *from = err ? NULL : cgroup_get(tg->cgroup);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (err)
		return err;
	if (!may_move(from, c, me->cred)) {
		err = -EACCES;
	} else {
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		err = cgroup_move(tg, c);
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	}
	cgroup_put(from);
	thread_group_put(tg);
	return err ? err : (ssize_t)n;
}

/* ---- the core's other files ---- */

static bool has_pids(const struct cgroup *c)
{
	return !c->parent || c->parent->pids_below;
}

static int show_controllers(struct text *out, void *arg)
{
	text_puts(out, has_pids(arg) ? "pids\n" : "");
	return 0;
}

static int show_subtree(struct text *out, void *arg)
{
	text_puts(out, ((struct cgroup *)arg)->pids_below ? "pids\n" : "");
	return 0;
}

/* "+pids" and "-pids", of which the last one counts.  ENOENT: not there to be handed down. */
static ssize_t write_subtree(struct file *f, const char *buf, size_t n, void *arg)
{
	struct cgroup *c = arg, *child;
	int want = -1, err = 0;

	(void)f;
	for (const char *p = buf; *p;) {
		size_t len = strcspn(p, " \n");
		if (len && (len != 5 || (*p != '+' && *p != '-') || strncmp(p + 1, "pids", 4)))
			return -EINVAL;
		if (len)
			want = *p == '+';
		p += len + (p[len] != 0);
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (want == 1 && !has_pids(c))
		err = -ENOENT;
	if (want == 0)
		list_for_each (child, &c->children, sibling)
			if (child->pids_below)
				err = -EBUSY;
	if (!err && want >= 0)
		c->pids_below = want;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err ? err : (ssize_t)n;
}

static int show_events(struct text *out, void *arg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool populated = ((struct cgroup *)arg)->processes;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "populated %d\nfrozen 0\n", populated);
	return 0;
}

static uint32_t poll_events(void *arg, _Atomic uint64_t *seen)
{
	uint64_t now = __atomic_load_n(&((struct cgroup *)arg)->changes, __ATOMIC_RELAXED);

	return atomic_exchange(seen, now) == now ? POLLIN : POLLIN | POLLERR | POLLPRI;
}

static struct waitq *events_waitq(void *arg)
{
	return &((struct cgroup *)arg)->changed;
}

static int show_type(struct text *out, void *arg)
{
	(void)arg;
	text_puts(out, "domain\n");
	return 0;
}

static ssize_t write_kill(struct file *f, const char *buf, size_t n, void *arg)
{
	char *end;
	long v = strtol(buf, &end, 0);

	(void)f;
	if (end == buf || *(end + strspn(end, " \n")))
		return -EINVAL;
	if (v != 1)
		return -ERANGE;
	cgroup_kill(arg);
	return (ssize_t)n;
}

static unsigned descendants(const struct cgroup *c) REQUIRES(lc_tasks)
{
	const struct cgroup *at = c;
	unsigned n = 0;

	for (;;) {
		if (!list_empty(&at->children)) {
			at = list_first(&at->children, struct cgroup, sibling);
			n++;
			continue;
		}
		while (at != c && at->sibling.next == &at->parent->children)
			at = at->parent;
		if (at == c)
			return n;
		at = list_entry(at->sibling.next, struct cgroup, sibling);
		n++;
	}
}

static int show_stat(struct text *out, void *arg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	unsigned n = descendants(arg);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_printf(out, "nr_descendants %u\nnr_dying_descendants 0\n", n);
	return 0;
}

static int show_cpu_stat(struct text *out, void *arg)
{
	uint64_t u, s;

	cgroup_times(arg, &u, &s);
	text_printf(out, "usage_usec %llu\nuser_usec %llu\nsystem_usec %llu\n",
		    (unsigned long long)(u + s) / NS_PER_US, (unsigned long long)u / NS_PER_US,
		    (unsigned long long)s / NS_PER_US);
	return 0;
}

/* ---- pids ---- */

static int show_number(struct text *out, uint64_t v)
{
	if (v == CGROUP_NO_LIMIT)
		text_puts(out, "max\n");
	else
		text_printf(out, "%llu\n", (unsigned long long)v);
	return 0;
}

static int show_pids_max(struct text *out, void *c)
{
	return show_number(out, ((struct cgroup *)c)->pids_max);
}

static int show_pids_current(struct text *out, void *c)
{
	return show_number(out, ((struct cgroup *)c)->tasks);
}

static int show_pids_peak(struct text *out, void *c)
{
	return show_number(out, ((struct cgroup *)c)->peak);
}

static int show_pids_events(struct text *out, void *c)
{
	text_printf(out, "max %llu\n", (unsigned long long)((struct cgroup *)c)->pids_refused);
	return 0;
}

static ssize_t write_pids_max(struct file *f, const char *buf, size_t n, void *arg)
{
	struct cgroup *c = arg;
	uint64_t limit = CGROUP_NO_LIMIT;
	size_t len = strcspn(buf, " \n");

	(void)f;
	if (buf[len + strspn(buf + len, " \n")])
		return -EINVAL;
	if (len != 3 || strncmp(buf, "max", 3)) {
		char *end;
		long v = strtol(buf, &end, 0);
		if (end == buf || end != buf + len || v < 0 || v > INT32_MAX)
			return -EINVAL;
		limit = (uint64_t)v;
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	c->pids_max = limit;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return (ssize_t)n;
}

/* ---- directories ---- */

#define COMMON .common.free_arg = put_arg
static const struct synth_file_ops procs_ops = {COMMON, .show = show_procs, .write = write_procs};
static const struct synth_file_ops threads_ops = {COMMON, .show = show_threads};
static const struct synth_file_ops controllers_ops = {COMMON, .show = show_controllers};
static const struct synth_file_ops subtree_ops = {COMMON, .show = show_subtree,
						  .write = write_subtree};
static const struct synth_file_ops events_ops = {COMMON, .show = show_events, .poll = poll_events,
						 .waitq = events_waitq};
static const struct synth_file_ops type_ops = {COMMON, .show = show_type};
static const struct synth_file_ops kill_ops = {COMMON, .write = write_kill};
static const struct synth_file_ops stat_ops = {COMMON, .show = show_stat};
static const struct synth_file_ops cpu_stat_ops = {COMMON, .show = show_cpu_stat};
static const struct synth_file_ops pids_max_ops = {COMMON, .show = show_pids_max,
						   .write = write_pids_max};
static const struct synth_file_ops pids_current_ops = {COMMON, .show = show_pids_current};
static const struct synth_file_ops pids_peak_ops = {COMMON, .show = show_pids_peak};
static const struct synth_file_ops pids_events_ops = {COMMON, .show = show_pids_events};

struct entry {
	const char *name;
	uint32_t mode;
	const struct synth_file_ops *ops;
	bool root; /* the root has it, too */
};

static const struct entry core_files[] = {
	{"cgroup.controllers", 0444, &controllers_ops, true},
	{"cgroup.procs", 0644, &procs_ops, true},
	{"cgroup.stat", 0444, &stat_ops, true},
	{"cgroup.subtree_control", 0644, &subtree_ops, true},
	{"cgroup.threads", 0444, &threads_ops, true},
	{"cpu.stat", 0444, &cpu_stat_ops, true},
	{"cgroup.events", 0444, &events_ops, false},
	{"cgroup.kill", 0200, &kill_ops, false},
	{"cgroup.type", 0444, &type_ops, false},
};

static const struct entry pids_files[] = {
	{"pids.current", 0444, &pids_current_ops, false},
	{"pids.events", 0444, &pids_events_ops, false},
	{"pids.max", 0644, &pids_max_ops, false},
	{"pids.peak", 0444, &pids_peak_ops, false},
};

static bool shows_pids(const struct cgroup *c)
{
	return c->parent && c->parent->pids_below;
}

static int add_core(struct inode *dir, struct cgroup *c, uint32_t uid, uint32_t gid)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(core_files) && !err; i++) {
		const struct entry *e = &core_files[i];
		if (!c->parent && !e->root)
			continue;
		struct inode *in = synth_file_new(dir->sb, e->mode, e->ops, cgroup_get(c));
		if (in)
			synth_set_owner(in, uid, gid);
		err = synth_add(dir, e->name, in);
	}
	return err;
}

static int group_lookup(struct inode *dir, const char *name, struct inode **out, void *arg)
{
	struct cgroup *c = arg;

	for (size_t i = 0; i < ARRAY_SIZE(pids_files) && shows_pids(c); i++) {
		const struct entry *e = &pids_files[i];
		if (strcmp(name, e->name))
			continue;
		*out = synth_file_new(dir->sb, e->mode, e->ops, cgroup_get(c));
		if (!*out)
			return -ENOMEM;
		synth_set_owner(*out, dir->uid, dir->gid);
		return 0;
	}
	return -ENOENT;
}

static int group_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *arg)
{
	for (; shows_pids(arg) && *off < (int64_t)ARRAY_SIZE(pids_files); ++*off) {
		const char *name = pids_files[*off].name;
		if (!ctx->emit(ctx, name, strlen(name), *off + 1, dir->ino + 1 + (uint64_t)*off,
			       S_IFREG >> 12))
			break;
	}
	return 0;
}

static int group_mkdir(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		       struct inode **out, void *arg)
{
	struct cgroup *c;

	if (strchr(name, '\n'))
		return -EINVAL;
	if (!strncmp(name, "cgroup.", 7) || !strncmp(name, "pids.", 5))
		return -EEXIST;
	int err = cgroup_new(arg, name, &c);
	if (err)
		return err;
	struct inode *in = synth_dir_new(dir->sb, mode, &dir_ops, cgroup_get(c));
	if (in)
		synth_set_owner(in, cred->fsuid, cred->fsgid);
	err = in ? add_core(in, c, cred->fsuid, cred->fsgid) : -ENOMEM;
	if (err) {
		inode_put(in);
		(void)!cgroup_remove(c);
	} else {
		*out = in;
	}
	cgroup_put(c);
	return err;
}

static int group_rmdir(struct inode *dir, struct inode *child, void *arg)
{
	(void)dir, (void)arg;
	return synth_dir_is(child, &dir_ops) ? cgroup_remove(synth_arg(child)) : -ENOTDIR;
}

static const struct synth_dir_ops dir_ops = {
	COMMON,
	.lookup = group_lookup,
	.readdir = group_readdir,
	.mkdir = group_mkdir,
	.rmdir = group_rmdir,
};

static struct cgroup *of_file(struct file *f)
{
	return synth_dir_is(f->inode, &dir_ops) ? synth_arg(f->inode) : NULL;
}

int cgroupfs_mount(struct super_block **out)
{
	int err = 0;

	mutex_lock(&mount_once, &lc_leaf);
	struct super_block *sb = the_sb;
	mutex_unlock(&mount_once, &lc_leaf);
	if (!sb) {
		err = synth_super_new("cgroup2", CGROUP2_SUPER_MAGIC, SYNTH_NO_DCACHE, &dir_ops,
				      cgroup_get(&cgroup_root), &sb);
		if (!err)
			err = add_core(sb->root->inode, &cgroup_root, 0, 0);
		if (err)
			return err;
		mutex_lock(&mount_once, &lc_leaf);
		struct super_block *mine = sb;
		if (the_sb)
			sb = the_sb;
		else
			the_sb = sb;
		mutex_unlock(&mount_once, &lc_leaf);
		if (sb != mine)
			super_put(mine);
		cgroup_of_file = of_file;
	}
	*out = super_get(sb);
	return 0;
}

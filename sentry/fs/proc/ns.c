/* /proc/PID/ns: a link for each namespace of a task. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/nsfs.h"

struct link_arg {
	struct task *t; /* reference */
	const struct ns_kind *kind;
};

static void link_arg_free(void *p)
{
	struct link_arg *a = p;

	task_put(a->t);
	free(a);
}

static int link_ns(struct link_arg *a, struct ns **out)
{
	if (!proc_may_access(a->t))
		return -EACCES;
	*out = a->kind->of_task(a->t);
	return *out ? 0 : -ENOENT;
}

static int link_show(struct text *out, void *arg)
{
	struct ns *ns;
	int err = link_ns(arg, &ns);

	if (err)
		return err;
	text_printf(out, "%s:[%lu]", ns->type->name, (unsigned long)ns->ino);
	ns_put(ns);
	return 0;
}

static int link_follow(struct path *out, void *arg)
{
	struct ns *ns;
	int err = link_ns(arg, &ns);

	if (err)
		return err;
	err = nsfs_path(ns, out);
	ns_put(ns);
	return err;
}

static const struct synth_link_ops link_ops = {
	.common.free_arg = link_arg_free, .show = link_show, .follow = link_follow};

static int ns_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	for (size_t i = 0; i < ns_kind_count; i++) {
		if (strcmp(ns_kinds[i].name, name) != 0)
			continue;
		struct link_arg *a = malloc(sizeof(*a));
		if (!a)
			return -ENOMEM;
		*a = (struct link_arg){task_get(task), &ns_kinds[i]};
		*out = synth_link_new(dir->sb, 0777, &link_ops, a);
		if (!*out)
			return -ENOMEM;
		proc_own_by_task(*out, task);
		return 0;
	}
	return -ENOENT;
}

static int ns_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	(void)task;
	for (size_t i = (size_t)*off; i < ns_kind_count; i++) {
		const char *name = ns_kinds[i].name;
		if (!ctx->emit(ctx, name, strlen(name), (int64_t)i + 1, dir->ino + i + 1, DT_LNK))
			break;
		*off = (int64_t)i + 1;
	}
	return 0;
}

const struct synth_dir_ops proc_ns_ops = {
	.common.free_arg = proc_task_free, .lookup = ns_lookup, .readdir = ns_readdir};

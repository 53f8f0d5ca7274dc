/* /proc/PID/mounts and mountinfo. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"

struct mounts_out {
	struct text *out;
	struct path root;
	bool info;
};

#define ESCAPED " \t\n\\#"

static void put_path(struct text *out, struct path p, struct path root, bool *reachable)
{
	char *buf = malloc(VFS_PATH_MAX), *start;
	ssize_t n = buf ? path_name(p, root, buf, VFS_PATH_MAX, false, &start) : -ENOMEM;

	*reachable = n >= 0;
	if (n >= 0)
		text_put_escaped(out, start, (size_t)n, ESCAPED);
	free(buf);
}

static void put_flags(struct text *out, unsigned flags)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {{MS_NOSUID, ",nosuid"},	     {MS_NODEV, ",nodev"},
		     {MS_NOEXEC, ",noexec"},	     {MS_NOATIME, ",noatime"},
		     {MS_NODIRATIME, ",nodiratime"}, {MS_RELATIME, ",relatime"}};

	text_puts(out, flags & MS_RDONLY ? "ro" : "rw");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & names[i].flag)
			text_puts(out, names[i].name);
}

/* Where in its file system the mount begins: walked as if all of that was mounted. */
static void put_fs_root(struct text *out, struct mount *m)
{
	struct mount all = {.root = m->sb->root};
	bool reachable;

	put_path(out, (struct path){&all, m->root}, (struct path){&all, all.root}, &reachable);
	if (!reachable)
		text_putc(out, '/');
}

static int put_mount(struct mount *m, void *arg)
{
	struct mounts_out *o = arg;
	char options[256] = "";
	size_t before = o->out->len;
	bool reachable;

	if (m->sb->ops->show_options)
		m->sb->ops->show_options(m->sb, options, sizeof(options));
	const char *source = m->source ? m->source : "none";
	struct path at = {m, m->root};
	if (o->info) {
		text_printf(o->out, "%d %d %u:%u ", m->id, m->parent ? m->parent->id : 0,
			    major(m->sb->dev), minor(m->sb->dev));
		put_fs_root(o->out, m);
		text_putc(o->out, ' ');
	} else {
		text_put_escaped(o->out, source, strlen(source), ESCAPED);
		text_putc(o->out, ' ');
	}
	put_path(o->out, at, o->root, &reachable);
	if (!reachable) {
		o->out->len = before; /* outside of the reader's root */
		return 0;
	}
	if (o->info) {
		text_putc(o->out, ' ');
		put_flags(o->out, m->flags);
		text_printf(o->out, " - %s ", m->sb->fstype);
		text_put_escaped(o->out, source, strlen(source), ESCAPED);
		text_printf(o->out, " %s%s\n", m->sb->readonly ? "ro" : "rw", options);
	} else {
		text_printf(o->out, " %s ", m->sb->fstype);
		put_flags(o->out, m->flags);
		text_printf(o->out, "%s 0 0\n", options);
	}
	return 0;
}

static int show(struct text *out, struct task *t, bool info)
{
	struct fs_context *fs = task_fs_get(t);

	if (!fs)
		return -EINVAL;
	mutex_lock(&fs->lock, &lc_fs);
	struct mounts_out o = {out, path_get(fs->root), info};
	struct mnt_ns *ns = mnt_ns_get(fs->mnt_ns);
	mutex_unlock(&fs->lock, &lc_fs);
	fs_context_put(fs);
	int err = mnt_ns_for_each(ns, put_mount, &o);
	path_put(o.root);
	mnt_ns_put(ns);
	return err;
}

static int show_mounts(struct text *out, void *task)
{
	return show(out, task, false);
}

static int show_mountinfo(struct text *out, void *task)
{
	return show(out, task, true);
}

const struct synth_file_ops proc_mounts_ops = {.common.free_arg = proc_task_free,
					       .show = show_mounts};
const struct synth_file_ops proc_mountinfo_ops = {.common.free_arg = proc_task_free,
						  .show = show_mountinfo};

/* /proc/PID/mounts, mountinfo and mountstats. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"
#include "sentry/vfs/mount.h"

enum mounts_kind { MOUNTS, MOUNTINFO, MOUNTSTATS };

struct mounts_out {
	struct text *out;
	struct path root;
	enum mounts_kind kind;
};

#define ESCAPED_PATH " \t\n\\"
#define ESCAPED_NAME " \t\n\\#"

static void put_path(struct text *out, struct path p, struct path root, bool *reachable)
{
	char *buf = malloc(VFS_PATH_MAX), *start;
	ssize_t n = buf ? path_name(p, root, buf, VFS_PATH_MAX, false, &start) : -ENOMEM;

	*reachable = n >= 0;
	if (n >= 0)
		text_put_escaped(out, start, (size_t)n, ESCAPED_PATH);
	free(buf);
}

static void put_flags(struct text *out, unsigned flags)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {{MS_NOSUID, ",nosuid"},	      {MS_NODEV, ",nodev"},
		     {MS_NOEXEC, ",noexec"},	      {MS_NOATIME, ",noatime"},
		     {MS_NODIRATIME, ",nodiratime"},  {MS_RELATIME, ",relatime"},
		     {MS_NOSYMFOLLOW, ",nosymfollow"}};

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

static void put_source(struct text *out, const struct mount *m)
{
	text_put_escaped(out, m->source, strlen(m->source), ESCAPED_NAME);
}

static const char *ro_or_rw(bool readonly)
{
	return readonly ? "ro" : "rw";
}

static void put_sharing(struct mounts_out *o, struct mount *m)
{
	struct mount_sharing s;

	mount_sharing(m, o->root, &s);
	if (s.shared)
		text_printf(o->out, " shared:%d", s.shared);
	if (s.master)
		text_printf(o->out, " master:%d", s.master);
	if (s.from && s.from != s.master)
		text_printf(o->out, " propagate_from:%d", s.from);
	if (s.unbindable)
		text_puts(o->out, " unbindable");
}

static int put_mount(struct mount *m, void *arg)
{
	struct mounts_out *o = arg;
	struct text *out = o->out;
	char options[VFS_PATH_MAX] = "";
	size_t before = out->len;
	bool reachable;

	if (m->sb->ops->show_options)
		m->sb->ops->show_options(m->sb, options, sizeof(options));
	if (o->kind == MOUNTINFO) {
		text_printf(out, "%d %d %u:%u ", m->id, mount_parent_id(m), major(m->sb->dev),
			    minor(m->sb->dev));
		put_fs_root(out, m);
		text_putc(out, ' ');
	} else {
		if (o->kind == MOUNTSTATS)
			text_puts(out, "device ");
		put_source(out, m);
		text_puts(out, o->kind == MOUNTSTATS ? " mounted on " : " ");
	}
	put_path(out, (struct path){m, m->root}, o->root, &reachable);
	if (!reachable) {
		out->len = before; /* outside of the reader's root */
		return 0;
	}
	switch (o->kind) {
	case MOUNTINFO:
		text_printf(out, " %s", ro_or_rw(m->flags & MS_RDONLY));
		put_flags(out, m->flags);
		put_sharing(o, m);
		text_printf(out, " - %s ", m->sb->fstype);
		put_source(out, m);
		text_printf(out, " %s%s\n", ro_or_rw(m->sb->readonly), options);
		break;
	case MOUNTS:
		text_printf(out, " %s %s", m->sb->fstype,
			    ro_or_rw(m->sb->readonly || m->flags & MS_RDONLY));
		put_flags(out, m->flags);
		text_printf(out, "%s 0 0\n", options);
		break;
	case MOUNTSTATS:
		text_printf(out, " with fstype %s\n", m->sb->fstype);
		break;
	}
	return 0;
}

/* The namespace and root that a task sees; the caller puts both. */
static int task_mounts(struct task *t, struct mnt_ns **ns, struct path *root)
{
	struct fs_context *fs = task_fs_get(t);

	if (!fs)
		return -EINVAL;
	mutex_lock(&fs->lock, &lc_fs);
	*root = path_get(fs->root);
	*ns = mnt_ns_get(fs->mnt_ns);
	mutex_unlock(&fs->lock, &lc_fs);
	fs_context_put(fs);
	return 0;
}

static int show(struct text *out, struct task *t, enum mounts_kind kind)
{
	struct mounts_out o = {.out = out, .kind = kind};
	struct mnt_ns *ns;
	int err = task_mounts(t, &ns, &o.root);

	if (err)
		return err;
	err = mnt_ns_for_each(ns, put_mount, &o);
	path_put(o.root);
	mnt_ns_put(ns);
	return err;
}

static int show_mounts(struct text *out, void *task)
{
	return show(out, task, MOUNTS);
}

static int show_mountinfo(struct text *out, void *task)
{
	return show(out, task, MOUNTINFO);
}

static int show_mountstats(struct text *out, void *task)
{
	return show(out, task, MOUNTSTATS);
}

/* Changed since the last look?  Each look is the last one for the next. */
static uint32_t poll_mounts(void *task, _Atomic uint64_t *seen)
{
	struct path root;
	struct mnt_ns *ns;

	if (task_mounts(task, &ns, &root))
		return POLLIN | POLLRDNORM | POLLERR | POLLPRI;
	uint64_t now = ns->event, before = atomic_exchange(seen, now);
	path_put(root);
	mnt_ns_put(ns);
	return POLLIN | POLLRDNORM | (now != before ? POLLERR | POLLPRI : 0);
}

static struct waitq *wait_mounts(void *task)
{
	(void)task;
	return &mount_waitq;
}

#define MOUNTS_OPS(how)                                                              \
	{                                                                            \
		.common.free_arg = proc_task_free, .show = how, .poll = poll_mounts, \
		.waitq = wait_mounts,                                                \
	}
const struct synth_file_ops proc_mounts_ops = MOUNTS_OPS(show_mounts);
const struct synth_file_ops proc_mountinfo_ops = MOUNTS_OPS(show_mountinfo);
const struct synth_file_ops proc_mountstats_ops = MOUNTS_OPS(show_mountstats);

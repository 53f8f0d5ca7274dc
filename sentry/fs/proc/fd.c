/* /proc/PID/fd and fdinfo. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"

/* One entry: a descriptor number of a task. */
struct fd_arg {
	struct task *t; /* reference */
	int fd;
};

static void fd_arg_free(void *p)
{
	struct fd_arg *a = p;

	task_put(a->t);
	free(a);
}

static struct fd_arg *fd_arg_new(struct task *t, int fd)
{
	struct fd_arg *a = malloc(sizeof(*a));

	if (a)
		*a = (struct fd_arg){task_get(t), fd};
	return a;
}

static struct file *fd_file(struct task *t, int fd)
{
	struct fdtable *fds = task_fds_get(t);

	if (!fds)
		return NULL;
	struct file *f = fdtable_file_any(fds, fd);
	fdtable_put(fds);
	return f;
}

static int link_show(struct text *out, void *arg)
{
	struct fd_arg *a = arg;
	struct task *me = task_current();
	struct file *f = fd_file(a->t, a->fd);

	if (!f)
		return -ENOENT;
	char *buf = malloc(VFS_PATH_MAX * 2), *start;
	int err = buf ? 0 : -ENOMEM;
	if (!err) {
		struct fs_context *fs = me ? me->fs : NULL;
		struct path root = f->path;
		if (fs) {
			mutex_lock(&fs->lock, &lc_fs);
			root = fs->root;
			path_get(root);
			mutex_unlock(&fs->lock, &lc_fs);
		}
		ssize_t n = path_name(f->path, root, buf, VFS_PATH_MAX * 2, true, &start);
		if (n >= 0)
			text_put(out, start, (size_t)n);
		err = n < 0 ? (int)n : 0;
		if (fs)
			path_put(root);
	}
	free(buf);
	file_put(f);
	return err;
}

static int link_follow(struct path *out, void *arg)
{
	struct fd_arg *a = arg;

	if (!proc_may_access(a->t))
		return -EACCES;
	struct file *f = fd_file(a->t, a->fd);
	if (!f)
		return -ENOENT;
	*out = path_get(f->path);
	file_put(f);
	return 0;
}

static const struct synth_link_ops link_ops = {
	.common.free_arg = fd_arg_free, .show = link_show, .follow = link_follow};

static int info_show(struct text *out, void *arg)
{
	struct fd_arg *a = arg;
	struct file *f = fd_file(a->t, a->fd);
	const size_t room = 16384;

	if (!f)
		return -ENOENT;
	text_printf(out, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t%d\nino:\t%llu\n",
		    (long long)atomic_load(&f->pos), (unsigned)atomic_load(&f->flags),
		    f->path.mnt ? f->path.mnt->id : 0, (unsigned long long)f->inode->ino);
	if (f->ops && f->ops->show_fdinfo) {
		CLEANUP_FREE char *more = malloc(room);
		if (more)
			text_put(out, more, f->ops->show_fdinfo(f, more, room));
	}
	file_put(f);
	return 0;
}

static const struct synth_file_ops info_ops = {.common.free_arg = fd_arg_free, .show = info_show};

static int parse_fd(const char *name)
{
	char *end;
	long fd = strtol(name, &end, 10);

	if (*end || name[0] < '0' || name[0] > '9' || (name[0] == '0' && name[1]) || fd > INT32_MAX)
		return -1;
	return (int)fd;
}

static int lookup(struct inode *dir, const char *name, struct task *t, bool info,
		  struct inode **out)
{
	int fd = parse_fd(name);
	struct file *f = fd >= 0 ? fd_file(t, fd) : NULL;

	if (!f)
		return -ENOENT;
	/* The permission bits of a link say how the file is open: proc(5). */
	uint32_t mode = (file_readable(f) ? 0500u : 0u) | (file_writable(f) ? 0300u : 0u);
	file_put(f);
	struct fd_arg *a = fd_arg_new(t, fd);
	if (!a)
		return -ENOMEM;
	*out = info ? synth_file_new(dir->sb, 0444, &info_ops, a)
		    : synth_link_new(dir->sb, mode, &link_ops, a);
	if (!*out)
		return -ENOMEM;
	synth_set_ino(*out, dir->ino << 20 | (uint64_t)(unsigned)fd);
	return 0;
}

static int fd_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	return lookup(dir, name, task, false, out);
}

static int fdinfo_lookup(struct inode *dir, const char *name, struct inode **out, void *task)
{
	return lookup(dir, name, task, true, out);
}

static int list(struct inode *dir, struct dir_context *ctx, int64_t *off, struct task *t,
		unsigned type)
{
	struct fdtable *fds = task_fds_get(t);

	if (!fds)
		return 0;
	for (int fd = fdtable_next(fds, (int)*off); fd >= 0; fd = fdtable_next(fds, fd + 1)) {
		char name[16];
		int n = snprintf(name, sizeof(name), "%d", fd);
		if (!ctx->emit(ctx, name, (size_t)n, (int64_t)fd + 1,
			       dir->ino << 20 | (uint64_t)(unsigned)fd, type))
			break;
		*off = (int64_t)fd + 1;
	}
	fdtable_put(fds);
	return 0;
}

static int fd_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	return list(dir, ctx, off, task, DT_LNK);
}

static int fdinfo_readdir(struct inode *dir, struct dir_context *ctx, int64_t *off, void *task)
{
	return list(dir, ctx, off, task, DT_REG);
}

static int fd_permission(struct inode *in, int mask, const struct cred *c, void *task)
{
	(void)in, (void)c;
	if (mask & 2)
		return -EACCES;
	return proc_may_access(task) ? 0 : -EACCES;
}

const struct synth_dir_ops proc_fd_ops = {
	.common = {.free_arg = proc_task_free, .permission = fd_permission},
	.lookup = fd_lookup,
	.readdir = fd_readdir};
const struct synth_dir_ops proc_fdinfo_ops = {
	.common = {.free_arg = proc_task_free, .permission = fd_permission},
	.lookup = fdinfo_lookup,
	.readdir = fdinfo_readdir};

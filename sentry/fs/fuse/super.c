/* Mounting: options, and the file system as a whole. */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/fuse/fuse.h"
#include "sentry/fs/fuse/node.h"
#include "sentry/kernel/pid.h"
#include "sentry/lib/cleanup.h"

/* ---- locks of directories ---- */

static struct sleep_lock *lock_of(struct super_block *sb, struct inode *dir)
{
	return dir ? &node_of(dir)->dir_busy : &fs_of(sb)->rename_busy;
}

static int fs_lock(struct super_block *sb, struct inode *dir)
{
	struct sleep_lock *l = lock_of(sb, dir);
	struct task *t = task_current();

	/* A server may give one directory two names. */
	if (dir && t && atomic_load(&node_of(dir)->dir_owner) == t)
		return -EIO;
	int err = t ? task_sleep_lock(t, l) : sleep_lock_try(l) ? 0 : -EIO;
	if (!err && dir)
		atomic_store(&node_of(dir)->dir_owner, t);
	return err;
}

static void fs_unlock(struct super_block *sb, struct inode *dir)
{
	if (dir)
		atomic_store(&node_of(dir)->dir_owner, NULL);
	sleep_lock_release(lock_of(sb, dir));
}

/* ---- the whole ---- */

static int fs_statfs(struct super_block *sb, struct kstatfs *st)
{
	struct fuse_fs *fs = fs_of(sb);
	const struct task *t = task_current();
	struct fuse_statfs_out out;

	if (t && fuse_may_use(fs->fc, t->cred)) {
		st->type = sb->magic;
		return 0;
	}
	struct fuse_req *r = fuse_req_new(fs->fc, FUSE_STATFS, FUSE_ROOT_ID);
	int err = fuse_call(r, &out, sizeof(out));
	if (err)
		return err;
	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = out.st.bsize,
		.frsize = out.st.frsize ? out.st.frsize : out.st.bsize,
		.blocks = out.st.blocks,
		.bfree = out.st.bfree,
		.bavail = out.st.bavail,
		.files = out.st.files,
		.ffree = out.st.ffree,
		.namelen = out.st.namelen,
		.fsid = sb->dev,
	};
	return 0;
}

static void fs_show_options(struct super_block *sb, char *buf, size_t size)
{
	const struct fuse_conn *fc = fs_of(sb)->fc;
	int n = snprintf(buf, size, ",user_id=%u,group_id=%u%s%s", fc->user_id, fc->group_id,
			 fc->default_permissions ? ",default_permissions" : "",
			 fc->allow_other ? ",allow_other" : "");

	if (fc->max_read && n > 0 && (size_t)n < size)
		snprintf(buf + n, size - (size_t)n, ",max_read=%u", fc->max_read);
}

/* Nobody uses it any more: the server is told by the end of the connection. */
static void fs_drop(struct super_block *sb)
{
	struct fuse_conn *fc = fs_of(sb)->fc;

	mutex_lock(&fc->lock, &lc_fuse);
	fc->sb = NULL;
	mutex_unlock(&fc->lock, &lc_fuse);
	fuse_conn_abort(fc);
}

static void fs_free(struct super_block *sb)
{
	struct fuse_fs *fs = fs_of(sb);

	fuse_conn_put(fs->fc);
	free(fs);
}

static const struct super_ops fs_ops = {
	.statfs = fs_statfs,
	.revalidate = fuse_revalidate,
	.show_options = fs_show_options,
	.drop = fs_drop,
	.free = fs_free,
	.lock = fs_lock,
	.unlock = fs_unlock,
};

/* ---- options ---- */

struct options {
	int fd;
	bool has_fd, has_mode, has_user, has_group;
	const char *subtype;
};

static int number(const char *s, int base, unsigned long max, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(s, &end, base);
	return *s < '0' || *s > '9' || *end || errno || *out > max ? -EINVAL : 0;
}

static int take_option(struct fuse_conn *fc, struct options *o, char *key)
{
	char *value = strchr(key, '=');
	unsigned long n;
	int err;

	if (!value) {
		if (!strcmp(key, "default_permissions"))
			fc->default_permissions = true;
		else if (!strcmp(key, "allow_other"))
			fc->allow_other = true;
		else if (*key)
			return -EINVAL;
		return 0;
	}
	*value++ = 0;
	if (!strcmp(key, "subtype")) {
		if (o->subtype)
			return -EINVAL;
		o->subtype = value;
		return 0;
	}
	err = number(value, strcmp(key, "rootmode") ? 10 : 8, UINT32_MAX, &n);
	if (err)
		return err;
	if (!strcmp(key, "fd") && n <= INT32_MAX) {
		o->fd = (int)n;
		o->has_fd = true;
	} else if (!strcmp(key, "rootmode")) {
		fc->rootmode = (uint32_t)n;
		o->has_mode = true;
	} else if (!strcmp(key, "user_id")) {
		fc->user_id = (uint32_t)n;
		o->has_user = true;
	} else if (!strcmp(key, "group_id")) {
		fc->group_id = (uint32_t)n;
		o->has_group = true;
	} else if (!strcmp(key, "max_read")) {
		fc->max_read = (uint32_t)n;
	} else if (strcmp(key, "blksize")) {
		return -EINVAL;
	}
	return 0;
}

static int parse(char *text, struct fuse_conn *fc, struct options *o)
{
	int err = 0;

	for (char *p; text && !err; text = p) {
		p = strchr(text, ',');
		if (p)
			*p++ = 0;
		err = take_option(fc, o, text);
	}
	if (err)
		return err;
	if (!o->has_fd || !o->has_mode || !o->has_user || !o->has_group)
		return -EINVAL;
	if (!S_ISDIR(fc->rootmode) && !S_ISREG(fc->rootmode))
		return -EINVAL;
	return uid_mapped(fc->user_ns, uid_enter(fc->user_ns, fc->user_id)) &&
			       gid_mapped(fc->user_ns, gid_enter(fc->user_ns, fc->group_id))
		       ? 0
		       : -EINVAL;
}

/* ---- mounting ---- */

static int fs_new(struct fuse_conn *fc, const char *subtype, struct fuse_fs **out)
{
	struct fuse_fs *fs = calloc(1, sizeof(*fs));
	struct inode *root;

	if (!fs)
		return -ENOMEM;
	snprintf(fs->fstype, sizeof(fs->fstype), "fuse%s%s", subtype ? "." : "",
		 subtype ? subtype : "");
	super_init(&fs->sb, &fs_ops, fs->fstype, FUSE_SUPER_MAGIC);
	mutex_init(&fs->tree_lock);
	sleep_lock_init(&fs->rename_busy);
	fs->fc = fuse_conn_get(fc);
	int err = fuse_root_new(fs, fc->rootmode, &root);
	if (!err)
		err = super_set_root(&fs->sb, root);
	if (err)
		super_put(&fs->sb);
	else
		*out = fs;
	return err;
}

int fuse_make(const struct fs_params *p, struct super_block **out)
{
	struct task *t = task_current();
	CLEANUP_FREE char *text = strdup(p->options ? p->options : "");
	struct options o = {.subtype = p->subtype};
	struct fuse_fs *fs;

	if (!t)
		return -EINVAL; /* only a process can have the descriptor */
	struct fuse_conn *fc = text ? fuse_conn_new() : NULL;
	if (!fc)
		return -ENOMEM;
	fc->user_ns = user_ns_get(t->cred->user_ns);
	fc->pid_ns = pid_ns_get(task_pid_ns(t));
	CLEANUP_FILE struct file *dev = NULL;
	int err = parse(text, fc, &o);
	if (!err && !(dev = fdtable_file(t->fds, o.fd)))
		err = -EINVAL;
	if (!err)
		err = fs_new(fc, o.subtype, &fs);
	if (!err) {
		fc->sb = &fs->sb;
		if (!(err = fuse_dev_attach(dev, fc)))
			err = fuse_conn_start(fc);
		if (err)
			super_put(&fs->sb);
		else
			*out = &fs->sb;
	}
	fuse_conn_put(fc);
	return err;
}

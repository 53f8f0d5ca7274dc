/* The container's mount namespace: the root, then every mount of the configuration in order. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/boot/internal.h"
#include "sentry/fs/cgroup/cgroupfs.h"
#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/devpts.h"
#include "sentry/fs/erofs/erofs.h"
#include "sentry/fs/fuse/fuse.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/sys/sysfs.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/kernel/pid.h"
#include "sentry/lib/log.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/mount.h"

/* Who can see what is being made: nobody yet, so root's rights are simply those of start-up. */
struct maker {
	const struct boot_config *config;
	struct gofer_conn *gofer;
	struct mnt_ns *ns;
	struct walk_env env;
	struct boot_error *be;
};

static int proc_make(const struct fs_params *p, struct super_block **out)
{
	const struct task *t = task_current();

	(void)p;
	return procfs_mount(t ? task_pid_ns(t) : &pid_ns_top, out);
}

static int sys_make(const struct fs_params *p, struct super_block **out)
{
	(void)p;
	return sysfs_mount(join_sysfs_options(), out);
}

static int cgroup_make(const struct fs_params *p, struct super_block **out)
{
	(void)p;
	return cgroupfs_mount(out);
}

#define MAKE_FROM_OPTIONS(fs, mount)                                              \
	static int fs##_make(const struct fs_params *p, struct super_block **out) \
	{                                                                         \
		return mount(p->options, out);                                    \
	}
MAKE_FROM_OPTIONS(tmpfs, tmpfs_mount)
MAKE_FROM_OPTIONS(ramfs, ramfs_mount)
MAKE_FROM_OPTIONS(devtmpfs, devtmpfs_mount)
MAKE_FROM_OPTIONS(devpts, devpts_mount)
MAKE_FROM_OPTIONS(mqueue, mqueue_mount)

static const struct fs_type types[] = {
	{"tmpfs", "size= nr_blocks= nr_inodes= mode= uid= gid= huge= mpol= inode32 inode64 noswap",
	 tmpfs_make, FS_GUESTS},
	{"ramfs", "mode=", ramfs_make, FS_GUESTS},
	{"proc", "hidepid= gid= subset=", proc_make, FS_GUESTS},
	{"sysfs", "", sys_make, FS_GUESTS},
	{"devtmpfs", "size= nr_inodes= mode=", devtmpfs_make, 0},
	{"devpts", "uid= gid= mode= ptmxmode= max= newinstance", devpts_make, FS_GUESTS},
	{"mqueue", "", mqueue_make, FS_GUESTS | FS_SHARED},
	{"cgroup2", "nsdelegate memory_localevents memory_recursiveprot favordynmods", cgroup_make,
	 FS_GUESTS | FS_SHARED},
	{"erofs", "acl noacl user_xattr nouser_xattr", erofs_make, FS_DEVICES},
	{"fuse", FUSE_KEYS, fuse_make, FS_GUESTS | FS_SUBTYPES},
	/* It acts with root's rights on its layers: not for guests' own roots. */
	{"overlay",
	 "lowerdir= lowerdir+= upperdir= workdir= redirect_dir= index= nfs_export= xino= uuid= "
	 "metacopy= verity= volatile userxattr default_permissions",
	 overlay_make, 0},
	{NULL, NULL, NULL, 0},
};

/* A gofer attach point, under a writable memory layer if asked for. */
static int make_gofer(struct maker *m, int id, bool overlay, bool readonly, bool shared,
		      struct super_block **out)
{
	struct super_block *lower;
	unsigned flags =
		(shared ? GOFERFS_SHARED : 0) | (overlay || readonly ? GOFERFS_READONLY : 0);

	int err = goferfs_mount(m->gofer, (uint32_t)id, flags, &lower);
	if (err || !overlay) {
		*out = lower;
		return err;
	}
	err = overlay_mount_memory(lower, NULL, out);
	super_put(lower);
	return err;
}

int boot_make_parents(const struct walk_env *env, const char *path)
{
	char buf[VFS_PATH_MAX];

	if (strlen(path) >= sizeof(buf))
		return -ENAMETOOLONG;
	strcpy(buf, path);
	for (char *p = buf + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		int err = vfs_mkdir(env, buf, 0755);
		if (err && err != -EEXIST)
			return err;
		*p = '/';
	}
	return 0;
}

int boot_mkdir_all(const struct walk_env *env, const char *path)
{
	int err = boot_make_parents(env, path);

	if (!err)
		err = vfs_mkdir(env, path, 0755);
	return err == -EEXIST ? 0 : err;
}

/* Creates what is missing of a mount point: directories, and at the end a file for a file. */
static int make_target(struct maker *m, const char *target, bool is_dir, struct path *out)
{
	struct file *f;

	int err = path_walk(&m->env, target, 0, out);
	if (err != -ENOENT)
		return err;
	if (is_dir) {
		err = boot_mkdir_all(&m->env, target);
	} else if (!(err = boot_make_parents(&m->env, target))) {
		err = vfs_open(&m->env, target, O_CREAT | O_WRONLY | O_NOFOLLOW, 0644, 0, &f);
		if (!err)
			file_put(f);
	}
	return err ? err : path_walk(&m->env, target, 0, out);
}

/* As mount(2) keeps them: relatime is what is said by saying nothing. */
static unsigned kept_flags(unsigned flags)
{
	unsigned kept = flags & (MOUNT_FLAGS & ~MS_RELATIME);

	return flags & (MS_NOATIME | MS_STRICTATIME) ? kept : kept | MS_RELATIME;
}

/* "shared", "rslave" and the like of config.json.  Private is what all are, or a slave of nobody.
 */
static int set_propagation(struct maker *m, const char *target, unsigned flags)
{
	const struct mount_change c = {.propagation = flags & MOUNT_PROPAGATION,
				       .recursive = flags & MS_REC};
	struct path p;

	if (!(flags & (MS_SHARED | MS_UNBINDABLE)))
		return 0;
	int err = path_walk(&m->env, target, 0, &p);
	if (err)
		return err;
	err = mount_change(m->ns, p, &c);
	path_put(p);
	return err;
}

/* Consumes sb. */
static int attach(struct maker *m, struct super_block *sb, const char *target, unsigned flags,
		  const char *source)
{
	struct path where;

	int err = make_target(m, target, inode_is_dir(sb->root->inode), &where);
	if (!err) {
		struct mount *mnt = mount_new(sb, sb->root, kept_flags(flags), source);
		err = mnt ? mount_attach(mnt, where) : -ENOMEM;
		mount_put(mnt);
		path_put(where);
	}
	if (!err)
		err = set_propagation(m, target, flags);
	super_put(sb);
	return err;
}

static int make_mount(struct maker *m, const struct boot_mount *b)
{
	struct super_block *sb;
	int err;

	if (!strcmp(b->type, "gofer")) {
		err = make_gofer(m, b->gofer_id, b->overlay, b->flags & MS_RDONLY, true, &sb);
		return err ? err : attach(m, sb, b->target, b->flags, b->source);
	}
	/* What is in the configuration says where, not which version. */
	bool cgroup = !strcmp(b->type, "cgroup");
	const struct fs_type *type = vfs_fs_find(cgroup ? "cgroup2" : b->type);
	if (!type) {
		log_debug("%s: file system \"%s\" is not available, not mounted", b->target,
			  b->type);
		return 0;
	}
	err = type->make(&(struct fs_params){b->data, &m->env}, &sb);
	return err ? err : attach(m, sb, b->target, b->flags, b->source);
}

/* Covers a path by an empty read-only directory or by /dev/null's like: an empty file. */
static int mask(struct maker *m, const char *target)
{
	struct super_block *sb;
	struct path where;

	int err = path_walk(&m->env, target, 0, &where);
	if (err)
		return err == -ENOENT || err == -ENOTDIR ? 0 : err;
	bool is_dir = inode_is_dir(where.dentry->inode);
	err = tmpfs_mount("size=4k,mode=0555", &sb);
	struct dentry *root = err ? NULL : dentry_get(sb->root);
	if (!err && !is_dir) {
		struct path top = {NULL, NULL};
		struct mount *tmp = mount_new(sb, sb->root, 0, "tmpfs");
		struct mnt_ns *ns = tmp ? mnt_ns_new(tmp) : NULL;
		err = ns ? 0 : -ENOMEM;
		if (!err) {
			struct file *f;
			top = (struct path){ns->root, ns->root->root};
			const struct walk_env env = {top, top, m->env.cred};
			err = vfs_open(&env, "/file", O_CREAT | O_RDONLY, 0444, 0, &f);
			if (!err) {
				dentry_put(root);
				root = dentry_get(f->path.dentry);
				file_put(f);
			}
			mnt_ns_put(ns);
		}
	}
	if (!err) {
		struct mount *mnt = mount_new(sb, root, MS_RDONLY | MS_RELATIME, "tmpfs");
		err = mnt ? mount_attach(mnt, where) : -ENOMEM;
		mount_put(mnt);
	}
	dentry_put(root);
	if (root)
		super_put(sb);
	path_put(where);
	return err;
}

/* Mounts a path over itself, read-only. */
static int make_readonly(struct maker *m, const char *target)
{
	struct path where;

	int err = path_walk(&m->env, target, 0, &where);
	if (err)
		return err == -ENOENT || err == -ENOTDIR ? 0 : err;
	struct mount *mnt = mount_new(where.mnt->sb, where.dentry, where.mnt->flags | MS_RDONLY,
				      where.mnt->source);
	err = mnt ? mount_attach(mnt, where) : -ENOMEM;
	mount_put(mnt);
	path_put(where);
	return err;
}

struct emptiness {
	struct dir_context ctx;
	bool found;
};

static bool see_entry(struct dir_context *ctx, const char *name, size_t len, int64_t next_off,
		      uint64_t ino, unsigned dtype)
{
	(void)next_off;
	(void)ino;
	(void)dtype;
	if (!(len == 1 && name[0] == '.') && !(len == 2 && name[0] == '.' && name[1] == '.'))
		container_of(ctx, struct emptiness, ctx)->found = true;
	return true;
}

/* An empty or missing /tmp is memory, as the peer has it: faster, and nobody expects it to stay. */
static int make_tmp(struct maker *m)
{
	struct emptiness e = {.ctx = {see_entry}};
	struct super_block *sb;
	struct file *f;
	int64_t off = 0;

	for (size_t i = 0; i < m->config->nmounts; i++)
		if (!strncmp(m->config->mounts[i].target, "/tmp", 4))
			return 0;
	int err = vfs_open(&m->env, "/tmp", O_RDONLY | O_DIRECTORY, 0, 0, &f);
	if (err && err != -ENOENT)
		return 0;
	if (!err) {
		/* Where directories count their own, a look inside is saved: it may be long. */
		e.found = f->inode->nlink > 2 || f->ops->readdir(f, &e.ctx, &off) < 0;
		file_put(f);
	}
	if (e.found)
		return 0;
	err = tmpfs_mount("mode=1777", &sb);
	return err ? err : attach(m, sb, "/tmp", MS_NOSUID | MS_NODEV, "tmpfs");
}

static int make_root(struct maker *m)
{
	const struct boot_config *c = m->config;
	struct super_block *sb;

	int err = make_gofer(m, 0, c->root_overlay, c->root_readonly, false, &sb);
	if (err)
		return boot_fail(m->be, err, "mounting the root: %s", strerror(-err));
	struct mount *mnt = mount_new(sb, sb->root, MS_RELATIME, c->root_source);
	super_put(sb);
	m->ns = mnt ? mnt_ns_new(mnt) : NULL;
	if (!m->ns)
		return boot_fail(m->be, -ENOMEM, "out of memory");
	m->env.root = m->env.start = (struct path){m->ns->root, m->ns->root->root};
	return 0;
}

static int make_all(struct maker *m)
{
	const struct boot_config *c = m->config;
	struct path cwd;
	int err = make_root(m);

	for (size_t i = 0; !err && i < c->nmounts; i++)
		if ((err = make_mount(m, &c->mounts[i])))
			return boot_fail(m->be, err, "mounting %s at %s: %s", c->mounts[i].type,
					 c->mounts[i].target, strerror(-err));
	if (!err && (err = make_tmp(m)))
		return boot_fail(m->be, err, "mounting /tmp: %s", strerror(-err));
	for (char **p = c->masked_paths; !err && p && *p; p++)
		if ((err = mask(m, *p)))
			return boot_fail(m->be, err, "masking %s: %s", *p, strerror(-err));
	for (char **p = c->readonly_paths; !err && p && *p; p++)
		if ((err = make_readonly(m, *p)))
			return boot_fail(m->be, err, "making %s read-only: %s", *p, strerror(-err));
	if (!err)
		err = boot_devices_make(&m->env, c->devices, m->be);
	if (!err)
		err = boot_sysctls_set(&m->env, c->sysctls, m->be);
	/* Last: mount points had to be made in it, and runc makes the working directory. */
	if (!err && path_walk(&m->env, c->process.cwd, 0, &cwd) == 0)
		path_put(cwd);
	else if (!err && boot_mkdir_all(&m->env, c->process.cwd))
		log_debug("%s: cannot make it", c->process.cwd); /* the first process says why */
	if (!err && c->root_readonly)
		m->ns->root->flags |= MS_RDONLY;
	if (!err && (err = set_propagation(m, "/", c->root_propagation)))
		return boot_fail(m->be, err, "rootfsPropagation: %s", strerror(-err));
	return err;
}

int boot_mounts_make(const struct boot_config *c, struct gofer_conn *gofer, struct mnt_ns **out,
		     struct boot_error *be)
{
	struct cred *su = cred_new_root();
	struct maker m = {.config = c, .gofer = gofer, .env = {.cred = su}, .be = be};

	if (!su)
		return boot_fail(be, -ENOMEM, "out of memory");
	vfs_fs_types = types;
	int err = make_all(&m);
	cred_put(su);
	if (err && m.ns)
		mnt_ns_put(m.ns);
	if (!err)
		*out = m.ns;
	return err;
}

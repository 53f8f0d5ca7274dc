/* mount(2), umount2(2), pivot_root(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "sentry/kernel/pid.h"
#include "sentry/vfs/landlock.h"
#include "sentry/vfs/mount.h"
#include "syscalls/file_io.h"
#include "syscalls/mount_util.h"
#include "syscalls/syscalls.h"

#define OPTIONS_MAX 4096
#define LINUX_MS_NOUSER (1UL << 31)

struct mount_strings {
	char source[VFS_PATH_MAX], type[VFS_PATH_MAX], options[OPTIONS_MAX];
};

static int string_in(struct task *t, char *to, uaddr_t from, size_t size)
{
	*to = 0;
	if (!from.v)
		return 0;
	ssize_t n = copy_in_str(&t->um, to, from, size);
	return n == -ENAMETOOLONG ? -EINVAL : n < 0 ? (int)n : 0;
}

/* The flags of a mount as they are kept: relatime is what is said by saying nothing. */
static unsigned kept_flags(uint64_t flags)
{
	unsigned kept = flags & (MOUNT_FLAGS & ~MS_RELATIME);

	return flags & (MS_NOATIME | MS_STRICTATIME) ? kept : kept | MS_RELATIME;
}

static int bind_or_move(struct task *t, const char *source, struct path where, uint64_t flags)
{
	struct mnt_ns *ns = t->fs->mnt_ns;
	struct walk_env env;
	struct path from;

	if (!*source)
		return -EINVAL;
	int err = task_walk_env(t, AT_FDCWD, source, &env);
	if (err)
		return err;
	err = path_walk(&env, source, 0, &from);
	walk_env_fini(&env);
	if (err)
		return err;
	err = flags & MS_BIND ? mount_bind(ns, from, where, flags & MS_REC)
			      : mount_move(ns, from, where, NULL);
	path_put(from);
	return err;
}

static int change_propagation(struct task *t, uint64_t flags, struct path where)
{
	uint64_t type = flags & ~(uint64_t)(MS_REC | MS_SILENT);

	if (type & ~(uint64_t)MOUNT_PROPAGATION || type & (type - 1))
		return -EINVAL;
	const struct mount_change c = {.propagation = (unsigned)type, .recursive = flags & MS_REC};
	return mount_change(t->fs->mnt_ns, where, &c);
}

/* Access times go on as they were unless something is said about them. */
static int remount(struct task *t, const struct mount_strings *s, struct path where, uint64_t flags)
{
	const uint64_t atime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
	unsigned mask = flags & atime ? MOUNT_FLAGS : MOUNT_FLAGS & ~(unsigned)atime;
	int err = 0;

	if (!(flags & MS_BIND))
		err = mount_reconfigure(t->fs->mnt_ns, where, s->options, flags & MS_RDONLY,
					t->cred);
	const struct mount_change c = {.clear = mask, .set = kept_flags(flags) & mask};
	return err ? err : mount_change(t->fs->mnt_ns, where, &c);
}

bool may_mount(const struct task *t)
{
	return task_ns_capable(t, t->fs->mnt_ns->ns.owner, CAP_SYS_ADMIN);
}

/* Whose a new file system is: what shows a namespace belongs to that one's owner. */
static struct user_ns *fs_owner(const struct task *t, const char *type)
{
	if (!strcmp(type, "proc"))
		return task_pid_ns(t)->ns.owner;
	if (!strcmp(type, "sysfs"))
		return t->ns->of[NS_NET]->owner;
	if (!strcmp(type, "mqueue"))
		return t->ns->of[NS_IPC]->owner;
	return t->cred->user_ns;
}

int task_make_fs(struct task *t, const struct fs_type *type, const struct fs_params *p,
		 struct super_block **out)
{
	struct walk_env env;
	int err = task_walk_env(t, AT_FDCWD, "", &env);

	if (err)
		return err;
	struct fs_params mine = *p;
	mine.env = &env;
	err = vfs_fs_make_for(type, &mine, fs_owner(t, type->name), out);
	walk_env_fini(&env);
	return err;
}

static int mount_new_fs(struct task *t, const struct mount_strings *s, struct path where,
			uint64_t flags)
{
	struct super_block *sb;

	if (!*s->type)
		return -EINVAL;
	const struct fs_type *type = vfs_fs_find(s->type);
	if (!type)
		return -ENODEV;
	const char *dot = strchr(s->type, '.');
	const struct fs_params p = {
		.options = s->options, .source = s->source, .subtype = dot ? dot + 1 : NULL};
	int err = task_make_fs(t, type, &p, &sb);
	if (err)
		return err;
	sb->readonly |= (flags & MS_RDONLY) != 0;
	err = mount_create(t->fs->mnt_ns, sb, where, kept_flags(flags),
			   *s->source ? s->source : "none");
	super_put(sb);
	return err;
}

static int do_mount(struct task *t, const struct mount_strings *s, struct path where,
		    uint64_t flags)
{
	if (!may_mount(t) || landlock_may_mount(t->cred))
		return -EPERM;
	if (flags & LINUX_MS_NOUSER)
		return -EINVAL;
	if (flags & MS_REMOUNT)
		return remount(t, s, where, flags);
	if (flags & MS_BIND)
		return bind_or_move(t, s->source, where, flags);
	if (flags & MOUNT_PROPAGATION)
		return change_propagation(t, flags, where);
	if (flags & MS_MOVE)
		return bind_or_move(t, s->source, where, flags);
	return mount_new_fs(t, s, where, flags);
}

long sys_mount(struct task *t, uaddr_t source, uaddr_t target, uaddr_t type, uint64_t flags,
	       uaddr_t data)
{
	CLEANUP_FREE struct mount_strings *s = malloc(sizeof(*s));
	struct path where;
	int err;

	if (!s)
		return -ENOMEM;
	if ((flags & MS_MGC_MSK) == MS_MGC_VAL)
		flags &= ~(uint64_t)MS_MGC_MSK;
	if ((err = string_in(t, s->type, type, sizeof(s->type))) ||
	    (err = string_in(t, s->source, source, sizeof(s->source))) ||
	    (err = string_in(t, s->options, data, sizeof(s->options))) ||
	    (err = path_at(t, AT_FDCWD, target, 0, &where)))
		return err;
	/* What is mounted anew goes on top of what is there, "." or not. */
	if (!(flags & (MS_REMOUNT | MOUNT_PROPAGATION)) ||
	    (flags & (MS_REMOUNT | MS_BIND)) == MS_BIND)
		err = path_cross_mounts(&where, 0);
	if (!err)
		err = do_mount(t, s, where, flags);
	path_put(where);
	return err;
}

static int umount_found(struct task *t, struct path p, int flags)
{
	if (flags & MNT_EXPIRE) {
		mutex_lock(&t->fs->lock, &lc_fs);
		bool root = p.mnt == t->fs->root.mnt;
		mutex_unlock(&t->fs->lock, &lc_fs);
		if (root || flags & (MNT_FORCE | MNT_DETACH))
			return -EINVAL;
	}
	return mount_umount(t->fs->mnt_ns, p, flags);
}

long sys_umount2(struct task *t, uaddr_t target, int flags)
{
	struct path p;

	if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW))
		return -EINVAL;
	int err = path_at(t, AT_FDCWD, target, flags & UMOUNT_NOFOLLOW ? WALK_NOFOLLOW : 0, &p);
	if (err)
		return err;
	if (!may_mount(t) || landlock_may_mount(t->cred))
		err = -EPERM;
	else if (!(err = path_cross_mounts(&p, 0)))
		err = umount_found(t, p, flags);
	path_put_unused(p);
	return err;
}

static bool is_at(struct path p, struct path from)
{
	return p.mnt == from.mnt && p.dentry == from.dentry;
}

static void move_context(struct fs_context *fs, struct path from, struct path to)
{
	int moved = 0;

	mutex_lock(&fs->lock, &lc_fs);
	if (is_at(fs->root, from)) {
		fs->root = path_get(to);
		moved++;
	}
	if (is_at(fs->cwd, from)) {
		fs->cwd = path_get(to);
		moved++;
	}
	mutex_unlock(&fs->lock, &lc_fs);
	while (moved--)
		path_put(from);
}

/* Who stands at `from` goes to `to`.  `all` has room for `max` contexts. */
static void move_all_contexts(struct path from, struct path to, struct fs_context **all, size_t max)
{
	struct thread_group *tg;
	struct task *o;
	size_t n = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	list_for_each (tg, &kernel->groups, link)
		list_for_each (o, &tg->threads, thread_link)
			if (o->fs && n < max)
				all[n++] = fs_context_get(o->fs);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	for (size_t i = 0; i < n; i++) {
		move_context(all[i], from, to);
		fs_context_put(all[i]);
	}
}

long sys_pivot_root(struct task *t, uaddr_t new_root, uaddr_t put_old)
{
	CLEANUP_PATH struct path new = {NULL, NULL}, old = {NULL, NULL}, root = {NULL, NULL};
	int err;

	if (!may_mount(t))
		return -EPERM;
	if ((err = path_at(t, AT_FDCWD, new_root, WALK_DIRECTORY, &new)) ||
	    (err = path_at(t, AT_FDCWD, put_old, WALK_DIRECTORY, &old)) ||
	    (err = path_cross_mounts(&old, 0)) || (err = landlock_may_mount(t->cred)))
		return err;
	/* Memory first: nothing may fail once the roots have changed. */
	size_t max = (size_t)atomic_load(&kernel->ntasks) + 64;
	CLEANUP_FREE struct fs_context **all = calloc(max, sizeof(struct fs_context *));
	if (!all)
		return -ENOMEM;
	mutex_lock(&t->fs->lock, &lc_fs);
	root = path_get(t->fs->root);
	mutex_unlock(&t->fs->lock, &lc_fs);
	if (!(err = mount_pivot(t->fs->mnt_ns, root, new, old)))
		move_all_contexts(root, new, all, max);
	return err;
}

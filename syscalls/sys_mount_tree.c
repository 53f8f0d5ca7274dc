/* open_tree(2), move_mount(2), mount_setattr(2): mounts by descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>

#include "sentry/vfs/mount.h"
#include "sentry/vfs/landlock.h"
#include "syscalls/file_io.h"
#include "syscalls/mount_util.h"
#include "syscalls/syscalls.h"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MOVE_MOUNT_SET_GROUP
#define MOVE_MOUNT_SET_GROUP 0x100
#endif
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x200
#endif
#define MOVE_FLAGS                                                                   \
	(MOVE_MOUNT_F_SYMLINKS | MOVE_MOUNT_F_AUTOMOUNTS | MOVE_MOUNT_F_EMPTY_PATH | \
	 MOVE_MOUNT_T_SYMLINKS | MOVE_MOUNT_T_AUTOMOUNTS | MOVE_MOUNT_T_EMPTY_PATH | \
	 MOVE_MOUNT_SET_GROUP | MOVE_MOUNT_BENEATH)

_Static_assert(sizeof(struct mount_attr) == MOUNT_ATTR_SIZE_VER0, "its first version");

long sys_open_tree(struct task *t, int dirfd, uaddr_t name, unsigned flags)
{
	const unsigned known = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH |
			       AT_NO_AUTOMOUNT | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW;
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct file *f;

	if (flags & ~known || (flags & (AT_RECURSIVE | OPEN_TREE_CLONE)) == AT_RECURSIVE)
		return -EINVAL;
	if (flags & OPEN_TREE_CLONE && !may_mount(t))
		return -EPERM;
	int err = path_at(t, dirfd, name, walk_flags_from_at((int)flags), &p);
	if (err)
		return err;
	if (flags & OPEN_TREE_CLONE)
		err = mount_tree_clone(t->fs->mnt_ns, p, flags & AT_RECURSIVE, &f);
	else
		err = file_open_path(p, O_PATH, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & OPEN_TREE_CLOEXEC);
}

static unsigned walk_flags_of_move(unsigned follow, unsigned empty)
{
	return (follow ? 0 : WALK_NOFOLLOW) | (empty ? WALK_EMPTY : 0);
}

long sys_move_mount(struct task *t, int from_fd, uaddr_t from_name, int to_fd, uaddr_t to_name,
		    unsigned flags)
{
	CLEANUP_PATH struct path from = {NULL, NULL}, to = {NULL, NULL}, root = {NULL, NULL};
	struct mnt_ns *ns = t->fs->mnt_ns;
	int err;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~MOVE_FLAGS || (flags & MOVE_MOUNT_SET_GROUP && flags & MOVE_MOUNT_BENEATH))
		return -EINVAL;
	unsigned from_walk =
		walk_flags_of_move(flags & MOVE_MOUNT_F_SYMLINKS, flags & MOVE_MOUNT_F_EMPTY_PATH);
	unsigned to_walk =
		walk_flags_of_move(flags & MOVE_MOUNT_T_SYMLINKS, flags & MOVE_MOUNT_T_EMPTY_PATH);
	if ((err = path_at(t, to_fd, to_name, to_walk, &to)) ||
	    (err = path_at(t, from_fd, from_name, from_walk, &from)) ||
	    (err = landlock_may_mount(t->cred)))
		return err;
	if (flags & MOVE_MOUNT_SET_GROUP)
		return mount_share_group(ns, from, to);
	mutex_lock(&t->fs->lock, &lc_fs);
	root = path_get(t->fs->root);
	mutex_unlock(&t->fs->lock, &lc_fs);
	return mount_move(ns, from, to, flags & MOVE_MOUNT_BENEATH ? &root : NULL);
}

unsigned mount_flags_from_attr(uint64_t attr)
{
	static const struct {
		uint64_t attr;
		unsigned flag;
	} same[] = {
		{MOUNT_ATTR_RDONLY, MS_RDONLY},
		{MOUNT_ATTR_NOSUID, MS_NOSUID},
		{MOUNT_ATTR_NODEV, MS_NODEV},
		{MOUNT_ATTR_NOEXEC, MS_NOEXEC},
		{MOUNT_ATTR_NOATIME, MS_NOATIME},
		{MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
		{MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW},
	};
	unsigned flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if (attr & same[i].attr)
			flags |= same[i].flag;
	return flags;
}

/* The way that access times are kept is one value of several, not bits. */
static int atime_change(const struct mount_attr *a, struct mount_change *c)
{
	if (!(a->attr_clr & MOUNT_ATTR__ATIME))
		return a->attr_set & MOUNT_ATTR__ATIME ? -EINVAL : 0;
	if ((a->attr_clr & MOUNT_ATTR__ATIME) != MOUNT_ATTR__ATIME)
		return -EINVAL;
	c->clear |= MS_NOATIME | MS_RELATIME;
	return mount_atime_flags(a->attr_set, &c->set);
}

int mount_atime_flags(uint64_t attr, unsigned *flags)
{
	switch (attr & MOUNT_ATTR__ATIME) {
	case MOUNT_ATTR_RELATIME:
		*flags |= MS_RELATIME;
		return 0;
	case MOUNT_ATTR_NOATIME:
	case MOUNT_ATTR_STRICTATIME:
		return 0;
	}
	return -EINVAL;
}

static int change_of(const struct mount_attr *a, struct mount_change *c)
{
	/* No file system of ours has mapped ids on a mount. */
	if (a->propagation & ~(uint64_t)MOUNT_PROPAGATION ||
	    a->propagation & (a->propagation - 1) ||
	    (a->attr_set | a->attr_clr) & ~(uint64_t)MOUNT_ATTRS)
		return -EINVAL;
	c->propagation = (unsigned)a->propagation;
	c->set = mount_flags_from_attr(a->attr_set);
	c->clear = mount_flags_from_attr(a->attr_clr & ~(uint64_t)MOUNT_ATTR__ATIME);
	return atime_change(a, c);
}

long sys_mount_setattr(struct task *t, int dirfd, uaddr_t name, unsigned flags, uaddr_t uattr,
		       uint64_t size)
{
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct mount_change c = {.recursive = flags & AT_RECURSIVE};
	struct mount_attr a;

	if (flags &
	    ~(unsigned)(AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	if (size < MOUNT_ATTR_SIZE_VER0)
		return -EINVAL;
	if (!may_mount(t))
		return -EPERM;
	int err = copy_in_extensible(t, &a, sizeof(a), uattr, size);
	if (err || !(a.attr_set | a.attr_clr | a.propagation))
		return err;
	if ((err = change_of(&a, &c)) ||
	    (err = path_at(t, dirfd, name, walk_flags_from_at((int)flags), &p)))
		return err;
	return mount_change(t->fs->mnt_ns, p, &c);
}

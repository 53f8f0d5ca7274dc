/* mount_util.h - what the handlers of mounts have in common. */
#pragma once

#include <stdint.h>
#include <sys/mount.h>

#include "sentry/kernel/task.h"
#include "sentry/lib/compiler.h"

/* What can be set and cleared; mapped ids cannot. */
#define MOUNT_ATTRS                                                                     \
	(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | \
	 MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW)

/* All but relatime, which is what is left when nothing else is said. */
unsigned mount_flags_from_attr(uint64_t attr);
/* Adds what MOUNT_ATTR__ATIME's bits say.  -EINVAL */
int mount_atime_flags(uint64_t attr, unsigned *flags) MUST_CHECK;

/* May the task change its mount namespace? */
bool may_mount(const struct task *t);
/* A new file system, of the task's user namespace.  EPERM, and the type's errors */
int task_make_fs(struct task *t, const struct fs_type *type, const struct fs_params *p,
		 struct super_block **out) MUST_CHECK;

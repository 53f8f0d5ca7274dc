/*
 * landlock.h - what a task that has sandboxed itself may do with paths: landlock(7).
 *
 * A rule allows something for a file, or for what is at and below a directory; it is looked for on
 * the way from the path up to the root, mounts crossed.  Rules hold the dentry that they were made
 * from, so that the inode that is their key stays the one that look-ups find.  A file keeps what
 * its opener might not do with it (struct file: landlock_denied), whoever gets the descriptor.
 *
 * All of these return 0 or -EACCES, unless said otherwise, and at once without a domain.
 */
#pragma once

#include "sentry/auth/landlock.h"
#include "sentry/vfs/vfs.h"

struct file;

extern const struct landlock_objects landlock_path_objects;
/* A rule for what p leads to.  -EINVAL: the rights are not those of such a file; -EBADFD: no rule
 * can be made for it; -ENOMEM, -E2BIG. */
int landlock_rule_add_path(struct landlock_ruleset *rs, struct path p, uint32_t access) MUST_CHECK;

/* Opening, with these flags of open(2) (exec: to execute it).  *denied: for the file. */
int landlock_may_open(struct path p, int flags, bool exec, const struct cred *c,
		      uint16_t *denied) MUST_CHECK;
/* Making a file of that type in a directory. */
int landlock_may_make(struct path dir, uint32_t type, const struct cred *c) MUST_CHECK;
int landlock_may_remove(struct path dir, bool rmdir, const struct cred *c) MUST_CHECK;
int landlock_may_truncate(struct path p, const struct cred *c) MUST_CHECK;
/* link(2) of `old` into dir.  -EXDEV: what may be done with it would become more. */
int landlock_may_link(struct path old, struct path dir, const struct cred *c) MUST_CHECK;
/* rename(2), of directories on one mount; newd may be negative, unless they are exchanged. */
int landlock_may_rename(struct path olddir, struct dentry *oldd, struct path newdir,
			struct dentry *newd, bool exchange, const struct cred *c) MUST_CHECK;
/* An ioctl(2) that the file's kind defines. */
int landlock_may_ioctl(const struct file *f, unsigned cmd) MUST_CHECK;
/* Any change of the mount tree.  -EPERM */
int landlock_may_mount(const struct cred *c) MUST_CHECK;

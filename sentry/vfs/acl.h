/*
 * acl.h - POSIX access control lists: acl(5).
 *
 * A file system that keeps the attributes "system.posix_acl_access" and "…_default" keeps lists:
 * when it stores or loses one of them it calls inode_acl_changed(), which remembers the parsed form
 * with the inode, where permission checks find it.  What an attribute may hold, and that it and
 * the mode bits agree, is seen to by the vfs (vfs_xattr.c, vfs_attr.c, vfs_create.c).
 *
 * The form of the attributes is linux/posix_acl_xattr.h's.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sentry/auth/cred.h"
#include "sentry/lib/compiler.h"
#include "sentry/lib/ref.h"

struct inode;

enum acl_type { ACL_ACCESS, ACL_DEFAULT, ACL_TYPES };
#define ACL_XATTR_ACCESS "system.posix_acl_access"
#define ACL_XATTR_DEFAULT "system.posix_acl_default"

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

struct acl { /* immutable once an inode has it */
	ref_t ref;
	size_t n;
	struct acl_entry e[];
};

/* -1: not the name of a list. */
int acl_type_of(const char *xattr_name);
/* The inode's list, with a reference, or NULL. */
struct acl *inode_acl_get(struct inode *in, enum acl_type type);
void acl_put(struct acl *a);
/* For file systems: the attribute has this value now; NULL: it is gone.  A value that cannot be
 * parsed counts as none.  Takes lc_inode. */
void inode_acl_changed(struct inode *in, const char *name, const void *value, size_t n);
/* For stacked ones: `to` has the lists of `from`. */
void inode_acl_copy(struct inode *to, struct inode *from);
/* Last reference to the inode. */
void inode_acl_fini(struct inode *in);

/* ---- for the vfs ---- */
/* The ids of an attribute's value, which is the guest's, into inner ones: -EINVAL when one has no
 * mapping.  What is no list is left to acl_parse. */
int acl_ids_enter(void *value, size_t n, const struct user_ns *u) MUST_CHECK;
void acl_ids_leave(void *value, size_t n, const struct user_ns *u);
/* 0; *out NULL for an empty list.  -EINVAL, -EOPNOTSUPP (version), -ENOMEM. */
int acl_parse(const void *value, size_t n, struct acl **out) MUST_CHECK;
/* Puts the list, or its absence, into the file system: setxattr or removexattr. */
int acl_store(struct inode *in, enum acl_type type, const struct acl *a) MUST_CHECK;
/* 0, -EACCES: what the list says about mask; by the owner's bits for the owner. */
int acl_permission(const struct acl *a, const struct inode *in, int mask, const struct cred *c);
/* The permission bits that an access list stands for; *plain: it says no more than they do. */
uint32_t acl_mode(const struct acl *a, bool *plain);
/* A copy that says `mode` (chmod).  NULL: no memory. */
struct acl *acl_with_mode(const struct acl *a, uint32_t mode);
/*
 * The access list of a new file in a directory with the default list a: *mode becomes the part of
 * it that is granted.  *out NULL: the mode says it all.  -ENOMEM.
 */
int acl_for_new(const struct acl *a, uint32_t *mode, struct acl **out) MUST_CHECK;

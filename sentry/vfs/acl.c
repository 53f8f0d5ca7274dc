#include "sentry/vfs/acl.h"

#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/vfs/internal.h"

#define ENTRIES_MAX ((65536 - sizeof(struct posix_acl_xattr_header)) / 8)
_Static_assert(sizeof(struct posix_acl_xattr_entry) == sizeof(struct acl_entry), "one form");

static const char *const xattr_names[ACL_TYPES] = {ACL_XATTR_ACCESS, ACL_XATTR_DEFAULT};

int acl_type_of(const char *name)
{
	for (int i = 0; i < ACL_TYPES; i++)
		if (!strcmp(name, xattr_names[i]))
			return i;
	return -1;
}

void acl_put(struct acl *a)
{
	if (a && ref_put(&a->ref))
		free(a);
}

static struct acl *acl_new(const struct acl_entry *e, size_t n)
{
	struct acl *a = malloc(sizeof(*a) + n * sizeof(*e));

	if (!a)
		return NULL;
	ref_init(&a->ref, 1);
	a->n = n;
	memcpy(a->e, e, n * sizeof(*e));
	return a;
}

/* ---- with the inode ---- */

struct acl *inode_acl_get(struct inode *in, enum acl_type type)
{
	if (!__atomic_load_n(&in->acl[type], __ATOMIC_RELAXED))
		return NULL;
	mutex_lock(&in->lock, &lc_inode);
	struct acl *a = in->acl[type];
	if (a)
		ref_get(&a->ref);
	mutex_unlock(&in->lock, &lc_inode);
	return a;
}

/* Consumes the reference. */
static void inode_acl_set(struct inode *in, enum acl_type type, struct acl *a)
{
	mutex_lock(&in->lock, &lc_inode);
	struct acl *old = in->acl[type];
	__atomic_store_n(&in->acl[type], a, __ATOMIC_RELAXED);
	mutex_unlock(&in->lock, &lc_inode);
	acl_put(old);
}

void inode_acl_changed(struct inode *in, const char *name, const void *value, size_t n)
{
	int type = acl_type_of(name);
	struct acl *a = NULL;

	if (type < 0)
		return;
	if (value && acl_parse(value, n, &a))
		a = NULL;
	inode_acl_set(in, (enum acl_type)type, a);
}

void inode_acl_copy(struct inode *to, struct inode *from)
{
	for (int i = 0; i < ACL_TYPES; i++) {
		struct acl *a = inode_acl_get(from, (enum acl_type)i);
		if (a || __atomic_load_n(&to->acl[i], __ATOMIC_RELAXED))
			inode_acl_set(to, (enum acl_type)i, a);
	}
}

void inode_acl_fini(struct inode *in)
{
	for (int i = 0; i < ACL_TYPES; i++)
		acl_put(in->acl[i]);
}

/* ---- the attribute ---- */

/* Its entries; *count: how many there are. */
static struct acl_entry *entries_of(void *value, size_t n, size_t *count)
{
	const size_t header = sizeof(struct posix_acl_xattr_header);

	*count = n < header ? 0 : (n - header) / sizeof(struct acl_entry);
	return (struct acl_entry *)((char *)value + header);
}

int acl_ids_enter(void *value, size_t n, const struct user_ns *u)
{
	size_t count;
	struct acl_entry *e = entries_of(value, n, &count);

	for (size_t i = 0; i < count; i++) {
		if (e[i].tag != ACL_USER && e[i].tag != ACL_GROUP)
			continue;
		e[i].id = e[i].tag == ACL_USER ? uid_enter(u, e[i].id) : gid_enter(u, e[i].id);
		if (e[i].id == ID_NONE)
			return -EINVAL;
	}
	return 0;
}

void acl_ids_leave(void *value, size_t n, const struct user_ns *u)
{
	size_t count;
	struct acl_entry *e = entries_of(value, n, &count);

	for (size_t i = 0; i < count; i++)
		if (e[i].tag == ACL_USER || e[i].tag == ACL_GROUP)
			e[i].id = id_leave(u, e[i].tag == ACL_USER ? ID_UID : ID_GID, e[i].id);
}

/* acl(5), "Valid ACLs": one of each kind, in this order, named ones between, and a mask if there
 * are named ones. */
static bool acl_valid(const struct acl *a)
{
	static const uint16_t order[] = {ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ,
					 ACL_GROUP,    ACL_MASK, ACL_OTHER};
	size_t count[ARRAY_SIZE(order)] = {0}, at = 0;

	for (size_t i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->e[i];
		while (at < ARRAY_SIZE(order) && order[at] != e->tag)
			at++;
		if (at == ARRAY_SIZE(order) || e->perm & ~7)
			return false;
		bool named = e->tag == ACL_USER || e->tag == ACL_GROUP;
		if (named ? e->id == (uint32_t)ACL_UNDEFINED_ID : count[at] > 0)
			return false;
		count[at]++;
	}
	return count[0] && count[2] && count[5] && (count[4] || (!count[1] && !count[3]));
}

int acl_parse(const void *value, size_t n, struct acl **out)
{
	struct posix_acl_xattr_header h;

	*out = NULL;
	if (n == 0)
		return 0;
	if (n < sizeof(h))
		return -EINVAL;
	memcpy(&h, value, sizeof(h));
	if (h.a_version != POSIX_ACL_XATTR_VERSION)
		return -EOPNOTSUPP;
	size_t bytes = n - sizeof(h);
	if (bytes % sizeof(struct acl_entry) || bytes / sizeof(struct acl_entry) > ENTRIES_MAX)
		return -EINVAL;
	if (!bytes)
		return 0;
	struct acl *a = acl_new((const void *)((const char *)value + sizeof(h)),
				bytes / sizeof(struct acl_entry));
	if (!a)
		return -ENOMEM;
	if (!acl_valid(a)) {
		acl_put(a);
		return -EINVAL;
	}
	*out = a;
	return 0;
}

int acl_store(struct inode *in, enum acl_type type, const struct acl *a)
{
	if (!a) {
		int err = in->ops->removexattr ? in->ops->removexattr(in, xattr_names[type])
					       : -EOPNOTSUPP;
		return err == -ENODATA ? 0 : err;
	}
	if (!in->ops->setxattr)
		return -EOPNOTSUPP;
	const struct posix_acl_xattr_header h = {POSIX_ACL_XATTR_VERSION};
	size_t n = sizeof(h) + a->n * sizeof(a->e[0]);
	char *value = malloc(n);
	if (!value)
		return -ENOMEM;
	memcpy(value, &h, sizeof(h));
	memcpy(value + sizeof(h), a->e, a->n * sizeof(a->e[0]));
	int err = in->ops->setxattr(in, xattr_names[type], value, n, 0);
	free(value);
	return err;
}

/* ---- what it means ---- */

static const struct acl_entry *find(const struct acl *a, uint16_t tag)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->e[i].tag == tag)
			return &a->e[i];
	return NULL;
}

static int judge(const struct acl *a, const struct acl_entry *e, int mask)
{
	const struct acl_entry *m =
		e->tag == ACL_OTHER || e->tag == ACL_USER_OBJ ? NULL : find(a, ACL_MASK);
	int granted = e->perm & (m ? m->perm : 7);

	return mask & ~granted ? -EACCES : 0;
}

/* acl(5), "Access check algorithm". */
int acl_permission(const struct acl *a, const struct inode *in, int mask, const struct cred *c)
{
	bool in_some_group = false;

	for (size_t i = 0; i < a->n; i++) {
		const struct acl_entry *e = &a->e[i];
		switch (e->tag) {
		case ACL_USER_OBJ:
			if (in->uid == c->fsuid)
				return judge(a, e, mask);
			break;
		case ACL_USER:
			if (e->id == c->fsuid)
				return judge(a, e, mask);
			break;
		case ACL_GROUP_OBJ:
		case ACL_GROUP:
			if (!cred_in_group(c, e->tag == ACL_GROUP ? e->id : in->gid))
				break;
			in_some_group = true;
			if (!(mask & ~e->perm))
				return judge(a, e, mask);
			break;
		case ACL_OTHER:
			return in_some_group ? -EACCES : judge(a, e, mask);
		}
	}
	return -EACCES;
}

uint32_t acl_mode(const struct acl *a, bool *plain)
{
	const struct acl_entry *group = find(a, ACL_MASK);

	*plain = a->n == 3;
	if (!group)
		group = find(a, ACL_GROUP_OBJ);
	return (uint32_t)find(a, ACL_USER_OBJ)->perm << 6 | (uint32_t)group->perm << 3 |
	       find(a, ACL_OTHER)->perm;
}

/* Sets, or with `cut` takes away from, the three classes. */
static struct acl *change_classes(const struct acl *old, uint32_t mode, bool cut)
{
	struct acl *a = acl_new(old->e, old->n);

	if (!a)
		return NULL;
	bool masked = find(a, ACL_MASK);
	for (size_t i = 0; i < a->n; i++) {
		struct acl_entry *e = &a->e[i];
		uint32_t bits;
		if (e->tag == ACL_USER_OBJ)
			bits = mode >> 6;
		else if (e->tag == ACL_MASK || (e->tag == ACL_GROUP_OBJ && !masked))
			bits = mode >> 3;
		else if (e->tag == ACL_OTHER)
			bits = mode;
		else
			continue;
		e->perm = (uint16_t)(bits & 7 & (cut ? e->perm : 7u));
	}
	return a;
}

struct acl *acl_with_mode(const struct acl *a, uint32_t mode)
{
	return change_classes(a, mode, false);
}

int acl_for_new(const struct acl *dflt, uint32_t *mode, struct acl **out)
{
	struct acl *a = change_classes(dflt, *mode, true);
	bool plain;

	*out = NULL;
	if (!a)
		return -ENOMEM;
	*mode = (*mode & ~0777u) | acl_mode(a, &plain);
	if (plain)
		acl_put(a);
	else
		*out = a;
	return 0;
}

#include "sentry/auth/cred.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdlib.h>
#include <string.h>

/* The capabilities that follow the file-system user id. */
#define CAP_FS_SET                                                                       \
	(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_DAC_READ_SEARCH) | \
	 CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_FSETID) | CAP_BIT(CAP_LINUX_IMMUTABLE) |      \
	 CAP_BIT(CAP_MKNOD) | CAP_BIT(CAP_MAC_OVERRIDE))

struct cred *cred_new_root(void)
{
	struct cred *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	ref_init(&c->ref, 1);
	c->user_ns = user_ns_get(&user_ns_top);
	c->cap_permitted = c->cap_effective = c->cap_bounding = CAP_FULL;
	return c;
}

struct cred *cred_dup(const struct cred *c)
{
	struct cred *n = malloc(sizeof(*n));
	if (!n)
		return NULL;
	*n = *c;
	ref_init(&n->ref, 1);
	n->groups = NULL;
	n->ngroups = 0;
	if (cred_set_groups(n, c->groups, c->ngroups)) {
		free(n);
		return NULL;
	}
	user_ns_get(n->user_ns);
	landlock_domain_get(n->landlock);
	return n;
}

struct cred *cred_get(struct cred *c)
{
	ref_get(&c->ref);
	return c;
}

void cred_put(struct cred *c)
{
	if (!c || !ref_put(&c->ref))
		return;
	landlock_domain_put(c->landlock);
	user_ns_put(c->user_ns);
	free(c->groups);
	free(c);
}

static int compare_gid(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int cred_set_groups(struct cred *c, const uint32_t *groups, size_t n)
{
	uint32_t *copy = NULL;

	if (n) {
		copy = malloc(n * sizeof(*copy));
		if (!copy)
			return -ENOMEM;
		memcpy(copy, groups, n * sizeof(*copy));
		qsort(copy, n, sizeof(*copy), compare_gid);
	}
	free(c->groups);
	c->groups = copy;
	c->ngroups = n;
	return 0;
}

static bool in_supplementary(const struct cred *c, uint32_t gid)
{
	return c->ngroups && bsearch(&gid, c->groups, c->ngroups, sizeof(gid), compare_gid);
}

bool cred_in_group(const struct cred *c, uint32_t gid)
{
	return c->fsgid == gid || in_supplementary(c, gid);
}

bool cred_in_egroup(const struct cred *c, uint32_t gid)
{
	return c->egid == gid || in_supplementary(c, gid);
}

bool cred_ns_capable(const struct cred *c, const struct user_ns *u, int cap)
{
	for (; u->level > c->user_ns->level; u = u->ns.owner)
		if (u->ns.owner == c->user_ns && u->uid == c->euid)
			return true;
	return u == c->user_ns && c->cap_effective & CAP_BIT(cap);
}

bool cred_capable_over(const struct cred *c, uint32_t uid, uint32_t gid, int cap)
{
	return c->cap_effective & CAP_BIT(cap) && uid_mapped(c->user_ns, uid) &&
	       gid_mapped(c->user_ns, gid);
}

void cred_enter_user_ns(struct cred *c, struct user_ns *u)
{
	struct user_ns *old = c->user_ns;

	c->user_ns = user_ns_get(u);
	c->securebits = 0;
	c->cap_inheritable = c->cap_ambient = 0;
	c->cap_permitted = c->cap_effective = c->cap_bounding = CAP_FULL;
	user_ns_put(old);
}

bool cred_covers(const struct cred *c, const struct cred *other)
{
	if (c->user_ns == other->user_ns)
		return !(other->cap_permitted & ~c->cap_permitted);
	for (const struct user_ns *u = other->user_ns; u->ns.owner; u = u->ns.owner)
		if (u->ns.owner == c->user_ns && u->uid == c->euid)
			return true;
	return false;
}

/* ---- changes ---- */

/* Who is root to these credentials; ID_NONE: nobody. */
static uint32_t root_of(const struct cred *c)
{
	return uid_enter(c->user_ns, 0);
}

static bool any_uid_root(const struct cred *c)
{
	uint32_t root = root_of(c);

	return c->uid == root || c->euid == root || c->suid == root;
}

void cred_fix_caps_after_setuid(struct cred *new, const struct cred *old)
{
	if (new->securebits & SECBIT_NO_SETUID_FIXUP)
		return;
	if (any_uid_root(old) && !any_uid_root(new)) {
		if (!(new->securebits &SECBIT_KEEP_CAPS))
			new->cap_permitted = new->cap_effective = 0;
		/* Kept or not: programs that know nothing of ambient ones expect exec to drop all.
		 */
		new->cap_ambient = 0;
	}
	uint32_t root = root_of(old);
	if (old->euid == root && new->euid != root)
		new->cap_effective = 0;
	if (old->euid != root && new->euid == root)
		new->cap_effective = new->cap_permitted;
}

void cred_fix_caps_after_setfsuid(struct cred *new, const struct cred *old)
{
	if (new->securebits & SECBIT_NO_SETUID_FIXUP)
		return;
	uint32_t root = root_of(old);
	if (old->fsuid == root && new->fsuid != root)
		new->cap_effective &= ~CAP_FS_SET;
	if (old->fsuid != root && new->fsuid == root)
		new->cap_effective |= new->cap_permitted &CAP_FS_SET;
}

/* The capabilities of a file, and those that root has without: *effective: all at once. */
static int exec_caps(struct cred *new, const struct cred *old, const struct exec_grant *g,
		     bool *effective)
{
	uint32_t root = root_of(new);

	*effective = g->caps_effective;
	new->cap_permitted = (old->cap_bounding & g->caps_permitted) |
			     (old->cap_inheritable & g->caps_inheritable);
	/* A program that does not know of capabilities shall have all that it was given, or not
	 * run. */
	if (g->has_caps && g->caps_effective && g->caps_permitted & ~new->cap_permitted)
		return -EPERM;
	if (old->securebits & SECBIT_NOROOT)
		return 0;
	/* Of a set-user-ID-root program with capabilities these count. */
	if (g->has_caps && new->uid != root &&new->euid == root)
		return 0;
	if (new->euid == root || new->uid == root)
		new->cap_permitted = old->cap_bounding | old->cap_inheritable;
	*effective |= new->euid == root;
	return 0;
}

static bool gains(const struct cred *new, const struct cred *old)
{
	return new->cap_permitted & ~old->cap_permitted;
}

int cred_exec(struct cred *new, const struct cred *old, const struct exec_grant *g, unsigned unsafe,
	      bool *secure)
{
	bool effective;

	if (!(unsafe & EXEC_NO_NEW_PRIVS)) {
		new->euid = g->set_uid ? g->uid : new->euid;
		new->egid = g->set_gid ? g->gid : new->egid;
	}
	int err = exec_caps(new, old, g, &effective);
	if (err)
		return err;
	bool setid = new->euid != old->uid || new->egid != old->gid;
	if (unsafe && (setid || gains(new, old))) {
		if (unsafe & EXEC_NO_NEW_PRIVS || !(old->cap_effective & CAP_BIT(CAP_SETUID))) {
			new->euid = new->uid;
			new->egid = new->gid;
		}
		new->cap_permitted &= old->cap_permitted;
	}
	new->suid = new->fsuid = new->euid;
	new->sgid = new->fsgid = new->egid;
	/* Ambient capabilities do not go with a changed identity. */
	if (g->has_caps || setid)
		new->cap_ambient = 0;
	new->cap_permitted |= new->cap_ambient;
	new->cap_effective = effective ? new->cap_permitted : new->cap_ambient;
	new->securebits &= ~SECBIT_KEEP_CAPS;
	*secure = setid || (new->uid != root_of(new) &&
			    (effective || new->cap_permitted & ~new->cap_ambient));
	return 0;
}

bool cred_same_after_exec(const struct cred *new, const struct cred *old)
{
	return new->user_ns == old->user_ns &&new->uid == old->uid &&new->euid ==
	       old->euid &&new->suid == old->suid &&new->fsuid == old->fsuid &&new->gid ==
	       old->gid &&new->egid == old->egid &&new->sgid == old->sgid &&new->fsgid ==
	       old->fsgid &&new->cap_inheritable == old->cap_inheritable &&new->cap_permitted ==
	       old->cap_permitted &&new->cap_effective == old->cap_effective &&new->cap_bounding ==
	       old->cap_bounding &&new->cap_ambient == old->cap_ambient;
}

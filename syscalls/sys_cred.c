/* User and group ids, supplementary groups, capabilities: credentials(7), capabilities(7). */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "sentry/lib/cleanup.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#define NO_ID 0xffffffffU
#define NGROUPS_LIMIT 65536

long sys_getuid(struct task *t)
{
	return uid_show(t->cred->user_ns, t->cred->uid);
}

long sys_geteuid(struct task *t)
{
	return uid_show(t->cred->user_ns, t->cred->euid);
}

long sys_getgid(struct task *t)
{
	return gid_show(t->cred->user_ns, t->cred->gid);
}

long sys_getegid(struct task *t)
{
	return gid_show(t->cred->user_ns, t->cred->egid);
}

static long put_three(struct task *t, const uaddr_t dst[3], const uint32_t v[3])
{
	for (int i = 0; i < 3; i++)
		if (copy_out_val(&t->um, dst[i], &v[i]))
			return -EFAULT;
	return 0;
}

long sys_getresuid(struct task *t, uaddr_t ruid, uaddr_t euid, uaddr_t suid)
{
	const struct cred *c = t->cred;
	const struct user_ns *u = c->user_ns;

	return put_three(
		t, (uaddr_t[]){ruid, euid, suid},
		(uint32_t[]){uid_show(u, c->uid), uid_show(u, c->euid), uid_show(u, c->suid)});
}

long sys_getresgid(struct task *t, uaddr_t rgid, uaddr_t egid, uaddr_t sgid)
{
	const struct cred *c = t->cred;
	const struct user_ns *u = c->user_ns;

	return put_three(
		t, (uaddr_t[]){rgid, egid, sgid},
		(uint32_t[]){gid_show(u, c->gid), gid_show(u, c->egid), gid_show(u, c->sgid)});
}

/* ---- setting user ids ---- */

/* The rules for user and for group ids are the same: they are written once, over the three of them.
 */
struct ids {
	uint32_t real, effective, saved;
};

static bool is_one_of(const struct ids *i, uint32_t id)
{
	return id == i->real || id == i->effective || id == i->saved;
}

static long set_one(struct ids *i, uint32_t id, bool privileged)
{
	if (!privileged && id != i->real && id != i->saved)
		return -EPERM;
	if (privileged)
		i->real = i->saved = id;
	i->effective = id;
	return 0;
}

/* NO_ID leaves an id as it is. */
static long set_two(struct ids *i, uint32_t real, uint32_t effective, bool privileged)
{
	const struct ids old = *i;

	if (!privileged && real != NO_ID && real != old.real && real != old.effective)
		return -EPERM;
	if (!privileged && effective != NO_ID && !is_one_of(&old, effective))
		return -EPERM;
	if (real != NO_ID)
		i->real = real;
	if (effective != NO_ID)
		i->effective = effective;
	if (real != NO_ID || (effective != NO_ID && effective != old.real))
		i->saved = i->effective;
	return 0;
}

static long set_three(struct ids *i, const struct ids *want, bool privileged)
{
	const struct ids old = *i;
	const uint32_t from[] = {want->real, want->effective, want->saved};
	uint32_t *const to[] = {&i->real, &i->effective, &i->saved};

	for (int k = 0; k < 3; k++) {
		if (from[k] == NO_ID)
			continue;
		if (!privileged && !is_one_of(&old, from[k]))
			return -EPERM;
		*to[k] = from[k];
	}
	return 0;
}

static struct ids uids_of(const struct cred *c)
{
	return (struct ids){c->uid, c->euid, c->suid};
}

static struct ids gids_of(const struct cred *c)
{
	return (struct ids){c->gid, c->egid, c->sgid};
}

/* err: what the rules said; nothing changes unless it is 0. */
static long commit_uids(struct task *t, const struct ids *i, long err)
{
	struct cred *new = err ? NULL : cred_dup(t->cred);

	if (!new)
		return err ? err : -ENOMEM;
	new->uid = i->real;
	new->euid = new->fsuid = i->effective;
	new->suid = i->saved;
	cred_fix_caps_after_setuid(new, t->cred);
	task_set_cred(t, new);
	return 0;
}

static long commit_gids(struct task *t, const struct ids *i, long err)
{
	struct cred *new = err ? NULL : cred_dup(t->cred);

	if (!new)
		return err ? err : -ENOMEM;
	new->gid = i->real;
	new->egid = new->fsgid = i->effective;
	new->sgid = i->saved;
	task_set_cred(t, new);
	return 0;
}

/* The inner form of an argument, where -1 says "no change"; false: it has no mapping. */
static bool enter_uid(const struct task *t, unsigned *uid)
{
	if (*uid == NO_ID)
		return true;
	*uid = uid_enter(t->cred->user_ns, *uid);
	return *uid != NO_ID;
}

static bool enter_gid(const struct task *t, unsigned *gid)
{
	if (*gid == NO_ID)
		return true;
	*gid = gid_enter(t->cred->user_ns, *gid);
	return *gid != NO_ID;
}

long sys_setuid(struct task *t, unsigned uid)
{
	struct ids ids = uids_of(t->cred);

	uid = uid_enter(t->cred->user_ns, uid);
	if (uid == NO_ID)
		return -EINVAL;
	return commit_uids(t, &ids, set_one(&ids, uid, task_own_capable(t, CAP_SETUID)));
}

long sys_setgid(struct task *t, unsigned gid)
{
	struct ids ids = gids_of(t->cred);

	gid = gid_enter(t->cred->user_ns, gid);
	if (gid == NO_ID)
		return -EINVAL;
	return commit_gids(t, &ids, set_one(&ids, gid, task_own_capable(t, CAP_SETGID)));
}

long sys_setreuid(struct task *t, unsigned ruid, unsigned euid)
{
	struct ids ids = uids_of(t->cred);

	if (!enter_uid(t, &ruid) || !enter_uid(t, &euid))
		return -EINVAL;
	return commit_uids(t, &ids, set_two(&ids, ruid, euid, task_own_capable(t, CAP_SETUID)));
}

long sys_setregid(struct task *t, unsigned rgid, unsigned egid)
{
	struct ids ids = gids_of(t->cred);

	if (!enter_gid(t, &rgid) || !enter_gid(t, &egid))
		return -EINVAL;
	return commit_gids(t, &ids, set_two(&ids, rgid, egid, task_own_capable(t, CAP_SETGID)));
}

long sys_setresuid(struct task *t, unsigned ruid, unsigned euid, unsigned suid)
{
	struct ids ids = uids_of(t->cred);

	if (!enter_uid(t, &ruid) || !enter_uid(t, &euid) || !enter_uid(t, &suid))
		return -EINVAL;
	const struct ids want = {ruid, euid, suid};

	return commit_uids(t, &ids, set_three(&ids, &want, task_own_capable(t, CAP_SETUID)));
}

long sys_setresgid(struct task *t, unsigned rgid, unsigned egid, unsigned sgid)
{
	struct ids ids = gids_of(t->cred);

	if (!enter_gid(t, &rgid) || !enter_gid(t, &egid) || !enter_gid(t, &sgid))
		return -EINVAL;
	const struct ids want = {rgid, egid, sgid};

	return commit_gids(t, &ids, set_three(&ids, &want, task_own_capable(t, CAP_SETGID)));
}

/* setfsuid(2) cannot report errors: it returns the old value, changed or not. */
long sys_setfsuid(struct task *t, unsigned uid)
{
	const struct cred *old = t->cred;
	uint32_t before = uid_show(old->user_ns, old->fsuid);

	uid = uid_enter(old->user_ns, uid);
	if (uid == NO_ID || uid == old->fsuid)
		return before;
	if (uid != old->uid && uid != old->euid && uid != old->suid &&
	    !task_own_capable(t, CAP_SETUID))
		return before;
	struct cred *new = cred_dup(old);
	if (!new)
		return before;
	new->fsuid = uid;
	cred_fix_caps_after_setfsuid(new, old);
	task_set_cred(t, new);
	return before;
}

long sys_setfsgid(struct task *t, unsigned gid)
{
	const struct cred *old = t->cred;
	uint32_t before = gid_show(old->user_ns, old->fsgid);

	gid = gid_enter(old->user_ns, gid);
	if (gid == NO_ID || gid == old->fsgid)
		return before;
	if (gid != old->gid && gid != old->egid && gid != old->sgid &&
	    !task_own_capable(t, CAP_SETGID))
		return before;
	struct cred *new = cred_dup(old);
	if (!new)
		return before;
	new->fsgid = gid;
	task_set_cred(t, new);
	return before;
}

/* ---- supplementary groups ---- */

long sys_getgroups(struct task *t, int n, uaddr_t list)
{
	const struct cred *c = t->cred;

	if (n < 0)
		return -EINVAL;
	if (n) {
		if ((size_t)n < c->ngroups)
			return -EINVAL;
		CLEANUP_FREE uint32_t *shown = malloc(c->ngroups * sizeof(*shown) + 1);
		if (!shown)
			return -ENOMEM;
		for (size_t i = 0; i < c->ngroups; i++)
			shown[i] = gid_show(c->user_ns, c->groups[i]);
		if (copy_out(&t->um, list, shown, c->ngroups * sizeof(*shown)))
			return -EFAULT;
	}
	return (long)c->ngroups;
}

long sys_setgroups(struct task *t, int n, uaddr_t list)
{
	CLEANUP_FREE uint32_t *groups = NULL;

	if (!task_own_capable(t, CAP_SETGID) || !user_ns_may_setgroups(t->cred->user_ns))
		return -EPERM;
	if ((unsigned)n > NGROUPS_LIMIT)
		return -EINVAL;
	if (n) {
		groups = malloc((size_t)n * sizeof(*groups));
		if (!groups)
			return -ENOMEM;
		if (copy_in(&t->um, groups, list, (size_t)n * sizeof(*groups)))
			return -EFAULT;
		for (int i = 0; i < n; i++)
			if ((groups[i] = gid_enter(t->cred->user_ns, groups[i])) == NO_ID)
				return -EINVAL;
	}
	struct cred *new = cred_dup(t->cred);
	if (!new)
		return -ENOMEM;
	if (cred_set_groups(new, groups, (size_t)n)) {
		cred_put(new);
		return -ENOMEM;
	}
	task_set_cred(t, new);
	return 0;
}

/* ---- capabilities ---- */

/* Words of 32 bits that the header's version has; 0 for an unknown one, which is then corrected. */
static int cap_words(struct task *t, uaddr_t uheader, struct __user_cap_header_struct *h,
		     int *words)
{
	const uint32_t current = _LINUX_CAPABILITY_VERSION_3;
	int err = copy_in_val(&t->um, h, uheader);

	if (err)
		return err;
	*words = 0;
	switch (h->version) {
	case _LINUX_CAPABILITY_VERSION_1:
		*words = 1;
		return 0;
	case _LINUX_CAPABILITY_VERSION_2:
	case _LINUX_CAPABILITY_VERSION_3:
		*words = 2;
		return 0;
	}
	return copy_out_last_val(&t->um, uheader, &current);
}

static struct cred *cred_of(struct task *t, int pid)
{
	if (pid == 0)
		return cred_get(t->cred);
	mutex_lock(&t->k->tasks_lock, &lc_tasks);
	struct task *other = task_named(t, pid);
	struct cred *c = other && other->cred ? cred_get(other->cred) : NULL;
	mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	return c;
}

long sys_capget(struct task *t, uaddr_t uheader, uaddr_t udata)
{
	struct __user_cap_header_struct h;
	struct __user_cap_data_struct data[2];
	int words;

	int err = cap_words(t, uheader, &h, &words);
	if (err)
		return err;
	/* Asking with no place for an answer is how programs find the version. */
	if (uaddr_is_null(udata))
		return 0;
	if (!words || h.pid < 0)
		return -EINVAL;
	struct cred *c = cred_of(t, h.pid);
	if (!c)
		return -ESRCH;
	for (int i = 0; i < 2; i++)
		data[i] = (struct __user_cap_data_struct){
			.effective = (uint32_t)(c->cap_effective >> 32 * i),
			.permitted = (uint32_t)(c->cap_permitted >> 32 * i),
			.inheritable = (uint32_t)(c->cap_inheritable >> 32 * i),
		};
	cred_put(c);
	return copy_out_last(&t->um, udata, data, (size_t)words * sizeof(data[0]));
}

static bool is_subset(uint64_t a, uint64_t of)
{
	return !(a & ~of);
}

long sys_capset(struct task *t, uaddr_t uheader, uaddr_t udata)
{
	struct __user_cap_header_struct h;
	struct __user_cap_data_struct data[2] = {0};
	const struct cred *old = t->cred;
	int words;

	int err = cap_words(t, uheader, &h, &words);
	if (err)
		return err;
	if (!words)
		return -EINVAL;
	if (h.pid != 0 && h.pid != pid_nr_own(t->pid))
		return -EPERM;
	if ((err = copy_in(&t->um, data, udata, (size_t)words * sizeof(data[0]))))
		return err;
#define JOIN(field) (((uint64_t)data[1].field << 32 | data[0].field) & CAP_FULL)
	uint64_t effective = JOIN(effective), permitted = JOIN(permitted);
	uint64_t inheritable = JOIN(inheritable);
#undef JOIN

	if (!task_own_capable(t, CAP_SETPCAP) &&
	    !is_subset(inheritable, old->cap_inheritable | old->cap_permitted))
		return -EPERM;
	if (!is_subset(inheritable, old->cap_inheritable | old->cap_bounding) ||
	    !is_subset(permitted, old->cap_permitted) || !is_subset(effective, permitted))
		return -EPERM;
	struct cred *new = cred_dup(old);
	if (!new)
		return -ENOMEM;
	new->cap_effective = effective;
	new->cap_permitted = permitted;
	new->cap_inheritable = inheritable;
	new->cap_ambient &= permitted &inheritable;
	task_set_cred(t, new);
	return 0;
}

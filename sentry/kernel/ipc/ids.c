#include "sentry/kernel/ipc/ids.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "sentry/auth/cred.h"
#include "sentry/time/ktimer.h"

/* A number is sequence * SLOTS_MAX + slot, as Linux makes them. */
#define SLOT_BITS 15
#define SLOTS_MAX (1U << SLOT_BITS)
#define SEQ_MAX (INT32_MAX >> SLOT_BITS)
/* Slots are taken in turn from at least this many, so that numbers are not used again at once. */
#define CYCLE_MIN 64U

int64_t ipc_now(void)
{
	return time_realtime() / NSEC_PER_SEC;
}

int ipc_search(struct ipc_ids *ids, int key, int flags, struct ipc_object **out)
{
	struct ipc_object *o = NULL;

	if (key == IPC_PRIVATE)
		return 0;
	for (unsigned i = 0; (o = ipc_next(ids, &i)); i++)
		if (o->key == key)
			break;
	if (!o)
		return flags & IPC_CREAT ? 0 : -ENOENT;
	if (flags & IPC_CREAT && flags & IPC_EXCL)
		return -EEXIST;
	*out = o;
	return 1;
}

static int grow(struct ipc_ids *ids, unsigned n)
{
	if (n <= ids->nslots)
		return 0;
	struct ipc_object **slots = realloc(ids->slots, n * sizeof(struct ipc_object *));
	if (!slots)
		return -ENOMEM;
	for (unsigned i = ids->nslots; i < n; i++)
		slots[i] = NULL;
	ids->slots = slots;
	ids->nslots = n;
	return 0;
}

int ipc_add(struct ipc_ids *ids, struct ipc_object *o, int key, int mode, const struct cred *c)
{
	if (ids->in_use >= ipc_limit(ids->ns, ids->limit))
		return -ENOSPC;
	unsigned window = MIN(MAX((ids->in_use + 1) * 3 / 2, CYCLE_MIN), IPC_MNI_MOST);
	int err = grow(ids, window);
	if (err)
		return err;
	/* There are more slots than objects: the search ends. */
	unsigned slot = ids->next;
	while (slot >= ids->nslots || ids->slots[slot])
		slot = slot >= ids->nslots ? 0 : slot + 1;
	if (slot < ids->next)
		ids->seq = ids->seq >= SEQ_MAX ? 0 : ids->seq + 1;
	ids->next = slot + 1;
	ids->slots[slot] = o;
	ids->in_use++;
	o->ns = ids->ns;
	o->id = (int)(ids->seq << SLOT_BITS | slot);
	o->key = key;
	o->mode = mode & 0777;
	o->uid = o->cuid = c->euid;
	o->gid = o->cgid = c->egid;
	return 0;
}

void ipc_remove(struct ipc_ids *ids, struct ipc_object *o)
{
	ids->slots[(unsigned)o->id % SLOTS_MAX] = NULL;
	ids->in_use--;
}

static struct ipc_object *in_slot(const struct ipc_ids *ids, int id)
{
	unsigned slot = (unsigned)id % SLOTS_MAX;

	return id >= 0 && slot < ids->nslots ? ids->slots[slot] : NULL;
}

int ipc_lookup(const struct ipc_ids *ids, int id, struct ipc_object **out)
{
	struct ipc_object *o = in_slot(ids, id);

	if (!o)
		return -EINVAL;
	if (o->id != id)
		return -EIDRM;
	*out = o;
	return 0;
}

int ipc_find(const struct ipc_ids *ids, int id, enum ipc_find how, const struct cred *c,
	     struct ipc_object **out)
{
	if (how == IPC_BY_ID) {
		int err = ipc_lookup(ids, id, out);
		return err ? err : ipc_permitted(*out, IPC_READ, c);
	}
	struct ipc_object *o = in_slot(ids, id);
	if (!o)
		return -EINVAL;
	*out = o;
	return how == IPC_BY_SLOT_ANY ? 0 : ipc_permitted(o, IPC_READ, c);
}

int ipc_permitted(const struct ipc_object *o, int want, const struct cred *c)
{
	int wanted = want >> 6 | want >> 3 | want, granted = (int)o->mode;

	if (c->euid == o->cuid || c->euid == o->uid)
		granted >>= 6;
	else if (cred_in_group(c, o->cgid) || cred_in_group(c, o->gid))
		granted >>= 3;
	return wanted & ~granted & 7 && !cred_ns_capable(c, o->ns->ns.owner, CAP_IPC_OWNER)
		       ? -EACCES
		       : 0;
}

int ipc_lookup_owned(const struct ipc_ids *ids, int id, const struct cred *c,
		     struct ipc_object **out)
{
	int err = ipc_lookup(ids, id, out);

	if (err)
		return err;
	return c->euid == (*out)->cuid || c->euid == (*out)->uid ||
			       cred_ns_capable(c, ids->ns->ns.owner, CAP_SYS_ADMIN)
		       ? 0
		       : -EPERM;
}

int ipc_set_perm(struct ipc_object *o, const struct ipc_perm *in, const struct user_ns *u)
{
	uint32_t uid = uid_enter(u, in->uid), gid = gid_enter(u, in->gid);

	if (uid == ID_NONE || gid == ID_NONE)
		return -EINVAL;
	o->uid = uid;
	o->gid = gid;
	o->mode = (o->mode & ~0777U) | (in->mode & 0777U);
	return 0;
}

void ipc_fill_perm(const struct ipc_object *o, const struct user_ns *u, struct ipc_perm *out)
{
	out->__key = o->key;
	out->uid = uid_show(u, o->uid);
	out->gid = gid_show(u, o->gid);
	out->cuid = uid_show(u, o->cuid);
	out->cgid = gid_show(u, o->cgid);
	out->mode = o->mode;
	out->__seq = (unsigned short)((unsigned)o->id >> SLOT_BITS);
}

int ipc_highest(const struct ipc_ids *ids)
{
	for (unsigned i = ids->nslots; i > 0; i--)
		if (ids->slots[i - 1])
			return (int)i - 1;
	return 0;
}

struct ipc_object *ipc_next(const struct ipc_ids *ids, unsigned *slot)
{
	for (; *slot < ids->nslots; ++*slot)
		if (ids->slots[*slot])
			return ids->slots[*slot];
	return NULL;
}

/* The header of namespaces. */
#include "sentry/auth/ns.h"

#include "sentry/auth/user_ns.h"

#define INO_FIRST 4026532000u /* beyond the fixed ones */

void ns_init(struct ns *ns, const struct ns_type *type, uint64_t ino, struct user_ns *owner)
{
	static _Atomic uint64_t last = INO_FIRST;

	ref_init(&ns->ref, 1);
	ns->type = type;
	ns->ino = ino ? ino : atomic_fetch_add(&last, 1) + 1;
	ns->owner = owner ? user_ns_get(owner) : NULL;
	ns->charge = NULL;
}

int ns_make(struct ns *ns, const struct ns_type *type, const struct ns_maker *m)
{
	struct ucount *charge;
	int err = ucount_get(m->owner, m->uid, type->count, &charge);

	if (err)
		return err;
	ns_init(ns, type, 0, m->owner);
	ns->charge = charge;
	return 0;
}

struct ns *ns_get(struct ns *ns)
{
	ref_get(&ns->ref);
	return ns;
}

void ns_put(struct ns *ns)
{
	/* A user namespace's owner is its parent, so a chain may go: a loop, not a recursion. */
	while (ns && ref_put(&ns->ref)) {
		struct user_ns *owner = ns->owner;
		if (ns->charge)
			ucount_put(ns->charge, ns->type->count);
		ns->type->free(ns);
		ns = owner ? &owner->ns : NULL;
	}
}

#include "sentry/kernel/ns/plain.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/auth/net_ns.h"
#include "sentry/auth/user_ns.h"

static void plain_free(struct ns *ns)
{
	free(ns);
}

const struct ns_type net_ns_type = {
	.name = "net", .flag = CLONE_NEWNET, .count = NS_COUNT_NET, .free = plain_free};
const struct ns_type cgroup_ns_type = {
	.name = "cgroup", .flag = CLONE_NEWCGROUP, .count = NS_COUNT_CGROUP, .free = plain_free};

/* struct net_ns begins with its struct ns; it is the larger one. */
static struct ns *ns_alloc(const struct ns_type *type)
{
	return calloc(1, type == &net_ns_type ? sizeof(struct net_ns) : sizeof(struct ns));
}

static struct ns *top(const struct ns_type *type, uint64_t ino)
{
	struct ns *ns = ns_alloc(type);

	if (ns)
		ns_init(ns, type, ino, &user_ns_top);
	return ns;
}

static int make(const struct ns_type *type, const struct ns_maker *m, struct ns **out)
{
	struct ns *ns = ns_alloc(type);
	int err = ns ? ns_make(ns, type, m) : -ENOMEM;

	if (err)
		free(ns);
	else
		*out = ns;
	return err;
}

struct ns *net_ns_top(void)
{
	struct ns *ns = top(&net_ns_type, NS_INO_NET);

	if (ns) {
		net_ns_set_lo(net_ns_of(ns), true);
		net_limits_init(net_ns_of(ns), true);
	}
	return ns;
}

struct ns *cgroup_ns_top(void)
{
	return top(&cgroup_ns_type, NS_INO_CGROUP);
}

int net_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out)
{
	int err = make(&net_ns_type, m, out);

	(void)old;
	if (!err)
		net_limits_init(net_ns_of(*out), false);
	return err;
}

int cgroup_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out)
{
	(void)old;
	return make(&cgroup_ns_type, m, out);
}

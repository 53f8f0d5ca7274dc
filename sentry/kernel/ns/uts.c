#include "sentry/kernel/ns/uts.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/task.h"

static void uts_ns_free(struct ns *ns)
{
	free(uts_ns_of(ns));
}

const struct ns_type uts_ns_type = {
	.name = "uts", .flag = CLONE_NEWUTS, .count = NS_COUNT_UTS, .free = uts_ns_free};

struct ns *uts_ns_top(void)
{
	struct uts_ns *uts = calloc(1, sizeof(*uts));

	if (!uts)
		return NULL;
	ns_init(&uts->ns, &uts_ns_type, NS_INO_UTS, &user_ns_top);
	strcpy(uts->domainname, "(none)");
	return &uts->ns;
}

int uts_ns_copy(struct ns *old, const struct ns_maker *m, struct ns **out)
{
	struct uts_ns *from = uts_ns_of(old), *uts = calloc(1, sizeof(*uts));
	int err = uts ? ns_make(&uts->ns, &uts_ns_type, m) : -ENOMEM;

	if (err) {
		free(uts);
		return err;
	}
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(uts->hostname, from->hostname, sizeof(uts->hostname));
	memcpy(uts->domainname, from->domainname, sizeof(uts->domainname));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	*out = &uts->ns;
	return 0;
}

/* UTS namespaces: the names that uname(2) shows. */
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/task.h"

struct uts_ns *uts_ns_new(void)
{
	struct uts_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	ref_init(&ns->ref, 1);
	strcpy(ns->domainname, "(none)");
	return ns;
}

struct uts_ns *uts_ns_copy(const struct uts_ns *from)
{
	struct uts_ns *ns = uts_ns_new();

	if (!ns)
		return NULL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(ns->hostname, from->hostname, sizeof(ns->hostname));
	memcpy(ns->domainname, from->domainname, sizeof(ns->domainname));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ns;
}

struct uts_ns *uts_ns_get(struct uts_ns *ns)
{
	ref_get(&ns->ref);
	return ns;
}

void uts_ns_put(struct uts_ns *ns)
{
	if (ns && ref_put(&ns->ref))
		free(ns);
}

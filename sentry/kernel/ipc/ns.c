/* IPC namespaces: ipc_namespaces(7). */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"

int (*ipc_mqueue_instance)(struct user_ns *owner, struct mount **out);

static void ipc_ns_free(struct ns *header)
{
	struct ipc_ns *ns = ipc_ns_of(header);

	shm_ns_fini(ns);
	sem_ns_fini(ns);
	msq_ns_fini(ns);
	free(ns->shm.slots);
	free(ns->sem.slots);
	free(ns->msg.slots);
	mount_put(ns->mqueues);
	free(ns);
}

const struct ns_type ipc_ns_type = {
	.name = "ipc",
	.flag = CLONE_NEWIPC,
	.count = NS_COUNT_IPC,
	.free = ipc_ns_free,
};

static struct ipc_ns *ns_alloc(struct user_ns *owner)
{
	struct ipc_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	mutex_init(&ns->lock);
	ns->shm = (struct ipc_ids){.ns = ns, .limit = IPC_SHMMNI};
	ns->sem = (struct ipc_ids){.ns = ns, .limit = IPC_SEMMNI};
	ns->msg = (struct ipc_ids){.ns = ns, .limit = IPC_MSGMNI};
	if (ipc_mqueue_instance && ipc_mqueue_instance(owner, &ns->mqueues)) {
		free(ns);
		return NULL;
	}
	return ns;
}

struct ns *ipc_ns_top(void)
{
	struct ipc_ns *ns = ns_alloc(&user_ns_top);

	if (!ns)
		return NULL;
	ns_init(&ns->ns, &ipc_ns_type, NS_INO_IPC, &user_ns_top);
	return &ns->ns;
}

int ipc_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out)
{
	struct ipc_ns *ns = ns_alloc(m->owner);
	int err = ns ? ns_make(&ns->ns, &ipc_ns_type, m) : -ENOMEM;

	(void)old; /* it begins empty */
	if (err && ns) {
		mount_put(ns->mqueues);
		free(ns);
	}
	if (!err)
		*out = &ns->ns;
	return err;
}

struct ipc_ns *task_ipc(const struct task *t)
{
	return ipc_ns_of(t->ns->of[NS_IPC]);
}

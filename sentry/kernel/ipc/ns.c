/* IPC namespaces: ipc_namespaces(7). */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"

int (*ipc_mqueue_instance)(struct user_ns *owner, struct mount **out);

#define SHM_UNLIMITED (UINT64_MAX - (1UL << 24))

/* clang-format off */
#define DEFAULT_LIMITS {							\
	[IPC_SHMMAX] = SHM_UNLIMITED, [IPC_SHMALL] = SHM_UNLIMITED, [IPC_SHMMNI] = 4096, \
	[IPC_SEMMSL] = 32000, [IPC_SEMMNS] = 32000 * 32000,			\
	[IPC_SEMOPM] = 500, [IPC_SEMMNI] = 32000,				\
	[IPC_MSGMAX] = 8192, [IPC_MSGMNB] = 16384, [IPC_MSGMNI] = 32000,	\
}
/* clang-format on */
static const uint64_t default_limits[IPC_LIMITS] = DEFAULT_LIMITS;
/* config.json may change these before there is a namespace. */
static _Atomic uint64_t top_limits[IPC_LIMITS] = DEFAULT_LIMITS;

_Atomic uint64_t *ipc_current_limits(void)
{
	const struct task *t = task_current();

	return t && t->ns ? task_ipc(t)->limits : top_limits;
}

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
	for (int i = 0; i < IPC_LIMITS; i++)
		ns->limits[i] = default_limits[i];
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
	for (int i = 0; i < IPC_LIMITS; i++)
		ns->limits[i] = top_limits[i];
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

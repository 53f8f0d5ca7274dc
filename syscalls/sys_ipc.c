/* System V IPC: shared memory, semaphores, message queues.  What they do is in sentry/kernel/ipc.
 */
#include <errno.h>
#include <stdlib.h>

#include "sentry/kernel/ipc/ipc.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/poll_wait.h"
#include "syscalls/syscalls.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

/* A structure for the guest: `ret` is the call's value unless the copy fails. */
static long give(struct task *t, uaddr_t to, const void *from, size_t n, int ret)
{
	if (ret < 0)
		return ret;
	return copy_out(&t->um, to, from, n) ? -EFAULT : ret;
}

/* ---- shared memory ---- */

long sys_shmget(struct task *t, int key, uint64_t size, int flags)
{
	return shm_get(t, key, size, flags);
}

long sys_shmat(struct task *t, int id, uint64_t addr, int flags)
{
	uint64_t out;
	int err = shm_attach(t, id, addr, flags, &out);

	return err ? err : (long)out;
}

long sys_shmdt(struct task *t, uint64_t addr)
{
	return shm_detach(t, addr);
}

static long shmctl_stat(struct task *t, int id, enum ipc_find how, uaddr_t buf)
{
	struct shmid_ds ds;
	int ret = shm_stat(t, id, how, &ds);

	return give(t, buf, &ds, sizeof(ds), ret);
}

static long shmctl_info(struct task *t, int cmd, uaddr_t buf)
{
	struct shminfo limits;
	struct shm_info info;
	int ret;

	if (cmd == IPC_INFO) {
		ret = shm_limits(t, &limits);
		return give(t, buf, &limits, sizeof(limits), ret);
	}
	ret = shm_info(t, &info);
	return give(t, buf, &info, sizeof(info), ret);
}

long sys_shmctl(struct task *t, int id, int cmd, uaddr_t buf)
{
	struct shmid_ds ds;

	if (id < 0 || cmd < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO:
	case SHM_INFO:
		return shmctl_info(t, cmd, buf);
	case IPC_STAT:
		return shmctl_stat(t, id, IPC_BY_ID, buf);
	case SHM_STAT:
		return shmctl_stat(t, id, IPC_BY_SLOT, buf);
	case SHM_STAT_ANY:
		return shmctl_stat(t, id, IPC_BY_SLOT_ANY, buf);
	case IPC_SET:
		if (copy_in_val(&t->um, &ds, buf))
			return -EFAULT;
		return shm_set(t, id, &ds);
	case IPC_RMID:
		return shm_remove(t, id);
	case SHM_LOCK:
	case SHM_UNLOCK:
		return shm_lock(t, id, cmd == SHM_LOCK);
	default:
		return -EINVAL;
	}
}

/* ---- semaphores ---- */

long sys_semget(struct task *t, int key, int nsems, int flags)
{
	return sem_get(t, key, nsems, flags);
}

static long do_semop(struct task *t, int id, uaddr_t usops, unsigned n, int64_t deadline)
{
	if (n > ipc_limit(task_ipc(t), IPC_SEMOPM))
		return -E2BIG;
	if (n < 1 || id < 0)
		return -EINVAL;
	CLEANUP_FREE struct sembuf *ops = malloc(n * sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	if (copy_in(&t->um, ops, usops, n * sizeof(*ops)))
		return -EFAULT;
	return sem_op(t, id, ops, n, deadline);
}

long sys_semop(struct task *t, int id, uaddr_t sops, unsigned nsops)
{
	return do_semop(t, id, sops, nsops, TIME_NEVER);
}

long sys_semtimedop(struct task *t, int id, uaddr_t sops, unsigned nsops, uaddr_t timeout)
{
	int64_t deadline;
	int err = deadline_from_timespec(t, timeout, &deadline);

	return err ? err : do_semop(t, id, sops, nsops, deadline);
}

static long semctl_stat(struct task *t, int id, enum ipc_find how, uaddr_t buf)
{
	struct semid_ds ds;
	int ret = sem_stat(t, id, how, &ds);

	return give(t, buf, &ds, sizeof(ds), ret);
}

static long semctl_all(struct task *t, int id, bool set, uaddr_t array)
{
	int n = sem_count(t, id, set);
	if (n < 0)
		return n;
	size_t size = (size_t)n * sizeof(uint16_t);
	CLEANUP_FREE uint16_t *values = malloc(size);
	if (!values)
		return -ENOMEM;
	if (!set) {
		int err = sem_get_all(t, id, values, (unsigned)n);
		return give(t, array, values, size, err);
	}
	if (copy_in(&t->um, values, array, size))
		return -EFAULT;
	return sem_set_all(t, id, values, (unsigned)n);
}

long sys_semctl(struct task *t, int id, int semnum, int cmd, uint64_t arg)
{
	struct seminfo info;
	struct semid_ds ds;
	int ret;

	if (id < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO:
	case SEM_INFO:
		ret = sem_info(t, &info, cmd == SEM_INFO);
		return give(t, UADDR(arg), &info, sizeof(info), ret);
	case IPC_STAT:
		return semctl_stat(t, id, IPC_BY_ID, UADDR(arg));
	case SEM_STAT:
		return semctl_stat(t, id, IPC_BY_SLOT, UADDR(arg));
	case SEM_STAT_ANY:
		return semctl_stat(t, id, IPC_BY_SLOT_ANY, UADDR(arg));
	case GETALL:
	case SETALL:
		return semctl_all(t, id, cmd == SETALL, UADDR(arg));
	case GETVAL:
	case GETPID:
	case GETNCNT:
	case GETZCNT:
		return sem_query(t, id, semnum, cmd);
	case SETVAL:
		return sem_set_value(t, id, semnum, (int)arg);
	case IPC_SET:
		if (copy_in_val(&t->um, &ds, UADDR(arg)))
			return -EFAULT;
		return sem_set(t, id, &ds);
	case IPC_RMID:
		return sem_remove(t, id);
	default:
		return -EINVAL;
	}
}

/* ---- message queues ---- */

long sys_msgget(struct task *t, int key, int flags)
{
	return msq_get(t, key, flags);
}

long sys_msgsnd(struct task *t, int id, uaddr_t umsg, uint64_t size, int flags)
{
	int64_t type;

	if (copy_in_val(&t->um, &type, umsg))
		return -EFAULT;
	if (size > ipc_limit(task_ipc(t), IPC_MSGMAX) || id < 0 || type < 1)
		return -EINVAL;
	struct ipc_msg *m = malloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	list_init(&m->link);
	m->type = type;
	m->size = size;
	int err = copy_in(&t->um, m->text, uaddr_add(umsg, sizeof(type)), size)
			  ? -EFAULT
			  : msq_send(t, id, m, flags);
	if (err)
		free(m);
	return err;
}

/* As on Linux, a message that cannot be copied out is lost. */
long sys_msgrcv(struct task *t, int id, uaddr_t umsg, uint64_t size, int64_t type, int flags)
{
	struct ipc_msg *m;
	int err = msq_receive(t, id, size, type, flags, &m);

	if (err)
		return err;
	size_t n = MIN(size, m->size);
	long ret = (long)n;
	if (copy_out_val(&t->um, umsg, &m->type) ||
	    copy_out(&t->um, uaddr_add(umsg, sizeof(m->type)), m->text, n))
		ret = -EFAULT;
	free(m);
	return ret;
}

static long msgctl_stat(struct task *t, int id, enum ipc_find how, uaddr_t buf)
{
	struct msqid_ds ds;
	int ret = msq_stat(t, id, how, &ds);

	return give(t, buf, &ds, sizeof(ds), ret);
}

long sys_msgctl(struct task *t, int id, int cmd, uaddr_t buf)
{
	struct msginfo info;
	struct msqid_ds ds;
	int ret;

	if (id < 0 || cmd < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO:
	case MSG_INFO:
		ret = msq_info(t, &info, cmd == MSG_INFO);
		return give(t, buf, &info, sizeof(info), ret);
	case IPC_STAT:
		return msgctl_stat(t, id, IPC_BY_ID, buf);
	case MSG_STAT:
		return msgctl_stat(t, id, IPC_BY_SLOT, buf);
	case MSG_STAT_ANY:
		return msgctl_stat(t, id, IPC_BY_SLOT_ANY, buf);
	case IPC_SET:
		if (copy_in_val(&t->um, &ds, buf))
			return -EFAULT;
		return msq_set(t, id, &ds);
	case IPC_RMID:
		return msq_remove(t, id);
	default:
		return -EINVAL;
	}
}

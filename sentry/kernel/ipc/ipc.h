/*
 * ipc.h - System V shared memory, semaphores and message queues.
 *
 * All of a namespace (ipc_namespaces(7)) is in struct ipc_ns.  An *object* has a number (slot and
 * sequence), a key, and owners; its kind embeds struct ipc_object.  Nothing here touches guest
 * memory: handlers copy.
 *
 * Locking: ns->lock (lc_ipc) guards everything.  A sleeping task's record is on its own stack and
 * on a list of the object; whoever ends its wait unlinks the record, stores the outcome and wakes
 * the task, so that an object can be freed at once when it is removed.
 *
 * Errors are those of the man pages: -EINVAL no such object, -EIDRM its number was used again (or
 * it was removed during a wait), -EACCES, -EPERM.
 *
 * Source: sysvipc(7), shmget(2), shmop(2), shmctl(2), semget(2), semop(2), semctl(2), msgget(2),
 * msgop(2), msgctl(2).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "sentry/auth/ns.h"
#include "sentry/auth/user_ns.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

struct cred;
struct file;
struct mount;
struct task;

/* libc's structures are the kernel's on x86-64. */
_Static_assert(sizeof(struct ipc_perm) == 48, "ipc64_perm");
_Static_assert(sizeof(struct shmid_ds) == 112, "shmid64_ds");
_Static_assert(sizeof(struct semid_ds) == 104, "semid64_ds");
_Static_assert(sizeof(struct msqid_ds) == 120, "msqid64_ds");

#define IPC_SEMVMX 32767
#define IPC_MNI_MOST 32768U /* no kind has more objects, whatever its limit */

/* Limits of a namespace, which /proc/sys/kernel shows and sets; the semaphores' in the order of
 * its file. */
enum ipc_limit {
	IPC_SHMMAX,
	IPC_SHMALL, /* pages */
	IPC_SHMMNI,
	IPC_SEMMSL,
	IPC_SEMMNS,
	IPC_SEMOPM,
	IPC_SEMMNI,
	IPC_MSGMAX,
	IPC_MSGMNB,
	IPC_MSGMNI,
	IPC_LIMITS,
};

struct ipc_object {
	struct ipc_ns *ns; /* borrowed: outlives it */
	int id, key;
	uint32_t uid, gid, cuid, cgid;
	uint32_t mode; /* permission bits; SHM_DEST, SHM_LOCKED */
};

/* The objects of one kind. */
struct ipc_ids {
	struct ipc_ns *ns; /* that it is in */
	struct ipc_object **slots;
	unsigned nslots, in_use;
	enum ipc_limit limit; /* most objects */
	unsigned seq, next;   /* the newest's sequence, and the slot after its own */
};

struct ipc_ns {
	struct ns ns;
	struct mutex lock;
	_Atomic uint64_t limits[IPC_LIMITS];
	struct ipc_ids shm, sem, msg;
	uint64_t shm_pages; /* sizes of all segments */
	uint64_t sems;	    /* semaphores of all sets */
	uint64_t msgs, msg_bytes;
	struct mount *mqueues; /* reference, immutable: the instance with the message queues */
};

/* ---- namespaces (ns.c): ipc_namespaces(7) ---- */
extern const struct ns_type ipc_ns_type;
struct ns *ipc_ns_top(void); /* the sandbox's own; NULL: no memory */
int ipc_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out) MUST_CHECK;
static inline struct ipc_ns *ipc_ns_of(struct ns *ns)
{
	return container_of(ns, struct ipc_ns, ns);
}
struct ipc_ns *task_ipc(const struct task *t); /* borrowed */
static inline uint64_t ipc_limit(const struct ipc_ns *ns, enum ipc_limit l)
{
	return ns->limits[l];
}
/* The limits of the calling task's namespace; at start-up, when nobody calls, those that the
 * sandbox's own will begin with. */
_Atomic uint64_t *ipc_current_limits(void);
/* Makes an instance of the mqueue file system that belongs to `owner` (returns a reference to a
 * mount of it).  Filled at start-up; NULL: mq_open gives ENOSYS. */
extern int (*ipc_mqueue_instance)(struct user_ns *owner, struct mount **out);
/* What the kinds of objects free when the last task has left. */
void shm_ns_fini(struct ipc_ns *ns);
void sem_ns_fini(struct ipc_ns *ns);
void msq_ns_fini(struct ipc_ns *ns);

/* How *_stat find their object: by its number, or by its slot (SHM_STAT), without asking for read
 * permission (SHM_STAT_ANY). */
enum ipc_find { IPC_BY_ID, IPC_BY_SLOT, IPC_BY_SLOT_ANY };

/* ---- shared memory (shm.c) ---- */
/* Makes the memory of a segment (returns a reference).  Filled at start-up by who has files in
 * memory; NULL: shmget gives ENOSYS. */
extern int (*ipc_shm_file)(const char *name, uint64_t size, struct file **out);

int shm_get(struct task *t, int key, uint64_t size, int flags) MUST_CHECK;
int shm_attach(struct task *t, int id, uint64_t addr, int flags, uint64_t *out) MUST_CHECK;
int shm_detach(struct task *t, uint64_t addr) MUST_CHECK;
/* The stat calls return the object's number for IPC_BY_SLOT*, else 0. */
int shm_stat(struct task *t, int id, enum ipc_find how, struct shmid_ds *out) MUST_CHECK;
int shm_set(struct task *t, int id, const struct shmid_ds *in) MUST_CHECK;
int shm_remove(struct task *t, int id) MUST_CHECK;
int shm_lock(struct task *t, int id, bool lock) MUST_CHECK;
/* The info calls return the highest slot in use. */
int shm_info(struct task *t, struct shm_info *out);
int shm_limits(struct task *t, struct shminfo *out);

/* ---- semaphores (sem.c) ---- */
/* A list of what exit undoes; tasks made with CLONE_SYSVSEM share it. */
struct sem_undo_list;

int sem_get(struct task *t, int key, int nsems, int flags) MUST_CHECK;
/* deadline: CLOCK_MONOTONIC ns, TIME_NEVER.  -EAGAIN also when it passes; -EINTR. */
int sem_op(struct task *t, int id, const struct sembuf *ops, unsigned n,
	   int64_t deadline) MUST_CHECK;
int sem_stat(struct task *t, int id, enum ipc_find how, struct semid_ds *out) MUST_CHECK;
int sem_set(struct task *t, int id, const struct semid_ds *in) MUST_CHECK;
int sem_remove(struct task *t, int id) MUST_CHECK;
/* IPC_INFO, or with `used` SEM_INFO. */
int sem_info(struct task *t, struct seminfo *out, bool used);
/* How many semaphores the set has. */
int sem_count(struct task *t, int id, bool write) MUST_CHECK;
/* `n` must be the set's number: else -EIDRM (it was replaced meanwhile). */
int sem_get_all(struct task *t, int id, uint16_t *values, unsigned n) MUST_CHECK;
int sem_set_all(struct task *t, int id, const uint16_t *values, unsigned n) MUST_CHECK;
int sem_set_value(struct task *t, int id, int num, int value) MUST_CHECK;
/* GETVAL, GETPID, GETNCNT, GETZCNT. */
int sem_query(struct task *t, int id, int num, int cmd) MUST_CHECK;
/* clone: shares the parent's list if flags say so.  -ENOMEM. */
int sem_undo_clone(struct task *t, struct task *child, uint64_t flags) MUST_CHECK;
/* The task leaves its list; the last one applies it. */
void sem_undo_exit(struct task *t);

/* ---- message queues (msg.c) ---- */
struct ipc_msg {
	struct list_head link;
	int64_t type;
	size_t size;
	char text[];
};

int msq_get(struct task *t, int key, int flags) MUST_CHECK;
/* Consumes m on success. -EAGAIN, -ERESTARTNOHAND */
int msq_send(struct task *t, int id, struct ipc_msg *m, int flags) MUST_CHECK;
/* *out is the caller's to free. */
int msq_receive(struct task *t, int id, uint64_t size, int64_t type, int flags,
		struct ipc_msg **out) MUST_CHECK;
int msq_stat(struct task *t, int id, enum ipc_find how, struct msqid_ds *out) MUST_CHECK;
int msq_set(struct task *t, int id, const struct msqid_ds *in) MUST_CHECK;
int msq_remove(struct task *t, int id) MUST_CHECK;
int msq_info(struct task *t, struct msginfo *out, bool used);

/* ---- /proc/sysvipc: the whole text, of the namespace of t, to be freed; NULL: no memory ---- */
char *shm_proc_text(struct task *t);
char *sem_proc_text(struct task *t);
char *msq_proc_text(struct task *t);

/* Inside of sentry/kernel/ipc: a semaphore set, shared by sem.c (operations) and sem_control.c. */
#pragma once

#include "sentry/kernel/ipc/ids.h"

struct semaphore {
	int value;
	int pid; /* who changed it last */
};

struct sem_set {
	struct ipc_object obj;
	struct list_head waiters; /* of struct sem_waiter, by arrival */
	struct list_head undos;	  /* of struct sem_undo */
	int64_t otime, ctime;
	unsigned n;
	struct semaphore sems[];
};

/* What the end of a process adds to one set's semaphores.  Freed with either of the two. */
struct sem_undo {
	struct list_head in_set, in_list;
	struct sem_set *set;
	int16_t adjust[];
};

struct sem_undo_list {
	unsigned refs; /* tasks that share it */
	struct list_head undos;
};

/* A task that sleeps in semop: on its own stack.  Unlinked by who ends the wait. */
struct sem_waiter {
	struct list_head link;
	struct task *t;
	int status; /* SEM_WAITING, or what semop returns */
	const struct sembuf *ops;
	unsigned n;
	struct sem_undo *undo; /* NULL: no SEM_UNDO among ops */
	const struct sembuf *blocking;
};
#define SEM_WAITING 1

static inline struct sem_set *sem_set_of(struct ipc_object *o)
{
	return container_of(o, struct sem_set, obj);
}

int sem_set_lookup(struct ipc_ns *ns, int id, int want, const struct cred *c,
		   struct sem_set **out) MUST_CHECK;
/* After values changed: lets those go on who now can. */
void sem_set_wake(struct sem_set *s);
void sem_wait_end(struct sem_waiter *w, int status);
void sem_undo_free(struct sem_undo *u);

/*
 * pid.h - process numbers and PID namespaces.  Source: pid_namespaces(7), clone(2).
 *
 * Every task has a number in its namespace and in each one above it: struct pid.  Inside the sentry
 * a process, thread, group or session goes by its number in the *top* namespace, which is that of
 * the sandbox: task.tid, thread_group.tgid and pgid, session.sid, and whatever remembers one (a
 * terminal's foreground group, a lock's owner …).  Where numbers come from a guest or go to it
 * they are translated: pid_from_guest(), pid_to_guest(), task_named().  In the top namespace this
 * costs nothing.
 *
 * A struct pid lives while a task bears it or a process group or session goes by its number.
 *
 * Locking: lc_tasks guards all of it; numbers are immutable, so that who knows a living task may
 * read its struct pid without.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/auth/ns.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"
#include "sentry/lib/list.h"

#define PID_NS_LEVEL_MAX 32
#define PID_MAX_DEFAULT 4194304
#define PID_MAX_LEAST 301
#define PID_RESERVED 300 /* numbers below are given once only, to daemons of the boot */

struct pid_ns {
	struct ns ns;
	struct pid_ns *parent; /* reference; NULL: the top one.  Immutable, as level */
	unsigned level;
	struct thread_group *init; /* borrowed; NULL: none yet, or it is gone */
	bool dead;		   /* its init has ended, or is ending: nobody may come in */
	int last;		   /* the number given last */
	int pid_max;
	int ntasks;	     /* that have a number here */
	struct task *ending; /* the init's last thread, which waits for ntasks */
};

struct pid_number {
	int nr;
	struct pid_ns *ns;
	struct list_head hash;
};

struct pid {
	unsigned users;	   /* the task, and each thread group in this process group or session */
	struct task *task; /* who bears it; NULL: gone */
	unsigned level;
	struct pid_number numbers[]; /* level + 1; the last one's namespace is held by reference */
};

extern struct pid_ns pid_ns_top;
extern const struct ns_type pid_ns_type;

void pid_init(void);
/* A set of namespaces holds that of a task's future children (NS_PID): task_pid_ns() is the one
 * that the task itself is in, for good. */
struct ns *pid_ns_top_get(void);
/* One below `parent`.  -ENOSPC: too deep, too many; -ENOMEM. */
int pid_ns_new(struct ns *parent, const struct ns_maker *m, struct ns **out) MUST_CHECK;
struct pid_ns *pid_ns_get(struct pid_ns *ns);
void pid_ns_put(struct pid_ns *ns);
static inline struct pid_ns *pid_ns_of(struct ns *ns)
{
	return container_of(ns, struct pid_ns, ns);
}
/* Is `ns` that one or below it? */
bool pid_ns_within(const struct pid_ns *ns, const struct pid_ns *above);

/* clone3(2): set_tid, for the namespace itself first, then those above it. */
struct pid_choice {
	unsigned n;
	int32_t nr[PID_NS_LEVEL_MAX];
};
/*
 * Numbers for t in ns and above; one user.  choice: NULL, all are free.  -EAGAIN: none left;
 * -ENOMEM: no memory, or ns is dead; -EEXIST, -EINVAL, -EPERM: of the choice.
 */
int pid_alloc(struct task *t, struct pid_ns *ns, const struct pid_choice *choice, struct pid **out)
	REQUIRES(lc_tasks) MUST_CHECK;
/* The task goes, or leaves its number to another one. */
void pid_leave(struct pid *p) REQUIRES(lc_tasks);
/* A thread group joins, or leaves, the process group or session that goes by this number. */
void pid_hold(int nr) REQUIRES(lc_tasks);
void pid_drop(int nr) REQUIRES(lc_tasks);

/* What ns calls p; 0: it does not see it. */
int pid_nr_in(const struct pid *p, const struct pid_ns *ns);
/* What its own namespace calls it. */
static inline int pid_nr_own(const struct pid *p)
{
	return p->numbers[p->level].nr;
}
/* The struct pid that ns calls nr, borrowed; NULL: none. */
struct pid *pid_lookup(const struct pid_ns *ns, int nr) REQUIRES(lc_tasks);
/* Numbers of the top namespace to those of ns (0: invisible), and back (-1: nobody).  Numbers ≤ 0
 * stay what they are. */
int pid_show(const struct pid_ns *ns, int nr) REQUIRES(lc_tasks);
int pid_resolve(const struct pid_ns *ns, int nr) REQUIRES(lc_tasks);

static inline struct pid_ns *task_pid_ns(const struct task *t)
{
	return t->tg->pid_ns;
}

static inline struct pid_ns *task_pid_ns_children(const struct task *t)
{
	return pid_ns_of(t->ns->of[NS_PID]);
}

/* The same for a task's own namespace; they take lc_tasks when they need it. */
int pid_to_guest(const struct task *t, int nr);
int pid_from_guest(const struct task *t, int nr);
/* Whom t means by this number, borrowed; NULL: nobody. */
struct task *task_named(const struct task *t, int nr) REQUIRES(lc_tasks);
struct thread_group *thread_group_named(const struct task *t, int nr) REQUIRES(lc_tasks);

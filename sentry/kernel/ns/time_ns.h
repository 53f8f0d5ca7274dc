/*
 * Time namespaces: what clocks that count from boot show.  Offsets are set before the first task is
 * in the namespace, and stay.  unshare(2) makes one for children: fork, execve(2) and setns(2) go
 * into it.  Source: time_namespaces(7).
 */
#pragma once

#include <sched.h>

#include "sentry/auth/ns.h"
#include "sentry/lib/compiler.h"
#include "sentry/time/offsets.h"

/* libc's header does not have it yet. */
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

struct cred;
struct ns_set;
struct task;

struct time_ns {
	struct ns ns;
	bool frozen;		     /* lc_tasks */
	struct time_offsets offsets; /* immutable once frozen, lc_tasks before */
};

extern const struct ns_type time_ns_type;

struct ns *time_ns_top_get(void); /* the sandbox's own, a reference; NULL: no memory */
int time_ns_new(struct ns *old, const struct ns_maker *m, struct ns **out) MUST_CHECK;
static inline struct time_ns *time_ns_of(struct ns *ns)
{
	return container_of(ns, struct time_ns, ns);
}

/* A set whose task runs in the namespace that was made for children: *s is replaced if it is not
 * so.  -ENOMEM. */
int ns_set_enter_time(struct ns_set **s) MUST_CHECK;

/* The task is in its namespace, and its address space: the vDSO there must not show the host's
 * clocks if they are not the task's. */
void task_show_own_time(struct task *t);
/* The offsets of the clocks that the task reads (none when it is in no namespace any more); the
 * task's own thread only. */
const struct time_offsets *task_time_offsets(const struct task *t);
/* The calling task's; none outside of a task. */
struct time_offsets time_offsets_here(void);

/* Those that children of the task will have. */
int task_child_offsets(struct task *t, struct time_offsets *out) MUST_CHECK;
/* Sets them; NULL: that one stays.  -EACCES: frozen; -ERANGE; -EPERM: `by` has no CAP_SYS_TIME. */
int task_set_child_offsets(struct task *t, const struct cred *by, const int64_t *monotonic,
			   const int64_t *boottime) MUST_CHECK;

/*
 * seccomp.h - what a guest may forbid itself: seccomp(2) filters and strict mode, and
 * prctl(2)'s syscall user dispatch.
 *
 * A *filter* is an immutable program with a link to the one before it: tasks point at the newest of
 * a chain, and share older ones.  task.seccomp only ever moves to a chain that contains the old
 * one, so whoever runs on the task may read it without a lock; changes happen under siglock.
 * A *listener* is the descriptor that answers a filter's SECCOMP_RET_USER_NOTIF (notify.c); a task
 * that waits for an answer is parked, and its struct notification lives on its fiber's stack.
 *
 * Threads under a filter take no answers from the platform (task loop, set_direct).  What the
 * platform lets guest code ask of the host by itself (systrap: futex, sched_yield, membarrier,
 * rseq) never comes by here.
 */
#pragma once

#include "sentry/kernel/seccomp/bpf.h"
#include "sentry/kernel/task.h"

struct seccomp_listener;

struct seccomp_filter {
	ref_t ref;		     /* tasks, newer filters, the listener */
	_Atomic unsigned users;	     /* tasks and newer filters: 0 means that no call will come */
	struct seccomp_filter *prev; /* reference and user, or NULL */
	struct seccomp_listener *listener; /* owned, or NULL */
	bool log;			   /* SECCOMP_FILTER_FLAG_LOG */
	bool wait_killable;
	unsigned depth; /* filters in the chain, with this one */
	size_t len, path_len;
	struct sock_filter prog[];
};

/* Inside a filter's listener field: made by seccomp_listener_new, freed with the filter. */
struct seccomp_listener *seccomp_listener_new(void);
void seccomp_listener_free(struct seccomp_listener *l);
/* The descriptor's file: takes a reference to f.  -ENOMEM. */
int seccomp_listener_file(struct seccomp_filter *f, struct file **out) MUST_CHECK;
/* Nobody uses the filter any more: its listener is told. */
void seccomp_listener_unused(struct seccomp_listener *l);
/* Asks f's listener.  True: the call goes on; false: *ret is its result. */
bool seccomp_ask(struct task *t, struct seccomp_filter *f, const struct seccomp_data *data,
		 long *ret);

void seccomp_filter_put(struct seccomp_filter *f);

/*
 * The calls, after copying.  seccomp_set_filter returns 0, a descriptor (NEW_LISTENER), the tid
 * that TSYNC failed on, or -errno.  prog is borrowed.
 */
long seccomp_set_filter(struct task *t, unsigned flags, const struct sock_filter *prog, size_t len);
int seccomp_set_strict(struct task *t) MUST_CHECK;
int seccomp_mode(const struct task *t); /* SECCOMP_MODE_* */
int seccomp_filter_count(const struct task *t);
bool seccomp_may_filter(const struct task *t); /* no_new_privs, or CAP_SYS_ADMIN */

/* A child gets its parent's state: the parent's siglock is held, and lc_tasks. */
void seccomp_inherit(struct task *parent, struct task *child) REQUIRES(lc_signal);
void seccomp_task_exit(struct task *t);

/*
 * Before a call is run: true when it may be.  Otherwise *ret is what rax becomes, and whatever
 * else the filters want (a signal, the end of the task) has been started.  `args` and number may
 * be changed by a tracer: they are read from the registers.
 */
bool seccomp_enter(struct task *t, long *ret);
/* Syscall user dispatch, which comes before everything else: true when the call may go on. */
bool sud_enter(struct task *t, long *ret);
int sud_set(struct task *t, uint64_t mode, uint64_t start, uint64_t len,
	    uint64_t selector) MUST_CHECK;

/*
 * ns_set.h - the namespaces that a task is in.
 *
 * Those of struct ns_set go together: the set is immutable once a task holds it, a change makes a
 * copy (as with credentials), and others read it through task_ns_get().  A task's mount namespace
 * is its fs_context's, since root and directory lie in it; its user namespace its credentials'.
 * ns_kinds is the one table of all that unshare(2), setns(2) and /proc/PID/ns know.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "sentry/auth/cred.h"
#include "sentry/auth/ns.h"

struct task;
struct fs_context;

enum ns_slot {
	NS_IPC,
	NS_NET,
	NS_CGROUP,
	NS_UTS,
	NS_PID, /* of the children that are yet to come: pid.h */
	NS_TIME,
	NS_TIME_CHILDREN,
	NS_SLOTS,
};

struct ns_set {
	ref_t ref;
	struct ns *of[NS_SLOTS]; /* references */
};

struct ns_set *ns_set_new(void); /* the sandbox's own of each kind; NULL: no memory */
struct ns_set *ns_set_get(struct ns_set *s);
void ns_set_put(struct ns_set *s);
/* A private copy, to change. */
struct ns_set *ns_set_dup(const struct ns_set *s);
/* Puts a namespace (consumes the reference) into a private set. */
void ns_set_replace(struct ns_set *s, enum ns_slot slot, struct ns *ns);
/*
 * New namespaces of the kinds in `flags` (CLONE_NEW*), with what the old ones hold where a kind
 * copies: *out is a fresh set.  Mounts and users are not its part.  ENOSPC, ENOMEM.
 */
int ns_set_unshare(const struct ns_set *old, uint64_t flags, const struct ns_maker *m,
		   struct ns_set **out) MUST_CHECK;

/* A reference for readers other than the task; NULL when it is exiting.  Takes lc_tasks. */
struct ns_set *task_ns_get(struct task *t);
/* Replaces the own set (consumes the reference). */
void task_set_ns(struct task *t, struct ns_set *set);

/*
 * unshare(2) and clone(2) with CLONE_NEWUSER: *out are private credentials of the task's user in a
 * new user namespace.  EPERM: the task is chrooted, or its ids have no mapping; ENOSPC.
 */
int task_new_user_ns(struct task *t, struct cred **out) MUST_CHECK;

/* What setns(2) is about to change: all is checked before any of it is done. */
struct ns_change {
	struct task *t;
	const struct cred *cred; /* as the task's will be: its own, or new_cred */
	struct cred *new_cred;	 /* owned; NULL: stays */
	struct ns_set *set;	 /* owned, a private copy */
	struct ns *mnt;		 /* reference; NULL: stays */
};

struct ns_kind {
	const struct ns_type *type;
	const char *name; /* in /proc/PID/ns */
	/* The task's, a reference; NULL: it has gone.  Takes lc_tasks. */
	struct ns *(*of_task)(struct task *t);
	/* May the task enter ns?  Notes it in the change.  NULL: only children are born in it. */
	int (*enter)(struct ns_change *ch, struct ns *ns);
};
/* In the order in which setns(2) enters several. */
extern const struct ns_kind ns_kinds[];
extern const size_t ns_kind_count;

/*
 * setns(2): enters ns, or (by pidfd) those namespaces of `target` that `flags` names.  EPERM,
 * EINVAL.
 */
int task_enter_ns(struct task *t, struct ns *ns) MUST_CHECK;
int task_enter_ns_of(struct task *t, struct task *target, uint64_t flags) MUST_CHECK;

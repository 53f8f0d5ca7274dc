/* Inside of sentry/kernel/ipc: numbers, keys and permissions.  All with lc_ipc held. */
#pragma once

#include "sentry/auth/user_ns.h"
#include "sentry/kernel/ipc/ipc.h"

/* S_IRUGO and the like: a wish in the form of mode bits for all three classes. */
#define IPC_READ 0444
#define IPC_WRITE 0222

/*
 * The *get calls' search.  1: *out is the object that exists, checked against `flags` but for what
 * its kind checks before permissions; 0: make one.  -ENOENT, -EEXIST.
 */
int ipc_search(struct ipc_ids *ids, int key, int flags, struct ipc_object **out) MUST_CHECK;
/* Gives the object a number and the caller as owner.  -ENOSPC, -ENOMEM. */
int ipc_add(struct ipc_ids *ids, struct ipc_object *o, int key, int mode,
	    const struct cred *c) MUST_CHECK;
void ipc_remove(struct ipc_ids *ids, struct ipc_object *o);
int ipc_lookup(const struct ipc_ids *ids, int id, struct ipc_object **out) MUST_CHECK;
int ipc_find(const struct ipc_ids *ids, int id, enum ipc_find how, const struct cred *c,
	     struct ipc_object **out) MUST_CHECK;
/* ipcperms(): -EACCES. */
int ipc_permitted(const struct ipc_object *o, int want, const struct cred *c) MUST_CHECK;
/* IPC_SET and IPC_RMID: owner, creator or CAP_SYS_ADMIN; -EPERM. */
int ipc_lookup_owned(const struct ipc_ids *ids, int id, const struct cred *c,
		     struct ipc_object **out) MUST_CHECK;
/* u: whose ids the guest means. */
int ipc_set_perm(struct ipc_object *o, const struct ipc_perm *in,
		 const struct user_ns *u) MUST_CHECK;
void ipc_fill_perm(const struct ipc_object *o, const struct user_ns *u, struct ipc_perm *out);
int ipc_highest(const struct ipc_ids *ids);
/* The object in this slot or the first one after it; NULL: none. */
struct ipc_object *ipc_next(const struct ipc_ids *ids, unsigned *slot);
/* Seconds of CLOCK_REALTIME. */
int64_t ipc_now(void);

/*
 * keys.h - keys and keyrings: what add_key(2), request_key(2) and keyctl(2) work on.
 *
 * A *key* has a type, a description, an owner, a mask of permissions and a payload; a *keyring* is
 * a key whose payload is links to keys.  A task *possesses* the keys that it finds from its thread,
 * process and session keyring.  Source: keyrings(7), keyctl(2), and the pages that those name.
 *
 * Locking: keys_lock (lc_keys) guards all of it, counts of references included; every function
 * here but those at the end wants it held.  It is never held across a copy from or to a guest.
 * Errors are -errno as in keyctl(2).
 */
#pragma once

#include <linux/keyctl.h>

#include "sentry/kernel/task.h"
#include "sentry/lib/rbtree.h"

#define KEY_DESC_MAX 4096
#define KEY_PAYLOAD_MAX (1024 * 1024 - 1)

/* Permissions, of one of the four sets: possessor, owner, group, others. */
#define KEY_VIEW 0x01u
#define KEY_READ 0x02u
#define KEY_WRITE 0x04u
#define KEY_SEARCH 0x08u
#define KEY_LINK 0x10u
#define KEY_SETATTR 0x20u
#define KEY_ALL 0x3fu
#define KEY_POS(bits) ((uint32_t)(bits) << 24)
#define KEY_USR(bits) ((uint32_t)(bits) << 16)
#define KEY_GRP(bits) ((uint32_t)(bits) << 8)
#define KEY_OTH(bits) ((uint32_t)(bits))

struct key_type {
	const char *name;
	size_t max;	   /* bytes of payload; 0: a keyring, which has none */
	bool readable;	   /* by keyctl(KEYCTL_READ) */
	bool needs_prefix; /* the description is "service:name" */
};

/* What the keys of one user id use, and the keyrings that belong to it. */
struct key_user {
	struct list_head link;
	uint32_t uid;
	size_t nkeys, nbytes;
	struct key *keyring, *session, *persistent; /* references; NULL: not made yet */
};

struct key {
	unsigned refs;
	struct rb_node node; /* by serial */
	int32_t serial;
	const struct key_type *type;
	char *desc; /* owned */
	uint32_t uid, gid, perm;
	int64_t expiry; /* CLOCK_REALTIME ns; 0: never */
	bool revoked;
	bool of_user;	       /* a user's or user-session keyring */
	bool restricted;       /* takes no links any more: KEYCTL_RESTRICT_KEYRING */
	struct key_user *user; /* who is charged */
	size_t charged;
	void *data; /* owned */
	size_t len;
	struct key **links; /* owned, with references: a keyring's */
	size_t nlinks;
	unsigned walk, walk_depth; /* keyring.c: the last walk that came here, and how deep */
};

struct key_ref {
	struct key *key; /* borrowed */
	bool possessed;
};

extern struct mutex keys_lock;
/* /proc/sys/kernel/keys: what one user may have; root has limits of its own. */
extern _Atomic int key_max_keys, key_max_bytes, key_root_max_keys, key_root_max_bytes;

/* ---- keys (key.c) ---- */
const struct key_type *key_type_find(const char *name); /* NULL: none */
bool key_is_keyring(const struct key *k);
/* A key with one reference, not in any keyring.  -EDQUOT, -ENOMEM. */
int key_new(const struct key_type *type, const char *desc, uint32_t uid, uint32_t gid,
	    uint32_t perm, struct key **out);
struct key *key_get(struct key *k);
void key_put(struct key *k); /* NULL: nothing */
/* Takes over `data` on success. */
int key_set_payload(struct key *k, void *data, size_t len);
int key_chown(struct key *k, uint32_t uid, uint32_t gid);
/* -EKEYREVOKED, -EKEYEXPIRED. */
int key_validate(const struct key *k);
bool key_permits(const struct cred *c, struct key_ref ref, unsigned need);
struct key *key_by_serial(int32_t serial);
struct key *key_next(int32_t from); /* the first with a serial ≥ from */
/* NULL: no memory, or too many users. */
struct key_user *key_user_find(uint32_t uid);
struct key_user *key_user_next(const struct key_user *u); /* NULL: from the first */
int key_charge(struct key *k, ssize_t bytes);		  /* -EDQUOT */

/* ---- keyrings (keyring.c) ---- */
/* Puts a link to k in the ring, in place of one to a key of the same type and description. */
int keyring_link(struct key *ring, struct key *k);
int keyring_unlink(struct key *ring, struct key *k); /* -ENOENT */
int keyring_clear(struct key *ring);
struct key *keyring_find(const struct key *ring, const struct key_type *type, const char *desc);
/* Takes k out of every keyring. */
void keyring_unlink_everywhere(struct key *k);

struct key_search {
	const struct cred *cred;
	const struct key *wanted; /* this very key, in whatever state; or NULL: */
	const struct key_type *type;
	const char *desc;
	int error; /* what a match that could not be used was wrong with; else -ENOKEY */
};
/* Looks through a ring and the rings that it links to; ->key NULL: not there. */
struct key_ref keyring_search(struct key_ref ring, struct key_search *s);
/* A ring of that name which this user may join; NULL. */
struct key *keyring_by_name(const struct cred *c, const char *name);

/* ---- a task's keyrings (process.c) ---- */
#define KEY_LOOKUP_CREATE 1u
#define KEY_LOOKUP_ANY_STATE 2u
/* The key of a serial number or KEY_SPEC_*, if the task has the permissions `need` for it. */
int key_lookup(struct task *t, int32_t id, unsigned flags, unsigned need, struct key_ref *out);
/* Searches all that the task possesses. */
struct key_ref key_search_task(struct task *t, struct key_search *s);
bool key_possessed(struct task *t, const struct key *k);
/* A new session keyring: anonymous (name NULL), or the one of that name, made if need be.  Its
 * serial; 0: the task has it already. */
int key_join_session(struct task *t, const char *name);
/* Where request_key(2) puts what it finds: the ring of keyctl(KEYCTL_SET_REQKEY_KEYRING). */
int key_default_ring(struct task *t, struct key_ref *out);
int key_persistent(struct task *t, uint32_t uid, struct key **out); /* borrowed */

/* ---- these take keys_lock ---- */
/* The parent gets the caller's session keyring.  -EPERM: they are not alike; -ENOKEY. */
int key_session_to_parent(struct task *t);
void keys_clone(struct task *t, struct task *child, uint64_t clone_flags);
void keys_exec(struct task *t);
void keys_task_free(struct task *t);
void keys_group_free(struct thread_group *tg);

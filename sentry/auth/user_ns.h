/*
 * user_ns.h - user namespaces: user_namespaces(7).
 *
 * Inside the sentry a user or group id is that of the top user namespace (Linux's kuid), whoever it
 * belongs to: credentials, inodes, IPC objects, messages.  Handlers convert where ids come from a
 * guest (uid_enter, gid_enter) and where they are shown to one (uid_show, gid_show), by the user
 * namespace of the task that asks.
 *
 * Locking: maps are written once and then read without a lock.  setgroups and the writing of maps
 * exclude each other by a lock of id_map.c; counts have one of ucount.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "sentry/auth/ns.h"
#include "sentry/lib/list.h"

struct cred;

#define ID_NONE 0xffffffffu
#define ID_OVERFLOW 65534u /* what an id that has no mapping is shown as */

enum id_kind { ID_UID, ID_GID, ID_PROJID, ID_KINDS };

struct id_extent {
	uint32_t first, lower, count; /* lower: of the top namespace */
};
struct id_map;

struct user_ns {
	struct ns ns;	    /* ns.owner is the parent */
	int level;	    /* how far below the top one; immutable, as below */
	uint32_t uid, gid;  /* the effective ids of who made it */
	bool maker_setfcap; /* he had CAP_SETFCAP: may map the parent's root, to give files caps */
	struct id_map *_Atomic map[ID_KINDS]; /* owned; NULL: not written yet (the top one: all) */
	_Atomic bool no_setgroups;	      /* /proc/PID/setgroups says "deny" */
	_Atomic int max[NS_COUNTS];	      /* namespaces of each kind that one user may have */
	struct list_head counts;	      /* struct ucount: of its users */
};

extern const struct ns_type user_ns_type;
extern struct user_ns user_ns_top; /* of the sandbox's first process; always there */

struct user_ns *user_ns_get(struct user_ns *u);
void user_ns_put(struct user_ns *u);
static inline struct user_ns *user_ns_of(struct ns *ns)
{
	return container_of(ns, struct user_ns, ns);
}
/*
 * A new one below that of c, who makes it: *out has a reference.  ENOSPC: too deep, too many;
 * EPERM: c's ids have no mapping there.
 */
int user_ns_new(const struct cred *c, struct user_ns **out) MUST_CHECK;
/* Is u `top` itself, or below it? */
bool user_ns_is_in(const struct user_ns *u, const struct user_ns *top);

/* ---- ids (id_map.c) ---- */
/* The inner form of an id that a guest in u names; ID_NONE: it has no mapping. */
uint32_t id_enter(const struct user_ns *u, enum id_kind kind, uint32_t id);
/* How u knows an id; ID_NONE: not at all. */
uint32_t id_leave(const struct user_ns *u, enum id_kind kind, uint32_t id);

static inline uint32_t uid_enter(const struct user_ns *u, uint32_t uid)
{
	return u == &user_ns_top ? uid : id_enter(u, ID_UID, uid);
}
static inline uint32_t gid_enter(const struct user_ns *u, uint32_t gid)
{
	return u == &user_ns_top ? gid : id_enter(u, ID_GID, gid);
}
static inline bool uid_mapped(const struct user_ns *u, uint32_t uid)
{
	return (u == &user_ns_top ? uid : id_leave(u, ID_UID, uid)) != ID_NONE;
}
static inline bool gid_mapped(const struct user_ns *u, uint32_t gid)
{
	return (u == &user_ns_top ? gid : id_leave(u, ID_GID, gid)) != ID_NONE;
}
/* For showing: what has no mapping is the overflow id. */
uint32_t id_show(const struct user_ns *u, enum id_kind kind, uint32_t id);
static inline uint32_t uid_show(const struct user_ns *u, uint32_t uid)
{
	return u == &user_ns_top && uid != ID_NONE ? uid : id_show(u, ID_UID, uid);
}
static inline uint32_t gid_show(const struct user_ns *u, uint32_t gid)
{
	return u == &user_ns_top && gid != ID_NONE ? gid : id_show(u, ID_GID, gid);
}

/* May tasks of u call setgroups(2)?  Only once groups are mapped, and unless that was denied. */
bool user_ns_may_setgroups(const struct user_ns *u);

/* Are users and groups mapped?  Then that does not change any more. */
static inline bool user_ns_is_mapped(const struct user_ns *u)
{
	return u == &user_ns_top || (atomic_load(&u->map[ID_UID]) && atomic_load(&u->map[ID_GID]));
}

/* Who writes to a file of /proc/PID. */
struct map_writer {
	const struct cred *opener, *task;
};
/* /proc/PID/{uid,gid,projid}_map: sets the map of u from text.  EINVAL, EPERM, ENOMEM. */
int user_ns_write_map(struct user_ns *u, enum id_kind kind, const char *text,
		      const struct map_writer *w) MUST_CHECK;
/* /proc/PID/setgroups.  EPERM: denied for good, or (deny) groups are mapped already. */
int user_ns_write_setgroups(struct user_ns *u, bool allow) MUST_CHECK;
/* The extents, as somebody in `reader` sees them (lower is ID_NONE where he does not); how many.
 * `e` has room for ID_MAP_MAX. */
#define ID_MAP_MAX 340
unsigned user_ns_read_map(const struct user_ns *u, enum id_kind kind, const struct user_ns *reader,
			  struct id_extent *e);
void id_map_free(struct id_map *m);

/* ---- limits (ucount.c) ---- */
/*
 * Counts one more namespace of that kind for user `uid` (inner form) of u, and for the makers of
 * the user namespaces above: ENOSPC at a limit, ENOMEM.  *out: for ucount_put().
 */
int ucount_get(struct user_ns *u, uint32_t uid, enum ns_count kind, struct ucount **out) MUST_CHECK;
void ucount_put(struct ucount *c, enum ns_count kind); /* accepts NULL */

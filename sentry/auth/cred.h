/*
 * Credentials: immutable once published; a change makes a copy.  A task replaces its pointer
 * under lc_tasks; others take a reference through task_cred_get().  Source: credentials(7),
 * capabilities(7).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sentry/auth/landlock.h"
#include "sentry/auth/user_ns.h"
#include "sentry/lib/compiler.h"
#include "sentry/lib/ref.h"

#define CAP_LAST 40
#define CAP_FULL ((1ULL << (CAP_LAST + 1)) - 1)
#define CAP_BIT(c) (1ULL << (c))

struct cred {
	ref_t ref;
	struct user_ns *user_ns; /* reference: what the ids and capabilities are relative to */
	uint32_t uid, euid, suid, fsuid;
	uint32_t gid, egid, sgid, fsgid;
	uint64_t cap_inheritable, cap_permitted, cap_effective, cap_bounding, cap_ambient;
	uint32_t securebits;
	size_t ngroups;
	uint32_t *groups;		  /* owned, sorted */
	struct landlock_domain *landlock; /* reference; NULL: none */
};

struct cred *cred_new_root(void);	     /* uid 0, all capabilities; NULL: no memory */
struct cred *cred_dup(const struct cred *c); /* private copy to change; NULL: no memory */
struct cred *cred_get(struct cred *c);
void cred_put(struct cred *c);
int cred_set_groups(struct cred *c, const uint32_t *groups, size_t n) MUST_CHECK; /* copies */
bool cred_in_group(const struct cred *c, uint32_t gid);	 /* fsgid or supplementary */
bool cred_in_egroup(const struct cred *c, uint32_t gid); /* egid or supplementary */
/*
 * Has c the capability over what belongs to user namespace u?  In its own by its sets; in those
 * below too, and all of them in one that its user made there: user_namespaces(7).
 */
bool cred_ns_capable(const struct cred *c, const struct user_ns *u, int cap);
/* … over what belongs to the whole sandbox. */
static inline bool cred_capable(const struct cred *c, int cap)
{
	return c->cap_effective & CAP_BIT(cap) && c->user_ns == &user_ns_top;
}
/* … over a file, or the like, of these owners: in the own user namespace, and they are mapped
 * there. */
bool cred_capable_over(const struct cred *c, uint32_t uid, uint32_t gid, int cap);
/* The user of credentials that are not published yet becomes all-powerful in u (takes a
 * reference), and powerless outside. */
void cred_enter_user_ns(struct cred *c, struct user_ns *u);
/* May whoever has c see (or trace) as much as one who has `other`: no fewer capabilities, or those
 * of a namespace below that his user made? */
bool cred_covers(const struct cred *c, const struct cred *other);
/* The capability rules of a change of user ids (capabilities(7), "Effect of user ID changes"). */
void cred_fix_caps_after_setuid(struct cred *new, const struct cred *old);
/* The same for setfsuid(2) alone. */
void cred_fix_caps_after_setfsuid(struct cred *new, const struct cred *old);
/* What a program file gives to whoever executes it: set-id bits, file capabilities. */
struct exec_grant {
	bool set_uid, set_gid;
	uint32_t uid, gid;
	bool has_caps, caps_effective;
	uint64_t caps_permitted, caps_inheritable;
};
enum {
	EXEC_NO_NEW_PRIVS = 1, /* the task has said so */
	EXEC_WATCHED = 2,      /* a tracer without privilege, or who shares root and directory */
};
/*
 * The rules of execve(2) and capabilities(7): new, a copy of old, becomes the program's.  `unsafe`:
 * what forbids a gain.  *secure: AT_SECURE.  EPERM: the file needs capabilities that it cannot
 * have.
 */
int cred_exec(struct cred *new, const struct cred *old, const struct exec_grant *g, unsigned unsafe,
	      bool *secure) MUST_CHECK;
/* After it: may the new program do what the old one might, and no more? */
bool cred_same_after_exec(const struct cred *new, const struct cred *old);

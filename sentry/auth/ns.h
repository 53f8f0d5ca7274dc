/*
 * ns.h - what all kinds of namespaces have in common: namespaces(7).
 *
 * struct ns is the header that each kind embeds; whoever holds a reference to it holds the
 * namespace.  `owner` is the user namespace that it was made in: who has a capability there has it
 * over the namespace.  How tasks refer to namespaces is sentry/kernel/ns/ns_set.h; how guests name
 * them (/proc/PID/ns, setns) is sentry/kernel/ns/nsfs.h.
 */
#pragma once

#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/lib/ref.h"

struct ns;
struct ucount;
struct user_ns;

/* What /proc/sys/user limits. */
enum ns_count {
	NS_COUNT_USER,
	NS_COUNT_PID,
	NS_COUNT_UTS,
	NS_COUNT_IPC,
	NS_COUNT_NET,
	NS_COUNT_MNT,
	NS_COUNT_CGROUP,
	NS_COUNT_TIME,
	NS_COUNTS,
};

struct ns_type {
	const char *name; /* as in "uts:[4026531838]" */
	uint32_t flag;	  /* CLONE_NEW* */
	enum ns_count count;
	/* The namespace above, borrowed, if there is one and the calling task may see it; else
	 * NULL. NULL: kinds without a tree, and users (whose parent is the owner). */
	struct ns *(*parent)(struct ns *ns);
	void (*free)(struct ns *ns); /* the last reference went; required */
};

struct ns {
	ref_t ref;
	const struct ns_type *type; /* immutable, as all below */
	uint64_t ino;		    /* st_ino of its files */
	struct user_ns *owner;	    /* reference; NULL: of the top user namespace */
	struct ucount *charge;	    /* counted for its maker; NULL: made by the sandbox */
};

/* The numbers that Linux gives to those of its first process. */
enum {
	NS_INO_MNT = 0xeffffff8u,
	NS_INO_IPC = 0xefffffffu,
	NS_INO_UTS = 0xeffffffeu,
	NS_INO_USER = 0xeffffffdu,
	NS_INO_PID = 0xeffffffcu,
	NS_INO_CGROUP = 0xeffffffbu,
	NS_INO_TIME = 0xeffffffau,
	NS_INO_NET = 0xeffffff9u,
};

/* One reference.  ino 0: a fresh number.  Takes a reference to owner. */
void ns_init(struct ns *ns, const struct ns_type *type, uint64_t ino, struct user_ns *owner);
/* On whose account a guest makes a namespace. */
struct ns_maker {
	struct user_ns *owner;
	uint32_t uid; /* the inner form of his effective id */
};
/* The same, counted for the maker.  ENOSPC, ENOMEM: nothing was done. */
int ns_make(struct ns *ns, const struct ns_type *type, const struct ns_maker *m) MUST_CHECK;
struct ns *ns_get(struct ns *ns);
void ns_put(struct ns *ns); /* accepts NULL */

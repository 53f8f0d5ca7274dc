/*
 * landlock.h - how a task sandboxes itself: landlock(7).
 *
 * A *ruleset* is what a program writes; by landlock_restrict() it becomes a *domain*, which goes
 * with credentials to all that the task makes.  A domain is a chain of layers, the newest first,
 * each immutable: what one layer handles and no rule of it allows is denied, whatever the others
 * say.  Who is in a domain may see and signal (as far as it is scoped) those in it or below.
 *
 * Here are rulesets, layers and their arithmetic; what a rule's object is does not matter here.
 * How paths are judged is in vfs/landlock.h, ports and sockets in net/.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/abi/landlock.h"
#include "sentry/lib/compiler.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"

#define LANDLOCK_LAYERS_MAX 16
#define LANDLOCK_RULES_MAX 65536 /* of a kind, in a ruleset: E2BIG */

enum landlock_kind {
	LANDLOCK_PATH, /* the key is what paths lead to: vfs/landlock.h */
	LANDLOCK_PORT, /* … a TCP port in host order */
	LANDLOCK_KINDS,
};

/* What keeps the key of a LANDLOCK_PATH rule valid. */
struct landlock_objects {
	void (*get)(void *object);
	void (*put)(void *object);
};

struct landlock_rule {
	uint64_t key;
	uint32_t access;
	void *object; /* reference, or NULL */
};

struct landlock_rules {
	struct landlock_rule *v; /* owned */
	size_t n, room;
};

/* Which rights are denied unless a rule allows them; and what is kept within the domain. */
struct landlock_handled {
	uint32_t access[LANDLOCK_KINDS];
	uint32_t scoped;
};

struct landlock_ruleset {
	struct landlock_handled handled;	/* immutable */
	const struct landlock_objects *objects; /* immutable */
	struct mutex lock;			/* lc_leaf: rules */
	struct landlock_rules rules[LANDLOCK_KINDS];
};

/* One layer; all immutable. */
struct landlock_domain {
	ref_t ref;
	struct landlock_domain *parent; /* reference: the layer below, or NULL */
	unsigned level;			/* 0: the lowest */
	struct landlock_handled handled;
	const struct landlock_objects *objects;
	struct landlock_rules rules[LANDLOCK_KINDS]; /* sorted by key, each key once */
};

struct landlock_ruleset *landlock_ruleset_new(const struct landlock_handled *h,
					      const struct landlock_objects *objects);
void landlock_ruleset_free(struct landlock_ruleset *rs);
/* Takes a reference to object, if there is one.  -ENOMEM, -E2BIG */
int landlock_rule_add(struct landlock_ruleset *rs, enum landlock_kind kind, uint64_t key,
		      uint32_t access, void *object) MUST_CHECK;
/* The domain of who is in `parent` (NULL: none) and restricts himself further.  -ENOMEM, -E2BIG */
int landlock_restrict(struct landlock_domain *parent, struct landlock_ruleset *rs,
		      struct landlock_domain **out) MUST_CHECK;

struct landlock_domain *landlock_domain_get(struct landlock_domain *d); /* accepts NULL */
void landlock_domain_put(struct landlock_domain *d);			/* accepts NULL */

/* Is who is in `other` in d as well, so that ptrace(2) by who is in d may be? */
bool landlock_domain_covers(const struct landlock_domain *d, const struct landlock_domain *other);
/* Does a layer of `client` keep him from what belongs to `server` (NULL: no domain)? */
bool landlock_is_scoped(const struct landlock_domain *client, const struct landlock_domain *server,
			uint32_t scope);

/* What all layers together handle; for paths with LL_REFER, which any such layer handles. */
uint32_t landlock_handled(const struct landlock_domain *d, enum landlock_kind kind);

/* For each right, by its bit's number: the layers, by their level's bit, that still deny it. */
struct landlock_denials {
	uint16_t layers[16];
};
/* As it is before any rule is looked at; returns the rights that are handled at all. */
uint32_t landlock_denials_init(const struct landlock_domain *d, enum landlock_kind kind,
			       uint32_t access, struct landlock_denials *m);
/* Applies the rules for key; true: nothing of `access` is denied any more. */
bool landlock_allow(const struct landlock_domain *d, enum landlock_kind kind, uint64_t key,
		    uint32_t access, struct landlock_denials *m);
/* Is something of `access` denied? */
bool landlock_denies(const struct landlock_denials *m, uint32_t access);
/* May who is in d (NULL: anybody) do that with the port? */
bool landlock_port_allowed(const struct landlock_domain *d, uint16_t port, uint32_t access);

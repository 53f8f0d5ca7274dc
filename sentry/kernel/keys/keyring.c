/* Keyrings: links, and the search through them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/keys/keys.h"

#define DEPTH_MAX 6  /* of rings within rings */
#define LINK_BYTES 4 /* what a link costs of the ring's quota */

static bool same_name(const struct key *k, const struct key_type *type, const char *desc)
{
	return k->type == type && !strcmp(k->desc, desc);
}

struct key *keyring_find(const struct key *ring, const struct key_type *type, const char *desc)
{
	for (size_t i = 0; i < ring->nlinks; i++)
		if (same_name(ring->links[i], type, desc))
			return ring->links[i];
	return NULL;
}

/*
 * Rings may be linked from many rings, so a walk that went wherever links lead could take a way for
 * each product of their numbers.  It enters a ring again only on a shorter way.
 */
static unsigned walks;

static bool enter(struct key *ring, int depth)
{
	if (ring->walk == walks && ring->walk_depth <= (unsigned)depth)
		return false;
	ring->walk = walks;
	ring->walk_depth = (unsigned)depth;
	return true;
}

/* Would `ring` below `top` close a circle, or make the rings too deep? */
static int check_circle(struct key *top, const struct key *ring, int depth)
{
	if (top == ring)
		return -EDEADLK;
	if (depth > DEPTH_MAX)
		return -ELOOP;
	/* Here the long ways count. */
	if (top->walk == walks && top->walk_depth >= (unsigned)depth)
		return 0;
	top->walk = walks;
	top->walk_depth = (unsigned)depth;
	for (size_t i = 0; i < top->nlinks; i++) {
		int err = key_is_keyring(top->links[i])
				  ? check_circle(top->links[i], ring, depth + 1)
				  : 0;
		if (err)
			return err;
	}
	return 0;
}

static int append(struct key *ring, struct key *k)
{
	struct key **links = reallocarray(ring->links, ring->nlinks + 1, sizeof(struct key *));

	if (!links)
		return -ENOMEM;
	ring->links = links;
	int err = key_charge(ring, LINK_BYTES);
	if (!err)
		links[ring->nlinks++] = key_get(k);
	return err;
}

int keyring_link(struct key *ring, struct key *k)
{
	if (!key_is_keyring(ring))
		return -ENOTDIR;
	int err = key_validate(ring);
	if (err)
		return err;
	if (ring->restricted)
		return -EPERM;
	walks++;
	if (key_is_keyring(k) && (err = check_circle(k, ring, 1)))
		return err;
	for (size_t i = 0; i < ring->nlinks; i++) {
		struct key *old = ring->links[i];
		if (same_name(old, k->type, k->desc)) {
			ring->links[i] = key_get(k);
			key_put(old);
			return 0;
		}
	}
	return append(ring, k);
}

int keyring_unlink(struct key *ring, struct key *k)
{
	if (!key_is_keyring(ring))
		return -ENOTDIR;
	for (size_t i = 0; i < ring->nlinks; i++) {
		if (ring->links[i] != k)
			continue;
		memmove(ring->links + i, ring->links + i + 1,
			(--ring->nlinks - i) * sizeof(struct key *));
		(void)!key_charge(ring, -LINK_BYTES);
		key_put(k);
		return 0;
	}
	return -ENOENT;
}

int keyring_clear(struct key *ring)
{
	if (!key_is_keyring(ring))
		return -ENOTDIR;
	while (ring->nlinks)
		(void)!keyring_unlink(ring, ring->links[ring->nlinks - 1]);
	return 0;
}

void keyring_unlink_everywhere(struct key *k)
{
	key_get(k);
	for (struct key *ring = key_next(1); ring; ring = key_next(ring->serial + 1))
		if (key_is_keyring(ring))
			(void)!keyring_unlink(ring, k);
	key_put(k);
}

static bool matches(const struct key *k, const struct key_search *s)
{
	return s->wanted ? k == s->wanted : same_name(k, s->type, s->desc);
}

/* Is k, a match, one that may be used?  If not, why is remembered. */
static bool usable(struct key_ref k, struct key_search *s)
{
	int err = s->wanted ? 0 : key_validate(k.key);

	if (!err && !key_permits(s->cred, k, KEY_SEARCH))
		err = -EACCES;
	if (err)
		s->error = err;
	return !err;
}

static struct key_ref search_ring(struct key_ref ring, struct key_search *s, int depth)
{
	const struct key_ref none = {NULL, false};

	for (size_t i = 0; i < ring.key->nlinks; i++) {
		struct key_ref k = {ring.key->links[i], ring.possessed};
		if (matches(k.key, s) && usable(k, s))
			return k;
	}
	if (depth >= DEPTH_MAX || !enter(ring.key, depth))
		return none;
	for (size_t i = 0; i < ring.key->nlinks; i++) {
		struct key_ref k = {ring.key->links[i], ring.possessed};
		if (!key_is_keyring(k.key) || key_validate(k.key) ||
		    !key_permits(s->cred, k, KEY_SEARCH))
			continue;
		struct key_ref found = search_ring(k, s, depth + 1);
		if (found.key)
			return found;
	}
	return none;
}

struct key_ref keyring_search(struct key_ref ring, struct key_search *s)
{
	if (!key_permits(s->cred, ring, KEY_SEARCH)) {
		s->error = -EACCES;
		return (struct key_ref){NULL, false};
	}
	if (matches(ring.key, s))
		return ring;
	walks++;
	return search_ring(ring, s, 1);
}

struct key *keyring_by_name(const struct cred *c, const char *name)
{
	for (struct key *k = key_next(1); k; k = key_next(k->serial + 1)) {
		struct key_ref ref = {k, false};
		if (key_is_keyring(k) && !key_validate(k) && !strcmp(k->desc, name) &&
		    key_permits(c, ref, KEY_SEARCH))
			return k;
	}
	return NULL;
}

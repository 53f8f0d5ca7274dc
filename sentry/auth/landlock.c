#include "sentry/auth/landlock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules ---- */

static int compare_rules(const void *a, const void *b)
{
	const struct landlock_rule *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static void put_object(const struct landlock_objects *objects, void *object)
{
	if (object)
		objects->put(object);
}

/* Sorts, and joins the rules of a key: dropped objects move to the end, [n, old n), without rules.
 * They are the caller's to put, where no lock is held. */
static size_t join_rules(struct landlock_rules *r)
{
	size_t n = 0, old = r->n;

	qsort(r->v, old, sizeof(*r->v), compare_rules);
	for (size_t i = 0; i < old; i++) {
		if (n && r->v[n - 1].key == r->v[i].key) {
			r->v[n - 1].access |= r->v[i].access;
			continue;
		}
		struct landlock_rule rule = r->v[i];
		r->v[i] = r->v[n];
		r->v[n++] = rule;
	}
	r->n = n;
	return old - n;
}

static void rules_fini(struct landlock_rules *r, const struct landlock_objects *objects)
{
	for (size_t i = 0; i < r->n; i++)
		put_object(objects, r->v[i].object);
	free(r->v);
}

/* A sorted copy, with references. */
static int rules_copy(const struct landlock_rules *from, const struct landlock_objects *objects,
		      struct landlock_rules *to)
{
	if (!from->n)
		return 0;
	to->v = malloc(from->n * sizeof(*to->v));
	if (!to->v)
		return -ENOMEM;
	memcpy(to->v, from->v, from->n * sizeof(*to->v));
	to->n = to->room = from->n;
	for (size_t i = 0; i < to->n; i++)
		if (to->v[i].object)
			objects->get(to->v[i].object);
	return 0;
}

struct landlock_ruleset *landlock_ruleset_new(const struct landlock_handled *h,
					      const struct landlock_objects *objects)
{
	struct landlock_ruleset *rs = calloc(1, sizeof(*rs));

	if (!rs)
		return NULL;
	rs->handled = *h;
	rs->objects = objects;
	mutex_init(&rs->lock);
	return rs;
}

void landlock_ruleset_free(struct landlock_ruleset *rs)
{
	for (int k = 0; k < LANDLOCK_KINDS; k++)
		rules_fini(&rs->rules[k], rs->objects);
	free(rs);
}

static int make_room(struct landlock_rules *r)
{
	if (r->n < r->room)
		return 0;
	if (r->n >= LANDLOCK_RULES_MAX)
		return -E2BIG;
	size_t room = r->room ? 2 * r->room : 8;
	struct landlock_rule *v = realloc(r->v, room * sizeof(*v));
	if (!v)
		return -ENOMEM;
	r->v = v;
	r->room = room;
	return 0;
}

static struct landlock_rule *find_unsorted(struct landlock_rules *r, uint64_t key)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->v[i].key == key)
			return &r->v[i];
	return NULL;
}

/* Programs add some dozens of rules: up to here a key is looked for among them. */
#define FEW_RULES 256

int landlock_rule_add(struct landlock_ruleset *rs, enum landlock_kind kind, uint64_t key,
		      uint32_t access, void *object)
{
	struct landlock_rules *r = &rs->rules[kind];
	int err = 0;

	mutex_lock(&rs->lock, &lc_leaf);
	struct landlock_rule *known = r->n <= FEW_RULES ? find_unsorted(r, key) : NULL;
	if (known) {
		known->access |= access;
	} else if (!(err = make_room(r))) {
		if (object)
			rs->objects->get(object);
		r->v[r->n++] = (struct landlock_rule){key, access, object};
	}
	mutex_unlock(&rs->lock, &lc_leaf);
	return err;
}

/* ---- domains ---- */

struct landlock_domain *landlock_domain_get(struct landlock_domain *d)
{
	if (d)
		ref_get(&d->ref);
	return d;
}

void landlock_domain_put(struct landlock_domain *d)
{
	while (d && ref_put(&d->ref)) {
		struct landlock_domain *parent = d->parent;

		for (int k = 0; k < LANDLOCK_KINDS; k++)
			rules_fini(&d->rules[k], d->objects);
		free(d);
		d = parent;
	}
}

static void sort_rules(struct landlock_domain *d, enum landlock_kind kind)
{
	struct landlock_rules *r = &d->rules[kind];
	size_t dropped = join_rules(r);

	for (size_t i = 0; i < dropped; i++)
		put_object(d->objects, r->v[r->n + i].object);
}

int landlock_restrict(struct landlock_domain *parent, struct landlock_ruleset *rs,
		      struct landlock_domain **out)
{
	int err = 0;

	if (parent && parent->level + 1 >= LANDLOCK_LAYERS_MAX)
		return -E2BIG;
	struct landlock_domain *d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	ref_init(&d->ref, 1);
	d->parent = landlock_domain_get(parent);
	d->level = parent ? parent->level + 1 : 0;
	d->handled = rs->handled;
	d->objects = rs->objects;
	mutex_lock(&rs->lock, &lc_leaf);
	for (int k = 0; k < LANDLOCK_KINDS && !err; k++)
		err = rules_copy(&rs->rules[k], rs->objects, &d->rules[k]);
	mutex_unlock(&rs->lock, &lc_leaf);
	if (err) {
		landlock_domain_put(d);
		return err;
	}
	for (int k = 0; k < LANDLOCK_KINDS; k++)
		if (d->rules[k].n)
			sort_rules(d, (enum landlock_kind)k);
	*out = d;
	return 0;
}

bool landlock_domain_covers(const struct landlock_domain *d, const struct landlock_domain *other)
{
	if (!d)
		return true;
	while (other && other->level > d->level)
		other = other->parent;
	return other == d;
}

bool landlock_is_scoped(const struct landlock_domain *client, const struct landlock_domain *server,
			uint32_t scope)
{
	/* A server's own layers above the client's do not matter; one that scopes the client has to
	 * be the server's, too. */
	while (server && client && server->level > client->level)
		server = server->parent;
	for (; client; client = client->parent) {
		bool level = server && server->level == client->level;
		if (client->handled.scoped & scope && (!level || server != client))
			return true;
		if (level)
			server = server->parent;
	}
	return false;
}

/* ---- rights ---- */

static uint32_t layer_handles(const struct landlock_domain *l, enum landlock_kind kind)
{
	uint32_t access = l->handled.access[kind];

	return kind == LANDLOCK_PATH && access ? access | LL_REFER : access;
}

uint32_t landlock_handled(const struct landlock_domain *d, enum landlock_kind kind)
{
	uint32_t all = 0;

	for (; d; d = d->parent)
		all |= layer_handles(d, kind);
	return all;
}

/* The number of the lowest right in *access, which is taken out of it. */
static int next_right(uint32_t *access)
{
	int bit = __builtin_ctz(*access);

	*access &= *access - 1;
	return bit;
}

uint32_t landlock_denials_init(const struct landlock_domain *d, enum landlock_kind kind,
			       uint32_t access, struct landlock_denials *m)
{
	uint32_t handled = 0;

	memset(m, 0, sizeof(*m));
	for (; d; d = d->parent) {
		uint32_t rights = layer_handles(d, kind) & access;
		handled |= rights;
		while (rights)
			m->layers[next_right(&rights)] |= (uint16_t)(1U << d->level);
	}
	return handled;
}

bool landlock_denies(const struct landlock_denials *m, uint32_t access)
{
	while (access)
		if (m->layers[next_right(&access)])
			return true;
	return false;
}

bool landlock_allow(const struct landlock_domain *d, enum landlock_kind kind, uint64_t key,
		    uint32_t access, struct landlock_denials *m)
{
	const struct landlock_rule want = {.key = key};
	bool any = false;

	if (!access)
		return true;
	for (; d; d = d->parent) {
		const struct landlock_rules *r = &d->rules[kind];
		const struct landlock_rule *rule =
			r->n ? bsearch(&want, r->v, r->n, sizeof(want), compare_rules) : NULL;
		uint32_t rights = rule ? rule->access & access : 0;

		any |= rule != NULL;
		while (rights)
			m->layers[next_right(&rights)] &= (uint16_t) ~(1U << d->level);
	}
	return any && !landlock_denies(m, access);
}

bool landlock_port_allowed(const struct landlock_domain *d, uint16_t port, uint32_t access)
{
	struct landlock_denials m;

	return !landlock_denials_init(d, LANDLOCK_PORT, access, &m) ||
	       landlock_allow(d, LANDLOCK_PORT, port, access, &m);
}

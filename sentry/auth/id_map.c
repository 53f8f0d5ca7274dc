/* Maps of ids between a user namespace and the top one: user_namespaces(7). */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/auth/cred.h"
#include "sentry/auth/user_ns.h"
#include "sentry/lib/lock.h"

#define UNSORTED_MAX 5 /* so few stay in the order in which they were written */

/* Immutable once a namespace has it. */
struct id_map {
	unsigned n;
	struct id_extent *down, *up; /* by first, by lower; up follows down in `e` */
	struct id_extent e[];
};

/* Who writes maps, or allows and denies setgroups. */
static struct mutex map_lock = MUTEX_INIT; /* lc_leaf */

void id_map_free(struct id_map *m)
{
	free(m);
}

/* ---- looking up ---- */

/* The extent whose `key` side has all of [id, id + count); NULL: none. */
static const struct id_extent *find(const struct id_extent *e, unsigned n, bool by_first,
				    uint32_t id, uint32_t count)
{
	for (unsigned low = 0, high = n; low < high;) {
		unsigned mid = n <= UNSORTED_MAX ? low : low + (high - low) / 2;
		uint32_t start = by_first ? e[mid].first : e[mid].lower;
		if (id >= start && id - start < e[mid].count)
			return count <= e[mid].count - (id - start) ? &e[mid] : NULL;
		if (n <= UNSORTED_MAX || id > start)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* The start of a range of `count` ids in the top namespace. */
static uint32_t range_down(const struct user_ns *u, enum id_kind kind, uint32_t id, uint32_t count)
{
	const struct id_map *m = atomic_load(&u->map[kind]);

	if (u == &user_ns_top)
		return count <= ID_NONE - id ? id : ID_NONE;
	const struct id_extent *e = m ? find(m->down, m->n, true, id, count) : NULL;
	return e ? e->lower + (id - e->first) : ID_NONE;
}

uint32_t id_enter(const struct user_ns *u, enum id_kind kind, uint32_t id)
{
	return range_down(u, kind, id, 1);
}

uint32_t id_leave(const struct user_ns *u, enum id_kind kind, uint32_t id)
{
	const struct id_map *m = atomic_load(&u->map[kind]);

	if (u == &user_ns_top || id == ID_NONE)
		return id;
	const struct id_extent *e = m ? find(m->up, m->n, false, id, 1) : NULL;
	return e ? e->first + (id - e->lower) : ID_NONE;
}

uint32_t id_show(const struct user_ns *u, enum id_kind kind, uint32_t id)
{
	uint32_t known = id_leave(u, kind, id);

	return known == ID_NONE ? ID_OVERFLOW : known;
}

unsigned user_ns_read_map(const struct user_ns *u, enum id_kind kind, const struct user_ns *reader,
			  struct id_extent *e)
{
	const struct id_map *m = atomic_load(&u->map[kind]);

	if (u == &user_ns_top) {
		e[0] = (struct id_extent){0, 0, ID_NONE};
		return 1;
	}
	if (reader == u)
		reader = u->ns.owner;
	for (unsigned i = 0; m && i < m->n; i++) {
		e[i] = m->down[i];
		e[i].lower = id_leave(reader, kind, e[i].lower);
	}
	return m ? m->n : 0;
}

/* ---- writing ---- */

static bool ranges_overlap(uint32_t a, uint32_t na, uint32_t b, uint32_t nb)
{
	return a <= b + (nb - 1) && b <= a + (na - 1);
}

static bool extents_overlap(const struct id_extent *a, const struct id_extent *b)
{
	return ranges_overlap(a->first, a->count, b->first, b->count) ||
	       ranges_overlap(a->lower, a->count, b->lower, b->count);
}

/* A number, as simple_strtoul() of the kernel takes it: digits only; what follows ends it. */
static const char *parse_number(const char *s, uint32_t *out)
{
	uint64_t v = 0;

	while (isspace((unsigned char)*s) && *s != '\n')
		s++;
	for (; *s >= '0' && *s <= '9'; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	*out = (uint32_t)v;
	return s;
}

static bool wraps(uint32_t start, uint32_t count)
{
	return start == ID_NONE || start + count <= start;
}

/* One line, up to `end`. */
static bool parse_line(const char *s, const char *end, struct id_extent *e)
{
	uint32_t *fields[] = {&e->first, &e->lower, &e->count};

	for (int i = 0; i < 3; i++) {
		s = parse_number(s, fields[i]);
		if (s < end && !isspace((unsigned char)*s))
			return false;
		if (s >= end && i < 2)
			return false;
	}
	while (s < end && isspace((unsigned char)*s))
		s++;
	return s == end && !wraps(e->first, e->count) && !wraps(e->lower, e->count);
}

/* The extents of a text, the lower ids still the parent's; how many, or -EINVAL. */
static int parse(const char *text, struct id_extent *e)
{
	int n = 0;

	for (const char *next = text; next; n++) {
		const char *end = strchrnul(next, '\n');
		if (n == ID_MAP_MAX || !parse_line(next, end, &e[n]))
			return -EINVAL;
		for (int i = 0; i < n; i++)
			if (extents_overlap(&e[i], &e[n]))
				return -EINVAL;
		next = *end && end[1] ? end + 1 : NULL;
	}
	return n;
}

/* Root of the parent may be mapped only by who could have given files capabilities there. */
static bool may_map_root(const struct user_ns *u, const struct id_extent *e, int n,
			 const struct map_writer *w)
{
	bool maps_root = false;

	for (int i = 0; i < n; i++)
		maps_root |= e[i].lower == 0;
	if (!maps_root)
		return true;
	if (w->opener->user_ns == u)
		return u->maker_setfcap;
	return cred_ns_capable(w->opener, u->ns.owner, CAP_SETFCAP);
}

/* user_namespaces(7), "Defining user and group ID mappings", the last rule. */
static bool may_map(const struct user_ns *u, enum id_kind kind, const struct id_extent *e, int n,
		    const struct map_writer *w)
{
	const struct user_ns *parent = u->ns.owner;
	const struct cred *c = w->opener;

	if (kind == ID_UID && !may_map_root(u, e, n, w))
		return false;
	/* Oneself alone, if one made the namespace. */
	if (n == 1 && e[0].count == 1 && u->uid == c->euid) {
		uint32_t id = id_enter(parent, kind, e[0].lower);
		if (kind == ID_UID && id == c->euid)
			return true;
		if (kind == ID_GID && id == c->egid && atomic_load(&u->no_setgroups))
			return true;
	}
	if (kind == ID_PROJID)
		return true;
	int cap = kind == ID_UID ? CAP_SETUID : CAP_SETGID;
	return cred_ns_capable(w->task, parent, cap) && cred_ns_capable(c, parent, cap);
}

static int by_first(const void *a, const void *b)
{
	const struct id_extent *x = a, *y = b;

	return (x->first > y->first) - (x->first < y->first);
}

static int by_lower(const void *a, const void *b)
{
	const struct id_extent *x = a, *y = b;

	return (x->lower > y->lower) - (x->lower < y->lower);
}

static struct id_map *map_new(const struct id_extent *e, int n)
{
	size_t size = (size_t)n * sizeof(*e);
	struct id_map *m = malloc(sizeof(*m) + 2 * size);

	if (!m)
		return NULL;
	m->n = (unsigned)n;
	m->down = m->e;
	m->up = m->e + n;
	memcpy(m->down, e, size);
	memcpy(m->up, e, size);
	if (n > UNSORTED_MAX) {
		qsort(m->down, (size_t)n, sizeof(*e), by_first);
		qsort(m->up, (size_t)n, sizeof(*e), by_lower);
	}
	return m;
}

/* Checks what needs the lock, and publishes. */
static int set_map(struct user_ns *u, enum id_kind kind, struct id_extent *e, int n,
		   const struct map_writer *w) REQUIRES(lc_leaf)
{
	if (!may_map(u, kind, e, n, w))
		return -EPERM;
	for (int i = 0; i < n; i++) {
		e[i].lower = range_down(u->ns.owner, kind, e[i].lower, e[i].count);
		if (e[i].lower == ID_NONE)
			return -EPERM;
	}
	struct id_map *m = map_new(e, n);
	if (!m)
		return -ENOMEM;
	atomic_store(&u->map[kind], m);
	return 0;
}

int user_ns_write_map(struct user_ns *u, enum id_kind kind, const char *text,
		      const struct map_writer *w)
{
	if (!u->ns.owner || (w->opener->user_ns != u && w->opener->user_ns != u->ns.owner))
		return -EPERM;
	struct id_extent *e = malloc(ID_MAP_MAX * sizeof(*e));
	if (!e)
		return -ENOMEM;
	mutex_lock(&map_lock, &lc_leaf);
	int err = 0, n = 0;
	if (atomic_load(&u->map[kind]))
		err = -EPERM;
	else if (kind != ID_PROJID && !cred_ns_capable(w->opener, u, CAP_SYS_ADMIN))
		err = -EPERM;
	else if ((n = parse(text, e)) < 0)
		err = n;
	else
		err = set_map(u, kind, e, n, w);
	mutex_unlock(&map_lock, &lc_leaf);
	free(e);
	return err;
}

bool user_ns_may_setgroups(const struct user_ns *u)
{
	return u == &user_ns_top ||
	       (atomic_load(&u->map[ID_GID]) && !atomic_load(&u->no_setgroups));
}

int user_ns_write_setgroups(struct user_ns *u, bool allow)
{
	int err = 0;

	mutex_lock(&map_lock, &lc_leaf);
	if (allow)
		err = atomic_load(&u->no_setgroups) ? -EPERM : 0;
	else if (u == &user_ns_top || atomic_load(&u->map[ID_GID]))
		err = -EPERM;
	else
		atomic_store(&u->no_setgroups, true);
	mutex_unlock(&map_lock, &lc_leaf);
	return err;
}

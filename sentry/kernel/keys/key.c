/* Keys: types, quotas, permissions, the table by serial number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/keys/keys.h"
#include "sentry/time/clock.h"

#define KEY_USERS_MAX 4096

struct mutex keys_lock = MUTEX_INIT;

_Atomic int key_max_keys = 200, key_max_bytes = 20000;
_Atomic int key_root_max_keys = 1000000, key_root_max_bytes = 25000000;

static const struct key_type types[] = {
	{.name = "keyring", .readable = true},
	{.name = "user", .max = 32767, .readable = true},
	{.name = "logon", .max = 32767, .needs_prefix = true},
	{.name = "big_key", .max = KEY_PAYLOAD_MAX, .readable = true},
};

static struct rb_root table;
static struct list_head users = LIST_HEAD_INIT(users);
static size_t nusers;

const struct key_type *key_type_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	return NULL;
}

bool key_is_keyring(const struct key *k)
{
	return k->type->max == 0;
}

/* ---- users and quotas ---- */

struct key_user *key_user_find(uint32_t uid)
{
	struct key_user *u;

	list_for_each (u, &users, link)
		if (u->uid == uid)
			return u;
	if (nusers >= KEY_USERS_MAX)
		return NULL;
	u = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	u->uid = uid;
	list_add_tail(&u->link, &users);
	nusers++;
	return u;
}

struct key_user *key_user_next(const struct key_user *u)
{
	const struct list_head *next = u ? u->link.next : users.next;

	return next == &users ? NULL : list_entry(next, struct key_user, link);
}

static bool within_quota(const struct key_user *u, size_t keys, size_t bytes)
{
	int max_keys = u->uid ? key_max_keys : key_root_max_keys;
	int max_bytes = u->uid ? key_max_bytes : key_root_max_bytes;

	return u->nkeys + keys <= (size_t)max_keys && u->nbytes + bytes <= (size_t)max_bytes;
}

int key_charge(struct key *k, ssize_t bytes)
{
	if (bytes > 0 && !within_quota(k->user, 0, (size_t)bytes))
		return -EDQUOT;
	k->user->nbytes += (size_t)bytes;
	k->charged += (size_t)bytes;
	return 0;
}

/* ---- the table ---- */

static struct key *key_of(const struct rb_node *n)
{
	return n ? rb_entry(n, struct key, node) : NULL;
}

struct key *key_next(int32_t from)
{
	struct rb_node *n = table.node;
	struct key *best = NULL;

	while (n) {
		struct key *k = key_of(n);
		if (k->serial >= from)
			best = k;
		n = k->serial >= from ? n->left : n->right;
	}
	return best;
}

struct key *key_by_serial(int32_t serial)
{
	struct key *k = key_next(serial);

	return k && k->serial == serial ? k : NULL;
}

/* Numbers that nobody counts on: a walk through all of them, from where the clock says. */
static int32_t serial_new(void)
{
	static uint32_t last;

	if (!last)
		last = (uint32_t)time_realtime();
	do
		last = last * 1664525u + 1013904223u;
	while ((last >> 1) < 3 || key_by_serial((int32_t)(last >> 1)));
	return (int32_t)(last >> 1);
}

static void table_insert(struct key *k)
{
	struct rb_node **link = &table.node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = k->serial < key_of(parent)->serial ? &parent->left : &parent->right;
	}
	rb_insert(&table, &k->node, parent, link);
}

/* ---- life ---- */

int key_new(const struct key_type *type, const char *desc, uint32_t uid, uint32_t gid,
	    uint32_t perm, struct key **out)
{
	struct key_user *user = key_user_find(uid);
	size_t size = strlen(desc) + 1;

	if (!user)
		return -ENOMEM;
	if (!within_quota(user, 1, size))
		return -EDQUOT;
	struct key *k = calloc(1, sizeof(*k));
	if (!k || !(k->desc = strdup(desc))) {
		free(k);
		return -ENOMEM;
	}
	k->refs = 1;
	k->type = type;
	k->uid = uid;
	k->gid = gid;
	k->perm = perm;
	k->user = user;
	k->charged = size;
	user->nkeys++;
	user->nbytes += size;
	k->serial = serial_new();
	table_insert(k);
	*out = k;
	return 0;
}

struct key *key_get(struct key *k)
{
	k->refs++;
	return k;
}

void key_put(struct key *k)
{
	if (!k || --k->refs)
		return;
	/* Rings within rings are at most a few deep (keyring.c). */
	for (size_t i = 0; i < k->nlinks; i++)
		key_put(k->links[i]);
	rb_erase(&table, &k->node);
	k->user->nkeys--;
	k->user->nbytes -= k->charged;
	free(k->links);
	free(k->data);
	free(k->desc);
	free(k);
}

int key_set_payload(struct key *k, void *data, size_t len)
{
	int err = key_charge(k, (ssize_t)len - (ssize_t)k->len);

	if (err)
		return err;
	free(k->data);
	k->data = data;
	k->len = len;
	k->expiry = 0;
	return 0;
}

int key_chown(struct key *k, uint32_t uid, uint32_t gid)
{
	if (uid != k->uid) {
		struct key_user *to = key_user_find(uid);
		if (!to)
			return -ENOMEM;
		if (!within_quota(to, 1, k->charged))
			return -EDQUOT;
		k->user->nkeys--;
		k->user->nbytes -= k->charged;
		to->nkeys++;
		to->nbytes += k->charged;
		k->user = to;
	}
	k->uid = uid;
	k->gid = gid;
	return 0;
}

int key_validate(const struct key *k)
{
	if (k->revoked)
		return -EKEYREVOKED;
	return k->expiry && time_realtime() >= k->expiry ? -EKEYEXPIRED : 0;
}

bool key_permits(const struct cred *c, struct key_ref ref, unsigned need)
{
	const struct key *k = ref.key;
	uint32_t bits;

	if (k->uid == c->fsuid)
		bits = k->perm >> 16;
	else if (k->perm & KEY_GRP(KEY_ALL) && cred_in_group(c, k->gid))
		bits = k->perm >> 8;
	else
		bits = k->perm;
	if (ref.possessed)
		bits |= k->perm >> 24;
	return (bits & need & KEY_ALL) == need;
}

/* add_key(2), request_key(2), keyctl(2).  What they act on: sentry/kernel/keys/keys.h. */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/keys/keys.h"
#include "sentry/lib/cleanup.h"
#include "sentry/time/clock.h"
#include "syscalls/syscalls.h"

#define TYPE_MAX 32
#define NS_PER_SEC 1000000000LL

/* What newer headers have. */
#define LINUX_KEYCTL_MOVE 30
#define LINUX_KEYCTL_CAPABILITIES 31
#define LINUX_KEYCTL_MOVE_EXCL 1u

static void lock(void) ACQUIRES(lc_keys)
{
	mutex_lock(&keys_lock, &lc_keys);
}

static long unlock(long result) RELEASES(lc_keys)
{
	mutex_unlock(&keys_lock, &lc_keys);
	return result;
}

/* ---- what comes from the guest ---- */

static int type_in(struct task *t, uaddr_t from, char type[TYPE_MAX])
{
	ssize_t n = copy_in_str(&t->um, type, from, TYPE_MAX);

	if (n < 0)
		return n == -ENAMETOOLONG ? -EINVAL : (int)n;
	if (n == 0)
		return -EINVAL;
	return type[0] == '.' ? -EPERM : 0;
}

/* *out: allocated; NULL where Linux takes none. */
static int string_in(struct task *t, uaddr_t from, char **out)
{
	char *s = malloc(KEY_DESC_MAX);

	*out = NULL;
	if (!s)
		return -ENOMEM;
	ssize_t n = copy_in_str(&t->um, s, from, KEY_DESC_MAX);
	if (n < 0) {
		free(s);
		return n == -ENAMETOOLONG ? -EINVAL : (int)n;
	}
	char *exact = realloc(s, (size_t)n + 1);
	*out = exact ? exact : s;
	return 0;
}

static int payload_in(struct task *t, uaddr_t from, uint64_t len, void **out)
{
	*out = NULL;
	if (len > KEY_PAYLOAD_MAX)
		return -EINVAL;
	if (!len)
		return 0;
	void *data = malloc(len);
	if (!data)
		return -ENOMEM;
	if (copy_in(&t->um, data, from, len)) {
		free(data);
		return -EFAULT;
	}
	*out = data;
	return 0;
}

static int payload_check(const struct key_type *type, const void *data, size_t len)
{
	if (type->max == 0)
		return len ? -EINVAL : 0;
	return !data || len > type->max ? -EINVAL : 0;
}

/* A copy of at most `size` bytes goes out; the answer is the whole length. */
static long answer(struct task *t, uaddr_t to, uint64_t size, const void *from, size_t len)
{
	if (!uaddr_is_null(to) && size && copy_out(&t->um, to, from, MIN(size, len)))
		return -EFAULT;
	return (long)len;
}

/* ---- add_key, request_key ---- */

static int key_create(struct task *t, const struct key_type *type, const char *desc,
		      struct key *ring, void **data, size_t len, struct key **out)
{
	uint32_t perm = KEY_POS(KEY_VIEW | KEY_SEARCH | KEY_LINK | KEY_SETATTR | KEY_WRITE) |
			KEY_USR(KEY_VIEW);
	struct key *k;

	if (type->readable)
		perm |= KEY_POS(KEY_READ);
	int err = key_new(type, desc, t->cred->fsuid, t->cred->fsgid, perm, &k);
	if (err)
		return err;
	if (!key_is_keyring(k) && !(err = key_set_payload(k, *data, len)))
		*data = NULL;
	if (!err)
		err = keyring_link(ring, k);
	*out = k;
	key_put(k); /* the ring has one, if it worked */
	return err;
}

static long add_key_locked(struct task *t, const struct key_type *type, const char *desc,
			   int32_t ring_id, void **data, size_t len)
{
	struct key_ref ring;
	struct key *k;
	int err = key_lookup(t, ring_id, KEY_LOOKUP_CREATE, KEY_WRITE, &ring);

	if (err)
		return err;
	if (!type)
		return -ENODEV;
	if (!key_is_keyring(ring.key))
		return -ENOTDIR;
	if ((err = payload_check(type, *data, len)))
		return err;
	if (!desc || !*desc)
		return -EINVAL;
	const char *colon = strchr(desc, ':');
	if (type->needs_prefix && (!colon || colon == desc))
		return -EINVAL;

	/* Keys whose payload can be set anew stay the same key. */
	struct key_ref old = {keyring_find(ring.key, type, desc), ring.possessed};
	if (old.key && !key_is_keyring(old.key)) {
		if (!key_permits(t->cred, old, KEY_WRITE))
			return -EACCES;
		if ((err = key_validate(old.key)) == -EKEYREVOKED)
			return err;
		if ((err = key_set_payload(old.key, *data, len)))
			return err;
		*data = NULL;
		return old.key->serial;
	}
	err = key_create(t, type, desc, ring.key, data, len, &k);
	return err ? err : k->serial;
}

long sys_add_key(struct task *t, uaddr_t utype, uaddr_t udesc, uaddr_t upayload, uint64_t len,
		 int ring)
{
	char type[TYPE_MAX];
	CLEANUP_FREE char *desc = NULL;
	CLEANUP_FREE void *data = NULL;
	int err;

	if (len > KEY_PAYLOAD_MAX)
		return -EINVAL;
	if ((err = type_in(t, utype, type)))
		return err;
	if (!uaddr_is_null(udesc) && (err = string_in(t, udesc, &desc)))
		return err;
	if (desc && desc[0] == '.' && !strncmp(type, "keyring", 7))
		return -EPERM;
	if ((err = payload_in(t, upayload, len, &data)))
		return err;
	lock();
	return unlock(add_key_locked(t, key_type_find(type), desc, ring, &data, len));
}

/*
 * Linux has a program of the host's make a key that is missing (request-key(8)).  Here nobody
 * does, so it stays missing, as where that program is not installed.
 */
static long request_key_locked(struct task *t, const char *type, const char *desc, int32_t dest)
{
	struct key_ref ring = {NULL, false};
	int err = 0;

	if (dest)
		err = key_lookup(t, dest, KEY_LOOKUP_CREATE, KEY_WRITE, &ring);
	if (err)
		return err;
	struct key_search s = {.cred = t->cred, .type = key_type_find(type), .desc = desc};
	if (!s.type)
		return -ENOKEY;
	struct key_ref found = key_search_task(t, &s);
	if (!found.key)
		return s.error;
	if (ring.key && (err = keyring_link(ring.key, found.key)))
		return err;
	return found.key->serial;
}

long sys_request_key(struct task *t, uaddr_t utype, uaddr_t udesc, uaddr_t callout, int dest)
{
	char type[TYPE_MAX];
	CLEANUP_FREE char *desc = NULL, *info = NULL;
	int err = type_in(t, utype, type);

	if (!err)
		err = string_in(t, udesc, &desc);
	if (!err && !uaddr_is_null(callout))
		err = string_in(t, callout, &info);
	if (err)
		return err;
	lock();
	return unlock(request_key_locked(t, type, desc, dest));
}

/* ---- keyctl: one function an operation ---- */

static long ctl_get_id(struct task *t, int32_t id, bool create)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, create ? KEY_LOOKUP_CREATE : 0, KEY_SEARCH, &k);
	return unlock(err ? err : k.key->serial);
}

static long ctl_join_session(struct task *t, uaddr_t uname)
{
	CLEANUP_FREE char *name = NULL;
	int err = uaddr_is_null(uname) ? 0 : string_in(t, uname, &name);

	if (err)
		return err;
	if (name && name[0] == '.')
		return -EPERM;
	if (name && !name[0])
		return -EINVAL;
	lock();
	return unlock(key_join_session(t, name));
}

static long ctl_update(struct task *t, int32_t id, uaddr_t from, uint64_t len)
{
	CLEANUP_FREE void *data = NULL;
	struct key_ref k;

	if (len > PAGE_SIZE)
		return -EINVAL;
	int err = payload_in(t, from, len, &data);
	if (err)
		return err;
	lock();
	err = key_lookup(t, id, 0, KEY_WRITE, &k);
	if (err)
		return unlock(err);
	if (key_is_keyring(k.key))
		return unlock(-EOPNOTSUPP);
	err = payload_check(k.key->type, data, len);
	if (!err && !(err = key_set_payload(k.key, data, len)))
		data = NULL;
	return unlock(err);
}

static long ctl_revoke(struct task *t, int32_t id)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, 0, KEY_WRITE, &k);
	if (err == -EACCES)
		err = key_lookup(t, id, 0, KEY_SETATTR, &k);
	if (err)
		return unlock(err);
	k.key->revoked = true;
	if (key_is_keyring(k.key))
		(void)!keyring_clear(k.key);
	return unlock(0);
}

static long ctl_invalidate(struct task *t, int32_t id)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, 0, KEY_SEARCH, &k);
	if (err)
		return unlock(err);
	k.key->revoked = true;
	keyring_unlink_everywhere(k.key);
	return unlock(0);
}

static bool owns(const struct task *t, const struct key *k)
{
	return k->uid == t->cred->fsuid || task_capable(t, CAP_SYS_ADMIN);
}

static long ctl_chown(struct task *t, int32_t id, uint32_t uid, uint32_t gid)
{
	struct key_ref k;

	uint32_t inner_uid = uid_enter(t->cred->user_ns, uid);
	uint32_t inner_gid = gid_enter(t->cred->user_ns, gid);
	if ((uid != UINT32_MAX && inner_uid == ID_NONE) ||
	    (gid != UINT32_MAX && inner_gid == ID_NONE))
		return -EINVAL;
	if (uid == UINT32_MAX && gid == UINT32_MAX)
		return 0;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_CREATE | KEY_LOOKUP_ANY_STATE, KEY_SETATTR, &k);
	if (err)
		return unlock(err);
	uint32_t new_uid = uid == UINT32_MAX ? k.key->uid : inner_uid;
	uint32_t new_gid = gid == UINT32_MAX ? k.key->gid : inner_gid;
	bool admin = task_capable(t, CAP_SYS_ADMIN);
	if (!admin &&
	    (new_uid != k.key->uid || (new_gid != k.key->gid && !cred_in_group(t->cred, new_gid))))
		return unlock(-EACCES);
	return unlock(key_chown(k.key, new_uid, new_gid));
}

static long ctl_setperm(struct task *t, int32_t id, uint32_t perm)
{
	const uint32_t all =
		KEY_POS(KEY_ALL) | KEY_USR(KEY_ALL) | KEY_GRP(KEY_ALL) | KEY_OTH(KEY_ALL);
	struct key_ref k;

	if (perm & ~all)
		return -EINVAL;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_CREATE | KEY_LOOKUP_ANY_STATE, KEY_SETATTR, &k);
	if (err)
		return unlock(err);
	if (!owns(t, k.key))
		return unlock(-EACCES);
	k.key->perm = perm;
	return unlock(0);
}

static long ctl_describe(struct task *t, int32_t id, uaddr_t to, uint64_t size)
{
	CLEANUP_FREE char *text = NULL;
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_ANY_STATE, KEY_VIEW, &k);
	if (err)
		return unlock(err);
	int n = asprintf(&text, "%s;%d;%d;%08x;%s", k.key->type->name,
			 (int)uid_show(t->cred->user_ns, k.key->uid),
			 (int)gid_show(t->cred->user_ns, k.key->gid), k.key->perm, k.key->desc);
	unlock(0);
	if (n < 0) {
		text = NULL;
		return -ENOMEM;
	}
	/* All of it or nothing. */
	return answer(t, to, size > (uint64_t)n ? size : 0, text, (size_t)n + 1);
}

static long ctl_clear(struct task *t, int32_t id)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_CREATE, KEY_WRITE, &k);
	return unlock(err ? err : keyring_clear(k.key));
}

static long ctl_link(struct task *t, int32_t id, int32_t ring_id)
{
	struct key_ref k, ring;

	lock();
	int err = key_lookup(t, ring_id, KEY_LOOKUP_CREATE, KEY_WRITE, &ring);
	if (!err)
		err = key_lookup(t, id, KEY_LOOKUP_CREATE, KEY_LINK, &k);
	return unlock(err ? err : keyring_link(ring.key, k.key));
}

static long ctl_unlink(struct task *t, int32_t id, int32_t ring_id)
{
	struct key_ref k, ring;

	lock();
	int err = key_lookup(t, ring_id, 0, KEY_WRITE, &ring);
	if (err)
		return unlock(err);
	err = key_lookup(t, id, KEY_LOOKUP_ANY_STATE, 0, &k);
	return unlock(err ? err : keyring_unlink(ring.key, k.key));
}

static long move_locked(struct task *t, int32_t id, int32_t from_id, int32_t to_id, bool excl)
{
	struct key_ref k, from, to;
	int err = key_lookup(t, id, KEY_LOOKUP_CREATE, KEY_LINK, &k);

	if (!err)
		err = key_lookup(t, from_id, 0, KEY_WRITE, &from);
	if (!err)
		err = key_lookup(t, to_id, KEY_LOOKUP_CREATE, KEY_WRITE, &to);
	if (err || from.key == to.key)
		return err;
	if (!key_is_keyring(from.key) || !key_is_keyring(to.key))
		return -ENOTDIR;
	if (keyring_find(from.key, k.key->type, k.key->desc) != k.key)
		return -ENOENT;
	if (excl && keyring_find(to.key, k.key->type, k.key->desc))
		return -EEXIST;
	if ((err = keyring_link(to.key, k.key)))
		return err;
	return keyring_unlink(from.key, k.key);
}

static long ctl_move(struct task *t, int32_t id, int32_t from, int32_t to, unsigned flags)
{
	if (flags & ~LINUX_KEYCTL_MOVE_EXCL)
		return -EINVAL;
	lock();
	return unlock(move_locked(t, id, from, to, flags & LINUX_KEYCTL_MOVE_EXCL));
}

static long search_locked(struct task *t, int32_t ring_id, const char *type, const char *desc,
			  int32_t dest)
{
	struct key_ref ring, to = {NULL, false};
	int err = key_lookup(t, ring_id, 0, KEY_SEARCH, &ring);

	if (!err && dest)
		err = key_lookup(t, dest, KEY_LOOKUP_CREATE, KEY_WRITE, &to);
	if (err)
		return err;
	struct key_search s = {
		.cred = t->cred, .type = key_type_find(type), .desc = desc, .error = -ENOKEY};
	if (!s.type)
		return -ENOKEY;
	if (!key_is_keyring(ring.key))
		return -ENOTDIR;
	struct key_ref found = keyring_search(ring, &s);
	if (!found.key)
		return s.error;
	if (to.key) {
		if (!key_permits(t->cred, found, KEY_LINK))
			return -EACCES;
		if ((err = keyring_link(to.key, found.key)))
			return err;
	}
	return found.key->serial;
}

static long ctl_search(struct task *t, int32_t ring, uaddr_t utype, uaddr_t udesc, int32_t dest)
{
	char type[TYPE_MAX];
	CLEANUP_FREE char *desc = NULL;
	int err = type_in(t, utype, type);

	if (!err)
		err = string_in(t, udesc, &desc);
	if (err)
		return err;
	lock();
	return unlock(search_locked(t, ring, type, desc, dest));
}

/* *out: an allocated copy of the payload, or of a ring's serials. */
static int payload_copy(const struct key *k, void **out, size_t *len)
{
	*len = key_is_keyring(k) ? k->nlinks * sizeof(int32_t) : k->len;
	*out = malloc(*len + 1);
	if (!*out)
		return -ENOMEM;
	if (!key_is_keyring(k)) {
		memcpy(*out, k->data, *len);
		return 0;
	}
	for (size_t i = 0; i < k->nlinks; i++)
		((int32_t *)*out)[i] = k->links[i]->serial;
	return 0;
}

static long ctl_read(struct task *t, int32_t id, uaddr_t to, uint64_t size)
{
	CLEANUP_FREE void *copy = NULL;
	struct key_ref k;
	size_t len = 0;

	lock();
	int err = key_lookup(t, id, 0, 0, &k);
	if (err)
		return unlock(err == -EINVAL ? -ENOKEY : err);
	/* What one possesses and may search may be read too. */
	if (!key_permits(t->cred, k, KEY_READ) && !(k.possessed && id > 0))
		err = -EACCES;
	else if (!k.key->type->readable)
		err = -EOPNOTSUPP;
	else
		err = payload_copy(k.key, &copy, &len);
	unlock(0);
	return err ? err : answer(t, to, size, copy, len);
}

static long ctl_default_ring(struct task *t, int which)
{
	int old = t->keys.default_ring;
	struct key_ref ring;
	int err = 0;

	if (which == KEY_REQKEY_DEFL_NO_CHANGE)
		return old;
	if (which < 0 || which > KEY_REQKEY_DEFL_USER_SESSION_KEYRING)
		return -EINVAL;
	lock();
	if (which == KEY_REQKEY_DEFL_THREAD_KEYRING)
		err = key_lookup(t, KEY_SPEC_THREAD_KEYRING, KEY_LOOKUP_CREATE, 0, &ring);
	else if (which == KEY_REQKEY_DEFL_PROCESS_KEYRING)
		err = key_lookup(t, KEY_SPEC_PROCESS_KEYRING, KEY_LOOKUP_CREATE, 0, &ring);
	if (!err)
		t->keys.default_ring = which;
	return unlock(err ? err : old);
}

static long ctl_timeout(struct task *t, int32_t id, unsigned seconds)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_CREATE | KEY_LOOKUP_ANY_STATE, KEY_SETATTR, &k);
	if (err)
		return unlock(err);
	k.key->expiry = seconds ? time_realtime() + seconds * NS_PER_SEC : 0;
	return unlock(0);
}

/* Nobody is ever asked to make a key for a request, so there is no authority to assume. */
static long ctl_assume_authority(int32_t id)
{
	return id < 0 ? -EINVAL : id == 0 ? 0 : -ENOKEY;
}

static long ctl_security(struct task *t, int32_t id, uaddr_t to, uint64_t size)
{
	struct key_ref k;

	lock();
	int err = key_lookup(t, id, KEY_LOOKUP_ANY_STATE, KEY_VIEW, &k);
	if (err)
		return unlock(err);
	unlock(0);
	return answer(t, to, size, "", 1); /* no security module labels it */
}

static long ctl_persistent(struct task *t, uint32_t uid, int32_t dest)
{
	struct key_ref to;
	struct key *ring;

	if (uid == UINT32_MAX)
		uid = t->cred->uid;
	else if ((uid = uid_enter(t->cred->user_ns, uid)) == ID_NONE)
		return -EINVAL;
	else if (uid != t->cred->uid && uid != t->cred->euid && !task_own_capable(t, CAP_SETUID))
		return -EPERM;

	lock();
	int err = key_lookup(t, dest, KEY_LOOKUP_CREATE, KEY_WRITE, &to);
	if (err)
		return unlock(err);
	if (!key_is_keyring(to.key))
		return unlock(-ENOTDIR);
	if (!(err = key_persistent(t, uid, &ring)) && !(err = keyring_link(to.key, ring)))
		return unlock(ring->serial);
	return unlock(err);
}

static long ctl_restrict(struct task *t, int32_t id, uaddr_t utype)
{
	char type[TYPE_MAX];
	struct key_ref k;
	int err = uaddr_is_null(utype) ? 0 : type_in(t, utype, type);

	if (err)
		return err;
	lock();
	err = key_lookup(t, id, 0, KEY_SETATTR, &k);
	if (err)
		return unlock(err);
	if (!key_is_keyring(k.key))
		return unlock(-ENOTDIR);
	/* No type that exists here restricts by itself. */
	if (!uaddr_is_null(utype))
		return unlock(-ENOENT);
	if (k.key->restricted)
		return unlock(-EEXIST);
	k.key->restricted = true;
	return unlock(0);
}

/* Persistent keyrings, big keys, invalidation, restriction, moves. */
static long ctl_capabilities(struct task *t, uaddr_t to, uint64_t size)
{
	const uint8_t caps[2] = {0x01 | 0x02 | 0x10 | 0x20 | 0x40 | 0x80, 0};

	if (size > sizeof(caps)) {
		CLEANUP_FREE uint8_t *zeros = size > PAGE_SIZE ? NULL : calloc(1, size);
		if (!zeros || copy_out(&t->um, to, zeros, size))
			return -EFAULT;
	}
	return answer(t, to, size, caps, sizeof(caps));
}

long sys_keyctl(struct task *t, int op, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	int32_t id = (int32_t)a, id2 = (int32_t)b;

	switch (op) {
	case KEYCTL_GET_KEYRING_ID:
		return ctl_get_id(t, id, id2);
	case KEYCTL_JOIN_SESSION_KEYRING:
		return ctl_join_session(t, UADDR(a));
	case KEYCTL_UPDATE:
		return ctl_update(t, id, UADDR(b), c);
	case KEYCTL_REVOKE:
		return ctl_revoke(t, id);
	case KEYCTL_CHOWN:
		return ctl_chown(t, id, (uint32_t)b, (uint32_t)c);
	case KEYCTL_SETPERM:
		return ctl_setperm(t, id, (uint32_t)b);
	case KEYCTL_DESCRIBE:
		return ctl_describe(t, id, UADDR(b), c);
	case KEYCTL_CLEAR:
		return ctl_clear(t, id);
	case KEYCTL_LINK:
		return ctl_link(t, id, id2);
	case KEYCTL_UNLINK:
		return ctl_unlink(t, id, id2);
	case KEYCTL_SEARCH:
		return ctl_search(t, id, UADDR(b), UADDR(c), (int32_t)d);
	case KEYCTL_READ:
		return ctl_read(t, id, UADDR(b), c);
	case KEYCTL_INSTANTIATE:
	case KEYCTL_NEGATE:
	case KEYCTL_REJECT:
	case KEYCTL_INSTANTIATE_IOV:
		return -EPERM;
	case KEYCTL_SET_REQKEY_KEYRING:
		return ctl_default_ring(t, id);
	case KEYCTL_SET_TIMEOUT:
		return ctl_timeout(t, id, (unsigned)b);
	case KEYCTL_ASSUME_AUTHORITY:
		return ctl_assume_authority(id);
	case KEYCTL_GET_SECURITY:
		return ctl_security(t, id, UADDR(b), c);
	case KEYCTL_SESSION_TO_PARENT:
		return key_session_to_parent(t);
	case KEYCTL_INVALIDATE:
		return ctl_invalidate(t, id);
	case KEYCTL_GET_PERSISTENT:
		return ctl_persistent(t, (uint32_t)a, id2);
	case KEYCTL_RESTRICT_KEYRING:
		return ctl_restrict(t, id, UADDR(b));
	case LINUX_KEYCTL_MOVE:
		return ctl_move(t, id, id2, (int32_t)c, (unsigned)d);
	case LINUX_KEYCTL_CAPABILITIES:
		return ctl_capabilities(t, UADDR(a), b);
	}
	return -EOPNOTSUPP;
}

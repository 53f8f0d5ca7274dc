/* The keyrings that a task finds its keys from: its thread's, process', session's and user's. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>

#include "sentry/kernel/keys/keys.h"

#define RING_PERM (KEY_POS(KEY_ALL) | KEY_USR(KEY_VIEW))
#define SESSION_PERM (RING_PERM | KEY_USR(KEY_READ))
#define USER_PERM (KEY_POS(KEY_ALL & ~KEY_SETATTR) | KEY_USR(KEY_ALL))
#define PERSISTENT_PERM (KEY_USR(KEY_ALL & ~KEY_SETATTR))

static int ring_new(const struct task *t, const char *desc, uint32_t perm, struct key **out)
{
	return key_new(key_type_find("keyring"), desc, t->cred->uid, t->cred->gid, perm, out);
}

static int ring_made(const struct task *t, struct key **ring, const char *desc)
{
	return *ring ? 0 : ring_new(t, desc, RING_PERM, ring);
}

/* The rings of the task's user id, which refer to no task. */
static int user_rings(const struct task *t, struct key_user **out)
{
	struct key_user *u = key_user_find(t->cred->uid);
	char name[32];
	int err = 0;

	if (!u)
		return -ENOMEM;
	if (!u->keyring) {
		snprintf(name, sizeof(name), "_uid.%u", u->uid);
		if ((err = ring_new(t, name, USER_PERM, &u->keyring)))
			return err;
		u->keyring->of_user = true;
	}
	if (!u->session) {
		struct key *session;
		snprintf(name, sizeof(name), "_uid_ses.%u", u->uid);
		if ((err = ring_new(t, name, USER_PERM, &session)))
			return err;
		session->of_user = true;
		if ((err = keyring_link(session, u->keyring)))
			key_put(session);
		else
			u->session = session;
	}
	*out = u;
	return err;
}

static void set_session(struct task *t, struct key *ring)
{
	key_put(t->keys.session);
	t->keys.session = ring;
}

int key_join_session(struct task *t, const char *name)
{
	struct key *ring;
	int err;

	if (!name) {
		if ((err = ring_new(t, "_ses", SESSION_PERM, &ring)))
			return err;
	} else if ((ring = keyring_by_name(t->cred, name))) {
		if (ring == t->keys.session)
			return 0;
		key_get(ring);
	} else if ((err = ring_new(t, name, SESSION_PERM | KEY_USR(KEY_LINK), &ring))) {
		return err;
	}
	set_session(t, ring);
	return ring->serial;
}

static int session_ring(struct task *t, bool create, struct key **out)
{
	struct key_user *u;
	int err = 0;

	if (t->keys.session && !(t->keys.session->of_user && create)) {
		*out = t->keys.session;
		return 0;
	}
	if ((err = user_rings(t, &u)))
		return err;
	if (create)
		err = key_join_session(t, NULL);
	else
		set_session(t, key_get(u->session));
	*out = t->keys.session;
	return MIN(err, 0);
}

static int special_ring(struct task *t, int32_t id, bool create, struct key **out)
{
	struct key_user *u;
	int err = 0;

	switch (id) {
	case KEY_SPEC_THREAD_KEYRING:
		if (create)
			err = ring_made(t, &t->keys.thread, "_tid");
		*out = t->keys.thread;
		break;
	case KEY_SPEC_PROCESS_KEYRING:
		if (create)
			err = ring_made(t, &t->tg->process_keyring, "_pid");
		*out = t->tg->process_keyring;
		break;
	case KEY_SPEC_SESSION_KEYRING:
		return session_ring(t, create, out);
	case KEY_SPEC_USER_KEYRING:
	case KEY_SPEC_USER_SESSION_KEYRING:
		if (!(err = user_rings(t, &u)))
			*out = id == KEY_SPEC_USER_KEYRING ? u->keyring : u->session;
		return err;
	case KEY_SPEC_REQKEY_AUTH_KEY: /* no task ever makes a key for another's request */
	case KEY_SPEC_REQUESTOR_KEYRING:
		return -ENOKEY;
	default:
		return -EINVAL;
	}
	return err ? err : *out ? 0 : -ENOKEY;
}

struct key_ref key_search_task(struct task *t, struct key_search *s)
{
	struct key *session = t->keys.session;
	struct key_user *u;

	if (!session && (u = key_user_find(t->cred->uid)))
		session = u->session;
	struct key *const rings[] = {t->keys.thread, t->tg->process_keyring, session};
	bool missing = false;

	s->error = -ENOKEY;
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		if (!rings[i])
			continue;
		s->error = -ENOKEY;
		struct key_ref found = keyring_search((struct key_ref){rings[i], true}, s);
		if (found.key)
			return found;
		missing |= s->error == -ENOKEY;
	}
	/* A ring that simply has no such key outweighs one that has a bad one. */
	if (missing)
		s->error = -ENOKEY;
	return (struct key_ref){NULL, false};
}

bool key_possessed(struct task *t, const struct key *k)
{
	struct key_search s = {.cred = t->cred, .wanted = k};

	return key_search_task(t, &s).key;
}

int key_lookup(struct task *t, int32_t id, unsigned flags, unsigned need, struct key_ref *out)
{
	int err = 0;

	if (id > 0) {
		out->key = key_by_serial(id);
		if (!out->key)
			return -ENOKEY;
		out->possessed = key_possessed(t, out->key);
	} else {
		err = special_ring(t, id, flags & KEY_LOOKUP_CREATE, &out->key);
		if (err)
			return err;
		out->possessed = true;
	}
	if (!(flags & KEY_LOOKUP_ANY_STATE) && (err = key_validate(out->key)))
		return err;
	return key_permits(t->cred, *out, need) ? 0 : -EACCES;
}

int key_default_ring(struct task *t, struct key_ref *out)
{
	struct key_user *u;
	int err = 0;

	out->possessed = true;
	switch (t->keys.default_ring) {
	case KEY_REQKEY_DEFL_DEFAULT:
	case KEY_REQKEY_DEFL_THREAD_KEYRING:
		if ((out->key = t->keys.thread))
			return 0;
		/* fallthrough */
	case KEY_REQKEY_DEFL_PROCESS_KEYRING:
		if ((out->key = t->tg->process_keyring))
			return 0;
		/* fallthrough */
	case KEY_REQKEY_DEFL_SESSION_KEYRING:
		if ((out->key = t->keys.session))
			return 0;
		/* fallthrough */
	case KEY_REQKEY_DEFL_USER_SESSION_KEYRING:
		if (!(err = user_rings(t, &u)))
			out->key = u->session;
		return err;
	case KEY_REQKEY_DEFL_USER_KEYRING:
		if (!(err = user_rings(t, &u)))
			out->key = u->keyring;
		return err;
	}
	out->key = NULL;
	return 0;
}

int key_persistent(struct task *t, uint32_t uid, struct key **out)
{
	struct key_user *u = key_user_find(uid);
	char name[32];

	if (!u)
		return -ENOMEM;
	snprintf(name, sizeof(name), "_persistent.%u", uid);
	int err = u->persistent ? 0
				: key_new(key_type_find("keyring"), name, uid, t->cred->gid,
					  PERSISTENT_PERM, &u->persistent);
	*out = u->persistent;
	return err;
}

/* keyctl(2), KEYCTL_SESSION_TO_PARENT: is the parent like the task, so that it may get the ring? */
static bool parent_takes(const struct task *t, const struct task *parent)
{
	const struct cred *a = parent->cred, *b = t->cred;

	return a->uid == b->euid && a->euid == b->euid && a->suid == b->euid && a->gid == b->egid &&
	       a->egid == b->egid && a->sgid == b->egid && t->keys.session->uid == b->euid &&
	       parent->mm != t->mm;
}

int key_session_to_parent(struct task *t)
{
	int err = -EPERM;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	mutex_lock(&keys_lock, &lc_keys);
	const struct thread_group *tg = t->tg->parent;
	struct task *parent = tg && tg->nthreads == 1 && !tg->zombie ? tg->leader : NULL;
	if (!t->keys.session) {
		err = -ENOKEY;
	} else if (parent && parent_takes(t, parent)) {
		set_session(parent, key_get(t->keys.session));
		err = 0;
	}
	mutex_unlock(&keys_lock, &lc_keys);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

void keys_clone(struct task *t, struct task *child, uint64_t clone_flags)
{
	mutex_lock(&keys_lock, &lc_keys);
	child->keys.default_ring = t->keys.default_ring;
	if (t->keys.session)
		child->keys.session = key_get(t->keys.session);
	/* A ring of its own, when the creating thread has one.  Without it, it is made later. */
	if (clone_flags & CLONE_THREAD && t->keys.thread)
		(void)!ring_made(child, &child->keys.thread, "_tid");
	mutex_unlock(&keys_lock, &lc_keys);
}

void keys_exec(struct task *t)
{
	mutex_lock(&keys_lock, &lc_keys);
	key_put(steal(t->keys.thread));
	key_put(steal(t->tg->process_keyring));
	mutex_unlock(&keys_lock, &lc_keys);
}

void keys_task_free(struct task *t)
{
	if (!t->keys.thread && !t->keys.session)
		return;
	mutex_lock(&keys_lock, &lc_keys);
	key_put(t->keys.thread);
	key_put(t->keys.session);
	mutex_unlock(&keys_lock, &lc_keys);
}

void keys_group_free(struct thread_group *tg)
{
	if (!tg->process_keyring)
		return;
	mutex_lock(&keys_lock, &lc_keys);
	key_put(tg->process_keyring);
	mutex_unlock(&keys_lock, &lc_keys);
}

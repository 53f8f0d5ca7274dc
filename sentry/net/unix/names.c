/* Names of unix sockets: in the file system, abstract, and made up (autobind). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/net/unix/unix_sock.h"

#define BUCKETS 64
#define MAY_WRITE 2

static struct mutex names_lock; /* lc_net */
static struct list_head abstract_names[BUCKETS];
static bool tables_ready; /* names_lock */

struct unix_addr *unix_addr_get(struct unix_addr *a)
{
	if (a)
		ref_get(&a->ref);
	return a;
}

void unix_addr_put(struct unix_addr *a)
{
	if (a && ref_put(&a->ref))
		free(a);
}

void unix_addr_copy(const struct unix_addr *from, struct sock_addr *to)
{
	if (from) {
		to->len = from->a.len;
		memcpy(to->bytes, from->a.bytes, from->a.len);
	} else {
		to->len = UNIX_ADDR_MIN;
		to->family = AF_UNIX;
	}
}

static struct unix_addr *addr_new(const void *path, uint32_t len)
{
	struct unix_addr *a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	ref_init(&a->ref, 1);
	a->a.family = AF_UNIX;
	memcpy(a->a.bytes + UNIX_ADDR_MIN, path, len);
	a->a.len = UNIX_ADDR_MIN + len;
	return a;
}

static bool is_abstract(const struct sock_addr *a)
{
	return a->bytes[UNIX_ADDR_MIN] == 0;
}

/* The name of a path address as a string.  Linux adds the NUL that callers may leave out. */
static size_t path_string(const struct sock_addr *a, char *buf)
{
	size_t n = strnlen((const char *)a->bytes + UNIX_ADDR_MIN, a->len - UNIX_ADDR_MIN);

	memcpy(buf, a->bytes + UNIX_ADDR_MIN, n);
	buf[n] = '\0';
	return n;
}

static int addr_check(const struct sock_addr *a)
{
	if (a->len < UNIX_ADDR_MIN || a->len > UNIX_ADDR_LEN || a->family != AF_UNIX)
		return -EINVAL;
	return 0;
}

/* ---- abstract names; names_lock held ---- */

static struct list_head *bucket(const struct sock_addr *a, int type)
{
	uint32_t h = 2166136261u ^ (uint32_t)type;

	if (!tables_ready) {
		for (int i = 0; i < BUCKETS; i++)
			list_init(&abstract_names[i]);
		tables_ready = true;
	}
	for (uint32_t i = UNIX_ADDR_MIN; i < a->len; i++)
		h = (h ^ a->bytes[i]) * 16777619u;
	return &abstract_names[h % BUCKETS];
}

static struct unix_sock *abstract_find(const struct sock_addr *a, int type, const struct ns *net)
{
	struct list_head *b = bucket(a, type);
	struct unix_sock *u;

	list_for_each (u, b, name_node) {
		const struct unix_addr *have = u->addr;
		if (u->s.type == type && u->s.net == net && have->a.len == a->len &&
		    !memcmp(have->a.bytes, a->bytes, a->len))
			return u;
	}
	return NULL;
}

/* Consumes addr on success. */
static int abstract_claim(struct unix_sock *u, struct unix_addr *addr)
{
	int err = 0;

	mutex_lock(&names_lock, &lc_net);
	if (abstract_find(&addr->a, u->s.type, u->s.net)) {
		err = -EADDRINUSE;
	} else {
		u->addr = addr;
		u->in_names = true;
		list_add(&u->name_node, bucket(&addr->a, u->s.type));
	}
	mutex_unlock(&names_lock, &lc_net);
	return err;
}

/* ---- bind ---- */

static int autobind_name(struct unix_sock *u)
{
	static _Atomic uint32_t next;

	for (unsigned tries = 0; tries < 1u << 20; tries++) {
		char name[7];
		uint32_t n = atomic_fetch_add(&next, 1) & 0xfffff;
		name[0] = '\0';
		snprintf(name + 1, sizeof(name) - 1, "%05x", n);
		struct unix_addr *addr = addr_new(name, 6);
		if (!addr)
			return -ENOMEM;
		int err = abstract_claim(u, addr);
		if (!err)
			return 0;
		unix_addr_put(addr);
	}
	return -ENOSPC;
}

static int bind_abstract(struct unix_sock *u, const struct sock_addr *a)
{
	struct unix_addr *addr = addr_new(a->bytes + UNIX_ADDR_MIN, a->len - UNIX_ADDR_MIN);
	if (!addr)
		return -ENOMEM;
	int err = abstract_claim(u, addr);
	if (err)
		unix_addr_put(addr);
	return err;
}

static int bind_path(struct unix_sock *u, const struct sock_addr *a, const struct sock_caller *c)
{
	char name[UNIX_PATH_LEN + 1];
	size_t n = path_string(a, name);
	struct unix_addr *addr = addr_new(name, n + 1);
	if (!addr)
		return -ENOMEM;

	struct path made;
	int err = c->env ? vfs_mknod(c->env, name, S_IFSOCK | 0777, 0, &made) : -EINVAL;
	if (err) {
		unix_addr_put(addr);
		return err == -EEXIST ? -EADDRINUSE : err;
	}
	mutex_lock(&names_lock, &lc_net);
	u->path = made;
	u->in_names = true;
	u->addr = addr;
	made.dentry->inode->socket = u;
	mutex_unlock(&names_lock, &lc_net);
	return 0;
}

/* One bind at a time, and only the first succeeds. */
static int bind_begin(struct unix_sock *u)
{
	int err = 0;

	mutex_lock(&u->lock, &lc_socket);
	if (u->addr || u->binding)
		err = -EINVAL;
	else
		u->binding = true;
	mutex_unlock(&u->lock, &lc_socket);
	return err;
}

static void bind_end(struct unix_sock *u)
{
	mutex_lock(&u->lock, &lc_socket);
	u->binding = false;
	mutex_unlock(&u->lock, &lc_socket);
}

int unix_bind(struct socket *s, const struct sock_addr *a, const struct sock_caller *c)
{
	struct unix_sock *u = unix_of(s);
	int err = addr_check(a);

	if (err || (err = bind_begin(u)))
		return err;
	if (!unix_has_name(a))
		err = autobind_name(u);
	else if (is_abstract(a))
		err = bind_abstract(u, a);
	else
		err = bind_path(u, a, c);
	bind_end(u);
	return err;
}

int unix_autobind(struct unix_sock *u)
{
	if (u->addr || bind_begin(u))
		return 0;
	int err = autobind_name(u);
	bind_end(u);
	return err;
}

void unix_forget_name(struct unix_sock *u)
{
	struct path p = {NULL, NULL};

	mutex_lock(&names_lock, &lc_net);
	if (u->in_names) {
		u->in_names = false;
		list_del(&u->name_node);
		p = u->path;
		if (p.dentry && p.dentry->inode && p.dentry->inode->socket == u)
			p.dentry->inode->socket = NULL;
	}
	mutex_unlock(&names_lock, &lc_net);
	if (p.dentry)
		path_put(p);
}

/* ---- look-up ---- */

static int find_path(const struct sock_addr *a, int type, const struct sock_caller *c,
		     struct unix_sock **out)
{
	char name[UNIX_PATH_LEN + 1];
	struct path p;

	path_string(a, name);
	if (!c || !c->env)
		return -EINVAL;
	int err = path_walk(c->env, name, 0, &p);
	if (err)
		return err;
	struct inode *in = p.dentry->inode;
	struct unix_sock *u = NULL;
	err = path_permission(p, MAY_WRITE, c->cred);
	if (!err) {
		mutex_lock(&names_lock, &lc_net);
		if (S_ISSOCK(in->mode))
			u = in->socket;
		if (!u || !ref_get_unless_zero(&u->ref)) {
			u = NULL;
			err = -ECONNREFUSED;
		}
		mutex_unlock(&names_lock, &lc_net);
	}
	path_put(p);
	if (!err && u->s.type != type) {
		unix_put(u);
		err = -EPROTOTYPE;
	}
	if (!err)
		*out = u;
	return err;
}

int unix_find(const struct sock_addr *a, const struct socket *s, const struct sock_caller *c,
	      struct unix_sock **out)
{
	int err = addr_check(a);

	if (err)
		return err;
	if (!unix_has_name(a))
		return -EINVAL;
	if (!is_abstract(a))
		return find_path(a, s->type, c, out);

	mutex_lock(&names_lock, &lc_net);
	struct unix_sock *u = abstract_find(a, s->type, s->net);
	if (!u || !ref_get_unless_zero(&u->ref))
		u = NULL;
	mutex_unlock(&names_lock, &lc_net);
	if (!u)
		return -ECONNREFUSED;
	if (c && landlock_is_scoped(c->cred->landlock, u->s.landlock, LL_SCOPE_ABSTRACT_UNIX)) {
		unix_put(u);
		return -EPERM;
	}
	*out = u;
	return 0;
}

int unix_getname(struct socket *s, bool peer, struct sock_addr *a)
{
	struct unix_sock *u = unix_of(s);
	struct unix_sock *who = u;

	mutex_lock(&u->lock, &lc_socket);
	if (peer && !(u->peer && u->state == UNIX_CONNECTED)) {
		mutex_unlock(&u->lock, &lc_socket);
		return -ENOTCONN;
	}
	if (peer)
		who = u->peer;
	unix_addr_copy(who->addr, a);
	mutex_unlock(&u->lock, &lc_socket);
	return 0;
}

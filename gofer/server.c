/* The message loop: receives, checks the form, dispatches, replies. */
#include "gofer/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sentry/lib/log.h"

struct op {
	const char *name;
	int (*fn)(struct gofer_server *, const union gofer_req *, struct gofer_tail *,
		  struct gofer_reply *);
	size_t fixed;
};

static const struct op ops[GOFER_OPS] = {
	[GOFER_ATTACH] = {"attach", op_attach, sizeof(struct gofer_attach_req)},
	[GOFER_WALK] = {"walk", op_walk, sizeof(struct gofer_walk_req)},
	[GOFER_OPEN] = {"open", op_open, sizeof(struct gofer_open_req)},
	[GOFER_CREATE] = {"create", op_create, sizeof(struct gofer_name_req)},
	[GOFER_MKDIR] = {"mkdir", op_mkdir, sizeof(struct gofer_name_req)},
	[GOFER_MKNOD] = {"mknod", op_mknod, sizeof(struct gofer_name_req)},
	[GOFER_SYMLINK] = {"symlink", op_symlink, sizeof(struct gofer_name_req)},
	[GOFER_LINK] = {"link", op_link, sizeof(struct gofer_link_req)},
	[GOFER_UNLINK] = {"unlink", op_unlink, sizeof(struct gofer_unlink_req)},
	[GOFER_RENAME] = {"rename", op_rename, sizeof(struct gofer_rename_req)},
	[GOFER_READLINK] = {"readlink", op_readlink, sizeof(struct gofer_node_req)},
	[GOFER_GETATTR] = {"getattr", op_getattr, sizeof(struct gofer_node_req)},
	[GOFER_SETATTR] = {"setattr", op_setattr, sizeof(struct gofer_setattr_req)},
	[GOFER_READDIR] = {"readdir", op_readdir, sizeof(struct gofer_readdir_req)},
	[GOFER_STATFS] = {"statfs", op_statfs, sizeof(struct gofer_node_req)},
	[GOFER_FSYNC] = {"fsync", op_fsync, sizeof(struct gofer_fsync_req)},
	[GOFER_SYNCFS] = {"syncfs", op_syncfs, sizeof(struct gofer_node_req)},
	[GOFER_GETXATTR] = {"getxattr", op_getxattr, sizeof(struct gofer_xattr_req)},
	[GOFER_SETXATTR] = {"setxattr", op_setxattr, sizeof(struct gofer_xattr_req)},
	[GOFER_LISTXATTR] = {"listxattr", op_listxattr, sizeof(struct gofer_xattr_req)},
	[GOFER_REMOVEXATTR] = {"removexattr", op_removexattr, sizeof(struct gofer_xattr_req)},
	[GOFER_CONNECT] = {"connect", op_connect, sizeof(struct gofer_connect_req)},
	[GOFER_BIND] = {"bind", op_bind, sizeof(struct gofer_name_req)},
	[GOFER_CLOSE] = {"close", op_close, sizeof(struct gofer_close_req)},
	[GOFER_LIST] = {"list", op_list, sizeof(struct gofer_list_req)},
	[GOFER_OPEN_MANY] = {"open_many", op_open_many, sizeof(struct gofer_open_many_req)},
	[GOFER_WATCH] = {"watch", op_watch, sizeof(struct gofer_watch_req)},
	[GOFER_UNWATCH] = {"unwatch", op_unwatch, sizeof(struct gofer_unwatch_req)},
};

int server_init(struct gofer_server *s, const struct attach_point *attach, size_t nattach,
		bool host_uds, uint32_t max_nodes)
{
	memset(s, 0, sizeof(*s));
	s->first_free = NODE_NONE;
	s->max_live = max_nodes;
	s->host_uds = host_uds;
	s->inotify = -1;
	if (nattach > UINT16_MAX)
		return -EINVAL;
	s->attach = calloc(nattach ? nattach : 1, sizeof(*attach));
	if (!s->attach)
		return -ENOMEM;
	memcpy(s->attach, attach, nattach * sizeof(*attach));
	s->nattach = nattach;
	return 0;
}

void server_fini(struct gofer_server *s)
{
	for (uint32_t i = 0; i < s->nnodes; i++)
		if (s->nodes[i].kind != NODE_FREE)
			close(s->nodes[i].fd);
	for (size_t i = 0; i < s->nattach; i++)
		close(s->attach[i].fd);
	if (s->inotify >= 0)
		close(s->inotify);
	free(s->nodes);
	free(s->attach);
	free(s->dirbuf);
}

void *reply_add(struct gofer_reply *rep, size_t n)
{
	if (n > GOFER_MSG_MAX - rep->len)
		return NULL;
	void *p = rep->buf + rep->len;
	rep->len += n;
	return p;
}

void reply_add_fd(struct gofer_reply *rep, int fd)
{
	rep->fds[rep->nfds++] = fd;
}

static void reply_drop_fds(struct gofer_reply *rep)
{
	for (unsigned i = 0; i < rep->nfds && !rep->lent; i++)
		close(rep->fds[i]);
	rep->lent = false;
	rep->nfds = 0;
}

int tail_name(struct gofer_tail *t, size_t len, char *buf)
{
	if (len > t->left)
		return -EPROTO;
	const uint8_t *p = t->p;
	t->p += len;
	t->left -= len;
	if (len > GOFER_NAME_LEN)
		return -ENAMETOOLONG;
	if (len == 0 || memchr(p, '/', len) || memchr(p, 0, len))
		return -EINVAL;
	memcpy(buf, p, len);
	buf[len] = 0;
	if (!strcmp(buf, ".") || !strcmp(buf, ".."))
		return -EINVAL;
	return 0;
}

int tail_walk_name(struct gofer_tail *t, char *buf)
{
	uint16_t len;

	if (t->left < sizeof(len))
		return -EPROTO;
	memcpy(&len, t->p, sizeof(len));
	t->p += sizeof(len);
	t->left -= sizeof(len);
	return tail_name(t, len, buf);
}

/* The whole message is checked before the first name is looked up. */
int tail_check_names(struct gofer_tail t, uint32_t count)
{
	char name[GOFER_NAME_LEN + 1];

	for (uint32_t i = 0; i < count; i++) {
		int err = tail_walk_name(&t, name);
		if (err)
			return err;
	}
	return t.left ? -EPROTO : 0;
}

static int dispatch(struct gofer_server *s, const struct gofer_hdr *h, const uint8_t *msg,
		    struct gofer_reply *rep)
{
	union gofer_req rq;
	struct gofer_tail tail = {msg + sizeof(*h), h->size - sizeof(*h)};

	if (h->op >= GOFER_OPS || !ops[h->op].fn)
		return -ENOSYS;
	const struct op *op = &ops[h->op];
	if (tail.left < op->fixed)
		return -EPROTO;
	memset(&rq, 0, sizeof(rq));
	memcpy(&rq, tail.p, op->fixed);
	tail.p += op->fixed;
	tail.left -= op->fixed;
	int err = op->fn(s, &rq, &tail, rep);
	log_debug("gofer: %s: %d", op->name, err);
	return err;
}

int server_handle(struct gofer_server *s, const uint8_t *msg, size_t n, unsigned nfds,
		  struct gofer_reply *rep)
{
	struct gofer_hdr h;

	rep->len = 0;
	rep->nfds = 0;
	rep->lent = false;
	if (n < sizeof(h) || n > GOFER_MSG_MAX)
		return -EPROTO;
	memcpy(&h, msg, sizeof(h));
	if (h.size != n || h.nfds != 0 || nfds != 0 || h.error != 0)
		return -EPROTO;

	rep->len = sizeof(h);
	int err = dispatch(s, &h, msg, rep);
	if (h.op == GOFER_CLOSE) {
		rep->len = 0;
		return 0;
	}
	if (err) {
		reply_drop_fds(rep);
		rep->len = sizeof(h);
	}
	h.size = (uint32_t)rep->len;
	h.nfds = (uint16_t)rep->nfds;
	h.error = err;
	memcpy(rep->buf, &h, sizeof(h));
	return 0;
}

/* Descriptors in a request are a breach; they are closed at once so that they cannot pile up. */
static int receive(int conn, uint8_t *buf, size_t *n, unsigned *nfds)
{
	char control[CMSG_SPACE(sizeof(int) * 8)] __attribute__((aligned(8)));
	struct iovec iov = {buf, GOFER_MSG_MAX};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t r;

	do
		r = recvmsg(conn, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return errno == ECONNRESET ? 0 : -errno;
	*nfds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			close(fd);
			++*nfds;
		}
	}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -EPROTO;
	*n = (size_t)r;
	return r > 0;
}

static int send_reply(int conn, const struct gofer_reply *rep)
{
	char control[CMSG_SPACE(sizeof(int) * GOFER_FDS_MAX)] __attribute__((aligned(8)));
	struct iovec iov = {rep->buf, rep->len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t r;

	if (rep->nfds) {
		memset(control, 0, sizeof(control));
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * rep->nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * rep->nfds);
		memcpy(CMSG_DATA(c), rep->fds, sizeof(int) * rep->nfds);
	}
	do
		r = sendmsg(conn, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/*
 * The buffers are as large as the largest message, but a page of them costs memory only when a
 * message reaches it: ordinary traffic touches one page of each.
 */
int server_loop(struct gofer_server *s, int conn)
{
	uint8_t *in = malloc(GOFER_MSG_MAX);
	struct gofer_reply rep = {.buf = malloc(GOFER_MSG_MAX)};
	unsigned nfds = 0;
	size_t n = 0;
	int err = -ENOMEM;

	if (!in || !rep.buf)
		goto out;
	while ((err = receive(conn, in, &n, &nfds)) > 0) {
		err = server_handle(s, in, n, nfds, &rep);
		if (err)
			break;
		if (rep.len) {
			err = send_reply(conn, &rep);
			reply_drop_fds(&rep);
		}
		if (err == -ETOOMANYREFS) {
			/* The host's bound on descriptors in flight: an error, not the end. */
			struct gofer_hdr h;
			memcpy(&h, rep.buf, sizeof(h));
			h.size = sizeof(h);
			h.nfds = 0;
			h.error = -ENFILE;
			memcpy(rep.buf, &h, sizeof(h));
			rep.len = sizeof(h);
			err = send_reply(conn, &rep);
		}
		if (err == -EPIPE || err == -ECONNRESET) {
			err = 0;
			break;
		}
		if (err)
			break;
	}
out:
	free(in);
	free(rep.buf);
	return err;
}

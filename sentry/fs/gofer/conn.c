/* The connection: one request and its reply at a time; everything received is checked for form. */
#include "sentry/fs/gofer/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sentry/lib/log.h"

#define CLOSE_BATCH 32 /* ids that wait before a message is sent for their sake */
#define CLOSE_SEND 128 /* ids in one message */
#define ERRNO_LAST 133 /* EHWPOISON: what a host kernel may answer */

struct gofer_conn *gofer_conn_new(int fd, const struct goferfs_hooks *hooks)
{
	struct gofer_conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	ref_init(&c->ref, 1);
	c->fd = fd;
	if (hooks)
		c->hooks = *hooks;
	mutex_init(&c->lock);
	mutex_init(&c->watch_lock);
	mutex_init(&c->close_lock);
	mutex_init(&c->fd_lock);
	list_init(&c->fd_lru);
	return c;
}

struct gofer_conn *gofer_conn_get(struct gofer_conn *c)
{
	ref_get(&c->ref);
	return c;
}

void gofer_conn_put(struct gofer_conn *c)
{
	if (!c || !ref_put(&c->ref))
		return;
	gofer_watcher_free(c->watcher);
	close(c->fd);
	free(c->closing);
	free(c);
}

int gofer_conn_fd(const struct gofer_conn *c)
{
	return c->fd;
}

bool gofer_conn_dead(const struct gofer_conn *c)
{
	return atomic_load(&c->dead);
}

void conn_block_begin(const struct gofer_conn *c)
{
	if (c->hooks.block_begin)
		c->hooks.block_begin();
}

void conn_block_end(const struct gofer_conn *c)
{
	if (c->hooks.block_end)
		c->hooks.block_end();
}

int gofer_conn_fail(struct gofer_conn *c, const char *why)
{
	if (atomic_exchange(&c->dead, true))
		return -EIO;
	log_warn("gofer: connection lost: %s", why);
	if (c->hooks.dead)
		c->hooks.dead(c->hooks.arg);
	return -EIO;
}

/* ---- closing nodes ---- */

static size_t closing_take(struct gofer_conn *c, uint64_t *ids)
{
	mutex_lock(&c->close_lock, &lc_leaf);
	size_t n = MIN(c->nclosing, (size_t)CLOSE_SEND);
	c->nclosing -= n;
	if (n)
		memcpy(ids, c->closing + c->nclosing, n * sizeof(*ids));
	mutex_unlock(&c->close_lock, &lc_leaf);
	return n;
}

/* Returns the number now waiting.  Without memory the node stays open until the gofer ends. */
static size_t closing_add(struct gofer_conn *c, const uint64_t *ids, size_t n)
{
	mutex_lock(&c->close_lock, &lc_leaf);
	if (c->nclosing + n > c->closing_room) {
		size_t room = (c->nclosing + n) * 2 + CLOSE_BATCH;
		uint64_t *p = realloc(c->closing, room * sizeof(*p));
		if (p) {
			c->closing = p;
			c->closing_room = room;
		}
	}
	if (c->nclosing + n <= c->closing_room) {
		memcpy(c->closing + c->nclosing, ids, n * sizeof(*ids));
		c->nclosing += n;
	}
	size_t waiting = c->nclosing;
	mutex_unlock(&c->close_lock, &lc_leaf);
	return waiting;
}

/* A packet is sent whole or not at all and has no answer, so this needs no turn on the connection
 * and can be done wherever an inode is freed. */
static void closing_send(struct gofer_conn *c)
{
	struct {
		struct gofer_hdr h;
		struct gofer_close_req rq;
		uint64_t ids[CLOSE_SEND];
	} m;
	size_t n;

	while (!atomic_load(&c->dead) && (n = closing_take(c, m.ids)) > 0) {
		size_t size = offsetof(__typeof__(m), ids) + n * sizeof(m.ids[0]);
		m.h = (struct gofer_hdr){.size = (uint32_t)size, .op = GOFER_CLOSE};
		m.rq = (struct gofer_close_req){.count = (uint32_t)n};
		struct iovec iov = {&m, size};
		struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
		if (sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			continue;
		(void)closing_add(c, m.ids, n);
		return;
	}
}

void gofer_close_node(struct gofer_conn *c, uint64_t node, bool now)
{
	if (closing_add(c, &node, 1) >= CLOSE_BATCH || now)
		closing_send(c);
}

/* ---- requests ---- */

static int send_request(struct gofer_conn *c, const struct rpc *r, uint32_t id)
{
	struct gofer_hdr h = {.op = r->op, .id = id};
	struct iovec iov[5] = {{&h, sizeof(h)}, {(void *)r->fixed, r->fixed_len}};
	size_t niov = 2, size = sizeof(h) + r->fixed_len;
	ssize_t n;

	for (size_t i = 0; i < ARRAY_SIZE(r->var); i++)
		if (r->var[i].iov_len) {
			iov[niov++] = r->var[i];
			size += r->var[i].iov_len;
		}
	if (size > GOFER_MSG_MAX)
		return -E2BIG;
	h.size = (uint32_t)size;
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = niov};
	do
		n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return gofer_conn_fail(c, strerror(errno));
	return 0;
}

static void close_fds(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* Stores at most GOFER_FDS_MAX descriptors, as many as the control buffer has room for. */
static unsigned take_fds(struct msghdr *m, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *k = CMSG_FIRSTHDR(m); k; k = CMSG_NXTHDR(m, k)) {
		if (k->cmsg_level != SOL_SOCKET || k->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (k->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(k) + i * sizeof(int), sizeof(fd));
			if (n < GOFER_FDS_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

/* The server's errors reach guests: let through what a host kernel may say, except what means
 * "wait and try again" to the sentry's own code. */
static int reply_error(int32_t e)
{
	return e < -ERRNO_LAST || e > 0 || e == -EAGAIN ? -EIO : e;
}

static int receive_reply(struct gofer_conn *c, struct rpc *r, uint32_t id)
{
	char control[CMSG_SPACE(sizeof(int) * GOFER_FDS_MAX)] __attribute__((aligned(8)));
	struct gofer_hdr h;
	struct iovec iov[2] = {{&h, sizeof(h)}, {r->rep, r->rep_max}};
	struct msghdr m = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	const char *why = NULL;
	ssize_t n;

	do
		n = recvmsg(c->fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return gofer_conn_fail(c, strerror(errno));
	if (n == 0)
		return gofer_conn_fail(c, "the gofer is gone");
	r->nfds = take_fds(&m, r->fds);
	r->rep_len = (size_t)n - MIN((size_t)n, sizeof(h));
	if ((size_t)n < sizeof(h) || m.msg_flags & MSG_TRUNC || h.size != (size_t)n)
		why = "a reply has a wrong size";
	else if (h.id != id || h.op != r->op)
		why = "a reply answers another request";
	else if (!h.error && r->rep_len < r->rep_min)
		why = "a reply is too short";
	else if (h.error && (r->rep_len || r->nfds || h.nfds))
		why = "an error reply has a payload";
	else if (h.nfds != r->nfds && !(m.msg_flags & MSG_CTRUNC && r->nfds < h.nfds))
		why = "a reply has other descriptors than it says";
	else if (h.nfds > r->fds_room)
		why = "descriptors that were not asked for";
	if (!why && !h.error && h.nfds == r->nfds)
		return 0;
	close_fds(r->fds, r->nfds);
	r->nfds = 0;
	if (why)
		return gofer_conn_fail(c, why);
	/* Short of descriptors: our own limit, not a fault of the peer's. */
	return h.error ? reply_error(h.error) : -ENFILE;
}

int gofer_rpc(struct gofer_conn *c, struct rpc *r)
{
	int err;

	r->nfds = 0;
	r->rep_len = 0;
	conn_block_begin(c);
	mutex_lock(&c->lock, &lc_gofer);
	if (atomic_load(&c->dead)) {
		err = -EIO;
	} else {
		uint32_t id = ++c->next_id;
		closing_send(c);
		err = send_request(c, r, id);
		if (!err)
			err = receive_reply(c, r, id);
	}
	mutex_unlock(&c->lock, &lc_gofer);
	conn_block_end(c);
	return err;
}

/* Watching files for what others do to them. */
#include "gofer/server.h"

#include <errno.h>
#include <string.h>

static int start(struct gofer_server *s)
{
	if (s->inotify < 0)
		s->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return s->inotify < 0 ? -errno : 0;
}

HANDLER(op_watch)
{
	const struct gofer_watch_req *w = &rq->watch;
	struct node *n = node_find(s, w->node, NODE_PATH);

	if (tail->left)
		return -EPROTO;
	if (w->flags & ~(uint32_t)GOFER_WATCH_START)
		return -EINVAL;
	if (!n)
		return -EBADF;
	if (!S_ISDIR(n->type) && !S_ISREG(n->type))
		return -EPERM;
	int err = start(s);
	if (err)
		return err;
	struct fd_name name = fd_name(n->fd);
	int wd = inotify_add_watch(s->inotify, name.s, GOFER_WATCH_EVENTS);
	if (wd < 0)
		return -errno;
	struct gofer_watch_rep *out = reply_add(rep, sizeof(*out));
	*out = (struct gofer_watch_rep){.wd = wd};
	if (w->flags & GOFER_WATCH_START) {
		reply_add_fd(rep, s->inotify);
		rep->lent = true;
	}
	return 0;
}

HANDLER(op_unwatch)
{
	(void)rep;
	if (tail->left)
		return -EPROTO;
	if (s->inotify < 0)
		return -EINVAL;
	return inotify_rm_watch(s->inotify, rq->unwatch.wd) ? -errno : 0;
}

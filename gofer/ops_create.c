/*
 * Operations that make names.
 *
 * Everything is made with no permission bits at all, owned by this process, and given its owner
 * and then its mode afterwards, so there is no moment at which somebody could open it who may not
 * do so later.  Regular files are handled through the descriptor that O_CREAT|O_EXCL returned.
 * For the rest the new name has to be looked up again; a hostile process on the host may have
 * exchanged it in between to have another file chowned, so what was found has to look new.
 */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

#define NEW_FILE_SLACK 60 /* s */

struct new_name {
	int dir; /* borrowed from the node */
	uint16_t attach;
	bool setgid;   /* of the directory */
	time_t before; /* when the request came */
	char name[GOFER_NAME_LEN + 1];
};

/* Checks the request, before anything is changed. */
static int new_name_init(struct gofer_server *s, const struct gofer_name_req *rq,
			 struct gofer_tail *tail, struct new_name *nn)
{
	struct gofer_attr a;
	struct node *n;
	int err = tail_name(tail, rq->name_len, nn->name);

	if (err)
		return err;
	if (tail->left != rq->target_len)
		return -EPROTO;
	if ((err = node_find_dir(s, rq->dir, true, &n)) || (err = node_room(s)) ||
	    (err = host_stat(n->fd, &a)))
		return err;
	nn->dir = n->fd;
	nn->attach = n->attach;
	nn->setgid = a.mode & S_ISGID;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	nn->before = now.tv_sec;
	return 0;
}

/* A fresh file: ours, no permissions, one name, not born long ago (a file server's clock may differ
 * a little from ours). */
static bool looks_new(const struct new_name *nn, const struct gofer_attr *a, uint32_t type)
{
	uint32_t perm = a->mode & 07777;

	if ((a->mode & S_IFMT) != type || a->uid != 0)
		return false;
	if (S_ISDIR(type) ? (perm & ~(uint32_t)S_ISGID) != 0 || a->nlink > 2
			  : (perm != 0 && !S_ISLNK(type)) || a->nlink != 1)
		return false;
	return !a->has_btime || a->btime.sec >= nn->before - NEW_FILE_SLACK;
}

/* Gives a new file its owner and mode and answers with its entry; consumes fd when it succeeds. */
static int finish_new(struct gofer_server *s, const struct new_name *nn, int fd,
		      const struct gofer_name_req *rq, uint32_t type, struct gofer_reply *rep)
{
	struct gofer_entry *e = reply_add(rep, sizeof(*e));
	uint32_t mode = rq->mode & 07777;

	memset(e, 0, sizeof(*e));
	int err = host_chown(fd, rq->uid, nn->setgid ? UINT32_MAX : rq->gid);
	if (err)
		return err;
	if (S_ISDIR(type) && nn->setgid)
		mode |= S_ISGID;
	if (!S_ISLNK(type) && (err = host_chmod(fd, mode)))
		return err;
	if ((err = host_stat(fd, &e->attr)))
		return err;
	return node_new(s, fd, NODE_PATH, type, nn->attach, &e->node);
}

/* The second half for everything but regular files: the name was made; find it and finish it. */
static int finish_named(struct gofer_server *s, const struct new_name *nn,
			const struct gofer_name_req *rq, uint32_t type, struct gofer_reply *rep)
{
	struct gofer_attr a;
	CLEANUP_FD int fd = host_lookup(nn->dir, nn->name);

	if (fd < 0)
		return fd;
	int err = host_stat(fd, &a);
	if (!err && !looks_new(nn, &a, type))
		return -EIO; /* not ours: leave it alone */
	if (!err)
		err = finish_new(s, nn, fd, rq, type, rep);
	if (err)
		unlinkat(nn->dir, nn->name, S_ISDIR(type) ? AT_REMOVEDIR : 0);
	else
		(void)steal_fd(&fd);
	return err;
}

static int create_regular(struct gofer_server *s, const struct gofer_name_req *rq,
			  struct gofer_tail *tail, struct gofer_reply *rep, bool donate)
{
	struct open_how how = {
		.flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
	};
	struct new_name nn;
	int err = new_name_init(s, rq, tail, &nn);

	if (err)
		return err;
	CLEANUP_FD int io = (int)syscall(SYS_openat2, (long)nn.dir, nn.name, &how, sizeof(how));
	if (io < 0)
		return errno == EAGAIN ? -EIO : -errno;
	CLEANUP_FD int fd = host_reopen(io, O_PATH);
	err = fd < 0 ? fd : finish_new(s, &nn, fd, rq, S_IFREG, rep);
	if (err) {
		unlinkat(nn.dir, nn.name, 0);
		return err;
	}
	(void)steal_fd(&fd);
	if (donate)
		reply_add_fd(rep, steal_fd(&io));
	return 0;
}

HANDLER(op_create)
{
	if (rq->name.target_len)
		return -EPROTO;
	if (rq->name.flags || rq->name.mode & ~07777U)
		return -EINVAL;
	return create_regular(s, &rq->name, tail, rep, true);
}

HANDLER(op_mkdir)
{
	struct new_name nn;

	if (rq->name.target_len)
		return -EPROTO;
	if (rq->name.flags || rq->name.mode & ~07777U)
		return -EINVAL;
	int err = new_name_init(s, &rq->name, tail, &nn);
	if (err)
		return err;
	if (mkdirat(nn.dir, nn.name, 0))
		return -errno;
	return finish_named(s, &nn, &rq->name, S_IFDIR, rep);
}

HANDLER(op_mknod)
{
	uint32_t type = rq->name.mode & S_IFMT;
	struct new_name nn;

	if (rq->name.target_len)
		return -EPROTO;
	if (rq->name.flags || rq->name.mode & ~(uint32_t)(S_IFMT | 07777))
		return -EINVAL;
	if (type == S_IFREG)
		return create_regular(s, &rq->name, tail, rep, false);
	/* Devices are never made on the host; 0:0 is none, but an overlay's mark of absence. */
	if (type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR)
		return -EPERM;
	int err = new_name_init(s, &rq->name, tail, &nn);
	if (err)
		return err;
	if (mknodat(nn.dir, nn.name, type, 0))
		return -errno;
	return finish_named(s, &nn, &rq->name, type, rep);
}

HANDLER(op_symlink)
{
	char target[GOFER_PATH_LEN + 1];
	struct new_name nn;

	if (rq->name.flags)
		return -EINVAL;
	int err = new_name_init(s, &rq->name, tail, &nn);
	if (err)
		return err;
	size_t len = rq->name.target_len;
	if (len == 0 || memchr(tail->p, 0, len))
		return -EINVAL;
	if (len > GOFER_PATH_LEN)
		return -ENAMETOOLONG;
	memcpy(target, tail->p, len);
	target[len] = 0;
	if (symlinkat(target, nn.dir, nn.name))
		return -errno;
	return finish_named(s, &nn, &rq->name, S_IFLNK, rep);
}

HANDLER(op_link)
{
	char name[GOFER_NAME_LEN + 1];
	struct node *target, *dir;
	int err = tail_name(tail, rq->link.name_len, name);

	if (err)
		return err;
	if (tail->left)
		return -EPROTO;
	if ((err = node_find_dir(s, rq->link.dir, true, &dir)) ||
	    (err = node_find_writable(s, rq->link.target, &target)))
		return err;
	if (target->attach != dir->attach)
		return -EXDEV;
	if (S_ISDIR(target->type))
		return -EPERM;
	struct fd_name from = fd_name(target->fd);
	if (linkat(AT_FDCWD, from.s, dir->fd, name, AT_SYMLINK_FOLLOW))
		return -errno;
	return host_stat(target->fd, reply_add(rep, sizeof(struct gofer_attr)));
}

static bool socket_type_ok(uint32_t type)
{
	return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET;
}

static int socket_new(uint32_t type)
{
	int fd = socket(AF_UNIX, (int)type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

HANDLER(op_connect)
{
	struct node *n = node_find(s, rq->connect.node, NODE_PATH);
	struct sockaddr_un sa = {.sun_family = AF_UNIX};

	if (tail->left)
		return -EPROTO;
	if (!n)
		return -EBADF;
	if (!s->host_uds)
		return -EPERM;
	if (!socket_type_ok(rq->connect.type))
		return -EINVAL;
	if (!S_ISSOCK(n->type))
		return -ECONNREFUSED;
	CLEANUP_FD int fd = socket_new(rq->connect.type);
	if (fd < 0)
		return fd;
	strcpy(sa.sun_path, fd_name(n->fd).s);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return errno == EAGAIN ? -ECONNREFUSED : -errno;
	reply_add_fd(rep, steal_fd(&fd));
	return 0;
}

HANDLER(op_bind)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct new_name nn;

	if (rq->name.target_len)
		return -EPROTO;
	if (!s->host_uds)
		return -EPERM;
	if (rq->name.mode & ~07777U || !socket_type_ok(rq->name.flags))
		return -EINVAL;
	int err = new_name_init(s, &rq->name, tail, &nn);
	if (err)
		return err;
	struct fd_name dir = fd_name(nn.dir);
	size_t dlen = strlen(dir.s), nlen = strlen(nn.name);
	if (dlen + 1 + nlen >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, dir.s, dlen);
	sa.sun_path[dlen] = '/';
	memcpy(sa.sun_path + dlen + 1, nn.name, nlen);
	CLEANUP_FD int fd = socket_new(rq->name.flags);
	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return errno == EADDRINUSE ? -EEXIST : -errno;
	if ((err = finish_named(s, &nn, &rq->name, S_IFSOCK, rep)))
		return err;
	reply_add_fd(rep, steal_fd(&fd));
	return 0;
}

/* The life of a gofer: opens, shuts itself in, serves.  The order matters and is written here. */
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/host/sanitizer.h"
#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

/* Descriptors that are not nodes: standard ones, connection, log, /proc/self/fd, in-flight ones. */
#define FD_RESERVE 32
#define FIRST_FD 3

static int tree_clone(int dir, const char *path, unsigned flags)
{
	int fd = open_tree(dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);

	return fd < 0 ? -errno : fd;
}

/*
 * A private copy of the mounts under the attach point: what happens in other mount namespaces no
 * longer matters, ".." ends at its root, and devices and set-user-ID programs mean nothing there.
 */
static int attach_open(const struct gofer_attach *a, int *out)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					      (a->readonly ? MOUNT_ATTR_RDONLY : 0)};
	CLEANUP_FD int fd = a->path ? tree_clone(AT_FDCWD, a->path, AT_RECURSIVE)
				    : tree_clone(a->fd, "", AT_EMPTY_PATH | AT_RECURSIVE);

	if (!a->path)
		close(a->fd);
	if (fd < 0)
		return fd;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)))
		return -errno;
	*out = steal_fd(&fd);
	return 0;
}

static int attach_all(const struct gofer_config *c, struct attach_point *ap)
{
	for (size_t i = 0; i < c->nattach; i++) {
		int err = attach_open(&c->attach[i], &ap[i].fd);
		if (err) {
			log_warn("gofer: cannot attach %s: %s",
				 c->attach[i].path ? c->attach[i].path : "a descriptor",
				 strerror(-err));
			return err;
		}
		ap[i].readonly = c->attach[i].readonly;
	}
	return 0;
}

static int compare_int(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes everything that is not in keep[], which is sorted in place. */
static int close_others(int *keep, size_t n)
{
	unsigned from = FIRST_FD;

	qsort(keep, n, sizeof(*keep), compare_int);
	for (size_t i = 0; i < n; i++) {
		unsigned fd = (unsigned)keep[i];
		if (keep[i] < FIRST_FD || fd < from)
			continue;
		if (fd > from && close_range(from, fd - 1, 0))
			return -errno;
		from = fd + 1;
	}
	return close_range(from, ~0U, 0) ? -errno : 0;
}

/* Numbers 0 to 2 stay occupied by something that cannot be written to, or a library's message to
 * standard error would end up in a file of the container. */
static int occupy_standard_fds(void)
{
	CLEANUP_FD int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (int i = 0; i < FIRST_FD; i++)
		if (i != fd && dup2(fd, i) < 0)
			return -errno;
	if (fd < FIRST_FD)
		(void)steal_fd(&fd);
	return 0;
}

/* Moves a descriptor out of the way of the standard ones. */
static int move_up(int *fd)
{
	if (*fd < 0 || *fd >= FIRST_FD)
		return 0;
	int r = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);
	if (r < 0)
		return -errno;
	*fd = r;
	return 0;
}

static uint32_t raise_fd_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 512;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &r))
		getrlimit(RLIMIT_NOFILE, &r);
	return r.rlim_cur > INT32_MAX ? INT32_MAX : (uint32_t)r.rlim_cur;
}

struct setup {
	int conn_fd, log_fd, ready_fd, fd_dir;
	size_t nattach;
	struct attach_point *attach;
};

static int setup_descriptors(const struct gofer_config *c, struct setup *st)
{
	int err;

	*st = (struct setup){c->conn_fd, c->log_fd, c->ready_fd, -1, c->nattach, NULL};
	if ((err = move_up(&st->conn_fd)) || (err = move_up(&st->log_fd)) ||
	    (err = move_up(&st->ready_fd)))
		return err;
	if (st->log_fd >= 0)
		log_open(st->log_fd, false);
	st->attach = calloc(c->nattach ? c->nattach : 1, sizeof(*st->attach));
	int *keep = calloc(c->nattach + 4, sizeof(*keep));
	if (!st->attach || !keep) {
		free(keep);
		return -ENOMEM;
	}
	err = attach_all(c, st->attach);
	if (!err && (st->fd_dir = tree_clone(AT_FDCWD, "/proc/self/fd", 0)) < 0)
		err = st->fd_dir;
	if (!err && !(err = move_up(&st->fd_dir))) {
		size_t n = 0;
		keep[n++] = st->conn_fd;
		keep[n++] = st->log_fd;
		keep[n++] = st->ready_fd;
		keep[n++] = st->fd_dir;
		for (size_t i = 0; i < c->nattach && !err; i++) {
			err = move_up(&st->attach[i].fd);
			keep[n++] = st->attach[i].fd;
		}
		if (!err)
			err = close_others(keep, n);
	}
	free(keep);
	return err;
}

static int shut_in(const struct gofer_config *c, const struct setup *st)
{
	int err = confine_root(st->fd_dir);

	if (err) {
		log_warn("gofer: cannot make an empty root: %s", strerror(-err));
		return err;
	}
	if ((err = occupy_standard_fds()))
		return err;
	if ((err = confine_privileges())) {
		log_warn("gofer: cannot drop privileges: %s", strerror(-err));
		return err;
	}
	err = confine_calls(st->conn_fd, st->log_fd, st->ready_fd, c->host_uds);
	if (err)
		log_warn("gofer: cannot install the system call filter: %s", strerror(-err));
	return err;
}

static int tell_ready(int fd)
{
	if (fd < 0)
		return 0;
	ssize_t n = write(fd, "", 1);
	close(fd);
	return n == 1 ? 0 : -EPIPE;
}

int gofer_main(const struct gofer_config *c)
{
	struct gofer_server s;
	struct setup st;
	int err = setup_descriptors(c, &st);

	if (err)
		return err;
	sanitizer_confined(st.log_fd);
	umask(0777);
	uint32_t limit = raise_fd_limit();
	uint32_t used = FD_RESERVE + (uint32_t)c->nattach;
	if (limit <= used)
		return -EMFILE;
	if ((err = shut_in(c, &st)))
		return err;
	if ((err = server_init(&s, st.attach, st.nattach, c->host_uds, limit - used)))
		return err;
	free(st.attach);
	if ((err = tell_ready(st.ready_fd)))
		return err;
	err = server_loop(&s, st.conn_fd);
	if (err)
		log_warn("gofer: connection given up: %s", strerror(-err));
	server_fini(&s);
	return err;
}

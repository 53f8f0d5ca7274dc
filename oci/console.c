#include "oci/console.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

/* Engines' paths may exceed sun_path: connect through the directory's descriptor then. */
static int connect_path(const char *path, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	CLEANUP_FD int dir = -1;

	if (strlen(path) < sizeof(sun.sun_path)) {
		strcpy(sun.sun_path, path);
	} else {
		const char *base = strrchr(path, '/');
		char parent[PATH_MAX];
		snprintf(parent, sizeof(parent), "%.*s", (int)(base ? base - path : 0), path);
		dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/%s",
					dir, base + 1) >= (int)sizeof(sun.sun_path))
			return err_set(e, -ENAMETOOLONG, "socket path too long: %s", path);
	}
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return err_errno(e, -errno, "connecting to console socket %s", path);
	return steal_fd(&fd);
}

static int send_fd(int sock, int fd, const char *name, struct err *e)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} cm = {{0}};
	struct iovec iov = {(void *)name, strlen(name)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = cm.buf,
			     .msg_controllen = sizeof(cm.buf)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, 0) < 0)
		return err_errno(e, -errno, "sending the terminal");
	return 0;
}

int console_send(const char *path, const struct spec_process *p, struct err *e)
{
	CLEANUP_FD int sock = connect_path(path, e);
	if (sock < 0)
		return sock;
	CLEANUP_FD int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || unlockpt(master))
		return err_errno(e, -errno, "opening a terminal");
	CLEANUP_FD int replica = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (replica < 0)
		return err_errno(e, -errno, "opening a terminal's other end");
	const struct winsize size = {.ws_row = p ? (unsigned short)p->console_height : 0,
				     .ws_col = p ? (unsigned short)p->console_width : 0};
	if (size.ws_row && size.ws_col && ioctl(replica, TIOCSWINSZ, &size))
		return err_errno(e, -errno, "setting the size of the terminal");
	int err = send_fd(sock, master, ptsname(master), e);
	return err ? err : steal_fd(&replica);
}

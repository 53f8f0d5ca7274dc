/* Frames of the control protocol, blocking: the command line's end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "sentry/boot/boot.h"

int control_send(int fd, const char *text, size_t len, const int *fds, int nfds)
{
	uint32_t head = (uint32_t)len;
	struct iovec iov[2] = {{&head, sizeof(head)}, {(void *)text, len}};
	union {
		char buf[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} cm = {{0}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (len > CONTROL_FRAME_MAX || nfds > CONTROL_FDS_MAX)
		return -EMSGSIZE;
	if (nfds) {
		msg.msg_control = cm.buf;
		msg.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
	}
	size_t left = sizeof(head) + len;
	while (left) {
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EPIPE ? -ECONNRESET : -errno;
		left -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
		for (size_t i = 0; i < 2; i++) {
			size_t k = MIN((size_t)n, iov[i].iov_len);
			iov[i].iov_base = (char *)iov[i].iov_base + k;
			iov[i].iov_len -= k;
			n -= (ssize_t)k;
		}
	}
	return 0;
}

static int recv_all(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = recv(fd, (char *)buf + done, len - done, 0);
		if (n < 0 && errno == EINTR && done)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ECONNRESET;
		done += (size_t)n;
	}
	return 0;
}

int control_recv(int fd, char **text, size_t *len)
{
	uint32_t head;
	int err = recv_all(fd, &head, sizeof(head));

	if (err)
		return err;
	if (head > CONTROL_FRAME_MAX)
		return -EMSGSIZE;
	char *buf = malloc((size_t)head + 1);
	if (!buf)
		return -ENOMEM;
	while ((err = recv_all(fd, buf, head)) == -EINTR)
		;
	if (err) {
		free(buf);
		return err;
	}
	buf[head] = 0;
	*text = buf;
	*len = head;
	return 0;
}

/* host.h - shared by the files of fs/host only. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "sentry/fs/host/hostfile.h"
#include "sentry/host/poller.h"
#include "sentry/vfs/file.h"

/* One wrapped descriptor, owned by its inode: every open file of the inode uses it. */
struct hostfile {
	struct poll_source src;
	struct waitq wq;
	int fd;
	uint32_t mode;	/* st_mode of the host's file */
	int access;	/* O_ACCMODE of the description */
	bool append;	/* the description has O_APPEND */
	bool nonblock;	/* the description is ours and has O_NONBLOCK */
	bool no_nowait; /* it does not know RWF_NOWAIT; a hint */
	struct inode_ops iops;
	const struct file_ops *fops;
	struct tty *tty; /* terminals: borrowed; inode.lock */
};

/* A file of the wrapped descriptor; h is consumed, and freed with the inode.  On failure too. */
int hostfile_new_file(struct hostfile *h, const char *name, uint32_t mode, uint64_t rdev, int flags,
		      struct file **out) MUST_CHECK;
struct hostfile *hostfile_new(int host_fd, const struct file_ops *fops, int *err);
void hostfile_put_unused(struct hostfile *h);
/* A terminal that is merely a standard stream: nobody's controlling terminal yet.  Consumes
 * host_fd. */
int hosttty_create_stream(int host_fd, int flags, struct file **out) MUST_CHECK;
/* Streams: one bounded move, -EAGAIN when the host has no data (no room). */
ssize_t hostfile_stream_read(struct hostfile *h, struct uio *io) MUST_CHECK;
ssize_t hostfile_stream_write(struct hostfile *h, struct uio *io) MUST_CHECK;
/* Readiness now; arms the poller for what is missing. */
uint32_t hostfile_poll(struct hostfile *h, bool readable, bool writable);

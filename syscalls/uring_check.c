/* io_uring: which operations there are, and what they allow. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "syscalls/uring.h"

#define KNOWN_FLAGS                                                                            \
	(IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_ASYNC | \
	 IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS)

enum {
	OP_KNOWN = 1,
	OP_FIXED_FILE = 2, /* may name a registered file */
	OP_SELECT = 4,	   /* may choose a buffer */
};

static const uint8_t ops[IORING_OP_LAST] = {
	[IORING_OP_NOP] = OP_KNOWN,
	[IORING_OP_READV] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_WRITEV] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_FSYNC] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_READ_FIXED] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_WRITE_FIXED] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_POLL_ADD] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_POLL_REMOVE] = OP_KNOWN,
	[IORING_OP_SYNC_FILE_RANGE] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_SENDMSG] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_RECVMSG] = OP_KNOWN, /* may install descriptors */
	[IORING_OP_TIMEOUT] = OP_KNOWN,
	[IORING_OP_TIMEOUT_REMOVE] = OP_KNOWN,
	[IORING_OP_ACCEPT] = OP_KNOWN, /* installs a descriptor */
	[IORING_OP_ASYNC_CANCEL] = OP_KNOWN,
	[IORING_OP_LINK_TIMEOUT] = OP_KNOWN,
	[IORING_OP_CONNECT] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_FALLOCATE] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_OPENAT] = OP_KNOWN,
	[IORING_OP_CLOSE] = OP_KNOWN,
	[IORING_OP_FILES_UPDATE] = OP_KNOWN,
	[IORING_OP_STATX] = OP_KNOWN,
	[IORING_OP_READ] = OP_KNOWN | OP_FIXED_FILE | OP_SELECT,
	[IORING_OP_WRITE] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_FADVISE] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_MADVISE] = OP_KNOWN,
	[IORING_OP_SEND] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_RECV] = OP_KNOWN | OP_FIXED_FILE | OP_SELECT,
	[IORING_OP_OPENAT2] = OP_KNOWN,
	[IORING_OP_EPOLL_CTL] = OP_KNOWN,
	[IORING_OP_SPLICE] = OP_KNOWN,
	[IORING_OP_PROVIDE_BUFFERS] = OP_KNOWN,
	[IORING_OP_REMOVE_BUFFERS] = OP_KNOWN,
	[IORING_OP_TEE] = OP_KNOWN,
	[IORING_OP_SHUTDOWN] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_RENAMEAT] = OP_KNOWN,
	[IORING_OP_UNLINKAT] = OP_KNOWN,
	[IORING_OP_MKDIRAT] = OP_KNOWN,
	[IORING_OP_SYMLINKAT] = OP_KNOWN,
	[IORING_OP_LINKAT] = OP_KNOWN,
	[IORING_OP_SOCKET] = OP_KNOWN,
	[IORING_OP_MSG_RING] = OP_KNOWN,
	[IORING_OP_FSETXATTR] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_SETXATTR] = OP_KNOWN,
	[IORING_OP_FGETXATTR] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_GETXATTR] = OP_KNOWN,
	[IORING_OP_SEND_ZC] = OP_KNOWN | OP_FIXED_FILE,
	[IORING_OP_SENDMSG_ZC] = OP_KNOWN | OP_FIXED_FILE,
};

bool uring_takes_fixed_file(unsigned op)
{
	return ops[op] & OP_FIXED_FILE;
}

bool uring_op_supported(unsigned op)
{
	return op < IORING_OP_LAST && ops[op] & OP_KNOWN;
}

/* Of fields whose meaning depends on the operation, what it does not know. */
static int check_extras(const struct io_uring_sqe *s)
{
	bool slot = s->file_index != 0;
	unsigned prio = s->ioprio & ~(unsigned)IORING_RECVSEND_POLL_FIRST;

	switch (s->opcode) {
	case IORING_OP_OPENAT:
		return slot && s->open_flags & O_CLOEXEC ? -EINVAL : 0;
	case IORING_OP_ACCEPT:
		if (s->ioprio & ~IORING_ACCEPT_MULTISHOT ||
		    (slot && s->accept_flags & SOCK_CLOEXEC) ||
		    (slot && s->ioprio && s->file_index != IORING_FILE_INDEX_ALLOC))
			return -EINVAL;
		return 0;
	case IORING_OP_SOCKET:
		return slot && s->off & SOCK_CLOEXEC ? -EINVAL : 0;
	case IORING_OP_CLOSE:
		return slot && s->fd ? -EINVAL : 0;
	case IORING_OP_RECV:
		if (!(prio & IORING_RECV_MULTISHOT))
			return prio ? -EINVAL : 0;
		return prio & ~(unsigned)IORING_RECV_MULTISHOT || s->msg_flags & MSG_WAITALL ||
				       !(s->flags & IOSQE_BUFFER_SELECT)
			       ? -EINVAL
			       : 0;
	case IORING_OP_SEND:
	case IORING_OP_SENDMSG:
	case IORING_OP_RECVMSG:
	case IORING_OP_SENDMSG_ZC:
		return prio ? -EINVAL : 0;
	case IORING_OP_SEND_ZC:
		return prio & ~(unsigned)IORING_RECVSEND_FIXED_BUF ? -EINVAL : 0;
	default:
		return 0;
	}
}

/* Rings that are to be polled for completions: no file here can be, and little else makes sense. */
static int check_iopoll(const struct io_uring_sqe *s)
{
	switch (s->opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
		return -EOPNOTSUPP;
	case IORING_OP_NOP:
	case IORING_OP_MSG_RING:
	case IORING_OP_PROVIDE_BUFFERS:
	case IORING_OP_REMOVE_BUFFERS:
	case IORING_OP_FILES_UPDATE:
		return 0;
	default:
		return -EINVAL;
	}
}

int uring_check(const struct uring *u, const struct io_uring_sqe *s)
{
	if (!uring_op_supported(s->opcode) || s->flags & ~KNOWN_FLAGS || s->personality)
		return -EINVAL;
	if (s->flags & IOSQE_BUFFER_SELECT && !(ops[s->opcode] & OP_SELECT))
		return -EOPNOTSUPP;
	if (u->flags & IORING_SETUP_IOPOLL) {
		int err = check_iopoll(s);
		if (err)
			return err;
	}
	return check_extras(s);
}

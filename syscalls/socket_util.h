/* socket_util.h - shared by the files of the socket family. */
#pragma once

#include "sentry/abi/socket.h"
#include "sentry/net/socket.h"
#include "syscalls/syscalls.h"

/* A caller as the socket families see one; ends with sock_caller_fini. */
struct task_caller {
	struct sock_caller c;
	struct walk_env env;
};
int task_caller_init(struct task_caller *tc, struct task *t, const struct sock_addr *a) MUST_CHECK;
void task_caller_fini(struct task_caller *tc);

/* The socket of a descriptor, with a reference to its file.  -EBADF, -ENOTSOCK. */
int socket_lookup(struct task *t, int fd, struct file **f, struct socket **s) MUST_CHECK;
int sock_addr_import(struct task *t, uaddr_t addr, unsigned len, struct sock_addr *a) MUST_CHECK;
/* Stores the name and, at ulen, its whole length; *ulen says how much room there is. */
int sock_addr_export(struct task *t, const struct sock_addr *a, uaddr_t addr,
		     uaddr_t ulen) MUST_CHECK;

/* The moment when a wait of `timeout` ns (TIME_NEVER: none) ends. */
int64_t sock_deadline(int64_t timeout);
/* What a wait that failed with err means, given the socket's time limit. */
int sock_wait_error(int err, int64_t timeout);

/* Control messages (sock_control.c). */
int sock_control_import(struct task *t, struct socket *s, uaddr_t control, uint64_t len,
			struct sock_msg *m) MUST_CHECK;
/* Stores creds and files as control messages, dropping what has no room (MSG_CTRUNC in
 * m->out_flags).  *used: bytes stored. */
int sock_control_export(struct task *t, struct socket *s, struct sock_msg *m, uaddr_t control,
			uint64_t room, uint64_t *used) MUST_CHECK;

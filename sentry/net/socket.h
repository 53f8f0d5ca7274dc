/*
 * socket.h - the socket core: what every address family shares, and what a family provides.
 *
 * A *family* (struct net_family) makes sockets; a family's sockets embed struct socket and come
 * with a const table of operations.  The core owns the file, the generic options (SO_*) and the
 * time limits; handlers (syscalls/sys_socket.c) move addresses and control messages to and from
 * guest memory.  Nothing here touches the host's network or the host's socket names.
 *
 * Operations never wait: -EAGAIN means "not now", and the socket's wait queue says when to ask
 * again.  Locks of a family are its own; the fields of struct socket say how they are guarded.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "sentry/auth/cred.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/waitq.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

struct socket;

#define SOCK_ADDR_MAX 128 /* sizeof(struct sockaddr_storage) */
#define SCM_MAX_FD_COUNT 253

struct sock_addr {
	uint32_t len; /* 0: none */
	union {
		sa_family_t family;
		uint8_t bytes[SOCK_ADDR_MAX];
	};
};

struct sock_ucred {
	int32_t pid;
	uint32_t uid, gid;
};

/* Who makes a call: everything that a family may need to know of a task. */
struct sock_caller {
	int pid;
	const struct cred *cred;
	const struct walk_env *env; /* for names in the file system; NULL: none */
};

/* What IP sockets may be told of one datagram that they send: ip(7), ipv6(7). */
struct sock_ip {
	bool has_src;
	uint8_t src[16]; /* where it comes from; IPv4 as ::ffff:a.b.c.d */
	int ttl, tos;	 /* -1: as the socket's options say */
};

/* Room for the control messages that families deliver: IP's, all of them switched on. */
#define SOCK_CONTROL_MAX 320

/* One message on its way in or out.  Files are references, owned by the message. */
struct sock_msg {
	struct uio *io;
	int flags;     /* MSG_* of the call */
	bool nonblock; /* O_NONBLOCK or MSG_DONTWAIT: the caller will not wait */
	/* send: where to (len 0: the connected peer).  receive: filled with the sender's name. */
	struct sock_addr name;
	/* Control data.  send: attached; receive: filled, when want_control says that the caller
	 * has room for some. */
	bool has_creds;
	struct sock_ucred creds;
	unsigned nfiles;
	struct file *files[SCM_MAX_FD_COUNT];
	struct sock_ip ip;    /* send */
	unsigned control_len; /* receive: control messages of the family's own, one after */
	uint8_t control[SOCK_CONTROL_MAX]; /* the other, each as sock_msg_control() lays it down */
	/* receive: MSG_TRUNC, MSG_EOR, … to show; bytes of the whole datagram for MSG_TRUNC. */
	int out_flags;
	size_t full_len;
};

/* NULL means the errno given. */
struct socket_ops {
	int (*bind)(struct socket *s, const struct sock_addr *a,
		    const struct sock_caller *c); /* EOPNOTSUPP */
	/* -EAGAIN: wait for POLLOUT and ask again; -EINPROGRESS is for families that connect in
	 * the background. */
	int (*connect)(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		       bool nonblock);						   /* EOPNOTSUPP */
	int (*listen)(struct socket *s, int backlog, const struct sock_caller *c); /* EOPNOTSUPP */
	/* A connected socket with one reference, not in a file yet; -EAGAIN: wait for POLLIN. */
	int (*accept)(struct socket *s, struct socket **out); /* EOPNOTSUPP */
	int (*pair)(struct socket *a, struct socket *b,
		    const struct sock_caller *c);			  /* EOPNOTSUPP */
	int (*getname)(struct socket *s, bool peer, struct sock_addr *a); /* EOPNOTSUPP */
	/* Bytes moved, short when the rest has to wait.  c may be NULL (write(2)). */
	ssize_t (*sendmsg)(struct socket *s, struct sock_msg *m, const struct sock_caller *c);
	ssize_t (*recvmsg)(struct socket *s, struct sock_msg *m);
	/* A control message of another level than SOL_SOCKET that comes with one to be sent: notes
	 * in m what it says.  NULL: it is ignored. */
	int (*control)(struct socket *s, struct sock_msg *m, int level, int type, const void *data,
		       size_t len);
	int (*shutdown)(struct socket *s, int how); /* EOPNOTSUPP */
	uint32_t (*poll)(struct socket *s);
	/* Levels and names that the core does not know: -ENOPROTOOPT.  get: *len in and out. */
	int (*setsockopt)(struct socket *s, int level, int name, const void *v, uint32_t len);
	int (*getsockopt)(struct socket *s, int level, int name, void *v, uint32_t *len);
	/* FIONREAD and SIOCOUTQ: a number, or -errno; ENOTTY. */
	long (*queue_len)(struct socket *s, bool out);
	int (*at_mark)(struct socket *s); /* SIOCATMARK: 0 or 1; ENOTTY */
	void (*closed)(struct socket *s); /* the file went; consumes its reference */
};

enum sock_shut { SOCK_SHUT_RD = 1, SOCK_SHUT_WR = 2, SOCK_SHUT_BOTH = 3 };

struct socket {
	const struct socket_ops *ops;
	int family, type, protocol; /* immutable */
	struct ns *net;		    /* reference, immutable: the network namespace that it is in */
	uint64_t ino;		    /* its file's; 0: none yet */
	uint32_t uid;		    /* who made it */
	struct landlock_domain *landlock; /* reference, immutable: its maker's, or NULL */
	struct waitq wq;
	_Atomic int error; /* SO_ERROR: positive, taken when shown */
	_Atomic int shut;  /* enum sock_shut bits */
	_Atomic bool listening, connected;
	/* Options: atomics, plain values. */
	_Atomic uint32_t sndbuf, rcvbuf;
	_Atomic bool passcred, passsec, reuseaddr, reuseport, keepalive, broadcast, oobinline,
		timestamp, timestamp_ns;
	_Atomic int priority, mark, rcvlowat;
	_Atomic int64_t sndtimeo, rcvtimeo; /* ns, TIME_NEVER: none */
	_Atomic int64_t linger;		    /* seconds, or -1 */
	/* Who the peer was when it connected: SO_PEERCRED, SO_PEERGROUPS.  Set before the socket
	 * is connected, then immutable (lc_socket before). */
	int peer_pid;
	struct cred *peer_cred; /* reference, or NULL */
};

struct net_family {
	int family;
	int (*create)(int type, int protocol, struct socket **out);
};

/* The socket of that family; -EAFNOSUPPORT, -ESOCKTNOSUPPORT, -EPROTONOSUPPORT.  type without
 * SOCK_NONBLOCK and SOCK_CLOEXEC. */
int socket_create(int family, int type, int protocol, struct socket **out) MUST_CHECK;
/* Fields that the core owns; families call it from create. */
void socket_init(struct socket *s, const struct socket_ops *ops, int family, int type,
		 int protocol);
void socket_fini(struct socket *s);
/* Drops a socket that never got a file. */
void socket_discard(struct socket *s);
/* Gives it a file: consumes s, also on failure.  flags: SOCK_NONBLOCK. */
int socket_file_new(struct socket *s, int flags, struct file **out) MUST_CHECK;
/* The socket of a file, borrowed; NULL: not one (ENOTSOCK). */
struct socket *socket_of_file(const struct file *f);

int socket_setsockopt(struct socket *s, int level, int name, const void *v, uint32_t len,
		      const struct cred *c) MUST_CHECK;
/* v has room for *len bytes; *len becomes what was stored.  *full, when not 0 afterwards, is how
 * much there was (SO_PEERGROUPS: -ERANGE). */
int socket_getsockopt(struct socket *s, int level, int name, const struct user_ns *u, void *v,
		      uint32_t *len) MUST_CHECK;

static inline ssize_t socket_sendmsg(struct socket *s, struct sock_msg *m,
				     const struct sock_caller *c)
{
	return s->ops->sendmsg(s, m, c);
}
static inline ssize_t socket_recvmsg(struct socket *s, struct sock_msg *m)
{
	return s->ops->recvmsg(s, m);
}
/* What is set in every message before it is used. */
void sock_msg_init(struct sock_msg *m, struct uio *io, int flags);
/* Adds a control message to one received. */
struct sock_control_head {
	int level, type;
	unsigned len; /* of the data behind it */
};
void sock_msg_control(struct sock_msg *m, int level, int type, const void *data, unsigned len);
/* SO_TIMESTAMP and SO_TIMESTAMPNS: when it came (ns since 1970), if the socket wants to know. */
void sock_msg_timestamp(const struct socket *s, struct sock_msg *m, int64_t when);
/* Puts the files of a message. */
void sock_msg_fini(struct sock_msg *m);
/* Stores an option's value of n bytes as far as there is room.  0. */
int socket_option_give(void *v, uint32_t *len, const void *src, uint32_t n);
/* Has c the capability over the network namespace of the socket? */
bool socket_net_capable(const struct socket *s, const struct cred *c, int cap);
/* May c bind or connect (LL_BIND_TCP, LL_CONNECT_TCP) the socket so?  landlock(7): EACCES, EINVAL.
 */
int socket_port_allowed(const struct socket *s, const struct sock_addr *a, const struct cred *c,
			uint32_t access) MUST_CHECK;
/* It belongs to that namespace, not to the caller's: of sockets that a listener makes. */
void socket_set_net(struct socket *s, struct ns *net);
/* The network namespace of the calling task, borrowed; NULL: nobody calls.  Defined by
 * syscalls/sys_socket.c, as are the others. */
struct ns *socket_current_net(void);
/* … and its Landlock domain. */
struct landlock_domain *socket_current_landlock(void);
/* Who calls, for write(2) on a socket; zeros when nobody does. */
void socket_current_ucred(struct sock_ucred *out);
/* Has the calling task the capability over that network namespace? */
bool socket_current_capable(const struct ns *net, int cap);
/* What the calling process calls that one: pids here are the sandbox's. */
int socket_current_pid(int pid);

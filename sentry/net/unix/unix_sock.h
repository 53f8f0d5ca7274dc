/*
 * unix_sock.h - shared by the files of net/unix only.
 *
 * A socket's queue holds what was sent to it.  A sender locks the receiver only; a reader claims
 * the queue's front (rbusy), copies without the lock and then commits, so a fault takes nothing.
 * A message is charged to the sender's wmem until it is read.
 *
 * References: the file has one on its socket, and so have the peer, every queued message (on its
 * sender) and, for the time of a call, whoever found the socket by name.  A connected pair's
 * references to one another go when each is closed.
 *
 * Locks: unix_sock.lock (lc_socket), never two at once; names_lock (lc_net) for name tables and
 * inode.socket; blocked_lock (lc_socket2) for the lists of senders that wait for a full queue.
 */
#pragma once

#include "sentry/net/unix/unix.h"
#include "sentry/vfs/vfs.h"

#define UNIX_PATH_LEN 108
#define UNIX_ADDR_MIN 2	  /* the family alone: no name */
#define UNIX_ADDR_LEN 110 /* sizeof(struct sockaddr_un) */

/* A bound name; immutable. */
struct unix_addr {
	ref_t ref;
	struct sock_addr a; /* len counts the family; path names include their NUL */
};

struct unix_msg {
	struct list_head node;
	struct unix_sock *sender; /* reference; charged with `charge` */
	struct unix_addr *name;	  /* sender's name when sent; reference, or NULL */
	uint32_t charge, cap, off, len;
	struct sock_ucred creds;
	unsigned nfiles;
	struct file **files; /* owned array of references */
	uint8_t data[];
};

enum unix_state { UNIX_CLOSED, UNIX_BUSY, UNIX_LISTEN, UNIX_CONNECTED };

struct unix_sock {
	struct socket s;
	ref_t ref;
	struct mutex lock; /* lc_socket: all of this block */
	struct list_head rcvq;
	uint32_t nmsgs;
	uint64_t rcvq_bytes;
	bool rbusy, rmissed; /* the queue's front is claimed; somebody saw that */
	bool binding;
	_Atomic bool closed;
	_Atomic int state;	/* enum unix_state; written under lock */
	struct unix_sock *peer; /* reference; of a stream: set once, before state says so */
	unsigned backlog, nqueued;
	struct list_head acceptq, accept_node;
	int listen_pid;
	struct cred *listen_cred; /* who listens: SO_PEERCRED of those that connect */

	struct list_head all_node;	/* of all there are: socket.c's all_lock */
	_Atomic uint32_t wmem;		/* bytes of queued messages that this socket sent */
	struct unix_addr *_Atomic addr; /* set once */
	struct path path;		/* of a path name: reference; bind and close only */
	bool in_names;			/* names_lock, as name_node */
	struct list_head name_node;

	_Atomic bool has_blocked;	      /* hint for `blocked` */
	struct list_head blocked;	      /* senders waiting for room here; blocked_lock */
	struct list_head blocked_node;	      /* on the list of blocked_on; blocked_lock */
	struct unix_sock *_Atomic blocked_on; /* written under blocked_lock */
};

static inline struct unix_sock *unix_of(struct socket *s)
{
	return container_of(s, struct unix_sock, s);
}

static inline bool unix_is_stream(const struct unix_sock *u)
{
	return u->s.type == SOCK_STREAM;
}

/* ---- socket.c ---- */
struct unix_sock *unix_sock_new(int type); /* NULL: no memory */
struct unix_sock *unix_get(struct unix_sock *u);
void unix_put(struct unix_sock *u);
bool unix_writable(const struct unix_sock *u);
/* Lists u as waiting for room at `target`, whose lock is held. */
void unix_block_on(struct unix_sock *u, struct unix_sock *target);
void unix_unblock(struct unix_sock *u);		  /* u itself gives up */
void unix_wake_blocked(struct unix_sock *target); /* there is room now; no lock held */

/* ---- names.c ---- */
int unix_bind(struct socket *s, const struct sock_addr *a, const struct sock_caller *c);
int unix_autobind(struct unix_sock *u);
/* The socket with that name, of the type and (abstract names) namespace of s, with a reference. */
int unix_find(const struct sock_addr *a, const struct socket *s, const struct sock_caller *c,
	      struct unix_sock **out) MUST_CHECK;
int unix_getname(struct socket *s, bool peer, struct sock_addr *a);
void unix_forget_name(struct unix_sock *u);
struct unix_addr *unix_addr_get(struct unix_addr *a);
void unix_addr_put(struct unix_addr *a);
void unix_addr_copy(const struct unix_addr *from /* or NULL */, struct sock_addr *to);
static inline bool unix_has_name(const struct sock_addr *a)
{
	return a->len > UNIX_ADDR_MIN;
}

/* ---- conn.c ---- */
int unix_connect(struct socket *s, const struct sock_addr *a, const struct sock_caller *c,
		 bool nonblock);
int unix_listen(struct socket *s, int backlog, const struct sock_caller *c);
int unix_accept(struct socket *s, struct socket **out);
int unix_pair(struct socket *a, struct socket *b, const struct sock_caller *c);
int unix_shutdown(struct socket *s, int how);
void unix_close(struct socket *s);

/* ---- msg.c ---- */
/* Room for n bytes, charged to the sender (reference taken); NULL: no memory. */
struct unix_msg *unix_msg_new(struct unix_sock *sender, uint32_t n);
/* Moves files (and their references) from m; -ETOOMANYREFS, -ENOMEM. */
int unix_msg_attach(struct unix_msg *msg, struct sock_msg *m) MUST_CHECK;
/* Moves the files to m (m has none), or duplicates them when `peek`. */
void unix_msg_detach(struct unix_msg *msg, struct sock_msg *m, bool peek);
void unix_msg_free(struct unix_msg *msg);
/*
 * Frees a list of messages whose files may be sockets with messages of their own: never
 * recursively, however deep guests nest them.
 */
void unix_msgs_discard(struct list_head *msgs);

/* ---- stream.c, dgram.c ---- */
ssize_t unix_stream_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c);
ssize_t unix_stream_recvmsg(struct socket *s, struct sock_msg *m);
ssize_t unix_dgram_sendmsg(struct socket *s, struct sock_msg *m, const struct sock_caller *c);
ssize_t unix_dgram_recvmsg(struct socket *s, struct sock_msg *m);
/* The sender's credentials: those of the message, else the caller's. */
void unix_sender_creds(const struct sock_msg *m, const struct sock_caller *c,
		       struct sock_ucred *out);
/* Claims the front of the queue: 0 with the first message, or what a read returns now (0 bytes
 * as 1).  lock held. */
int unix_claim(struct unix_sock *u, struct unix_msg **first) REQUIRES(lc_socket);
/* Ends the claim, releases the lock, notifies. */
void unix_unclaim(struct unix_sock *u) RELEASES(lc_socket);

/*
 * server.h - the inside of the gofer: nodes, requests, replies.  Single-threaded; no locks.
 *
 * Everything a handler knows about a request it got from a private copy of the message: fields are
 * fetched once and cannot change.  The process must have fd_dir, an O_PATH descriptor of
 * /proc/self/fd, as its current directory: "17" then names descriptor 17 for the calls that take
 * paths only, and is how a file is opened for reading and writing after it was looked at.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "gofer/gofer.h"
#include "gofer/proto.h"

enum node_kind {
	NODE_FREE,
	NODE_PATH,   /* O_PATH descriptor */
	NODE_HANDLE, /* directory opened for reading entries */
};

struct node {
	int fd;
	uint32_t gen;
	uint32_t next_free;
	uint16_t attach;
	uint8_t kind;
	uint32_t type;	/* S_IFMT bits: a file never changes them */
	int64_t offset; /* NODE_HANDLE: where the host's position stands */
};

struct attach_point {
	int fd;
	bool readonly;
};

struct gofer_server {
	struct node *nodes;
	uint32_t nnodes, first_free; /* first_free: NODE_NONE when none */
	uint32_t live, max_live;
	size_t nattach;
	struct attach_point *attach;
	bool host_uds;
	int inotify;	 /* -1: nothing was ever watched */
	uint8_t *dirbuf; /* DIRBUF_SIZE, made at the first use */
};

#define NODE_NONE UINT32_MAX
#define DIRBUF_SIZE 32768

/* The fixed parts of all requests. */
union gofer_req {
	struct gofer_attach_req attach;
	struct gofer_walk_req walk;
	struct gofer_open_req open;
	struct gofer_name_req name;
	struct gofer_link_req link;
	struct gofer_unlink_req unlink;
	struct gofer_rename_req rename;
	struct gofer_node_req node;
	struct gofer_setattr_req setattr;
	struct gofer_readdir_req readdir;
	struct gofer_fsync_req fsync;
	struct gofer_xattr_req xattr;
	struct gofer_connect_req connect;
	struct gofer_close_req close;
	struct gofer_list_req list;
	struct gofer_open_many_req open_many;
	struct gofer_watch_req watch;
	struct gofer_unwatch_req unwatch;
};

/* The variable part; taken from the front. */
struct gofer_tail {
	const uint8_t *p;
	size_t left;
};

struct gofer_reply {
	uint8_t *buf;		/* GOFER_MSG_MAX bytes, header included */
	size_t len;		/* header included; 0: no reply */
	int fds[GOFER_FDS_MAX]; /* owned by the reply */
	unsigned nfds;
	bool lent; /* they stay open */
};

/* ---- server.c ---- */
/* fd_dir must be the current directory.  Attach descriptors are consumed. */
int server_init(struct gofer_server *s, const struct attach_point *attach, size_t nattach,
		bool host_uds, uint32_t max_nodes) MUST_CHECK;
void server_fini(struct gofer_server *s);
/* One message in, one reply (rep->buf given by the caller).  -EPROTO: hang up. */
int server_handle(struct gofer_server *s, const uint8_t *msg, size_t n, unsigned nfds,
		  struct gofer_reply *rep) MUST_CHECK;
/* Until the peer closes (0) or breaks the protocol. */
int server_loop(struct gofer_server *s, int conn) MUST_CHECK;
/* Room for n bytes at the end of the reply, or NULL: too much. */
void *reply_add(struct gofer_reply *rep, size_t n);
void reply_add_fd(struct gofer_reply *rep, int fd); /* consumes fd */
/* Takes a name off the tail into buf (GOFER_NAME_LEN + 1 bytes): 0, -EPROTO, -EINVAL. */
int tail_name(struct gofer_tail *t, size_t len, char *buf) MUST_CHECK;
/* The same of a name that its uint16_t length precedes, as in a walk. */
int tail_walk_name(struct gofer_tail *t, char *buf) MUST_CHECK;
/* Are there `count` such names, and nothing more? */
int tail_check_names(struct gofer_tail t, uint32_t count) MUST_CHECK;

/* ---- node.c ---- */
struct node *node_find(struct gofer_server *s, uint64_t id, enum node_kind kind); /* or NULL */
/* As node_find, for a directory (-ENOTDIR); writable: of an attach point that allows changes. */
int node_find_dir(struct gofer_server *s, uint64_t id, bool writable, struct node **out) MUST_CHECK;
int node_find_writable(struct gofer_server *s, uint64_t id, struct node **out) MUST_CHECK;
/* Consumes fd when it succeeds.  Node pointers may move: look them up again afterwards. */
int node_new(struct gofer_server *s, int fd, enum node_kind kind, uint32_t type, uint16_t attach,
	     uint64_t *id) MUST_CHECK;
int node_room(const struct gofer_server *s); /* 0, or -EMFILE: ask before changing anything */
void node_close(struct gofer_server *s, uint64_t id); /* unknown ids are ignored */

/* ---- hostfile.c: operations on descriptors ---- */
struct fd_name {
	char s[12];
};
struct fd_name fd_name(int fd);			       /* relative to fd_dir */
int host_lookup(int dir, const char *name) MUST_CHECK; /* O_PATH descriptor or -errno */
/* Opens what the O_PATH descriptor fd names; flags: O_RDONLY, O_RDWR, O_PATH, O_DIRECTORY. */
int host_reopen(int fd, int flags) MUST_CHECK;
int host_open_dir(int dir, const char *name) MUST_CHECK; /* for reading its entries */
int host_stat(int fd, struct gofer_attr *a) MUST_CHECK;
/* Of a single name, not followed. */
int host_stat_name(int dir, const char *name, struct gofer_attr *a) MUST_CHECK;
int host_chmod(int fd, uint32_t mode) MUST_CHECK;
int host_chown(int fd, uint32_t uid, uint32_t gid) MUST_CHECK; /* UINT32_MAX: leave */

/* ---- ops_readdir.c ---- */
struct reader {
	int fd;
	size_t limit;					  /* of rep->len */
	enum { ATTRS_NONE, ATTRS_DIRS, ATTRS_ALL } attrs; /* whose */
	bool eof;
	int64_t offset; /* of the last record */
	uint32_t count;
};
/* Adds records, as many as there are or as fit. */
int read_entries(struct gofer_server *s, struct gofer_reply *rep, struct reader *r) MUST_CHECK;

/* ---- handlers ---- */
#define HANDLER(name)                                                                        \
	int name(struct gofer_server *s, const union gofer_req *rq, struct gofer_tail *tail, \
		 struct gofer_reply *rep)
HANDLER(op_attach);
HANDLER(op_walk);
HANDLER(op_open);
HANDLER(op_create);
HANDLER(op_mkdir);
HANDLER(op_mknod);
HANDLER(op_symlink);
HANDLER(op_link);
HANDLER(op_unlink);
HANDLER(op_rename);
HANDLER(op_readlink);
HANDLER(op_getattr);
HANDLER(op_setattr);
HANDLER(op_readdir);
HANDLER(op_statfs);
HANDLER(op_fsync);
HANDLER(op_syncfs);
HANDLER(op_getxattr);
HANDLER(op_setxattr);
HANDLER(op_listxattr);
HANDLER(op_removexattr);
HANDLER(op_connect);
HANDLER(op_bind);
HANDLER(op_close);
HANDLER(op_list);
HANDLER(op_open_many);
HANDLER(op_watch);
HANDLER(op_unwatch);

/* ---- confine.c ---- */
/* Makes the root an empty directory.  fd_dir stays usable and becomes the current directory. */
int confine_root(int fd_dir) MUST_CHECK;
int confine_privileges(void) MUST_CHECK;
/* Descriptors that the system call filter (gofer_filter_gen.c) names. */
enum { FILTER_CONN, FILTER_LOG, FILTER_READY };
/* log_fd and ready_fd: -1 for none. */
int confine_calls(int conn_fd, int log_fd, int ready_fd, bool host_uds) MUST_CHECK;

/*
 * proto.h - the messages between the sentry (client) and a gofer (server).
 *
 * Transport.  One connected SOCK_SEQPACKET unix socket: a message is a packet, so its length is
 * known before it is read and descriptors travel with the message that names them (SCM_RIGHTS).
 * Structures are little-endian with fixed sizes; there is no padding that is not a named field.
 *
 * Shape.  Every message starts with struct gofer_hdr.  A request has nfds 0 and error 0; its
 * payload is the fixed structure of its operation, then the variable part, then nothing more.
 * A reply repeats op and id.  error is 0 or -errno; with an error the payload is empty.  Requests
 * are answered in order.  GOFER_CLOSE has no reply.
 *
 * Nodes.  A node is a file that the server keeps an O_PATH descriptor for.  Ids are chosen by the
 * server, never 0, and not used again after GOFER_CLOSE (they carry a generation).  A directory
 * handle, made by GOFER_READDIR, has an id of the same kind and is closed the same way.
 *
 * Trust.  Both ends check everything.  A message that is not at all of this form (shorter than its
 * header, size not that of the packet, descriptors in a request, an answer to another question)
 * ends the connection.  A request of the right form that asks for something wrong is answered:
 * EPROTO its lengths disagree, EBADF no such node, EINVAL a bad name or flag.
 *
 * Names are one component: 1 to 255 bytes, no '/', no NUL, neither "." nor "..".
 */
#pragma once

#include <stdint.h>
#include <sys/inotify.h>

#define GOFER_VERSION 2
#define GOFER_MSG_MAX 73728 /* header included; room for the largest xattr value */
#define GOFER_FDS_MAX 16
#define GOFER_NAME_LEN 255
#define GOFER_PATH_LEN 4095 /* symlink targets */
#define GOFER_WALK_MAX 32
#define GOFER_CLOSE_MAX 1024
#define GOFER_XATTR_MAX 65536

struct gofer_hdr {
	uint32_t size; /* of the whole message */
	uint16_t op;
	uint16_t nfds; /* replies: descriptors that come along */
	uint32_t id;
	int32_t error;
};

enum gofer_op {
	GOFER_ATTACH = 1,  /* gofer_attach_req → gofer_attach_rep */
	GOFER_WALK,	   /* gofer_walk_req, names → gofer_walk_rep, entries, link target */
	GOFER_OPEN,	   /* gofer_open_req → gofer_open_rep, FDs in the flags' order */
	GOFER_CREATE,	   /* gofer_name_req → gofer_entry, one read-write FD */
	GOFER_MKDIR,	   /* gofer_name_req → gofer_entry */
	GOFER_MKNOD,	   /* gofer_name_req (mode: S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR: 0:0) →
			      gofer_entry */
	GOFER_SYMLINK,	   /* gofer_name_req, name, target → gofer_entry */
	GOFER_LINK,	   /* gofer_link_req, name → gofer_attr of the target */
	GOFER_UNLINK,	   /* gofer_unlink_req, name → nothing */
	GOFER_RENAME,	   /* gofer_rename_req, old name, new name → nothing */
	GOFER_READLINK,	   /* gofer_node_req → the target's bytes */
	GOFER_GETATTR,	   /* gofer_node_req → gofer_attr */
	GOFER_SETATTR,	   /* gofer_setattr_req → gofer_attr */
	GOFER_READDIR,	   /* gofer_readdir_req → gofer_readdir_rep, records */
	GOFER_STATFS,	   /* gofer_node_req → gofer_statfs_rep */
	GOFER_FSYNC,	   /* gofer_fsync_req → nothing */
	GOFER_SYNCFS,	   /* gofer_node_req → nothing */
	GOFER_GETXATTR,	   /* gofer_xattr_req, name → the value's bytes */
	GOFER_SETXATTR,	   /* gofer_xattr_req, name, value → nothing */
	GOFER_LISTXATTR,   /* gofer_xattr_req → NUL-terminated names */
	GOFER_REMOVEXATTR, /* gofer_xattr_req, name → nothing */
	GOFER_CONNECT,	   /* gofer_connect_req → nothing, one connected socket */
	GOFER_BIND,	 /* gofer_name_req (flags: socket type) → gofer_entry, one bound socket */
	GOFER_CLOSE,	 /* gofer_close_req, ids → no reply */
	GOFER_LIST,	 /* gofer_list_req, names → for each directory gofer_list_dir, records */
	GOFER_OPEN_MANY, /* gofer_open_many_req, names → an int32_t for each file, FDs */
	GOFER_WATCH,   /* gofer_watch_req → gofer_watch_rep, the inotify FD if it was asked for */
	GOFER_UNWATCH, /* gofer_unwatch_req → nothing */
	GOFER_OPS
};

struct gofer_time {
	int64_t sec;
	uint32_t nsec;
	uint32_t pad;
};

/* What statx(2) reports, STATX_BASIC_STATS and STATX_BTIME (zero where the file system has none).
 */
struct gofer_attr {
	uint32_t mode, nlink, uid, gid;
	uint64_t ino, size, blocks;
	uint32_t dev_major,
		dev_minor; /* of the host file system: one attach point may have several */
	uint32_t rdev_major, rdev_minor;
	uint32_t blksize;
	uint16_t has_btime;
	uint16_t dio_align; /* of offsets and sizes of direct I/O; 0: not known, or any will do */
	uint64_t attributes, attributes_mask;
	struct gofer_time atime, mtime, ctime, btime;
};

/* A file found or made. */
struct gofer_entry {
	uint64_t node; /* 0: none is kept */
	struct gofer_attr attr;
};

struct gofer_attach_req {
	uint32_t attach; /* index in the gofer's configuration */
	uint32_t version;
};
enum {
	GOFER_ATTACH_READONLY = 1,
	GOFER_ATTACH_HOST_UDS = 2, /* CONNECT and BIND may be asked for */
};
struct gofer_attach_rep {
	struct gofer_entry entry;
	uint32_t flags;
	uint32_t pad;
};

/*
 * Follows count names from node, each a uint16_t length and the bytes.  Stops at what cannot be
 * walked through.  The reply holds one entry per name found; stop is 0 when all were, -ENOENT and
 * the like when the next name failed, -ELOOP or -ENOTDIR when the last entry is a symlink or
 * something else that is no directory while names are left.
 */
enum {
	GOFER_WALK_TARGET = 1, /* add the target when the last entry is a symlink */
	GOFER_WALK_STAT = 2,   /* attributes only: entries have node 0 and nothing is kept */
	GOFER_WALK_OPEN = 8,   /* a read-only FD comes along when all names were found, the last one
				  is a   regular file and can be opened */
	GOFER_WALK_LAST = 4,   /* only the last entry gets a node, and only if all were found */
};
struct gofer_walk_req {
	uint64_t node;
	uint32_t flags;
	uint32_t count; /* 1 … GOFER_WALK_MAX */
};
struct gofer_walk_rep {
	uint32_t count;
	int32_t stop;
	uint32_t target_len; /* 0: no target */
	uint32_t pad;
};

/* Regular files only; sizes and times in attr are those after opening. */
enum {
	GOFER_OPEN_READ = 1,	   /* a descriptor with O_RDONLY */
	GOFER_OPEN_WRITE = 2,	   /* a descriptor with O_RDWR */
	GOFER_OPEN_ONLY_WRITE = 4, /* a descriptor with O_WRONLY */
};
struct gofer_open_req {
	uint64_t node;
	uint32_t flags;
	uint32_t pad;
};
struct gofer_open_rep {
	uint32_t flags; /* which descriptors came */
	uint32_t pad;
	struct gofer_attr attr;
};

/* Makes a name; fails with EEXIST when there is one.  In a set-group-ID directory gid is ignored:
 * the group is the directory's. */
struct gofer_name_req {
	uint64_t dir;
	uint32_t mode; /* permission bits; MKNOD: and type */
	uint32_t uid, gid;
	uint32_t flags; /* BIND: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET; otherwise 0 */
	uint16_t name_len;
	uint16_t target_len; /* SYMLINK; otherwise 0 */
	uint32_t pad;
};

struct gofer_link_req {
	uint64_t dir;
	uint64_t target;
	uint16_t name_len;
	uint16_t pad[3];
};

enum { GOFER_UNLINK_DIR = 1 };
struct gofer_unlink_req {
	uint64_t dir;
	uint32_t flags;
	uint16_t name_len;
	uint16_t pad;
};

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */
struct gofer_rename_req {
	uint64_t olddir, newdir;
	uint32_t flags;
	uint16_t old_len, new_len;
};

struct gofer_node_req {
	uint64_t node;
};

enum {
	GOFER_SET_MODE = 1,
	GOFER_SET_UID = 2,
	GOFER_SET_GID = 4,
	GOFER_SET_SIZE = 8,
	GOFER_SET_ATIME = 16,
	GOFER_SET_MTIME = 32,
	GOFER_SET_ATIME_NOW = 64,
	GOFER_SET_MTIME_NOW = 128,
};
struct gofer_setattr_req {
	uint64_t node;
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct gofer_time atime, mtime;
};

/*
 * Entries of a directory.  With GOFER_READDIR_START node is a directory, and a fresh handle is
 * opened at its beginning (offset is 0); otherwise node is a handle, and offset the `off` of the
 * entry to continue after.  When a first reply holds everything (GOFER_READDIR_EOF) no handle is
 * left open and `handle` is 0.
 */
enum {
	GOFER_READDIR_START = 1,
	GOFER_READDIR_ATTRS = 2, /* each record has a gofer_attr (not for "." and "..") */
};
enum { GOFER_READDIR_EOF = 1 };
struct gofer_readdir_req {
	uint64_t node;
	int64_t offset;
	uint32_t max; /* bytes of records wanted; bounded by the server, too */
	uint32_t flags;
};
struct gofer_readdir_rep {
	uint64_t handle;
	uint32_t count;
	uint32_t flags;
};
/* A record: this, the attributes if has_attr, the name, then padding to a multiple of 8. */
struct gofer_dirent {
	uint64_t ino;
	int64_t off; /* where the next entry is */
	uint16_t name_len;
	uint8_t type; /* DT_* */
	uint8_t has_attr;
	uint32_t pad;
};

/*
 * Whole directories with attributes, several in one reply.  `depth` names lead from node to a
 * directory; then come `count` names in it of directories to be listed (0: itself is).  The first
 * one must succeed.  While the reply has less than `ahead` bytes, it goes on with directories below
 * those and with the next of the names, as far as they fit as a whole; what cannot be read is left
 * out.  No node is kept.  Only the first directory may be incomplete: its header then has a handle,
 * to be read on with GOFER_READDIR after the last record.
 */
#define GOFER_LIST_TOP UINT32_MAX
#define GOFER_LIST_DIRS 512    /* in one reply, at most */
enum { GOFER_LIST_PLAIN = 1 }; /* only directories have attributes: others are not looked at */
struct gofer_list_req {
	uint64_t node;
	uint16_t depth, count; /* GOFER_WALK_MAX each */
	uint32_t ahead;
	uint32_t flags;
	uint32_t pad;
};
struct gofer_list_dir {
	uint32_t parent; /* number in this reply of the directory it is in; GOFER_LIST_TOP: asked
			    for */
	uint32_t index;	 /* of its record there, or of its name in the request */
	uint32_t count, bytes; /* of the records that follow */
	uint64_t handle;       /* 0: complete */
};

/*
 * Opens regular files of one directory for reading: `depth` names lead to it, `count` are files in
 * it.  For each 0 or -errno is answered; descriptors come for those with 0, in order.
 */
struct gofer_open_many_req {
	uint64_t node;
	uint16_t depth; /* at most GOFER_WALK_MAX */
	uint16_t count; /* 1 … GOFER_FDS_MAX */
	uint32_t pad;
};

struct gofer_statfs_rep {
	uint64_t type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags;
};

struct gofer_fsync_req {
	uint64_t node;
	uint32_t datasync;
	uint32_t pad;
};

/* Only names that begin with "user." pass; others are answered with EOPNOTSUPP. */
struct gofer_xattr_req {
	uint64_t node;
	uint32_t size; /* SET: the value's length.  GET, LIST: room for the answer; with 0 the reply
			  is the length alone, a uint32_t */
	uint32_t flags; /* SET: XATTR_CREATE, XATTR_REPLACE */
	uint16_t name_len;
	uint16_t pad[3];
};

/*
 * The host's inotify(7) watches a directory or regular file for changes (GOFER_WATCH_EVENTS); what
 * it reports is read from the one descriptor that all watches share.
 */
enum { GOFER_WATCH_START = 1 }; /* the descriptor comes along */
#define GOFER_WATCH_EVENTS                                                          \
	(IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE | IN_CREATE | IN_DELETE | \
	 IN_DELETE_SELF | IN_MOVE_SELF)
struct gofer_watch_req {
	uint64_t node;
	uint32_t flags;
	uint32_t pad;
};
struct gofer_watch_rep {
	int32_t wd; /* the same for the same file */
	uint32_t pad;
};
struct gofer_unwatch_req {
	int32_t wd;
	uint32_t pad;
};

struct gofer_connect_req {
	uint64_t node;
	uint32_t type; /* SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET */
	uint32_t pad;
};

struct gofer_close_req {
	uint32_t count; /* 1 … GOFER_CLOSE_MAX ids follow */
	uint32_t pad;
};

_Static_assert(sizeof(struct gofer_hdr) == 16, "wire format");
_Static_assert(sizeof(struct gofer_time) == 16, "wire format");
_Static_assert(sizeof(struct gofer_attr) == 144, "wire format");
_Static_assert(sizeof(struct gofer_entry) == 152, "wire format");
_Static_assert(sizeof(struct gofer_attach_rep) == 160, "wire format");
_Static_assert(sizeof(struct gofer_walk_req) == 16, "wire format");
_Static_assert(sizeof(struct gofer_walk_rep) == 16, "wire format");
_Static_assert(sizeof(struct gofer_open_req) == 16, "wire format");
_Static_assert(sizeof(struct gofer_open_rep) == 152, "wire format");
_Static_assert(sizeof(struct gofer_name_req) == 32, "wire format");
_Static_assert(sizeof(struct gofer_link_req) == 24, "wire format");
_Static_assert(sizeof(struct gofer_unlink_req) == 16, "wire format");
_Static_assert(sizeof(struct gofer_rename_req) == 24, "wire format");
_Static_assert(sizeof(struct gofer_setattr_req) == 64, "wire format");
_Static_assert(sizeof(struct gofer_readdir_req) == 24, "wire format");
_Static_assert(sizeof(struct gofer_readdir_rep) == 16, "wire format");
_Static_assert(sizeof(struct gofer_dirent) == 24, "wire format");
_Static_assert(sizeof(struct gofer_xattr_req) == 24, "wire format");
_Static_assert(sizeof(struct gofer_list_req) == 24, "wire format");
_Static_assert(sizeof(struct gofer_list_dir) == 24, "wire format");
_Static_assert(sizeof(struct gofer_open_many_req) == 16, "wire format");
_Static_assert(sizeof(struct gofer_watch_req) == 16, "wire format");
_Static_assert(sizeof(struct gofer_watch_rep) == 8, "wire format");
_Static_assert(sizeof(struct gofer_unwatch_req) == 8, "wire format");

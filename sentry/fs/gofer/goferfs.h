/*
 * goferfs.h - files of the host, served by a gofer (gofer/proto.h) and seen through the vfs.
 *
 * A struct gofer_conn is the connection to one container's gofer; every attach point of it that is
 * mounted is a super block.  Names and attributes are asked for by message; the data of regular
 * files goes through descriptors that the gofer donates, without it.
 *
 * Two modes.  Exclusive: nothing else changes the tree while the container runs, so names and
 * attributes, once known, are believed until the sentry itself changes them.  Shared
 * (GOFERFS_SHARED, for bind mounts that the host or others write to): each name is looked up again
 * on a walk unless that was done within the last 100 microseconds.  That window lets one system
 * call (walk, permission, open, stat of the same name) get by with one round trip; it is shorter
 * than the two wake-ups that it takes a host program to change a file and tell a guest about it,
 * so a guest that was told sees the change.
 *
 * Trust.  Nothing the gofer says is believed beyond its form: lengths are checked, a file never
 * changes its type, descriptors must have the access mode asked for and be the inode in question.
 * A gofer that breaks the protocol or dies makes every operation that needs it fail with EIO, once
 * and for all; hooks->dead is called, once.  Calls never wait for a dead gofer.
 *
 * Exclusive mode never believes more than that: when something else changes the tree all the same,
 * guests may see old names and attributes, or get ENOENT for what has moved; they never get another
 * file's data, and nothing outside the tree.
 *
 * Host descriptors.  Open files keep those they need; descriptors of closed files are cached, the
 * least recently used first to go, bounded per connection.  Writable ones of shared mounts are not
 * kept, so that the host does not see "text file busy".
 *
 * Locks: in the vfs's order; goferfs uses lc_inode_data2 for inode.data_lock (its inodes are often
 * a lower layer of an overlay), then lc_gofer, lc_inode, lc_leaf.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct super_block;
struct gofer_conn;

/* Filled by boot/; members may be NULL. */
struct goferfs_hooks {
	void (*block_begin)(void); /* around everything that waits for the gofer or a disk */
	void (*block_end)(void);
	void (*dead)(
		void *arg); /* from any thread, fs locks may be held: set a flag, wake someone */
	void *arg;
};

/* At start, while the limit of descriptors can still be asked for: how many are kept. */
void goferfs_init(void);

/* Consumes fd, a connected SOCK_SEQPACKET socket.  NULL: no memory. */
struct gofer_conn *gofer_conn_new(int fd, const struct goferfs_hooks *hooks);
struct gofer_conn *gofer_conn_get(struct gofer_conn *c);
void gofer_conn_put(struct gofer_conn *c);
/* To be watched for POLLHUP by whoever wants to know of a death before the next request. */
int gofer_conn_fd(const struct gofer_conn *c);
bool gofer_conn_dead(const struct gofer_conn *c);

enum {
	GOFERFS_SHARED = 1,
	GOFERFS_READONLY = 2,
	GOFERFS_HOST_UDS =
		4, /* sockets of the host may be connected to (needs the gofer's consent) */
};

/* Mounts attach point `attach` of the connection: *out is a reference.  -EIO: gofer trouble. */
int goferfs_mount(struct gofer_conn *c, uint32_t attach, unsigned flags,
		  struct super_block **out) MUST_CHECK;

/* A host socket connected to the socket file `in` (GOFERFS_HOST_UDS): a descriptor that the caller
 * owns, or -EPERM, -ECONNREFUSED, -EIO.  type: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET. */
struct inode;
int goferfs_connect(struct inode *in, int type) MUST_CHECK;
bool inode_is_goferfs(const struct inode *in);

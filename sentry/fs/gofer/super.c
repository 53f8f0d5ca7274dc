/* Mounting: the super block and its root. */
#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sentry/fs/gofer/listing.h"

static int gofer_statfs(struct super_block *sb, struct kstatfs *st)
{
	struct gofer_node_req rq = {.node = gi_of(sb->root->inode)->node};
	struct gofer_statfs_rep out;
	struct rpc r = {
		.op = GOFER_STATFS,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = &out,
		.rep_min = sizeof(out),
		.rep_max = sizeof(out),
	};
	int err = gofer_rpc(gsb_of(sb)->conn, &r);

	if (err)
		return err;
	/* What kind of file system the host has is no business of the guest's. */
	*st = (struct kstatfs){
		.type = sb->magic,
		.bsize = out.bsize,
		.blocks = out.blocks,
		.bfree = out.bfree,
		.bavail = out.bavail,
		.files = out.files,
		.ffree = out.ffree,
		.namelen = GOFER_NAME_LEN,
		.frsize = out.frsize,
	};
	return 0;
}

static int gofer_sync(struct super_block *sb)
{
	struct gofer_node_req rq = {.node = gi_of(sb->root->inode)->node};
	struct rpc r = {.op = GOFER_SYNCFS, .fixed = &rq, .fixed_len = sizeof(rq)};

	return sb->readonly ? 0 : gofer_rpc(gsb_of(sb)->conn, &r);
}

static void gofer_free(struct super_block *sb)
{
	struct gofer_sb *gsb = gsb_of(sb);

	gofer_conn_put(gsb->conn);
	free(gsb);
}

static void gofer_show_options(struct super_block *sb, char *buf, size_t size)
{
	snprintf(buf, size, ",cache=%s", gsb_of(sb)->flags & GOFERFS_SHARED ? "none" : "loose");
}

static void gofer_drop(struct super_block *sb)
{
	gofer_listings_drop_all(gsb_of(sb));
}

static const struct super_ops exclusive_ops = {
	.statfs = gofer_statfs,
	.sync = gofer_sync,
	.free = gofer_free,
	.drop = gofer_drop,
	.dentry_gone = gofer_dentry_gone,
	.show_options = gofer_show_options,
};
static const struct super_ops shared_ops = {
	.statfs = gofer_statfs,
	.sync = gofer_sync,
	.revalidate = gofer_revalidate,
	.watch = gofer_watch,
	.own_event = gofer_own_event,
	.free = gofer_free,
	.show_options = gofer_show_options,
};

static int attach(struct gofer_conn *c, uint32_t id, struct gofer_attach_rep *out)
{
	struct gofer_attach_req rq = {.attach = id, .version = GOFER_VERSION};
	struct rpc r = {
		.op = GOFER_ATTACH,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = out,
		.rep_min = sizeof(*out),
		.rep_max = sizeof(*out),
	};

	return gofer_rpc(c, &r);
}

int goferfs_mount(struct gofer_conn *c, uint32_t id, unsigned flags, struct super_block **out)
{
	struct gofer_attach_rep at;
	struct inode *root;
	int err = attach(c, id, &at);

	if (err)
		return err;
	struct gofer_sb *gsb = calloc(1, sizeof(*gsb));
	if (!gsb) {
		gofer_close_node(c, at.entry.node, true);
		return -ENOMEM;
	}
	gsb->conn = gofer_conn_get(c);
	gsb->flags = flags;
	mutex_init(&gsb->tree_lock);
	mutex_init(&gsb->list_lock);
	list_init(&gsb->listings);
	list_init(&gsb->recent);
	super_init(&gsb->sb, flags & GOFERFS_SHARED ? &shared_ops : &exclusive_ops, "9p",
		   V9FS_MAGIC);
	gsb->sb.readonly = gsb->sb.fixed_readonly =
		flags & GOFERFS_READONLY || at.flags & GOFER_ATTACH_READONLY;
	if (!(at.flags & GOFER_ATTACH_HOST_UDS))
		gsb->flags &= ~(unsigned)GOFERFS_HOST_UDS;
	err = gofer_inode_get(gsb, &at.entry, NULL, 0, &root);
	if (!err)
		err = super_set_root(&gsb->sb, root);
	if (err) {
		super_put(&gsb->sb);
		return err;
	}
	*out = &gsb->sb;
	return 0;
}

int goferfs_connect(struct inode *in, int type)
{
	struct gofer_sb *gsb = gsb_of(in->sb);

	if (!inode_is_goferfs(in) || !(gsb->flags & GOFERFS_HOST_UDS))
		return -EPERM;
	struct gofer_connect_req rq = {.type = (uint32_t)type};
	struct rpc r = {
		.op = GOFER_CONNECT,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.fds_room = 1,
	};
	int err = gofer_node(gi_of(in), &rq.node);
	if (!err)
		err = gofer_rpc(gsb->conn, &r);
	if (err)
		return err;
	if (r.nfds != 1) {
		for (unsigned i = 0; i < r.nfds; i++)
			close(r.fds[i]);
		return gofer_conn_fail(gsb->conn, "a connection came without its socket");
	}
	return r.fds[0];
}

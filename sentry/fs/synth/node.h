/* Inside of sentry/fs/synth: the node behind every synthetic inode. */
#pragma once

#include "sentry/fs/synth/synth.h"

struct synth_super {
	struct super_block sb;
	unsigned flags; /* SYNTH_* */
};

enum synth_kind { SYNTH_DIR, SYNTH_FILE, SYNTH_LINK };

struct synth_node {
	struct inode in;
	const struct synth_common_ops *common; /* NULL: none; the first member of `ops` below */
	union {
		const struct synth_dir_ops *dir_ops;
		const struct synth_file_ops *file_ops;
		const struct synth_link_ops *link_ops;
	};
	void *arg;
	struct list_head children; /* of struct synth_entry; data_lock (lc_inode_data) */
	int64_t next_pos;	   /* position that the next child gets in listings; data_lock */
};

static inline struct synth_node *synth_node(const struct inode *in)
{
	return container_of((struct inode *)in, struct synth_node, in);
}

extern const struct inode_ops synth_dir_iops, synth_dir_guarded_iops;
extern const struct inode_ops synth_file_iops, synth_file_guarded_iops;
extern const struct inode_ops synth_link_iops, synth_magic_iops;

struct synth_node *synth_node_new(struct super_block *sb, uint32_t mode,
				  const struct inode_ops *iops, const void *ops,
				  const struct synth_common_ops *common, void *arg);
int synth_permission(struct inode *in, int mask, const struct cred *c);
int synth_getattr(struct inode *in, struct kstat *st);
int synth_setattr(struct inode *in, const struct iattr *a);
int synth_may_open(struct inode *in, struct file *f);
void synth_free(struct inode *in);
struct inode *synth_static_child(struct inode *dir, const char *name);
/* Lists static children from *off on; false: the buffer is full. */
bool synth_emit_static(struct inode *dir, struct dir_context *ctx, int64_t *off);

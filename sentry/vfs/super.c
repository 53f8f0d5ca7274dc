/* Super blocks: device numbers and the end of life. */
#include <stdlib.h>

#include "sentry/vfs/handle.h"
#include "sentry/vfs/internal.h"

uint64_t dev_encode(unsigned major, unsigned minor)
{
	return (uint64_t)(major & 0xfff) << 8 | (minor & 0xff) |
	       (uint64_t)(minor & 0xffffff00) << 12 | (uint64_t)(major & 0xfffff000) << 32;
}

uint64_t dev_new_anonymous(void)
{
	static _Atomic unsigned last;
	/* Major 0 has 20 bits of minor numbers; a sandbox does not come near. */
	return dev_encode(0, (atomic_fetch_add(&last, 1) + 1) & 0xfffff);
}

void super_init(struct super_block *sb, const struct super_ops *ops, const char *fstype,
		uint64_t magic)
{
	ref_init(&sb->ref, 1);
	sb->ops = ops;
	sb->fstype = fstype;
	sb->magic = magic;
	sb->dev = dev_new_anonymous();
	sb->root = NULL;
	sb->marks = NULL;
	sb->user_ns = user_ns_get(&user_ns_top);
	mutex_init(&sb->rename_lock);
	sb->readonly = sb->fixed_readonly = sb->no_dcache = sb->pseudo = false;
	sb->layer = LAYER_NONE;
	sb->own_umask = false;
	atomic_init(&sb->pins, 1);
}

struct super_block *super_get(struct super_block *sb)
{
	ref_get(&sb->ref);
	return sb;
}

void super_unpin(struct super_block *sb)
{
	if (atomic_fetch_sub(&sb->pins, 1) != 1)
		return;
	struct user_ns *u = sb->user_ns;
	sb->ops->free(sb);
	user_ns_put(u);
}

/* The last user is gone: what is only cached goes; what is still held keeps its pin. */
void super_put(struct super_block *sb)
{
	if (!sb || !ref_put(&sb->ref))
		return;
	notify_super_gone(sb);
	handle_forget_super(sb);
	dcache_drop_super(sb);
	super_unpin(sb);
}

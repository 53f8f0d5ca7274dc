/* struct fs_context: root, current directory and umask of a task. */
#include <stdlib.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/vfs/mount.h"

struct fs_context *fs_context_new(struct mnt_ns *ns, struct path root, struct path cwd,
				  uint32_t umask)
{
	struct fs_context *fs = malloc(sizeof(*fs));

	if (!fs)
		return NULL;
	ref_init(&fs->ref, 1);
	mutex_init(&fs->lock);
	fs->mnt_ns = mnt_ns_get(ns);
	fs->root = path_get(root);
	fs->cwd = path_get(cwd);
	fs->umask = umask;
	return fs;
}

struct fs_context *fs_context_dup(struct fs_context *fs)
{
	mutex_lock(&fs->lock, &lc_fs);
	struct fs_context *copy = fs_context_new(fs->mnt_ns, fs->root, fs->cwd, fs->umask);
	mutex_unlock(&fs->lock, &lc_fs);
	return copy;
}

bool fs_context_is_chrooted(struct fs_context *fs)
{
	mutex_lock(&fs->lock, &lc_fs);
	struct path root = path_get(fs->root);
	struct mnt_ns *ns = mnt_ns_get(fs->mnt_ns);
	mutex_unlock(&fs->lock, &lc_fs);
	struct path top = mnt_ns_root(ns);
	bool chrooted =
		path_cross_mounts(&top, 0) || top.mnt != root.mnt || top.dentry != root.dentry;
	path_put(root);
	path_put(top);
	mnt_ns_put(ns);
	return chrooted;
}

/* Consumes the references of what is new. */
static void replace(struct fs_context *fs, struct mnt_ns *ns, struct path root, struct path cwd)
{
	mutex_lock(&fs->lock, &lc_fs);
	struct mnt_ns *old_ns = fs->mnt_ns;
	struct path old_root = fs->root, old_cwd = fs->cwd;
	fs->mnt_ns = ns;
	fs->root = root;
	fs->cwd = cwd;
	mutex_unlock(&fs->lock, &lc_fs);
	path_put(old_root);
	path_put(old_cwd);
	mnt_ns_put(old_ns);
}

int fs_context_new_mnt_ns(struct fs_context *fs, const struct ns_maker *maker)
{
	struct path root = path_get(fs->root), cwd = path_get(fs->cwd);
	struct mnt_ns *ns;

	int err = mnt_ns_copy(fs->mnt_ns, maker, &root, &cwd, &ns);
	if (err) {
		path_put(root);
		path_put(cwd);
		return err;
	}
	replace(fs, ns, root, cwd);
	return 0;
}

void fs_context_enter(struct fs_context *fs, struct mnt_ns *ns)
{
	struct path root = mnt_ns_root(ns);

	(void)!path_cross_mounts(&root, 0);
	replace(fs, ns, root, path_get(root));
}

struct fs_context *fs_context_get(struct fs_context *fs)
{
	ref_get(&fs->ref);
	return fs;
}

void fs_context_put(struct fs_context *fs)
{
	if (!fs || !ref_put(&fs->ref))
		return;
	path_put(fs->cwd);
	path_put(fs->root);
	mnt_ns_put(fs->mnt_ns);
	free(fs);
}

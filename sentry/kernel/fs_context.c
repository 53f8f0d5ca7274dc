/* struct fs_context: root, current directory and umask of a task. */
#include <stdlib.h>

#include "sentry/kernel/fdtable.h"

struct fs_context *fs_context_new(struct path root, struct path cwd, uint32_t umask)
{
	struct fs_context *fs = malloc(sizeof(*fs));

	if (!fs)
		return NULL;
	ref_init(&fs->ref, 1);
	mutex_init(&fs->lock);
	fs->root = path_get(root);
	fs->cwd = path_get(cwd);
	fs->umask = umask;
	return fs;
}

struct fs_context *fs_context_dup(struct fs_context *fs)
{
	mutex_lock(&fs->lock, &lc_fs);
	struct fs_context *copy = fs_context_new(fs->root, fs->cwd, fs->umask);
	mutex_unlock(&fs->lock, &lc_fs);
	return copy;
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
	free(fs);
}

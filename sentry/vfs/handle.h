/*
 * handle.h - file handles: names of files that stay when the files move.
 *
 * No file system here can find a file by its number alone.  What has been given out is remembered
 * instead: a table of the last HANDLES_MAX files, of which each handle names one by file system and
 * inode number.  What fell out of it, or was removed, is stale (ESTALE), which is what handles may
 * always become.
 */
#pragma once

#include "sentry/vfs/vfs.h"

#define HANDLES_MAX 4096

/* What a handle carries: as Linux's FILEID_INO32_GEN of tmpfs. */
struct vfs_handle {
	uint32_t generation;
	uint32_t ino[2];
};

/* Makes one.  EOPNOTSUPP: files of that kind of file system have none. */
int handle_make(struct path p, struct vfs_handle *out) MUST_CHECK;
/* The file of that handle on the mount m: new references.  ESTALE */
int handle_find(struct mount *m, const struct vfs_handle *h, struct path *out) MUST_CHECK;
/* A name of that file, or a whole file system, is gone. */
void handle_forget(struct dentry *d);
void handle_forget_super(struct super_block *sb);

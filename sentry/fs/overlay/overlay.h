/*
 * overlay.h - a writable layer over read-only ones, with the semantics and the on-disk format of
 * Linux's overlayfs: whiteouts are character devices 0:0, an opaque directory carries
 * trusted.overlay.opaque=y, a file is copied up with its parents at its first change.
 *
 * Names that are cached cost no work in the layers.  Files keep their inode number and hard links
 * when they are copied up (as index=on, xino=on do on Linux), as long as the instance lives.
 * Directories that have a lower part are not renamed: EXDEV, as with redirect_dir=off.
 *
 * Layers must not be changed behind the overlay's back, and may not be overlays themselves.  Their
 * super blocks become `layer`s for good (see struct super_block).
 *
 * Source: Documentation/filesystems/overlayfs.rst of Linux.
 */
#pragma once

#include "sentry/vfs/vfs.h"

struct overlay_options {
	const struct path *lower; /* topmost first; borrowed */
	size_t nlower;
	/* Where changes go, and an empty directory of the same file system for files in the making;
	 * upper.dentry NULL: a read-only overlay. */
	struct path upper, work;
	const char *shown; /* what /proc/mounts shows after the flags: ",lowerdir=…"; copied; "" */
};
/* *out gets a reference.  -EINVAL: bad layers. */
int overlay_mount(const struct overlay_options *o, struct super_block **out) MUST_CHECK;
/*
 * What mount(8) asks for: lowerdir=A:B:…, lowerdir+=A, upperdir=, workdir=, whose paths are walked
 * as p->env says.  Options that name what this overlay does anyway are taken, others EINVAL.
 */
int overlay_make(const struct fs_params *p, struct super_block **out) MUST_CHECK;
/*
 * An overlay over the whole of `lower` (borrowed) with an upper layer in memory, a tmpfs with these
 * options ("size=…", or NULL); the upper root takes owner and mode from the lower one.
 */
int overlay_mount_memory(struct super_block *lower, const char *tmpfs_options,
			 struct super_block **out) MUST_CHECK;
/* Is it an overlay? */
bool super_is_overlay(const struct super_block *sb);

/*
 * erofs.h - read-only file systems in images: EROFS.
 *
 * The image is a file that the guest names as the source, as Linux 6.12 mounts them; it must not be
 * a FUSE server's.  Compressed files can be seen but not opened (EOPNOTSUPP).  The parser is
 * image.h.
 */
#pragma once

#include "sentry/vfs/vfs.h"

/* *out gets a reference.  -EINVAL: no image. */
int erofs_make(const struct fs_params *p, struct super_block **out) MUST_CHECK;

/*
 * fuse.h - file systems whose server is a guest process: /dev/fuse, and the file system "fuse".
 *
 * README.md says how it works.  Source: linux/fuse.h, fuse(4), mount.fuse3(8).
 */
#pragma once

#include "sentry/vfs/vfs.h"

/* Start-up: /dev/fuse can be opened. */
int fuse_init(void) MUST_CHECK;
/* What mount(2) asks for: fd=, rootmode=, user_id=, group_id= and the optional ones. */
int fuse_make(const struct fs_params *p, struct super_block **out) MUST_CHECK;
#define FUSE_KEYS                                                                              \
	"fd= rootmode= user_id= group_id= default_permissions allow_other max_read= blksize= " \
	"subtype="

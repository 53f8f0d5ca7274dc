/*
 * dev.h - device files: what opening a character or block device means, whatever file system its
 * node is in, and the nodes that every container's /dev has.
 *
 * Source: null(4), full(4), random(4), tty(4), the OCI runtime specification ("Default Devices").
 */
#pragma once

#include "sentry/vfs/file.h"
#include "sentry/vfs/vfs.h"

/* Makes f ready (f->ops, f->priv), as inode_ops.open does. */
typedef int (*dev_open_fn)(struct inode *in, struct file *f);

#define DEV_ANY_MINOR (~0u)

/* Start-up only: registers what opening (major, minor) does.  A later registration of the same
 * numbers replaces an earlier one; an exact minor goes before DEV_ANY_MINOR.  -ENOSPC. */
int dev_register(bool block, unsigned major, unsigned minor, dev_open_fn open) MUST_CHECK;

/* Start-up: registers the memory devices and terminals, and becomes vfs_open_device.  Devices that
 * nobody registered cannot be opened: ENXIO. */
int dev_init(void) MUST_CHECK;

/*
 * What opening /dev/tty (5:0) and /dev/console (5:1) does: filled by the part that knows about
 * terminals.  NULL: ENXIO, as for a process without a controlling terminal.
 */
extern int (*dev_tty_open)(struct file *f);
extern int (*dev_console_open)(struct file *f);

/* Makes the default nodes, links and directories in an (empty) /dev; existing names stay. */
int dev_populate(struct dentry *dev) MUST_CHECK;
/* One more node, e.g. of config.json's linux.devices; `name` is relative to /dev, parents are
 * made.  mode with S_IFCHR, S_IFBLK or S_IFIFO. */
int dev_add_node(struct dentry *dev, const char *name, uint32_t mode, uint64_t rdev, uint32_t uid,
		 uint32_t gid) MUST_CHECK;
/* A tmpfs called "devtmpfs", populated. */
int devtmpfs_mount(const char *options, struct super_block **out) MUST_CHECK;

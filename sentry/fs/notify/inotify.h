/*
 * inotify(7): a queue of events behind a descriptor, filled by marks on inodes (vfs/notify.h).
 *
 * A mark on an inode hears of changes made through the sandbox, on every file system, and of those
 * that others make on the host where a mount is shared with them (fs/gofer/watch.c).
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/vfs/vfs.h"

struct file;

/* /proc/sys/fs/inotify */
extern _Atomic int inotify_max_queued_events, inotify_max_user_instances, inotify_max_user_watches;

/* flags: IN_NONBLOCK.  uid: whose limits count.  -EMFILE, -ENOMEM. */
int inotify_create_file(int flags, uint32_t uid, struct file **out) MUST_CHECK;
bool file_is_inotify(const struct file *f);
/* Watches an inode, or changes its watch: the watch descriptor.  -EEXIST (IN_MASK_CREATE),
 * -ENOSPC, -ENOMEM.  f is an inotify file. */
int inotify_watch(struct file *f, struct inode *in, uint32_t mask) MUST_CHECK;
/* -EINVAL: no such watch. */
int inotify_unwatch(struct file *f, int wd) MUST_CHECK;

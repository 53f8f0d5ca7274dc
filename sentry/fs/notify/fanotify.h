/*
 * fanotify(7): a group of marks on inodes, mounts and file systems, its queue of events behind a
 * descriptor, and the questions that it may answer (FAN_OPEN_PERM …).
 *
 * Of Linux's groups those of FAN_REPORT_MNT and the event FAN_PRE_ACCESS are not known, and
 * FAN_FS_ERROR, which can be asked for, does not happen.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/vfs/vfs.h"

struct file;

/* /proc/sys/fs/fanotify */
extern _Atomic int fanotify_max_queued_events, fanotify_max_user_groups, fanotify_max_user_marks;

#ifndef FAN_REPORT_FD_ERROR
#define FAN_REPORT_FD_ERROR 0x2000
#endif
#define FAN_FID_BITS (FAN_REPORT_FID | FAN_REPORT_DIR_FID | FAN_REPORT_NAME | FAN_REPORT_TARGET_FID)

/*
 * flags: of fanotify_init(2), judged by the caller; event_flags: what events' files are opened
 * with; unprivileged: who made it may not see the doings of others.  -EMFILE, -ENOMEM
 */
int fanotify_create_file(unsigned flags, int event_flags, uint32_t uid, bool unprivileged,
			 struct file **out) MUST_CHECK;
bool file_is_fanotify(const struct file *f);
/* The flags that the group was made with. */
unsigned fanotify_flags(const struct file *f);
bool fanotify_is_unprivileged(const struct file *f);
/* Adds to or takes from (as flags of fanotify_mark(2) say, and judged by the caller) the mask of
 * the mark on p's inode, mount or super block.  -ENOENT, -EEXIST, -ENOSPC, -ENOMEM */
int fanotify_change_mark(struct file *f, struct path p, unsigned flags, uint32_t mask) MUST_CHECK;
/* Removes all marks of a kind: FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM or 0. */
void fanotify_flush(struct file *f, unsigned kind);
/* Start-up: questions can be asked. */
void fanotify_enable(void);

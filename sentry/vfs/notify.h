/*
 * notify.h - telling of what happens to files: the marks that inotify, fanotify and dnotify
 * (sentry/fs/notify) put on inodes, mounts and super blocks, and the calls by which the vfs reports
 * events to them.
 *
 * Events are inotify(7)'s IN_* bits, which those of fanotify(7) are the same as, and what only that
 * has: NOTIFY_OPEN_EXEC, NOTIFY_RENAME, and questions (notify_ask).  A mark on a directory hears of
 * its entries as well, with their names.  Reports are made after the change, with no lock of the
 * vfs held, on the names that the guest used: what a stacked file system does to its layers is
 * nobody's event.
 *
 * A mark on an inode holds a reference to it, and while it is there the dentry cache keeps the
 * inode's dentries; marks on mounts and super blocks go with these.  lc_notify, one global lock,
 * guards all marks; `event`, `finish` and `gone` run under it and neither block nor report.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

struct dentry;
struct file;
struct inode;
struct mount;
struct path;
struct super_block;
struct notify_mark;

enum {
	NOTIFY_OPEN_EXEC = 0x1000,
	NOTIFY_RENAME = 0x10000000, /* one event for a move, beside IN_MOVED_FROM and IN_MOVED_TO */
	/* Questions: may it be opened, read, opened to be executed? */
	NOTIFY_OPEN_PERM = 0x10000,
	NOTIFY_ACCESS_PERM = 0x20000,
	NOTIFY_OPEN_EXEC_PERM = 0x40000,
	NOTIFY_PERMS = NOTIFY_OPEN_PERM | NOTIFY_ACCESS_PERM | NOTIFY_OPEN_EXEC_PERM,
};

struct notify_event {
	uint32_t mask; /* what happened, with IN_ISDIR */
	/* The directory, and the name in it, of what it happened to, or of the entry that came or
	 * went; NULL: not known, or none.  Borrowed, as all of it. */
	struct inode *dir;
	const char *name;
	size_t name_len;
	uint32_t cookie;	 /* ties IN_MOVED_FROM and IN_MOVED_TO together */
	bool unlinked;		 /* the name is no longer in the directory */
	struct inode *inode;	 /* what it happened to, or what the name means (meant) */
	const struct path *path; /* by which it is open; NULL: not through an open file */
	struct inode *new_dir;	 /* NOTIFY_RENAME: where it is now */
	const char *new_name;
	size_t new_name_len;
	struct list_head *asked; /* questions: where `finish` puts who must answer */
};

/* What a mark that hears of an event is on. */
enum notify_role {
	NOTIFY_SELF,	  /* what it happened to */
	NOTIFY_CHILD,	  /* the directory of that, by the name */
	NOTIFY_ENTRY,	  /* the directory whose entry came or went */
	NOTIFY_NEW_ENTRY, /* NOTIFY_RENAME: the one where it went to */
	NOTIFY_ON_MOUNT,
	NOTIFY_ON_SUPER,
};

struct notify_mark_ops {
	/* Something happened.  Returns false when this was the last event that the mark wants: it
	 * is then detached. */
	bool (*event)(struct notify_mark *m, const struct notify_event *e, enum notify_role role);
	/* All marks of this kind have heard of the event.  NULL: nothing to do */
	void (*finish)(const struct notify_event *e);
	/* The mark was detached: by its owner, or because what it is on is gone. */
	void (*gone)(struct notify_mark *m);
	/* After gone(), with no lock held: frees it. */
	void (*free)(struct notify_mark *m);
};

struct notify_mark {
	const struct notify_mark_ops *ops;
	struct inode *inode;		    /* reference; NULL: not on an inode */
	struct notify_mark *_Atomic *first; /* the list it is on: of an inode, mount, super block */
	struct notify_mark *next;	    /* there, or on a list of detached ones */
	struct list_head all;		    /* all marks */
};

extern struct mutex notify_lock; /* lc_notify */
extern _Atomic unsigned notify_nmarks;
extern _Atomic unsigned notify_nasking; /* marks that want to be asked; their owner counts them */

/* Puts a mark on an inode (takes a reference), or on a mount or super block: its `marks`. */
void notify_mark_attach(struct notify_mark *m, struct inode *in) REQUIRES(lc_notify);
void notify_mark_attach_to(struct notify_mark *m, struct notify_mark *_Atomic *first)
	REQUIRES(lc_notify);
/* Before and, where no mark came about, after: with no lock held. */
void notify_watch_begin(struct inode *in);
void notify_watch_end(struct inode *in);
/* Takes it off; *dead collects it for notify_reap(), which the caller owes after unlocking. */
void notify_mark_detach(struct notify_mark *m, struct notify_mark **dead) REQUIRES(lc_notify);
void notify_reap(struct notify_mark *dead);
/* Does anybody look at anything?  What every report asks first. */
static inline bool notify_active(void)
{
	return atomic_load_explicit(&notify_nmarks, memory_order_relaxed) != 0;
}

/* ---- reports; IN_ISDIR is added where it belongs ---- */
/* An entry of a directory came or went; subject is what the name means (meant). */
void notify_name(struct inode *dir, uint32_t mask, const char *name, size_t len,
		 struct inode *subject, uint32_t cookie);
/* An entry moved, as NOTIFY_RENAME. */
void notify_renamed(const struct notify_event *e);
/* Something happened to a file: its directory hears of it too, by the name that d is. */
void notify_dentry(struct dentry *d, uint32_t mask);
/* … to the inode only, whatever its names are. */
void notify_inode(struct inode *in, uint32_t mask);
/* Reading, writing, opening, closing; a file whose opening was reported has `noted` set. */
void notify_file(struct file *f, uint32_t mask);
uint32_t notify_new_cookie(void);
/* The last name and user of an inode are gone: IN_DELETE_SELF, and its marks go. */
void notify_inode_removed(struct inode *in);
/* A super block is going: IN_UNMOUNT, and the marks on it go. */
void notify_super_gone(struct super_block *sb);
void notify_mount_gone(struct mount *m);

/* owner (NULL: all) closes a descriptor of the file f: what he was to be told by it is no more.
 * Filled by sentry/fs/notify; NULL: nothing is. */
extern void (*notify_forgetter)(struct file *f, const void *owner);
void notify_closed(struct file *f, const void *owner);

/* Somebody else did something to the inode, or with a name in it (mask: with IN_ISDIR). */
void notify_foreign(struct inode *in, uint32_t mask, const char *name, size_t len, uint32_t cookie);

/* ---- questions ---- */
/*
 * Waits, as the calling task, until all who asked to be asked have allowed it: 0, or -EPERM (or
 * what they said), -EINTR.  No lock may be held.  Filled by sentry/fs/notify; NULL: nobody can ask.
 */
extern int (*notify_asker)(const struct path *p, uint32_t mask);
static inline int notify_ask(const struct path *p, uint32_t mask)
{
	return atomic_load_explicit(&notify_nasking, memory_order_relaxed) ? notify_asker(p, mask)
									   : 0;
}
/* For the asker: delivers the question to the marks. */
void notify_question(struct notify_event *e);

/*
 * notify.h - telling of what happens to files: the marks that inotify (sentry/fs/notify) puts on
 * inodes, and the calls by which the vfs reports events to them.
 *
 * Events are inotify(7)'s: IN_* bits.  A mark on a directory hears of its entries as well, with
 * their names.  Reports are made after the change, with no lock of the vfs held, on the names that
 * the guest used: what a stacked file system does to its layers is nobody's event.
 *
 * A mark holds a reference to its inode, and while it is there the dentry cache keeps the inode's
 * dentries.  lc_notify, one global lock, guards all marks; `event` and `gone` run under it and
 * neither block nor report.
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
struct super_block;
struct notify_mark;

struct notify_event {
	uint32_t mask; /* IN_*: what happened, with IN_ISDIR */
	const char
		*name; /* in the marked directory; NULL: it happened to the marked inode itself */
	size_t name_len;
	uint32_t cookie; /* ties IN_MOVED_FROM and IN_MOVED_TO together */
	bool unlinked;	 /* the name is no longer in the directory */
};

struct notify_mark_ops {
	/* Something happened to the inode or, with a name, in it.  Returns false when this was the
	 * last event that the mark wants: it is then detached. */
	bool (*event)(struct notify_mark *m, const struct notify_event *e);
	/* The mark was detached: by its owner, or because its inode is gone. */
	void (*gone)(struct notify_mark *m);
	/* After gone(), with no lock held: frees it. */
	void (*free)(struct notify_mark *m);
};

struct notify_mark {
	const struct notify_mark_ops *ops;
	struct inode *inode;	  /* reference */
	struct notify_mark *next; /* on the inode, or on a list of detached ones */
	struct list_head all;	  /* all marks */
};

extern struct mutex notify_lock; /* lc_notify */
extern _Atomic unsigned notify_nmarks;

/* Puts a mark on an inode (takes a reference). */
void notify_mark_attach(struct notify_mark *m, struct inode *in) REQUIRES(lc_notify);
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
		 const struct inode *subject, uint32_t cookie);
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

/*
 * synth.h - synthetic file systems: trees of files whose contents are made when they are read.
 * sysfs and proc are built from it.
 *
 * A node is an inode.  A *static* child is added once to its directory with synth_add(), and lives
 * as long as the directory.  A directory may have *dynamic* entries besides: its ops look a name
 * up, making a fresh inode each time (super block with SYNTH_NO_DCACHE), and list the names.
 * Static children come first, in the order of their adding, in lookups and in listings.
 *
 * Every constructor consumes `arg` (ops->free_arg frees it with the inode, or at once when the
 * constructor fails), so that
 *	return synth_add(dir, "status", synth_file_new(sb, 0444, &status_ops, pid_get(p)));
 * leaks nothing on any path: synth_add() takes a NULL child as -ENOMEM.
 *
 * Callbacks run with no lock held but, for lookup, the directory's (lc_inode_dir); they may take
 * any lock below that.  None may wait or touch guest memory.
 */
#pragma once

#include "sentry/fs/synth/text.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/vfs.h"

struct synth_common_ops {
	/* Before anything else is done with the inode by open(2): 0 or -errno (ptrace access …).
	 * NULL: permission bits are enough. */
	int (*may_open)(struct inode *in, struct file *f, void *arg);
	/* Replaces the check of permission bits.  NULL: mode bits. */
	int (*permission)(struct inode *in, int mask, const struct cred *c, void *arg);
	/* Corrects what stat(2) says; *st is filled from the inode.  NULL: nothing to correct. */
	int (*getattr)(struct inode *in, struct kstat *st, void *arg);
	void (*free_arg)(void *arg); /* NULL: arg is borrowed */
};

struct synth_file_ops {
	struct synth_common_ops common;
	/*
	 * Makes the whole text: at the first read of an open file, and again at each read from
	 * offset 0.  0 or -errno, which the read returns.  NULL: reads give EINVAL.
	 */
	int (*show)(struct text *out, void *arg);
	/*
	 * One write(2): n bytes (at most SYNTH_WRITE_MAX, else EINVAL), NUL-terminated behind them.
	 * Returns the bytes taken or -errno.  NULL: writes give EINVAL.
	 */
	ssize_t (*write)(struct file *f, const char *buf, size_t n, void *arg);
	/* poll(2), for files that say when their text has changed: the events ready now; *seen
	 * belongs to the open file, and is what was first asked for as it was opened.  NULL: always
	 * ready. */
	uint32_t (*poll)(void *arg, _Atomic uint64_t *seen);
	struct waitq *(*waitq)(void *arg); /* lives as long as the open file */
	/* Instead of show and write: sets f->ops (and f->priv) itself, for /proc/PID/mem and the
	 * like.  synth_arg(f->inode) is arg. */
	int (*open)(struct inode *in, struct file *f, void *arg);
};
#define SYNTH_WRITE_MAX 65535

struct synth_dir_ops {
	struct synth_common_ops common;
	/* Makes the inode of a dynamic entry; *out gets its reference.  -ENOENT: no such name.
	 * `name` is NUL-terminated. */
	int (*lookup)(struct inode *dir, const char *name, struct inode **out, void *arg);
	/*
	 * Lists dynamic entries.  *off is 0 at first and then whatever the entries' next_off said
	 * (≥ 1, < 2^40; "." and ".." and static children are dealt with before).  Stops when emit
	 * returns false; sets *off after each accepted entry.
	 */
	int (*readdir)(struct inode *dir, struct dir_context *ctx, int64_t *off, void *arg);
	/* mkdir(2): makes the directory that becomes a static child.  NULL: EPERM */
	int (*mkdir)(struct inode *dir, const char *name, uint32_t mode, const struct cred *c,
		     struct inode **out, void *arg);
	/* rmdir(2) of a static child: 0 when it may go.  NULL: EPERM */
	int (*rmdir)(struct inode *dir, struct inode *child, void *arg);
};

struct synth_link_ops {
	struct synth_common_ops common;
	/* The text of the link.  -EINVAL when NULL. */
	int (*show)(struct text *out, void *arg);
	/* Magic links: where it leads, whatever the text says; *out gets references.  NULL: an
	 * ordinary link, followed by its text. */
	int (*follow)(struct path *out, void *arg);
};

enum {
	SYNTH_NO_DCACHE = 1,   /* every name is looked up each time */
	SYNTH_FIXED_ATTRS = 2, /* chmod, chown, utimes: EPERM (proc); else they change the inode */
};

/* A super block with an empty root directory (mode 0555; dir_ops may be NULL: static only). */
int synth_super_new(const char *fstype, uint64_t magic, unsigned flags,
		    const struct synth_dir_ops *dir_ops, void *arg,
		    struct super_block **out) MUST_CHECK;

/* Constructors: a fresh inode with one reference, owned by root, times now; NULL: no memory.
 * mode: permission bits. */
struct inode *synth_dir_new(struct super_block *sb, uint32_t mode, const struct synth_dir_ops *ops,
			    void *arg); /* ops NULL: static children only */
struct inode *synth_file_new(struct super_block *sb, uint32_t mode,
			     const struct synth_file_ops *ops, void *arg);
struct inode *synth_text_new(struct super_block *sb, uint32_t mode, const char *text); /* copied */
struct inode *synth_symlink_new(struct super_block *sb, const char *target);	       /* copied */
struct inode *synth_link_new(struct super_block *sb, uint32_t mode /* 0777 */,
			     const struct synth_link_ops *ops, void *arg);

/* Names a static child.  Consumes child, also on failure; NULL child: -ENOMEM. */
int synth_add(struct inode *dir, const char *name, struct inode *child) MUST_CHECK;
/* Makes an empty static directory `name`; *out is borrowed from dir (may be NULL). */
int synth_add_dir(struct inode *dir, const char *name, uint32_t mode,
		  struct inode **out) MUST_CHECK;
/* The static child of this name, borrowed from dir; NULL: none. */
struct inode *synth_child(struct inode *dir, const char *name);
/* Takes a static child away (cached dentries of it go by themselves when unused). */
void synth_remove(struct inode *dir, const char *name);

/* A static table of files, for one-line set-up of a directory; ends with a NULL name. */
struct synth_table {
	const char *name;
	uint32_t mode;
	const struct synth_file_ops *ops;
	void *arg; /* borrowed: ops have no free_arg */
};
int synth_add_table(struct inode *dir, const struct synth_table *table) MUST_CHECK;

void *synth_arg(const struct inode *in); /* what the constructor got */
/* Is it a synthetic directory with these ops?  Any inode may be asked about. */
bool synth_dir_is(const struct inode *in, const struct synth_dir_ops *ops);
/* Gives a fresh inode another number or owner, before anybody else sees it. */
void synth_set_ino(struct inode *in, uint64_t ino);
void synth_set_owner(struct inode *in, uint32_t uid, uint32_t gid);

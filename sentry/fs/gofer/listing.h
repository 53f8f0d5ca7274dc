/*
 * listing.h - what is remembered of whole directories: names in the host's order, attributes.
 *
 * In exclusive mode a directory that was read once is known: getdents64, look-ups of its names and
 * of names that it does not have are answered from its listing.  A listing takes about 100 bytes a
 * name, a tenth of what a dentry and an inode take, which are made from it when a name is walked to
 * and may go again soon.
 *
 * A listing is immutable but for the state of its records.  Open directories may hold one longer
 * than it is the directory's.  While it is, it holds the directory's dentry (and so the inode, and
 * the path down to it); together they are bounded (LISTINGS_BYTES), least recently used first to
 * go.
 *
 * Attributes of files cost the gofer a call each, which find(1) has no use for.  What is listed
 * ahead goes without while few of the files listed so far were looked at; when that changes, such a
 * listing does not count any more.
 *
 * What the sentry changes is followed: a name that goes is marked, one that comes makes the listing
 * partial (names it lacks may exist).  A file whose attributes changed is asked for again once its
 * inode has gone.  Files with several names are never answered for: they can be changed by the
 * other name.  A listing that was asked for before a change but arrives after it is not kept:
 * gofer_sb.changes tells.
 *
 * A walk through more than there is room for must not push everything out just before it is come to
 * again: a new listing goes through a small queue and is then kept only while there is room, or
 * seldom.
 *
 * Locks: gofer_sb.list_lock, a leaf.
 */
#pragma once

#include "sentry/fs/gofer/client.h"

enum {
	REC_ATTR = 1, /* the attributes are right */
	REC_GONE = 2, /* the name means nothing, or something else, by now */
};

/* Times are seconds << 30 | nanoseconds, which reach from 1697 to 2242. */
struct listing_rec {
	int64_t off; /* the host's position after it */
	uint64_t ino, size;
	int64_t atime, mtime, ctime, btime;
	uint32_t blocks, nlink, uid, gid;
	uint16_t mode;
	_Atomic uint8_t state;
	uint8_t type; /* DT_* */
	uint8_t name_len;
	char name[]; /* not terminated; records are multiples of 8 bytes */
};

struct gofer_listing {
	ref_t ref;
	struct list_head lru;	 /* list_lock, as the next three */
	struct gofer_inode *dir; /* NULL: not, or no longer, the directory's */
	struct dentry *dentry;	 /* reference, while dir is set */
	bool partial, recent;
	bool plain;		 /* immutable: without attributes of what is no directory */
	_Atomic uint32_t opened; /* files before this offset were opened, perhaps ahead of time */
	/* The rest is immutable once finished.  What all files of a directory have in common: */
	bool common;
	uint64_t dev;
	uint32_t blksize;
	uint64_t attributes, attributes_mask;
	uint32_t len, room; /* bytes of records */
	uint32_t count;	    /* names, without dots */
	uint8_t *records;
	uint32_t nslots; /* of a hash table: offset / 8 + 1 of a record, 0: free */
	uint32_t *slots;
};

/* Directories whose listing would be larger are not remembered. */
#define LISTING_MAX (4u << 20)

static inline const struct listing_rec *listing_at(const struct gofer_listing *l, size_t at)
{
	return (const struct listing_rec *)(l->records + at);
}
static inline size_t listing_after(const struct gofer_listing *l, size_t at)
{
	size_t n = offsetof(struct listing_rec, name) + listing_at(l, at)->name_len;
	return at + ((n + 7) & ~(size_t)7);
}

/* ---- making: no lock, the caller's alone ---- */
struct gofer_listing *listing_new(void);
void listing_put(struct gofer_listing *l);
/* Adds checked records of the wire.  -ENOMEM, -EFBIG: beyond LISTING_MAX. */
int listing_add(struct gofer_listing *l, const uint8_t *records, size_t len) MUST_CHECK;
int listing_finish(struct gofer_listing *l) MUST_CHECK;

/* ---- the directory's ---- */
/* To be read before a directory is asked for. */
uint64_t gofer_changes(struct gofer_sb *gsb);
/* Makes it the listing of `dir`, whose name is d, unless there is one, or names have changed since
 * `changes`.  Borrows all. */
void gofer_listing_attach(struct gofer_inode *dir, struct dentry *d, struct gofer_listing *l,
			  uint64_t changes);
/* Are attributes of files worth bringing along with names? */
bool gofer_wants_attrs(struct gofer_sb *gsb);
/* The directory's, if it knows all names, and attributes if they are wanted: a reference, or NULL.
 */
struct gofer_listing *gofer_listing_get(struct gofer_inode *dir);
/* The directory's, whatever it knows. */
struct gofer_listing *gofer_listing_get_any(struct gofer_inode *dir);
void gofer_listing_drop(struct gofer_inode *dir);
void gofer_listings_drop_all(struct gofer_sb *gsb);

enum listing_answer { LISTING_UNKNOWN, LISTING_NONE, LISTING_FOUND };
/* FOUND: *e, without a node. */
enum listing_answer gofer_listing_lookup(struct gofer_inode *dir, const char *name, size_t len,
					 struct gofer_entry *e);
/* The offset of a name that is not gone, or SIZE_MAX. */
size_t listing_find(const struct gofer_listing *l, const char *name, size_t len);

/* ---- changes; the directory is locked, and the gofer has made them ---- */
void gofer_listing_removed(struct gofer_inode *dir, const char *name, size_t len);
void gofer_listing_added(struct gofer_inode *dir, const char *name, size_t len);
/* The name's file has other attributes than when it was listed.  Any locks may be held. */
void gofer_listing_outdated(struct gofer_inode *dir, const char *name, size_t len);

/*
 * image.h - the form of EROFS images.
 *
 * Everything in an image is hostile: offsets and sizes are checked against the image's size before
 * anything is read there; what makes no sense is EUCLEAN, what is not known EOPNOTSUPP.  Nothing is
 * kept in memory; nothing here knows of files or inodes of the sentry.
 *
 * Source: Documentation/filesystems/erofs.rst of Linux, and "EROFS on-disk format" of erofs-utils.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sentry/lib/compiler.h"

struct erofs_image {
	/* Fills in before erofs_open: reads exactly n bytes, 0 or -errno. */
	int (*read)(void *arg, void *buf, size_t n, uint64_t off);
	void *arg;
	uint64_t size;
	/* erofs_open's */
	unsigned block_bits;
	size_t dir_block;
	uint64_t meta, xattrs; /* offsets */
	uint64_t root, build_time, blocks, inodes;
	uint32_t build_nsec;
};

struct erofs_node {
	uint64_t nid, size, mtime;
	uint32_t mode, nlink, uid, gid, mtime_nsec;
	uint64_t rdev;
	/* Where its parts are. */
	enum { EROFS_PLAIN, EROFS_INLINE, EROFS_CHUNKS, EROFS_COMPRESSED } layout;
	uint64_t xattrs, xattrs_size; /* offset and size of what is attached */
	uint64_t data;		      /* of whole blocks */
	uint64_t tail;		      /* behind the node: the last block, or the map of chunks */
	unsigned chunk_bits;
	bool chunk_index;
};

int erofs_open(struct erofs_image *img) MUST_CHECK;
int erofs_node_read(const struct erofs_image *img, uint64_t nid, struct erofs_node *out) MUST_CHECK;
/*
 * Where the bytes of a file from `off` (< size) on are in the image, and how many follow each
 * other there (≥ 1).  *at EROFS_HOLE: they are zeros.
 */
#define EROFS_HOLE UINT64_MAX
int erofs_find(const struct erofs_image *img, const struct erofs_node *n, uint64_t off,
	       uint64_t *at, uint64_t *len) MUST_CHECK;
/* Contents of a file, as read(2). */
ssize_t erofs_read(const struct erofs_image *img, const struct erofs_node *n, void *buf,
		   size_t size, uint64_t off) MUST_CHECK;

struct erofs_entry {
	uint64_t nid, next; /* where listing goes on */
	const char *name;   /* len bytes, in the caller's block */
	size_t len;
	unsigned type; /* 1 regular, 2 directory, 3 char, 4 block, 5 fifo, 6 socket, 7 link */
};
/* The entry at position *pos of a directory, in `block` (img->dir_block bytes, whose contents are
 * of block *have, or none if that is UINT64_MAX): 1, 0 at the end. */
int erofs_entry_at(const struct erofs_image *img, const struct erofs_node *dir, uint64_t pos,
		   char *block, uint64_t *have, struct erofs_entry *out) MUST_CHECK;
/* -ENOENT */
int erofs_lookup(const struct erofs_image *img, const struct erofs_node *dir, const char *name,
		 size_t len, uint64_t *nid) MUST_CHECK;

/* Calls fn for every extended attribute, until it returns other than 0, which is returned. */
struct erofs_xattr {
	const char *prefix; /* "user." */
	const char *name;   /* what follows, len bytes */
	size_t len;
	uint64_t value; /* offset in the image */
	size_t size;
};
int erofs_xattr_each(const struct erofs_image *img, const struct erofs_node *n,
		     int (*fn)(const struct erofs_xattr *x, void *arg), void *arg) MUST_CHECK;

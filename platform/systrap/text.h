/*
 * text.h - program text with patched call sites: one sealed copy of a file's text segment, mapped
 * by every process in the place of the file.
 *
 * A process whose text is patched one by one pays for every page that it touches, and a short-lived
 * one never earns it back.  So what is learnt - which `syscall` instructions of which file are
 * executed - is kept per file; when there is enough of it, the text is copied to a memfd with the
 * sites patched, sealed, and used wherever that file's text is mapped from then on.  A patched
 * mapping then costs what an unpatched one costs.
 *
 * Objects
 *   text_file   a text segment of a file, by device, inode, times and place: the sites learnt, the
 *               latest copy.  In pf->texts, from its first mapping until its place is wanted.
 *   text_image  one copy; immutable, referenced.  A later copy of the same file keeps the
 *               trampolines of the earlier ones where they are.
 *   struct text a mapping of a text_file in an address space, in as->texts.
 *
 * Trust.  A copy's bytes come from the file, by the descriptor that was lent to map it, never from
 * a guest process; guests only point at places (site.h says why a false one is refused).  Two files
 * are never taken for one another: the key is what fstat(2) says.  A copy cannot be changed by
 * anybody, and differs from its file only at sites and in the unused end of the last page.
 *
 * Locking: pf->text_lock (lc_text) guards pf->texts and every as->texts.  as->text_change
 * (lc_text_change) is held by who changes what an address space has mapped, host call included.
 */
#pragma once

#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "platform/platform.h"
#include "platform/systrap/site.h"
#include "sentry/lib/lock.h"

struct systrap;

#define TEXT_FILES 128	/* remembered */
#define TEXT_CALLS 256	/* a file: places that trapped; a power of two */
#define TEXT_SITES 1024 /* in one copy */

struct text_run { /* of a copy: what is mapped from it */
	uint32_t off, len;
};

struct text_image {
	_Atomic int ref;
	/* The segment, page for page, and then its last page once more with no site patched: the
	 * plain end, with which the trampolines stay when the file's own code is shown again. */
	int fd;
	/* The whole segment; of a large one, the neighbourhood of its sites, and the end. */
	struct text_run runs[2];
	int nruns;
	uint32_t tramp, tramp_end; /* of what is in the unused end of the last page */
	bool between;		   /* one of its sites is */
	uint32_t nsites;
	struct text_site sites[]; /* by address */
};

struct text_key {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
	uint64_t off, len;
};

struct text_call {
	uint32_t at; /* offset of the syscall in the segment; 0: none */
	uint32_t hits;
};

struct text_file {
	struct text_key key;
	int mappings; /* in all address spaces; the next two are valid while there are any */
	int fd;
	uint64_t used;	  /* for the choice of whom to forget */
	bool refused;	  /* nothing in it can be patched */
	bool building;	  /* a copy is being made */
	uint32_t builds;  /* how often one was tried */
	uint32_t pending; /* traps at places that the latest copy does not have */
	struct text_image *image;
	struct text_call *calls; /* TEXT_CALLS; NULL: none yet */
};

struct text {
	uint64_t start, len;
	struct text_file *file;
	struct text_image *image; /* NULL: the file itself is mapped */
	uint32_t traps;
	bool restored; /* it shows the file's own code again, and always will */
};

struct text_wish {		    /* what a copy is to have patched */
	uint32_t at[TEXT_CALLS], n; /* the most frequent first */
	uint32_t main_call;	    /* one that outdoes all others together; 0: none */
};

/* image.c */
/* Makes a copy of the segment at [off, off+len) of fd, with as much of the wish patched as can be,
 * and what `old` (NULL: none) has.  -EINVAL: this file has no place for it. */
int image_build(int fd, uint64_t off, uint64_t len, const struct text_wish *wish,
		const struct text_image *old, struct text_image **out);
struct text_image *image_get(struct text_image *im);
void image_put(struct text_image *im);
/* The site whose moved instructions, or call, are at offset `at`; the one in whose trampoline it
 * is; NULL. */
const struct text_site *image_site(const struct text_image *im, uint64_t at);
const struct text_site *image_tramp(const struct text_image *im, uint64_t at);

/* text.c */
/* The file of a mapping that is about to be made of [off, off+len) of fd, counted as mapped, and
 * its latest copy (a reference) or NULL.  NULL: it is none that can be remembered. */
struct text_file *text_open(struct systrap *pf, int fd, uint64_t off, uint64_t len,
			    struct text_image **image);
/* One mapping of it less; `image` is put. */
void text_close(struct systrap *pf, struct text_file *f, struct text_image *image);
void text_close_locked(struct text_file *f) REQUIRES(lc_text);
/* A call at offset `at` trapped.  Returns whether a copy should be made (text_build), for which the
 * file is then counted as mapped once more. */
bool text_learn(struct text_file *f, uint32_t at) REQUIRES(lc_text);
void text_build(struct systrap *pf, struct text_file *f);

/*
 * Slabs: objects of one size, cut from chunks, for kinds of which there are tens of thousands. They
 * cost no header each, lie together, and give their memory back: a chunk whose last object goes is
 * freed (one is kept), however the others' lives are mixed.
 *
 * Thread-safe.  Under a sanitizer each object is an allocation of its own, so that it is watched.
 */
#pragma once

#include <stddef.h>

#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"

struct slab {
	size_t size;		  /* of an object; immutable */
	struct mutex lock;	  /* lc_slab, as the rest */
	struct list_head partial; /* chunks with room; {0}: none yet */
	size_t chunks, spare;	  /* all; without objects */
};

/* size: at most SLAB_OBJECT_MAX; aligned to 16 bytes. */
#define SLAB_OBJECT_MAX 1024
#define SLAB_INIT(size_)                                             \
	{                                                            \
		.size = ((size_) + 15UL) & ~15UL, .lock = MUTEX_INIT \
	}

/* Zeroed; NULL: no memory. */
void *slab_alloc(struct slab *s);
/* Of this slab; NULL: nothing. */
void slab_free(struct slab *s, void *object);

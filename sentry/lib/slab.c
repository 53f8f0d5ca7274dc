#include "sentry/lib/slab.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK (32UL << 10) /* and its alignment, by which an object finds its own */

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#else
#define WATCHED 0
#endif

struct chunk {
	struct list_head link; /* in slab.partial, unless full */
	void **free;	       /* objects that were freed: each holds the next */
	size_t used;	       /* objects given out */
	size_t fresh;	       /* where the part that was never used begins */
};
#define FIRST ((sizeof(struct chunk) + 15) & ~15UL)

static bool is_full(const struct slab *s, const struct chunk *c)
{
	return !c->free && c->fresh + s->size > CHUNK;
}

/* Straight from the host, so that it gets them back. */
static void *map_aligned(void)
{
	char *p = mmap(NULL, 2 * CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	size_t before = -(uintptr_t)p & (CHUNK - 1);
	if (before)
		munmap(p, before);
	munmap(p + before + CHUNK, CHUNK - before);
	return p + before;
}

static struct chunk *chunk_new(struct slab *s) REQUIRES(lc_slab)
{
	struct chunk *c = map_aligned();

	if (!c)
		return NULL;
	*c = (struct chunk){.fresh = FIRST};
	list_add(&c->link, &s->partial);
	s->chunks++;
	s->spare++;
	return c;
}

static void *chunk_take(struct slab *s, struct chunk *c) REQUIRES(lc_slab)
{
	void *p = c->free;

	if (p) {
		c->free = *(void **)p;
	} else {
		p = (char *)c + c->fresh;
		c->fresh += s->size;
	}
	if (!c->used++)
		s->spare--;
	if (is_full(s, c))
		list_del(&c->link);
	return p;
}

void *slab_alloc(struct slab *s)
{
	void *p = NULL;

	assert(s->size <= SLAB_OBJECT_MAX);
	if (WATCHED)
		return calloc(1, s->size);
	mutex_lock(&s->lock, &lc_slab);
	if (!s->partial.next)
		list_init(&s->partial);
	struct chunk *c = list_empty(&s->partial) ? chunk_new(s)
						  : list_first(&s->partial, struct chunk, link);
	if (c)
		p = chunk_take(s, c);
	mutex_unlock(&s->lock, &lc_slab);
	return p ? memset(p, 0, s->size) : NULL;
}

void slab_free(struct slab *s, void *object)
{
	struct chunk *c = (struct chunk *)((uintptr_t)object & ~(CHUNK - 1)), *gone = NULL;

	if (!object)
		return;
	if (WATCHED) {
		free(object);
		return;
	}
	mutex_lock(&s->lock, &lc_slab);
	/* Behind those that are fuller: what was freed first is used up last, and may empty. */
	if (is_full(s, c))
		list_add_tail(&c->link, &s->partial);
	*(void **)object = c->free;
	c->free = object;
	if (!--c->used && s->spare++) {
		list_del(&c->link);
		s->spare--;
		s->chunks--;
		gone = c;
	}
	mutex_unlock(&s->lock, &lc_slab);
	if (gone)
		munmap(gone, CHUNK);
}

/* The files whose text is mapped somewhere, and what has been learnt about them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/systrap/internal.h"

/* A copy costs as much as some hundred traps.  Each of the first ones more of the same file wants
 * as many traps again as all before it; then they cost what they want.  A program that lives long
 * comes upon new sites again and again. */
#define BUILD_TRAPS 64
#define BUILDS_CHEAP 4
#define BUILDS_MAX 64
#define CALL_TRAPS 2 /* … and a place in it so many */
#define CALL_PROBES 8
#define SETTLED_S 1 /* a file that was written to so lately may be about to change again */

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_key(const struct text_key *a, const struct text_key *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->off == b->off && a->len == b->len &&
	       a->size == b->size && same_time(&a->mtime, &b->mtime) &&
	       same_time(&a->ctime, &b->ctime);
}

static void forget(struct text_file *f)
{
	image_put(f->image);
	free(f->calls);
	free(f);
}

/* The place of a file that is mapped nowhere, the one for longest; NULL: all are. */
static struct text_file **unused_place(struct systrap *pf)
{
	struct text_file **found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(pf->texts); i++) {
		struct text_file **f = &pf->texts[i];
		if (!*f)
			return f;
		if (!(*f)->mappings && (!found || (*f)->used < (*found)->used))
			found = f;
	}
	return found;
}

static struct text_file *lookup(struct systrap *pf, const struct text_key *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(pf->texts) && pf->texts[i]; i++)
		if (same_key(&pf->texts[i]->key, key))
			return pf->texts[i];
	return NULL;
}

static struct text_file *lookup_or_add(struct systrap *pf, const struct text_key *key)
{
	struct text_file *f = lookup(pf, key), **place;

	if (f || !(place = unused_place(pf)) || !(f = calloc(1, sizeof(*f))))
		return f;
	f->key = *key;
	if (*place)
		forget(*place);
	return *place = f;
}

struct text_file *text_open(struct systrap *pf, int fd, uint64_t off, uint64_t len,
			    struct text_image **image)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	const struct text_key key = {.dev = st.st_dev,
				     .ino = st.st_ino,
				     .size = st.st_size,
				     .mtime = st.st_mtim,
				     .ctime = st.st_ctim,
				     .off = off,
				     .len = len};

	mutex_lock(&pf->text_lock, &lc_text);
	struct text_file *f = lookup_or_add(pf, &key);
	if (f && !f->mappings && (f->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
		f = NULL;
	if (f) {
		f->mappings++;
		f->used = st_tsc();
		*image = image_get(f->image);
	}
	mutex_unlock(&pf->text_lock, &lc_text);
	return f;
}

void text_close_locked(struct text_file *f)
{
	if (!--f->mappings)
		close(f->fd);
}

void text_close(struct systrap *pf, struct text_file *f, struct text_image *image)
{
	mutex_lock(&pf->text_lock, &lc_text);
	text_close_locked(f);
	mutex_unlock(&pf->text_lock, &lc_text);
	image_put(image);
}

/* One more trap at a place.  A full table forgets: what traps often comes again. */
static void count_call(struct text_file *f, uint32_t at)
{
	struct text_call *weakest = NULL;

	for (uint32_t i = 0; i < CALL_PROBES; i++) {
		struct text_call *c = &f->calls[(at * 0x9e3779b1U + i) % TEXT_CALLS];
		if (c->at == at) {
			c->hits++;
			return;
		}
		if (!weakest || c->hits < weakest->hits)
			weakest = c;
	}
	if (weakest->hits > 1)
		weakest->hits--;
	else
		*weakest = (struct text_call){.at = at, .hits = 1};
}

bool text_learn(struct text_file *f, uint32_t at)
{
	if (f->refused || (f->image && image_site(f->image, at)))
		return false;
	if (!f->calls && !(f->calls = calloc(TEXT_CALLS, sizeof(*f->calls))))
		return false;
	count_call(f, at);
	if (++f->pending < (uint64_t)BUILD_TRAPS << MIN(f->builds, (uint32_t)BUILDS_CHEAP) ||
	    f->building)
		return false;
	f->building = true;
	f->mappings++;
	return true;
}

static int by_hits(const void *a, const void *b)
{
	const struct text_call *x = a, *y = b;

	return x->hits > y->hits ? -1 : x->hits < y->hits;
}

/* The places worth patching. */
static void choose_calls(const struct text_file *f, struct text_wish *wish)
{
	struct text_call calls[TEXT_CALLS];

	memcpy(calls, f->calls, sizeof(calls));
	qsort(calls, TEXT_CALLS, sizeof(*calls), by_hits);
	wish->n = wish->main_call = 0;
	while (wish->n < TEXT_CALLS && calls[wish->n].hits >= CALL_TRAPS) {
		const struct text_call *c = &calls[wish->n];
		if (c->hits > f->pending / 2 && !(f->image && image_site(f->image, c->at)))
			wish->main_call = c->at;
		wish->at[wish->n++] = c->at;
	}
}

/* Still the file that the key says, and not just written. */
static bool unchanged(const struct text_file *f)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	return !fstat(f->fd, &st) && st.st_size == f->key.size &&
	       same_time(&st.st_mtim, &f->key.mtime) && same_time(&st.st_ctim, &f->key.ctime) &&
	       (now.tv_sec < st.st_ctim.tv_sec || now.tv_sec > st.st_ctim.tv_sec + SETTLED_S);
}

void text_build(struct systrap *pf, struct text_file *f)
{
	struct text_image *old, *new = NULL;
	struct text_wish wish;

	mutex_lock(&pf->text_lock, &lc_text);
	choose_calls(f, &wish);
	old = image_get(f->image);
	mutex_unlock(&pf->text_lock, &lc_text);

	int err = unchanged(f) ? image_build(f->fd, f->key.off, f->key.len, &wish, old, &new)
			       : -EAGAIN;

	mutex_lock(&pf->text_lock, &lc_text);
	if (!err) {
		pf->stats.sites += new->nsites - (old ? old->nsites : 0);
		f->image = new;
	}
	if (err != -EAGAIN)
		f->builds++;
	f->refused = err == -EINVAL || f->builds == BUILDS_MAX;
	f->pending = 0;
	f->building = false;
	text_close_locked(f);
	mutex_unlock(&pf->text_lock, &lc_text);
	image_put(old);
	if (!err)
		image_put(old); /* the file's own reference */
}

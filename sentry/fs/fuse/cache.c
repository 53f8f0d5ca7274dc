/*
 * Pages of a file, in a file of memory (shmem) of the same size.
 *
 * A page is valid when it holds what the server has, or what guests have written over it.  Pages
 * come by READ with some ahead.  What is dropped only stops being valid: its bytes stay where a
 * guest may have them mapped, until they are read anew.
 *
 * Guests map the memory itself.  The sentry sees no faults there, so the whole range is read when
 * it is mapped; and what they change in shared mappings is found by comparing checksums of pages
 * with those of what the server last had, when the file is synchronised, closed or let go.
 *
 * n->cache_lock (lc_fuse_cache) guards everything; nobody waits with it held.  A change that comes
 * while a READ is under way makes its answer useless: c->changes tells.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/fuse/node.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/lib/cleanup.h"
#include "sentry/mm/uaccess.h"

#define CACHED_MAX (128ULL << 20 >> PAGE_SHIFT) /* pages, of all files that nobody has mapped */
#define FETCH_TRIES 4

struct fuse_cache {
	struct fuse_node *node;
	struct list_head all;  /* oldest first; lc_leaf */
	struct file *mem;      /* open for both */
	struct file *readonly; /* the same, or NULL */
	uint64_t size;
	size_t npages; /* of the arrays */
	bool *valid;
	uint64_t *sums; /* of valid pages as the server has them; NULL: no writable mappings */
	uint64_t nvalid;
	uint64_t changes;
	uint64_t next; /* where the last read ended */
	bool mapped;
};

static struct mutex all_lock; /* lc_leaf */
static struct list_head all = LIST_HEAD_INIT(all);
static _Atomic uint64_t cached; /* valid pages of caches that are not mapped */

static size_t pages_of(uint64_t size)
{
	return (size_t)(page_up(size) >> PAGE_SHIFT);
}

static void lock(struct fuse_node *n) ACQUIRES(lc_fuse_cache)
{
	mutex_lock(&n->cache_lock, &lc_fuse_cache);
}

static void unlock(struct fuse_node *n) RELEASES(lc_fuse_cache)
{
	mutex_unlock(&n->cache_lock, &lc_fuse_cache);
}

/* ---- pages ---- */

static uint64_t checksum(const char *page)
{
	uint64_t h = 0x9e3779b97f4a7c15ULL, w;

	for (size_t i = 0; i < PAGE_SIZE; i += sizeof(w)) {
		memcpy(&w, page + i, sizeof(w));
		h = (h ^ w) * 0xff51afd7ed558ccdULL;
		h ^= h >> 29;
	}
	return h;
}

static uint64_t checksum_of(struct fuse_cache *c, size_t i)
{
	char page[PAGE_SIZE] = {0};

	return file_pread(c->mem, page, sizeof(page), (int64_t)(i << PAGE_SHIFT)) < 0
		       ? 0
		       : checksum(page);
}

static void set_valid(struct fuse_cache *c, size_t i, bool valid)
{
	if (c->valid[i] != valid) {
		c->valid[i] = valid;
		c->nvalid += valid ? 1 : (uint64_t)-1;
		if (!c->mapped)
			atomic_fetch_add(&cached, valid ? 1 : (uint64_t)-1);
	}
	if (valid && c->sums)
		c->sums[i] = checksum_of(c, i);
}

/* Has a guest written to it, and the server does not know? */
static bool is_dirty(struct fuse_cache *c, size_t i)
{
	return c->sums && c->valid[i] && c->sums[i] != checksum_of(c, i);
}

static int grow_arrays(struct fuse_cache *c, size_t npages)
{
	if (npages <= c->npages)
		return 0;
	size_t room = MAX(npages, c->npages + c->npages / 2);
	bool *valid = realloc(c->valid, room * sizeof(*valid));
	if (!valid)
		return -ENOMEM;
	memset(valid + c->npages, 0, (room - c->npages) * sizeof(*valid));
	c->valid = valid;
	if (c->sums) {
		uint64_t *sums = realloc(c->sums, room * sizeof(*sums));
		if (!sums)
			return -ENOMEM;
		memset(sums + c->npages, 0, (room - c->npages) * sizeof(*sums));
		c->sums = sums;
	}
	c->npages = room;
	return 0;
}

static int set_size(struct fuse_cache *c, uint64_t size)
{
	const struct iattr a = {.valid = ATTR_SIZE, .size = size};
	int err = grow_arrays(c, pages_of(size));

	if (!err)
		err = c->mem->inode->ops->setattr(c->mem->inode, &a);
	if (err)
		return err;
	for (size_t i = pages_of(size); i < pages_of(c->size); i++)
		set_valid(c, i, false);
	c->size = size;
	return 0;
}

static void drop_all(struct fuse_cache *c)
{
	for (size_t i = 0; i < c->npages; i++)
		if (c->valid[i] && !is_dirty(c, i))
			set_valid(c, i, false);
}

/* Gives the memory of an unmapped one back. */
static void empty(struct fuse_cache *c)
{
	uint64_t size = c->size;

	if (c->mapped)
		return;
	drop_all(c);
	if (!set_size(c, 0) && set_size(c, size))
		c->size = 0;
}

/* Caches of other files go, oldest first, until there is room. */
static void make_room(void)
{
	while (atomic_load(&cached) > CACHED_MAX) {
		struct fuse_node *n = NULL;
		struct fuse_cache *c;

		mutex_lock(&all_lock, &lc_leaf);
		list_for_each (c, &all, all)
			if (!c->mapped && c->nvalid && ref_get_unless_zero(&c->node->in.ref)) {
				n = c->node;
				break;
			}
		if (n) {
			list_del(&n->cache->all);
			list_add_tail(&n->cache->all, &all);
		}
		mutex_unlock(&all_lock, &lc_leaf);
		if (!n)
			return;
		lock(n);
		empty(n->cache);
		unlock(n);
		inode_put(&n->in);
	}
}

/* ---- life ---- */

static void cache_free(struct fuse_cache *c)
{
	file_put(c->readonly);
	file_put(c->mem);
	free(c->valid);
	free(c->sums);
	free(c);
}

/* With the lock held; it stays with the node. */
static int cache_get(struct fuse_node *n, struct fuse_cache **out) REQUIRES(lc_fuse_cache)
{
	uint64_t size = fuse_size(n);

	if (n->cache) {
		*out = n->cache;
		return 0;
	}
	struct fuse_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->node = n;
	int err = shmem_file_create("fuse", 0, 0600, 0, &c->mem);
	if (!err)
		err = file_open_path(c->mem->path, O_RDONLY, &c->readonly);
	if (!err)
		err = set_size(c, size);
	if (err) {
		cache_free(c);
		return err;
	}
	n->cache = *out = c;
	mutex_lock(&all_lock, &lc_leaf);
	list_add_tail(&c->all, &all);
	mutex_unlock(&all_lock, &lc_leaf);
	return 0;
}

void fuse_cache_free(struct fuse_node *n)
{
	struct fuse_cache *c = n->cache;

	if (!c)
		return;
	mutex_lock(&all_lock, &lc_leaf);
	list_del(&c->all);
	mutex_unlock(&all_lock, &lc_leaf);
	if (!c->mapped)
		atomic_fetch_sub(&cached, c->nvalid);
	cache_free(c);
}

/* ---- fetching ---- */

struct fetch {
	size_t first, n; /* pages */
	uint64_t changes;
};

/* What to READ for [off, off + want): from its first page on, with some ahead if that is how the
 * file is read, as far as pages are missing.  n is 0 when the first one is there. */
static int plan(struct fuse_handle *h, uint64_t off, uint64_t want, struct fetch *f)
{
	struct fuse_node *n = h->node;
	const struct fuse_conn *fc = conn_of(&n->in);
	struct fuse_cache *c;

	lock(n);
	int err = cache_get(n, &c);
	if (!err) {
		uint64_t ahead = off == c->next ? fc->max_readahead : 0;
		size_t end = pages_of(MIN(off + MAX(want, ahead), c->size));
		f->first = off >> PAGE_SHIFT;
		f->changes = c->changes;
		end = MIN(end, f->first + fuse_read_max(fc) / PAGE_SIZE);
		for (f->n = 0; f->first + f->n < end && !c->valid[f->first + f->n]; f->n++)
			;
	}
	unlock(n);
	return err;
}

/* Puts the answer in; false: something changed meanwhile. */
static bool take(struct fuse_node *n, const struct fetch *f, const struct fuse_req *r)
{
	struct fuse_cache *c = n->cache;
	uint64_t off = (uint64_t)f->first << PAGE_SHIFT;

	lock(n);
	bool same = c->changes == f->changes && off < c->size;
	if (same) {
		uint64_t end = MIN(off + r->out_len, c->size);
		/* What the server left out is zeros, as the memory is that was never written. */
		if (end > off && file_pwrite(c->mem, r->out, end - off, (int64_t)off) < 0)
			same = false;
		for (size_t i = 0; same && i < f->n && f->first + i < pages_of(c->size); i++)
			set_valid(c, f->first + i, true);
	}
	unlock(n);
	return same;
}

/* Reads the pages at `off`: -EAGAIN when it should be tried again. */
static int fetch(struct fuse_handle *h, uint64_t off, uint64_t want)
{
	struct fuse_node *n = h->node;
	uint64_t version = atomic_load(&conn_of(&n->in)->attr_version);
	struct fuse_req *r;
	struct fetch f;

	make_room();
	int err = plan(h, off, want, &f);
	if (err || !f.n)
		return err;
	uint64_t start = (uint64_t)f.first << PAGE_SHIFT;
	if ((err = fuse_read_at(h, start, f.n << PAGE_SHIFT, &r)))
		return err;
	bool taken = take(n, &f, r);
	uint64_t end = start + r->out_len;
	if (r->out_len < f.n << PAGE_SHIFT && end < fuse_size(n) &&
	    version == atomic_load(&conn_of(&n->in)->attr_version)) {
		/* The file has become shorter. */
		fuse_size_changed(n, end, true);
		fuse_cache_resize(n, end);
	}
	fuse_req_put(r);
	return taken ? 0 : -EAGAIN;
}

/* ---- reading ---- */

/* As many of `want` bytes as valid pages hold: 0 when the first one is missing. */
static ssize_t read_valid(struct fuse_node *n, struct uio *io, int64_t *off, uint64_t want)
{
	uint64_t start = (uint64_t)*off, end = start;
	struct file *mem = NULL;

	lock(n);
	struct fuse_cache *c = n->cache;
	if (c && start < c->size) {
		uint64_t last = MIN(start + want, c->size);
		size_t i = start >> PAGE_SHIFT;
		while (end < last && c->valid[i])
			end = (uint64_t)++i << PAGE_SHIFT;
		end = MIN(end, last);
		if (end > start) {
			mem = file_get(c->mem);
			c->next = end;
		}
	}
	unlock(n);
	if (!mem)
		return 0;
	/* Bytes do not go away: what is dropped now may still be read. */
	uint64_t rest = io->left - (end - start);
	bool lend = io->lend;
	io->left = end - start;
	io->lend = false;
	ssize_t got = mem->ops->read(mem, io, off);
	io->left += rest;
	io->lend = lend;
	file_put(mem);
	return got;
}

ssize_t fuse_cache_read(struct fuse_handle *h, struct uio *io, int64_t *off)
{
	ssize_t total = 0, got = 0;
	int tries = 0;

	while (io->left) {
		uint64_t size = fuse_size(h->node);
		if ((uint64_t)*off >= size)
			break;
		uint64_t want = MIN(io->left, size - (uint64_t)*off);
		got = read_valid(h->node, io, off, want);
		if (!got) {
			got = fetch(h, (uint64_t)*off, want);
			if (!got || (got == -EAGAIN && ++tries < FETCH_TRIES))
				continue;
			if (got == -EAGAIN)
				got = -EIO;
		}
		if (got < 0)
			return total ? total : got;
		total += got;
	}
	return total;
}

/* ---- changes ---- */

void fuse_cache_written(struct fuse_node *n, const void *data, size_t len, uint64_t off)
{
	lock(n);
	struct fuse_cache *c = n->cache;
	uint64_t end = off + len;
	if (c) {
		c->changes++;
		int err = end > c->size ? set_size(c, end) : 0;
		ssize_t put = err ? err : file_pwrite(c->mem, data, len, (int64_t)off);
		for (size_t i = off >> PAGE_SHIFT; i < pages_of(end) && i < c->npages; i++) {
			uint64_t first = (uint64_t)i << PAGE_SHIFT;
			bool whole = off <= first && (end >= first + PAGE_SIZE || end == c->size);
			if (put != (ssize_t)len)
				set_valid(c, i, false);
			else if (whole || c->valid[i])
				set_valid(c, i, true);
		}
	}
	unlock(n);
}

void fuse_cache_drop(struct fuse_node *n, uint64_t off, uint64_t len)
{
	lock(n);
	struct fuse_cache *c = n->cache;
	if (c) {
		size_t i = MIN(off >> PAGE_SHIFT, (uint64_t)c->npages);
		size_t end = len && len < (uint64_t)c->npages << PAGE_SHIFT
				     ? MIN(pages_of(off + len), c->npages)
				     : c->npages;
		c->changes++;
		for (; i < end; i++)
			if (c->valid[i] && !is_dirty(c, i))
				set_valid(c, i, false);
	}
	unlock(n);
}

void fuse_cache_resize(struct fuse_node *n, uint64_t size)
{
	lock(n);
	struct fuse_cache *c = n->cache;
	if (c && c->size != size) {
		uint64_t old = c->size;
		c->changes++;
		if (set_size(c, size))
			drop_all(c);
		else if (size > old && old & ~PAGE_MASK && !is_dirty(c, old >> PAGE_SHIFT))
			set_valid(c, old >> PAGE_SHIFT, false); /* zeros after the old end */
	}
	unlock(n);
}

/* ---- mapping ---- */

/* The next run of dirty pages from *at on, as a WRITE.  NULL: there is none. */
static struct fuse_req *next_dirty(struct fuse_node *n, struct fuse_handle *h, size_t *at,
				   uint32_t *len)
{
	struct fuse_conn *fc = conn_of(&n->in);
	size_t max = fc->max_write / PAGE_SIZE, first;
	struct fuse_req *r = NULL;

	lock(n);
	struct fuse_cache *c = n->cache;
	size_t end = c && c->sums ? pages_of(c->size) : 0;
	for (first = *at; first < end && !is_dirty(c, first); first++)
		;
	for (*at = first; *at < end && *at - first < max && is_dirty(c, *at); ++*at)
		;
	if (*at > first) {
		uint64_t off = (uint64_t)first << PAGE_SHIFT;
		*len = (uint32_t)(MIN((uint64_t)*at << PAGE_SHIFT, c->size) - off);
		const struct fuse_write_in in = {.fh = h->fh,
						 .offset = off,
						 .size = *len,
						 .write_flags = FUSE_WRITE_CACHE,
						 .flags = (uint32_t)h->flags};
		r = fuse_req_new(fc, FUSE_WRITE, n->nodeid);
		fuse_req_add(r, &in, sizeof(in));
		char *data = fuse_req_add(r, NULL, *len);
		if (data && file_pread(c->mem, data, *len, (int64_t)off) != (ssize_t)*len)
			r->no_memory = true;
		for (size_t i = first; i < *at; i++)
			c->sums[i] = checksum_of(c, i);
	}
	unlock(n);
	return r;
}

static void written_late(struct fuse_req *r)
{
	fuse_handle_put(r->arg);
}

int fuse_cache_flush(struct fuse_node *n, bool wait)
{
	struct fuse_write_out out;
	struct fuse_req *r;
	size_t at = 0;
	uint32_t len;
	int err = 0;

	if (!n->cache || !n->cache->sums)
		return 0;
	struct fuse_handle *h = fuse_handle_for_writing(n);
	while (h && !err && (r = next_dirty(n, h, &at, &len))) {
		fuse_size_changed(n, 0, false);
		if (wait) {
			err = fuse_call(r, &out, sizeof(out));
			if (!err && out.size != len)
				err = -EIO;
			continue;
		}
		r->min = r->max = sizeof(out);
		r->arg = fuse_handle_get(h);
		r->done = written_late;
		fuse_post(r);
	}
	fuse_handle_put(h);
	return err;
}

static int begin_mapping(struct fuse_node *n, bool writable)
{
	struct fuse_cache *c;

	lock(n);
	int err = cache_get(n, &c);
	if (!err && !c->mapped) {
		c->mapped = true;
		atomic_fetch_sub(&cached, c->nvalid);
	}
	if (!err && writable && !c->sums) {
		c->sums = calloc(MAX(c->npages, (size_t)1), sizeof(*c->sums));
		if (!c->sums)
			err = -ENOMEM;
		for (size_t i = 0; !err && i < c->npages; i++)
			if (c->valid[i])
				c->sums[i] = checksum_of(c, i);
	}
	unlock(n);
	return err;
}

int fuse_map_prepare(struct file *f, bool shared, uint64_t off, uint64_t len)
{
	struct fuse_handle *h = f->priv;
	struct fuse_node *n = h->node;

	if (shared && h->open_flags & FOPEN_DIRECT_IO)
		return -ENODEV;
	int err = fuse_attr_refresh(n, false);
	if (!err)
		err = begin_mapping(n, shared && file_writable(f));
	for (int tries = 0; !err && off < fuse_size(n) && len;) {
		err = fetch(h, off, len);
		if (err == -EAGAIN && ++tries < FETCH_TRIES)
			err = 0;
		else if (!err) {
			/* What is there now; one page at least was, or has come. */
			uint64_t step = PAGE_SIZE;
			off += MIN(step, len);
			len -= MIN(step, len);
		}
	}
	return err == -EAGAIN ? -EIO : err;
}

int fuse_map_fd(struct file *f, bool shared, int *fd)
{
	struct fuse_node *n = node_of(f->inode);
	int err = n->cache ? 0 : begin_mapping(n, false);

	if (err)
		return err;
	struct file *mem = file_writable(f) ? n->cache->mem : n->cache->readonly;
	return mem->ops->map_fd(mem, shared, fd);
}

/*
 * Opening ahead: who opens the files of a listed directory one after the other (tar, grep -r,
 * cp -r) gets the descriptors of those that follow in the same round trip.
 */
#include "sentry/fs/gofer/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

#define WINDOW_MAX ((uint32_t)GOFER_FDS_MAX)

struct ask {
	struct gofer_place place; /* of the directory */
	uint32_t count;
	size_t len;
	size_t name_at[WINDOW_MAX];
	uint8_t names[WINDOW_MAX * (GOFER_NAME_LEN + sizeof(uint16_t))];
	int32_t result[WINDOW_MAX];
	struct rpc r;
};

static void add_name(struct ask *a, const char *name, size_t name_len)
{
	uint16_t len = (uint16_t)name_len;

	a->name_at[a->count++] = a->len;
	memcpy(a->names + a->len, &len, sizeof(len));
	memcpy(a->names + a->len + sizeof(len), name, len);
	a->len += sizeof(len) + len;
}

static bool can_open(const struct listing_rec *r)
{
	return (r->state & (REC_ATTR | REC_GONE)) == REC_ATTR && S_ISREG(r->mode) && r->size;
}

/* The next one that can be opened from `at` on. */
static size_t next_file(const struct gofer_listing *l, size_t at)
{
	while (at < l->len && !can_open(listing_at(l, at)))
		at = listing_after(l, at);
	return at;
}

/* How many to open: twice as many each time, from one directory to the next, as long as it is
 * always the first file that is not open yet. */
static uint32_t next_window(struct gofer_sb *gsb, bool forward)
{
	uint32_t n = atomic_load(&gsb->window);

	n = !forward ? 1 : n ? MIN(n * 2, WINDOW_MAX) : 1;
	atomic_store(&gsb->window, n);
	return n;
}

static void plan(struct gofer_inode *dir, const char *name, struct ask *a)
{
	struct gofer_listing *l = gofer_listing_get_any(dir);
	size_t at = l ? listing_find(l, name, strlen(name)) : SIZE_MAX;

	a->count = 0;
	a->len = 0;
	add_name(a, name, strlen(name));
	if (at != SIZE_MAX) {
		uint32_t begun = atomic_load(&l->opened);
		uint32_t window = next_window(gsb_of(dir->in.sb), at <= next_file(l, begun));
		at = next_file(l, listing_after(l, at));
		while (at < l->len && a->count < window) {
			const struct listing_rec *r = listing_at(l, at);
			add_name(a, r->name, r->name_len);
			at = next_file(l, listing_after(l, at));
		}
		atomic_store(&l->opened, (uint32_t)at);
	}
	listing_put(l);
}

static int send(struct gofer_inode *dir, struct ask *a)
{
	struct gofer_open_many_req rq = {
		.node = a->place.node,
		.depth = (uint16_t)a->place.depth,
		.count = (uint16_t)a->count,
	};
	a->r = (struct rpc){
		.op = GOFER_OPEN_MANY,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)a->place.names, a->place.len}, {a->names, a->len}},
		.fds_room = a->count,
		.rep = a->result,
		.rep_min = a->count * sizeof(a->result[0]),
		.rep_max = a->count * sizeof(a->result[0]),
	};
	return gofer_rpc(gi_conn(dir), &a->r);
}

/* Gives a descriptor to the file of that name, which is found in the listing. */
static void give(struct gofer_inode *dir, struct dentry *dir_d, const char *name, size_t len,
		 int fd)
{
	struct gofer_entry e;
	struct dentry *d;

	if (gofer_listing_lookup(dir, name, len, &e) != LISTING_FOUND ||
	    dentry_lookup(dir_d, name, len, &d)) {
		close(fd);
		return;
	}
	struct inode *in = d->inode;
	if (in && in->sb == dir->in.sb && S_ISREG(in->mode) && gofer_fd_is(gi_of(in), fd, O_RDONLY))
		gofer_adopt_fd(gi_of(in), fd, true);
	else
		close(fd);
	dentry_put(d);
}

static void take(struct gofer_inode *gi, struct gofer_inode *dir, struct dentry *dir_d,
		 struct ask *a)
{
	unsigned next = 0;

	for (uint32_t i = 0; i < a->count; i++) {
		uint16_t len;
		if (a->result[i])
			continue;
		if (next == a->r.nfds) {
			(void)!gofer_conn_fail(gi_conn(gi), "open files came without descriptors");
			return;
		}
		int fd = a->r.fds[next++];
		memcpy(&len, a->names + a->name_at[i], sizeof(len));
		if (i)
			give(dir, dir_d, (char *)a->names + a->name_at[i] + sizeof(len), len, fd);
		else if (gofer_fd_is(gi, fd, O_RDONLY))
			gofer_adopt_fd(gi, fd, true);
		else
			close(fd); /* the host has another file there by now */
	}
	while (next < a->r.nfds)
		close(a->r.fds[next++]);
}

void gofer_open_ahead(struct gofer_inode *gi)
{
	char name[VFS_NAME_MAX + 1];
	struct dentry *dir_d = gofer_alias_parent(gi, name);

	if (!dir_d)
		return;
	struct gofer_inode *dir = gi_of(dir_d->inode);
	CLEANUP_FREE struct ask *a = malloc(sizeof(*a));
	if (a && !gofer_place(dir, &a->place)) {
		plan(dir, name, a);
		if (!send(dir, a))
			take(gi, dir, dir_d, a);
	}
	dentry_put(dir_d);
}

/*
 * Files without a node.  What is made from a listing is known to the gofer by its place only: a
 * directory that has a node, and the names that lead down from it.  It gets a node of its own when
 * something has to be done with it that names cannot say.
 */
#include "sentry/fs/gofer/listing.h"

#include <errno.h>
#include <string.h>

struct climb {
	struct gofer_place *place;
	uint32_t skip; /* names at the end that are left out */
	uint32_t depth;
	uint8_t *at;	  /* names are put in front of it */
	struct inode *in; /* out: what the last name means; a reference */
};

/* From the file upwards. */
static bool step(struct dentry *d, void *arg)
{
	struct climb *c = arg;
	struct gofer_place *p = c->place;
	uint64_t node = d->inode ? atomic_load(&gi_of(d->inode)->node) : 0;
	uint16_t len = d->name_len;

	if (node) {
		p->node = node;
		return false;
	}
	if (!d->hashed || !d->inode || d->parent == d)
		return false;
	if (c->depth++ < c->skip)
		return true;
	if (!c->in)
		c->in = inode_get(d->inode);
	/* Beyond what there is room for, only counted. */
	if (p->depth < GOFER_PLACE_DEPTH) {
		c->at -= sizeof(len) + len;
		memcpy(c->at, &len, sizeof(len));
		memcpy(c->at + sizeof(len), d->name, len);
	}
	p->depth++;
	return true;
}

/* 0 with p and a reference to the inode `skip` levels above gi, or -ENOENT: it has lost its name.
 * p->depth is the true one; names are there if it is at most GOFER_PLACE_DEPTH. */
static int climb(struct gofer_inode *gi, uint32_t skip, struct gofer_place *p, struct inode **in)
{
	struct climb c = {.place = p, .skip = skip, .at = p->room + sizeof(p->room)};

	*in = NULL;
	p->depth = 0;
	p->node = atomic_load(&gi->node);
	if (!p->node)
		dentry_climb(&gi->alias, step, &c);
	p->names = c.at;
	p->len = (size_t)(p->room + sizeof(p->room) - c.at);
	if (p->node) {
		*in = c.in;
		return 0;
	}
	inode_put(c.in);
	return -ENOENT;
}

struct above {
	struct dentry *dir;
	char *name;
};

static bool take_above(struct dentry *d, void *arg)
{
	struct above *a = arg;

	if (d->hashed && d->parent != d) {
		a->dir = dentry_get(d->parent);
		memcpy(a->name, d->name, (size_t)d->name_len + 1);
	}
	return false;
}

struct dentry *gofer_alias_parent(struct gofer_inode *gi, char *name)
{
	struct above a = {NULL, name};

	dentry_climb(&gi->alias, take_above, &a);
	return a.dir;
}

/* The host has something else there: the name is looked up anew. */
static int lost(struct gofer_inode *gi)
{
	char name[VFS_NAME_MAX + 1];
	struct dentry *dir = gofer_alias_parent(gi, name);

	dentry_forget(&gi->alias);
	if (dir)
		gofer_listing_drop(gi_of(dir->inode));
	dentry_put(dir);
	return -ENOENT;
}

/* Gives the file at the place a node. */
static int walk_place(struct gofer_inode *gi, const struct gofer_place *p)
{
	struct gofer_walk_req rq = {
		.node = p->node,
		.flags = GOFER_WALK_LAST,
		.count = p->depth,
	};
	struct {
		struct gofer_walk_rep head;
		struct gofer_entry e[GOFER_PLACE_DEPTH];
	} out;
	struct rpc r = {
		.op = GOFER_WALK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.var = {{(void *)p->names, p->len}},
		.rep = &out,
		.rep_min = sizeof(out.head),
		.rep_max = sizeof(out),
	};
	int err = gofer_rpc(gi_conn(gi), &r);

	if (err)
		return err;
	if (out.head.count > p->depth || out.head.target_len ||
	    r.rep_len != offsetof(__typeof__(out), e) + out.head.count * sizeof(out.e[0]))
		return gofer_conn_fail(gi_conn(gi), "a malformed answer to a look-up");
	if (out.head.count < p->depth)
		return out.head.stop == -EMFILE || out.head.stop == -ENFILE ? out.head.stop
									    : lost(gi);
	const struct gofer_entry *e = &out.e[p->depth - 1];
	uint64_t none = 0;
	bool same = e->attr.ino == gi->host_ino && gofer_attr_dev(&e->attr) == gi->host_dev &&
		    !((e->attr.mode ^ gi->in.mode) & S_IFMT);
	if (!e->node)
		return gofer_conn_fail(gi_conn(gi), "a file was found without a node");
	if (!same || !atomic_compare_exchange_strong(&gi->node, &none, e->node))
		gofer_close_node(gi_conn(gi), e->node, false);
	return same ? 0 : lost(gi);
}

/* The gofer has too many files open for us: what is only remembered is given up. */
static int walk_patiently(struct gofer_inode *gi, const struct gofer_place *p)
{
	int err = walk_place(gi, p);

	for (int i = 0; gofer_give_up_nodes(gsb_of(gi->in.sb), err, i); i++)
		err = walk_place(gi, p);
	return err;
}

int gofer_node(struct gofer_inode *gi, uint64_t *node)
{
	struct gofer_place p;
	struct inode *in;

	while (!(*node = atomic_load(&gi->node))) {
		int err = climb(gi, 0, &p, &in);
		if (err)
			return err;
		/* A long way down is gone in stages; the upper part of the names is missing. */
		if (p.depth > GOFER_PLACE_DEPTH) {
			inode_put(in);
			if ((err = climb(gi, p.depth - GOFER_PLACE_DEPTH, &p, &in)))
				return err;
		}
		if (in && p.depth && p.depth <= GOFER_PLACE_DEPTH)
			err = walk_patiently(gi_of(in), &p);
		inode_put(in);
		if (err)
			return err;
	}
	return 0;
}

int gofer_place(struct gofer_inode *gi, struct gofer_place *p)
{
	struct inode *in;
	int err = climb(gi, 0, p, &in);

	if (err)
		return err;
	inode_put(in);
	if (p->depth <= GOFER_PLACE_DEPTH)
		return 0;
	p->depth = 0;
	p->len = 0;
	return gofer_node(gi, &p->node);
}

/*
 * Shared subtrees: peer groups, and how mounting and unmounting spreads over them.
 * Source: mount_namespaces(7), Documentation/filesystems/sharedsubtree.rst.
 *
 * A group is an object of its own, to which its members and its slaves are tied.  Members of one
 * group are slaves of the same master, or of none: who leaves the group keeps neither.
 */
#include <stdlib.h>

#include "sentry/vfs/internal.h"

struct peer_group {
	int id;
	struct list_head members; /* by .peer; the group ends with the last one */
	struct list_head slaves;  /* by .slave */
	/* The walk under way over what receives (list_receivers): */
	uint64_t pass;
	struct list_head todo;
	struct mount *made; /* the first copy that a member was given */
};

/* ---- groups ---- */

static void join(struct mount *m, struct peer_group *g)
{
	m->group = g;
	list_add_tail(&m->peer, &g->members);
}

static void set_master(struct mount *m, struct peer_group *master)
{
	list_del(&m->slave);
	m->master = master;
	if (master)
		list_add_tail(&m->slave, &master->slaves);
}

/* Leaves the group, whose slave m then is, or which ends: its slaves go to its own master. */
static void leave(struct mount *m, bool as_slave)
{
	struct peer_group *g = m->group;

	if (!g)
		return;
	list_del(&m->peer);
	m->group = NULL;
	if (!list_empty(&g->members)) {
		if (as_slave)
			set_master(m, g);
		return;
	}
	while (!list_empty(&g->slaves))
		set_master(list_first(&g->slaves, struct mount, slave), m->master);
	free(g);
}

void mount_share_as(struct mount *m, struct mount *src)
{
	if (src->group)
		join(m, src->group);
	set_master(m, src->master);
}

void mount_enslave(struct mount *m, struct mount *src)
{
	set_master(m, src->group);
}

int mount_make_shared(struct mount *m)
{
	static int last_id;

	m->unbindable = false;
	if (m->group)
		return 0;
	struct peer_group *g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	g->id = ++last_id;
	list_init(&g->members);
	list_init(&g->slaves);
	list_init(&g->todo);
	join(m, g);
	return 0;
}

void mount_make_slave(struct mount *m)
{
	leave(m, true);
}

void mount_make_private(struct mount *m)
{
	leave(m, false);
	set_master(m, NULL);
	m->unbindable = false;
}

/* The group that g's members receive from. */
static struct peer_group *master_of(const struct peer_group *g)
{
	return list_first(&g->members, struct mount, peer)->master;
}

static bool group_is_seen(struct peer_group *g, struct path root) REQUIRES(lc_dcache)
{
	struct mount *m;

	list_for_each (m, &g->members, peer)
		if (m->ns == root.mnt->ns && path_is_reachable((struct path){m, m->root}, root))
			return true;
	return false;
}

void mount_sharing(struct mount *m, struct path root, struct mount_sharing *out)
{
	*out = (struct mount_sharing){.unbindable = m->unbindable};
	mount_tree_lock();
	if (m->group)
		out->shared = m->group->id;
	if (m->master)
		out->master = m->master->id;
	for (struct peer_group *g = m->master; g && !out->from; g = master_of(g))
		if (group_is_seen(g, root))
			out->from = g->id;
	mount_tree_unlock();
}

/* ---- who receives ---- */

struct receivers {
	uint64_t pass;
	struct list_head mounts; /* by .work */
	struct list_head todo;	 /* groups whose slaves are to be listed */
};

static void list_group(struct peer_group *g, struct receivers *r)
{
	struct mount *m;

	if (g->pass == r->pass)
		return;
	g->pass = r->pass;
	g->made = NULL;
	list_for_each (m, &g->members, peer)
		list_add_tail(&m->work, &r->mounts);
	list_add_tail(&g->todo, &r->todo);
}

/* All that get what happens on m, but m itself: group by group, a group after its master. */
static void list_receivers(struct mount *m, struct receivers *r)
{
	static uint64_t last_pass;
	struct mount *s;

	r->pass = ++last_pass;
	list_init(&r->mounts);
	list_init(&r->todo);
	if (!m->group)
		return;
	list_group(m->group, r);
	while (!list_empty(&r->todo)) {
		struct peer_group *g = list_first(&r->todo, struct peer_group, todo);
		list_del(&g->todo);
		list_for_each (s, &g->slaves, slave) {
			if (s->group)
				list_group(s->group, r);
			else
				list_add_tail(&s->work, &r->mounts);
		}
	}
	list_del(&m->work);
}

static struct mount *next_receiver(struct receivers *r)
{
	if (list_empty(&r->mounts))
		return NULL;
	struct mount *m = list_first(&r->mounts, struct mount, work);
	list_del(&m->work);
	return m;
}

/* ---- mounting ---- */

/* One copy of `src`, for m: of its peers' kind, or a slave of the nearest copy above.  Who became
 * shared by this very change does not count as shared yet. */
static int copy_for(struct mount *m, struct mount **out) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct peer_group *own = m->new_group ? NULL : m->group;
	struct mount *from = own ? own->made : NULL;
	enum copy_kind kind = from ? COPY_SAME : COPY_SLAVE;

	for (struct peer_group *g = m->master; !from; g = master_of(g))
		from = g->made;
	int err = mount_copy_tree((struct path){from, from->root}, true, kind, out);
	for (struct mount *c = *out; own && !err && c; c = mount_next(c, *out))
		err = mount_make_shared(c);
	if (!err && own && !own->made)
		own->made = *out;
	return err;
}

/* The groups that make_groups() made, up to `end`, stay, or go. */
static void settle_groups(struct mount *top, struct mount *end, bool keep) REQUIRES(lc_mount)
{
	for (struct mount *m = top; m && m != end; m = mount_next(m, top)) {
		if (m->new_group && !keep)
			leave(m, false);
		m->new_group = false;
	}
}

/* Everything that is mounted on a shared mount is shared. */
static int make_groups(struct mount *top) REQUIRES(lc_mount)
{
	for (struct mount *m = top; m; m = mount_next(m, top)) {
		m->new_group = !m->group;
		int err = mount_make_shared(m);
		if (err) {
			m->new_group = false;
			settle_groups(top, m, false);
			return err;
		}
	}
	return 0;
}

static bool receives(const struct mount *m, struct dentry *place) REQUIRES(lc_dcache)
{
	/* Without a namespace are copies in the making. */
	return m->ns && !m->ns->anonymous && dentry_is_ancestor(m->root, place);
}

int mount_spread_prepare(struct mount *src, struct path where, struct list_head *made,
			 struct list_head *gone)
{
	struct receivers r;
	struct mount *m, *c;

	src->into = where.mnt;
	if (!where.mnt->group) {
		list_add_tail(&src->work, made);
		return 0;
	}
	int err = make_groups(src);
	if (err)
		return err;
	list_receivers(where.mnt, &r);
	where.mnt->group->made = src;
	while ((m = next_receiver(&r))) {
		if (err || !receives(m, where.dentry))
			continue;
		err = copy_for(m, &c);
		if (c) {
			c->into = m;
			list_add_tail(&c->work, made);
			if (m->ns->ns.owner != where.mnt->ns->ns.owner)
				mount_lock_tree(c);
		}
	}
	if (err) {
		while (!list_empty(made)) {
			c = list_first(made, struct mount, work);
			list_del(&c->work);
			mount_collect_locked(c, gone);
		}
		settle_groups(src, NULL, false);
		return err;
	}
	settle_groups(src, NULL, true);
	list_add(&src->work, made);
	return 0;
}

/* What was there before stays on top. */
static void put_beneath(struct mount *c, struct path where) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *over = mount_find(where.mnt, where.dentry), *top = c, *next;

	if (!over) {
		mount_link_locked(c, where.mnt, where.dentry);
		return;
	}
	while ((next = mount_find(top, top->root)))
		top = next;
	mount_unlink_locked(over);
	mount_hang_locked(mount_get(c), over->parent, over->mountpoint);
	mount_set_tree_ns(c, where.mnt->ns);
	mount_hang_locked(over, mount_get(top), dentry_get_locked(top->root));
}

void mount_spread_commit(struct path where, struct list_head *made)
{
	bool own = true; /* the first is no copy: its references are not the tree's yet */

	while (!list_empty(made)) {
		struct mount *c = list_first(made, struct mount, work);
		list_del(&c->work);
		put_beneath(c, (struct path){c->into, where.dentry});
		mnt_ns_touch(c->ns);
		if (!own)
			mount_put(c);
		own = false;
	}
}

/* ---- unmounting ---- */

enum {
	DOOMED = 1,	 /* is below what is unmounted */
	DOOMED_RECEIVED, /* goes because a peer of its parent's loses a mount there */
};

bool mount_is_busy(struct mount *m)
{
	struct receivers r;
	struct mount *p;
	bool busy = !list_empty(&m->children);

	/* Of the references, one is the tree's and one the caller's. */
	if (busy || ref_read(&m->ref) > 2)
		return true;
	list_receivers(m->parent, &r);
	while ((p = next_receiver(&r))) {
		struct mount *c = mount_find(p, m->mountpoint);
		if (!c || busy)
			continue;
		/* One that carries others stays anyway; a cover alone does not keep it. */
		bool covered = mount_find(c, c->root) && c->children.next == c->children.prev;
		if (covered || list_empty(&c->children))
			busy = ref_read(&c->ref) > (covered ? 2 : 1);
	}
	return busy;
}

/* A mount that would be left without a place keeps its parent; one on the parent's root would
 * move to the parent's place. */
static bool must_stay(struct mount *p) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *c;

	list_for_each (c, &p->children, siblings) {
		struct mount *left = c;
		if (c->mountpoint == p->root)
			continue;
		while (left && left->doomed)
			left = mount_find(left, left->root);
		if (left)
			return true;
	}
	return false;
}

static void doom(struct mount *m, uint8_t how, struct list_head *doomed)
{
	m->doomed = how;
	list_add_tail(&m->doom, doomed);
}

/* What goes besides the tree that is on `doomed` already. */
static void doom_received(struct list_head *doomed) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *m, *tmp, *p, *c;
	struct receivers r;
	bool changed = true;

	list_for_each (m, doomed, doom) {
		if (m->doomed == DOOMED_RECEIVED || !m->parent)
			continue;
		list_receivers(m->parent, &r);
		while ((p = next_receiver(&r)))
			if ((c = mount_find(p, m->mountpoint)) && !c->doomed)
				doom(c, DOOMED_RECEIVED, doomed);
	}
	while (changed) {
		changed = false;
		list_for_each_safe (m, tmp, doomed, doom) {
			if (m->doomed != DOOMED_RECEIVED || !must_stay(m))
				continue;
			m->doomed = 0;
			list_del(&m->doom);
			changed = true;
		}
	}
}

static void swap_places(struct mount *a, struct mount *b)
{
	struct path place = {a->parent, a->mountpoint};

	a->parent = b->parent;
	a->mountpoint = b->mountpoint;
	b->parent = place.mnt;
	b->mountpoint = place.dentry;
}

/* What is on the root of a mount that goes, and stays, moves down to the place of that. */
static void lower_cover(struct mount *m) REQUIRES(lc_mount) REQUIRES(lc_dcache)
{
	struct mount *cover = mount_find(m, m->root);

	if (!cover || cover->doomed)
		return;
	while (m->parent->doomed && m->mountpoint == m->parent->root)
		m = m->parent;
	mount_unlink_locked(cover);
	mount_unlink_locked(m);
	swap_places(cover, m); /* m stays unlinked, with references to put */
	mount_hang_locked(cover, cover->parent, cover->mountpoint);
}

void mount_umount_tree(struct mount *top, struct list_head *gone)
{
	struct list_head doomed = LIST_HEAD_INIT(doomed);
	struct mount *m;

	for (m = top; m; m = mount_next(m, top))
		doom(m, DOOMED, &doomed);
	doom_received(&doomed);
	list_for_each (m, &doomed, doom)
		if (m->doomed == DOOMED_RECEIVED)
			lower_cover(m);
	while (!list_empty(&doomed)) {
		m = list_first(&doomed, struct mount, doom);
		list_del(&m->doom);
		m->doomed = 0;
		mnt_ns_touch(m->ns);
		mount_retire_locked(m, gone);
	}
}

/* Marks on inodes, and the reports that reach them. */
#include "sentry/vfs/notify.h"

#include <string.h>
#include <sys/inotify.h>

#include "sentry/vfs/internal.h"

struct mutex notify_lock = MUTEX_INIT; /* lc_notify */
_Atomic unsigned notify_nmarks, notify_nasking;
void (*notify_forgetter)(struct file *f, const void *owner);
int (*notify_asker)(const struct path *p, uint32_t mask);
static struct list_head all_marks = LIST_HEAD_INIT(all_marks);

void notify_mark_attach_to(struct notify_mark *m, struct notify_mark *_Atomic *first)
{
	m->first = first;
	m->next = *first;
	*first = m;
	list_add(&m->all, &all_marks);
	notify_nmarks++;
}

void notify_mark_attach(struct notify_mark *m, struct inode *in)
{
	m->inode = inode_get(in);
	notify_mark_attach_to(m, &in->marks);
}

void notify_mark_detach(struct notify_mark *m, struct notify_mark **dead)
{
	struct notify_mark *p = *m->first;

	if (p == m) {
		*m->first = m->next;
	} else {
		while (p->next != m)
			p = p->next;
		p->next = m->next;
	}
	list_del(&m->all);
	notify_nmarks--;
	m->ops->gone(m);
	m->next = *dead;
	*dead = m;
}

void notify_watch_begin(struct inode *in)
{
	if (in->sb->ops->watch)
		in->sb->ops->watch(in, true);
}

void notify_watch_end(struct inode *in)
{
	if (in->sb->ops->watch)
		in->sb->ops->watch(in, false);
}

void notify_reap(struct notify_mark *dead)
{
	while (dead) {
		struct notify_mark *m = dead;
		dead = m->next;
		if (m->inode)
			notify_watch_end(m->inode);
		inode_put(m->inode);
		m->ops->free(m);
	}
}

/* An event on its way to the marks. */
struct telling {
	const struct notify_event *e;
	void (*finish)(const struct notify_event *e); /* of a mark that heard of it */
	struct notify_mark *dead;
};

static void tell(struct telling *t, struct notify_mark *m, enum notify_role role)
	REQUIRES(lc_notify)
{
	struct notify_mark *next;

	for (; m; m = next) {
		next = m->next;
		if (m->ops->finish)
			t->finish = m->ops->finish;
		if (!m->ops->event(m, t->e, role))
			notify_mark_detach(m, &t->dead);
	}
}

static bool is_entry_event(const struct notify_event *e)
{
	return e->mask & (IN_CREATE | IN_DELETE | IN_MOVE | NOTIFY_RENAME);
}

/* Directories first, then the inode, as one. */
static void tell_all(const struct notify_event *e)
{
	struct telling t = {.e = e};
	const struct super_block *sb = e->inode->sb;
	bool entry = is_entry_event(e);

	if (sb->ops->own_event)
		sb->ops->own_event(e->inode, e->dir, e->name, e->name_len);
	mutex_lock(&notify_lock, &lc_notify);
	if (e->dir)
		tell(&t, e->dir->marks, entry ? NOTIFY_ENTRY : NOTIFY_CHILD);
	if (e->new_dir)
		tell(&t, e->new_dir->marks, NOTIFY_NEW_ENTRY);
	if (!entry)
		tell(&t, e->inode->marks, NOTIFY_SELF);
	if (e->path)
		tell(&t, e->path->mnt->marks, NOTIFY_ON_MOUNT);
	tell(&t, e->inode->sb->marks, NOTIFY_ON_SUPER);
	if (t.finish)
		t.finish(e);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(t.dead);
}

static uint32_t isdir(const struct inode *in)
{
	return inode_is_dir(in) ? IN_ISDIR : 0;
}

void notify_name(struct inode *dir, uint32_t mask, const char *name, size_t len,
		 struct inode *subject, uint32_t cookie)
{
	struct notify_event e = {
		.dir = dir, .name = name, .name_len = len, .cookie = cookie, .inode = subject};

	if (!notify_active() || (!dir->marks && !dir->sb->marks))
		return;
	e.mask = mask | isdir(subject);
	tell_all(&e);
}

void notify_renamed(const struct notify_event *e)
{
	struct notify_event own = *e;

	if (!notify_active() || (!e->dir->marks && !e->new_dir->marks && !e->dir->sb->marks))
		return;
	own.mask = NOTIFY_RENAME | isdir(e->inode);
	tell_all(&own);
}

void notify_inode(struct inode *in, uint32_t mask)
{
	struct notify_event e = {.mask = mask | isdir(in), .inode = in};

	if (notify_active() && (in->marks || in->sb->marks))
		tell_all(&e);
}

/*
 * Does anybody look at that file?  Then e gets the directory that d is in, if it is in any, with a
 * reference, and d's name.
 */
static bool is_watched(struct dentry *d, const struct mount *m, char name[VFS_NAME_MAX + 1],
		       struct notify_event *e)
{
	const struct inode *in = e->inode;
	bool any = in->marks || in->sb->marks || (m && m->marks);

	mutex_lock(&dcache_lock, &lc_dcache);
	struct inode *dir = d->parent != d ? d->parent->inode : NULL;
	if (dir && (any || dir->marks)) {
		any = true;
		e->dir = inode_get(dir);
		memcpy(name, d->name, (size_t)d->name_len + 1);
		e->name = name;
		e->name_len = d->name_len;
		e->unlinked = !d->hashed;
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	return any;
}

static void tell_of(struct dentry *d, struct notify_event *e)
{
	char name[VFS_NAME_MAX + 1];

	e->inode = dentry_inode(d);
	if (!e->inode || !is_watched(d, e->path ? e->path->mnt : NULL, name, e))
		return;
	e->mask |= isdir(e->inode);
	tell_all(e);
	inode_put(e->dir);
}

void notify_dentry(struct dentry *d, uint32_t mask)
{
	struct notify_event e = {.mask = mask};

	if (notify_active())
		tell_of(d, &e);
}

void notify_file(struct file *f, uint32_t mask)
{
	struct notify_event e = {.mask = mask, .path = &f->path};

	if (notify_active() && f->noted)
		tell_of(f->path.dentry, &e);
}

void notify_question(struct notify_event *e)
{
	tell_of(e->path->dentry, e);
}

void notify_closed(struct file *f, const void *owner)
{
	if (notify_active() && f->inode->marks && notify_forgetter)
		notify_forgetter(f, owner);
}

uint32_t notify_new_cookie(void)
{
	static _Atomic uint32_t last;
	return atomic_fetch_add(&last, 1) + 1;
}

void notify_foreign(struct inode *in, uint32_t mask, const char *name, size_t len, uint32_t cookie)
{
	struct notify_event e = {.mask = mask, .cookie = cookie};
	enum notify_role role = !name		     ? NOTIFY_SELF
				: is_entry_event(&e) ? NOTIFY_ENTRY
						     : NOTIFY_CHILD;
	struct telling t = {.e = &e};

	if (!in->marks)
		return;
	/* What lies behind the name of a child is not known. */
	e.inode = role == NOTIFY_CHILD ? NULL : in;
	if (name) {
		e.dir = in;
		e.name = name;
		e.name_len = len;
	}
	mutex_lock(&notify_lock, &lc_notify);
	tell(&t, in->marks, role);
	if (t.finish)
		t.finish(&e);
	while (role == NOTIFY_SELF && mask & IN_DELETE_SELF && in->marks)
		notify_mark_detach(in->marks, &t.dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(t.dead);
}

/* ---- ends ---- */

/* The last event of a mark on an inode. */
static void tell_last(struct notify_mark *m, uint32_t mask, struct notify_mark **dead)
	REQUIRES(lc_notify)
{
	struct notify_event e = {.mask = mask | isdir(m->inode), .inode = m->inode};

	m->ops->event(m, &e, NOTIFY_SELF);
	if (m->ops->finish)
		m->ops->finish(&e);
	notify_mark_detach(m, dead);
}

void notify_inode_removed(struct inode *in)
{
	struct notify_event e = {.mask = IN_DELETE_SELF | isdir(in), .inode = in};
	struct notify_mark *dead = NULL;

	if (!notify_active() || (!in->marks && !in->sb->marks))
		return;
	tell_all(&e);
	mutex_lock(&notify_lock, &lc_notify);
	while (in->marks)
		notify_mark_detach(in->marks, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

void notify_super_gone(struct super_block *sb)
{
	struct notify_mark *m, *tmp, *dead = NULL;

	if (!notify_active())
		return;
	mutex_lock(&notify_lock, &lc_notify);
	list_for_each_safe (m, tmp, &all_marks, all)
		if (m->inode && m->inode->sb == sb)
			tell_last(m, IN_UNMOUNT, &dead);
	while (sb->marks)
		notify_mark_detach(sb->marks, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

void notify_mount_gone(struct mount *m)
{
	struct notify_mark *dead = NULL;

	if (!m->marks)
		return;
	mutex_lock(&notify_lock, &lc_notify);
	while (m->marks)
		notify_mark_detach(m->marks, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

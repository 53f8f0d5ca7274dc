/* Marks on inodes, and the reports that reach them. */
#include "sentry/vfs/notify.h"

#include <string.h>
#include <sys/inotify.h>

#include "sentry/vfs/internal.h"

struct mutex notify_lock = MUTEX_INIT; /* lc_notify */
_Atomic unsigned notify_nmarks;
static struct list_head all_marks = LIST_HEAD_INIT(all_marks);

void notify_mark_attach(struct notify_mark *m, struct inode *in)
{
	m->inode = inode_get(in);
	m->next = in->marks;
	in->marks = m;
	list_add(&m->all, &all_marks);
	notify_nmarks++;
}

void notify_mark_detach(struct notify_mark *m, struct notify_mark **dead)
{
	struct notify_mark *p = m->inode->marks;

	if (p == m) {
		m->inode->marks = m->next;
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

void notify_reap(struct notify_mark *dead)
{
	while (dead) {
		struct notify_mark *m = dead;
		dead = m->next;
		inode_put(m->inode);
		m->ops->free(m);
	}
}

static void tell(struct inode *in, const struct notify_event *e, struct notify_mark **dead)
	REQUIRES(lc_notify)
{
	struct notify_mark *m = in->marks, *next;

	for (; m; m = next) {
		next = m->next;
		if (!m->ops->event(m, e))
			notify_mark_detach(m, dead);
	}
}

static uint32_t isdir(const struct inode *in)
{
	return inode_is_dir(in) ? IN_ISDIR : 0;
}

/* Tells the directory (by name), the inode, or both, in this order, as one. */
static void tell_both(struct inode *dir, struct inode *in, struct notify_event *e)
{
	struct notify_mark *dead = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	if (dir)
		tell(dir, e, &dead);
	if (in) {
		e->name = NULL;
		tell(in, e, &dead);
	}
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

void notify_name(struct inode *dir, uint32_t mask, const char *name, size_t len,
		 const struct inode *subject, uint32_t cookie)
{
	struct notify_event e = {.name = name, .name_len = len, .cookie = cookie};

	if (!notify_active() || !dir->marks)
		return;
	e.mask = mask | isdir(subject);
	tell_both(dir, NULL, &e);
}

void notify_inode(struct inode *in, uint32_t mask)
{
	struct notify_event e = {.mask = mask | isdir(in)};

	if (notify_active() && in->marks)
		tell_both(NULL, in, &e);
}

/* The directory that d is in, if somebody watches it: a reference, and d's name. */
static struct inode *watched_parent(struct dentry *d, char name[VFS_NAME_MAX + 1],
				    struct notify_event *e)
{
	struct inode *dir = NULL;

	mutex_lock(&dcache_lock, &lc_dcache);
	if (d->parent != d && d->parent->inode && d->parent->inode->marks) {
		dir = inode_get(d->parent->inode);
		memcpy(name, d->name, (size_t)d->name_len + 1);
		e->name = name;
		e->name_len = d->name_len;
		e->unlinked = !d->hashed;
	}
	mutex_unlock(&dcache_lock, &lc_dcache);
	return dir;
}

void notify_dentry(struct dentry *d, uint32_t mask)
{
	struct inode *in = dentry_inode(d);
	char name[VFS_NAME_MAX + 1];
	struct notify_event e = {.mask = mask};

	if (!notify_active() || !in)
		return;
	struct inode *dir = watched_parent(d, name, &e);
	if (!dir && !in->marks)
		return;
	e.mask |= isdir(in);
	tell_both(dir, in->marks ? in : NULL, &e);
	inode_put(dir);
}

void notify_file(struct file *f, uint32_t mask)
{
	if (notify_active() && f->noted)
		notify_dentry(f->path.dentry, mask);
}

uint32_t notify_new_cookie(void)
{
	static _Atomic uint32_t last;
	return atomic_fetch_add(&last, 1) + 1;
}

/* The last event of a mark. */
static void tell_last(struct notify_mark *m, uint32_t mask, struct notify_mark **dead)
	REQUIRES(lc_notify)
{
	struct notify_event e = {.mask = mask | isdir(m->inode)};

	m->ops->event(m, &e);
	notify_mark_detach(m, dead);
}

void notify_inode_removed(struct inode *in)
{
	struct notify_mark *dead = NULL;

	if (!notify_active() || !in->marks)
		return;
	mutex_lock(&notify_lock, &lc_notify);
	while (in->marks)
		tell_last(in->marks, IN_DELETE_SELF, &dead);
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
		if (m->inode->sb == sb)
			tell_last(m, IN_UNMOUNT, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

#include "sentry/fs/notify/dnotify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>

#include "sentry/kernel/async_io.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/notify.h"

_Atomic int dnotify_enabled = 1;

/* Everything is guarded by lc_notify. */
struct dn_mark {
	struct notify_mark mark;
	struct file *file; /* borrowed: its close takes the mark away */
	const void *owner; /* whose descriptor it is: an fdtable */
	int fd;
	uint32_t mask; /* events as the vfs has them */
	bool again;    /* DN_MULTISHOT */
};

static uint32_t mask_of(uint32_t events)
{
	return (events & DN_ACCESS ? IN_ACCESS : 0) | (events & DN_MODIFY ? IN_MODIFY : 0) |
	       (events & DN_CREATE ? IN_CREATE | IN_MOVED_TO : 0) |
	       (events & DN_DELETE ? IN_DELETE | IN_MOVED_FROM : 0) |
	       (events & DN_RENAME ? NOTIFY_RENAME : 0) | (events & DN_ATTRIB ? IN_ATTRIB : 0);
}

static struct dn_mark *mark_of(struct notify_mark *m)
{
	return container_of(m, struct dn_mark, mark);
}

static bool dn_event(struct notify_mark *m, const struct notify_event *e, enum notify_role role)
	REQUIRES(lc_notify)
{
	struct dn_mark *d = mark_of(m);

	if (!(e->mask & d->mask) || role == NOTIFY_NEW_ENTRY)
		return true;
	/* What goes elsewhere is a deletion, no renaming. */
	if (e->mask & NOTIFY_RENAME && e->dir != e->new_dir)
		return true;
	async_io_tell(d->file, d->fd);
	return d->again;
}

static void dn_gone(struct notify_mark *m)
{
	(void)m;
}

static void dn_free(struct notify_mark *m)
{
	free(mark_of(m));
}

static const struct notify_mark_ops dn_ops = {.event = dn_event, .gone = dn_gone, .free = dn_free};

/* owner NULL: anybody's. */
static struct dn_mark *find(struct file *f, const void *owner) REQUIRES(lc_notify)
{
	struct notify_mark *m = f->inode->marks;

	while (m && (m->ops != &dn_ops || mark_of(m)->file != f ||
		     (owner && mark_of(m)->owner != owner)))
		m = m->next;
	return m ? mark_of(m) : NULL;
}

static void forget(struct file *f, const void *owner)
{
	struct notify_mark *dead = NULL;

	mutex_lock(&notify_lock, &lc_notify);
	struct dn_mark *d;
	while ((d = find(f, owner)))
		notify_mark_detach(&d->mark, &dead);
	mutex_unlock(&notify_lock, &lc_notify);
	notify_reap(dead);
}

int dnotify_watch(struct file *f, struct task *t, int fd, uint32_t events)
{
	if (!dnotify_enabled)
		return -EINVAL;
	if (!(events & ~(uint32_t)DN_MULTISHOT)) {
		forget(f, t->fds);
		return 0;
	}
	if (!inode_is_dir(f->inode))
		return -ENOTDIR;
	struct dn_mark *fresh = calloc(1, sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	async_io_own(f, t);
	notify_watch_begin(f->inode);
	mutex_lock(&notify_lock, &lc_notify);
	struct dn_mark *d = find(f, t->fds);
	if (!d) {
		d = fresh;
		fresh = NULL;
		d->mark.ops = &dn_ops;
		d->file = f;
		d->owner = t->fds;
		notify_mark_attach(&d->mark, f->inode);
	}
	d->fd = fd;
	d->mask |= mask_of(events);
	d->again |= (events & DN_MULTISHOT) != 0;
	mutex_unlock(&notify_lock, &lc_notify);
	if (fresh)
		notify_watch_end(f->inode);
	free(fresh);
	return 0;
}

void dnotify_enable(void)
{
	notify_forgetter = forget;
}

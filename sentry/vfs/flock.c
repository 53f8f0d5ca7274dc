/*
 * File locks: byte ranges of fcntl(2) (POSIX locks and open file description locks, which exclude
 * each other) and whole files of flock(2).
 *
 * One lock (lc_flock) guards all of them: file locks are rare and short, and the search for
 * deadlocks looks at many owners at once.  Nothing waits here.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>

#include "sentry/vfs/internal.h"

#define DEADLOCK_STEPS 16 /* as long a chain as is looked at */

struct range_lock {
	struct list_head node;
	const void *owner;
	int pid;
	short type;
	int64_t start, end;
};

struct whole_lock {
	struct list_head node;
	int pid;
	const struct file *file;
	bool exclusive;
};

/* A sleeping POSIX request. */
struct lock_wait {
	struct list_head node;
	const void *owner, *blocker;
};

struct mutex flock_lock = MUTEX_INIT; /* lc_flock */
static struct list_head all_lists = LIST_HEAD_INIT(all_lists);
static struct list_head lock_waits = LIST_HEAD_INIT(lock_waits);

/* The list of an inode, made on first use.  NULL: no memory. */
struct flock_list *flock_list_of(struct inode *in)
{
	struct flock_list *l = in->flocks, *none = NULL;

	if (l)
		return l;
	l = malloc(sizeof(*l));
	if (!l)
		return NULL;
	list_init(&l->ranges);
	list_init(&l->wholes);
	list_init(&l->leases);
	waitq_init(&l->wq);
	list_init(&l->all);
	l->in = in;
	if (atomic_compare_exchange_strong(&in->flocks, &none, l)) {
		mutex_lock(&flock_lock, &lc_flock);
		list_add_tail(&l->all, &all_lists);
		mutex_unlock(&flock_lock, &lc_flock);
		return l;
	}
	free(l);
	return none;
}

void flock_list_free(struct flock_list *l)
{
	struct range_lock *r, *rtmp;
	struct whole_lock *w, *wtmp;

	if (!l)
		return;
	mutex_lock(&flock_lock, &lc_flock);
	list_del(&l->all);
	mutex_unlock(&flock_lock, &lc_flock);
	list_for_each_safe (r, rtmp, &l->ranges, node)
		free(r);
	list_for_each_safe (w, wtmp, &l->wholes, node)
		free(w);
	free(l);
}

struct waitq *flock_waitq(struct file *f)
{
	struct flock_list *l = flock_list_of(f->inode);
	return l ? &l->wq : NULL;
}

static void changed(struct flock_list *l)
{
	waitq_notify(&l->wq, POLLIN | POLLOUT);
}

/* ---- ranges ---- */

static struct range_lock *find_conflict(struct flock_list *l, const void *owner, short type,
					int64_t start, int64_t end) REQUIRES(lc_flock)
{
	struct range_lock *r;

	list_for_each (r, &l->ranges, node) {
		if (r->owner != owner && r->start <= end && start <= r->end &&
		    (r->type == F_WRLCK || type == F_WRLCK))
			return r;
	}
	return NULL;
}

/* Takes [start, end] out of the owner's locks.  `spare` becomes the second half of a split. */
static bool cut_out(struct flock_list *l, const void *owner, int64_t start, int64_t end,
		    struct range_lock **spare) REQUIRES(lc_flock)
{
	struct range_lock *r, *tmp;
	bool any = false;

	list_for_each_safe (r, tmp, &l->ranges, node) {
		if (r->owner != owner || r->start > end || start > r->end)
			continue;
		any = true;
		if (r->start < start && r->end > end) {
			struct range_lock *right = steal(*spare);
			*right = *r;
			right->start = end + 1;
			r->end = start - 1;
			list_add(&right->node, &r->node);
		} else if (r->start < start) {
			r->end = start - 1;
		} else if (r->end > end) {
			r->start = end + 1;
		} else {
			list_del(&r->node);
			free(r);
		}
	}
	return any;
}

/* Joins a new lock with neighbours of its owner and type. */
static void merge(struct flock_list *l, struct range_lock *n) REQUIRES(lc_flock)
{
	struct range_lock *r, *tmp;

	list_for_each_safe (r, tmp, &l->ranges, node) {
		if (r->owner != n->owner || r->type != n->type)
			continue;
		if (r->end != INT64_MAX && r->end + 1 == n->start)
			n->start = r->start;
		else if (n->end != INT64_MAX && n->end + 1 == r->start)
			n->end = r->end;
		else
			continue;
		list_del(&r->node);
		free(r);
	}
	list_add_tail(&n->node, &l->ranges);
}

int flock_posix_set(struct file *f, const struct flock_owner *o, short type, int64_t start,
		    int64_t end)
{
	if (type == F_UNLCK && !f->inode->flocks)
		return 0;
	struct flock_list *l = flock_list_of(f->inode);
	/* At most one lock is added, and one split. */
	struct range_lock *n = malloc(sizeof(*n)), *spare = malloc(sizeof(*spare));
	int err = l && n && spare ? 0 : -ENOLCK;

	if (!err) {
		mutex_lock(&flock_lock, &lc_flock);
		if (type != F_UNLCK && find_conflict(l, o->id, type, start, end))
			err = -EAGAIN;
		if (!err) {
			bool any = cut_out(l, o->id, start, end, &spare);
			if (type != F_UNLCK) {
				*n = (struct range_lock){.owner = o->id,
							 .pid = o->pid,
							 .type = type,
							 .start = start,
							 .end = end};
				merge(l, steal(n));
			}
			if (any)
				changed(l);
		}
		mutex_unlock(&flock_lock, &lc_flock);
	}
	free(n);
	free(spare);
	return err;
}

bool flock_posix_test(struct file *f, const struct flock_owner *o, short *type, int64_t *start,
		      int64_t *end, int *pid)
{
	struct flock_list *l = f->inode->flocks;

	if (!l)
		return false;
	mutex_lock(&flock_lock, &lc_flock);
	struct range_lock *r = find_conflict(l, o->id, *type, *start, *end);
	if (r) {
		*type = r->type;
		*start = r->start;
		*end = r->end;
		*pid = r->pid;
	}
	mutex_unlock(&flock_lock, &lc_flock);
	return r != NULL;
}

static const void *waits_for(const void *owner) REQUIRES(lc_flock)
{
	struct lock_wait *w;

	list_for_each (w, &lock_waits, node) {
		if (w->owner == owner)
			return w->blocker;
	}
	return NULL;
}

int flock_posix_wait_begin(struct file *f, const struct flock_owner *o, short type, int64_t start,
			   int64_t end)
{
	struct flock_list *l = flock_list_of(f->inode);
	struct lock_wait *w = malloc(sizeof(*w));
	int err = 0;

	if (!l || !w) {
		free(w);
		return -ENOMEM;
	}
	mutex_lock(&flock_lock, &lc_flock);
	struct range_lock *r = find_conflict(l, o->id, type, start, end);
	const void *next = r ? r->owner : NULL;
	*w = (struct lock_wait){.owner = o->id, .blocker = next};
	for (int i = 0; next && i < DEADLOCK_STEPS && !err; i++) {
		next = waits_for(next);
		if (next == o->id)
			err = -EDEADLK;
	}
	if (!err)
		list_add(&w->node, &lock_waits);
	mutex_unlock(&flock_lock, &lc_flock);
	if (err)
		free(w);
	return err;
}

void flock_posix_wait_end(const struct flock_owner *o)
{
	struct lock_wait *w, *found = NULL;

	mutex_lock(&flock_lock, &lc_flock);
	list_for_each (w, &lock_waits, node) {
		if (w->owner == o->id) {
			found = w;
			list_del(&w->node);
			break;
		}
	}
	mutex_unlock(&flock_lock, &lc_flock);
	free(found);
}

void flock_release_owner(struct file *f, const void *owner_id)
{
	struct flock_list *l = f->inode->flocks;
	struct range_lock *none = NULL;

	if (!l)
		return;
	mutex_lock(&flock_lock, &lc_flock);
	/* Nothing is longer than everything: no split. */
	if (cut_out(l, owner_id, 0, INT64_MAX, &none))
		changed(l);
	mutex_unlock(&flock_lock, &lc_flock);
}

/* ---- whole files ---- */

static bool whole_drop(struct flock_list *l, const struct file *f) REQUIRES(lc_flock)
{
	struct whole_lock *w, *tmp;

	list_for_each_safe (w, tmp, &l->wholes, node) {
		if (w->file != f)
			continue;
		list_del(&w->node);
		free(w);
		changed(l);
		return true;
	}
	return false;
}

/* 1: f holds just this already; 0: nobody else stands in the way; -EAGAIN. */
static int whole_check(struct flock_list *l, const struct file *f, bool exclusive)
	REQUIRES(lc_flock)
{
	struct whole_lock *w;
	int ret = 0;

	list_for_each (w, &l->wholes, node) {
		if (w->file == f) {
			if (w->exclusive == exclusive)
				return 1;
		} else if (exclusive || w->exclusive) {
			ret = -EAGAIN;
		}
	}
	return ret;
}

int flock_bsd_set(struct file *f, int op, int pid)
{
	if (op == LOCK_UN && !f->inode->flocks)
		return 0;
	struct flock_list *l = flock_list_of(f->inode);
	struct whole_lock *n = malloc(sizeof(*n));
	int err = l && n ? 0 : -ENOLCK;

	if (!err) {
		mutex_lock(&flock_lock, &lc_flock);
		int check = op == LOCK_UN ? 0 : whole_check(l, f, op == LOCK_EX);
		if (check <= 0) {
			/* A conversion gives the old lock up first, even when it then fails. */
			whole_drop(l, f);
			err = check;
			if (!err && op != LOCK_UN) {
				*n = (struct whole_lock){
					.file = f, .pid = pid, .exclusive = op == LOCK_EX};
				list_add_tail(&n->node, &l->wholes);
				n = NULL;
			}
		}
		mutex_unlock(&flock_lock, &lc_flock);
	}
	free(n);
	return err;
}

void flock_release_file(struct file *f)
{
	struct flock_list *l = f->inode->flocks;

	flock_release_owner(f, f);
	if (!l)
		return;
	mutex_lock(&flock_lock, &lc_flock);
	whole_drop(l, f);
	lease_release_file(l, f);
	mutex_unlock(&flock_lock, &lc_flock);
}

size_t flock_count(struct inode *in)
{
	struct flock_list *l = in->flocks;
	struct range_lock *r;
	struct whole_lock *w;
	size_t n = 0;

	if (!l)
		return 0;
	mutex_lock(&flock_lock, &lc_flock);
	list_for_each (r, &l->ranges, node)
		n++;
	list_for_each (w, &l->wholes, node)
		n++;
	mutex_unlock(&flock_lock, &lc_flock);
	return n;
}

/* ---- for /proc/locks ---- */

static size_t count_all(void) REQUIRES(lc_flock)
{
	struct flock_list *l;
	struct list_head *n;
	size_t count = 0;

	list_for_each (l, &all_lists, all) {
		for (n = l->ranges.next; n != &l->ranges; n = n->next)
			count++;
		for (n = l->wholes.next; n != &l->wholes; n = n->next)
			count++;
		for (n = l->leases.next; n != &l->leases; n = n->next)
			count++;
	}
	return count;
}

static size_t fill_all(struct flock_info *info) REQUIRES(lc_flock)
{
	struct flock_list *l;
	struct range_lock *r;
	struct whole_lock *w;
	size_t n = 0;

	list_for_each (l, &all_lists, all) {
		list_for_each (r, &l->ranges, node)
			info[n++] =
				(struct flock_info){.kind = r->pid < 0 ? FLOCK_OFD : FLOCK_POSIX,
						    .exclusive = r->type == F_WRLCK,
						    .pid = r->pid,
						    .dev = l->in->sb->dev,
						    .ino = l->in->ino,
						    .start = r->start,
						    .end = r->end};
		list_for_each (w, &l->wholes, node)
			info[n++] = (struct flock_info){.kind = FLOCK_WHOLE,
							.exclusive = w->exclusive,
							.pid = w->pid,
							.dev = l->in->sb->dev,
							.ino = l->in->ino,
							.end = INT64_MAX};
		n += lease_list(l, info + n);
	}
	return n;
}

struct flock_info *flock_list_all(size_t *count)
{
	mutex_lock(&flock_lock, &lc_flock);
	size_t n = count_all();
	struct flock_info *info = malloc((n + 1) * sizeof(*info));
	if (info)
		*count = fill_all(info);
	mutex_unlock(&flock_lock, &lc_flock);
	return info;
}

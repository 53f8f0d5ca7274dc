#include "sentry/vfs/lease.h"

#include <fcntl.h>
#include <stdlib.h>

#include "sentry/time/ktimer.h"
#include "sentry/vfs/internal.h"

struct lease {
	struct list_head node;
	struct file *file; /* borrowed: its last put ends the lease */
	int fd, pid;
	short type;		  /* F_RDLCK, F_WRLCK */
	bool ending, downgrading; /* it is asked for */
	int64_t end_by, downgrade_by;
};

_Atomic int leases_enable = 1, lease_break_time = 45;
_Atomic unsigned lease_count;
int (*vfs_lease_breaker)(struct inode *in, bool write, bool nonblock);

static struct lease *lease_of(struct flock_list *l, const struct file *f) REQUIRES(lc_flock)
{
	struct lease *e;

	list_for_each (e, &l->leases, node)
		if (e->file == f)
			return e;
	return NULL;
}

static void lease_end(struct lease *e) REQUIRES(lc_flock)
{
	list_del(&e->node);
	lease_count--;
	free(e);
}

static void lease_change(struct flock_list *l, struct lease *e, int type) REQUIRES(lc_flock)
{
	e->downgrading = false;
	if (type == F_UNLCK) {
		lease_end(e);
	} else {
		e->type = (short)type;
		if (type == F_WRLCK)
			e->ending = false;
	}
	waitq_notify(&l->wq, POLLIN | POLLOUT);
}

/* Those whose time is over. */
static void expire(struct flock_list *l) REQUIRES(lc_flock)
{
	struct lease *e, *tmp;
	int64_t now = time_monotonic();

	list_for_each_safe (e, tmp, &l->leases, node) {
		if (e->ending && e->end_by <= now)
			lease_change(l, e, F_UNLCK);
		else if (e->downgrading && e->downgrade_by <= now)
			lease_change(l, e, F_RDLCK);
	}
}

static int target(const struct lease *e)
{
	return e->ending ? F_UNLCK : e->downgrading ? F_RDLCK : e->type;
}

/* Has nobody but f the file open in a way that a lease forbids? */
static bool is_free_for(const struct file *f, int type)
{
	const struct inode *in = f->inode;
	bool writer = file_writable(f);

	if (type == F_RDLCK)
		return in->writers == 0;
	return in->writers == writer && in->readers == !writer;
}

static int add(struct flock_list *l, struct file *f, int type, int fd, int pid) REQUIRES(lc_flock)
{
	struct lease *mine = lease_of(l, f), *e;

	if (!is_free_for(f, type))
		return -EAGAIN;
	list_for_each (e, &l->leases, node)
		if (e != mine && (type == F_WRLCK || e->ending))
			return -EAGAIN;
	if (mine) {
		lease_change(l, mine, type);
		return 0;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	*e = (struct lease){.file = f, .fd = fd, .pid = pid, .type = (short)type};
	list_add_tail(&e->node, &l->leases);
	lease_count++;
	return 0;
}

int lease_set(struct file *f, int type, int fd, int pid)
{
	struct flock_list *l = flock_list_of(f->inode);
	int err = 0;

	if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK)
		return -EINVAL;
	if (type != F_UNLCK && !leases_enable)
		return -EINVAL;
	if (!l)
		return -ENOMEM;
	mutex_lock(&flock_lock, &lc_flock);
	expire(l);
	if (type != F_UNLCK) {
		err = add(l, f, type, fd, pid);
	} else {
		struct lease *mine = lease_of(l, f);
		if (mine)
			lease_change(l, mine, F_UNLCK);
		else
			err = -EAGAIN;
	}
	mutex_unlock(&flock_lock, &lc_flock);
	return err;
}

int lease_get(struct file *f)
{
	struct flock_list *l = f->inode->flocks;
	int type = F_UNLCK;

	if (!l)
		return type;
	mutex_lock(&flock_lock, &lc_flock);
	expire(l);
	const struct lease *e = lease_of(l, f);
	if (e)
		type = target(e);
	mutex_unlock(&flock_lock, &lc_flock);
	return type;
}

void lease_release_file(struct flock_list *l, struct file *f)
{
	struct lease *e = lease_of(l, f);

	if (e)
		lease_change(l, e, F_UNLCK);
}

size_t lease_list(struct flock_list *l, struct flock_info *info)
{
	const struct lease *e;
	size_t n = 0;

	list_for_each (e, &l->leases, node)
		info[n++] = (struct flock_info){
			.kind = FLOCK_LEASE,
			.exclusive = target(e) == F_WRLCK,
			.breaking = e->ending || e->downgrading,
			.ending = e->ending,
			.pid = e->pid,
			.dev = l->in->sb->dev,
			.ino = l->in->ino,
			.end = INT64_MAX,
		};
	return n;
}

/* ---- breaking ---- */

static bool conflicts(const struct lease *e, bool write)
{
	return write || e->type == F_WRLCK;
}

static bool is_told(const struct lease *e, bool write)
{
	return write ? e->ending : e->ending || e->downgrading;
}

struct file *lease_break_next(struct inode *in, bool write, int *fd)
{
	struct flock_list *l = in->flocks;
	struct file *found = NULL;
	struct lease *e;

	if (!l)
		return NULL;
	mutex_lock(&flock_lock, &lc_flock);
	int64_t by =
		lease_break_time ? time_monotonic() + lease_break_time * NSEC_PER_SEC : TIME_NEVER;
	list_for_each (e, &l->leases, node) {
		if (!conflicts(e, write) || is_told(e, write) ||
		    !ref_get_unless_zero(&e->file->ref))
			continue;
		if (write) {
			e->ending = true;
			e->end_by = by;
		} else {
			e->downgrading = true;
			e->downgrade_by = by;
		}
		*fd = e->fd;
		found = e->file;
		break;
	}
	mutex_unlock(&flock_lock, &lc_flock);
	return found;
}

bool lease_blocks(struct inode *in, bool write, int64_t *deadline)
{
	struct flock_list *l = in->flocks;
	bool any = false;
	struct lease *e;

	*deadline = TIME_NEVER;
	if (!l)
		return false;
	mutex_lock(&flock_lock, &lc_flock);
	expire(l);
	list_for_each (e, &l->leases, node) {
		if (!conflicts(e, write))
			continue;
		any = true;
		if (e->ending)
			*deadline = MIN(*deadline, e->end_by);
		if (e->downgrading)
			*deadline = MIN(*deadline, e->downgrade_by);
	}
	mutex_unlock(&flock_lock, &lc_flock);
	return any;
}

struct waitq *lease_waitq(struct inode *in)
{
	struct flock_list *l = in->flocks;
	return l ? &l->wq : NULL;
}

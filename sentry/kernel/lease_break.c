/* Breaking leases (vfs/lease.h): tells the holders, and waits for them. */
#include <errno.h>
#include <signal.h>

#include "sentry/kernel/async_io.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/lease.h"

static void tell_holders(struct inode *in, bool write)
{
	struct file *f;
	int fd;

	while ((f = lease_break_next(in, write, &fd))) {
		async_io_tell(f, fd);
		file_put(f);
	}
}

static int wait_for_holders(struct task *t, struct inode *in, bool write)
{
	struct waitq *q = lease_waitq(in);
	struct task_waiter tw;
	int64_t deadline;
	int err = 0;

	if (!q)
		return 0;
	task_waiter_init(&tw, t);
	waitq_add(q, &tw.w, POLLIN);
	while (lease_blocks(in, write, &deadline)) {
		tell_holders(in, write); /* who has taken one meanwhile */
		err = task_park(t, TASK_SLEEPING, deadline);
		if (err == -EINTR)
			break;
		err = 0;
	}
	waitq_remove(&tw.w);
	return err ? -ERESTARTSYS : 0;
}

static int break_leases(struct inode *in, bool write, bool nonblock)
{
	struct task *t = task_current();
	int64_t deadline;

	if (!t || !lease_blocks(in, write, &deadline))
		return 0;
	tell_holders(in, write);
	return nonblock ? -EWOULDBLOCK : wait_for_holders(t, in, write);
}

void lease_break_init(void)
{
	vfs_lease_breaker = break_leases;
}

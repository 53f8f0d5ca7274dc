/* epoll_create(2), epoll_ctl(2), epoll_wait(2). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "syscalls/file_io.h"
#include "syscalls/poll_wait.h"
#include "syscalls/syscalls.h"

#define FEW 64 /* events that fit on the stack */

_Static_assert(sizeof(struct epoll_event_k) == 12, "ABI");

long sys_epoll_create1(struct task *t, int flags)
{
	struct file *f;

	if (flags & ~EPOLL_CLOEXEC)
		return -EINVAL;
	int err = epoll_create_file(O_RDWR, &f);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & EPOLL_CLOEXEC);
}

long sys_epoll_create(struct task *t, int size)
{
	return size <= 0 ? -EINVAL : sys_epoll_create1(t, 0);
}

long sys_epoll_ctl(struct task *t, int epfd, int op, int fd, uaddr_t event)
{
	struct epoll_event_k ev = {0, 0};

	if (op != EPOLL_CTL_DEL && copy_in_val(&t->um, &ev, event))
		return -EFAULT;
	CLEANUP_FILE struct file *ep = fdtable_file(t->fds, epfd);
	CLEANUP_FILE struct file *target = fdtable_file(t->fds, fd);
	if (!ep || !target)
		return -EBADF;
	return epoll_control(ep, op, fd, target, &ev);
}

/* Sleeps until there is something: the number of events, 0 at the deadline, -EINTR. */
static int epoll_sleep(struct task *t, struct file *ep, struct epoll_event_k *ev, int max,
		       int64_t deadline)
{
	struct task_waiter tw;
	int n, err = 0;

	task_waiter_init(&tw, t);
	waitq_add(epoll_sleepers(ep), &tw.w, POLLIN);
	while (!(n = epoll_collect(ep, ev, max)) && !err)
		err = task_park(t, TASK_SLEEPING, deadline);
	waitq_remove(&tw.w);
	/* A wake-up that was meant for us may be somebody else's now. */
	epoll_pass_on(ep);
	return n ? n : err == -ETIMEDOUT ? 0 : err;
}

static long do_epoll_wait(struct task *t, int epfd, uaddr_t events, int max, int64_t deadline)
{
	struct epoll_event_k few[FEW], *ev = few;
	CLEANUP_FREE struct epoll_event_k *many = NULL;

	if (max <= 0 || max > (int)(INT_MAX / sizeof(*ev)))
		return -EINVAL;
	CLEANUP_FILE struct file *ep = fdtable_file(t->fds, epfd);
	if (!ep)
		return -EBADF;
	if (!file_is_epoll(ep))
		return -EINVAL;
	/* More than are ready now need no room: what comes meanwhile waits for the next call. */
	if (max > FEW) {
		max = MIN(max, MAX(epoll_ready_count(ep), FEW));
		if (max > FEW && !(ev = many = malloc((size_t)max * sizeof(*ev))))
			return -ENOMEM;
	}
	int n = epoll_collect(ep, ev, max);
	if (!n && !deadline_is_past(deadline))
		n = epoll_sleep(t, ep, ev, max, deadline);
	if (n > 0 && copy_out_last(&t->um, events, ev, (size_t)n * sizeof(*ev)))
		return -EFAULT;
	return n;
}

long sys_epoll_wait(struct task *t, int epfd, uaddr_t events, int max, int timeout)
{
	return do_epoll_wait(t, epfd, events, max, deadline_after_ms(timeout));
}

static long epoll_wait_masked(struct task *t, int epfd, uaddr_t events, int max, int64_t deadline,
			      uaddr_t mask, uint64_t size)
{
	int err = temp_mask_begin(t, mask, size);

	if (err)
		return err;
	long ret = do_epoll_wait(t, epfd, events, max, deadline);
	temp_mask_end(t, ret == -EINTR);
	return ret;
}

long sys_epoll_pwait(struct task *t, int epfd, uaddr_t events, int max, int timeout, uaddr_t mask,
		     uint64_t size)
{
	return epoll_wait_masked(t, epfd, events, max, deadline_after_ms(timeout), mask, size);
}

long sys_epoll_pwait2(struct task *t, int epfd, uaddr_t events, int max, uaddr_t timeout,
		      uaddr_t mask, uint64_t size)
{
	int64_t deadline;
	int err = deadline_from_timespec(t, timeout, &deadline);

	return err ? err : epoll_wait_masked(t, epfd, events, max, deadline, mask, size);
}

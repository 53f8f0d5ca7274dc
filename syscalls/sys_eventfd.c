/* eventfd(2), timerfd_create(2), signalfd(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/fs/timerfd/timerfd.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/signalfd.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/syscalls.h"

static long install(struct task *t, struct file *f, bool cloexec)
{
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, cloexec);
}

long sys_eventfd2(struct task *t, unsigned count, int flags)
{
	struct file *f;

	if (flags & ~(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK))
		return -EINVAL;
	int err = eventfd_create_file(count, flags, &f);
	return err ? err : install(t, f, flags & EFD_CLOEXEC);
}

long sys_eventfd(struct task *t, unsigned count)
{
	return sys_eventfd2(t, count, 0);
}

/* ---- timerfd ---- */

static bool clock_is_alarm(int clock)
{
	return clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;
}

long sys_timerfd_create(struct task *t, int clock, int flags)
{
	struct file *f;

	if (flags & ~(TFD_CLOEXEC | TFD_NONBLOCK))
		return -EINVAL;
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
	    !clock_is_alarm(clock))
		return -EINVAL;
	if (clock_is_alarm(clock) && !task_capable(t, CAP_WAKE_ALARM))
		return -EPERM;
	int err = timerfd_create_file(clock, flags, &f);
	return err ? err : install(t, f, flags & TFD_CLOEXEC);
}

long sys_timerfd_settime(struct task *t, int fd, int flags, uaddr_t value, uaddr_t old)
{
	struct itimerspec new, was;

	if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET))
		return -EINVAL;
	int err = copy_in_val(&t->um, &new, value);
	if (err)
		return err;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	err = timerfd_set(f, flags, &new, &was, task_time_offsets(t));
	if (!err && !uaddr_is_null(old))
		err = copy_out_val(&t->um, old, &was);
	return err;
}

long sys_timerfd_gettime(struct task *t, int fd, uaddr_t value)
{
	struct itimerspec cur;

	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	int err = timerfd_get(f, &cur);
	return err ? err : copy_out_last_val(&t->um, value, &cur);
}

/* ---- signalfd ---- */

long sys_signalfd4(struct task *t, int fd, uaddr_t umask, uint64_t size, int flags)
{
	sigset_k mask;
	int err;

	if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK) || size != sizeof(mask))
		return -EINVAL;
	if ((err = copy_in_val(&t->um, &mask, umask)))
		return err;
	if (fd == -1) {
		struct file *made;
		err = signalfd_create_file(mask, flags, &made);
		return err ? err : install(t, made, flags & SFD_CLOEXEC);
	}
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	err = signalfd_set_mask(f, mask);
	return err ? err : fd;
}

long sys_signalfd(struct task *t, int fd, uaddr_t mask, uint64_t size)
{
	return sys_signalfd4(t, fd, mask, size, 0);
}

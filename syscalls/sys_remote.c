/* Calls on another process through its pidfd: pidfd_getfd(2), process_madvise(2),
 * process_mrelease(2). */
#include <errno.h>
#include <linux/capability.h>
#include <sys/mman.h>

#include "sentry/kernel/pidfd.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/syscalls.h"

#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The leader of the process that a pidfd names, a reference.  -EBADF no pidfd; -ESRCH reaped. */
static int leader_of(struct task *t, int pidfd, struct task **out)
{
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, pidfd);
	struct thread_group *tg = f ? pidfd_group(f) : NULL;
	int err = 0;

	if (!tg)
		return -EBADF;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (thread_group_lookup(tg->tgid) == tg && tg->leader)
		*out = task_get(tg->leader);
	else
		err = -ESRCH;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

static int take_file(struct task *t, struct task *other, int fd, struct file **out)
{
	if (!task_may_ptrace(t, other, false))
		return -EPERM;
	struct fdtable *fds = task_fds_get(other);
	if (!fds)
		return -ESRCH;
	*out = fdtable_file_any(fds, fd);
	fdtable_put(fds);
	return *out ? 0 : -EBADF;
}

long sys_pidfd_getfd(struct task *t, int pidfd, int target, unsigned flags)
{
	struct task *other;
	struct file *f;

	if (flags)
		return -EINVAL;
	int err = leader_of(t, pidfd, &other);
	if (err)
		return err;
	err = take_file(t, other, target, &f);
	task_put(other);
	return err ? err : fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, true);
}

static bool remote_advice(int advice)
{
	return advice == MADV_COLD || advice == MADV_PAGEOUT || advice == MADV_WILLNEED ||
	       advice == MADV_COLLAPSE;
}

/* Bytes advised before the first failure, or that failure. */
static long advise_ranges(struct task *t, struct mm *mm, const struct uio *io, int advice)
{
	long done = 0;

	for (size_t i = 0; i < io->nsegs; i++) {
		const struct uio_seg *seg = &io->segs[i];
		int err = mm == t->mm ? mm_advise(mm, t->pt, seg->base, seg->len, advice)
				      : mm_advise_remote(mm, seg->base, seg->len, advice);
		if (err)
			return done ? done : err;
		done += (long)seg->len;
	}
	return done;
}

long sys_process_madvise(struct task *t, int pidfd, uaddr_t iov, uint64_t n, int advice,
			 unsigned flags)
{
	struct task *other;
	struct uio io;

	if (flags)
		return -EINVAL;
	CLEANUP_FREE struct uio_seg *segs = calloc(UIO_MAXIOV, sizeof(*segs));
	if (!segs)
		return -ENOMEM;
	int err = uio_import(&io, segs, &t->um, iov, n);
	if (err || (err = leader_of(t, pidfd, &other)))
		return err;
	struct mm *mm = task_mm_get(other);
	if (!mm)
		err = -ESRCH;
	else if (mm == t->mm)
		err = 0;
	else if (!task_may_ptrace(t, other, true))
		err = -EACCES;
	else if (!remote_advice(advice))
		err = -EINVAL;
	else if (!task_capable(t, CAP_SYS_NICE))
		err = -EPERM;
	long ret = err ? err : advise_ranges(t, mm, &io, advice);
	mm_put(mm);
	task_put(other);
	return ret;
}

/* The memory of a dying process is given back as it ends, which is soon: only the rules remain. */
long sys_process_mrelease(struct task *t, int pidfd, unsigned flags)
{
	struct task *other;

	if (flags)
		return -EINVAL;
	int err = leader_of(t, pidfd, &other);
	if (err)
		return err;
	struct mm *mm = task_mm_get(other);
	if (!mm)
		err = -ESRCH;
	else if (!atomic_load(&other->tg->exiting))
		err = -EINVAL;
	mm_put(mm);
	task_put(other);
	return err;
}

/* pidfd_open(2), pidfd_send_signal(2). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/lib/cleanup.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#ifndef PIDFD_NONBLOCK
#define PIDFD_NONBLOCK O_NONBLOCK
#endif

/* The process with that number, a reference; -ESRCH none, -EINVAL (ENOENT later) a mere thread. */
static int find_group(struct task *t, int pid, struct thread_group **out)
{
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *tg = thread_group_named(t, pid);
	if (tg)
		*out = thread_group_get(tg);
	else
		err = task_named(t, pid) ? -EINVAL : -ESRCH;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

long sys_pidfd_open(struct task *t, int pid, unsigned flags)
{
	struct thread_group *tg;
	struct file *f;

	if (flags & ~(unsigned)PIDFD_NONBLOCK || pid <= 0)
		return -EINVAL;
	int err = find_group(t, pid, &tg);
	if (err)
		return err;
	err = pidfd_create(tg, flags, &f);
	thread_group_put(tg);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, true);
}

/* The siginfo to send: the guest's, which must not pretend to come from kill or the kernel when it
 * goes to somebody else, or that of kill(2). */
static int get_info(struct task *t, struct thread_group *tg, int sig, uaddr_t uinfo, ksiginfo *info)
{
	if (uaddr_is_null(uinfo)) {
		signal_info_user(info, sig, SI_USER, t);
		return 0;
	}
	int err = copy_in_val(&t->um, info, uinfo);
	if (err)
		return err;
	if (info->si_signo != sig)
		return -EINVAL;
	if (signal_info_has_uid(info))
		info->si_uid = uid_enter(t->cred->user_ns, info->si_uid);
	if (tg != t->tg && (info->si_code >= 0 || info->si_code == SI_TKILL))
		return -EPERM;
	return 0;
}

long sys_pidfd_send_signal(struct task *t, int pidfd, int sig, uaddr_t uinfo, unsigned flags)
{
	ksiginfo info;

	if (flags)
		return -EINVAL;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, pidfd);
	if (!f)
		return -EBADF;
	struct thread_group *tg = pidfd_group(f);
	if (!tg)
		tg = proc_dir_group(f);
	if (!tg)
		return -EBADF;
	if (sig < 0 || sig > LINUX_NSIG)
		return -EINVAL;
	int err = get_info(t, tg, sig, uinfo, &info);
	if (err)
		return err;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool gone = thread_group_lookup(tg->tgid) != tg;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (gone)
		return -ESRCH;
	if (!signal_permitted(t, tg, sig))
		return -EPERM;
	return sig ? signal_send_group(tg, &info) : 0;
}

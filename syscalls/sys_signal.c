/* Signals: sigaction(2), sigprocmask(2), kill(2), sigqueue(3), sigwaitinfo(2), sigaltstack(2). */
#include <errno.h>
#include <limits.h>

#include "sentry/time/clock.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

long sys_rt_sigaction(struct task *t, int sig, uaddr_t act, uaddr_t oldact, uint64_t size)
{
	struct ksigaction new, old;
	int err;

	if (size != sizeof(sigset_k))
		return -EINVAL;
	bool set = !uaddr_is_null(act);
	if (set && (err = copy_in_val(&t->um, &new, act)))
		return err;
	if ((err = ksigaction_set(t, sig, set ? &new : NULL, &old)))
		return err;
	return uaddr_is_null(oldact) ? 0 : copy_out_last_val(&t->um, oldact, &old);
}

long sys_rt_sigprocmask(struct task *t, int how, uaddr_t uset, uaddr_t uold, uint64_t size)
{
	sigset_k old = t->mask, set, mask;
	int err;

	if (size != sizeof(sigset_k))
		return -EINVAL;
	if (!uaddr_is_null(uset)) {
		if ((err = copy_in_val(&t->um, &set, uset)))
			return err;
		switch (how) {
		case SIG_BLOCK:
			mask = old | set;
			break;
		case SIG_UNBLOCK:
			mask = old & ~set;
			break;
		case SIG_SETMASK:
			mask = set;
			break;
		default:
			return -EINVAL;
		}
		signal_set_mask(t, mask);
	}
	return uaddr_is_null(uold) ? 0 : copy_out_last_val(&t->um, uold, &old);
}

long sys_rt_sigreturn(struct task *t)
{
	return signal_sigreturn(t);
}

long sys_rt_sigpending(struct task *t, uaddr_t uset, uint64_t size)
{
	if (size > sizeof(sigset_k))
		return -EINVAL;
	sigset_k set = signal_pending_set(t) & t->mask;
	return copy_out_last(&t->um, uset, &set, size);
}

long sys_rt_sigsuspend(struct task *t, uaddr_t uset, uint64_t size)
{
	sigset_k set;
	int err;

	if (size != sizeof(sigset_k))
		return -EINVAL;
	if ((err = copy_in_val(&t->um, &set, uset)))
		return err;
	signal_set_temp_mask(t, set);
	while (!signal_pending(t) && !task_park(t, TASK_SLEEPING, TIME_NEVER))
		;
	return -ERESTARTNOHAND; /* signal_deliver puts the mask back */
}

long sys_pause(struct task *t)
{
	while (!signal_pending(t) && !task_park(t, TASK_SLEEPING, TIME_NEVER))
		;
	return -ERESTARTNOHAND;
}

long sys_restart_syscall(struct task *t)
{
	long (*fn)(struct task *) = t->restart_fn;

	t->restart_fn = NULL;
	return fn ? fn(t) : -EINTR;
}

long sys_sigaltstack(struct task *t, uaddr_t uss, uaddr_t uold)
{
	uint64_t rsp = t->k->pf->ops->regs(t->pt)->rsp;
	struct sigaltstack_k new, old;
	int err;

	signal_altstack_get(t, rsp, &old);
	if (!uaddr_is_null(uss)) {
		if ((err = copy_in_val(&t->um, &new, uss)))
			return err;
		if ((err = signal_altstack_set(t, &new, rsp)))
			return err;
	}
	return uaddr_is_null(uold) ? 0 : copy_out_last_val(&t->um, uold, &old);
}

/* ---- waiting for signals ---- */

/* Blocked signals of `want` wake this task as long as sigwait names them. */
static void set_sigwait(struct task *t, sigset_k want)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	t->sigwait = want;
	signal_recalc(t);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

static int wait_for_signal(struct task *t, sigset_k want, int64_t timeout, ksiginfo *info)
{
	int signo = signal_dequeue(t, want, info);
	if (signo || timeout == 0)
		return signo ? signo : -EAGAIN;

	int64_t deadline = time_add(time_monotonic(), timeout);
	int err = 0;
	set_sigwait(t, want);
	while (!err && !(signo = signal_dequeue(t, want, info)))
		err = task_park(t, TASK_SLEEPING, deadline);
	set_sigwait(t, 0);
	if (!signo)
		signo = signal_dequeue(t, want, info);
	if (signo)
		return signo;
	return err == -ETIMEDOUT ? -EAGAIN : -EINTR;
}

long sys_rt_sigtimedwait(struct task *t, uaddr_t uset, uaddr_t uinfo, uaddr_t utimeout,
			 uint64_t size)
{
	struct timespec ts;
	int64_t timeout = TIME_NEVER;
	sigset_k want;
	ksiginfo info;
	int err;

	if (size != sizeof(sigset_k))
		return -EINVAL;
	if ((err = copy_in_val(&t->um, &want, uset)))
		return err;
	if (!uaddr_is_null(utimeout)) {
		if ((err = copy_in_val(&t->um, &ts, utimeout)))
			return err;
		if ((err = timespec_to_ns(&ts, &timeout)))
			return err;
	}
	int signo = wait_for_signal(t, want & ~SIG_UNBLOCKABLE, timeout, &info);
	if (signo > 0 && !uaddr_is_null(uinfo) && copy_out_val(&t->um, uinfo, &info))
		return -EFAULT;
	return signo;
}

/* ---- sending ---- */

static struct thread_group *lookup_group(struct task *t, int pid)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	/* kill(2) takes the number of any thread for its process. */
	struct task *th = task_named(t, pid);
	struct thread_group *tg = th ? thread_group_get(th->tg) : NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return tg;
}

static int send_to_group(struct task *t, int pid, const ksiginfo *info)
{
	struct thread_group *tg = lookup_group(t, pid);
	int err = 0;

	if (!tg)
		return -ESRCH;
	if ((unsigned)info->si_signo > LINUX_NSIG)
		err = -EINVAL;
	else if (!signal_permitted(t, tg, info->si_signo))
		err = -EPERM;
	else if (info->si_signo)
		err = signal_send_group(tg, info);
	thread_group_put(tg);
	return err;
}

/* tgid 0: whatever its group. */
static int send_to_thread(struct task *t, int tgid, int tid, const ksiginfo *info)
{
	int err = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *th = task_named(t, tid);
	if (th && (tgid == 0 || thread_group_named(t, tgid) == th->tg))
		task_get(th);
	else
		th = NULL;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!th)
		return -ESRCH;
	if ((unsigned)info->si_signo > LINUX_NSIG)
		err = -EINVAL;
	else if (!signal_permitted(t, th->tg, info->si_signo))
		err = -EPERM;
	else if (info->si_signo)
		err = signal_send_task(th, info);
	task_put(th);
	return err;
}

long sys_kill(struct task *t, int pid, int sig)
{
	ksiginfo info;

	signal_info_user(&info, sig, SI_USER, t);
	if (pid > 0)
		return send_to_group(t, pid, &info);
	if (pid == INT_MIN)
		return -ESRCH;
	if ((unsigned)sig > LINUX_NSIG)
		return -EINVAL;
	if (pid == -1)
		return signal_kill_all(t, &info);
	return signal_kill_pgrp(t, pid ? pid_from_guest(t, -pid) : t->tg->pgid, &info);
}

long sys_tkill(struct task *t, int tid, int sig)
{
	ksiginfo info;

	if (tid <= 0)
		return -EINVAL;
	signal_info_user(&info, sig, SI_TKILL, t);
	return send_to_thread(t, 0, tid, &info);
}

long sys_tgkill(struct task *t, int tgid, int tid, int sig)
{
	ksiginfo info;

	if (tgid <= 0 || tid <= 0)
		return -EINVAL;
	signal_info_user(&info, sig, SI_TKILL, t);
	return send_to_thread(t, tgid, tid, &info);
}

/* A guest's siginfo.  Codes that only the kernel gives are for signals to oneself. */
static int get_siginfo(struct task *t, int pid, int sig, uaddr_t uinfo, ksiginfo *info)
{
	int err = copy_in_val(&t->um, info, uinfo);

	if (err)
		return err;
	info->si_signo = sig;
	if (signal_info_has_uid(info))
		info->si_uid = uid_enter(t->cred->user_ns, info->si_uid);
	if ((info->si_code >= 0 || info->si_code == SI_TKILL) && pid != pid_nr_own(t->pid))
		return -EPERM;
	return 0;
}

long sys_rt_sigqueueinfo(struct task *t, int pid, int sig, uaddr_t uinfo)
{
	ksiginfo info;
	int err = get_siginfo(t, pid, sig, uinfo, &info);

	return err ? err : send_to_group(t, pid, &info);
}

long sys_rt_tgsigqueueinfo(struct task *t, int tgid, int tid, int sig, uaddr_t uinfo)
{
	ksiginfo info;

	if (tgid <= 0 || tid <= 0)
		return -EINVAL;
	int err = get_siginfo(t, tid, sig, uinfo, &info);
	return err ? err : send_to_thread(t, tgid, tid, &info);
}

#include "sentry/kernel/pid.h"
#include "sentry/kernel/tty.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/ioctl.h>

struct tty *tty_get(struct tty *tty)
{
	ref_get(&tty->ref);
	return tty;
}

void tty_put(struct tty *tty)
{
	if (tty && ref_put(&tty->ref))
		tty->free(tty);
}

struct tty *tty_of_task(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct tty *tty = t->tg->session->tty;
	if (tty)
		tty_get(tty);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return tty;
}

static bool is_controlling(const struct tty *tty, const struct task *t)
{
	return t->tg->session->tty == tty;
}

/* Both directions of the tie between a session and its terminal; lc_tasks held. */
static void tie(struct tty *tty, struct session *s, int pgid)
{
	s->tty = tty_get(tty);
	tty->session = s;
	tty->fg_pgid = pgid;
}

/* Undoes it; the caller puts the session's reference to the terminal after lc_tasks. */
static void untie(struct tty *tty)
{
	if (tty->session)
		tty->session->tty = NULL;
	tty->session = NULL;
	tty->fg_pgid = 0;
}

void tty_attach(struct tty *tty, struct thread_group *leader)
{
	struct tty *old = NULL;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tty->session) {
		old = tty;
		untie(tty);
	}
	tie(tty, leader->session, leader->pgid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	tty_put(old);
}

void tty_acquire(struct tty *tty, struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct session *s = t->tg->session;
	if (s->sid == t->tg->tgid && !s->tty && !tty->session)
		tie(tty, s, t->tg->pgid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
}

/* ---- signals ---- */

static void signal_pgrp(int pgid, int signo)
{
	ksiginfo info;

	if (pgid <= 0)
		return;
	signal_info_kernel(&info, signo);
	(void)signal_send_pgrp(pgid, &info);
}

void tty_signal_foreground(struct tty *tty, int signo)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int pgid = tty->fg_pgid;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	signal_pgrp(pgid, signo);
}

void tty_hangup(struct tty *tty)
{
	struct thread_group *leader = NULL;
	struct tty *put = NULL;
	ksiginfo info;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (tty->session) {
		leader = thread_group_lookup(tty->session->sid);
		if (leader)
			thread_group_get(leader);
		tty->session->old_fg_pgid = tty->fg_pgid;
		put = tty;
		untie(tty);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (leader) {
		signal_info_kernel(&info, SIGHUP);
		(void)signal_send_group(leader, &info);
		signal_info_kernel(&info, SIGCONT);
		(void)signal_send_group(leader, &info);
		thread_group_put(leader);
	}
	tty_put(put);
}

/* Blocked or ignored by the task? */
static bool is_deaf(struct task *t, int signo)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	bool deaf = t->mask & SIG_BIT(signo) ||
		    t->tg->sighand->action[signo - 1].handler == (uintptr_t)SIG_IGN;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return deaf;
}

int tty_check_background(struct tty *tty, struct task *t, int signo)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int pgid = t->tg->pgid;
	bool foreground = !is_controlling(tty, t) || tty->fg_pgid == 0 || tty->fg_pgid == pgid;
	bool orphaned = !foreground && pgrp_is_orphaned(pgid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);

	if (foreground)
		return 0;
	if (is_deaf(t, signo))
		return signo == SIGTTIN ? -EIO : 0;
	if (orphaned)
		return -EIO;
	signal_pgrp(pgid, signo);
	return -ERESTARTSYS;
}

/* ---- ioctls ---- */

static long set_controlling(struct tty *tty, struct task *t, uint64_t steal_it)
{
	struct tty *stolen = NULL;
	long ret = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct session *s = t->tg->session;
	if (s->tty == tty && tty->session == s) {
		/* It is already. */
	} else if (s->sid != t->tg->tgid || s->tty) {
		ret = -EPERM;
	} else if (tty->session && !(steal_it == 1 && task_capable(t, CAP_SYS_ADMIN))) {
		ret = -EPERM;
	} else {
		if (tty->session) {
			stolen = tty;
			untie(tty);
		}
		tie(tty, s, t->tg->pgid);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	tty_put(stolen);
	return ret;
}

/* The leader gives the terminal up for its whole session; a member alone cannot here. */
static long give_up(struct tty *tty, struct task *t)
{
	struct tty *put = NULL;
	int pgid = 0;
	long ret = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (!is_controlling(tty, t)) {
		ret = -ENOTTY;
	} else if (t->tg->session->sid == t->tg->tgid) {
		pgid = tty->fg_pgid;
		put = tty;
		untie(tty);
	}
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	signal_pgrp(pgid, SIGHUP);
	signal_pgrp(pgid, SIGCONT);
	tty_put(put);
	return ret;
}

static long get_number(struct tty *tty, struct task *t, unsigned cmd, uint64_t arg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool mine = is_controlling(tty, t);
	int n = cmd == TIOCGSID ? t->tg->session->sid : tty->fg_pgid;
	n = pid_show(task_pid_ns(t), n);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return mine ? copy_out_val(&t->um, UADDR(arg), &n) : -ENOTTY;
}

static long set_foreground(struct tty *tty, struct task *t, uint64_t arg)
{
	int32_t pgid;
	int err = tty_check_background(tty, t, SIGTTOU);

	if (err)
		return err == -EIO ? -ENOTTY : err;
	if ((err = copy_in_val(&t->um, &pgid, UADDR(arg))))
		return err;
	if (pgid < 0)
		return -EINVAL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	pgid = pid_resolve(task_pid_ns(t), pgid);
	if (!is_controlling(tty, t))
		err = -ENOTTY;
	else if (!pgrp_exists_in_session(pgid, t->tg->session->sid))
		err = thread_group_lookup(pgid) ? -EPERM : -ESRCH;
	else
		tty->fg_pgid = pgid;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return err;
}

long tty_job_ioctl(struct tty *tty, struct task *t, unsigned cmd, uint64_t arg)
{
	switch (cmd) {
	case TIOCSCTTY:
		return set_controlling(tty, t, arg);
	case TIOCNOTTY:
		return give_up(tty, t);
	case TIOCGPGRP:
	case TIOCGSID:
		return get_number(tty, t, cmd, arg);
	case TIOCSPGRP:
		return set_foreground(tty, t, arg);
	default:
		return -ENOIOCTLCMD;
	}
}

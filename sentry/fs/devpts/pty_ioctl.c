/* The ioctls of both ends: ioctl_tty(2).  On the master, modes and sizes are the replica's. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "sentry/fs/devpts/pty.h"
#include "sentry/kernel/pid.h"
#include "sentry/mm/uaccess.h"

#define PTS_MAJOR 136

_Static_assert(sizeof(struct termios) == 36 && sizeof(struct termios2) == 44 &&
		       offsetof(struct termios2, c_cc) == offsetof(struct termios, c_cc),
	       "termios is the first part of termios2, as the kernel has them");

/* ---- modes ---- */

static uint32_t speed_of(unsigned cflag, uint32_t other)
{
	static const uint32_t low[] = {0,   50,	  75,	110,  134,  150,  200,	 300,
				       600, 1200, 1800, 2400, 4800, 9600, 19200, 38400};
	static const uint32_t high[] = {0,	 57600,	  115200,  230400,  460800,  500000,
					576000,	 921600,  1000000, 1152000, 1500000, 2000000,
					2500000, 3000000, 3500000, 4000000};
	unsigned code = cflag & CBAUD;

	if (code == BOTHER)
		return other;
	return code & CBAUDEX ? high[code & 15] : low[code & 15];
}

static long get_termios(struct pty *p, struct task *t, size_t size, uint64_t arg)
{
	pty_lock(p);
	struct termios2 now = p->termios;
	pty_unlock(p);
	return copy_out(&t->um, UADDR(arg), &now, size);
}

static long set_termios(struct pty *p, struct task *t, size_t size, bool flush, uint64_t arg)
{
	struct termios2 new;
	int err = tty_check_background(&p->tty, t, SIGTTOU);

	if (err)
		return err;
	memset(&new, 0, sizeof(new));
	if (copy_in(&t->um, &new, UADDR(arg), size))
		return -EFAULT;
	pty_lock(p);
	if (size == sizeof(struct termios)) {
		new.c_ispeed = p->termios.c_ispeed;
		new.c_ospeed = p->termios.c_ospeed;
	}
	unsigned in_code = new.c_cflag >> IBSHIFT &CBAUD;
	new.c_ospeed = speed_of(new.c_cflag, new.c_ospeed);
	new.c_ispeed = in_code ? speed_of(in_code, new.c_ispeed) : new.c_ospeed;
	if (flush)
		ldisc_flush_input(p);
	ldisc_set_termios(p, &new);
	pty_unlock(p);
	return 0;
}

static long ioctl_termios(struct pty *p, struct task *t, unsigned cmd, uint64_t arg)
{
	const size_t one = sizeof(struct termios), two = sizeof(struct termios2);

	switch (cmd) {
	case TCGETS:
		return get_termios(p, t, one, arg);
	case TCGETS2:
		return get_termios(p, t, two, arg);
	/* Output is delivered at once, so there is nothing to wait for. */
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return set_termios(p, t, one, cmd == TCSETSF, arg);
	case TCSETS2:
	case TCSETSW2:
	case TCSETSF2:
		return set_termios(p, t, two, cmd == TCSETSF2, arg);
	default:
		return -ENOIOCTLCMD;
	}
}

/* ---- sizes, flushes, flow ---- */

static long set_winsize(struct pty *p, struct task *t, uint64_t arg)
{
	struct winsize new;

	if (copy_in_val(&t->um, &new, UADDR(arg)))
		return -EFAULT;
	pty_lock(p);
	if (memcmp(&new, &p->winsize, sizeof(new)) != 0) {
		p->winsize = new;
		p->signals |= 1ULL << SIGWINCH;
	}
	pty_unlock(p);
	return 0;
}

static long get_winsize(struct pty *p, struct task *t, uint64_t arg)
{
	pty_lock(p);
	struct winsize now = p->winsize;
	pty_unlock(p);
	return copy_out_val(&t->um, UADDR(arg), &now);
}

/*
 * What an end has been delivered already is its input, and only an input flush there drops it:
 * the replica's is in the line discipline, the master's the first bytes of the queue.
 */
static void flush_to_master(struct pty *p, bool delivered)
{
	struct byte_queue *q = &p->to_master;
	uint32_t n = MIN(queue_used(q), (uint32_t)LINE_MAX_BYTES);

	if (delivered)
		q->tail += n;
	else
		q->head = q->tail + n;
	p->replica_events |= EV_OUT;
}

static long flush(struct pty *p, bool master, uint64_t arg)
{
	if (arg != TCIFLUSH && arg != TCOFLUSH && arg != TCIOFLUSH)
		return -EINVAL;
	pty_lock(p);
	if (arg != TCOFLUSH) {
		if (master)
			flush_to_master(p, true);
		else
			ldisc_flush_input(p);
	}
	if (arg != TCIFLUSH) {
		if (master) {
			p->to_ldisc.tail = p->to_ldisc.head;
			p->master_events |= EV_OUT;
		} else {
			flush_to_master(p, false);
			packet_notify(p, TIOCPKT_FLUSHWRITE, 0);
		}
	}
	ldisc_run(p);
	pty_unlock(p);
	return 0;
}

/* TCIOFF and TCION: the other end is asked to stop, or go on, by a character. */
static void send_flow_char(struct pty *p, bool master, uint8_t c)
{
	struct byte_queue *q = master ? &p->to_ldisc : &p->to_master;

	if (!c || queue_prepare(q) || !queue_room(q))
		return;
	queue_put(q, &c, 1);
	if (master)
		ldisc_run(p);
	else
		p->master_events |= EV_IN;
}

static long flow(struct pty *p, bool master, uint64_t arg)
{
	long ret = 0;

	pty_lock(p);
	switch (arg) {
	case TCOOFF:
		if (master) {
			p->master_stopped = true;
		} else {
			p->tco_stopped = true;
			output_stop(p);
		}
		break;
	case TCOON:
		if (master) {
			p->master_stopped = false;
			p->master_events |= EV_OUT;
		} else if (p->tco_stopped) {
			p->tco_stopped = false;
			output_start(p);
		}
		break;
	case TCIOFF:
		send_flow_char(p, master, p->termios.c_cc[VSTOP]);
		break;
	case TCION:
		send_flow_char(p, master, p->termios.c_cc[VSTART]);
		break;
	default:
		ret = -EINVAL;
	}
	pty_unlock(p);
	return ret;
}

static long input_size(struct pty *p, bool master, struct task *t, uint64_t arg)
{
	pty_lock(p);
	int n = (int)(master ? queue_used(&p->to_master) : ldisc_inq(p));
	pty_unlock(p);
	return copy_out_val(&t->um, UADDR(arg), &n);
}

static long put_int(struct task *t, uint64_t arg, int v)
{
	return copy_out_val(&t->um, UADDR(arg), &v);
}

/* TIOCEXCL and its like are the end's own. */
static long set_exclusive(struct pty *p, bool master, bool on)
{
	pty_lock(p);
	*(master ? &p->master_exclusive : &p->exclusive) = on;
	pty_unlock(p);
	return 0;
}

/* What both ends know. */
static long ioctl_common(struct pty *p, bool master, struct task *t, unsigned cmd, uint64_t arg)
{
	int n;
	long err;

	switch (cmd) {
	case TIOCGWINSZ:
		return get_winsize(p, t, arg);
	case TIOCSWINSZ:
		return set_winsize(p, t, arg);
	case TIOCINQ:
		return input_size(p, master, t, arg);
	case TIOCOUTQ:
	case TIOCGETD:
		return put_int(t, arg, 0); /* nothing is under way; N_TTY */
	case TIOCSETD:
		if (copy_in_val(&t->um, &n, UADDR(arg)))
			return -EFAULT;
		return n == 0 ? 0 : -EINVAL;
	case TCXONC:
	case TCFLSH:
	case TCSBRK:
	case TCSBRKP:
		if ((err = tty_check_background(&p->tty, t, SIGTTOU)))
			return err;
		return cmd == TCXONC   ? flow(p, master, arg)
		       : cmd == TCFLSH ? flush(p, master, arg)
				       : 0;
	case TIOCEXCL:
	case TIOCNXCL:
		return set_exclusive(p, master, cmd == TIOCEXCL);
	case TIOCGEXCL:
		return put_int(t, arg, master ? p->master_exclusive : p->exclusive);
	case TIOCGDEV:
		return put_int(t, arg, (int)dev_encode(PTS_MAJOR, p->tty.index));
	case TIOCSTI:
		return -EIO;
	default:
		return -ENOIOCTLCMD;
	}
}

/* ---- the master's own ---- */

static long set_flag(struct pty *p, struct task *t, unsigned cmd, uint64_t arg)
{
	int on;

	if (copy_in_val(&t->um, &on, UADDR(arg)))
		return -EFAULT;
	pty_lock(p);
	if (cmd == TIOCSPTLCK) {
		p->locked = on;
	} else {
		if (on && !p->packet)
			p->packet_status = 0;
		p->packet = on;
	}
	pty_unlock(p);
	return 0;
}

/* Opens the replica that belongs to this very master, whatever /dev/pts shows. */
static long open_peer(struct pty *p, struct file *f, struct task *t, int flags)
{
	struct path at;
	struct file *peer;
	const int known = O_ACCMODE | O_NOCTTY | O_CLOEXEC | O_NONBLOCK | O_APPEND;
	int err = devpts_replica_path(f, p->tty.index, &at);

	if (err)
		return err;
	err = file_open_path(at, flags & known & ~O_CLOEXEC, &peer);
	path_put(at);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), peer, flags & O_CLOEXEC);
}

static long get_job(struct pty *p, struct task *t, unsigned cmd, uint64_t arg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const struct session *s = p->tty.session;
	int n = cmd == TIOCGPGRP ? p->tty.fg_pgid : s ? s->sid : -1;
	n = pid_show(task_pid_ns(t), n);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return n < 0 ? -ENOTTY : put_int(t, arg, n);
}

static long send_signal(struct pty *p, uint64_t signo)
{
	if (signo < 1 || signo > 64)
		return -EINVAL;
	tty_signal_foreground(&p->tty, (int)signo);
	return 0;
}

static long ioctl_master(struct pty *p, struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	switch (cmd) {
	case TIOCGPTN:
		return put_int(t, arg, (int)p->tty.index);
	case TIOCSPTLCK:
	case TIOCPKT:
		return set_flag(p, t, cmd, arg);
	case TIOCGPTLCK:
		return put_int(t, arg, p->locked);
	case TIOCGPKT:
		return put_int(t, arg, p->packet);
	case TIOCGPTPEER:
		return open_peer(p, f, t, (int)arg);
	case TIOCSIG:
		return send_signal(p, arg);
	case TIOCGPGRP:
	case TIOCGSID:
		return get_job(p, t, cmd, arg);
	case TIOCSPGRP:
		return tty_job_ioctl(&p->tty, t, cmd, arg);
	default:
		return -ENOTTY;
	}
}

long pty_ioctl(struct pty *p, struct file *f, bool master, struct task *t, unsigned cmd,
	       uint64_t arg)
{
	if (!master && p->hung)
		return cmd == TIOCSPGRP ? -ENOTTY : -EIO;
	long ret = ioctl_termios(p, t, cmd, arg);
	if (ret == -ENOIOCTLCMD)
		ret = ioctl_common(p, master, t, cmd, arg);
	if (ret != -ENOIOCTLCMD)
		return ret;
	if (master)
		return ioctl_master(p, f, t, cmd, arg);
	ret = tty_job_ioctl(&p->tty, t, cmd, arg);
	return ret == -ENOIOCTLCMD ? -ENOTTY : ret;
}

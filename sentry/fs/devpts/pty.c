/* A pseudo-terminal: life, and the files of its two ends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>

#include "sentry/fs/devpts/pty.h"
#include "sentry/mm/uaccess.h"

#define CHUNK LINE_MAX_BYTES /* bytes of one step of a read or write, on the stack */

static const struct file_ops master_ops, replica_ops;

void pty_unlock(struct pty *p)
{
	uint32_t master = p->master_events, replica = p->replica_events;
	uint64_t signals = p->signals;

	p->master_events = p->replica_events = 0;
	p->signals = 0;
	mutex_unlock(&p->lock, &lc_tty);
	for (int signo = 1; signals >> signo; signo++)
		if (signals >> signo & 1)
			tty_signal_foreground(&p->tty, signo);
	if (master)
		waitq_notify(&p->master_wq, master);
	if (replica)
		waitq_notify(&p->replica_wq, replica);
}

bool file_is_pty_master(const struct file *f)
{
	return f->ops == &master_ops;
}

/* ---- the replica ---- */

static int check_background(struct pty *p, int signo)
{
	struct task *t = task_current();

	return t ? tty_check_background(&p->tty, t, signo) : 0;
}

/* Can the read go on, and how many bytes does it get?  lc_tty held; 0: the end, -EAGAIN. */
static ssize_t replica_can_read(struct pty *p, uint32_t n, bool nonblock)
{
	const uint8_t *cc = p->termios.c_cc;

	if (p->hung)
		return 0;
	if (ldisc_readable(p, n, nonblock))
		return ldisc_take(p, NULL, n);
	bool poll_only = !(p->termios.c_lflag & ICANON) && !cc[VMIN] && !cc[VTIME];
	return poll_only ? 0 : -EAGAIN;
}

static ssize_t replica_read(struct file *f, struct uio *io, int64_t *off)
{
	struct pty *p = f->priv;
	bool nonblock = f->flags & O_NONBLOCK;
	uint8_t bytes[CHUNK];
	uint32_t want = MIN(io->left, (uint64_t)CHUNK);

	(void)off;
	int err = p->hung ? 0 : check_background(p, SIGTTIN);
	if (err)
		return err;
	pty_lock(p);
	ssize_t n = replica_can_read(p, want, nonblock);
	pty_unlock(p);
	if (n < 0 || (n > 0 && (err = uio_probe_put(io, n))))
		return n < 0 ? n : err;

	/* Once more, since another reader may have been faster; no more than was probed. */
	uint32_t probed = (uint32_t)n;
	pty_lock(p);
	n = replica_can_read(p, want, nonblock);
	if (n >= 0 && !p->hung)
		n = ldisc_take(p, bytes, probed);
	ldisc_run(p);
	pty_unlock(p);
	return n > 0 ? uio_put(io, bytes, n) : n;
}

/* With VMIN 0, VTIME is how long a read waits for its first byte. */
static int64_t replica_io_timeout(struct file *f, bool write)
{
	struct pty *p = f->priv;
	int64_t ns = TIME_NEVER;

	pty_lock(p);
	if (!write && !(p->termios.c_lflag & ICANON) && !p->termios.c_cc[VMIN])
		ns = p->termios.c_cc[VTIME] * (NSEC_PER_SEC / 10);
	pty_unlock(p);
	return ns;
}

static ssize_t replica_write(struct file *f, struct uio *io, int64_t *off)
{
	struct pty *p = f->priv;
	uint8_t bytes[CHUNK];
	ssize_t done = 0;

	(void)off;
	int err = p->termios.c_lflag & TOSTOP && !p->hung ? check_background(p, SIGTTOU) : 0;
	if (err)
		return err;
	ssize_t n = uio_get(io, bytes, MIN(io->left, (uint64_t)CHUNK));
	if (n <= 0)
		return n;
	pty_lock(p);
	if (p->hung) {
		err = -EIO;
	} else if ((err = queue_prepare(&p->to_master)) == 0 && !p->stopped) {
		echo_flush(p);
		while (done < n && output_byte(p, bytes[done]))
			done++;
	}
	pty_unlock(p);
	uio_revert(io, n - done);
	return err ? err : done ? done : -EAGAIN;
}

static uint32_t replica_poll(struct file *f)
{
	struct pty *p = f->priv;
	uint32_t ev = 0;

	pty_lock(p);
	const uint8_t *cc = p->termios.c_cc;
	if (p->hung)
		ev = EV_IN | EV_OUT | POLLERR | POLLHUP;
	else if (ldisc_readable(p, cc[VTIME] ? 1 : 255, false))
		ev |= EV_IN;
	if (!p->stopped && queue_room(&p->to_master))
		ev |= EV_OUT;
	pty_unlock(p);
	return ev;
}

static struct waitq *replica_waitq(struct file *f)
{
	return &((struct pty *)f->priv)->replica_wq;
}

static long replica_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	return pty_ioctl(f->priv, f, false, t, cmd, arg);
}

static void replica_release(struct file *f)
{
	struct pty *p = f->priv;

	pty_lock(p);
	if (--p->replicas == 0) {
		p->replica_closed = true;
		p->exclusive = false;
		p->master_events |= EV_IN | POLLHUP;
	}
	pty_unlock(p);
	tty_put(&p->tty);
}

static const struct file_ops replica_ops = {
	.read = replica_read,
	.write = replica_write,
	.stream = true,
	.poll = replica_poll,
	.waitq = replica_waitq,
	.io_timeout = replica_io_timeout,
	.timeout_ends_read = true,
	.ioctl = replica_ioctl,
	.release = replica_release,
};

int pty_open_replica(struct pty *p, struct file *f)
{
	struct task *t = task_current();
	int err = 0;

	pty_lock(p);
	if (p->hung || p->locked)
		err = -EIO;
	else if (p->exclusive && !(t && task_capable(t, CAP_SYS_ADMIN)))
		err = -EBUSY;
	if (!err) {
		p->replicas++;
		p->replica_closed = false;
	}
	pty_unlock(p);
	if (err)
		return err;
	tty_get(&p->tty);
	f->ops = &replica_ops;
	f->priv = p;
	return 0;
}

/* ---- the master ---- */

/* What a read of n bytes gets, lc_tty held: bytes, or -EAGAIN, -EIO. */
static ssize_t master_can_read(struct pty *p, uint32_t n)
{
	if (p->packet && p->packet_status)
		return 1;
	uint32_t have = queue_used(&p->to_master);
	if (!have)
		return p->replica_closed ? -EIO : -EAGAIN;
	return p->packet ? MIN(n - 1, have) + 1 : MIN(n, have);
}

/* Takes n bytes that there are. */
static void master_take(struct pty *p, uint8_t *bytes, uint32_t n)
{
	if (p->packet) {
		*bytes++ = p->packet_status;
		n--;
		if (p->packet_status) {
			p->packet_status = 0;
			return;
		}
	}
	queue_peek(&p->to_master, bytes, n);
	p->to_master.tail += n;
	echo_flush(p);
	p->replica_events |= EV_OUT;
}

static ssize_t master_read(struct file *f, struct uio *io, int64_t *off)
{
	struct pty *p = f->priv;
	uint8_t bytes[CHUNK];
	uint32_t want = MIN(io->left, (uint64_t)CHUNK);
	int err;

	(void)off;
	pty_lock(p);
	ssize_t n = master_can_read(p, want);
	pty_unlock(p);
	if (n < 0)
		return n;
	if ((err = uio_probe_put(io, n)))
		return err;
	pty_lock(p);
	n = master_can_read(p, n);
	if (n > 0)
		master_take(p, bytes, n);
	pty_unlock(p);
	return n > 0 ? uio_put(io, bytes, n) : n;
}

static ssize_t master_write(struct file *f, struct uio *io, int64_t *off)
{
	struct pty *p = f->priv;
	uint8_t bytes[CHUNK];
	uint32_t done = 0;

	(void)off;
	ssize_t n = uio_get(io, bytes, MIN(io->left, (uint64_t)CHUNK));
	if (n <= 0)
		return n;
	pty_lock(p);
	int err = queue_prepare(&p->to_ldisc);
	if (!err && !p->master_stopped) {
		done = MIN((uint32_t)n, queue_room(&p->to_ldisc));
		queue_put(&p->to_ldisc, bytes, done);
		ldisc_run(p);
	}
	pty_unlock(p);
	uio_revert(io, n - done);
	return err ? err : done ? (ssize_t)done : -EAGAIN;
}

static uint32_t master_poll(struct file *f)
{
	struct pty *p = f->priv;
	uint32_t ev = 0;

	pty_lock(p);
	if (queue_used(&p->to_master))
		ev |= EV_IN;
	if (p->packet && p->packet_status)
		ev |= EV_IN | POLLPRI;
	if (p->replica_closed)
		ev |= POLLHUP;
	if (!p->master_stopped && queue_room(&p->to_ldisc))
		ev |= EV_OUT;
	pty_unlock(p);
	return ev;
}

static struct waitq *master_waitq(struct file *f)
{
	return &((struct pty *)f->priv)->master_wq;
}

static long master_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	return pty_ioctl(f->priv, f, true, t, cmd, arg);
}

static void master_release(struct file *f)
{
	struct pty *p = f->priv;

	pty_lock(p);
	p->hung = true;
	p->replica_events |= EV_IN | EV_OUT | POLLHUP | POLLERR;
	pty_unlock(p);
	devpts_forget_name(p->sb, p->tty.index);
	tty_hangup(&p->tty);
	tty_put(&p->tty);
}

static const struct file_ops master_ops = {
	.read = master_read,
	.write = master_write,
	.stream = true,
	.poll = master_poll,
	.waitq = master_waitq,
	.ioctl = master_ioctl,
	.release = master_release,
};

void pty_open_master(struct pty *p, struct file *f)
{
	f->ops = &master_ops;
	f->priv = p;
}

/* ---- life ---- */

/* /dev/tty of a process whose terminal it is. */
static int pty_tty_open(struct tty *tty, struct file *f)
{
	return pty_open_replica(container_of(tty, struct pty, tty), f);
}

static void pty_free(struct tty *tty)
{
	struct pty *p = container_of(tty, struct pty, tty);

	ktimer_cancel(&p->gap_timer);
	devpts_put_index(p->sb, p->tty.index);
	super_put(p->sb);
	free(p->to_ldisc.buf);
	free(p->to_master.buf);
	free(p);
}

int pty_new(struct super_block *sb, unsigned index, struct pty **out)
{
	struct pty *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	ref_init(&p->tty.ref, 1);
	p->tty.index = index;
	p->tty.open = pty_tty_open;
	p->tty.free = pty_free;
	p->sb = super_get(sb);
	p->locked = true;
	mutex_init(&p->lock);
	waitq_init(&p->master_wq);
	waitq_init(&p->replica_wq);
	ldisc_init(p);
	*out = p;
	return 0;
}

/*
 * Terminals of the host.  What the line discipline does - editing, echo, modes, sizes - is done by
 * the host; sessions and foreground groups are the guest's, in kernel/tty.c.  Every structure that
 * passes has a fixed size and is copied here; other commands do not pass.
 */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "sentry/fs/host/host.h"
#include "sentry/kernel/tty.h"

#define PTS_MAJOR 136

struct hosttty {
	struct tty tty;
	struct hostfile *h;	/* owned by the inode that `keep` holds */
	struct file *keep;	/* reference: the terminal's own file */
	_Atomic unsigned lflag; /* c_lflag as the guest last saw or set it: TOSTOP */
};

static const struct file_ops hosttty_ops;

/* A file's priv is the hosttty; its hostfile is behind that. */
static struct hostfile *host_of(const struct file *f)
{
	return ((struct hosttty *)f->priv)->h;
}

static int check_background(struct hosttty *ht, int signo)
{
	struct task *t = task_current();

	return t ? tty_check_background(&ht->tty, t, signo) : 0;
}

static ssize_t hosttty_read(struct file *f, struct uio *io, int64_t *off)
{
	(void)off;
	int err = check_background(f->priv, SIGTTIN);
	return err ? err : hostfile_stream_read(host_of(f), io);
}

static ssize_t hosttty_write(struct file *f, struct uio *io, int64_t *off)
{
	struct hosttty *ht = f->priv;

	(void)off;
	int err = ht->lflag & TOSTOP ? check_background(ht, SIGTTOU) : 0;
	return err ? err : hostfile_stream_write(ht->h, io);
}

static uint32_t hosttty_poll(struct file *f)
{
	return hostfile_poll(host_of(f), file_readable(f), file_writable(f));
}

static struct waitq *hosttty_waitq(struct file *f)
{
	return &host_of(f)->wq;
}

/* ---- ioctls ---- */

enum direction { OUT, IN, VALUE };

/* The commands that pass, and what they carry. */
static const struct passed {
	unsigned cmd;
	enum direction dir;
	unsigned size;
	bool changes; /* a background process is stopped first (SIGTTOU) */
} passed[] = {
	{TCGETS, OUT, sizeof(struct termios), false},
	{TCSETS, IN, sizeof(struct termios), true},
	{TCSETSW, IN, sizeof(struct termios), true},
	{TCSETSF, IN, sizeof(struct termios), true},
	{TCGETS2, OUT, sizeof(struct termios2), false},
	{TCSETS2, IN, sizeof(struct termios2), true},
	{TCSETSW2, IN, sizeof(struct termios2), true},
	{TCSETSF2, IN, sizeof(struct termios2), true},
	{TIOCGWINSZ, OUT, sizeof(struct winsize), false},
	{TIOCSWINSZ, IN, sizeof(struct winsize), false},
	{TIOCINQ, OUT, sizeof(int), false},
	{TIOCOUTQ, OUT, sizeof(int), false},
	{TIOCGETD, OUT, sizeof(int), false},
	{TCSBRK, VALUE, 0, true},
	{TCSBRKP, VALUE, 0, true},
	{TCXONC, VALUE, 0, true},
	{TCFLSH, VALUE, 0, true},
};

_Static_assert(sizeof(struct termios) == 36 && sizeof(struct termios2) == 44 &&
		       sizeof(struct winsize) == 8,
	       "as the kernel has them");

static const struct passed *passed_lookup(unsigned cmd)
{
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		if (passed[i].cmd == cmd)
			return &passed[i];
	return NULL;
}

union tty_arg {
	struct termios termios;
	struct termios2 termios2;
	struct winsize winsize;
	int value;
};

static bool carries_termios(const struct passed *p)
{
	return p->size >= sizeof(struct termios);
}

static bool sizes_differ(const struct winsize *a, const struct winsize *b)
{
	return a->ws_row != b->ws_row || a->ws_col != b->ws_col || a->ws_xpixel != b->ws_xpixel ||
	       a->ws_ypixel != b->ws_ypixel;
}

static long pass_in(struct hosttty *ht, struct task *t, const struct passed *p, uint64_t arg)
{
	union tty_arg a;
	struct winsize old;
	int err = copy_in(&t->um, &a, UADDR(arg), p->size);

	if (err)
		return err;
	bool is_size = p->cmd == TIOCSWINSZ;
	bool resized =
		is_size && !ioctl(ht->h->fd, TIOCGWINSZ, &old) && sizes_differ(&old, &a.winsize);
	if (ioctl(ht->h->fd, p->cmd, &a))
		return -errno;
	if (carries_termios(p))
		ht->lflag = a.termios.c_lflag; /* the same place in both forms */
	if (resized)
		tty_signal_foreground(&ht->tty, SIGWINCH);
	return 0;
}

static long pass_out(struct hosttty *ht, struct task *t, const struct passed *p, uint64_t arg)
{
	union tty_arg a;

	if (ioctl(ht->h->fd, p->cmd, &a))
		return -errno;
	if (carries_termios(p))
		ht->lflag = a.termios.c_lflag;
	return copy_out(&t->um, UADDR(arg), &a, p->size);
}

static long hosttty_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct hosttty *ht = f->priv;
	const struct passed *p = passed_lookup(cmd);

	if (!p) {
		long ret = tty_job_ioctl(&ht->tty, t, cmd, arg);
		if (ret != -ENOIOCTLCMD)
			return ret;
		return cmd == TIOCEXCL || cmd == TIOCNXCL ? 0 : cmd == TIOCSTI ? -EPERM : -ENOTTY;
	}
	if (p->changes) {
		int err = tty_check_background(&ht->tty, t, SIGTTOU);
		if (err)
			return err;
	}
	switch (p->dir) {
	case IN:
		return pass_in(ht, t, p, arg);
	case OUT:
		return pass_out(ht, t, p, arg);
	default:
		return ioctl(ht->h->fd, cmd, (unsigned long)(int)arg) ? -errno : 0;
	}
}

static void hosttty_release(struct file *f)
{
	struct hosttty *ht = f->priv;

	if (f != ht->keep)
		tty_put(&ht->tty);
}

static const struct file_ops hosttty_ops = {
	.read = hosttty_read,
	.write = hosttty_write,
	.stream = true,
	.poll = hosttty_poll,
	.waitq = hosttty_waitq,
	.ioctl = hosttty_ioctl,
	.release = hosttty_release,
};

/* ---- life ---- */

static int hosttty_open(struct tty *tty, struct file *f)
{
	struct hosttty *ht = container_of(tty, struct hosttty, tty);

	tty_get(tty);
	f->ops = &hosttty_ops;
	f->priv = ht;
	return 0;
}

static void hosttty_free(struct tty *tty)
{
	struct hosttty *ht = container_of(tty, struct hosttty, tty);
	struct inode *in = ht->keep->inode;

	mutex_lock(&in->lock, &lc_inode);
	ht->h->tty = NULL;
	mutex_unlock(&in->lock, &lc_inode);
	file_put(ht->keep);
	free(ht);
}

/* The inode of the terminal's own file is opened anew through /proc/self/fd. */
static int hosttty_inode_open(struct inode *in, struct dentry *d, struct file *f)
{
	struct hostfile *h = in->priv;

	(void)d;
	mutex_lock(&in->lock, &lc_inode);
	struct tty *tty = h->tty;
	if (tty && !ref_get_unless_zero(&tty->ref))
		tty = NULL;
	mutex_unlock(&in->lock, &lc_inode);
	if (!tty)
		return -EIO;
	f->ops = &hosttty_ops;
	f->priv = container_of(tty, struct hosttty, tty);
	return 0;
}

/* The terminal, with one reference and its own file in `keep`; consumes host_fd. */
static int hosttty_new(int host_fd, struct hosttty **out)
{
	struct termios t;
	struct stat st;
	int err;

	struct hosttty *ht = calloc(1, sizeof(*ht));
	struct hostfile *h = hostfile_new(host_fd, &hosttty_ops, &err);
	if (!ht || !h) {
		if (h)
			hostfile_put_unused(h);
		free(ht);
		return h ? -ENOMEM : err;
	}
	ref_init(&ht->tty.ref, 1);
	ht->tty.open = hosttty_open;
	ht->tty.free = hosttty_free;
	ht->h = h;
	h->tty = &ht->tty;
	ht->lflag = ioctl(h->fd, TCGETS, &t) ? 0 : t.c_lflag;
	uint64_t rdev = fstat(h->fd, &st) ? dev_encode(PTS_MAJOR, 0) : st.st_rdev;
	err = hostfile_new_file(h, "/dev/pts/0", S_IFCHR | 0620, rdev, O_RDWR, &ht->keep);
	if (err) {
		free(ht);
		return err;
	}
	h->iops.open = hosttty_inode_open;
	ht->keep->priv = ht;
	ht->tty.file = ht->keep;
	*out = ht;
	return 0;
}

/* What the caller gets is a file of its own: `keep` goes with the terminal. */
int hosttty_create(int host_fd, struct tty **tty, struct file **file)
{
	struct hosttty *ht;
	int err = hosttty_new(host_fd, &ht);

	if (err)
		return err;
	if ((err = file_open_path(ht->keep->path, O_RDWR, file))) {
		tty_put(&ht->tty);
		return err;
	}
	*tty = &ht->tty;
	return 0;
}

int hosttty_create_stream(int host_fd, int flags, struct file **out)
{
	struct hosttty *ht;
	int err = hosttty_new(host_fd, &ht);

	if (err)
		return err;
	err = file_open_path(ht->keep->path, flags, out);
	tty_put(&ht->tty);
	return err;
}

int hosttty_open_node(struct tty *tty, struct path node, struct file **out)
{
	struct file *f = file_new(node, O_RDWR);

	if (!f)
		return -ENOMEM;
	int err = hosttty_open(tty, f);
	if (!err)
		*out = f;
	return err;
}

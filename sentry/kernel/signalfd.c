#include "sentry/kernel/signalfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"

struct signalfd {
	_Atomic sigset_k mask;
};

_Static_assert(sizeof(struct signalfd_siginfo) == 128, "the guest's layout");

static const struct file_ops signalfd_ops;
static struct waitq signalfd_waitq = {MUTEX_INIT, LIST_HEAD_INIT(signalfd_waitq.waiters)};
static _Atomic int signalfds_open;

void signalfd_notify(void)
{
	if (atomic_load(&signalfds_open))
		waitq_notify(&signalfd_waitq, POLLIN);
}

static void fill_siginfo(struct signalfd_siginfo *out, const ksiginfo *in)
{
	memset(out, 0, sizeof(*out));
	out->ssi_signo = in->si_signo;
	out->ssi_errno = in->si_errno;
	out->ssi_code = in->si_code;
	switch (in->si_code) {
	case SI_TIMER:
		out->ssi_tid = in->si_timerid;
		out->ssi_overrun = in->si_overrun;
		out->ssi_ptr = (uintptr_t)in->si_ptr;
		out->ssi_int = in->si_int;
		return;
	case SI_SIGIO:
		out->ssi_band = in->si_band;
		out->ssi_fd = in->si_fd;
		return;
	}
	if (in->si_signo == SIGCHLD && in->si_code > 0) {
		out->ssi_pid = in->si_pid;
		out->ssi_uid = in->si_uid;
		out->ssi_status = in->si_status;
		out->ssi_utime = in->si_utime;
		out->ssi_stime = in->si_stime;
	} else if (in->si_code > 0 && in->si_code != SI_KERNEL &&
		   (in->si_signo == SIGSEGV || in->si_signo == SIGBUS || in->si_signo == SIGFPE ||
		    in->si_signo == SIGILL || in->si_signo == SIGTRAP)) {
		out->ssi_addr = (uintptr_t)in->si_addr;
	} else {
		out->ssi_pid = in->si_pid;
		out->ssi_uid = in->si_uid;
		out->ssi_ptr = (uintptr_t)in->si_ptr;
		out->ssi_int = in->si_int;
	}
}

static ssize_t signalfd_read(struct file *f, struct uio *io, int64_t *off)
{
	struct signalfd *s = f->priv;
	struct task *t = task_current();
	struct signalfd_siginfo out;
	ksiginfo info;
	ssize_t total = 0;

	(void)off;
	if (io->left < sizeof(out))
		return -EINVAL;
	if (!t)
		return -EAGAIN;
	while (io->left >= sizeof(out)) {
		if (!(signal_pending_set(t) & s->mask))
			break;
		if (uio_probe_put(io, sizeof(out)))
			return total ? total : -EFAULT;
		if (!signal_dequeue(t, s->mask, &info))
			break;
		fill_siginfo(&out, &info);
		ssize_t n = uio_put(io, &out, sizeof(out));
		if (n != sizeof(out))
			return total ? total : -EFAULT;
		total += n;
	}
	return total ? total : -EAGAIN;
}

static uint32_t signalfd_poll(struct file *f)
{
	struct signalfd *s = f->priv;
	struct task *t = task_current();

	return t && signal_pending_set(t) & s->mask ? POLLIN : 0;
}

static struct waitq *signalfd_get_waitq(struct file *f)
{
	(void)f;
	return &signalfd_waitq;
}

static size_t signalfd_show(struct file *f, char *buf, size_t size)
{
	struct signalfd *s = f->priv;

	return snprintf(buf, size, "sigmask:\t%016" PRIx64 "\n", (uint64_t)s->mask);
}

static void signalfd_release(struct file *f)
{
	atomic_fetch_sub(&signalfds_open, 1);
	free(f->priv);
}

static const struct file_ops signalfd_ops = {
	.read = signalfd_read,
	.stream = true,
	.poll = signalfd_poll,
	.waitq = signalfd_get_waitq,
	.show_fdinfo = signalfd_show,
	.release = signalfd_release,
};

int signalfd_create_file(sigset_k mask, int flags, struct file **out)
{
	struct signalfd *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	atomic_init(&s->mask, mask & ~SIG_UNBLOCKABLE);

	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int err = in ? file_new_anon(in, "anon_inode:[signalfd]", &signalfd_ops, s,
				     O_RDWR | (flags & SFD_NONBLOCK), out)
		     : -ENOMEM;
	if (err)
		free(s);
	else
		atomic_fetch_add(&signalfds_open, 1);
	return err;
}

int signalfd_set_mask(struct file *f, sigset_k mask)
{
	if (f->ops != &signalfd_ops)
		return -EINVAL;
	struct signalfd *s = f->priv;
	atomic_store(&s->mask, mask & ~SIG_UNBLOCKABLE);
	waitq_notify(&signalfd_waitq, POLLIN);
	return 0;
}

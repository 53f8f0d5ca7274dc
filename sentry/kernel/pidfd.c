#include "sentry/kernel/pidfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "sentry/kernel/pid.h"

static const struct file_ops pidfd_ops;

static bool group_ended(struct thread_group *tg)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool ended = tg->zombie || thread_group_lookup(tg->tgid) != tg;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ended;
}

static uint32_t pidfd_poll(struct file *f)
{
	return group_ended(f->priv) ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *pidfd_waitq(struct file *f)
{
	return &((struct thread_group *)f->priv)->exit_waitq;
}

static size_t pidfd_show(struct file *f, char *buf, size_t size)
{
	struct thread_group *tg = f->priv;

	const struct task *reader = task_current();
	const struct pid_ns *ns = reader ? task_pid_ns(reader) : &pid_ns_top;
	size_t n;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const struct pid *p = tg->pid;
	int nr = p ? pid_nr_in(p, ns) : -1;
	n = (size_t)snprintf(buf, size, "Pid:\t%d\nNSpid:\t%d", nr, nr);
	for (unsigned i = ns->level + 1; nr > 0 && i <= p->level && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "\t%d", p->numbers[i].nr);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (n < size)
		n += (size_t)snprintf(buf + n, size - n, "\n");
	return MIN(n, size - 1);
}

static void pidfd_release(struct file *f)
{
	thread_group_put(f->priv);
}

static const struct file_ops pidfd_ops = {
	.stream = true,
	.poll = pidfd_poll,
	.waitq = pidfd_waitq,
	.show_fdinfo = pidfd_show,
	.release = pidfd_release,
};

int pidfd_create(struct thread_group *tg, int flags, struct file **out)
{
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	if (!in)
		return -ENOMEM;
	thread_group_get(tg);
	int err = file_new_anon(in, "anon_inode:[pidfd]", &pidfd_ops, tg,
				O_RDWR | (flags & O_NONBLOCK), out);
	if (err)
		thread_group_put(tg);
	return err;
}

struct thread_group *pidfd_group(struct file *f)
{
	return f->ops == &pidfd_ops ? f->priv : NULL;
}

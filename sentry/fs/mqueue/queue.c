/* One queue: messages, notification, and the file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/mqueue/queue.h"
#include "sentry/kernel/pid.h"

bool file_is_mqueue(const struct file *f)
{
	return f->ops == &mqueue_fops;
}

void mqueue_fini(struct mqueue *q)
{
	struct mq_message *m, *tmp;

	list_for_each_safe (m, tmp, &q->messages, link) {
		list_del(&m->link);
		free(m);
	}
	thread_group_put(q->notify_owner);
	if (q->notice)
		q->notice->tell(q->notice, true);
}

/* ---- messages ---- */

int mqueue_check_send(struct file *f, size_t size)
{
	return size > (size_t)mqueue_of(f->inode)->max_size ? -EMSGSIZE : 0;
}

static void insert(struct mqueue *q, struct mq_message *m)
{
	struct mq_message *after;

	/* From the end: most messages have the lowest priority so far. */
	for (after = list_last(&q->messages, struct mq_message, link);
	     &after->link != &q->messages && after->prio < m->prio;
	     after = list_last(&after->link, struct mq_message, link))
		continue;
	list_add(&m->link, &after->link);
	q->count++;
	q->bytes += m->size;
}

/* What is to be sent for the arrival of a message; *to (a reference) and *notice are the caller's.
 */
static void take_notification(struct mqueue *q, const struct task *sender, ksiginfo *info,
			      struct thread_group **to, struct mq_notice **notice)
{
	*to = q->notify_owner;
	*notice = q->notice;
	q->notify_owner = NULL;
	q->notice = NULL;
	memset(info, 0, sizeof(*info));
	info->si_signo = q->notify.sigev_notify == SIGEV_SIGNAL ? q->notify.sigev_signo : 0;
	info->si_code = SI_MESGQ;
	info->si_pid = *to ? pid_nr_in(sender->tg->pid, (*to)->pid_ns) : 0;
	info->si_uid = sender->cred->uid;
	info->si_value = q->notify.sigev_value;
}

int mqueue_send(struct file *f, struct mq_message *m, struct task *sender)
{
	struct mqueue *q = mqueue_of(f->inode);
	struct thread_group *to = NULL;
	struct mq_notice *notice = NULL;
	ksiginfo info;

	mutex_lock(&q->lock, &lc_ipc);
	if (q->count >= q->max_messages) {
		mutex_unlock(&q->lock, &lc_ipc);
		return -EAGAIN;
	}
	insert(q, m);
	if (q->count == 1 && !q->receivers && q->notify_owner)
		take_notification(q, sender, &info, &to, &notice);
	mutex_unlock(&q->lock, &lc_ipc);
	inode_touch(&q->in, true);
	waitq_notify(&q->wq, POLLIN);
	if (to && info.si_signo)
		(void)!signal_send_group(to, &info);
	if (notice)
		notice->tell(notice, false);
	thread_group_put(to);
	return 0;
}

int mqueue_receive(struct file *f, size_t room, struct mq_message **out)
{
	struct mqueue *q = mqueue_of(f->inode);
	struct mq_message *m = NULL;

	if (room < (size_t)q->max_size)
		return -EMSGSIZE;
	mutex_lock(&q->lock, &lc_ipc);
	if (q->count) {
		m = list_first(&q->messages, struct mq_message, link);
		list_del(&m->link);
		q->count--;
		q->bytes -= m->size;
	}
	mutex_unlock(&q->lock, &lc_ipc);
	if (!m)
		return -EAGAIN;
	waitq_notify(&q->wq, POLLOUT);
	*out = m;
	return 0;
}

void mqueue_receiver_waits(struct file *f, int by)
{
	struct mqueue *q = mqueue_of(f->inode);

	mutex_lock(&q->lock, &lc_ipc);
	q->receivers += by;
	mutex_unlock(&q->lock, &lc_ipc);
}

void mqueue_get_attr(struct file *f, struct mq_attr *out)
{
	struct mqueue *q = mqueue_of(f->inode);

	memset(out, 0, sizeof(*out));
	mutex_lock(&q->lock, &lc_ipc);
	out->mq_flags = f->flags & O_NONBLOCK;
	out->mq_maxmsg = q->max_messages;
	out->mq_msgsize = q->max_size;
	out->mq_curmsgs = q->count;
	mutex_unlock(&q->lock, &lc_ipc);
}

int mqueue_notify(struct file *f, struct task *t, const struct sigevent *ev,
		  struct mq_notice *notice)
{
	struct mqueue *q = mqueue_of(f->inode);
	struct thread_group *old = NULL;
	struct mq_notice *ended = NULL;
	int err = 0;

	mutex_lock(&q->lock, &lc_ipc);
	if (!ev && q->notify_owner == t->tg) {
		old = q->notify_owner;
		ended = q->notice;
		q->notify_owner = NULL;
		q->notice = NULL;
	} else if (ev && q->notify_owner) {
		err = -EBUSY;
	} else if (ev) {
		q->notify_owner = thread_group_get(t->tg);
		q->notify = *ev;
		q->notice = notice;
	}
	mutex_unlock(&q->lock, &lc_ipc);
	if (ended)
		ended->tell(ended, true);
	thread_group_put(old);
	return err;
}

/* ---- the file ---- */

static ssize_t queue_read(struct file *f, struct uio *io, int64_t *off)
{
	struct mqueue *q = mqueue_of(f->inode);
	char text[128];

	mutex_lock(&q->lock, &lc_ipc);
	const struct thread_group *owner = q->notify_owner;
	int how = owner ? q->notify.sigev_notify : 0;
	int n = snprintf(text, sizeof(text),
			 "QSIZE:%-10llu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n",
			 (unsigned long long)q->bytes, how,
			 owner && how == SIGEV_SIGNAL ? q->notify.sigev_signo : 0,
			 owner ? pid_to_guest(task_current(), owner->tgid) : 0);
	mutex_unlock(&q->lock, &lc_ipc);
	if (*off < 0 || *off >= n)
		return 0;
	ssize_t got = uio_put(io, text + *off, MIN(io->left, (uint64_t)(n - *off)));
	if (got > 0)
		*off += got;
	return got;
}

static uint32_t queue_poll(struct file *f)
{
	struct mqueue *q = mqueue_of(f->inode);

	mutex_lock(&q->lock, &lc_ipc);
	uint32_t ready = (q->count ? POLLIN | POLLRDNORM : 0) |
			 (q->count < q->max_messages ? POLLOUT | POLLWRNORM : 0);
	mutex_unlock(&q->lock, &lc_ipc);
	return ready;
}

static struct waitq *queue_waitq(struct file *f)
{
	return &mqueue_of(f->inode)->wq;
}

/* Any close by the process that registered ends its registration. */
static int queue_flush(struct file *f)
{
	struct task *t = task_current();

	return t ? mqueue_notify(f, t, NULL, NULL) : 0;
}

const struct file_ops mqueue_fops = {
	.read = queue_read,
	.poll = queue_poll,
	.waitq = queue_waitq,
	.flush = queue_flush,
};

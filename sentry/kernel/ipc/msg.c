/*
 * Message queues.  A message goes straight to the first receiver that waits for its type, so that
 * receivers are served in the order of their coming; senders try again whenever room was made.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/ipc/ids.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"

struct msg_queue {
	struct ipc_object obj;
	struct list_head messages, receivers, senders;
	uint64_t count, bytes, max_bytes;
	int64_t stime, rtime, ctime;
	int lspid, lrpid;
};

/* What a receiver wants: match() of msgrcv(2). */
enum want { WANT_ANY, WANT_EQUAL, WANT_NOT_EQUAL, WANT_LESS_EQUAL };

/* A task that sleeps: on its own stack.  Unlinked by who ends the wait. */
struct msg_waiter {
	struct list_head link;
	struct task *t;
	int status; /* WAITING, 0 done, -EAGAIN try again, or -errno */
	/* receivers */
	enum want want;
	int64_t type;
	uint64_t room; /* UINT64_MAX: any size (MSG_NOERROR) */
	struct ipc_msg *msg;
};
#define WAITING 1

static struct msg_queue *queue_of(struct ipc_object *o)
{
	return container_of(o, struct msg_queue, obj);
}

static int lookup(struct ipc_ns *ns, int id, int want, const struct cred *c, struct msg_queue **out)
{
	struct ipc_object *o;
	int err = ipc_lookup(&ns->msg, id, &o);

	if (err)
		return err;
	*out = queue_of(o);
	return ipc_permitted(o, want, c);
}

static void end_wait(struct msg_waiter *w, int status)
{
	list_del(&w->link);
	w->status = status;
	task_wake(w->t);
}

static void end_all_waits(struct list_head *list, int status)
{
	struct msg_waiter *w, *tmp;

	list_for_each_safe (w, tmp, list, link)
		end_wait(w, status);
}

/* Sleeps until somebody ends the wait or a signal comes. */
static int wait_on(struct task *t, struct list_head *list, struct msg_waiter *w) REQUIRES(lc_ipc)
{
	struct ipc_ns *ns = task_ipc(t);

	w->t = t;
	w->status = WAITING;
	list_add_tail(&w->link, list);
	for (;;) {
		mutex_unlock(&ns->lock, &lc_ipc);
		int err = task_park(t, TASK_SLEEPING, TIME_NEVER);
		mutex_lock(&ns->lock, &lc_ipc);
		if (w->status != WAITING)
			return w->status;
		if (err) {
			list_del(&w->link);
			return -ERESTARTNOHAND;
		}
	}
}

/* ---- msgget ---- */

int msq_get(struct task *t, int key, int flags)
{
	struct ipc_ns *ns = task_ipc(t);
	struct msg_queue *q = calloc(1, sizeof(*q));
	struct ipc_object *o;

	if (!q)
		return -ENOMEM;
	list_init(&q->messages);
	list_init(&q->receivers);
	list_init(&q->senders);
	q->max_bytes = ipc_limit(ns, IPC_MSGMNB);
	q->ctime = ipc_now();

	mutex_lock(&ns->lock, &lc_ipc);
	int ret = ipc_search(&ns->msg, key, flags, &o);
	if (ret > 0) {
		ret = ipc_permitted(o, flags, t->cred);
		ret = ret ? ret : o->id;
	} else if (ret == 0 && !(ret = ipc_add(&ns->msg, &q->obj, key, flags, t->cred))) {
		ret = q->obj.id;
		q = NULL;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	free(q);
	return ret;
}

/* ---- msgsnd ---- */

static bool matches(const struct ipc_msg *m, enum want want, int64_t type)
{
	switch (want) {
	case WANT_ANY:
		return true;
	case WANT_EQUAL:
		return m->type == type;
	case WANT_NOT_EQUAL:
		return m->type != type;
	case WANT_LESS_EQUAL:
		return m->type <= type;
	}
	return false;
}

/* Gives the message to a receiver that waits for it.  One whose buffer is too small fails. */
static bool hand_over(struct msg_queue *q, struct ipc_msg *m)
{
	struct msg_waiter *w, *tmp;

	list_for_each_safe (w, tmp, &q->receivers, link) {
		if (!matches(m, w->want, w->type))
			continue;
		if (w->room < m->size) {
			end_wait(w, -E2BIG);
			continue;
		}
		w->msg = m;
		q->lrpid = w->t->tg->tgid;
		q->rtime = ipc_now();
		end_wait(w, 0);
		return true;
	}
	return false;
}

static bool has_room(const struct msg_queue *q, size_t size)
{
	return size + q->bytes <= q->max_bytes && q->count + 1 <= q->max_bytes;
}

int msq_send(struct task *t, int id, struct ipc_msg *m, int flags)
{
	struct ipc_ns *ns = task_ipc(t);
	struct msg_queue *q;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup(ns, id, IPC_WRITE, t->cred, &q);
	while (!err && !has_room(q, m->size)) {
		struct msg_waiter w = {0};
		if (flags & IPC_NOWAIT)
			err = -EAGAIN;
		else if ((err = wait_on(t, &q->senders, &w)) == -EAGAIN)
			err = ipc_permitted(&q->obj, IPC_WRITE, t->cred);
	}
	if (!err) {
		q->lspid = t->tg->tgid;
		q->stime = ipc_now();
		if (!hand_over(q, m)) {
			list_add_tail(&m->link, &q->messages);
			q->count++;
			q->bytes += m->size;
			ns->msgs++;
			ns->msg_bytes += m->size;
		}
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

/* ---- msgrcv ---- */

static enum want decode_type(int64_t *type, int flags)
{
	if (*type == 0)
		return WANT_ANY;
	if (*type < 0) {
		*type = *type == INT64_MIN ? INT64_MAX : -*type;
		return WANT_LESS_EQUAL;
	}
	return flags & MSG_EXCEPT ? WANT_NOT_EQUAL : WANT_EQUAL;
}

static struct ipc_msg *find_message(struct msg_queue *q, enum want want, int64_t type)
{
	struct ipc_msg *m, *best = NULL;

	list_for_each (m, &q->messages, link) {
		if (!matches(m, want, type) || (best && m->type >= best->type))
			continue;
		best = m;
		if (want != WANT_LESS_EQUAL || m->type == 1)
			break;
	}
	return best;
}

static void take_message(struct msg_queue *q, struct ipc_msg *m)
{
	struct ipc_ns *ns = q->obj.ns;

	list_del(&m->link);
	q->count--;
	q->bytes -= m->size;
	ns->msgs--;
	ns->msg_bytes -= m->size;
}

/* MSG_COPY: the message at a position stays; its copy is returned. */
static int copy_message(struct msg_queue *q, uint64_t position, uint64_t room, struct ipc_msg **out)
{
	struct ipc_msg *m;

	list_for_each (m, &q->messages, link) {
		if (position--)
			continue;
		if (m->size > room)
			return -E2BIG;
		struct ipc_msg *copy = malloc(sizeof(*m) + m->size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, m, sizeof(*m) + m->size);
		*out = copy;
		return 0;
	}
	return -ENOMSG;
}

static int receive(struct task *t, struct msg_queue *q, uint64_t room, int64_t type, int flags,
		   struct ipc_msg **out) REQUIRES(lc_ipc)
{
	enum want want = decode_type(&type, flags);
	int err = 0;

	while (!err) {
		struct ipc_msg *m = find_message(q, want, type);
		if (m) {
			if (m->size > room)
				return -E2BIG;
			take_message(q, m);
			q->lrpid = t->tg->tgid;
			q->rtime = ipc_now();
			end_all_waits(&q->senders, -EAGAIN);
			*out = m;
			return 0;
		}
		if (flags & IPC_NOWAIT)
			return -ENOMSG;
		struct msg_waiter w = {.want = want, .type = type, .room = room};
		err = wait_on(t, &q->receivers, &w);
		if (!err) {
			*out = w.msg;
			return 0;
		}
		if (err == -EAGAIN)
			err = ipc_permitted(&q->obj, IPC_READ, t->cred);
	}
	return err;
}

int msq_receive(struct task *t, int id, uint64_t size, int64_t type, int flags,
		struct ipc_msg **out)
{
	struct ipc_ns *ns = task_ipc(t);
	uint64_t room = flags & MSG_NOERROR ? UINT64_MAX : size;
	struct msg_queue *q;

	if (id < 0 || size > INT64_MAX)
		return -EINVAL;
	if (flags & MSG_COPY && (flags & MSG_EXCEPT || !(flags & IPC_NOWAIT)))
		return -EINVAL;
	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup(ns, id, IPC_READ, t->cred, &q);
	if (!err && flags & MSG_COPY)
		err = type < 0 ? -ENOMSG : copy_message(q, (uint64_t)type, room, out);
	else if (!err)
		err = receive(t, q, room, type, flags, out);
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

/* ---- control ---- */

int msq_stat(struct task *t, int id, enum ipc_find how, struct msqid_ds *out)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	memset(out, 0, sizeof(*out));
	mutex_lock(&ns->lock, &lc_ipc);
	int ret = ipc_find(&ns->msg, id, how, t->cred, &o);
	if (!ret) {
		const struct msg_queue *q = queue_of(o);
		ipc_fill_perm(o, t->cred->user_ns, &out->msg_perm);
		out->msg_stime = q->stime;
		out->msg_rtime = q->rtime;
		out->msg_ctime = q->ctime;
		out->__msg_cbytes = q->bytes;
		out->msg_qnum = q->count;
		out->msg_qbytes = q->max_bytes;
		out->msg_lspid = pid_to_guest(t, q->lspid);
		out->msg_lrpid = pid_to_guest(t, q->lrpid);
		ret = how == IPC_BY_ID ? 0 : o->id;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

int msq_set(struct task *t, int id, const struct msqid_ds *in)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->msg, id, t->cred, &o);
	if (!err && in->msg_qbytes > ipc_limit(ns, IPC_MSGMNB) &&
	    !task_capable(t, CAP_SYS_RESOURCE))
		err = -EPERM;
	if (!err && !(err = ipc_set_perm(o, &in->msg_perm, t->cred->user_ns))) {
		struct msg_queue *q = queue_of(o);
		q->max_bytes = in->msg_qbytes;
		q->ctime = ipc_now();
		/* Rights and room are judged anew. */
		end_all_waits(&q->receivers, -EAGAIN);
		end_all_waits(&q->senders, -EAGAIN);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

static void queue_free(struct msg_queue *q) REQUIRES(lc_ipc)
{
	struct ipc_msg *m, *tmp;

	end_all_waits(&q->receivers, -EIDRM);
	end_all_waits(&q->senders, -EIDRM);
	list_for_each_safe (m, tmp, &q->messages, link) {
		take_message(q, m);
		free(m);
	}
	free(q);
}

void msq_ns_fini(struct ipc_ns *ns)
{
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	for (unsigned i = 0; (o = ipc_next(&ns->msg, &i)); i++)
		queue_free(queue_of(o));
	mutex_unlock(&ns->lock, &lc_ipc);
}

int msq_remove(struct task *t, int id)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->msg, id, t->cred, &o);
	if (!err) {
		ipc_remove(&ns->msg, o);
		queue_free(queue_of(o));
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

int msq_info(struct task *t, struct msginfo *out, bool used)
{
	struct ipc_ns *ns = task_ipc(t);

	*out = (struct msginfo){
		.msgpool = (int)(ipc_limit(ns, IPC_MSGMNI) * ipc_limit(ns, IPC_MSGMNB) / 1024),
		.msgmap = (int)ipc_limit(ns, IPC_MSGMNB),
		.msgmax = (int)ipc_limit(ns, IPC_MSGMAX),
		.msgmnb = (int)ipc_limit(ns, IPC_MSGMNB),
		.msgmni = (int)ipc_limit(ns, IPC_MSGMNI),
		.msgssz = 16,
		.msgtql = (int)ipc_limit(ns, IPC_MSGMNB),
		.msgseg = 0xffff,
	};
	mutex_lock(&ns->lock, &lc_ipc);
	if (used) {
		out->msgpool = (int)ns->msg.in_use;
		out->msgmap = (int)ns->msgs;
		out->msgtql = (int)ns->msg_bytes;
	}
	int highest = ipc_highest(&ns->msg);
	mutex_unlock(&ns->lock, &lc_ipc);
	return highest;
}

char *msq_proc_text(struct task *t)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	fprintf(out, "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid"
		     "  cuid  cgid      stime      rtime      ctime\n");
	mutex_lock(&ns->lock, &lc_ipc);
	for (unsigned i = 0; (o = ipc_next(&ns->msg, &i)); i++) {
		const struct msg_queue *q = queue_of(o);
		fprintf(out,
			"%10d %10d  %4o  %10lu %10lu %5u %5u %5u %5u %5u %5u %10lu %10lu %10lu\n",
			o->key, o->id, o->mode, q->bytes, q->count,
			(unsigned)pid_to_guest(t, q->lspid), (unsigned)pid_to_guest(t, q->lrpid),
			o->uid, o->gid, o->cuid, o->cgid, q->stime, q->rtime, q->ctime);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return fclose(out) ? (free(text), NULL) : text;
}

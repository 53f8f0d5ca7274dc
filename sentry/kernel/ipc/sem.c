/*
 * Semaphores: operations and undoing.  A list of operations happens whole or not at all; who
 * changes values performs those of the waiting tasks that have become possible, in the order of
 * their coming.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "sentry/kernel/ipc/sem_set.h"
#include "sentry/kernel/task.h"

#define UNDO_MAX 32767 /* SEMAEM */

int sem_set_lookup(struct ipc_ns *ns, int id, int want, const struct cred *c, struct sem_set **out)
{
	struct ipc_object *o;
	int err = ipc_lookup(&ns->sem, id, &o);

	if (err)
		return err;
	*out = sem_set_of(o);
	return ipc_permitted(o, want, c);
}

/* ---- performing ---- */

static void roll_back(struct sem_set *s, const struct sembuf *ops, unsigned n,
		      struct sem_undo *undo)
{
	while (n-- > 0) {
		s->sems[ops[n].sem_num].value -= ops[n].sem_op;
		if (ops[n].sem_flg & SEM_UNDO)
			undo->adjust[ops[n].sem_num] += ops[n].sem_op;
	}
}

/* 0: done; SEM_WAITING: *blocking could not be done; -ERANGE. */
static int step(struct sem_set *s, const struct sembuf *op, struct sem_undo *undo)
{
	struct semaphore *sem = &s->sems[op->sem_num];
	int value = sem->value + op->sem_op;

	if (op->sem_op == 0 && sem->value)
		return SEM_WAITING;
	if (value < 0)
		return SEM_WAITING;
	if (value > IPC_SEMVMX)
		return -ERANGE;
	if (op->sem_flg & SEM_UNDO) {
		int adjust = undo->adjust[op->sem_num] - op->sem_op;
		if (adjust < -UNDO_MAX - 1 || adjust > UNDO_MAX)
			return -ERANGE;
		undo->adjust[op->sem_num] = (int16_t)adjust;
	}
	sem->value = value;
	return 0;
}

static int perform(struct sem_set *s, struct sem_waiter *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		int ret = step(s, &w->ops[i], w->undo);
		if (!ret)
			continue;
		roll_back(s, w->ops, i, w->undo);
		if (ret == SEM_WAITING && w->ops[i].sem_flg & IPC_NOWAIT)
			return -EAGAIN;
		w->blocking = &w->ops[i];
		return ret;
	}
	for (unsigned i = 0; i < w->n; i++)
		s->sems[w->ops[i].sem_num].pid = w->t->tg->tgid;
	s->otime = ipc_now();
	return 0;
}

static bool alters(const struct sembuf *ops, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (ops[i].sem_op)
			return true;
	return false;
}

void sem_wait_end(struct sem_waiter *w, int status)
{
	list_del(&w->link);
	w->status = status;
	task_wake(w->t);
}

void sem_set_wake(struct sem_set *s)
{
	struct sem_waiter *w, *tmp;
	bool again = true;

	/* Whoever changed something may have made an earlier one possible. */
	while (again) {
		again = false;
		list_for_each_safe (w, tmp, &s->waiters, link) {
			int ret = perform(s, w);
			if (ret == SEM_WAITING)
				continue;
			sem_wait_end(w, ret);
			if (!ret && alters(w->ops, w->n)) {
				again = true;
				break;
			}
		}
	}
}

/* ---- undoing ---- */

void sem_undo_free(struct sem_undo *u)
{
	list_del(&u->in_set);
	list_del(&u->in_list);
	free(u);
}

static struct sem_undo_list *undo_list(struct task *t)
{
	if (!t->sem_undo) {
		struct sem_undo_list *l = malloc(sizeof(*l));
		if (!l)
			return NULL;
		l->refs = 1;
		list_init(&l->undos);
		t->sem_undo = l;
	}
	return t->sem_undo;
}

/* The task's record for the set, made if need be. */
static int undo_for(struct task *t, struct sem_set *s, struct sem_undo **out)
{
	struct sem_undo_list *l = undo_list(t);
	struct sem_undo *u;

	if (!l)
		return -ENOMEM;
	list_for_each (u, &l->undos, in_list) {
		if (u->set == s) {
			*out = u;
			return 0;
		}
	}
	if (!(u = calloc(1, sizeof(*u) + s->n * sizeof(u->adjust[0]))))
		return -ENOMEM;
	u->set = s;
	list_add(&u->in_set, &s->undos);
	list_add(&u->in_list, &l->undos);
	*out = u;
	return 0;
}

int sem_undo_clone(struct task *t, struct task *child, uint64_t flags)
{
	struct ipc_ns *ns = task_ipc(t);
	int err = 0;

	if (!(flags & CLONE_SYSVSEM))
		return 0;
	mutex_lock(&ns->lock, &lc_ipc);
	child->sem_undo = undo_list(t);
	if (child->sem_undo)
		child->sem_undo->refs++;
	else
		err = -ENOMEM;
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

static void undo_apply(struct sem_undo *u, int pid)
{
	struct sem_set *s = u->set;

	for (unsigned i = 0; i < s->n; i++) {
		if (!u->adjust[i])
			continue;
		int value = s->sems[i].value + u->adjust[i];
		s->sems[i].value = MAX(0, MIN(value, IPC_SEMVMX));
		s->sems[i].pid = pid;
	}
	s->otime = ipc_now();
	sem_undo_free(u);
	sem_set_wake(s);
}

void sem_undo_exit(struct task *t)
{
	struct sem_undo_list *l = t->sem_undo;
	struct sem_undo *u, *tmp;

	if (!l)
		return; /* the only case of a task whose making failed before it had namespaces */
	struct ipc_ns *ns = task_ipc(t);
	t->sem_undo = NULL;
	mutex_lock(&ns->lock, &lc_ipc);
	if (--l->refs)
		l = NULL;
	else
		list_for_each_safe (u, tmp, &l->undos, in_list)
			undo_apply(u, t->tg->tgid);
	mutex_unlock(&ns->lock, &lc_ipc);
	free(l);
}

/* ---- semop ---- */

static int check_ops(const struct sem_set *s, const struct sembuf *ops, unsigned n, bool *undo)
{
	*undo = false;
	for (unsigned i = 0; i < n; i++) {
		if (ops[i].sem_num >= s->n)
			return -EFBIG;
		*undo |= (ops[i].sem_flg & SEM_UNDO) != 0;
	}
	return 0;
}

static int wait_for(struct task *t, struct sem_set *s, struct sem_waiter *w, int64_t deadline)
	REQUIRES(lc_ipc)
{
	struct ipc_ns *ns = task_ipc(t);

	w->status = SEM_WAITING;
	list_add_tail(&w->link, &s->waiters);
	for (;;) {
		mutex_unlock(&ns->lock, &lc_ipc);
		int err = task_park(t, TASK_SLEEPING, deadline);
		mutex_lock(&ns->lock, &lc_ipc);
		if (w->status != SEM_WAITING)
			return w->status;
		if (err) {
			list_del(&w->link);
			return err == -ETIMEDOUT ? -EAGAIN : -EINTR;
		}
	}
}

int sem_op(struct task *t, int id, const struct sembuf *ops, unsigned n, int64_t deadline)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_waiter w = {.t = t, .ops = ops, .n = n};
	bool change = alters(ops, n), undo;
	struct sem_set *s;
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup(&ns->sem, id, &o);
	if (!err) {
		s = sem_set_of(o);
		err = check_ops(s, ops, n, &undo);
	}
	if (!err)
		err = ipc_permitted(o, change ? IPC_WRITE : IPC_READ, t->cred);
	if (!err && undo)
		err = undo_for(t, s, &w.undo);
	if (!err) {
		err = perform(s, &w);
		if (!err && change)
			sem_set_wake(s);
		else if (err == SEM_WAITING)
			err = wait_for(t, s, &w, deadline);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

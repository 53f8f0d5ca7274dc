/* Semaphores: semget(2) and semctl(2). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/ipc/sem_set.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"

static struct sem_set *set_new(int n)
{
	struct sem_set *s = calloc(1, sizeof(*s) + (size_t)n * sizeof(s->sems[0]));

	if (!s)
		return NULL;
	list_init(&s->waiters);
	list_init(&s->undos);
	s->n = (unsigned)n;
	s->ctime = ipc_now();
	return s;
}

static int make_set(struct task *t, int key, int nsems, int flags)
{
	struct ipc_ns *ns = task_ipc(t);

	if (nsems == 0)
		return -EINVAL;
	if (ns->sems + (unsigned)nsems > ipc_limit(ns, IPC_SEMMNS))
		return -ENOSPC;
	struct sem_set *s = set_new(nsems);
	if (!s)
		return -ENOMEM;
	int err = ipc_add(&ns->sem, &s->obj, key, flags, t->cred);
	if (err) {
		free(s);
		return err;
	}
	ns->sems += s->n;
	return s->obj.id;
}

int sem_get(struct task *t, int key, int nsems, int flags)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	if (nsems < 0 || (unsigned)nsems > ipc_limit(ns, IPC_SEMMSL))
		return -EINVAL;
	mutex_lock(&ns->lock, &lc_ipc);
	int ret = ipc_search(&ns->sem, key, flags, &o);
	if (ret == 0) {
		ret = make_set(t, key, nsems, flags);
	} else if (ret > 0) {
		ret = (unsigned)nsems > sem_set_of(o)->n ? -EINVAL
							 : ipc_permitted(o, flags, t->cred);
		ret = ret ? ret : o->id;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

int sem_stat(struct task *t, int id, enum ipc_find how, struct semid_ds *out)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	memset(out, 0, sizeof(*out));
	mutex_lock(&ns->lock, &lc_ipc);
	int ret = ipc_find(&ns->sem, id, how, t->cred, &o);
	if (!ret) {
		const struct sem_set *s = sem_set_of(o);
		ipc_fill_perm(o, t->cred->user_ns, &out->sem_perm);
		out->sem_otime = s->otime;
		out->sem_ctime = s->ctime;
		out->sem_nsems = s->n;
		ret = how == IPC_BY_ID ? 0 : o->id;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

int sem_set(struct task *t, int id, const struct semid_ds *in)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->sem, id, t->cred, &o);
	if (!err && !(err = ipc_set_perm(o, &in->sem_perm, t->cred->user_ns)))
		sem_set_of(o)->ctime = ipc_now();
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

static void set_free(struct sem_set *s) REQUIRES(lc_ipc)
{
	while (!list_empty(&s->waiters))
		sem_wait_end(list_first(&s->waiters, struct sem_waiter, link), -EIDRM);
	while (!list_empty(&s->undos))
		sem_undo_free(list_first(&s->undos, struct sem_undo, in_set));
	free(s);
}

void sem_ns_fini(struct ipc_ns *ns)
{
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	for (unsigned i = 0; (o = ipc_next(&ns->sem, &i)); i++)
		set_free(sem_set_of(o));
	mutex_unlock(&ns->lock, &lc_ipc);
}

int sem_remove(struct task *t, int id)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->sem, id, t->cred, &o);
	if (!err) {
		struct sem_set *s = sem_set_of(o);
		ipc_remove(&ns->sem, o);
		ns->sems -= s->n;
		set_free(s);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

int sem_info(struct task *t, struct seminfo *out, bool used)
{
	struct ipc_ns *ns = task_ipc(t);

	*out = (struct seminfo){
		.semmap = (int)ipc_limit(ns, IPC_SEMMNS),
		.semmni = (int)ipc_limit(ns, IPC_SEMMNI),
		.semmns = (int)ipc_limit(ns, IPC_SEMMNS),
		.semmnu = (int)ipc_limit(ns, IPC_SEMMNS),
		.semmsl = (int)ipc_limit(ns, IPC_SEMMSL),
		.semopm = (int)ipc_limit(ns, IPC_SEMOPM),
		.semume = (int)ipc_limit(ns, IPC_SEMOPM),
		.semusz = 20,
		.semvmx = IPC_SEMVMX,
		.semaem = IPC_SEMVMX,
	};
	mutex_lock(&ns->lock, &lc_ipc);
	if (used) {
		out->semusz = (int)ns->sem.in_use;
		out->semaem = (int)ns->sems;
	}
	int highest = ipc_highest(&ns->sem);
	mutex_unlock(&ns->lock, &lc_ipc);
	return highest;
}

int sem_count(struct task *t, int id, bool write)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_set *s;

	mutex_lock(&ns->lock, &lc_ipc);
	int ret = sem_set_lookup(ns, id, write ? IPC_WRITE : IPC_READ, t->cred, &s);
	if (!ret)
		ret = (int)s->n;
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

static int lookup_same(struct ipc_ns *ns, int id, int want, const struct cred *c, unsigned n,
		       struct sem_set **s)
{
	int err = sem_set_lookup(ns, id, want, c, s);

	return err == -EINVAL || (!err && (*s)->n != n) ? -EIDRM : err;
}

int sem_get_all(struct task *t, int id, uint16_t *values, unsigned n)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_set *s;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup_same(ns, id, IPC_READ, t->cred, n, &s);
	for (unsigned i = 0; !err && i < n; i++)
		values[i] = (uint16_t)s->sems[i].value;
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

/* A value that is set is nobody's to undo. */
static void set_value(struct sem_set *s, unsigned num, int value, int pid)
{
	struct sem_undo *u;

	list_for_each (u, &s->undos, in_set)
		u->adjust[num] = 0;
	s->sems[num].value = value;
	s->sems[num].pid = pid;
}

int sem_set_all(struct task *t, int id, const uint16_t *values, unsigned n)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_set *s;

	for (unsigned i = 0; i < n; i++)
		if (values[i] > IPC_SEMVMX)
			return -ERANGE;
	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup_same(ns, id, IPC_WRITE, t->cred, n, &s);
	if (!err) {
		for (unsigned i = 0; i < n; i++)
			set_value(s, i, values[i], t->tg->tgid);
		s->ctime = ipc_now();
		sem_set_wake(s);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

int sem_set_value(struct task *t, int id, int num, int value)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_set *s;

	if (value < 0 || value > IPC_SEMVMX)
		return -ERANGE;
	mutex_lock(&ns->lock, &lc_ipc);
	struct ipc_object *o;
	int err = ipc_lookup(&ns->sem, id, &o);
	if (!err && (num < 0 || (unsigned)num >= sem_set_of(o)->n))
		err = -EINVAL;
	if (!err)
		err = ipc_permitted(o, IPC_WRITE, t->cred);
	if (!err) {
		s = sem_set_of(o);
		set_value(s, (unsigned)num, value, t->tg->tgid);
		s->ctime = ipc_now();
		sem_set_wake(s);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

/* Tasks that wait for the value to grow, or to be zero. */
static int count_waiters(const struct sem_set *s, unsigned num, bool zero)
{
	const struct sem_waiter *w;
	int n = 0;

	list_for_each (w, &s->waiters, link)
		n += w->blocking->sem_num == num && (w->blocking->sem_op == 0) == zero;
	return n;
}

int sem_query(struct task *t, int id, int num, int cmd)
{
	struct ipc_ns *ns = task_ipc(t);
	struct sem_set *s;

	mutex_lock(&ns->lock, &lc_ipc);
	int ret = sem_set_lookup(ns, id, IPC_READ, t->cred, &s);
	if (!ret && (num < 0 || (unsigned)num >= s->n))
		ret = -EINVAL;
	if (!ret) {
		switch (cmd) {
		case GETVAL:
			ret = s->sems[num].value;
			break;
		case GETPID:
			ret = pid_to_guest(t, s->sems[num].pid);
			break;
		default:
			ret = count_waiters(s, (unsigned)num, cmd == GETZCNT);
		}
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

char *sem_proc_text(struct task *t)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	fprintf(out, "       key      semid perms      nsems   uid   gid  cuid  cgid      otime"
		     "      ctime\n");
	mutex_lock(&ns->lock, &lc_ipc);
	for (unsigned i = 0; (o = ipc_next(&ns->sem, &i)); i++) {
		const struct sem_set *s = sem_set_of(o);
		fprintf(out, "%10d %10d  %4o %10u %5u %5u %5u %5u %10lu %10lu\n", o->key, o->id,
			o->mode, s->n, o->uid, o->gid, o->cuid, o->cgid, s->otime, s->ctime);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return fclose(out) ? (free(text), NULL) : text;
}

/*
 * Listeners: a supervisor answers the calls that a filter hands it.  Source: seccomp_unotify(2).
 *
 * One lock per listener (lc_seccomp) guards its list.  A notification belongs to the parked task
 * that asks; it is on the list from before that task sleeps until after it woke.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/lib/cleanup.h"

enum notif_state { NOTIF_INIT, NOTIF_SENT, NOTIF_REPLIED };

struct notification {
	struct list_head link;
	struct task *t; /* borrowed: it waits */
	uint64_t id;
	enum notif_state state;
	const struct seccomp_data *data;
	long val;
	int error;
	bool go_on; /* SECCOMP_USER_NOTIF_FLAG_CONTINUE */
};

struct seccomp_listener {
	struct mutex lock;
	struct list_head list; /* of struct notification, by arrival */
	uint64_t next_id;
	bool open;   /* its descriptor is */
	bool unused; /* no task has the filter any more */
	struct waitq waitq;
};

struct seccomp_listener *seccomp_listener_new(void)
{
	static _Atomic uint64_t last;
	struct seccomp_listener *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	mutex_init(&l->lock);
	list_init(&l->list);
	waitq_init(&l->waitq);
	/* Ids of different listeners do not meet. */
	l->next_id = (atomic_fetch_add(&last, 1) + 1) << 40;
	l->open = true;
	return l;
}

void seccomp_listener_free(struct seccomp_listener *l)
{
	free(l);
}

void seccomp_listener_unused(struct seccomp_listener *l)
{
	mutex_lock(&l->lock, &lc_seccomp);
	l->unused = true;
	mutex_unlock(&l->lock, &lc_seccomp);
	waitq_notify(&l->waitq, POLLHUP);
}

static struct notification *find(struct seccomp_listener *l, uint64_t id) REQUIRES(lc_seccomp)
{
	struct notification *n;

	list_for_each (n, &l->list, link)
		if (n->id == id)
			return n;
	return NULL;
}

static struct notification *first_unseen(struct seccomp_listener *l) REQUIRES(lc_seccomp)
{
	struct notification *n;

	list_for_each (n, &l->list, link)
		if (n->state == NOTIF_INIT)
			return n;
	return NULL;
}

static void reply(struct notification *n, int error, long val, bool go_on) REQUIRES(lc_seccomp)
{
	n->state = NOTIF_REPLIED;
	n->error = error;
	n->val = val;
	n->go_on = go_on;
	task_wake(n->t);
}

/* ---- the task that asks ---- */

bool seccomp_ask(struct task *t, struct seccomp_filter *f, const struct seccomp_data *data,
		 long *ret)
{
	struct seccomp_listener *l = f->listener;
	struct notification n = {.t = t, .data = data};
	int err = 0;

	*ret = -ENOSYS;
	if (!l)
		return false;
	mutex_lock(&l->lock, &lc_seccomp);
	if (!l->open) {
		mutex_unlock(&l->lock, &lc_seccomp);
		return false;
	}
	n.id = l->next_id++;
	list_add_tail(&n.link, &l->list);
	mutex_unlock(&l->lock, &lc_seccomp);
	waitq_notify(&l->waitq, POLLIN);

	mutex_lock(&l->lock, &lc_seccomp);
	while (n.state != NOTIF_REPLIED) {
		bool killable = f->wait_killable && n.state == NOTIF_SENT;
		mutex_unlock(&l->lock, &lc_seccomp);
		err = task_park(t, killable ? TASK_UNINTERRUPTIBLE : TASK_SLEEPING, TIME_NEVER);
		mutex_lock(&l->lock, &lc_seccomp);
		/* Taken by the supervisor meanwhile: what is pending does not count any more. */
		if (err && !killable && f->wait_killable && n.state == NOTIF_SENT &&
		    !signal_fatal_pending(t))
			continue;
		if (err && n.state != NOTIF_REPLIED)
			break;
	}
	list_del(&n.link);
	mutex_unlock(&l->lock, &lc_seccomp);
	if (n.state != NOTIF_REPLIED)
		*ret = -ERESTARTSYS;
	else if (n.go_on)
		return true;
	else
		*ret = n.error ? n.error : n.val;
	return false;
}

/* ---- the supervisor ---- */

static struct seccomp_listener *listener_of(struct file *f)
{
	return ((struct seccomp_filter *)f->priv)->listener;
}

/* A supervisor's buffer must be zeros: room for what later kernels ask. */
static int check_zeroed(struct task *t, uint64_t arg)
{
	struct seccomp_notif n;
	const uint8_t *b = (const uint8_t *)&n;

	if (copy_in_val(&t->um, &n, UADDR(arg)))
		return -EFAULT;
	for (size_t i = 0; i < sizeof(n); i++)
		if (b[i])
			return -EINVAL;
	return 0;
}

static int wait_for_one(struct task *t, struct seccomp_listener *l)
{
	struct task_waiter tw;
	int err = 0;
	bool ready;

	task_waiter_init(&tw, t);
	waitq_add(&l->waitq, &tw.w, POLLIN);
	for (;;) {
		mutex_lock(&l->lock, &lc_seccomp);
		ready = l->unused || first_unseen(l);
		mutex_unlock(&l->lock, &lc_seccomp);
		if (ready || err)
			break;
		err = task_park(t, TASK_SLEEPING, TIME_NEVER);
	}
	waitq_remove(&tw.w);
	return ready ? 0 : -ERESTARTSYS;
}

static long notif_recv(struct seccomp_listener *l, struct task *t, uint64_t arg)
{
	struct seccomp_notif out;

	int err = check_zeroed(t, arg);
	if (!err)
		err = wait_for_one(t, l);
	if (err)
		return err;
	memset(&out, 0, sizeof(out));
	mutex_lock(&l->lock, &lc_seccomp);
	struct notification *n = first_unseen(l);
	if (n) {
		out.id = n->id;
		out.pid = (uint32_t)pid_nr_in(n->t->pid, task_pid_ns(t));
		out.data = *n->data;
		n->state = NOTIF_SENT;
		/* A killable wait begins; the task looks again. */
		task_wake(n->t);
	}
	mutex_unlock(&l->lock, &lc_seccomp);
	if (!n)
		return -ENOENT; /* it was interrupted, or somebody else took it */
	waitq_notify(&l->waitq, POLLOUT);
	if (!copy_out_val(&t->um, UADDR(arg), &out))
		return 0;
	mutex_lock(&l->lock, &lc_seccomp);
	n = find(l, out.id);
	if (n && n->state == NOTIF_SENT)
		n->state = NOTIF_INIT;
	mutex_unlock(&l->lock, &lc_seccomp);
	waitq_notify(&l->waitq, POLLIN);
	return -EFAULT;
}

static long notif_send(struct seccomp_listener *l, struct task *t, uint64_t arg)
{
	struct seccomp_notif_resp r;
	long ret = 0;

	if (copy_in_val(&t->um, &r, UADDR(arg)))
		return -EFAULT;
	if (r.flags & ~(uint32_t)SECCOMP_USER_NOTIF_FLAG_CONTINUE)
		return -EINVAL;
	bool go_on = r.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (go_on && (r.error || r.val))
		return -EINVAL;
	mutex_lock(&l->lock, &lc_seccomp);
	struct notification *n = find(l, r.id);
	if (!n)
		ret = -ENOENT;
	else if (n->state != NOTIF_SENT)
		ret = -EINPROGRESS;
	else
		reply(n, r.error, r.val, go_on);
	mutex_unlock(&l->lock, &lc_seccomp);
	return ret;
}

static long notif_id_valid(struct seccomp_listener *l, struct task *t, uint64_t arg)
{
	uint64_t id;

	if (copy_in_val(&t->um, &id, UADDR(arg)))
		return -EFAULT;
	mutex_lock(&l->lock, &lc_seccomp);
	struct notification *n = find(l, id);
	long ret = n && n->state == NOTIF_SENT ? 0 : -ENOENT;
	mutex_unlock(&l->lock, &lc_seccomp);
	return ret;
}

/* SECCOMP_IOCTL_NOTIF_ADDFD's argument, which may grow: zeros behind are fine. */
static int addfd_copy(struct task *t, uint64_t arg, size_t size, struct seccomp_notif_addfd *out)
{
	uint8_t rest[256];

	if (size < sizeof(*out) || size >= 4096)
		return -EINVAL;
	if (copy_in_val(&t->um, out, UADDR(arg)))
		return -EFAULT;
	for (size_t done = sizeof(*out); done < size;) {
		size_t n = MIN(size - done, sizeof(rest));
		if (copy_in(&t->um, rest, UADDR(arg + done), n))
			return -EFAULT;
		for (size_t i = 0; i < n; i++)
			if (rest[i])
				return -E2BIG;
		done += n;
	}
	return 0;
}

/* The task that waits for this answer, a reference. */
static int asker(struct seccomp_listener *l, uint64_t id, struct task **out)
{
	int err = 0;

	mutex_lock(&l->lock, &lc_seccomp);
	struct notification *n = find(l, id);
	if (!n)
		err = -ENOENT;
	else if (n->state != NOTIF_SENT)
		err = -EINPROGRESS;
	else
		*out = task_get(n->t);
	mutex_unlock(&l->lock, &lc_seccomp);
	return err;
}

static long notif_addfd(struct seccomp_listener *l, struct task *t, uint64_t arg, size_t size)
{
	struct seccomp_notif_addfd a;
	struct task *target;

	int err = addfd_copy(t, arg, size, &a);
	if (err)
		return err;
	if (a.newfd_flags & ~(uint32_t)O_CLOEXEC)
		return -EINVAL;
	if (a.flags & ~(uint32_t)(SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND))
		return -EINVAL;
	if (a.newfd && !(a.flags & SECCOMP_ADDFD_FLAG_SETFD))
		return -EINVAL;
	CLEANUP_FILE struct file *src = fdtable_file(t->fds, (int)a.srcfd);
	if (!src)
		return -EBADF;
	if ((err = asker(l, a.id, &target)))
		return err;
	struct fdtable *fds = task_fds_get(target);
	uint64_t limit = task_rlimit(target, RLIMIT_NOFILE);
	bool cloexec = a.newfd_flags & O_CLOEXEC;
	int fd = -ENOENT;
	if (fds && (a.flags & SECCOMP_ADDFD_FLAG_SETFD))
		fd = fdtable_replace(fds, (int)a.newfd, limit, file_get(src), cloexec);
	else if (fds)
		fd = fdtable_install(fds, limit, file_get(src), cloexec);
	fdtable_put(fds);
	task_put(target);
	if (fd < 0 || !(a.flags & SECCOMP_ADDFD_FLAG_SEND))
		return fd;
	mutex_lock(&l->lock, &lc_seccomp);
	struct notification *n = find(l, a.id);
	if (n && n->state == NOTIF_SENT)
		reply(n, 0, fd, false);
	mutex_unlock(&l->lock, &lc_seccomp);
	return fd;
}

#define NOTIF_SET_FLAGS 0x40082104U
#define NOTIF_ID_VALID_WRONG_DIR 0x80082102U
#define IOCTL_SIZE(cmd) ((cmd) >> 16 & 0x3fff)

static long listener_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct seccomp_listener *l = listener_of(f);

	switch (cmd) {
	case SECCOMP_IOCTL_NOTIF_RECV:
		return notif_recv(l, t, arg);
	case SECCOMP_IOCTL_NOTIF_SEND:
		return notif_send(l, t, arg);
	case SECCOMP_IOCTL_NOTIF_ID_VALID:
	case NOTIF_ID_VALID_WRONG_DIR:
		return notif_id_valid(l, t, arg);
	case NOTIF_SET_FLAGS: /* where the supervisor is woken is the scheduler's business */
		return arg & ~1ULL ? -EINVAL : 0;
	}
	/* The command with any size: it says how long the structure is. */
	if ((cmd & ~(0x3fffU << 16)) == (SECCOMP_IOCTL_NOTIF_ADDFD & ~(0x3fffU << 16)))
		return notif_addfd(l, t, arg, IOCTL_SIZE(cmd));
	return -EINVAL;
}

static uint32_t listener_poll(struct file *f)
{
	struct seccomp_listener *l = listener_of(f);
	struct notification *n;
	uint32_t events = 0;

	mutex_lock(&l->lock, &lc_seccomp);
	list_for_each (n, &l->list, link) {
		if (n->state == NOTIF_INIT)
			events |= POLLIN | POLLRDNORM;
		if (n->state == NOTIF_SENT)
			events |= POLLOUT | POLLWRNORM;
	}
	if (l->unused)
		events |= POLLHUP;
	mutex_unlock(&l->lock, &lc_seccomp);
	return events;
}

static struct waitq *listener_waitq(struct file *f)
{
	return &listener_of(f)->waitq;
}

/* Nobody will answer any more: those who wait, and all who come, get ENOSYS. */
static void listener_release(struct file *f)
{
	struct seccomp_listener *l = listener_of(f);
	struct notification *n;

	mutex_lock(&l->lock, &lc_seccomp);
	l->open = false;
	list_for_each (n, &l->list, link)
		if (n->state != NOTIF_REPLIED)
			reply(n, -ENOSYS, 0, false);
	mutex_unlock(&l->lock, &lc_seccomp);
	seccomp_filter_put(f->priv);
}

static const struct file_ops listener_ops = {
	.stream = true,
	.poll = listener_poll,
	.waitq = listener_waitq,
	.ioctl = listener_ioctl,
	.release = listener_release,
};

int seccomp_listener_file(struct seccomp_filter *f, struct file **out)
{
	struct inode *in = anon_inode_new(0600, NULL, NULL);

	if (!in)
		return -ENOMEM;
	int err = file_new_anon(in, "anon_inode:seccomp notify", &listener_ops, f, O_RDWR, out);
	if (!err)
		ref_get(&f->ref);
	return err;
}

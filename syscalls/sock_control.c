/* Control messages of sendmsg and recvmsg: SCM_RIGHTS, SCM_CREDENTIALS, and those that families
 * have besides.  Source: unix(7), cmsg(3). */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/pid.h"
#include "sentry/lib/cleanup.h"
#include "syscalls/socket_util.h"

#define CONTROL_MAX 20480 /* net.core.optmem_max */

/* ---- in ---- */

static int import_rights(struct task *t, const uint8_t *data, size_t len, struct sock_msg *m)
{
	size_t n = len / sizeof(int32_t);

	if (n > SCM_MAX_FD_COUNT - m->nfiles)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		int32_t fd;
		memcpy(&fd, data + i * sizeof(fd), sizeof(fd));
		struct file *f = fd < 0 ? NULL : fdtable_file_any(t->fds, fd);
		if (!f)
			return -EBADF;
		m->files[m->nfiles++] = f;
	}
	return 0;
}

static bool may_claim(const struct task *t, const struct sock_ucred *u)
{
	const struct cred *c = t->cred;

	if (u->pid != pid_nr_own(t->tg->pid) &&
	    !task_ns_capable(t, task_pid_ns(t)->ns.owner, CAP_SYS_ADMIN))
		return false;
	if (u->uid != c->uid && u->uid != c->euid && u->uid != c->suid &&
	    !task_own_capable(t, CAP_SETUID))
		return false;
	return u->gid == c->gid || u->gid == c->egid || u->gid == c->sgid ||
	       task_own_capable(t, CAP_SETGID);
}

static int import_creds(struct task *t, const uint8_t *data, size_t len, struct sock_msg *m)
{
	struct sock_ucred u;

	if (len != sizeof(u))
		return -EINVAL;
	memcpy(&u, data, sizeof(u));
	u.uid = uid_enter(t->cred->user_ns, u.uid);
	u.gid = gid_enter(t->cred->user_ns, u.gid);
	if (u.uid == ID_NONE || u.gid == ID_NONE)
		return -EINVAL;
	if (!may_claim(t, &u))
		return -EPERM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	const struct task *who = task_named(t, u.pid);
	u.pid = who ? who->tid : 0;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!u.pid)
		return -ESRCH;
	m->has_creds = true;
	m->creds = u;
	return 0;
}

static int import_one(struct task *t, struct socket *s, const struct linux_cmsghdr *h,
		      const uint8_t *data, struct sock_msg *m)
{
	size_t len = h->len - sizeof(*h);

	if (h->level != SOL_SOCKET)
		return s->ops->control ? s->ops->control(s, m, h->level, h->type, data, len) : 0;
	switch (h->type) {
	case SCM_RIGHTS:
		return import_rights(t, data, len, m);
	case SCM_CREDENTIALS:
		return import_creds(t, data, len, m);
	default:
		return -EINVAL;
	}
}

int sock_control_import(struct task *t, struct socket *s, uaddr_t control, uint64_t len,
			struct sock_msg *m)
{
	struct linux_cmsghdr h;

	if (len == 0)
		return 0;
	if (len > CONTROL_MAX)
		return -ENOBUFS;
	CLEANUP_FREE uint8_t *buf = malloc(len);
	if (!buf)
		return -ENOMEM;
	int err = copy_in(&t->um, buf, control, len);
	for (uint64_t at = 0; !err && len - at >= sizeof(h);) {
		memcpy(&h, buf + at, sizeof(h));
		if (h.len < sizeof(h) || h.len > len - at)
			return -EINVAL;
		err = import_one(t, s, &h, buf + at + sizeof(h), m);
		at += MIN(LINUX_CMSG_ALIGN(h.len), len - at);
	}
	return err;
}

/* ---- out ---- */

struct control_out {
	struct task *t;
	uaddr_t at;
	uint64_t left, used;
};

static void advance(struct control_out *o, uint64_t len)
{
	uint64_t step = MIN(LINUX_CMSG_ALIGN(len), o->left);

	o->at = uaddr_add(o->at, step);
	o->left -= step;
	o->used += step;
}

/* As much of it as there is room for. */
static int export_one(struct control_out *o, struct sock_msg *m, int level, int type,
		      const void *data, size_t n)
{
	struct {
		struct linux_cmsghdr h;
		uint8_t data[SOCK_CONTROL_MAX];
	} c;
	uint64_t len = sizeof(c.h) + n;

	if (o->left < len)
		m->out_flags |= MSG_CTRUNC;
	if (o->left < sizeof(c.h))
		return 0;
	c.h = (struct linux_cmsghdr){MIN(len, o->left), level, type};
	memcpy(c.data, data, n);
	int err = copy_out(&o->t->um, o->at, &c, c.h.len);
	if (!err)
		advance(o, c.h.len);
	return err;
}

static int export_creds(struct control_out *o, struct sock_msg *m)
{
	struct sock_ucred u = m->has_creds ? m->creds : (struct sock_ucred){0, ID_NONE, ID_NONE};

	u.pid = pid_to_guest(o->t, u.pid);
	u.uid = uid_show(o->t->cred->user_ns, u.uid);
	u.gid = gid_show(o->t->cred->user_ns, u.gid);
	return export_one(o, m, SOL_SOCKET, SCM_CREDENTIALS, &u, sizeof(u));
}

static int export_family(struct control_out *o, struct sock_msg *m)
{
	struct sock_control_head h;
	int err = 0;

	for (unsigned at = 0; !err && at < m->control_len; at += h.len) {
		memcpy(&h, m->control + at, sizeof(h));
		at += sizeof(h);
		err = export_one(o, m, h.level, h.type, m->control + at, h.len);
	}
	return err;
}

/* Gives the guest a descriptor of the file, whose number it sees first.  Takes the reference. */
static int export_file(struct control_out *o, struct file **f, uint64_t off, bool cloexec)
{
	struct task *t = o->t;
	int32_t fd;
	int err = fdtable_reserve(t->fds, 0, task_rlimit(t, RLIMIT_NOFILE), 1, &fd);

	if (err)
		return err;
	if ((err = copy_out_val(&t->um, uaddr_add(o->at, off), &fd))) {
		fdtable_unreserve(t->fds, 1, &fd);
		return err;
	}
	fdtable_commit(t->fds, fd, steal(*f), cloexec);
	return 0;
}

static int export_files(struct control_out *o, struct sock_msg *m)
{
	struct linux_cmsghdr h = {.level = SOL_SOCKET, .type = SCM_RIGHTS};
	unsigned n = m->nfiles, done = 0;
	uint64_t room = o->left < sizeof(h) ? 0 : (o->left - sizeof(h)) / sizeof(int32_t);

	while (done < n && done < room &&
	       !export_file(o, &m->files[done], sizeof(h) + done * sizeof(int32_t),
			    m->flags & MSG_CMSG_CLOEXEC))
		done++;
	if (done < n)
		m->out_flags |= MSG_CTRUNC;
	if (!done)
		return 0;
	h.len = sizeof(h) + done * sizeof(int32_t);
	int err = copy_out_val(&o->t->um, o->at, &h);
	if (!err)
		advance(o, h.len);
	return err;
}

int sock_control_export(struct task *t, struct socket *s, struct sock_msg *m, uaddr_t control,
			uint64_t room, uint64_t *used)
{
	struct control_out o = {.t = t, .at = control, .left = room};
	int err = 0;

	if (uaddr_is_null(control))
		o.left = 0;
	if (m->control_len)
		err = export_family(&o, m);
	if (!err && s->passcred)
		err = export_creds(&o, m);
	if (!err && m->nfiles)
		err = export_files(&o, m);
	*used = o.used;
	return err;
}

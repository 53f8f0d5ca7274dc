#include "sentry/kernel/ns/nsfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"

static struct pseudo_fs nsfs;

static void nsfs_init(void)
{
	pseudo_fs_init(&nsfs, "nsfs", NSFS_MAGIC);
}

/* A new descriptor of the caller's for ns. */
static long open_ns(struct task *t, struct ns *ns)
{
	struct path p;
	struct file *f;

	int err = nsfs_path(ns, &p);
	if (err)
		return err;
	err = file_open_path(p, O_RDONLY, &f);
	path_put(p);
	return err ? err : fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, true);
}

/* The owner, as far as it is the caller's user namespace or one below that. */
static long open_owner(struct task *t, struct ns *ns)
{
	struct user_ns *u = ns->owner;

	return u && user_ns_is_in(u, t->cred->user_ns) ? open_ns(t, &u->ns) : -EPERM;
}

static long open_parent(struct task *t, struct ns *ns)
{
	if (ns->type == &user_ns_type)
		return open_owner(t, ns);
	if (!ns->type->parent)
		return -EINVAL;
	struct ns *up = ns->type->parent(ns);
	return up ? open_ns(t, up) : -EPERM;
}

static long nsfs_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct ns *ns = nsfs_file_ns(f);

	uint32_t uid;

	switch (cmd) {
	case NS_GET_USERNS:
		return open_owner(t, ns);
	case NS_GET_PARENT:
		return open_parent(t, ns);
	case NS_GET_NSTYPE:
		return (long)ns->type->flag;
	case NS_GET_OWNER_UID:
		if (ns->type != &user_ns_type)
			return -EINVAL;
		uid = user_ns_of(ns)->uid;
		return copy_out_val(&t->um, UADDR(arg), &uid);
	}
	return -ENOTTY;
}

static const struct file_ops nsfs_file_ops = {.ioctl = nsfs_ioctl};

static int nsfs_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in, (void)d;
	if (file_writable(f))
		return -EPERM;
	f->ops = &nsfs_file_ops;
	return 0;
}

static int nsfs_setattr(struct inode *in, const struct iattr *a)
{
	(void)in, (void)a;
	return -EPERM;
}

static void nsfs_free(struct inode *in)
{
	ns_put(in->priv);
	free(in);
}

static const struct inode_ops nsfs_inode_ops = {
	.open = nsfs_open,
	.setattr = nsfs_setattr,
	.free = nsfs_free,
};

int nsfs_path(struct ns *ns, struct path *out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char name[48];

	pthread_once(&once, nsfs_init);
	struct inode *in = malloc(sizeof(*in));
	if (!in)
		return -ENOMEM;
	inode_init(in, &nsfs.sb, &nsfs_inode_ops, ns->ino, S_IFREG | 0444, NULL);
	in->own_open = true;
	in->priv = ns_get(ns);
	snprintf(name, sizeof(name), "%s:[%lu]", ns->type->name, (unsigned long)ns->ino);
	return pseudo_fs_path(&nsfs, in, name, out);
}

struct ns *nsfs_file_ns(const struct file *f)
{
	return f->ops == &nsfs_file_ops ? f->inode->priv : NULL;
}

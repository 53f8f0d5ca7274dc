/* The file system: the directory of queues, their limits, and who pays for them. */
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/fs/mqueue/queue.h"
#include "sentry/kernel/ipc/ipc.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/task.h"

#define MQUEUE_MAGIC_NUMBER 0x19800202
#define FILE_SIZE 80 /* what Linux gives as a queue's size */
#define ENTRY_SIZE 20

/* /proc/sys/fs/mqueue, and the hard limits for those with CAP_SYS_RESOURCE. */
#define DEFAULT_MESSAGES 10
#define DEFAULT_SIZE 8192
#define QUEUES_MAX 256
#define HARD_MESSAGES 65536
#define HARD_SIZE (16 << 20)
/* What Linux counts for a message beside its text. */
#define MESSAGE_COST 48
#define PRIORITY_COST 48

struct mq_entry {
	struct list_head link; /* by arrival */
	int64_t pos;
	struct inode *in; /* reference */
	char name[VFS_NAME_MAX + 1];
};

struct mq_dir {
	struct inode in;
	struct list_head entries; /* data_lock */
	int64_t next_pos;	  /* data_lock */
};

/* What the queues of a user take. */
struct mq_user {
	struct mq_user *next;
	uint32_t uid;
	uint64_t bytes;
};

static struct mutex lock; /* lc_leaf: all below */
static struct mq_user *users;
static unsigned nqueues;
static _Atomic uint64_t last_ino;

static struct mq_dir *dir_of(const struct inode *in)
{
	return container_of((struct inode *)in, struct mq_dir, in);
}

/* ---- accounting ---- */

static struct mq_user *user_find(uint32_t uid)
{
	struct mq_user *u = users;

	while (u && u->uid != uid)
		u = u->next;
	return u;
}

static int charge(uint32_t uid, uint64_t bytes, uint64_t max, bool privileged)
{
	int err = 0;

	mutex_lock(&lock, &lc_leaf);
	struct mq_user *u = user_find(uid);
	if (nqueues >= QUEUES_MAX && !privileged)
		err = -ENOSPC;
	else if (bytes > max || (u && u->bytes > max - bytes))
		err = -EMFILE;
	else if (!u && !(u = calloc(1, sizeof(*u))))
		err = -ENOMEM;
	if (!err) {
		if (!u->bytes) {
			u->uid = uid;
			u->next = users;
			users = u;
		}
		u->bytes += bytes;
		nqueues++;
	}
	mutex_unlock(&lock, &lc_leaf);
	return err;
}

static void uncharge(uint32_t uid, uint64_t bytes)
{
	mutex_lock(&lock, &lc_leaf);
	struct mq_user **p = &users;
	while ((*p)->uid != uid)
		p = &(*p)->next;
	struct mq_user *u = *p;
	u->bytes -= bytes;
	nqueues--;
	if (!u->bytes) {
		*p = u->next;
		free(u);
	}
	mutex_unlock(&lock, &lc_leaf);
}

/* ---- queues ---- */

struct mq_limits {
	long messages, size;
	uint64_t bytes_max;
};

static int check_limits(const struct mq_attr *a, bool privileged)
{
	if (a->mq_maxmsg <= 0 || a->mq_msgsize <= 0)
		return -EINVAL;
	if (a->mq_maxmsg > (privileged ? HARD_MESSAGES : DEFAULT_MESSAGES) ||
	    a->mq_msgsize > (privileged ? HARD_SIZE : DEFAULT_SIZE))
		return -EINVAL;
	return 0;
}

static void queue_free(struct inode *in)
{
	struct mqueue *q = mqueue_of(in);

	mqueue_fini(q);
	uncharge(q->owner, q->charged);
	free(q);
}

static int queue_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in, (void)d;
	f->ops = &mqueue_fops;
	return 0;
}

static int queue_setattr(struct inode *in, const struct iattr *a)
{
	struct iattr rest = *a;

	rest.valid &= ~(unsigned)ATTR_SIZE; /* queues have no size to change */
	if (rest.valid)
		inode_apply_attr(in, &rest);
	return 0;
}

const struct inode_ops mqueue_iops = {
	.open = queue_open,
	.setattr = queue_setattr,
	.free = queue_free,
};

static int queue_new(struct super_block *sb, const struct mq_limits *l, uint32_t mode,
		     const struct cred *c, struct inode **out)
{
	uint64_t count = (uint64_t)l->messages;
	uint64_t bytes = count * (MESSAGE_COST + (uint64_t)l->size) +
			 MIN(count, (uint64_t)MQ_PRIO_LIMIT) * PRIORITY_COST;
	struct mqueue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	int err = charge(c->euid, bytes, l->bytes_max, cred_capable(c, CAP_SYS_RESOURCE));
	if (err) {
		free(q);
		return err;
	}
	inode_init(&q->in, sb, &mqueue_iops, ++last_ino, S_IFREG | (mode & 07777), c);
	q->in.nlink = 1;
	q->in.size = FILE_SIZE;
	waitq_init(&q->wq);
	list_init(&q->messages);
	q->max_messages = l->messages;
	q->max_size = l->size;
	q->owner = c->euid;
	q->charged = bytes;
	*out = &q->in;
	return 0;
}

/* ---- the directory ---- */

static struct mq_entry *entry_find(struct mq_dir *dir, const char *name)
{
	struct mq_entry *e;

	list_for_each (e, &dir->entries, link)
		if (!strcmp(e->name, name))
			return e;
	return NULL;
}

static int dir_lookup(struct inode *in, struct dentry *d)
{
	struct mq_dir *dir = dir_of(in);

	mutex_lock(&in->data_lock, &lc_inode_data);
	struct mq_entry *e = entry_find(dir, d->name);
	struct inode *found = e ? inode_get(e->in) : NULL;
	mutex_unlock(&in->data_lock, &lc_inode_data);
	if (found)
		dentry_instantiate(d, found);
	return 0;
}

static void dir_changed(struct inode *in, int by)
{
	mutex_lock(&in->lock, &lc_inode);
	in->size += (uint64_t)(int64_t)(by * ENTRY_SIZE);
	mutex_unlock(&in->lock, &lc_inode);
	inode_touch(in, true);
}

/* The limits of the queue that mqueue_create is making on this host thread: the vfs has no way to
 * hand them through.  Nothing in between switches fibers. */
static __thread const struct mq_limits *wanted;

static int dir_create(struct inode *in, struct dentry *d, uint32_t mode, const struct cred *c)
{
	const struct task *t = task_current();
	const struct mq_limits plain = {DEFAULT_MESSAGES, DEFAULT_SIZE,
					t ? task_rlimit((struct task *)t, RLIMIT_MSGQUEUE)
					  : UINT64_MAX};
	struct mq_dir *dir = dir_of(in);
	struct mq_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	int err = queue_new(in->sb, wanted ? wanted : &plain, mode, c, &e->in);
	if (err) {
		free(e);
		return err;
	}
	memcpy(e->name, d->name, d->name_len);
	struct inode *made = inode_get(e->in);
	mutex_lock(&in->data_lock, &lc_inode_data);
	e->pos = dir->next_pos++;
	list_add_tail(&e->link, &dir->entries);
	mutex_unlock(&in->data_lock, &lc_inode_data);
	dir_changed(in, 1);
	dentry_instantiate(d, made);
	return 0;
}

static int dir_unlink(struct inode *in, struct dentry *d)
{
	struct mq_dir *dir = dir_of(in);

	mutex_lock(&in->data_lock, &lc_inode_data);
	struct mq_entry *e = entry_find(dir, d->name);
	if (e)
		list_del(&e->link);
	mutex_unlock(&in->data_lock, &lc_inode_data);
	if (!e)
		return -ENOENT;
	mutex_lock(&e->in->lock, &lc_inode);
	e->in->nlink--;
	mutex_unlock(&e->in->lock, &lc_inode);
	inode_touch(e->in, false);
	dir_changed(in, -1);
	inode_put(e->in);
	free(e);
	return 0;
}

static int dir_readdir(struct file *f, struct dir_context *ctx, int64_t *off)
{
	struct mq_dir *dir = dir_of(f->inode);
	struct mq_entry *e;

	if (!dir_emit_dots(f, ctx, off))
		return 0;
	mutex_lock(&f->inode->data_lock, &lc_inode_data);
	list_for_each (e, &dir->entries, link) {
		if (e->pos < *off)
			continue;
		if (!ctx->emit(ctx, e->name, strlen(e->name), e->pos + 1, e->in->ino, DT_REG))
			break;
		*off = e->pos + 1;
	}
	mutex_unlock(&f->inode->data_lock, &lc_inode_data);
	return 0;
}

static const struct file_ops dir_fops = {.readdir = dir_readdir};

static int dir_open(struct inode *in, struct dentry *d, struct file *f)
{
	(void)in, (void)d;
	f->ops = &dir_fops;
	return 0;
}

/* The instance goes: its namespace has gone, and nobody has it mounted. */
static void dir_free(struct inode *in)
{
	struct mq_entry *e, *tmp;

	list_for_each_safe (e, tmp, &dir_of(in)->entries, link) {
		inode_put(e->in);
		free(e);
	}
	free(dir_of(in));
}

static const struct inode_ops dir_iops = {
	.lookup = dir_lookup,
	.create = dir_create,
	.unlink = dir_unlink,
	.open = dir_open,
	.free = dir_free,
};

/* ---- the instance ---- */

static int mq_statfs(struct super_block *sb, struct kstatfs *st)
{
	*st = (struct kstatfs){.type = sb->magic,
			       .bsize = PAGE_SIZE,
			       .frsize = PAGE_SIZE,
			       .namelen = VFS_NAME_MAX,
			       .fsid = sb->dev};
	return 0;
}

static void mq_super_free(struct super_block *sb)
{
	free(sb);
}

static const struct super_ops mq_super_ops = {.statfs = mq_statfs, .free = mq_super_free};

int mqueue_instance(struct user_ns *owner, struct mount **out)
{
	struct super_block *sb = calloc(1, sizeof(*sb));
	struct mq_dir *root = calloc(1, sizeof(*root));
	uint32_t uid = uid_enter(owner, 0), gid = gid_enter(owner, 0);

	if (!sb || !root) {
		free(sb);
		free(root);
		return -ENOMEM;
	}
	super_init(sb, &mq_super_ops, "mqueue", MQUEUE_MAGIC_NUMBER);
	user_ns_put(sb->user_ns);
	sb->user_ns = user_ns_get(owner);
	inode_init(&root->in, sb, &dir_iops, ++last_ino, S_IFDIR | 01777, NULL);
	root->in.uid = uid == ID_NONE ? 0 : uid;
	root->in.gid = gid == ID_NONE ? 0 : gid;
	root->in.nlink = 2;
	root->in.size = 2 * ENTRY_SIZE;
	list_init(&root->entries);
	root->next_pos = 2;
	int err = super_set_root(sb, &root->in);
	if (!err && !(*out = mount_new(sb, sb->root, MS_RELATIME, "mqueue")))
		err = -ENOMEM;
	super_put(sb); /* the mount has its own reference */
	return err;
}

int mqueue_mount(const char *options, struct super_block **out)
{
	struct path root;
	int err = mqueue_root(&root);

	(void)options;
	if (!err)
		*out = super_get(root.mnt->sb);
	return err;
}

int mqueue_root(struct path *out)
{
	const struct task *t = task_current();
	struct ns_set *set = t ? t->ns : kernel->ns;
	struct mount *m = ipc_ns_of(set->of[NS_IPC])->mqueues;

	if (!m)
		return -ENOSYS;
	*out = (struct path){m, m->root};
	return 0;
}

int mqueue_create(struct dentry *root, struct dentry *d, uint32_t mode,
		  const struct mq_attr *limits, uint64_t bytes_max, const struct cred *c)
{
	struct mq_limits l = {DEFAULT_MESSAGES, DEFAULT_SIZE, bytes_max};

	if (limits) {
		int err = check_limits(limits, cred_capable(c, CAP_SYS_RESOURCE));
		if (err)
			return err;
		l.messages = limits->mq_maxmsg;
		l.size = limits->mq_msgsize;
	}
	wanted = &l;
	int err = vfs_do_create(root, d, mode, c);
	wanted = NULL;
	return err;
}

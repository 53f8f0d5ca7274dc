/* The file system: options, ptmx, numbers and names. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/dev/dev.h"
#include "sentry/fs/devpts/pty.h"
#include "sentry/fs/synth/synth.h"
#include "sentry/lib/cleanup.h"

#define PTS_MAJOR 136
#define PTS_MAX 4096 /* terminals of one instance; Linux's default for all */
#define INO_PTMX 2
#define INO_FIRST 3

struct devpts {
	struct super_ops ops; /* the synthetic file system's, and options */
	void (*synth_free)(struct super_block *sb);
	bool has_uid, has_gid;
	uint32_t uid, gid, mode, ptmxmode, max;
	struct mutex lock; /* lc_leaf */
	uint64_t taken[PTS_MAX / 64];
};

static struct devpts *devpts_of(const struct super_block *sb)
{
	return sb->priv;
}

/* ---- numbers ---- */

static int get_index(struct devpts *d, unsigned *out)
{
	int err = -ENOSPC;

	mutex_lock(&d->lock, &lc_leaf);
	for (unsigned i = 0; i < d->max; i++) {
		if (d->taken[i / 64] >> i % 64 & 1)
			continue;
		d->taken[i / 64] |= 1ULL << i % 64;
		*out = i;
		err = 0;
		break;
	}
	mutex_unlock(&d->lock, &lc_leaf);
	return err;
}

void devpts_put_index(struct super_block *sb, unsigned index)
{
	struct devpts *d = devpts_of(sb);

	mutex_lock(&d->lock, &lc_leaf);
	d->taken[index / 64] &= ~(1ULL << index % 64);
	mutex_unlock(&d->lock, &lc_leaf);
}

/* ---- the replica's node ---- */

static int node_open(struct inode *in, struct file *f, void *arg)
{
	struct task *t = task_current();
	struct pty *p = arg;
	/* Judged before the descriptor exists, since open(2) takes O_NOCTTY away. */
	bool wants_it = !(f->flags & O_NOCTTY) && file_readable(f);
	int err = pty_open_replica(p, f);

	(void)in;
	if (!err && wants_it && t)
		tty_acquire(&p->tty, t);
	return err;
}

static void node_free(void *arg)
{
	struct pty *p = arg;

	tty_put(&p->tty);
}

static const struct synth_file_ops node_ops = {
	.common = {.free_arg = node_free},
	.open = node_open,
};

static struct inode *device_node(struct super_block *sb, uint32_t mode, uint64_t rdev, uint64_t ino,
				 const struct synth_file_ops *ops, void *arg)
{
	struct inode *in = synth_file_new(sb, mode, ops, arg);

	if (!in)
		return NULL;
	in->mode = S_IFCHR | mode;
	in->rdev = rdev;
	in->own_open = true;
	synth_set_ino(in, ino);
	return in;
}

/* Names the terminal for the caller. */
static int add_name(struct super_block *sb, struct pty *p)
{
	const struct devpts *d = devpts_of(sb);
	const struct task *t = task_current();
	char name[16];

	struct inode *in = device_node(sb, d->mode, dev_encode(PTS_MAJOR, p->tty.index),
				       INO_FIRST + p->tty.index, &node_ops,
				       container_of(tty_get(&p->tty), struct pty, tty));
	if (!in)
		return -ENOMEM;
	synth_set_owner(in, d->has_uid || !t ? d->uid : t->cred->fsuid,
			d->has_gid || !t ? d->gid : t->cred->fsgid);
	snprintf(name, sizeof(name), "%u", p->tty.index);
	return synth_add(sb->root->inode, name, in);
}

void devpts_forget_name(struct super_block *sb, unsigned index)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", index);
	synth_remove(sb->root->inode, name);
}

/* ---- ptmx ---- */

static int open_master(struct super_block *sb, struct file *f)
{
	struct devpts *d = devpts_of(sb);
	struct pty *p;
	unsigned index;
	int err = get_index(d, &index);

	if (err)
		return err;
	if ((err = pty_new(sb, index, &p))) {
		devpts_put_index(sb, index);
		return err;
	}
	if ((err = add_name(sb, p))) {
		tty_put(&p->tty);
		return err;
	}
	pty_open_master(p, f);
	return 0;
}

static int ptmx_open(struct inode *in, struct file *f, void *arg)
{
	(void)arg;
	return open_master(in->sb, f);
}

static const struct synth_file_ops ptmx_ops = {.open = ptmx_open};

static bool is_devpts(const struct super_block *sb)
{
	return sb->magic == DEVPTS_SUPER_MAGIC;
}

/* The devpts that a master was opened on: its own, or what is mounted on "pts" beside it. */
static struct mount *mount_of(const struct file *f)
{
	struct dentry *d;

	if (is_devpts(f->path.mnt->sb))
		return mount_get(f->path.mnt);
	if (dentry_lookup(f->path.dentry->parent, "pts", 3, &d))
		return NULL;
	struct mount *m = mount_lookup(f->path.mnt, d);
	dentry_put(d);
	if (m && !is_devpts(m->sb)) {
		mount_put(m);
		m = NULL;
	}
	return m;
}

static int ptmx_device_open(struct inode *in, struct file *f)
{
	struct mount *m = mount_of(f);

	(void)in;
	if (!m)
		return -ENODEV;
	int err = open_master(m->sb, f);
	mount_put(m);
	return err;
}

int devpts_replica_path(struct file *master, unsigned index, struct path *out)
{
	char name[16];
	struct dentry *d;
	struct mount *m = mount_of(master);

	if (!m)
		return -ENODEV;
	int n = snprintf(name, sizeof(name), "%u", index);
	int err = dentry_lookup(m->sb->root, name, (size_t)n, &d);
	if (!err && !d->inode) {
		dentry_put(d);
		err = -ENOENT;
	}
	if (err) {
		mount_put(m);
		return err;
	}
	*out = (struct path){m, d};
	return 0;
}

int devpts_init(void)
{
	return dev_register(false, 5, 2, ptmx_device_open);
}

/* ---- instances ---- */

static int parse_number(const char *s, int base, uint32_t max, uint32_t *out)
{
	char *end;

	if (!s || *s < '0' || *s > '9')
		return -EINVAL;
	errno = 0;
	unsigned long v = strtoul(s, &end, base);
	if (errno || *end || v > max)
		return -EINVAL;
	*out = (uint32_t)v;
	return 0;
}

static int parse_option(struct devpts *d, const char *key, const char *value)
{
	if (!strcmp(key, "newinstance"))
		return value ? -EINVAL : 0;
	if (!strcmp(key, "mode"))
		return parse_number(value, 8, 0777, &d->mode);
	if (!strcmp(key, "ptmxmode"))
		return parse_number(value, 8, 0777, &d->ptmxmode);
	if (!strcmp(key, "uid")) {
		d->has_uid = true;
		return parse_number(value, 10, UINT32_MAX - 1, &d->uid);
	}
	if (!strcmp(key, "gid")) {
		d->has_gid = true;
		return parse_number(value, 10, UINT32_MAX - 1, &d->gid);
	}
	if (!strcmp(key, "max")) {
		int err = parse_number(value, 10, 1 << 20, &d->max);
		d->max = MIN(d->max, (uint32_t)PTS_MAX);
		return err;
	}
	return -EINVAL;
}

static int parse_options(struct devpts *d, const char *options)
{
	CLEANUP_FREE char *copy = strdup(options ? options : "");
	char *save = NULL;

	if (!copy)
		return -ENOMEM;
	for (char *key = strtok_r(copy, ",", &save); key; key = strtok_r(NULL, ",", &save)) {
		char *value = strchr(key, '=');
		if (value)
			*value++ = 0;
		int err = parse_option(d, key, value);
		if (err)
			return err;
	}
	return 0;
}

static void devpts_show_options(struct super_block *sb, char *buf, size_t size)
{
	const struct devpts *d = devpts_of(sb);
	char uid[24] = "", gid[24] = "", max[24] = "";

	if (d->has_uid)
		snprintf(uid, sizeof(uid), ",uid=%u", uid_show(sb->user_ns, d->uid));
	if (d->has_gid)
		snprintf(gid, sizeof(gid), ",gid=%u", gid_show(sb->user_ns, d->gid));
	if (d->max < PTS_MAX)
		snprintf(max, sizeof(max), ",max=%u", d->max);
	snprintf(buf, size, "%s%s,mode=%03o,ptmxmode=%03o%s", uid, gid, d->mode, d->ptmxmode, max);
}

static int devpts_claim(struct super_block *sb, const struct cred *c)
{
	struct devpts *d = devpts_of(sb);

	if (d->has_uid)
		d->uid = uid_enter(c->user_ns, d->uid);
	if (d->has_gid)
		d->gid = gid_enter(c->user_ns, d->gid);
	uint32_t uid = uid_enter(c->user_ns, 0), gid = gid_enter(c->user_ns, 0);
	if ((d->has_uid && d->uid == ID_NONE) || (d->has_gid && d->gid == ID_NONE) ||
	    uid == ID_NONE || gid == ID_NONE)
		return -EINVAL;
	synth_set_owner(sb->root->inode, uid, gid);
	synth_set_owner(synth_child(sb->root->inode, "ptmx"), uid, gid);
	return 0;
}

static void devpts_super_free(struct super_block *sb)
{
	struct devpts *d = devpts_of(sb);

	d->synth_free(sb);
	free(d);
}

int devpts_mount(const char *options, struct super_block **out)
{
	struct super_block *sb;
	struct devpts *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->mode = 0600;
	d->max = PTS_MAX;
	mutex_init(&d->lock);
	int err = parse_options(d, options);
	if (!err)
		err = synth_super_new("devpts", DEVPTS_SUPER_MAGIC, SYNTH_NO_DCACHE, NULL, NULL,
				      &sb);
	if (err) {
		free(d);
		return err;
	}
	d->ops = *sb->ops;
	d->synth_free = d->ops.free;
	d->ops.free = devpts_super_free;
	d->ops.show_options = devpts_show_options;
	d->ops.claim = devpts_claim;
	sb->ops = &d->ops;
	sb->priv = d;
	sb->root->inode->mode = S_IFDIR | 0755;
	err = synth_add(sb->root->inode, "ptmx",
			device_node(sb, d->ptmxmode, dev_encode(5, 2), INO_PTMX, &ptmx_ops, NULL));
	if (err) {
		super_put(sb);
		return err;
	}
	*out = sb;
	return 0;
}

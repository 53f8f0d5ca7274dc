/* Files without a name: the anonymous file system, its mount, and descriptors on it. */
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/vfs/internal.h"

struct anon_inode {
	struct inode inode;
	void (*free_priv)(void *priv);
};

static struct super_block anon_sb;
static struct mount *anon_mount;
static _Atomic uint64_t last_ino = 1;

static void anon_inode_free(struct inode *in)
{
	struct anon_inode *a = container_of(in, struct anon_inode, inode);

	if (a->free_priv)
		a->free_priv(in->priv);
	free(a);
}

static const struct inode_ops anon_inode_ops = {.free = anon_inode_free};

/* The super block is static and its mount is never put. */
static void anon_super_free(struct super_block *sb)
{
	(void)sb;
}

static const struct super_ops anon_super_ops = {.free = anon_super_free};

static struct inode *inode_new(uint32_t mode, void *priv, void (*free_priv)(void *))
{
	struct anon_inode *a = malloc(sizeof(*a));

	if (!a)
		return NULL;
	inode_init(&a->inode, &anon_sb, &anon_inode_ops, atomic_fetch_add(&last_ino, 1), mode,
		   NULL);
	a->inode.priv = priv;
	a->free_priv = free_priv;
	return &a->inode;
}

static void anon_init(void)
{
	super_init(&anon_sb, &anon_super_ops, "anon_inodefs", ANON_INODE_FS_MAGIC);
	anon_sb.no_dcache = true;
	struct inode *root = inode_new(S_IFDIR | 0555, NULL, NULL);
	if (root && !super_set_root(&anon_sb, root))
		anon_mount = mount_new(&anon_sb, anon_sb.root, 0, "anon_inodefs");
}

static bool anon_ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, anon_init);
	return anon_mount != NULL;
}

bool dentry_is_anon(const struct dentry *d)
{
	return d->sb == &anon_sb;
}

struct inode *anon_inode_new(uint32_t mode, void *priv, void (*free_priv)(void *priv))
{
	return anon_ready() ? inode_new(mode, priv, free_priv) : NULL;
}

/* "pipe:[%lu]" with the inode number; names may come from guests, so nothing else is a format. */
static void format_name(char *buf, size_t size, const char *name, uint64_t ino)
{
	static const char suffix[] = ":[%lu]";
	size_t len = strlen(name), n = strlen(suffix);

	if (len > n && !strcmp(name + len - n, suffix))
		snprintf(buf, size, "%.*s:[%lu]", (int)(len - n), name, (unsigned long)ino);
	else
		snprintf(buf, size, "%s", name);
}

int file_new_anon(struct inode *in, const char *name, const struct file_ops *ops, void *priv,
		  int flags, struct file **out)
{
	char full[VFS_NAME_MAX + 32];

	if (!anon_ready()) {
		inode_put(in);
		return -ENOMEM;
	}
	format_name(full, sizeof(full), name, in->ino);
	struct dentry *d = dentry_alloc(&anon_sb, NULL, full, strlen(full));
	if (!d) {
		inode_put(in);
		return -ENOMEM;
	}
	d->inode = in;
	struct file *f = file_new((struct path){anon_mount, d}, flags);
	dentry_put(d);
	if (!f)
		return -ENOMEM;
	f->ops = ops;
	f->priv = priv;
	*out = f;
	return 0;
}

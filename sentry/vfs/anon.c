/* Files without a name: file systems of such, and descriptors on the anonymous one. */
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "sentry/vfs/internal.h"

/* ---- file systems that no name leads into ---- */

static void pseudo_inode_free(struct inode *in)
{
	free(in);
}

static const struct inode_ops pseudo_root_ops = {.free = pseudo_inode_free};

/* The super block is static and its mount is never put. */
static void pseudo_super_free(struct super_block *sb)
{
	(void)sb;
}

static const struct super_ops pseudo_super_ops = {.free = pseudo_super_free};

void pseudo_fs_init(struct pseudo_fs *fs, const char *fstype, uint64_t magic)
{
	struct inode *root = malloc(sizeof(*root));

	super_init(&fs->sb, &pseudo_super_ops, fstype, magic);
	fs->sb.no_dcache = fs->sb.pseudo = true;
	if (!root)
		return;
	inode_init(root, &fs->sb, &pseudo_root_ops, 1, S_IFDIR | 0555, NULL);
	if (!super_set_root(&fs->sb, root))
		fs->mnt = mount_new(&fs->sb, fs->sb.root, MS_RELATIME, fstype);
}

int pseudo_fs_path(struct pseudo_fs *fs, struct inode *in, const char *name, struct path *out)
{
	struct dentry *d = fs->mnt ? dentry_alloc(&fs->sb, NULL, name, strlen(name)) : NULL;

	if (!d) {
		inode_put(in);
		return -ENOMEM;
	}
	d->inode = in;
	*out = (struct path){mount_get(fs->mnt), d};
	return 0;
}

/* ---- the anonymous one ---- */

struct anon_inode {
	struct inode inode;
	void (*free_priv)(void *priv);
};

static struct pseudo_fs anon_fs;
static _Atomic uint64_t last_ino = 1;

static void anon_inode_free(struct inode *in)
{
	struct anon_inode *a = container_of(in, struct anon_inode, inode);

	if (a->free_priv)
		a->free_priv(in->priv);
	free(a);
}

static const struct inode_ops anon_inode_ops = {.free = anon_inode_free};

static struct inode *inode_new(uint32_t mode, void *priv, void (*free_priv)(void *))
{
	struct anon_inode *a = malloc(sizeof(*a));

	if (!a)
		return NULL;
	inode_init(&a->inode, &anon_fs.sb, &anon_inode_ops, atomic_fetch_add(&last_ino, 1), mode,
		   NULL);
	a->inode.priv = priv;
	a->free_priv = free_priv;
	return &a->inode;
}

static void anon_init(void)
{
	pseudo_fs_init(&anon_fs, "anon_inodefs", ANON_INODE_FS_MAGIC);
}

static bool anon_ready(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, anon_init);
	return anon_fs.mnt != NULL;
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
	struct path p;
	int err = pseudo_fs_path(&anon_fs, in, full, &p);
	if (err)
		return err;
	struct file *f = file_new(p, flags);
	path_put(p);
	if (!f)
		return -ENOMEM;
	f->ops = ops;
	f->priv = priv;
	*out = f;
	return 0;
}

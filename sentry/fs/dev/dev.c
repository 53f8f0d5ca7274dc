/* The table of devices, and the contents of /dev. */
#include "sentry/fs/dev/dev.h"

#include <errno.h>
#include <string.h>

#include "sentry/fs/dev/mem.h"
#include "sentry/fs/tmpfs/tmpfs.h"

#define TTY_MAJOR_AUX 5

int (*dev_tty_open)(struct file *f);
int (*dev_console_open)(struct file *f);

/* ---- opening ---- */

static struct device {
	bool block;
	unsigned major, minor;
	dev_open_fn open;
} devices[64];
static size_t ndevices; /* written at start-up only */

static struct device *device_find(bool block, unsigned major, unsigned minor)
{
	for (size_t i = 0; i < ndevices; i++) {
		struct device *dev = &devices[i];
		if (dev->block == block && dev->major == major && dev->minor == minor)
			return dev;
	}
	return NULL;
}

int dev_register(bool block, unsigned major, unsigned minor, dev_open_fn open)
{
	struct device *dev = device_find(block, major, minor);
	if (!dev) {
		if (ndevices == ARRAY_SIZE(devices))
			return -ENOSPC;
		dev = &devices[ndevices++];
	}
	*dev = (struct device){block, major, minor, open};
	return 0;
}

/* The inverse of dev_encode. */
static unsigned rdev_major(uint64_t rdev)
{
	return (rdev >> 8 & 0xfff) | (rdev >> 32 & 0xfffff000);
}

static unsigned rdev_minor(uint64_t rdev)
{
	return (rdev & 0xff) | (rdev >> 12 & 0xffffff00);
}

static int open_device(struct inode *in, struct file *f)
{
	bool block = S_ISBLK(in->mode);
	unsigned major = rdev_major(in->rdev);
	struct device *dev = device_find(block, major, rdev_minor(in->rdev));
	if (!dev)
		dev = device_find(block, major, DEV_ANY_MINOR);
	return dev ? dev->open(in, f) : -ENXIO;
}

static int tty_open(struct inode *in, struct file *f)
{
	(void)in;
	return dev_tty_open ? dev_tty_open(f) : -ENXIO;
}

static int console_open(struct inode *in, struct file *f)
{
	(void)in;
	return dev_console_open ? dev_console_open(f) : -ENXIO;
}

int dev_init(void)
{
	int err = mem_devices_register();
	if (!err)
		err = dev_register(false, TTY_MAJOR_AUX, 0, tty_open);
	if (!err)
		err = dev_register(false, TTY_MAJOR_AUX, 1, console_open);
	vfs_open_device = open_device;
	return err;
}

/* ---- /dev ---- */

static const struct {
	const char *name;
	unsigned mode, major, minor;
} nodes[] = {
	{"null", 0666, MEM_MAJOR, MEM_NULL},	   {"zero", 0666, MEM_MAJOR, MEM_ZERO},
	{"full", 0666, MEM_MAJOR, MEM_FULL},	   {"random", 0666, MEM_MAJOR, MEM_RANDOM},
	{"urandom", 0666, MEM_MAJOR, MEM_URANDOM}, {"tty", 0666, TTY_MAJOR_AUX, 0},
	{"console", 0620, TTY_MAJOR_AUX, 1},	   {"fuse", 0666, 10, 229},
};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"},	     {"ptmx", "pts/ptmx"},
};

static const struct {
	const char *name;
	unsigned mode;
} dirs[] = {{"shm", 01777}, {"pts", 0755}, {"mqueue", 01777}};

/* Makes one name: a directory, a link with `target`, or a node. */
static int make_entry(struct dentry *dir, const char *name, size_t len, uint32_t mode,
		      uint64_t rdev, const char *target, const struct cred *c, struct dentry **out)
{
	struct dentry *d;
	int err = dentry_lookup(dir, name, len, &d);
	if (err)
		return err;
	if (d->inode)
		err = -EEXIST;
	else if (target)
		err = vfs_do_symlink(dir, d, target, c);
	else if (S_ISDIR(mode))
		err = vfs_do_mkdir(dir, d, mode & 07777, c);
	else
		err = vfs_do_mknod(dir, d, mode, rdev, c);
	if (out && (!err || err == -EEXIST))
		*out = d;
	else
		dentry_put(d);
	return err == -EEXIST ? 0 : err;
}

int dev_add_node(struct dentry *dev, const char *name, uint32_t mode, uint64_t rdev, uint32_t uid,
		 uint32_t gid)
{
	struct cred *c = cred_new_root();
	if (!c)
		return -ENOMEM;
	struct dentry *dir = dentry_get(dev), *next = NULL;
	int err = 0;
	const char *slash;
	for (; !err && (slash = strchr(name, '/')); name = slash + 1) {
		if (slash == name)
			continue;
		err = make_entry(dir, name, slash - name, S_IFDIR | 0755, 0, NULL, c, &next);
		if (!err) {
			dentry_put(dir);
			dir = next;
		}
	}
	c->fsuid = uid;
	c->fsgid = gid;
	if (!err)
		err = make_entry(dir, name, strlen(name), mode, rdev, NULL, c, NULL);
	dentry_put(dir);
	cred_put(c);
	return err;
}

int dev_populate(struct dentry *dev)
{
	struct cred *c = cred_new_root();
	int err = c ? 0 : -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(nodes) && !err; i++)
		err = make_entry(dev, nodes[i].name, strlen(nodes[i].name), S_IFCHR | nodes[i].mode,
				 dev_encode(nodes[i].major, nodes[i].minor), NULL, c, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(links) && !err; i++)
		err = make_entry(dev, links[i].name, strlen(links[i].name), 0, 0, links[i].target,
				 c, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && !err; i++)
		err = make_entry(dev, dirs[i].name, strlen(dirs[i].name), S_IFDIR | dirs[i].mode, 0,
				 NULL, c, NULL);
	cred_put(c);
	return err;
}

int devtmpfs_mount(const char *options, struct super_block **out)
{
	struct super_block *sb;
	int err = tmpfs_mount_as("devtmpfs", options && *options ? options : "mode=755", &sb);
	if (err)
		return err;
	if ((err = dev_populate(sb->root))) {
		super_put(sb);
		return err;
	}
	*out = sb;
	return 0;
}

/* What config.json wants of the finished tree: linux.devices, linux.sysctl. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sentry/boot/internal.h"
#include "sentry/lib/log.h"
#include "sentry/vfs/file.h"

#define VALUE_MAX 4096

/* ---- devices ---- */

struct node {
	uint32_t mode, uid, gid;
	uint64_t rdev;
	const char *path;
};

static bool parse_node(const char *text, struct node *n)
{
	unsigned major, minor;
	char kind;
	int at = 0;

	if (sscanf(text, "%c %u %u %o %u %u %n", &kind, &major, &minor, &n->mode, &n->uid, &n->gid,
		   &at) < 6 ||
	    text[at] != '/')
		return false;
	n->mode |= kind == 'c' ? S_IFCHR : kind == 'b' ? S_IFBLK : S_IFIFO;
	n->rdev = kind == 'p' ? 0 : dev_encode(major, minor);
	n->path = text + at;
	return true;
}

/* What an image has in its place goes, unless it is the same. */
static int make_node(const struct walk_env *env, const struct node *n, struct path *out)
{
	int err = path_walk(env, n->path, WALK_NOFOLLOW, out);

	if (!err) {
		const struct inode *in = out->dentry->inode;
		if ((in->mode & S_IFMT) == (n->mode & S_IFMT) && in->rdev == n->rdev)
			return 0;
		path_put(*out);
		if ((err = vfs_unlink(env, n->path, false)))
			return err;
	} else if (err != -ENOENT) {
		return err;
	} else if ((err = boot_make_parents(env, n->path))) {
		return err;
	}
	return vfs_mknod(env, n->path, n->mode, n->rdev, out);
}

int boot_devices_make(const struct walk_env *env, char *const *devices, struct boot_error *be)
{
	for (; devices && *devices; devices++) {
		struct node n;
		struct path p;
		if (!parse_node(*devices, &n))
			return boot_fail(be, -EINVAL, "linux.devices: \"%s\"", *devices);
		int err = make_node(env, &n, &p);
		if (err)
			return boot_fail(be, err, "linux.devices: making %s: %s", n.path,
					 strerror(-err));
		const struct iattr a = {.valid = ATTR_MODE | ATTR_UID | ATTR_GID,
					.mode = n.mode & 07777,
					.uid = n.uid,
					.gid = n.gid};
		err = vfs_setattr(p, &a, env->cred);
		path_put(p);
		if (err)
			return boot_fail(be, err, "linux.devices: owner and mode of %s: %s", n.path,
					 strerror(-err));
	}
	return 0;
}

/* ---- sysctl ---- */

/* "kernel.shm_rmid_forced" and "net/ipv4/conf/eth0.1/forwarding" alike; *value is what follows "=".
 */
static bool parse_sysctl(const char *text, char *path, size_t size, const char **value)
{
	static const char base[] = "/proc/sys/";
	size_t len = strcspn(text, "="), first = strcspn(text, "./=");

	if (!text[len] || !len || sizeof(base) + len > size)
		return false;
	memcpy(path, base, sizeof(base) - 1);
	memcpy(path + sizeof(base) - 1, text, len);
	path[sizeof(base) - 1 + len] = 0;
	if (text[first] == '.')
		for (char *p = path + sizeof(base) - 1; *p; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	*value = text + len + 1;
	return !strstr(path, "..");
}

/* Values that cannot be changed here may be wanted as they are. */
static bool has_value(const struct walk_env *env, const char *path, const char *value)
{
	char now[VALUE_MAX];
	struct file *f;

	if (vfs_open(env, path, O_RDONLY, 0, 0, &f))
		return false;
	ssize_t n = file_pread(f, now, sizeof(now) - 1, 0);
	file_put(f);
	if (n < 0)
		return false;
	while (n && now[n - 1] == '\n')
		n--;
	return (size_t)n == strlen(value) && !memcmp(now, value, (size_t)n);
}

static int set_value(const struct walk_env *env, const char *path, const char *value)
{
	struct file *f;
	int err = vfs_open(env, path, O_WRONLY, 0, 0, &f);

	if (err)
		return err;
	ssize_t n = file_pwrite(f, value, strlen(value), 0);
	file_put(f);
	return n < 0 ? (int)n : 0;
}

int boot_sysctls_set(const struct walk_env *env, char *const *sysctls, struct boot_error *be)
{
	char path[VFS_PATH_MAX];
	const char *value;

	for (; sysctls && *sysctls; sysctls++) {
		if (!parse_sysctl(*sysctls, path, sizeof(path), &value))
			return boot_fail(be, -EINVAL, "linux.sysctl: \"%s\"", *sysctls);
		int err = set_value(env, path, value);
		if (!err || has_value(env, path, value))
			continue;
		/* Engines set some of the network's for everybody. */
		if (err == -ENOENT && !strncmp(*sysctls, "net", 3)) {
			log_warn("linux.sysctl: \"%s\": there is no such value, ignored", *sysctls);
			continue;
		}
		return boot_fail(be, err, "linux.sysctl: \"%s\": %s", *sysctls,
				 err == -ENOENT ? "there is no such value" : strerror(-err));
	}
	return 0;
}

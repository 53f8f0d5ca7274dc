/* fsopen(2), fspick(2), fsconfig(2), fsmount(2): mounting in steps. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/mm/uaccess.h"
#include "sentry/vfs/mount.h"
#include "sentry/vfs/landlock.h"
#include "syscalls/file_io.h"
#include "syscalls/mount_util.h"
#include "syscalls/syscalls.h"

#define WORD_MAX 256	  /* a key or value, with its NUL */
#define OPTIONS_MAX 65536 /* all of them */
#define LOG_MAX 512
#define CMD_CREATE_EXCL 8

enum phase { TAKES_OPTIONS, AWAITS_MOUNT, TAKES_CHANGES, FAILED };

/* What has been said so far.  Calls hold `busy`. */
struct conf {
	struct sleep_lock busy;
	const struct fs_type *type;
	enum phase phase;
	char *options; /* "key=value,flag", commas in values escaped */
	char *source;
	int readonly;		/* -1: nothing was said */
	struct super_block *sb; /* a reference, once it is made or when it was picked */
	struct mutex log_lock;	/* lc_leaf */
	char log[LOG_MAX];	/* messages for read(2), a line each */
};

static void conf_release(struct file *f)
{
	struct conf *c = f->priv;

	super_put(c->sb);
	free(c->options);
	free(c->source);
	free(c);
}

/* One message a read; ENODATA when there is none. */
static ssize_t conf_read(struct file *f, struct uio *io, int64_t *off)
{
	struct conf *c = f->priv;
	char line[LOG_MAX];
	ssize_t err = 0;

	(void)off;
	mutex_lock(&c->log_lock, &lc_leaf);
	size_t n = strcspn(c->log, "\n");
	if (!c->log[0])
		err = -ENODATA;
	else if (n > io->left)
		err = -EMSGSIZE;
	if (!err) {
		memcpy(line, c->log, n);
		memmove(c->log, c->log + n + 1, strlen(c->log + n + 1) + 1);
	}
	mutex_unlock(&c->log_lock, &lc_leaf);
	return err ? err : uio_put(io, line, n);
}

static const struct file_ops conf_ops = {
	.stream = true,
	.read = conf_read,
	.release = conf_release,
};

static void complain(struct conf *c, const char *what, const char *key)
{
	mutex_lock(&c->log_lock, &lc_leaf);
	size_t used = strlen(c->log);
	int n = snprintf(c->log + used, LOG_MAX - used, "e %s: %s '%s'\n", c->type->name, what,
			 key);
	if (n < 0 || (size_t)n >= LOG_MAX - used)
		c->log[used] = 0;
	mutex_unlock(&c->log_lock, &lc_leaf);
}

/* sb: NULL, or what is to be changed; takes a reference. */
static long conf_open(struct task *t, const struct fs_type *type, struct super_block *sb,
		      bool cloexec)
{
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	struct conf *c = in ? calloc(1, sizeof(*c)) : NULL;
	struct file *f;

	if (!c) {
		inode_put(in);
		return -ENOMEM;
	}
	sleep_lock_init(&c->busy);
	mutex_init(&c->log_lock);
	c->type = type;
	c->readonly = -1;
	c->phase = sb ? TAKES_CHANGES : TAKES_OPTIONS;
	int err = file_new_anon(in, "[fscontext]", &conf_ops, c, O_RDWR, &f);
	if (err) {
		free(c);
		return err;
	}
	c->sb = sb ? super_get(sb) : NULL;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, cloexec);
}

/* A string of the guest's; too long is EINVAL, as strndup_user() has it. */
static int word_in(struct task *t, char *to, uaddr_t from, size_t size)
{
	ssize_t n = copy_in_str(&t->um, to, from, size);

	return n == -ENAMETOOLONG ? -EINVAL : n < 0 ? (int)n : 0;
}

long sys_fsopen(struct task *t, uaddr_t uname, unsigned flags)
{
	struct path_name name;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~(unsigned)FSOPEN_CLOEXEC)
		return -EINVAL;
	int err = word_in(t, name.s, uname, sizeof(name.s));
	if (err)
		return err;
	const struct fs_type *type = vfs_fs_find(name.s);
	if (!type)
		return -ENODEV;
	return conf_open(t, type, NULL, flags & FSOPEN_CLOEXEC);
}

long sys_fspick(struct task *t, int dirfd, uaddr_t name, unsigned flags)
{
	const unsigned known =
		FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH;
	CLEANUP_PATH struct path p = {NULL, NULL};

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~known)
		return -EINVAL;
	int err = path_at(t, dirfd, name,
			  (flags & FSPICK_SYMLINK_NOFOLLOW ? WALK_NOFOLLOW : 0) |
				  (flags & FSPICK_EMPTY_PATH ? WALK_EMPTY : 0),
			  &p);
	if (err)
		return err;
	const struct fs_type *type = vfs_fs_find(p.mnt->sb->fstype);
	if (p.mnt->root != p.dentry)
		return -EINVAL;
	return type ? conf_open(t, type, p.mnt->sb, flags & FSPICK_CLOEXEC) : -EOPNOTSUPP;
}

/* ---- options ---- */

/* Is it one of the type's options, with or without a value? */
static bool is_known(const struct fs_type *type, const char *key, bool value)
{
	size_t n = strlen(key);

	for (const char *k = type->keys; *k; k += strcspn(k, " "), k += *k == ' ')
		if (!strncmp(k, key, n) && (k[n] == '=') == value &&
		    (value || !k[n] || k[n] == ' '))
			return true;
	return false;
}

/* Flags that all file systems have. */
static bool take_common(struct conf *c, const char *key)
{
	static const char *const without_effect[] = {"sync", "async",  "dirsync",   "lazytime",
						     "mand", "nomand", "nolazytime"};

	if (!strcmp(key, "ro") || !strcmp(key, "rw")) {
		c->readonly = key[1] == 'o';
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(without_effect); i++)
		if (!strcmp(key, without_effect[i]))
			return true;
	return false;
}

static int take_source(struct conf *c, const char *value)
{
	if (c->source) {
		complain(c, "Multiple sources", value);
		return -EINVAL;
	}
	c->source = strdup(value);
	return c->source ? 0 : -ENOMEM;
}

static int append_option(struct conf *c, const char *key, const char *value)
{
	size_t used = c->options ? strlen(c->options) : 0;
	size_t room = used + strlen(key) + 2 * (value ? strlen(value) : 0) + 3;
	char *p = room <= OPTIONS_MAX ? realloc(c->options, room) : NULL;

	if (!p)
		return -ENOMEM;
	c->options = p;
	p += used;
	p += sprintf(p, "%s%s%s", used ? "," : "", key, value ? "=" : "");
	for (; value && *value; value++) {
		if (*value == ',')
			*p++ = '\\';
		*p++ = *value;
	}
	*p = 0;
	return 0;
}

/* value NULL: a flag */
static int take_option(struct conf *c, const char *key, const char *value)
{
	if (c->phase != TAKES_OPTIONS && c->phase != TAKES_CHANGES)
		return -EBUSY;
	if (!value && take_common(c, key))
		return 0;
	if (value && !strcmp(key, "source"))
		return take_source(c, value);
	if (is_known(c->type, key, value != NULL))
		return append_option(c, key, value);
	complain(c, is_known(c->type, key, value == NULL) ? "Bad value for" : "Unknown parameter",
		 key);
	return -EINVAL;
}

/* ---- commands ---- */

static int create(struct task *t, struct conf *c)
{
	if (c->phase != TAKES_OPTIONS)
		return -EBUSY;
	const struct fs_params p = {.options = c->options, .source = c->source};
	int err = task_make_fs(t, c->type, &p, &c->sb);
	if (!err && c->readonly == 1)
		c->sb->readonly = true;
	c->phase = err ? FAILED : AWAITS_MOUNT;
	return err;
}

static int reconfigure(struct task *t, struct conf *c)
{
	if (c->phase != TAKES_CHANGES)
		return -EBUSY;
	if (landlock_may_mount(t->cred))
		return -EPERM;
	bool readonly = c->readonly < 0 ? c->sb->readonly : c->readonly;
	int err = super_reconfigure(c->sb, c->options, readonly, t->cred);
	if (err) {
		c->phase = FAILED;
		return err;
	}
	free(c->options);
	c->options = NULL;
	c->readonly = -1;
	return 0;
}

/* Which arguments a command has: fsconfig(2). */
static int check_arguments(unsigned cmd, uaddr_t key, uaddr_t value, int aux)
{
	bool k = key.v != 0, v = value.v != 0, ok;

	switch (cmd) {
	case FSCONFIG_SET_FLAG:
		ok = k && !v && !aux;
		break;
	case FSCONFIG_SET_STRING:
		ok = k && v && !aux;
		break;
	case FSCONFIG_SET_BINARY:
		ok = k && v && aux > 0 && aux <= 1 << 20;
		break;
	case FSCONFIG_SET_PATH:
	case FSCONFIG_SET_PATH_EMPTY:
		ok = k && v && (aux == AT_FDCWD || aux >= 0);
		break;
	case FSCONFIG_SET_FD:
		ok = k && !v && aux >= 0;
		break;
	case FSCONFIG_CMD_CREATE:
	case CMD_CREATE_EXCL:
	case FSCONFIG_CMD_RECONFIGURE:
		ok = !k && !v && !aux;
		break;
	default:
		return -EOPNOTSUPP;
	}
	return ok ? 0 : -EINVAL;
}

static int configure(struct task *t, struct conf *c, unsigned cmd, const char *key,
		     const char *value)
{
	switch (cmd) {
	case FSCONFIG_SET_FLAG:
		return take_option(c, key, NULL);
	case FSCONFIG_SET_STRING:
	case FSCONFIG_SET_FD:
		return take_option(c, key, value);
	case FSCONFIG_CMD_CREATE:
	case CMD_CREATE_EXCL: /* each of ours is new */
		return create(t, c);
	case FSCONFIG_CMD_RECONFIGURE:
		return reconfigure(t, c);
	}
	complain(c, "Bad value for", key);
	return -EINVAL;
}

long sys_fsconfig(struct task *t, int fd, unsigned cmd, uaddr_t ukey, uaddr_t uvalue, int aux)
{
	char key[WORD_MAX] = "", value[WORD_MAX] = "";

	if (fd < 0)
		return -EINVAL;
	int err = check_arguments(cmd, ukey, uvalue, aux);
	if (err)
		return err;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	if (f->ops != &conf_ops)
		return -EINVAL;
	if (cmd == FSCONFIG_SET_FD)
		snprintf(value, sizeof(value), "%d", aux);
	if ((ukey.v && (err = word_in(t, key, ukey, sizeof(key)))) ||
	    (cmd == FSCONFIG_SET_STRING && (err = word_in(t, value, uvalue, sizeof(value)))))
		return err;
	struct conf *c = f->priv;
	if ((err = task_sleep_lock(t, &c->busy)))
		return err;
	err = configure(t, c, cmd, key, value);
	sleep_lock_release(&c->busy);
	return err;
}

static int mount_made(struct task *t, struct conf *c, unsigned flags, struct file **out)
{
	if (!c->sb)
		return -EINVAL;
	if (c->phase != AWAITS_MOUNT)
		return -EBUSY;
	int err = mount_tree_new(t->fs->mnt_ns, c->sb, flags, c->source ? c->source : "none", out);
	if (err)
		return err;
	/* From now on it is about what has been mounted. */
	c->phase = TAKES_CHANGES;
	c->readonly = -1;
	free(c->options);
	c->options = NULL;
	return 0;
}

long sys_fsmount(struct task *t, int fd, unsigned flags, unsigned attrs)
{
	unsigned mount_flags = mount_flags_from_attr(attrs);
	struct file *tree;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~(unsigned)FSMOUNT_CLOEXEC || attrs & ~(unsigned)MOUNT_ATTRS)
		return -EINVAL;
	int err = mount_atime_flags(attrs, &mount_flags);
	if (err)
		return err;
	CLEANUP_FILE struct file *f = fdtable_file(t->fds, fd);
	if (!f)
		return -EBADF;
	if (f->ops != &conf_ops)
		return -EINVAL;
	struct conf *c = f->priv;
	if ((err = task_sleep_lock(t, &c->busy)))
		return err;
	err = mount_made(t, c, mount_flags, &tree);
	sleep_lock_release(&c->busy);
	if (err)
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), tree,
			       flags & FSMOUNT_CLOEXEC);
}

/* landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stddef.h>

#include "sentry/lib/cleanup.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/landlock.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

/* ---- rulesets as files ---- */

static ssize_t ruleset_io(struct file *f, struct uio *io, int64_t *off)
{
	(void)f, (void)io, (void)off;
	return -EINVAL;
}

static void ruleset_release(struct file *f)
{
	landlock_ruleset_free(f->priv);
}

static const struct file_ops ruleset_ops = {
	.read = ruleset_io,
	.write = ruleset_io,
	.stream = true,
	.release = ruleset_release,
};

/* -EBADF, -EBADFD: another file */
static int ruleset_get(struct task *t, int fd, struct file **f, struct landlock_ruleset **rs)
{
	struct file *file = fdtable_file(t->fds, fd);

	if (!file)
		return -EBADF;
	if (file->ops != &ruleset_ops) {
		file_put(file);
		return -EBADFD;
	}
	*f = file;
	*rs = file->priv;
	return 0;
}

static int ruleset_file(const struct landlock_handled *h, struct file **out)
{
	struct landlock_ruleset *rs = landlock_ruleset_new(h, &landlock_path_objects);

	if (!rs)
		return -ENOMEM;
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int err = in ? file_new_anon(in, "anon_inode:[landlock-ruleset]", &ruleset_ops, rs, O_RDWR,
				     out)
		     : -ENOMEM;
	if (err)
		landlock_ruleset_free(rs);
	return err;
}

long sys_landlock_create_ruleset(struct task *t, uaddr_t uattr, uint64_t size, unsigned flags)
{
	struct linux_landlock_ruleset_attr a;
	struct file *f;

	if (flags) {
		if (uattr.v || size)
			return -EINVAL;
		if (flags == LINUX_LANDLOCK_CREATE_VERSION)
			return LINUX_LANDLOCK_ABI;
		return flags == LINUX_LANDLOCK_CREATE_ERRATA ? LINUX_LANDLOCK_ERRATA : -EINVAL;
	}
	if (!uattr.v)
		return -EFAULT;
	if (size < offsetof(struct linux_landlock_ruleset_attr, handled_access_net))
		return -EINVAL;
	int err = copy_in_extensible(t, &a, sizeof(a), uattr, size);
	if (err)
		return err;
	if (a.handled_access_fs & ~(uint64_t)LL_FS_ALL ||
	    a.handled_access_net & ~(uint64_t)LL_NET_ALL || a.scoped & ~(uint64_t)LL_SCOPE_ALL)
		return -EINVAL;
	if (!(a.handled_access_fs | a.handled_access_net | a.scoped))
		return -ENOMSG;
	const struct landlock_handled h = {
		.access = {[LANDLOCK_PATH] = (uint32_t)a.handled_access_fs,
			   [LANDLOCK_PORT] = (uint32_t)a.handled_access_net},
		.scoped = (uint32_t)a.scoped,
	};
	if ((err = ruleset_file(&h, &f)))
		return err;
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, true);
}

/* ---- rules ---- */

/* A rule has to allow something, and nothing that the ruleset does not handle. */
static int check_access(const struct landlock_ruleset *rs, enum landlock_kind kind, uint64_t access)
{
	if (!access)
		return -ENOMSG;
	return access & ~(uint64_t)rs->handled.access[kind] ? -EINVAL : 0;
}

static int add_path(struct task *t, struct landlock_ruleset *rs, uaddr_t uattr)
{
	struct linux_landlock_path_beneath a;
	int err = copy_in_val(&t->um, &a, uattr);

	if (err || (err = check_access(rs, LANDLOCK_PATH, a.allowed_access)))
		return err;
	CLEANUP_FILE struct file *f = fdtable_file_any(t->fds, a.parent_fd);
	if (!f)
		return -EBADF;
	return landlock_rule_add_path(rs, f->path, (uint32_t)a.allowed_access);
}

static int add_port(struct task *t, struct landlock_ruleset *rs, uaddr_t uattr)
{
	struct linux_landlock_net_port a;
	int err = copy_in_val(&t->um, &a, uattr);

	if (err || (err = check_access(rs, LANDLOCK_PORT, a.allowed_access)))
		return err;
	if (a.port > UINT16_MAX)
		return -EINVAL;
	return landlock_rule_add(rs, LANDLOCK_PORT, a.port, (uint32_t)a.allowed_access, NULL);
}

long sys_landlock_add_rule(struct task *t, int fd, int type, uaddr_t uattr, unsigned flags)
{
	CLEANUP_FILE struct file *f = NULL;
	struct landlock_ruleset *rs;

	if (flags)
		return -EINVAL;
	int err = ruleset_get(t, fd, &f, &rs);
	if (err)
		return err;
	switch (type) {
	case LINUX_LANDLOCK_RULE_PATH_BENEATH:
		return add_path(t, rs, uattr);
	case LINUX_LANDLOCK_RULE_NET_PORT:
		return add_port(t, rs, uattr);
	}
	return -EINVAL;
}

/* ---- the domain ---- */

long sys_landlock_restrict_self(struct task *t, int fd, unsigned flags)
{
	CLEANUP_FILE struct file *f = NULL;
	struct landlock_ruleset *rs;
	struct landlock_domain *d;

	if (!t->no_new_privs && !task_own_capable(t, CAP_SYS_ADMIN))
		return -EPERM;
	if (flags & ~LINUX_LANDLOCK_LOG_FLAGS)
		return -EINVAL;
	/* To say something about the log alone needs no rules. */
	if (fd == -1 && flags == LINUX_LANDLOCK_LOG_SUBDOMAINS_OFF)
		return 0;
	int err = ruleset_get(t, fd, &f, &rs);
	if (err)
		return err;
	struct cred *new = cred_dup(t->cred);
	if (!new)
		return -ENOMEM;
	if ((err = landlock_restrict(new->landlock, rs, &d))) {
		cred_put(new);
		return err;
	}
	landlock_domain_put(new->landlock);
	new->landlock = d;
	task_set_cred(t, new);
	return 0;
}

/* From a description of a process to a thread group that is ready to start. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/boot/internal.h"
#include "sentry/fs/host/hostfile.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/tty.h"
#include "sentry/lib/cleanup.h"
#include "sentry/vfs/file.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Engines look for these words, in this spelling, in what `exec` failed with. */
static const char *exec_error(int err)
{
	return err == -EACCES	 ? "permission denied"
	       : err == -ENOENT	 ? "no such file or directory"
	       : err == -ENOEXEC ? "exec format error"
				 : strerror(-err);
}

static const char *env_lookup(const struct boot_process *p, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < p->envc; i++)
		if (!strncmp(p->envp[i], name, len) && p->envp[i][len] == '=')
			return p->envp[i] + len + 1;
	return NULL;
}

static struct cred *make_cred(const struct boot_process *p)
{
	struct cred *old = cred_new_root();
	if (!old || cred_set_groups(old, p->groups, p->ngroups)) {
		cred_put(old);
		return NULL;
	}
	old->uid = old->euid = old->suid = old->fsuid = p->uid;
	old->gid = old->egid = old->sgid = old->fsgid = p->gid;
	old->cap_bounding = p->cap_bounding & CAP_FULL;
	old->cap_permitted = p->cap_permitted & CAP_FULL;
	old->cap_effective = p->cap_effective & old->cap_permitted;
	old->cap_inheritable = p->cap_inheritable & CAP_FULL;
	old->cap_ambient = p->cap_ambient & old->cap_permitted & old->cap_inheritable;
	/* The program is executed with these, by execve's rules. */
	struct cred *new = cred_dup(old);
	const struct exec_grant plain = {false};
	bool secure;
	if (new &&cred_exec(new, old, &plain, 0, &secure)) {
		cred_put(new);
		new = NULL;
	}
	cred_put(old);
	return new;
}

static int enter_cwd(struct walk_env *env, const char *cwd, struct path *out, struct boot_error *be)
{
	int err = path_walk(env, cwd, WALK_DIRECTORY, out);

	if (err == -ENOENT && !(err = boot_mkdir_all(env, cwd)))
		err = path_walk(env, cwd, WALK_DIRECTORY, out);
	if (err)
		return boot_fail(be, err, "working directory \"%s\": %s", cwd, strerror(-err));
	return 0;
}

/*
 * HOME, when the description has none: from the container's /etc/passwd, as execvp's callers
 * expect from a login.  The text is small: a file beyond the buffer is searched as far as it goes.
 */
static char *home_of(const struct walk_env *env, uint32_t uid)
{
	char *result = NULL, *save, *buf = malloc(65536);
	struct file *f = NULL;

	if (!buf)
		return NULL;
	if (!vfs_open(env, "/etc/passwd", O_RDONLY | O_NONBLOCK, 0, 0, &f) &&
	    S_ISREG(f->inode->mode)) {
		ssize_t n = file_pread(f, buf, 65535, 0);
		buf[n > 0 ? n : 0] = 0;
		for (char *l = strtok_r(buf, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
			char home[1024];
			unsigned id;
			if (sscanf(l, "%*[^:]:%*[^:]:%u:%*[^:]:%*[^:]:%1023[^:]", &id, home) != 2 &&
			    sscanf(l, "%*[^:]:%*[^:]:%u:%*[^:]::%1023[^:]", &id, home) != 2)
				continue;
			if (id == uid) {
				if (asprintf(&result, "HOME=%s", home) < 0)
					result = NULL;
				break;
			}
		}
	}
	file_put(f);
	free(buf);
	return result ? result : strdup("HOME=/");
}

/* Finds args[0] as execvp(3) does.  *name is malloc'ed: what the kernel calls the file. */
static int open_program(const struct walk_env *env, const struct boot_process *p, char **name,
			struct file **out, struct boot_error *be)
{
	const char *arg = p->argv[0], *path = env_lookup(p, "PATH");
	char full[VFS_PATH_MAX];
	int err = -ENOENT;

	if (strchr(arg, '/')) {
		err = vfs_open_exec(env, arg, 0, out);
		if (err)
			return boot_fail(be, err, "exec: \"%s\": %s", arg, exec_error(err));
		*name = strdup(arg);
		return *name ? 0 : -ENOMEM;
	}
	if (!path)
		path = DEFAULT_PATH;
	for (const char *dir = path; *arg;) {
		size_t n = strcspn(dir, ":");
		snprintf(full, sizeof(full), "%.*s/%s", n ? (int)n : 1, n ? dir : ".", arg);
		int e = vfs_open_exec(env, full, 0, out);
		if (!e) {
			*name = strdup(full);
			return *name ? 0 : -ENOMEM;
		}
		if (e == -EACCES)
			err = e;
		if (!dir[n])
			break;
		dir += n + 1;
	}
	if (err == -EACCES)
		return boot_fail(be, err, "exec: \"%s\": permission denied", arg);
	return boot_fail(be, err, "exec: \"%s\": executable file not found in $PATH", arg);
}

/* The terminal's file, by the name of /dev/console if there is one, so that ttyname(3) finds it. */
static int open_terminal(const struct walk_env *env, struct boot_process *p, int i,
			 struct tty **tty, struct file **out)
{
	struct path node;
	struct file *f;
	int err = hosttty_create(steal_fd(&p->stdio[i]), tty, &f);

	if (err)
		return err;
	hostfile_set_owner(f, p->uid);
	if (!path_walk(env, "/dev/console", 0, &node)) {
		struct file *named;
		if (!hosttty_open_node(*tty, node, &named)) {
			file_put(f);
			f = named;
		}
		path_put(node);
	}
	*out = f;
	return 0;
}

static int open_stream(struct boot_process *p, int i, struct file **out)
{
	int flags = fcntl(p->stdio[i], F_GETFL);
	if (flags < 0)
		return -errno;
	int err = hostfile_create(steal_fd(&p->stdio[i]), flags & (O_ACCMODE | O_APPEND), out);
	if (!err)
		hostfile_set_owner(*out, p->uid);
	return err;
}

/* Streams that are the terminal share one file; anything else has its own.  They are the user's, as
 * runc makes them, so that it may open /dev/stdout. */
static int open_stdio(const struct walk_env *env, struct boot_process *p, struct fdtable *fds,
		      struct tty **tty, struct boot_error *be)
{
	struct file *term = NULL;
	int err = 0;

	for (int i = 0; i < 3 && err >= 0; i++) {
		struct file *f = NULL;
		if (p->terminal && isatty(p->stdio[i])) {
			err = term ? 0 : open_terminal(env, p, i, tty, &term);
			f = term ? file_get(term) : NULL;
		} else {
			err = open_stream(p, i, &f);
		}
		if (!err)
			err = fdtable_install(fds, 3, f, false);
	}
	file_put(term);
	return err < 0 ? boot_fail(be, err, "standard streams: %s", strerror(-err)) : 0;
}

static void set_rlimits(const struct boot_process *p, struct krlimit *r)
{
	static const struct {
		int resource;
		uint64_t cur, max;
	} defaults[] = {
		{RLIMIT_STACK, 8 << 20, RLIM_K_INFINITY},
		{RLIMIT_CORE, 0, RLIM_K_INFINITY},
		{RLIMIT_NOFILE, 1024, 1 << 20},
		{RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
		{RLIMIT_MSGQUEUE, 819200, 819200},
		{RLIMIT_NICE, 0, 0},
		{RLIMIT_RTPRIO, 0, 0},
		{RLIMIT_SIGPENDING, 65536, 65536},
	};

	for (int i = 0; i < RLIM_NLIMITS; i++)
		r[i] = (struct krlimit){RLIM_K_INFINITY, RLIM_K_INFINITY};
	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		r[defaults[i].resource] = (struct krlimit){defaults[i].cur, defaults[i].max};
	for (size_t i = 0; i < p->nrlimits; i++)
		if (p->rlimits[i].resource >= 0 && p->rlimits[i].resource < RLIM_NLIMITS)
			r[p->rlimits[i].resource] =
				(struct krlimit){p->rlimits[i].cur, p->rlimits[i].max};
}

struct parts {
	struct cred *cred;
	struct fdtable *fds;
	struct fs_context *fs;
	struct file *file;
	struct tty *tty;
	char *name, *home;
	char **envp;
};

static void parts_fini(struct parts *x)
{
	file_put(x->file);
	if (x->fds)
		fdtable_put(x->fds);
	if (x->fs)
		fs_context_put(x->fs);
	if (x->tty)
		tty_put(x->tty);
	cred_put(x->cred);
	free(x->name);
	free(x->home);
	free(x->envp);
}

static int add_home(struct walk_env *env, struct boot_process *p, struct parts *x)
{
	if (env_lookup(p, "HOME"))
		return 0;
	x->home = home_of(env, p->uid);
	x->envp = calloc(p->envc + 2, sizeof(*x->envp));
	if (!x->home || !x->envp)
		return -ENOMEM;
	memcpy(x->envp, p->envp, p->envc * sizeof(*x->envp));
	x->envp[p->envc] = x->home;
	return 0;
}

static int assemble(struct container *ct, struct boot_process *p, struct parts *x,
		    struct boot_error *be)
{
	CLEANUP_PATH struct path root = mnt_ns_root(ct->mnt_ns);
	CLEANUP_PATH struct path cwd = {NULL, NULL};
	struct cred *su = cred_new_root();
	struct walk_env env = {.root = root, .start = root, .cred = su};

	x->cred = make_cred(p);
	x->fds = fdtable_new();
	if (!su || !x->cred || !x->fds) {
		cred_put(su);
		return boot_fail(be, -ENOMEM, "out of memory");
	}
	int err = enter_cwd(&env, p->cwd, &cwd, be);
	if (!err && add_home(&env, p, x))
		err = boot_fail(be, -ENOMEM, "out of memory");
	cred_put(su);
	if (err)
		return err;
	env.start = cwd;
	env.cred = x->cred;
	err = open_program(&env, p, &x->name, &x->file, be);
	if (!err)
		err = open_stdio(&env, p, x->fds, &x->tty, be);
	if (err)
		return err;
	x->fs = fs_context_new(ct->mnt_ns, root, cwd, p->umask);
	return x->fs ? 0 : boot_fail(be, -ENOMEM, "out of memory");
}

int boot_process_create(struct container *ct, struct boot_process *p, struct thread_group **out,
			struct boot_error *be)
{
	struct krlimit rlimits[RLIM_NLIMITS];
	struct parts x = {0};

	int err = assemble(ct, p, &x, be);
	if (!err) {
		set_rlimits(p, rlimits);
		const struct process_args a = {
			.container = ct,
			.exec = {.filename = x.name,
				 .file = x.file,
				 .argc = p->argc,
				 .argv = p->argv,
				 .envc = p->envc + (x.home != NULL),
				 .envp = x.envp ? x.envp : p->envp},
			.cred = x.cred,
			.fds = x.fds,
			.fs = x.fs,
			.rlimits = rlimits,
			.no_new_privs = p->no_new_privs,
			.oom_score_adj = p->oom_score_adj,
			.tty = x.tty,
		};
		err = kernel_process_create(&a, out);
		if (err)
			boot_fail(be, err, "exec %s: %s", x.name, exec_error(err));
	}
	for (int i = 0; i < 3; i++) {
		int fd = steal_fd(&p->stdio[i]);
		if (fd >= 0)
			close(fd);
	}
	parts_fini(&x);
	return err;
}

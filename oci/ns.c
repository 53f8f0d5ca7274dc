#include "oci/ns.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/securebits.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"

/*
 * Those that the clone itself has to make, and the others, which the child makes: a network
 * namespace takes the host more than a millisecond, and two children on two processors do it at the
 * same time.
 */
#define CLONE_NAMESPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)
#define CHILD_NAMESPACES (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

/*
 * Host ids for sandboxes: one each, from a range that no distribution assigns
 * (systemd.io/UIDS-GIDS: 1879048192…2147483647 is unused), told apart by the host's pid.
 */
#define SANDBOX_ID_BASE 0x70000000u
#define NOBODY 65534u

static int write_file(pid_t pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t len = strlen(text);
	return write(fd, text, len) == (ssize_t)len ? 0 : -errno;
}

static int map_one(pid_t pid, const char *kind, unsigned host)
{
	char text[64];

	snprintf(text, sizeof(text), "0 %u 1\n", host);
	return write_file(pid, kind, text);
}

static int map_nobody(pid_t pid, const char *kind, unsigned own)
{
	int err = map_one(pid, kind, SANDBOX_ID_BASE + (unsigned)pid);

	if (err)
		err = map_one(pid, kind, NOBODY);
	if (err && !strcmp(kind, "gid_map"))
		write_file(pid, "setgroups", "deny"); /* the price of an unprivileged gid map */
	return err ? map_one(pid, kind, own) : 0;
}

/* Each range that we have, mapped to itself. */
static int map_identity(pid_t pid, const char *kind, unsigned own)
{
	char path[64], line[128], text[4096] = "";
	size_t o = 0;

	snprintf(path, sizeof(path), "/proc/self/%s", kind);
	FILE *f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		unsigned inside, outside, size;
		if (sscanf(line, "%u %u %u", &inside, &outside, &size) == 3 &&
		    o + 40 < sizeof(text))
			o += (size_t)snprintf(text + o, 40, "%u %u %u\n", inside, inside, size);
	}
	fclose(f);
	if (!write_file(pid, kind, text))
		return 0;
	if (!strcmp(kind, "gid_map"))
		write_file(pid, "setgroups", "deny");
	return map_one(pid, kind, own);
}

static int write_maps(pid_t pid, enum ns_ids ids)
{
	int (*map)(pid_t, const char *, unsigned) =
		ids == NS_IDS_NOBODY ? map_nobody : map_identity;
	int err = map(pid, "gid_map", getegid());

	return err ? err : map(pid, "uid_map", geteuid());
}

/* What the sentry's start needs; all goes again before it serves anybody (ns_drop_caps). */
static const unsigned char start_caps[] = {CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_SYS_ADMIN};

static int caps_set_ambient(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	for (size_t i = 0; i < sizeof(start_caps); i++)
		data[0].effective |= 1u << start_caps[i];
	data[0].permitted = data[0].inheritable = data[0].effective;
	if (syscall(SYS_capset, &head, data))
		return -errno;
	for (size_t i = 0; i < sizeof(start_caps); i++)
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, start_caps[i], 0, 0))
			return -errno;
	return 0;
}

_Noreturn static void child(const struct ns_spawn *s, int sync)
{
	char arg[32], go;
	char *argv[] = {"runsc", (char *)s->command, arg, NULL};
	char *env[] = {NULL};
	sigset_t none;

	if (unshare(CHILD_NAMESPACES) || read(sync, &go, 1) != 1)
		_exit(EXIT_FAILURE);
	if (!s->same_session)
		setsid();
	signal(SIGPIPE, SIG_DFL); /* the one disposition that main() changes */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 ||
	    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC))
		_exit(EXIT_FAILURE);
	for (size_t i = 0; i < s->nkeep; i++)
		if (s->keep[i] >= 0 && fcntl(s->keep[i], F_SETFD, 0))
			_exit(EXIT_FAILURE);
	/* Our host id has no name in the new user namespace yet: an exec would drop everything. */
	if (s->ids == NS_IDS_NOBODY && caps_set_ambient())
		_exit(EXIT_FAILURE);
	snprintf(arg, sizeof(arg), "--config-fd=%d", s->config_fd);
	execve("/proc/self/exe", argv, env);
	_exit(EXIT_FAILURE);
}

int ns_spawn(const struct ns_spawn *s, pid_t *pid, int *pidfd, struct err *e)
{
	int sync[2], fd = -1;

	if (pipe2(sync, O_CLOEXEC))
		return err_errno(e, -errno, "creating a pipe");
	long flags = CLONE_NAMESPACES | CLONE_PIDFD | SIGCHLD;
	long p = syscall(SYS_clone, flags, NULL, &fd, NULL, 0);
	if (p == 0) {
		close(sync[1]);
		child(s, sync[0]);
	}
	int err = p < 0 ? -errno : 0;
	close(sync[0]);
	if (err) {
		close(sync[1]);
		return err_errno(e, err, "creating namespaces for \"runsc %s\"", s->command);
	}
	const struct rlimit nice = {NS_NICE_LIMIT, NS_NICE_LIMIT};
	(void)!prlimit((pid_t)p, RLIMIT_NICE, &nice, NULL);
	err = write_maps((pid_t)p, s->ids);
	if (!err && write(sync[1], "", 1) != 1)
		err = -errno;
	close(sync[1]);
	if (err) {
		kill((pid_t)p, SIGKILL);
		waitpid((pid_t)p, NULL, 0);
		close(fd);
		return err_errno(e, err, "mapping user ids of \"runsc %s\"", s->command);
	}
	*pid = (pid_t)p;
	*pidfd = fd;
	return 0;
}

int ns_take_ids(struct err *e)
{
	/* Without a privileged gid map setgroups is denied, and the groups are not ours to drop. */
	if (setgroups(0, NULL) && errno != EPERM)
		return err_errno(e, -errno, "setgroups");
	if (setresgid(0, 0, 0) || setresuid(0, 0, 0))
		return err_errno(e, -errno, "taking the sandbox's user id");
	/* The change of ids cleared it; guests' memory is read through it (see boot.h). */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		return err_errno(e, -errno, "prctl(PR_SET_DUMPABLE)");
	return 0;
}

int ns_private_mounts(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return err_errno(e, -errno, "making mounts private");
	return 0;
}

/* A detached mount of a fresh instance; options are NULL-terminated key, value pairs. */
static int fresh_mount(const char *type, const char *const *options, unsigned attr)
{
	CLEANUP_FD int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	for (; *options; options += 2)
		if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, options[0], options[1], 0))
			return -errno;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	int fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	return fd < 0 ? -errno : fd;
}

int ns_proc_open(struct err *e)
{
	static const char *const options[] = {"subset", "pid", NULL};
	int fd = fresh_mount("proc", options,
			     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);

	return fd < 0 ? err_errno(e, fd, "mounting procfs") : fd;
}

int ns_empty_root(struct err *e)
{
	static const char *const options[] = {"mode",	   "0555", "size", "4096",
					      "nr_inodes", "1",	   NULL};
	CLEANUP_FD int fd = fresh_mount("tmpfs", options,
					MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
						MOUNT_ATTR_NOEXEC);
	if (fd < 0)
		return err_errno(e, fd, "mounting an empty root");
	/* Over the old root, then exchanged with it: the old one then lies over the new one, and we
	 * stand in the new one, root and current directory (pivot_root(2), notes). */
	if (syscall(SYS_move_mount, fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) || fchdir(fd) ||
	    syscall(SYS_pivot_root, ".", "."))
		return err_errno(e, -errno, "entering an empty root");
	return 0;
}

int ns_leave_old_root(struct err *e)
{
	if (umount2(".", MNT_DETACH) || chdir("/"))
		return err_errno(e, -errno, "detaching the old root");
	return 0;
}

int ns_drop_caps(struct err *e)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) ||
	    prctl(PR_SET_SECUREBITS, bits, 0, 0, 0))
		return err_errno(e, -errno, "dropping capabilities");
	for (int c = 0; prctl(PR_CAPBSET_DROP, c, 0, 0, 0) == 0; c++)
		;
	if (errno != EINVAL) /* the first number that is no capability */
		return err_errno(e, -errno, "dropping capabilities");
	if (syscall(SYS_capset, &head, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_errno(e, -errno, "dropping capabilities");
	return 0;
}

#include "oci/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/config.h"
#include "oci/internal.h"
#include "oci/linux_spec.h"
#include "oci/mounts.h"
#include "oci/ns.h"
#include "oci/process.h"
#include "sentry/boot/boot.h"
#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

static int config_memfd(char *text, struct err *e)
{
	if (!text)
		return err_set(e, -EINVAL, "cannot describe the sandbox: text that is not UTF-8?");
	size_t len = strlen(text);
	CLEANUP_FD int fd = memfd_create("runsc-config", MFD_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && !lseek(fd, 0, SEEK_SET);
	free(text);
	return ok ? steal_fd(&fd) : err_errno(e, -errno, "passing the configuration");
}

static int open_panic_log(const char *path, int *fd, struct err *e)
{
	if (!*path)
		return 0;
	*fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return *fd < 0 ? err_errno(e, -errno, "opening \"%s\"", path) : 0;
}

/* Above the standard streams, where nothing of the new process's set-up overwrites it. */
static int dup_high(int fd, struct err *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 10);

	if (copy < 0 && errno == EBADF) { /* a closed stream of the caller */
		CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		copy = fcntl(null, F_DUPFD_CLOEXEC, 10);
	}
	return copy < 0 ? err_errno(e, -errno, "duplicating descriptor %d", fd) : copy;
}

static int spawn_gofer(const struct mount_plan *plan, int conn, int log_fd, struct sandbox *out,
		       struct err *e)
{
	int keep[2 + 1] = {conn, log_fd};
	CLEANUP_FD int pidfd = -1;
	CLEANUP_FD int cfd = config_memfd(internal_gofer_encode(plan, conn, log_fd), e);

	if (cfd < 0)
		return cfd;
	keep[2] = cfd;
	const struct ns_spawn s = {.command = "gofer",
				   .ids = NS_IDS_IDENTITY,
				   .keep = keep,
				   .nkeep = 3,
				   .config_fd = cfd};
	return ns_spawn(&s, &out->gofer_pid, &pidfd, e);
}

static int spawn_sentry(const struct boot_config *c, struct sandbox *out, struct err *e)
{
	CLEANUP_FD int cfd = config_memfd(boot_config_encode(c), e);
	if (cfd < 0)
		return cfd;
	const int *io = c->process.stdio;
	const int keep[] = {cfd,	 c->control_fd, c->gofer_fd, c->panic_fd, c->log_fd,
			    c->owner_fd, c->status_fd,	io[0],	     io[1],	  io[2]};
	const struct ns_spawn s = {.command = "boot",
				   .ids = NS_IDS_NOBODY,
				   .keep = keep,
				   .nkeep = ARRAY_SIZE(keep),
				   .config_fd = cfd};
	return ns_spawn(&s, &out->pid, &out->pidfd, e);
}

static void warn_unused(const struct spec *spec)
{
	const char *key;
	json_t *value;
	bool limits = false;

	/* Device rules are in every engine's specification and say nothing here. */
	json_object_foreach(spec->linux_.resources, key,
			    value) if (strcmp(key, "devices") != 0 && json_object_size(value))
		limits = true;
	if (limits && !config.ignore_cgroups)
		log_warn("linux.resources: cgroup limits are not applied yet");
}

static void describe(const struct spec *spec, const struct sandbox_options *o,
		     const struct mount_plan *plan, struct boot_config *c)
{
	static char host[65];

	gethostname(host, sizeof(host) - 1);
	c->platform = config.platform;
	c->container_id = o->id;
	c->hostname = spec->hostname && *spec->hostname ? spec->hostname : host;
	c->domainname = spec->domainname ? spec->domainname : "";
	c->root_source = "none";
	c->root_overlay = o->root_overlay;
	c->root_readonly = spec->root->readonly;
	c->mounts = plan->mounts;
	c->nmounts = plan->nmounts;
	c->masked_paths = spec->linux_.masked_paths;
	c->readonly_paths = spec->linux_.readonly_paths;
	c->strace = config.strace;
	c->allow_suid = config.allow_suid;
	c->strace_syscalls = config.strace_syscalls;
	c->systrap_patching = !config.no_patching;
	c->spin_us = config.spin_us;
	c->log_json = strcmp(config.log_format, "text") != 0 && !*config.debug_log;
	c->debug = config.debug;
	c->foreground = o->foreground;
	c->own_tty = o->own_tty;
}

static int await_created(struct sandbox *s, const char *id, struct err *e)
{
	json_t *reply;
	int err = client_recv(s->owner_fd, &reply, e);

	if (!err) {
		json_decref(reply);
		return 0;
	}
	if (err == -ECONNRESET)
		err = sandbox_died(s, id, e);
	return err;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* What the two processes get beside what describe() took from elsewhere; close_ends' in any case.
 */
static int open_ends(const struct sandbox_options *o, struct boot_config *c, int *gofer_end,
		     struct sandbox *s, struct err *e)
{
	int gofer[2], owner[2];

	for (int i = 0; i < 3; i++)
		if ((c->process.stdio[i] = dup_high(o->stdio[i], e)) < 0)
			return c->process.stdio[i];
	c->log_fd = config_child_log();
	int err = open_panic_log(config.panic_log, &c->panic_fd, e);
	if (err)
		return err;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, gofer))
		return err_errno(e, -errno, "creating sockets");
	c->gofer_fd = gofer[0];
	*gofer_end = gofer[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, owner))
		return err_errno(e, -errno, "creating sockets");
	c->owner_fd = owner[1];
	s->owner_fd = owner[0];
	return 0;
}

static void close_ends(const struct boot_config *c, int gofer_end)
{
	for (int i = 0; i < 3; i++)
		close_fd(c->process.stdio[i]);
	close_fd(c->panic_fd);
	close_fd(c->gofer_fd);
	close_fd(c->owner_fd);
	close_fd(gofer_end);
}

static int start(const struct mount_plan *plan, const struct sandbox_options *o,
		 struct boot_config *c, struct sandbox *s, struct err *e)
{
	int gofer_end = -1;
	int err = open_ends(o, c, &gofer_end, s, e);

	if (!err)
		err = spawn_sentry(c, s, e);
	if (!err)
		err = spawn_gofer(plan, gofer_end, c->log_fd, s, e);
	close_ends(c, gofer_end);
	if (!err)
		err = await_created(s, o->id, e);
	if (err)
		sandbox_kill(s);
	return err;
}

int sandbox_create(const struct spec *spec, const struct sandbox_options *o, struct sandbox *out,
		   struct err *e)
{
	struct boot_config c = {.proc_fd = -1,
				.control_fd = o->control_fd,
				.status_fd = o->status_fd,
				.gofer_fd = -1,
				.owner_fd = -1,
				.panic_fd = -1,
				.process.stdio = {-1, -1, -1}};
	bool all = !strncmp(config.overlay2, "all:", 4);
	struct mount_plan plan;

	warn_unused(spec);
	int err = mounts_plan(spec, o->bundle, o->root_overlay, all, &plan, e);
	if (err)
		return err;
	describe(spec, o, &plan, &c);
	const char *propagation = spec->linux_.rootfs_propagation;
	if (propagation && *propagation && mounts_propagation(propagation, &c.root_propagation)) {
		mounts_plan_fini(&plan);
		return err_set(e, -EINVAL,
			       "config.json: linux.rootfsPropagation: \"%s\" is unknown",
			       propagation);
	}
	*out = (struct sandbox){.pid = -1, .gofer_pid = -1, .pidfd = -1, .owner_fd = -1};
	err = linux_spec_describe(&spec->linux_, &c, e);
	if (!err)
		err = process_from_spec(spec->process, "config.json", &c.process, e);
	if (!err)
		err = start(&plan, o, &c, out, e);
	process_fini(&c.process);
	spec_strings_free(c.devices);
	spec_strings_free(c.sysctls);
	mounts_plan_fini(&plan);
	return err;
}

void sandbox_kill(struct sandbox *s)
{
	const pid_t pids[2] = {s->pid, s->gofer_pid};

	for (int i = 0; i < 2; i++) {
		if (pids[i] <= 0)
			continue;
		kill(pids[i], SIGKILL);
		while (waitpid(pids[i], NULL, 0) < 0 && errno == EINTR)
			;
	}
	s->pid = s->gofer_pid = -1;
	if (s->pidfd >= 0)
		close(s->pidfd);
	if (s->owner_fd >= 0)
		close(s->owner_fd);
	s->pidfd = s->owner_fd = -1;
}

void sandbox_reap(struct sandbox *s)
{
	struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

	if (s->pid > 0)
		poll(&p, 1, 2000);
	/* The gofer ends when its connection does; by then there is nothing for it to finish. */
	sandbox_kill(s);
}

int sandbox_died(struct sandbox *s, const char *id, struct err *e)
{
	char how[64] = "", where[300] = "";
	int status = 0;
	pid_t got;

	while ((got = waitpid(s->pid, &status, 0)) < 0 && errno == EINTR)
		;
	if (got == s->pid) {
		s->pid = -1;
		int code = WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			snprintf(how, sizeof(how), ": killed by signal %d (%s)", WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
		else if (code > 128) /* its crash handler's status */
			snprintf(how, sizeof(how), ": crashed, signal %d (%s)", code - 128,
				 strsignal(code - 128));
		else
			snprintf(how, sizeof(how), ": exit status %d", code);
	}
	if (*config.panic_log)
		snprintf(where, sizeof(where), "; see %s", config.panic_log);
	return err_set(e, -ECONNRESET, "sandbox \"%s\" exited unexpectedly%s%s", id, how, where);
}

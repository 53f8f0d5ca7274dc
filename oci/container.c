#include "oci/container.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/config.h"
#include "oci/console.h"
#include "oci/hooks.h"
#include "oci/spec.h"
#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

int write_pid_file(const char *path, int pid, struct err *e)
{
	char tmp[PATH_MAX];

	if (!*path)
		return 0;
	snprintf(tmp, sizeof(tmp), "%s.%d.new", path, getpid());
	CLEANUP_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || dprintf(fd, "%d", pid) < 0 || rename(tmp, path)) {
		int err = -errno;
		unlink(tmp);
		return err_errno(e, err, "writing pid file %s", path);
	}
	return 0;
}

static char *now_text(void)
{
	char sec[32], *text = NULL;
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(sec, sizeof(sec), "%Y-%m-%dT%H:%M:%S", &tm);
	return asprintf(&text, "%s.%09ldZ", sec, ts.tv_nsec) < 0 ? NULL : text;
}

/* From the file itself: the name services of the C library are shared objects. */
static char *owner_text(void)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *pw = NULL;
	char *text = NULL;

	while (f && (pw = fgetpwent(f)) && pw->pw_uid != geteuid())
		;
	if (pw)
		text = strdup(pw->pw_name);
	else if (asprintf(&text, "%u", geteuid()) < 0)
		text = NULL;
	if (f)
		fclose(f);
	return text;
}

/* "process" and "hooks" as the file has them; it was parsed before, so it is well-formed. */
static json_t *kept_parts(const char *bundle)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/config.json", bundle);
	json_t *all = json_load_file(path, 0, NULL), *kept = json_object();
	const char *const keys[] = {"process", "hooks"};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_object_get(all, keys[i]))
			json_object_set(kept, keys[i], json_object_get(all, keys[i]));
	json_decref(all);
	return kept;
}

static int init_state(struct state *s, const char *id, const char *bundle, const struct spec *spec,
		      struct err *e)
{
	*s = (struct state){.status = STATUS_CREATING, .pid = -1, .gofer_pid = -1};
	s->id = strdup(id);
	s->bundle = strdup(bundle);
	s->created = now_text();
	s->owner = owner_text();
	s->annotations = json_object();
	s->spec = kept_parts(bundle);
	if (!s->id || !s->bundle || !s->created || !s->owner || !s->annotations || !s->spec)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < spec->annotations.n; i++)
		json_object_set_new(s->annotations, spec->annotations.v[i].key,
				    json_string(spec->annotations.v[i].value));
	return 0;
}

/* A container whose creation was hooked is told to poststop hooks, however it ends. */
static int run_create_hooks(const struct state *s, struct err *e)
{
	static const char *const kinds[] = {"prestart", "createRuntime", "createContainer"};
	struct err ignored;
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !err; i++)
		err = hooks_run(s, kinds[i], STATUS_CREATING, false, e);
	if (err && hooks_run(s, "poststop", STATUS_STOPPED, true, &ignored))
		log_warn("%s", ignored.msg);
	return err;
}

static int open_terminal(const struct create_options *o, const struct spec *spec,
			 struct sandbox_options *so, struct err *e)
{
	bool given = o->console_socket && *o->console_socket;

	if (spec->process->terminal && !given && !o->foreground)
		return err_set(e, -EINVAL, "config.json: process.terminal: needs --console-socket");
	if (!spec->process->terminal && given)
		return err_set(e, -EINVAL, "--console-socket given, but process.terminal is false");
	if (!given)
		return 0;
	int fd = console_send(o->console_socket, spec->process, e);
	if (fd < 0)
		return fd;
	so->stdio[0] = so->stdio[1] = so->stdio[2] = fd;
	so->own_tty = true;
	return 0;
}

/* The sandbox, its hooks, its state; undone as a whole when anything fails. */
static int build(const struct create_options *o, const struct spec *spec, struct state *s,
		 struct sandbox *sb, struct err *e)
{
	CLEANUP_FD int control = state_listen(o->id, e);
	CLEANUP_FD int status = control < 0 ? -1 : state_status_create(o->id, e);
	struct sandbox_options so = {.id = o->id,
				     .bundle = s->bundle,
				     .control_fd = control,
				     .status_fd = status,
				     .stdio = {0, 1, 2},
				     .root_overlay = strcmp(config.overlay2, "none") != 0,
				     .foreground = o->foreground};
	if (control < 0 || status < 0)
		return control < 0 ? control : status;
	int err = open_terminal(o, spec, &so, e);
	if (!err)
		err = sandbox_create(spec, &so, sb, e);
	if (so.own_tty)
		close(so.stdio[0]);
	if (err)
		return err;
	s->pid = sb->pid;
	s->pid_start = process_start_time(sb->pid);
	s->gofer_pid = sb->gofer_pid;
	s->gofer_start = process_start_time(sb->gofer_pid);
	err = run_create_hooks(s, e);
	s->status = STATUS_CREATED;
	if (!err)
		err = state_save(s, e);
	if (!err && !o->foreground)
		err = client_do(sb->owner_fd, json_pack("{s:s}", "cmd", "disown"), e);
	/* Last: engines take the file as "ready". */
	if (!err && o->pid_file)
		err = write_pid_file(o->pid_file, sb->pid, e);
	if (err)
		sandbox_kill(sb);
	return err;
}

int container_create(const struct create_options *o, struct sandbox *sb, struct err *e)
{
	CLEANUP_STATE struct state s = {0}, old = {0};
	CLEANUP(spec_fini) struct spec spec = {0};
	struct err ignored;

	int err = state_check_id(o->id, e);
	if (err)
		return err;
	CLEANUP_FREE char *bundle = realpath(o->bundle, NULL);
	if (!bundle)
		return err_errno(e, -errno, "bundle \"%s\"", o->bundle);
	if ((err = spec_load(bundle, &spec, e)))
		return err;
	CLEANUP_FD int lock = state_lock(o->id, true, e);
	if (lock < 0)
		return lock;
	if (!state_load(o->id, &old, &ignored))
		return err_set(e, -EEXIST, "container with given ID already exists: \"%s\"", o->id);
	err = init_state(&s, o->id, bundle, &spec, e);
	if (!err)
		err = state_save(&s, e);
	if (!err)
		err = build(o, &spec, &s, sb, e);
	if (err)
		state_remove(o->id);
	return err;
}

int container_find(const char *id, struct state *s, enum status *status, struct err *e)
{
	int err = state_load(id, s, e);

	if (!err)
		*status = state_status(s);
	return err;
}

int container_connect(const char *id, struct state *s, struct err *e)
{
	enum status status;
	int err = container_find(id, s, &status, e);

	if (err)
		return err;
	if (status != STATUS_CREATED && status != STATUS_RUNNING)
		return err_set(e, -ESRCH, "container not running: \"%s\" is %s", id,
			       status_name(status));
	return state_connect(id, e);
}

static int start_locked(struct state *s, struct err *e)
{
	CLEANUP_FD int fd = state_connect(s->id, e);
	if (fd < 0)
		return fd;
	int err = hooks_run_inside(s, fd, e);
	if (err)
		return err;
	s->status = STATUS_RUNNING;
	if ((err = state_save(s, e)))
		return err;
	err = client_do(fd, json_pack("{s:s}", "cmd", "start"), e);
	if (err)
		return err_wrap(e, err, "starting container \"%s\"", s->id);
	return hooks_run(s, "poststart", STATUS_RUNNING, false, e);
}

int container_start(const char *id, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	enum status status;

	CLEANUP_FD int lock = state_lock(id, false, e);
	if (lock < 0)
		return lock;
	int err = container_find(id, &s, &status, e);
	if (err)
		return err;
	if (status == STATUS_RUNNING)
		return err_set(e, -EBUSY, "cannot start an already running container: \"%s\"", id);
	if (status != STATUS_CREATED)
		return err_set(e, -EINVAL, "cannot start a container that is %s: \"%s\"",
			       status_name(status), id);
	err = start_locked(&s, e);
	/* Half started, as a failed hook leaves it, is no state: stopped is. */
	if (err && state_kill_processes(&s))
		log_warn("container \"%s\" does not end", id);
	return err;
}

int container_delete(const char *id, bool force, struct err *e)
{
	CLEANUP_STATE struct state s = {0};
	enum status status;

	CLEANUP_FD int lock = state_lock(id, false, e);
	if (lock == -ENOENT && force)
		return 0;
	if (lock < 0)
		return lock;
	int err = container_find(id, &s, &status, e);
	if (err == -ENOENT) {
		state_remove(id); /* a lock file alone: left by a create that was killed */
		return force ? 0 : err;
	}
	if (err)
		return err;
	if (status == STATUS_RUNNING && !force)
		return err_set(e, -EBUSY, "cannot delete container %s that is not stopped: %s", id,
			       status_name(status));
	if ((err = state_kill_processes(&s)))
		return err_errno(e, err, "killing the processes of container \"%s\"", id);
	err = hooks_run(&s, "poststop", STATUS_STOPPED, true, e);
	state_remove(id);
	return err;
}

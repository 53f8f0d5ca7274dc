#include "oci/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/client.h"
#include "oci/process.h"
#include "sentry/lib/log.h"

/* One hook's run: in and out are files in memory, so that nobody waits for the other side. */
struct run {
	json_t *hook;
	int in, out;
	int status; /* wait status */
	bool late;
};

static const char *path_of(json_t *hook)
{
	return json_string_value(json_object_get(hook, "path"));
}

/* poll(2)'s unit; -1: none. */
static int timeout_of(json_t *hook)
{
	json_int_t s = json_integer_value(json_object_get(hook, "timeout"));

	return s <= 0 ? -1 : s > INT32_MAX / 1000 ? INT32_MAX : (int)s * 1000;
}

static char **strings(json_t *a)
{
	size_t n = json_array_size(a);
	char **v = calloc(n + 1, sizeof(*v));

	for (size_t i = 0; v && i < n; i++)
		v[i] = (char *)json_string_value(json_array_get(a, i));
	return v;
}

_Noreturn static void child(const struct run *r, const char *bundle)
{
	char **argv = strings(json_object_get(r->hook, "args"));
	char **envp = strings(json_object_get(r->hook, "env"));
	char *self[] = {(char *)path_of(r->hook), NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (chdir(bundle) == 0 && dup2(r->in, 0) == 0 && dup2(r->out, 1) == 1 &&
	    dup2(r->out, 2) == 2 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		execve(self[0], argv && argv[0] ? argv : self, envp);
	dprintf(2, "%s: %m", self[0]);
	_exit(127);
}

static int run_outside(struct run *r, const struct state *s, int control, struct err *e)
{
	(void)control;
	pid_t pid = fork();
	if (pid == 0)
		child(r, s->bundle);
	if (pid < 0)
		return err_errno(e, -errno, "fork");
	CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	r->late = poll(&p, 1, timeout_of(r->hook)) == 0;
	if (r->late)
		kill(pid, SIGKILL);
	while (waitpid(pid, &r->status, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* The container's own process with the hook's program, arguments and environment. */
static int describe(const struct run *r, const struct state *s, struct spec_process *p,
		    struct boot_process *out, struct err *e)
{
	char *self[] = {(char *)path_of(r->hook), NULL};
	char **argv = strings(json_object_get(r->hook, "args"));
	char **envp = strings(json_object_get(r->hook, "env"));
	int err = spec_parse_process(json_object_get(s->spec, "process"), "state", p, e);

	if (!err)
		err = spec_strings_set(&p->args, argv && argv[0] ? argv : self, e);
	if (!err)
		err = spec_strings_set(&p->env, envp, e);
	free(argv);
	free(envp);
	if (err)
		return err;
	/* The program is what `path` says, whatever args[0] is. */
	free(p->args[0]);
	if (!(p->args[0] = strdup(self[0])))
		return err_set(e, -ENOMEM, "out of memory");
	p->terminal = false;
	return process_from_spec(p, "hook", out, e);
}

static int run_inside(struct run *r, const struct state *s, int control, struct err *e)
{
	CLEANUP(spec_process_fini) struct spec_process spec = {0};
	CLEANUP(process_fini) struct boot_process p = {0};
	const int stdio[3] = {r->in, r->out, r->out};
	json_auto_t *reply = NULL;
	int pid;

	int err = describe(r, s, &spec, &p, e);
	if (!err)
		err = process_exec(control, &p, stdio, &pid, e);
	if (!err)
		err = client_send(control, json_pack("{s:s, s:i}", "cmd", "wait", "pid", pid), NULL,
				  0, e);
	if (err)
		return err;
	struct pollfd fd = {.fd = control, .events = POLLIN};
	r->late = poll(&fd, 1, timeout_of(r->hook)) == 0;
	if (r->late)
		return 0;
	if ((err = client_recv(control, &reply, e)))
		return err;
	return json_unpack(reply, "{s:i}", "status", &r->status)
		       ? err_set(e, -EPROTO, "the sandbox sent no status")
		       : 0;
}

/* The words are runc's. */
static int verdict(const struct run *r, struct err *e)
{
	char how[64], output[512];

	if (r->late)
		snprintf(how, sizeof(how), "hook ran past specified timeout of %llds",
			 (long long)json_integer_value(json_object_get(r->hook, "timeout")));
	else if (WIFSIGNALED(r->status))
		snprintf(how, sizeof(how), "signal: %s", strsignal(WTERMSIG(r->status)));
	else if (WEXITSTATUS(r->status))
		snprintf(how, sizeof(how), "exit status %d", WEXITSTATUS(r->status));
	else
		return 0;
	ssize_t n = pread(r->out, output, sizeof(output) - 1, 0);
	output[n > 0 ? n : 0] = 0;
	output[strcspn(output, "\n")] = 0;
	return err_set(e, r->late ? -ETIMEDOUT : -EINVAL, "%s, output: %s", how, output);
}

typedef int run_fn(struct run *r, const struct state *s, int control, struct err *e);

static int run_one(json_t *hook, const char *text, run_fn *fn, const struct state *s, int control,
		   struct err *e)
{
	size_t len = strlen(text);
	CLEANUP_FD int in = memfd_create("runsc-hook-state", MFD_CLOEXEC);
	CLEANUP_FD int out = memfd_create("runsc-hook-output", MFD_CLOEXEC);
	struct run r = {.hook = hook, .in = in, .out = out};

	if (in < 0 || out < 0 || write(in, text, len) != (ssize_t)len || lseek(in, 0, SEEK_SET) ||
	    fcntl(out, F_SETFL, O_APPEND))
		return err_errno(e, -errno, "passing the state");
	int err = fn(&r, s, control, e);
	return err ? err : verdict(&r, e);
}

static int run_all(const struct state *s, const char *kind, enum status status, bool best_effort,
		   run_fn *fn, int control, struct err *e)
{
	json_t *list = json_object_get(json_object_get(s->spec, "hooks"), kind), *hook;
	json_auto_t *state = NULL;
	size_t i;
	int err = 0;

	if (!json_array_size(list))
		return 0;
	state = state_json(s, status);
	CLEANUP_FREE char *text = json_dumps(state, JSON_COMPACT);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	json_array_foreach(list, i, hook)
	{
		if (!(err = run_one(hook, text, fn, s, control, e)))
			continue;
		err_wrap(e, err, "error running %s hook #%zu", kind, i);
		if (!best_effort)
			break;
		log_warn("%s", e->msg);
		err = 0;
	}
	return err;
}

int hooks_run(const struct state *s, const char *kind, enum status status, bool best_effort,
	      struct err *e)
{
	return run_all(s, kind, status, best_effort, run_outside, -1, e);
}

int hooks_run_inside(const struct state *s, int fd, struct err *e)
{
	return run_all(s, "startContainer", STATUS_CREATED, false, run_inside, fd, e);
}

#include "oci/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

static char **strings(json_t *a)
{
	size_t n = json_array_size(a);
	char **v = calloc(n + 1, sizeof(*v));

	for (size_t i = 0; v && i < n; i++)
		v[i] = (char *)json_string_value(json_array_get(a, i));
	return v;
}

_Noreturn static void child(json_t *hook, int in)
{
	const char *path = json_string_value(json_object_get(hook, "path"));
	char **argv = strings(json_object_get(hook, "args"));
	char **envp = strings(json_object_get(hook, "env"));
	char *self[] = {(char *)path, NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (dup2(in, 0) == 0 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		execve(path, argv && argv[0] ? argv : self, envp);
	_exit(127);
}

static int run_one(json_t *hook, const char *text, struct err *e)
{
	const char *path = json_string_value(json_object_get(hook, "path"));
	int timeout = (int)json_integer_value(json_object_get(hook, "timeout"));
	int in[2], status;

	if (pipe2(in, O_CLOEXEC))
		return err_errno(e, -errno, "hook %s", path);
	pid_t pid = fork();
	if (pid == 0)
		child(hook, in[0]);
	close(in[0]);
	/* Less than a pipe holds, so a hook that does not read does not hold us up. */
	if (pid > 0 && write(in[1], text, strlen(text)) < 0)
		log_debug("hook %s: did not take the state", path);
	close(in[1]);
	if (pid < 0)
		return err_errno(e, -errno, "hook %s", path);
	CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool late = timeout > 0 && poll(&p, 1, timeout * 1000) == 0;
	if (late)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (late)
		return err_set(e, -ETIMEDOUT, "hook %s: still running after %d s", path, timeout);
	if (WIFSIGNALED(status))
		return err_set(e, -EINVAL, "hook %s: killed by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(e, -EINVAL, "hook %s: exit status %d", path, WEXITSTATUS(status));
	return 0;
}

int hooks_run(json_t *hooks, const char *kind, json_t *state, bool best_effort, struct err *e)
{
	json_t *list = json_object_get(hooks, kind), *hook;
	size_t i;
	int err = 0;

	if (!json_array_size(list))
		return 0;
	char *text = json_dumps(state, JSON_COMPACT);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	json_array_foreach(list, i, hook)
	{
		if ((err = run_one(hook, text, e))) {
			err_wrap(e, err, "%s", kind);
			if (!best_effort)
				break;
			log_warn("%s", e->msg);
			err = 0;
		}
	}
	free(text);
	return err;
}

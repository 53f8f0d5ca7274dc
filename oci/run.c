#include "oci/run.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "oci/client.h"
#include "sentry/boot/boot.h"
#include "sentry/lib/cleanup.h"

/* Not passed on: what the terminal does to us as a job, and our children's ends. */
static void forwarded(sigset_t *set)
{
	static const int own[] = {SIGCHLD, SIGPIPE, SIGTTIN, SIGTTOU, SIGURG,  SIGKILL, SIGSTOP,
				  SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT, SIGTRAP, SIGSYS};

	sigfillset(set);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(set, own[i]);
}

void signals_hold(void)
{
	sigset_t set;

	forwarded(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * Answers come in order, and the wait's answer is the last that we need: those to forwarded
 * signals before it have no "status".
 */
static int read_status(int control, int *status, struct err *e)
{
	json_t *reply;
	int err = client_recv(control, &reply, e);

	if (err == -EINVAL) /* a signal that came too late for the process */
		return -EAGAIN;
	if (err)
		return err;
	err = json_unpack(reply, "{s:i}", "status", status) ? -EAGAIN : 0;
	json_decref(reply);
	return err;
}

/* What a terminal sends is for whoever is in its foreground; the rest for the process. */
static const char *mode(const struct signalfd_siginfo *si, int pid)
{
	if (si->ssi_code == SI_KERNEL || si->ssi_signo == SIGWINCH)
		return "fg";
	return pid ? "pid" : "init";
}

static void pass_signal(int control, int pid, const struct signalfd_siginfo *si)
{
	struct err ignored;
	json_t *request = json_pack("{s:s, s:s, s:i, s:i}", "cmd", "signal", "mode", mode(si, pid),
				    "pid", pid, "signo", (int)si->ssi_signo);

	/* If it fails, the status on its way, or the connection's end, says why. */
	if (client_send(control, request, NULL, 0, &ignored))
		return;
}

/* Guests change the caller's terminal, and may be killed before they put it back. */
static int terminal_save(struct termios *t)
{
	for (int fd = 0; fd < 3; fd++)
		if (!tcgetattr(fd, t))
			return fd;
	return -1;
}

static void terminal_restore(int fd, const struct termios *t)
{
	if (fd >= 0 && tcgetpgrp(fd) == getpgrp())
		tcsetattr(fd, TCSADRAIN, t);
}

static int wait_passing_signals(int control, int pid, struct sandbox *sb, const char *id,
				struct err *e)
{
	sigset_t set;
	int status = 0;

	forwarded(&set);
	CLEANUP_FD int sig = signalfd(-1, &set, SFD_CLOEXEC);
	if (sig < 0)
		return err_errno(e, -errno, "signalfd");
	int err = 0;
	struct pollfd p[2] = {{.fd = control, .events = POLLIN}, {.fd = sig, .events = POLLIN}};
	while (!err) {
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return err_errno(e, -errno, "poll");
		}
		struct signalfd_siginfo si;
		if (p[1].revents & POLLIN && read(sig, &si, sizeof(si)) == sizeof(si)) {
			pass_signal(control, pid, &si);
		}
		if (!p[0].revents)
			continue;
		err = read_status(control, &status, e);
		if (!err)
			return exit_code(status);
		if (err == -EAGAIN)
			err = 0;
	}
	if (err == -ECONNRESET && sb)
		return sandbox_died(sb, id, e);
	if (err == -ECONNRESET)
		return err_set(e, err, "sandbox \"%s\" exited unexpectedly", id);
	return err;
}

int foreground_ask(int control, int pid, struct err *e)
{
	return client_send(control, json_pack("{s:s, s:i}", "cmd", "wait", "pid", pid), NULL, 0, e);
}

int foreground_wait(int control, int pid, struct sandbox *sb, const char *id, struct err *e)
{
	struct termios t;
	int tty = terminal_save(&t);
	int code = wait_passing_signals(control, pid, sb, id, e);

	terminal_restore(tty, &t);
	return code;
}

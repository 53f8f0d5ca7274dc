/*
 * The control server: the sentry's main thread, once guests run.  One poll loop over the listening
 * socket, connections, the gofer's connection, the terminal's signals and an event descriptor that
 * the ends of processes write to.
 *
 * Who may connect: the socket is reachable only through a directory of the user that started the
 * sandbox (credentials of peers mean nothing here: the host's root has no id in our user
 * namespace).  Frames are bounded, connections too, and nothing waits for a peer: a frame is
 * handled when it is complete, and an answer that the peer does not take is dropped with it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/boot/internal.h"
#include "sentry/kernel/pid.h"
#include "sentry/fs/gofer/goferfs.h"
#include "sentry/kernel/signal.h"
#include "sentry/kernel/tty.h"
#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"

#define CONNS_MAX 64

struct conn {
	int fd; /* -1: free */
	bool owner;
	char *buf; /* the frame under way */
	uint32_t head, size;
	size_t got; /* bytes of head and buf */
	int fds[CONTROL_FDS_MAX];
	int nfds;
	struct watched *waits; /* the process whose end it waits for; one a connection */
};

/* A process that we started: how it ended is told to whoever asks. */
struct watched {
	struct list_head link;
	struct waiter w;
	struct thread_group *tg; /* reference */
	int pid;
};

static int event_fd = -1, signal_fd = -1;
static _Atomic bool gofer_dead, process_lost;
static const char *_Atomic platform_dead; /* why */
static struct conn conns[CONNS_MAX];
static struct list_head watched_list = LIST_HEAD_INIT(watched_list);
static bool started;
static int killed_before_start; /* the signal, or 0 */

int control_init(void)
{
	sigset_t set;

	for (size_t i = 0; i < CONNS_MAX; i++)
		conns[i].fd = -1;
	event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	/* The terminal's, when it is ours; else nobody sends them. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return event_fd < 0 || signal_fd < 0 ? -errno : 0;
}

static void notify_loop(void)
{
	uint64_t one = 1;

	if (write(event_fd, &one, sizeof(one)) < 0)
		return; /* full: the loop is about to look anyway */
}

void control_gofer_dead(void *arg)
{
	(void)arg;
	atomic_store(&gofer_dead, true);
	notify_loop();
}

void control_process_lost(void)
{
	atomic_store(&process_lost, true);
	notify_loop();
}

void control_platform_dead(const char *why)
{
	atomic_store(&platform_dead, why);
	notify_loop();
}

static void process_ended(struct waiter *w, uint32_t events)
{
	(void)w;
	(void)events;
	notify_loop();
}

static struct watched *watch(struct thread_group *tg)
{
	struct watched *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->tg = thread_group_get(tg);
	x->pid = tg->tgid;
	list_init(&x->w.node);
	x->w.notify = process_ended;
	list_add_tail(&x->link, &watched_list);
	waitq_add(&tg->exit_waitq, &x->w, POLLIN);
	return x;
}

static void unwatch(struct watched *x)
{
	waitq_remove(&x->w);
	list_del(&x->link);
	thread_group_put(x->tg);
	free(x);
}

static bool has_ended(struct thread_group *tg, int *status)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool ended = tg->zombie;
	*status = tg->wait_status;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return ended;
}

/* ---- frames ---- */

static void conn_drop_fds(struct conn *c)
{
	while (c->nfds > 0)
		close(c->fds[--c->nfds]);
}

static void conn_close(struct conn *c)
{
	conn_drop_fds(c);
	close(c->fd);
	free(c->buf);
	*c = (struct conn){.fd = -1};
}

/* Consumes j.  Answers are small: a peer that does not read even those loses the connection. */
static void answer(struct conn *c, json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(j);
	if (c->fd >= 0 && (!text || control_send(c->fd, text, strlen(text), NULL, 0)))
		conn_close(c);
	free(text);
}

static void answer_error(struct conn *c, const char *msg)
{
	answer(c, json_pack("{s:b, s:s}", "ok", 0, "error", msg));
}

int control_report(int owner_fd, const struct boot_error *be)
{
	json_t *j = be ? json_pack("{s:b, s:s, s:b}", "ok", 0, "error", be->msg, "fatal", 1)
		       : json_pack("{s:b}", "ok", 1);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	static const char plain[] = "{\"ok\":false,\"error\":\"the sandbox could not start\"}";

	json_decref(j);
	int err = control_send(owner_fd, text ? text : plain, text ? strlen(text) : strlen(plain),
			       NULL, 0);
	free(text);
	return err;
}

/* ---- requests ---- */

typedef void request_fn(struct control *ctl, struct conn *c, json_t *req);

static void do_start(struct control *ctl, struct conn *c, json_t *req)
{
	(void)req;
	if (started) {
		answer_error(c, "cannot start a container that is not in the created state");
		return;
	}
	started = true;
	kernel_process_start(ctl->init);
	answer(c, json_pack("{s:b}", "ok", 1));
}

static void do_exec(struct control *ctl, struct conn *c, json_t *req)
{
	struct boot_error be = {""};
	struct boot_process p;
	struct thread_group *tg = NULL;

	if (boot_process_unpack(json_object_get(req, "process"), &p) || c->nfds != 3) {
		answer_error(c, "malformed process");
		return;
	}
	for (int i = 0; i < 3; i++)
		p.stdio[i] = c->fds[i];
	c->nfds = 0;
	int err = boot_process_create(ctl->container, &p, &tg, &be);
	boot_process_fini(&p);
	if (err) {
		answer_error(c, be.msg);
		return;
	}
	struct watched *x = watch(tg);
	int pid = tg->tgid;
	kernel_process_start(tg);
	thread_group_put(tg);
	answer(c, x ? json_pack("{s:b, s:i}", "ok", 1, "pid", pid) : NULL);
}

static void do_wait(struct control *ctl, struct conn *c, json_t *req)
{
	struct watched *x;
	int pid = 0;

	if (json_unpack(req, "{s?i}", "pid", &pid)) {
		answer_error(c, "wait: malformed pid");
		return;
	}
	if (pid == 0)
		pid = ctl->init->tgid;
	list_for_each (x, &watched_list, link) {
		if (x->pid != pid)
			continue;
		c->waits = x;
		notify_loop(); /* it may have ended already */
		return;
	}
	/* A process that somebody inside started: its parent has the first right to its status. */
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *tg = thread_group_lookup(pid);
	if (tg)
		thread_group_get(tg);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	x = tg ? watch(tg) : NULL;
	thread_group_put(tg);
	if (!x) {
		answer_error(c, "no such process");
		return;
	}
	c->waits = x;
	notify_loop();
}

static int signal_all(const ksiginfo *info)
{
	struct thread_group *tg;
	int n = 0;

	for (int pid = 1; (tg = thread_group_next(&pid_ns_top, &pid)); pid++, n++) {
		if (signal_send_group(tg, info))
			n--;
		thread_group_put(tg);
	}
	return n ? 0 : -ESRCH;
}

static struct thread_group *find_group(struct control *ctl, int pid)
{
	struct thread_group *tg;

	if (pid == 0)
		return thread_group_get(ctl->init);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	tg = thread_group_lookup(pid);
	if (tg)
		thread_group_get(tg);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return tg;
}

/* Somebody killed a host process: what a process without memory can still do is die. */
static void bury_lost(void)
{
	struct thread_group *tg;

	for (int pid = 1; (tg = thread_group_next(&pid_ns_top, &pid)); pid++) {
		struct task *t = NULL;
		char byte;

		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		if (!list_empty(&tg->threads))
			t = task_get(list_first(&tg->threads, struct task, thread_link));
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		struct mm *mm = t ? task_mm_get(t) : NULL;
		if (mm && kernel->pf->ops->copy_in(mm->as, NULL, &byte, PAGE_SIZE, 1) == -ESRCH) {
			log_warn("process %d lost its host process", tg->tgid);
			signal_group_exit(tg, SIGKILL);
		}
		mm_put(mm);
		task_put(t);
		thread_group_put(tg);
	}
}

/* The terminal's foreground group, or the process itself when there is no terminal. */
static int signal_foreground(struct thread_group *tg, const ksiginfo *info)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct tty *tty = tg->session ? tg->session->tty : NULL;
	if (tty)
		tty_get(tty);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!tty)
		return signal_send_group(tg, info);
	tty_signal_foreground(tty, info->si_signo);
	tty_put(tty);
	return 0;
}

static int send_signal(struct control *ctl, const char *mode, int pid, const ksiginfo *info)
{
	if (!strcmp(mode, "all"))
		return signal_all(info);
	if (!strcmp(mode, "pgid"))
		return signal_send_pgrp(pid, info);
	struct thread_group *tg = find_group(ctl, !strcmp(mode, "init") ? 0 : pid);
	if (!tg)
		return -ESRCH;
	int err = strcmp(mode, "fg") ? signal_send_group(tg, info) : signal_foreground(tg, info);
	thread_group_put(tg);
	return err;
}

static void do_signal(struct control *ctl, struct conn *c, json_t *req)
{
	const char *mode = "init";
	int signo, pid = 0, status;
	ksiginfo info;

	if (json_unpack(req, "{s:i, s?s, s?i}", "signo", &signo, "mode", &mode, "pid", &pid) ||
	    signo < 0 || signo > LINUX_NSIG || pid < 0) {
		answer_error(c, "signal: malformed request");
		return;
	}
	if (has_ended(ctl->init, &status)) {
		answer_error(c, "process already finished");
		return;
	}
	if (!started && (signo == SIGKILL || signo == SIGTERM || signo == SIGINT)) {
		killed_before_start = signo;
		answer(c, json_pack("{s:b}", "ok", 1));
		return;
	}
	memset(&info, 0, sizeof(info));
	info.si_signo = signo;
	info.si_code = SI_USER;
	int err = send_signal(ctl, mode, pid, &info);
	if (err)
		answer_error(c, err == -ESRCH ? "no such process" : strerror(-err));
	else
		answer(c, json_pack("{s:b}", "ok", 1));
}

static void do_ps(struct control *ctl, struct conn *c, json_t *req)
{
	(void)req;
	answer(c, json_pack("{s:b, s:o}", "ok", 1, "processes", ps_list(ctl->container)));
}

static void do_usage(struct control *ctl, struct conn *c, json_t *req)
{
	(void)ctl;
	(void)req;
	answer(c, json_pack("{s:b, s:o}", "ok", 1, "usage", usage_object()));
}

static void do_state(struct control *ctl, struct conn *c, json_t *req)
{
	int status;

	(void)req;
	answer(c, json_pack("{s:b, s:s}", "ok", 1, "status",
			    !started			    ? "created"
			    : has_ended(ctl->init, &status) ? "stopped"
							    : "running"));
}

static void do_stacks(struct control *ctl, struct conn *c, json_t *req)
{
	char *text = stacks_text();

	(void)ctl;
	(void)req;
	answer(c, json_pack("{s:b, s:s}", "ok", 1, "text", text ? text : ""));
	free(text);
}

static void do_stats(struct control *ctl, struct conn *c, json_t *req)
{
	char *text = stats_text();

	(void)ctl;
	(void)req;
	answer(c, json_pack("{s:b, s:s}", "ok", 1, "text", text ? text : ""));
	free(text);
}

static void do_disown(struct control *ctl, struct conn *c, json_t *req)
{
	(void)ctl;
	(void)req;
	c->owner = false;
	answer(c, json_pack("{s:b}", "ok", 1));
}

static const struct {
	const char *name;
	request_fn *fn;
} requests[] = {
	{"start", do_start}, {"exec", do_exec},	  {"wait", do_wait},	 {"signal", do_signal},
	{"ps", do_ps},	     {"state", do_state}, {"stacks", do_stacks}, {"disown", do_disown},
	{"stats", do_stats}, {"usage", do_usage},
};

static void handle_frame(struct control *ctl, struct conn *c)
{
	json_t *req = json_loadb(c->buf, c->size, 0, NULL);
	const char *cmd = json_string_value(json_object_get(req, "cmd"));
	size_t i = 0;

	free(c->buf);
	c->buf = NULL;
	c->got = 0;
	while (cmd && i < ARRAY_SIZE(requests) && strcmp(requests[i].name, cmd) != 0)
		i++;
	if (cmd && i < ARRAY_SIZE(requests))
		requests[i].fn(ctl, c, req);
	else
		answer_error(c, "unknown request");
	conn_drop_fds(c);
	json_decref(req);
}

static void take_fds(struct conn *c, struct msghdr *msg)
{
	for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m; m = CMSG_NXTHDR(msg, m)) {
		if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
			continue;
		int fds[CONTROL_FDS_MAX + 1];
		size_t n = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(m), MIN(n, ARRAY_SIZE(fds)) * sizeof(int));
		for (size_t i = 0; i < MIN(n, ARRAY_SIZE(fds)); i++) {
			if (c->nfds < CONTROL_FDS_MAX)
				c->fds[c->nfds++] = fds[i];
			else
				close(fds[i]);
		}
	}
}

/* One step towards a whole frame: > 0 progress, 0 or -errno: nothing more. */
static ssize_t conn_read(struct control *ctl, struct conn *c)
{
	union {
		char buf[CMSG_SPACE((CONTROL_FDS_MAX + 1) * sizeof(int))];
		struct cmsghdr align;
	} cm;
	bool in_head = c->got < sizeof(c->head);
	struct iovec iov = {
		in_head ? (char *)&c->head + c->got : c->buf + (c->got - sizeof(c->head)),
		in_head ? sizeof(c->head) - c->got : c->size - (c->got - sizeof(c->head))};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = cm.buf,
			     .msg_controllen = sizeof(cm.buf)};

	ssize_t n = recvmsg(c->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	take_fds(c, &msg);
	c->got += (size_t)n;
	if (c->got == sizeof(c->head)) {
		c->size = c->head;
		if (c->size == 0 || c->size > CONTROL_FRAME_MAX || !(c->buf = malloc(c->size)))
			return -EMSGSIZE;
	}
	if (c->buf && c->got == sizeof(c->head) + c->size)
		handle_frame(ctl, c);
	return n;
}

/* Returns false when the owner went. */
static bool conn_serve(struct control *ctl, struct conn *c)
{
	ssize_t n = 0;

	while (c->fd >= 0 && (n = conn_read(ctl, c)) > 0)
		;
	if (c->fd < 0 || n == -EAGAIN || n == -EINTR)
		return true;
	bool owner = c->owner;
	conn_close(c);
	return !owner;
}

static void conn_add(int fd, bool owner)
{
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (conns[i].fd >= 0)
			continue;
		conns[i] = (struct conn){.fd = fd, .owner = owner};
		return;
	}
	close(fd);
}

/* Answers those who wait for a process that has ended. */
static void tell_waiters(void)
{
	struct watched *x, *tmp;
	int status;

	list_for_each_safe (x, tmp, &watched_list, link) {
		bool asked = false;
		if (!has_ended(x->tg, &status))
			continue;
		for (size_t i = 0; i < CONNS_MAX; i++) {
			if (conns[i].fd < 0 || conns[i].waits != x)
				continue;
			conns[i].waits = NULL;
			asked = true;
			answer(&conns[i], json_pack("{s:b, s:i}", "ok", 1, "status", status));
		}
		if (asked)
			unwatch(x);
	}
}

/* The end: whoever still waits for something hears it. */
static void tell_all(int status, const char *error)
{
	for (size_t i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &conns[i];
		if (c->fd < 0)
			continue;
		if (error)
			answer(c,
			       json_pack("{s:b, s:s, s:b}", "ok", 0, "error", error, "fatal", 1));
		else if (c->waits)
			answer(c, json_pack("{s:b, s:i}", "ok", 1, "status", status));
	}
}

static void terminal_signals(struct control *ctl)
{
	struct signalfd_siginfo si;
	ksiginfo info;

	while (read(signal_fd, &si, sizeof(si)) == sizeof(si)) {
		memset(&info, 0, sizeof(info));
		info.si_signo = (int)si.ssi_signo;
		info.si_code = SI_KERNEL;
		if (started && ctl->config->process.terminal && signal_foreground(ctl->init, &info))
			log_debug("signal %d of the terminal: nobody there", info.si_signo);
	}
}

/* For those who ask when nobody is left to answer. */
static void keep_status(int fd, int status)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", status);

	if (fd >= 0 && write(fd, text, (size_t)n) != n)
		log_warn("cannot keep the exit status");
}

/* Fills the poll set; *map[i] is the connection of entry i, NULL for the fixed ones. */
static size_t fill(struct control *ctl, struct pollfd *p, struct conn **map)
{
	const int fixed[] = {event_fd, signal_fd, ctl->config->control_fd,
			     gofer_conn_fd(ctl->gofer)};
	const short events[] = {POLLIN, POLLIN, POLLIN, 0};
	size_t n = 0;

	for (; n < ARRAY_SIZE(fixed); n++) {
		p[n] = (struct pollfd){.fd = fixed[n], .events = events[n]};
		map[n] = NULL;
	}
	for (size_t i = 0; i < CONNS_MAX; i++) {
		if (conns[i].fd < 0)
			continue;
		p[n] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
		map[n++] = &conns[i];
	}
	return n;
}

int control_serve(struct control *ctl)
{
	struct pollfd p[CONNS_MAX + 4];
	struct conn *map[CONNS_MAX + 4];
	const char *error = NULL;
	bool owned = true;
	uint64_t count;
	int status = 0;

	conn_add(ctl->config->owner_fd, true);
	if (!watch(ctl->init))
		return -ENOMEM;
	while (owned && !error) {
		size_t n = fill(ctl, p, map);
		if (poll(p, (nfds_t)n, -1) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents && read(event_fd, &count, sizeof(count)) < 0)
			count = 0;
		if (p[1].revents)
			terminal_signals(ctl);
		if (p[2].revents & POLLIN) {
			int fd = accept4(ctl->config->control_fd, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0)
				conn_add(fd, false);
		}
		if (p[3].revents & (POLLHUP | POLLERR) || atomic_load(&gofer_dead))
			error = "the gofer exited unexpectedly";
		if (atomic_exchange(&process_lost, false))
			bury_lost();
		if (atomic_load(&platform_dead))
			error = atomic_load(&platform_dead);
		for (size_t i = 4; i < n; i++)
			if (p[i].revents && map[i]->fd >= 0 && !conn_serve(ctl, map[i]))
				owned = false;
		tell_waiters();
		if (has_ended(ctl->init, &status))
			break;
		if (killed_before_start) {
			status = killed_before_start;
			break;
		}
	}
	if (error)
		log_warn("%s", error);
	if (!owned)
		status = SIGKILL;
	if (!error)
		keep_status(ctl->config->status_fd, status);
	tell_all(status, error);
	return error ? -EIO : status;
}

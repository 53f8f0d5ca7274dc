/*
 * tty.h - what a terminal means to sessions and process groups, whatever is behind it (a host
 * terminal now, devpts later).  Source: tty_ioctl(4), setpgid(2), credentials(7).
 *
 * Guarded by lc_tasks.
 */
#pragma once

#include "sentry/kernel/task.h"

struct tty {
	ref_t ref;
	struct session *session; /* whose controlling terminal it is; borrowed; NULL: none */
	int fg_pgid;		 /* foreground process group; 0: none */
	unsigned index;		 /* of /dev/pts/N */
	struct file *file;	 /* what opening /dev/tty opens anew; borrowed from the owner */
	/* Makes f, the opened file of a device node (/dev/tty, /dev/console, /dev/pts/N), a file of
	 * this terminal: sets ops and priv.  Required. */
	int (*open)(struct tty *tty, struct file *f);
	void (*free)(struct tty *tty);
};

struct tty *tty_get(struct tty *tty);
void tty_put(struct tty *tty);
/* The job-control ioctls: TIOCSCTTY, TIOCNOTTY, TIOCGPGRP, TIOCSPGRP, TIOCGSID.  -ENOIOCTLCMD
 * (515) for others. */
long tty_job_ioctl(struct tty *tty, struct task *t, unsigned cmd, uint64_t arg);
/* Before a read (SIGTTIN) or write/ioctl (SIGTTOU): 0 go on, -ERESTARTSYS signal sent, -EIO. */
int tty_check_background(struct tty *tty, struct task *t, int signo);
/* A signal from the terminal to its foreground group (SIGINT, SIGQUIT, SIGTSTP, SIGWINCH). */
void tty_signal_foreground(struct tty *tty, int signo);
/* Makes it the controlling terminal of a session leader's session at start-up. */
void tty_attach(struct tty *tty, struct thread_group *leader);
/* The controlling terminal of the task's session, a reference; NULL: none (/dev/tty: ENXIO). */
struct tty *tty_of_task(struct task *t);
/* What opening a terminal without O_NOCTTY does: it becomes the controlling terminal of a session
 * leader that has none, if it is nobody's. */
void tty_acquire(struct tty *tty, struct task *t);
/* The line went: SIGHUP and SIGCONT to the session's leader, which loses its terminal.  The group
 * that was in the foreground is told when the leader ends. */
void tty_hangup(struct tty *tty);
#define ENOIOCTLCMD 515

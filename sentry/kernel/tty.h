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
	struct file *file;	 /* what opening /dev/tty opens anew; borrowed from the owner */
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
#define ENOIOCTLCMD 515

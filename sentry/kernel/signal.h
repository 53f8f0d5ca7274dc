/*
 * signal.h - signals: actions, queues, masks, delivery, group stop.  Source: signal(7),
 * sigaction(2), rt_sigqueueinfo(2), sigaltstack(2); frame layout as the x86-64 kernel's.
 *
 * Locking: thread_group.siglock (lc_signal) guards pending queues, actions, masks of all its
 * tasks and the stop state.  A sleeping task is woken, a running one interrupted, by whoever makes
 * a deliverable signal pending.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/uaddr.h"

struct task;
struct thread_group;
struct cred;

#define LINUX_NSIG 64
typedef uint64_t sigset_k; /* bit n-1 is signal n */
#define SIG_BIT(n) (1ULL << ((n)-1))
#define SIG_UNBLOCKABLE (SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))

/* struct sigaction as the kernel has it. */
struct ksigaction {
	uint64_t handler; /* SIG_DFL 0, SIG_IGN 1, or a guest address */
	uint64_t flags;	  /* SA_* incl. SA_RESTORER 0x04000000 */
	uint64_t restorer;
	sigset_k mask;
};

/* siginfo_t, 128 bytes, host layout (x86-64 is x86-64). */
typedef siginfo_t ksiginfo;

struct sigqueue_head {
	sigset_k set;	       /* signals with at least one entry */
	struct list_head list; /* of struct sigqueue, by arrival */
};

/* Actions, shared with CLONE_SIGHAND. */
struct sighand {
	ref_t ref;
	struct ksigaction action[LINUX_NSIG];
};

struct sigaltstack_k {
	uint64_t sp;
	int32_t flags;
	uint32_t pad;
	uint64_t size;
};

/* Does it name a sender's or a child's user?  In queues as an inner id; whoever takes the signal is
 * shown what his user namespace calls it. */
bool signal_info_has_uid(const ksiginfo *info);
/* ---- sending; the siginfo is copied.  0, -EAGAIN (queue limit), -ESRCH ---- */
int signal_send_task(struct task *t, const ksiginfo *info);
int signal_send_group(struct thread_group *tg, const ksiginfo *info);
/* pgid; returns 0 when at least one was found (as kill(2)), else -ESRCH.  EPERM rules are the
 * caller's (signal_permitted). */
int signal_send_pgrp(int pgid, const ksiginfo *info);
void signal_info_kernel(ksiginfo *info, int signo); /* SI_KERNEL, no sender */
void signal_info_user(ksiginfo *info, int signo, int code, const struct task *sender);
/* A fault: cannot be blocked or ignored (then it kills). */
void signal_force(struct task *t, const ksiginfo *info);
/* kill(2)'s rules of who may signal whom.  Takes lc_tasks. */
bool signal_permitted(const struct task *sender, const struct thread_group *target, int signo);
/* kill(2) by a task: -pgid, or everybody (kill -1).  signo 0 only checks.  Take lc_tasks. */
int signal_kill_pgrp(const struct task *sender, int pgid, const ksiginfo *info);
int signal_kill_all(const struct task *sender, const ksiginfo *info);

/* Something was queued: whoever queues it calls this, siglock held or not (signalfd.c). */
void signalfd_notify(void);

/* ---- state ---- */
bool signal_pending(const struct task *t);	 /* something to handle before guest code runs on */
bool signal_fatal_pending(const struct task *t); /* SIGKILL or group exit */
/* Recomputes the hint, and has the task look at it if there is something: wakes it, or interrupts
 * it in the guest.  signal_kick takes siglock. */
bool signal_recalc(struct task *t) REQUIRES(lc_signal);
void signal_kick_locked(struct task *t) REQUIRES(lc_signal);
void signal_kick(struct task *t);
/* Would a child of this group be reaped by itself (SIGCHLD ignored, or SA_NOCLDWAIT)? */
bool sigchld_ignored(struct thread_group *parent);
/*
 * The mask of a thread in the guest may be lent to the platform, which changes it without an event
 * (platform.h): then task.mask is a copy of what it was.  Lent on the way into the guest, before
 * in_guest is set, or not (lend false); recalled if something is pending, after it is set; taken
 * back on the way out.  By the task's loop only.
 */
void signal_lend_mask(struct task *t, bool lend);
void signal_recall_pending(struct task *t);
void signal_take_mask(struct task *t);
/* What another thread's mask is, now and until its next event.  Under siglock. */
sigset_k signal_mask_locked(struct task *t);
/* Changes the mask, recomputing what is pending. */
void signal_set_mask(struct task *t, sigset_k mask);
/* For ppoll, pselect, sigsuspend, epoll_pwait: a temporary mask that delivery puts back after the
 * handler was set up; signal_restore_saved_mask() when no signal came. */
void signal_set_temp_mask(struct task *t, sigset_k mask);
void signal_restore_saved_mask(struct task *t);
/* Takes one pending signal of `want`: its number, or 0.  For sigtimedwait and signalfd. */
int signal_dequeue(struct task *t, sigset_k want, ksiginfo *info);
sigset_k signal_pending_set(struct task *t); /* thread and group, for sigpending */

/* ---- the way back to guest code ---- */
/*
 * Handles everything pending: restarts or fails an interrupted call, stops, builds frames, or
 * decides that the task dies.  Called by the task loop with regs final.  Returns false when the
 * task must exit (group exit has been started).
 */
bool signal_deliver(struct task *t);
long signal_sigreturn(struct task *t); /* rt_sigreturn: returns what rax becomes */

/* ---- life ---- */
struct sighand *sighand_new(void);
struct sighand *sighand_dup(struct sighand *src);
struct sighand *sighand_get(struct sighand *s);
void sighand_put(struct sighand *s);
void sigqueue_init(struct sigqueue_head *q);
void sigqueue_flush(struct sigqueue_head *q);
void signal_exec(struct task *t);      /* execve: handlers to default, altstack off, timers */
void signal_task_exit(struct task *t); /* hands unhandled group signals to siblings */
void signal_thread_group_fini(struct thread_group *tg);
/* Makes the whole group exit with this wait status; wakes every thread. */
void signal_group_exit(struct thread_group *tg, int wait_status);
/* 0 or -EINVAL, -EPERM (on the stack now), -ENOMEM (too small): sigaltstack(2). */
int signal_altstack_set(struct task *t, const struct sigaltstack_k *ss, uint64_t rsp) MUST_CHECK;
void signal_altstack_get(const struct task *t, uint64_t rsp, struct sigaltstack_k *out);
int ksigaction_set(struct task *t, int signo, const struct ksigaction *new,
		   struct ksigaction *old) MUST_CHECK;

/*
 * signal_queue.h - what the signal files share: entries of the queues and sending under siglock.
 * For signal*.c and the timers, nobody else.
 */
#pragma once

#include "sentry/abi/signal.h"
#include "sentry/kernel/task.h"

struct posix_timer;

#define SIG_SET_KERNEL_ONLY (SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))
#define SIG_SET_STOP (SIG_BIT(SIGSTOP) | SIG_BIT(SIGTSTP) | SIG_BIT(SIGTTIN) | SIG_BIT(SIGTTOU))
#define SIG_SET_IGNORE (SIG_BIT(SIGCONT) | SIG_BIT(SIGCHLD) | SIG_BIT(SIGWINCH) | SIG_BIT(SIGURG))
#define SIG_SET_CORE                                                                \
	(SIG_BIT(SIGQUIT) | SIG_BIT(SIGILL) | SIG_BIT(SIGTRAP) | SIG_BIT(SIGABRT) | \
	 SIG_BIT(SIGBUS) | SIG_BIT(SIGFPE) | SIG_BIT(SIGSEGV) | SIG_BIT(SIGXCPU) |  \
	 SIG_BIT(SIGXFSZ) | SIG_BIT(SIGSYS))
#define SIG_SET_SYNC                                                               \
	(SIG_BIT(SIGSEGV) | SIG_BIT(SIGBUS) | SIG_BIT(SIGILL) | SIG_BIT(SIGTRAP) | \
	 SIG_BIT(SIGFPE) | SIG_BIT(SIGSYS))
/* The kernel's first real-time signal; libcs keep the first two to themselves. */
#define LINUX_SIGRTMIN 32

/* Guest values of ksigaction.handler. */
#define LINUX_SIG_DFL 0
#define LINUX_SIG_IGN 1

/*
 * One queued siginfo.  Entries of POSIX timers are embedded in the timer (`timer` set), queued at
 * most once, and never freed here.
 */
struct sigqueue {
	struct list_head node;
	ksiginfo info;
	_Atomic uint32_t *count; /* the group's nsigqueued that counts it */
	struct posix_timer *timer;
	struct sigqueue_head *on; /* timers: where it is queued; NULL: nowhere */
};

/* Takes one entry's worth of RLIMIT_SIGPENDING; false when the limit is reached. */
bool sigqueue_charge(struct thread_group *tg);
void sigqueue_uncharge(struct thread_group *tg);
/* Unlinks a timer's embedded entry from the queue that it is on, if any. */
void sigqueue_remove_timer(struct sigqueue *e) REQUIRES(lc_signal);
/* Drops all entries of these signals, from the group's queue and every thread's. */
void signal_discard(struct thread_group *tg, sigset_k set) REQUIRES(lc_signal);
/* signal_dequeue with siglock held. */
int signal_dequeue_locked(struct task *t, sigset_k want, ksiginfo *info) REQUIRES(lc_signal);
/* Is there another thread for the signals of `set` that the group has pending? */
void signal_retarget(struct task *t, sigset_k set) REQUIRES(lc_signal);

enum signal_sent { SIGNAL_QUEUED, SIGNAL_IGNORED };
/* To one thread, or to the group (t NULL).  `own`: a timer's entry to queue instead of a copy.
 * enum signal_sent, or -EAGAIN. */
int signal_send_locked(struct thread_group *tg, struct task *t, const ksiginfo *info,
		       struct sigqueue *own) REQUIRES(lc_signal);
void signal_group_exit_locked(struct thread_group *tg, int wait_status) REQUIRES(lc_signal);
/* Does this signal, without a handler, do nothing to this group?  forced: SIGKILL and SIGSTOP are
 * the kernel's, or come from a namespace above. */
bool signal_protected(const struct thread_group *tg, const ksiginfo *info, bool forced);

static inline struct linux_stack signal_altstack(const struct task *t)
{
	return (struct linux_stack){
		.sp = t->altstack.sp, .flags = t->altstack.flags, .size = t->altstack.size};
}

static inline bool ksigaction_ignores(const struct ksigaction *a, int signo)
{
	return a->handler == LINUX_SIG_IGN ||
	       (a->handler == LINUX_SIG_DFL && (SIG_BIT(signo) & SIG_SET_IGNORE));
}

/*
 * task.h - tasks, thread groups, the pid table, sleeping and waking.
 *
 * A *task* is a guest thread: a fiber (its kernel stack) and a platform thread (its user side).
 * A *thread group* is a guest process.  Source: clone(2), wait(2), setpgid(2), setsid(2).
 *
 * Locking: lc_tasks (kernel.tasks_lock, one for the sandbox) guards the tree: pid table, parents,
 * children, threads, groups, sessions, zombies, and task.cred/comm for other tasks' readers.
 * tg->siglock (lc_signal) guards signal state.  Fields marked *own* belong to the task itself
 * (whatever runs on its fiber); *atomic* ones to everybody; *immutable* ones never change.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "platform/platform.h"
#include "sentry/auth/cred.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/ptrace/trace.h"
#include "sentry/kernel/signal.h"
#include "sentry/lib/fiber.h"
#include "sentry/lib/list.h"
#include "sentry/lib/ref.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"
#include "sentry/time/ktimer.h"
#include "sentry/vfs/vfs.h"

struct cgroup;
struct ns_set;
struct pid;
struct pid_choice;
struct pid_ns;
struct task;
struct tty;

/* What one container is inside the sandbox. */
struct container {
	ref_t ref;
	char *id;		     /* owned */
	struct mnt_ns *mnt_ns;	     /* reference */
	struct pid_ns *pid_ns;	     /* reference */
	struct thread_group *init;   /* borrowed; NULL before start; lc_tasks */
	struct list_head link;	     /* kernel.containers; lc_control of boot */
	struct list_head exec_waits; /* boot's */
	void *boot;		     /* boot's own */
	/* Called when init is a zombie, on init's fiber, without locks. */
	void (*init_exited)(struct container *c, int wait_status);
};

enum task_state {
	TASK_RUNNING,	      /* R: guest code, or a handler */
	TASK_SLEEPING,	      /* S */
	TASK_UNINTERRUPTIBLE, /* D */
	TASK_STOPPED,	      /* T */
	TASK_TRACED,	      /* t: in a ptrace-stop */
	TASK_TRACED_AT_EXIT,  /* t: the same, of a task that is ending */
	TASK_ZOMBIE,	      /* Z */
	TASK_DEAD,	      /* X: reaped */
};

struct session {
	ref_t ref;
	int sid;	    /* of the top PID namespace */
	struct tty *tty;    /* controlling terminal; lc_tasks; see tty.h */
	int old_fg_pgid;    /* foreground group of a terminal that hung up; lc_tasks */
	int autogroup_nice; /* /proc/PID/autogroup; lc_tasks */
};

#define RLIM_K_INFINITY (~0ULL)
struct krlimit {
	uint64_t cur, max;
};

/* /proc/PID/io: bytes and calls of read(2), write(2) and the like. */
struct task_io {
	uint64_t rchar, wchar, syscr, syscw;
};

static inline void task_io_add(struct task_io *to, const struct task_io *more)
{
	to->rchar += more->rchar;
	to->wchar += more->wchar;
	to->syscr += more->syscr;
	to->syscw += more->syscw;
}

/* Of SCHED_DEADLINE, ns: remembered, not acted on. */
struct sched_deadline {
	uint64_t runtime, deadline, period;
	uint32_t flags;
};

struct cpu_times {
	int64_t user, system; /* ns */
};

#define COREDUMP_FILTER_DEFAULT 0x33
#define COREDUMP_FILTER_ALL 0x1ff
#define TIMER_SLACK_DEFAULT 50000 /* ns */

struct thread_group {
	ref_t ref;
	struct kernel *k;	     /* immutable */
	struct container *container; /* immutable, reference */
	struct task *leader;	     /* lc_tasks; reference while not reaped */
	struct list_head threads;    /* task.thread_link; changes under lc_tasks and siglock, so
				      * that either is enough to walk it */
	int nthreads;		     /* not yet exited */
	bool threaded;		     /* had more than one since it was made, or since exec */
	/* Numbers of the top PID namespace: pid.h. */
	int tgid; /* immutable */
	int pgid;
	struct pid *pid;	     /* the leader's, whoever that is; own, while not reaped */
	struct pid_ns *pid_ns;	     /* immutable once it is linked; reference */
	struct session *session;     /* reference */
	struct thread_group *parent; /* NULL for the container's init */
	struct list_head children, sibling;
	struct list_head link; /* kernel.groups */
	bool did_exec;	       /* setpgid: EACCES after execve */
	bool child_subreaper;
	bool zombie;		    /* all threads gone, waiting for wait() */
	int exit_signal;	    /* SIGCHLD; what the parent gets */
	int wait_status;	    /* of the group's end */
	struct waitq wait_children; /* notified when a child's state changes: POLLIN */
	struct waitq exit_waitq;    /* notified (POLLIN) when the group is a zombie */

	/* siglock */
	struct mutex siglock;
	struct sighand *sighand;      /* reference; replaced by exec */
	struct sigqueue_head pending; /* for the group */
	_Atomic bool exiting;	      /* group exit under way */
	_Atomic bool host_killed;     /* … since its host process was killed */
	int group_exit_status;
	struct core_state *core; /* a core file is being written: core/core.h */
	enum { STOP_NONE, STOP_PENDING, STOP_STOPPED } stop_state;
	int stop_signo;
	bool stop_unreported, cont_unreported; /* for waitid(WSTOPPED, WCONTINUED) */
	struct task *_Atomic exec_task;	       /* execve under way: all others die */
	int stop_notify;	     /* CLD_* that the parent is still to be told; 0: nothing */
	bool stop_dequeued;	     /* a stop signal was taken; SIGCONT makes it void */
	bool killable_init;	     /* a fault may end the container's init after all */
	_Atomic uint32_t nsigqueued; /* queued siginfos and POSIX timers: RLIMIT_SIGPENDING */

	struct krlimit rlimit[RLIM_NLIMITS]; /* lc_tasks */
	/* Accounting, lc_tasks: what exited threads and waited-for children used (ns). */
	int64_t dead_cpu;   /* of earlier programs, or of all when no thread is left */
	uint64_t dead_work; /* as task.work_ticks */
	struct cpu_times shown_times, child_times;
	struct task_io dead_io; /* of threads that ended */
	/* … of memory and switches: earlier programs of this process, waited-for children. */
	struct mm_usage dead_usage, child_usage;
	int64_t start_time;	     /* CLOCK_BOOTTIME ns; immutable */
	struct cgroup *cgroup;	     /* reference; lc_tasks; of a group that is not linked
				      * yet: where it is to begin, or NULL */
	struct posix_timers *timers; /* interval and POSIX timers: sentry/time; siglock */
	/* lc_tasks: /proc/PID/oom_score_adj, and how low one without CAP_SYS_RESOURCE may set it.
	 */
	int oom_score_adj, oom_score_adj_min;
	struct key *process_keyring; /* reference or NULL; lc_keys */
	unsigned coredump_filter;    /* lc_tasks: which mappings a core file holds; core(5) */
};

/* What add_key(2) and its like work on: keys/keys.h.  lc_keys. */
struct task_keys {
	struct key *thread, *session; /* keyrings, references; NULL: none */
	int default_ring;	      /* KEY_REQKEY_DEFL_* */
};

struct task {
	ref_t ref;
	struct kernel *k;	      /* immutable */
	struct thread_group *tg;      /* immutable, reference */
	struct list_head thread_link; /* lc_tasks */
	int tid;		      /* lc_tasks; changes only when exec makes it the leader */
	struct pid *pid;	      /* the same in all namespaces: pid.h */
	struct fiber fiber;
	struct list_head run_link; /* run queue of the workers; lc_runq */
	struct p_thread *pt;	   /* own; changes under siglock, for those who interrupt it */
	struct umem um;		   /* own: { mm, pt } */
	struct mm *mm;		   /* own, reference; others: task_mm_get() */
	struct fdtable *fds;	   /* own, reference; others: lc_tasks */
	struct fs_context *fs;	   /* own, reference; others: lc_tasks */
	struct ns_set *ns;	   /* own, reference; others: task_ns_get() */
	struct cred *cred;	   /* own; others: task_cred_get() */
	char comm[16];		   /* lc_tasks */
	_Atomic int state;	   /* enum task_state */
	_Atomic bool no_new_privs; /* set by the task, or for it (seccomp TSYNC) */
	bool exit_requested;	   /* own: exit(2) of this thread */
	int exit_status;	   /* own wait status */

	struct list_head helpers;  /* those that work for this task; lc_leaf of helper.c */
	struct task *helps;	   /* a helper's owner, which outlives it; NULL: a guest's task */
	_Atomic bool helper_slept; /* it has slept, or ended */

	/* Sleeping: see below. */
	_Atomic uint32_t park;
	struct ktimer park_timer;
	_Atomic bool in_guest; /* between resume and the next event */
	_Atomic bool timer_fired;

	/* Signals; siglock unless *own*. */
	struct sigqueue_head pending;
	sigset_k mask;		       /* others: signal_mask_locked() */
	_Atomic bool mask_lent;	       /* to the platform, while in_guest; set by the task */
	sigset_k saved_mask;	       /* own */
	bool has_saved_mask;	       /* own */
	_Atomic bool sigpending;       /* hint kept by signal.c: something is deliverable */
	struct sigaltstack_k altstack; /* own */
	sigset_k sigwait;	       /* signals a sigtimedwait sleeps for */
	bool sig_exiting;	       /* signal_task_exit was called: gets no more signals */
	bool stopped;		       /* parked in a group stop */
	bool core_waits;	       /* … until the core file of its group is written */
	uint64_t fault_trapno, fault_error, fault_cr2; /* own: of the last fault, for frames */
	/* own: what restart_syscall does (nanosleep, poll, futex, …). */
	long (*restart_fn)(struct task *t);
	int64_t restart_deadline;
	uint64_t restart_arg[5];

	uaddr_t clear_child_tid, robust_list; /* own */
	struct list_head pi_owned;	      /* futexes that others wait for; lc_futex */
	struct pi_waiter *pi_waiter;	      /* its place in such a queue; lc_futex */
	bool pi_gone;			      /* owns no futex any more; lc_futex */
	int pdeath_signal;		      /* lc_tasks */
	struct task *vfork_parent; /* reference: sleeping until we exec or exit; lc_tasks */
	_Atomic bool vfork_done;
	int64_t start_time;
	_Atomic int64_t cpu_seen;    /* what task_cpu_time said last, ns */
	_Atomic uint64_t work_ticks; /* the handlers' work for it, by the TSC; written by the own */
	uint64_t work_since;	     /* own: when the handler began, or went on */
	struct cpu_times shown_times; /* lc_tasks */
	uint64_t nsyscalls;
	struct task_io io; /* own; others may be a little late */
	/* Scheduling values that are remembered. */
	int nice, sched_policy, sched_priority;
	bool sched_reset_on_fork;
	struct sched_deadline sched_dl; /* lc_tasks */
	uint64_t timer_slack;
	unsigned personality;
	struct sem_undo_list *sem_undo; /* own: semop(2); NULL: none yet */
	int ioprio;			/* ioprio_set(2); lc_tasks */
	int mce_kill;			/* own: PR_MCE_KILL_* */
	struct mempolicy mempolicy;	/* own */
	uint64_t cpu_affinity; /* bits of CPUs, the host's numbers; changes under siglock */
	struct task_keys keys;

	/* What it may call: seccomp/seccomp.h.  Changes under siglock. */
	struct seccomp_filter *_Atomic seccomp; /* reference and use, or NULL */
	_Atomic bool seccomp_strict;
	/* own: prctl(PR_SET_SYSCALL_USER_DISPATCH) */
	bool sud_on;
	uint64_t sud_start, sud_len;
	uaddr_t sud_selector;
	struct trace trace; /* ptrace(2): ptrace/trace.h */
	/* own: the call is performed again, since the bytes that it lent out were not moved; and
	 * what it moved the position of a file by, the first time (sys_rw.c; borrowed, only
	 * compared). */
	bool retry;
	struct file *lent_file;
	int64_t lent;
	/* own: files that guest code reads on and on (stream.h). */
	struct task_stream {
		struct file *file; /* borrowed of the table; NULL: none */
		int fd;
		int64_t pos; /* what the platform was told */
	} streams[P_STREAMS];
	bool streaming; /* there are some */
	unsigned next_stream;
	/* own: the call that the platform reported is handed back to it (task loop). */
	bool pass_on, passed_on;
};

/* The sandbox's one kernel. */
struct kernel {
	struct platform *pf;
	struct mutex tasks_lock; /* lc_tasks */
	struct list_head groups; /* thread_group.link: all that are not reaped */
	struct list_head containers;
	struct ns_set *ns; /* of containers' first processes; reference */
	_Atomic uint64_t nforks;
	_Atomic int ntasks;
	_Atomic unsigned long oom_kills; /* guest processes that the host has killed */
	int64_t boot_time;		 /* CLOCK_REALTIME ns at start */
	int64_t boot_boottime;		 /* … and CLOCK_BOOTTIME */
	bool allow_suid;		 /* --allow-suid: set-id bits and file capabilities count */
	bool strace;			 /* --strace */
	const uint64_t *strace_filter;	 /* bitmap by number, or NULL: all */
	unsigned ncpus;
	uint64_t cpus;	  /* the same as bits: those that the host lets us have */
	bool passes_nice; /* the host lets a thread that was nice be as others again; immutable */
};

extern struct kernel *kernel; /* set once by kernel_init */

/* ---- kernel (kernel.c, worker.c) ---- */
/* domainname: "" for none. */
int kernel_init(struct platform *pf, const char *hostname, const char *domainname) MUST_CHECK;
/* Starts the workers; returns at once.  Workers run until the process exits. */
int kernel_start_workers(void) MUST_CHECK;
/*
 * The task whose handler runs on this host thread, borrowed; NULL elsewhere.  Only for file
 * operations that are not handed their caller: /proc/self and access to /proc/PID, poll of a
 * signalfd, write of a socket.  Never keep it.
 */
struct task *task_current(void);
/* A worker is about to be in a host call that may take long (and after).  Keeps one more ready. */
void worker_host_block_begin(void);
void worker_host_block_end(void);

struct exec_args {
	const char *filename; /* as given: becomes AT_EXECFN and argv[1] of scripts */
	struct file *file;    /* borrowed: the opened executable */
	size_t argc, envc;
	char **argv, **envp; /* borrowed */
};
/*
 * The first process of a container, or an exec'ed one (parent: container's init, outside its
 * session): made with these resources, which are borrowed (references are taken), and left
 * un-started.  -errno as execve(2).
 */
struct process_args {
	struct container *container;
	struct exec_args exec;
	struct cred *cred;
	struct fdtable *fds;
	struct fs_context *fs;
	const struct krlimit *rlimits; /* RLIM_NLIMITS of them, or NULL: defaults */
	bool no_new_privs;
	int oom_score_adj;
	struct tty *tty; /* becomes the controlling terminal; NULL: none */
};
int kernel_process_create(const struct process_args *a, struct thread_group **out) MUST_CHECK;
void kernel_process_start(struct thread_group *tg);

/* ---- tasks (task.c) ---- */
struct task *task_get(struct task *t);
void task_put(struct task *t);
struct thread_group *thread_group_get(struct thread_group *tg);
void thread_group_put(struct thread_group *tg);
/* Under lc_tasks; borrowed results. */
struct task *task_lookup(int tid) REQUIRES(lc_tasks);
struct thread_group *thread_group_lookup(int tgid) REQUIRES(lc_tasks);
/*
 * The next thread group that is not reaped and that the namespace calls *nr or higher, with a
 * reference; *nr becomes its number.  NULL: none.  Takes lc_tasks.
 */
struct thread_group *thread_group_next(const struct pid_ns *ns, int *nr);
/* References for readers other than the task; NULL when it is exiting. */
struct mm *task_mm_get(struct task *t);
struct cred *task_cred_get(struct task *t);
struct fdtable *task_fds_get(struct task *t);
struct fs_context *task_fs_get(struct task *t);
/*
 * ptrace(2), "Ptrace access mode checking": may t look into (or attach to) other?  fscreds says
 * which of t's ids count.  Takes lc_tasks.
 */
bool task_may_ptrace(struct task *t, struct task *other, bool fscreds);
/* unshare(2): a table, a context of the task's own, if others share it.  -ENOMEM. */
int task_unshare_fds(struct task *t) MUST_CHECK;
int task_unshare_fs(struct task *t) MUST_CHECK;
/* Replaces the own credentials (consumes `new`); handles dumpable and pdeath_signal. */
void task_set_cred(struct task *t, struct cred *new);
uint64_t task_rlimit(struct task *t, int resource); /* the soft limit */
static inline bool task_capable(const struct task *t, int cap)
{
	return cred_capable(t->cred, cap);
}
/* … over what belongs to user namespace u; to the task's own. */
static inline bool task_ns_capable(const struct task *t, const struct user_ns *u, int cap)
{
	return cred_ns_capable(t->cred, u, cap);
}
static inline bool task_own_capable(const struct task *t, int cap)
{
	return t->cred->cap_effective & CAP_BIT(cap);
}
/* A walk environment for dirfd and name.  Takes references: end it with walk_env_fini. */
int task_walk_env(struct task *t, int dirfd, const char *name, struct walk_env *env) MUST_CHECK;
void walk_env_fini(struct walk_env *env);
char task_state_letter(const struct task *t);
/* What its own namespace calls its parent: getppid(2). */
int thread_group_ppid(const struct thread_group *tg) REQUIRES(lc_tasks);
/* The same of its parent, process group or session. */
int thread_group_kin(const struct thread_group *tg, enum p_kin which) REQUIRES(lc_tasks);
bool pgrp_exists_in_session(int pgid, int sid) REQUIRES(lc_tasks);
bool pgrp_is_orphaned(int pgid) REQUIRES(lc_tasks);

/* ---- sleeping (worker.c) ----
 * A task has one park token.  task_wake() deposits it, from any thread; task_park() waits for it
 * and takes it.  So: register where you will be woken, check the condition, park, check again.
 * Tokens may be spurious.
 */
void task_wake(struct task *t);
/* Waits for a token until `deadline` (CLOCK_MONOTONIC ns, TIME_NEVER: none).  0 token;
 * -ETIMEDOUT; -EINTR: a signal is pending - in the other states than TASK_SLEEPING only one that
 * ends the task. */
int task_park(struct task *t, enum task_state state, int64_t deadline) MUST_CHECK;

struct task_waiter {
	struct waiter w;
	struct task *t;
};
void task_waiter_init(struct task_waiter *tw, struct task *t); /* notify = task_wake */
struct sleep_lock;
/*
 * Waits for the lock as an uninterruptible sleep.  -EINTR: the task is about to end, and does not
 * hold it.  Order, for a task that holds several: file.pos_busy, then inode_append_lock().
 */
int task_sleep_lock(struct task *t, struct sleep_lock *l) MUST_CHECK;
/*
 * Waits until the file may be ready for one of `events`: 0, -ETIMEDOUT, or -ERESTARTSYS on a
 * signal.  The loop around an operation:
 *	while ((n = file_read(f, &io, NULL)) == -EAGAIN && !nonblock)
 *		if ((err = task_wait_file(t, f, POLLIN, TIME_NEVER)))
 *			return err;
 */
int task_wait_file(struct task *t, struct file *f, uint32_t events, int64_t deadline) MUST_CHECK;

/* Start-up: what sentry/mm asks of tasks (umem.c). */
void umem_init(void);

/* ---- clone, exec, exit, wait ---- */
struct clone_args_k { /* clone3(2), kernel layout; set_tid was read into pids */
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size, cgroup;
};
/* pids: the numbers that are wanted, or NULL. */
long task_clone(struct task *t, const struct clone_args_k *a, const struct pid_choice *pids);
/* Replaces the program.  On success the task's registers are the new program's; returns 0. */
int task_exec(struct task *t, const struct exec_args *a) MUST_CHECK;
/* Asks the task to end with this exit status (wait status form); takes effect in its loop. */
void task_exit_self(struct task *t, int wait_status);
long task_wait4(struct task *t, int pid, uaddr_t status, int options, uaddr_t rusage);
long task_waitid(struct task *t, int type, int id, uaddr_t info, int options, uaddr_t rusage);
/* The parent's view changed (stopped, continued): SIGCHLD and waiters.  Holds nothing. */
void task_notify_parent_stop(struct thread_group *tg, int cld_code, int signo);
/* who: RUSAGE_SELF or RUSAGE_CHILDREN; mm: the group's, or NULL when only times matter. */
void task_rusage(struct thread_group *tg, struct mm *mm, int who, struct rusage *out);
/* RUSAGE_THREAD, of the calling task. */
void task_own_rusage(struct task *t, struct rusage *out);
/* Sets t->nice, and the host's value as far as it can be; under lc_tasks. */
void task_set_nice(struct task *t, int nice) REQUIRES(lc_tasks);
/* sched_setaffinity(2) on the host: EINVAL when it has none of these CPUs.  A subset of cpus. */
int task_set_affinity(struct task *t, uint64_t cpus) MUST_CHECK;
/* CPU time in ns, from the host's clocks; take lc_tasks. */
int64_t task_cpu_time(struct task *t);
int64_t thread_group_cpu_time(struct thread_group *tg);
/*
 * The same in two parts, neither of which ever becomes less: what the sentry does for a task, and
 * its host process waits for, counts as system time.
 */
struct cpu_times task_times(struct task *t);
struct cpu_times thread_group_times(struct thread_group *tg);
/* Of a process without threads. */
struct cpu_times thread_group_last_times(struct thread_group *tg) REQUIRES(lc_tasks);
void cpu_work_init(void);
/* Around what is done for a task, sleeping not included; by the task. */
void task_work_begins(struct task *t);
void task_work_ends(struct task *t);
/* Faults and switches of the one host thread that runs it now; zeroes when not known. */
void task_host_usage(struct task *t, struct mm_usage *out);

/* Restart codes: they never reach the guest; they die in signal_deliver(). */
#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516

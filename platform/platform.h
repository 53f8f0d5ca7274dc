/*
 * platform.h - how guest code runs: the one interface between the sentry and a platform.
 *
 * A platform runs guest threads inside guest address spaces and reports why they stopped.  The
 * sentry knows nothing about which platform is in use.  platform/ptrace and platform/systrap
 * implement it; a KVM or arm64 platform must be addable without touching sentry/.
 *
 * Terms
 *   address space  struct p_aspace: one host process whose memory IS the guest's memory.
 *   thread         struct p_thread: one host thread, always of one address space.
 *   event          why a thread stopped.  A thread is either *running* (between p_resume and the
 *                  event that p_next returns for it) or *stopped*; everything except p_interrupt
 *                  needs it stopped, and only one sentry thread uses a stopped thread at a time.
 *
 * Workers.  Any number of sentry threads ("workers") call p_next(); it returns one stopped thread
 * with a fresh event, or NULL after p_kick() or a death of the platform.  A worker handles the
 * event itself and calls p_resume(), which never blocks.  Who spins and who sleeps in p_next is the
 * platform's business: it is the leader/follower hand-off of the design.
 *
 * Trust.  Everything that comes out of a guest process is hostile.  The platform fetches each word
 * once, checks it, and gives the sentry private copies.
 *
 * Errors are negative errno values.  -ESRCH means that the host process is gone (killed, OOM): the
 * caller treats the address space as dead; every thread of it will also report P_EVENT_DEAD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "sentry/arch/regs.h"
#include "sentry/lib/compiler.h"

struct platform;
struct p_aspace;
struct p_thread;

enum p_event_kind {
	P_EVENT_SYSCALL, /* a system call: number in regs->orig_rax, arguments in registers;
			    rip stands after the instruction, rax is -ENOSYS as on Linux */
	P_EVENT_SIGNAL,	 /* a synchronous signal of the guest's own making: fault, #UD, trap … */
	P_EVENT_INTERRUPTED, /* p_interrupt() took it out of guest code */
	P_EVENT_OWED,	     /* the operation of mem_later() failed, with error si_code */
	P_EVENT_DEAD,	     /* its host process or thread died unexpectedly; signo says how */
};

struct p_event {
	enum p_event_kind kind;
	/* P_EVENT_SIGNAL: as the host kernel reported it. */
	int signo, si_code;
	uint64_t addr; /* si_addr */
	uint64_t trapno, error_code, cr2;
	/*
	 * P_EVENT_SYSCALL for futex: the platform had passed the call to the host kernel, where
	 * p_interrupt() or a stop aborted it.  The sentry restarts it (ERESTARTSYS) or fails it
	 * with EINTR, and must not expect the platform to have had any other effect.
	 */
	bool host_wait_aborted;
	/* The bytes that copy_file_late() put off could not be copied, so that the call has not
	 * taken place: it is to be performed again, without. */
	bool retry;
	/* … its timeout as an absolute CLOCK_MONOTONIC time in ns; 0 for none, or for one that the
	 * guest gave as absolute.  Valid when aborted.
	 * A thread that is made to execute the same call again (rip back at the instruction, same
	 * arguments) waits until that time, however often it is restarted. */
	int64_t host_wait_deadline;
};

struct p_limits {
	uint64_t task_size; /* guest addresses are below it; page aligned */
	uint64_t mmap_min;  /* lowest address a guest may map */
	uint64_t vdso_base; /* the vDSO's ELF header in every fresh address space; 0 for none */
	uint64_t vdso_len;  /* [vdso], executable pages */
	uint64_t vvar_base, vvar_len; /* [vvar], below it */
	uint64_t vdso_clock;	      /* the vDSO's clock_gettime; 0: it has none */
	size_t xstate_size;	      /* bytes of the XSAVE area that p_xstate_get/_set move */
	uint64_t xstate_mask;	      /* XCR0 bits in it */
};

#define P_BRING_STRING 8 /* a string, some bytes of it */
#define P_BRING_BYTES 16 /* as many as the next argument says, if they are few */

struct p_options {
	bool patching; /* systrap: patch hot call sites in file text */
	int spin_us;   /* how long a worker may spin; -1: platform's own policy; 0: always sleep */
	int max_guest_processes; /* backstop; 0: a default */
	/* The platform lost what it cannot go on without (its zygote); any thread.  NULL: nobody
	 * cares. */
	void (*died)(const char *why);
	/* A guest's host process ended that nobody told to: its copies fail with -ESRCH now, but
	 * threads that were stopped get no event until they are resumed.  Any thread; NULL: … */
	void (*process_lost)(void);
	/*
	 * What guest memory a call's handler is going to ask for at once, by number (512 of them):
	 * a platform may bring it along.  P_BRING_* | the argument's place; 0: nothing.  NULL: …
	 */
	const uint8_t *brings;
	/* Called in the zygote's process before it executes its program: gives up what the caller
	 * of prepare() itself is going to give up before ready().  0, or the process ends.  NULL: …
	 */
	int (*zygote_confine)(void);
};

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* newer than libc's headers */
#endif

/* One memory operation of a batch; executed in order, the first failure stops the batch. */
enum p_memop_kind {
	P_MEMOP_MAP,	 /* mmap(addr, len, prot, flags|MAP_FIXED, fd, off); fd -1: anonymous */
	P_MEMOP_UNMAP,	 /* munmap(addr, len) */
	P_MEMOP_PROTECT, /* mprotect(addr, len, prot) */
	P_MEMOP_MOVE,	 /* mremap(addr, len, new_len, MAYMOVE|FIXED, new_addr) */
	P_MEMOP_RESIZE,	 /* mremap(addr, len, new_len, 0): in place, shrink or grow */
	P_MEMOP_ADVISE,	 /* madvise(addr, len, flags) */
	P_MEMOP_WAKE,	 /* futex(addr, FUTEX_WAKE [|PRIVATE: flags], len) */
	P_MEMOP_CLEAR,	 /* memset(addr, 0, len), of what the guest may write; else -EFAULT */
	P_MEMOP_WRITE,	 /* memcpy(addr, bytes, len), as CLEAR; len at most P_WRITE_MAX */
	P_MEMOP_RESET,	 /* nothing is mapped but vDSO and vvar; only where can_reset() says so */
};
#define P_WRITE_MAX 4096

struct p_memop {
	enum p_memop_kind kind;
	uint64_t addr, len;
	int prot;
	int flags;
	int fd; /* host descriptor, borrowed for the call, with exactly the guest's access */
	uint64_t off;
	uint64_t new_addr, new_len;
	const void *bytes;
	long ret; /* out: ≥ 0 or -errno; -ECANCELED for those after a failure */
};

/* What a thread's own calls tell about it. */
struct p_ids {
	uint32_t pid, tid, uid, euid, gid, egid;
};

/* What others may change about it at any time. */
enum p_kin { P_KIN_PARENT, P_KIN_GROUP, P_KIN_SESSION, P_KINS };

/* What a thread has asked for by calls that the platform answered: to be known, and no more. */
struct p_notes {
	bool robust, clear_tid;	  /* is the following new? */
	uint64_t robust_list;	  /* set_robust_list(2), of the one length that there is */
	uint64_t clear_child_tid; /* set_tid_address(2) */
};

/* What a host process has used, as getrusage(2). */
struct p_usage {
	uint64_t peak_kib, minor_faults, major_faults, voluntary, involuntary;
};

/* Since the start; counted without locks, so a few may be missing. */
struct p_stats {
	uint64_t answered; /* calls that guest processes answered themselves, as they say */
	uint64_t fast;	   /* calls from patched sites */
	uint64_t trapped;  /* calls by way of a signal */
	uint64_t events;   /* faults, interrupts and the like */
	uint64_t spins_won, spins_lost; /* of workers, for the next event */
	uint64_t sleeps;		/* … and when they slept for it */
	uint64_t copies_stub, copies_host;
	uint64_t moves; /* threads that were woken on another CPU than a spinning worker's */
	uint64_t sites; /* patched, in the text of all files */
	uint64_t texts; /* mappings of text that came, or became, patched */
};

/* A file that a guest process may map.  `key` is one file's as long as any process maps it. */
struct p_file {
	uint64_t key[2];
	int fd; /* borrowed for the call, with exactly the guest's access; -1: not opened yet */
	bool no_map; /* it may become shorter, have holes, or has to be let go of: by descriptor */
};

/* So much is moved at a time at most: no interrupt gets in between; and is surely worth it. */
#define P_MOVE_MAX (4UL << 20)
#define P_MOVE_MIN (16UL << 10)
#define P_STREAMS 2

enum p_lend {
	P_LEND_NO,   /* not now: the caller moves the bytes */
	P_LEND_DONE, /* they will be moved */
	P_LEND_FD,   /* to be asked again with the descriptor */
};

struct platform_ops {
	const char *name;

	/* ---- life ---- */
	/* p_prepare runs in the small, still single-threaded sentry before confinement: it starts
	 * the zygote.  p_ready, still before confinement, waits until that has started: what the
	 * sentry does in between costs no time; NULL: prepare waited.  p_start runs after
	 * confinement, before the first aspace. */
	int (*prepare)(const struct p_options *opt, struct platform **out);
	int (*ready)(struct platform *pf);
	int (*start)(struct platform *pf);
	void (*destroy)(struct platform *pf); /* kills every guest process */
	const struct p_limits *(*limits)(struct platform *pf);

	void (*stats)(struct platform *pf, struct p_stats *out); /* NULL: none are kept */

	/* ---- workers ---- */
	struct p_thread *(*next)(struct platform *pf);
	void (*kick)(struct platform *pf); /* makes one worker that sleeps in next() return NULL */

	/* ---- address spaces and threads ---- */
	/* A fresh process with nothing mapped below task_size but vDSO and vvar, and one stopped
	 * thread with zeroed registers and default extended state. */
	int (*aspace_create)(struct platform *pf, struct p_aspace **as, struct p_thread **th);
	/* The host's fork of parent's process: the child's one thread is stopped and equals
	 * `parent` in registers and extended state. */
	int (*fork)(struct p_thread *parent, struct p_aspace **as, struct p_thread **th);
	/* A further host thread in parent's process, stopped, equal in registers and state. */
	int (*thread_create)(struct p_thread *parent, struct p_thread **th);
	/* Ends one stopped thread (consumes it).  The last thread's end, or aspace_kill, ends the
	 * process.  A thread whose event was P_EVENT_DEAD is only freed. */
	void (*thread_destroy)(struct p_thread *th);
	struct p_aspace *(*aspace_get)(struct p_aspace *as);
	void (*aspace_put)(struct p_aspace *as); /* last put: killed if alive, reaped, freed */
	/* Sends SIGKILL to the host process: for whole-process exits.  Its threads, running ones
	 * included, need no event any more but must still be destroyed; copies fail with -ESRCH. */
	void (*aspace_kill)(struct p_aspace *as);
	pid_t (*host_pid)(struct p_aspace *as); /* in the sentry's PID namespace; for procfs */
	pid_t (*host_tid)(
		struct p_thread *th); /* its host thread, as host_pid; NULL member: unknown */
	/* Of a thread stopped at exit(2) or exit_group(2): what its process had used, as that says
	 * itself; false, or NULL member: not known. */
	bool (*last_usage)(struct p_thread *th, struct p_usage *out);
	/* CPU time in ns that the host thread had used before it became th's; NULL member: 0. */
	int64_t (*cpu_before)(struct p_thread *th);
	/* The host thread is about to be restricted to some of the host's CPUs (bits; 0: to none),
	 * so that the platform does not move it elsewhere; NULL member: it never does. */
	void (*set_cpus)(struct p_thread *th, uint64_t cpus);

	/* ---- running ---- */
	void (*resume)(struct p_thread *th);
	/* A hint: the stopped thread will not be resumed soon.  NULL: not wanted. */
	void (*parks)(struct p_thread *th);
	/* Any thread may call it at any time: a running `th` reports an event soon (its own next
	 * one, or P_EVENT_INTERRUPTED); for a stopped one it is remembered until the next resume,
	 * which then returns at once.  After a short deadline the host process is killed. */
	void (*interrupt)(struct p_thread *th);
	const struct p_event *(*event)(struct p_thread *th);
	struct arch_regs *(*regs)(struct p_thread *th); /* sentry-private; taken at resume */
	int (*xstate_get)(struct p_thread *th, void *buf, size_t size);
	int (*xstate_set)(struct p_thread *th, const void *buf, size_t size);
	int (*xstate_reset)(struct p_thread *th); /* as after execve */
	void (*set_owner)(struct p_thread *th, void *owner);
	void *(*owner)(struct p_thread *th);
	bool (*in_host_wait)(
		struct p_thread *th); /* running, but asleep in a passed-through futex */
	/*
	 * Whether the platform may answer calls by itself (futex, sched_yield, membarrier, rseq);
	 * on at first, inherited by fork and thread_create, taken at the next resume.  Off: every
	 * call is reported - for threads that are traced, filtered, or shown by --strace - but for
	 * those that guest code may make of the host by itself (systrap: all of these but rseq,
	 * with absolute timeouts or none).
	 */
	void (*set_direct)(struct p_thread *th, bool on);
	/*
	 * For answers of the platform's own, while set_direct is on; all NULL: it gives none.
	 * set_ids: of a stopped thread, from its next resume on.  set_kin: of any thread that is
	 * not being destroyed, from now on, until the next one.
	 */
	void (*set_ids)(struct p_thread *th, const struct p_ids *ids);
	void (*set_kin)(struct p_thread *th, enum p_kin which, uint32_t pid);
	/* Of a stopped thread, from its next resume on: how far its CLOCK_MONOTONIC is ahead of the
	 * host's (ns), for the absolute timeouts of calls that are passed to the host. */
	void (*set_clock_offset)(struct p_thread *th, int64_t monotonic);
	/*
	 * lend_mask: guest code of this stopped thread may change its mask of blocked signals
	 * without an event, from the next resume on; a full barrier.  recall_mask, of any thread
	 * that is not being destroyed: no further such change.  lent_mask: what the mask is, final
	 * once it was recalled or the thread is stopped; any bits, since guests can write it.
	 */
	void (*lend_mask)(struct p_thread *th, uint64_t mask);
	void (*recall_mask)(struct p_thread *th);
	uint64_t (*lent_mask)(struct p_thread *th);
	/* After each event of th: true when there is something new. */
	bool (*take_notes)(struct p_thread *th, struct p_notes *out);
	/* For a thread stopped at a call that platform_passes() (orig_rax and registers as
	 * reported): resumes it by performing the call in the host.  Any other is reported again.
	 * What comes next is an event like any other: that of the guest's next call looks the
	 * same, so nothing may be concluded from it. */
	void (*resume_direct)(struct p_thread *th);

	/* From now on the address space shows its own code: call sites that the platform patched
	 * are put back, and none is patched any more.  For a thread that is traced.  Inherited by
	 * fork.  NULL: the platform never patches. */
	void (*show_original)(struct p_thread *th);

	/* ---- memory ---- */
	/* Runs a batch on a stopped thread of the address space; returns 0, or the first error. */
	int (*mem)(struct p_thread *th, struct p_memop *ops, size_t n);
	/*
	 * One operation of the only thread of an address space, that is done when the thread is
	 * resumed, before guest code: a hand-off less.  It will have succeeded, or P_EVENT_OWED
	 * comes instead.  False: it cannot be put off; NULL: never.  mem_settle does it now: 0, or
	 * its error, and must come before anything else is asked of the thread or its memory.
	 */
	bool (*mem_later)(struct p_thread *th, struct p_memop *op);
	int (*mem_settle)(struct p_thread *th);
	/*
	 * Whether P_MEMOP_RESET may begin a batch of th's: it is the only thread that its address
	 * space ever had, and what a fresh address space has is still there.  Extended state, too,
	 * is then as in a fresh one.  A reset that fails leaves a process that has to die.
	 * NULL: never.
	 */
	bool (*can_reset)(struct p_thread *th);
	/* Copies; return the bytes done, short when a page is missing (then maybe 0), or -ESRCH.
	 * `th` may be NULL (another task's memory); when given and stopped at a system call whose
	 * marshalled bytes cover the range, those are used. */
	ssize_t (*copy_in)(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src,
			   size_t n);
	ssize_t (*copy_out)(struct p_aspace *as, struct p_thread *th, uint64_t dst, const void *src,
			    size_t n);
	/*
	 * copy_out by which a call ends: the bytes may get there as late as th resumes.  The caller
	 * has found the place to be writable; is it not any more, the call's result becomes
	 * -EFAULT, or is cut if it is the number of all the bytes put off.  False: not now, use
	 * copy_out. settle: makes such copies at once, for whoever looks before th resumes.  Both
	 * NULL: none.
	 */
	bool (*copy_out_late)(struct p_thread *th, uint64_t dst, const void *src, size_t n);
	void (*settle)(struct p_thread *th);
	/*
	 * A read or write that guest code could do by itself, had it mapped the file: the guest's
	 * process moves n bytes between `off` of the file and `addr` as th resumes (write: to the
	 * file), through a mapping or a descriptor that the platform keeps for it.  For a file
	 * whose bytes at the place are there.  It is the last thing that the call does; if the
	 * bytes cannot be moved after all, the next event is the call again, with `retry`.  NULL:
	 * never.
	 */
	enum p_lend (*copy_file_late)(struct p_thread *th, const struct p_file *f, uint64_t off,
				      uint64_t addr, size_t n, bool write);
	/*
	 * The same at once, whether the bytes are there or not, by pread64(2) or pwrite64(2) of the
	 * guest's process, which keeps a descriptor of the file: how many bytes, or what the host
	 * says; then the file may have changed all the same.  -EAGAIN: the caller moves the bytes;
	 * -EBADF: to be asked again with the descriptor.  At most P_MOVE_MAX.  forget_file: no
	 * process keeps a descriptor of the file beyond its next call.  Both NULL: never.
	 */
	ssize_t (*move_file)(struct p_thread *th, const struct p_file *f, uint64_t off,
			     uint64_t addr, size_t n, bool write);
	void (*forget_file)(struct platform *pf, const uint64_t key[2]);
	/*
	 * Streams, P_STREAMS of each thread: guest code's read(2)s of one descriptor number are
	 * made without an event, one after the other, as long as each is whole.  Begin: if th's
	 * call has just put off a read by a descriptor of the guest's process, further ones of `fd`
	 * are of that file; false: it has not.  Go: of a stopped thread; from pos on, from the next
	 * resume on; false: the file is to be forgotten, end it.  Pos: how far it got: any value,
	 * guests can write it.  All NULL: none.
	 */
	bool (*stream_begin)(struct p_thread *th, unsigned i, int fd);
	bool (*stream_go)(struct p_thread *th, unsigned i, int64_t pos);
	int64_t (*stream_pos)(struct p_thread *th, unsigned i);
	void (*stream_end)(struct p_thread *th, unsigned i);
	/* Compare-and-swap of a 32-bit guest word, executed in the address space by `th`.
	 * Returns 0 with *seen set (success when *seen == expect), or -EFAULT. */
	int (*cmpxchg32)(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
			 uint32_t *seen);
};

struct platform {
	const struct platform_ops *ops;
};

/* All platforms: NULL-terminated, the default first. */
extern const struct platform_ops *const platforms[];
const struct platform_ops *platform_lookup(const char *name); /* NULL: no such platform */
/* The calls that mean to the host what they mean to the guest, those of futex that carry ids
 * excepted; regs as at an event. */
bool platform_passes(const struct arch_regs *regs);

extern const struct platform_ops platform_systrap;
extern const struct platform_ops platform_ptrace;

/*
 * layout.h - what the sentry, the zygote and the stub agree on: where things lie in a guest
 * process, and the page set through which the sentry and one guest thread talk.
 *
 * The region is the top of the address range, above every address that a guest may use.  It is cut
 * into *blocks* of 2 MiB, numbered downwards; a block holds 32 *slots*, one a host thread:
 *
 *	block + 0		32 alternate stacks of 32 KiB, private memory
 *	block + 1 MiB		32 page sets of 16 KiB, shared with the sentry: one memfd a block
 *	block 0 + 1.5 MiB	the stub's text, shared, read and execute only
 *
 * so that a process with up to 32 threads has everything behind one page-table page, a new thread
 * needs no mapping, and the page set is found from the stack pointer alone (guests own GS).
 *
 * Trust: a page set is writable by the guest process.  The sentry reads every word once and
 * believes it only about the guest thread whose page set it is; what it must rely on lives in
 * sentry-private memory (internal.h).  "Written by" below names the honest writer.
 */
#pragma once

/* What entry.S needs; the rest is C. */
#define ST_PS_INTR 148
#define ST_PS_SELF 240
#define ST_PS_STACK 248
#define ST_PS_REGS 320
#define ST_PS_VDSO_SP 0
#define ST_PS_GUEST_SP 8
/* A fast call's registers, as struct arch_regs, at the top of the alternate stack. */
#define ST_FAST_FRAME 224

#ifndef __ASSEMBLER__
#include <stdint.h>
#include <sys/syscall.h>

#include "sentry/abi/futex.h"
#include "sentry/arch/regs.h"

#define ST_TOP 0x7ffffffff000UL /* end of user addresses, 4-level page tables */
#define ST_BLOCK_SIZE 0x200000UL
#define ST_BLOCKS 512
#define ST_BLOCK(i) (0x7fffffe00000UL - (i)*ST_BLOCK_SIZE)
#define ST_BLOCK_SLOTS 32
#define ST_STACK_SIZE 0x8000UL
#define ST_SETS_OFF 0x100000UL
#define ST_SET_SIZE 0x4000UL
#define ST_SETS_LEN (ST_BLOCK_SLOTS * ST_SET_SIZE)
#define ST_STACKS_LEN (ST_BLOCK_SLOTS * ST_STACK_SIZE)
#define ST_TEXT (ST_BLOCK(0) + 0x180000UL)
#define ST_TEXT_LEN 0x4000UL
/* In its last bytes: what a call brings along, by number (p_options.brings). */
#define ST_BRINGS_LEN 512UL
#define ST_BRINGS (ST_TEXT + ST_TEXT_LEN - ST_BRINGS_LEN)
#define ST_BRING_ARG 7u
#define ST_BRING_STRING 8u
#define ST_BRING_BYTES 16u
#define ST_BRING_STRING_MAX 256UL
#define ST_TASK_SIZE ST_BLOCK(ST_BLOCKS - 1)
/* Windows into files (window.c): the lowest blocks above the guest's addresses. */
#define ST_WINDOWS 8
#define ST_WINDOW_LEN (2 * ST_BLOCK_SIZE)
#define ST_WINDOWS_BLOCKS (ST_WINDOWS * ST_WINDOW_LEN / ST_BLOCK_SIZE)
#define ST_SLOT_BLOCKS (ST_BLOCKS - 1 - ST_WINDOWS_BLOCKS)
#define ST_WINDOW(i) (ST_BLOCK(ST_BLOCKS - 2) + (i)*ST_WINDOW_LEN)
/* Descriptors of files that a guest process keeps (lent.c); their numbers are below ST_KEPT_END. */
#define ST_KEPT 8
#define ST_KEPT_END 32
#define ST_MMAP_MIN 0x10000UL

/* Entry points in the stub's text (entry.S). */
#define ST_ENTER (ST_TEXT + 0)
#define ST_HANDLER (ST_TEXT + 16)
#define ST_RESTORER (ST_TEXT + 32)
#define ST_FAST (ST_TEXT + 48) /* from trampolines (site.h) */

/* The page set that belongs to a stack pointer inside an alternate stack. */
#define ST_SET_OF_SP(sp) \
	(((sp) & ~(ST_BLOCK_SIZE - 1)) + ST_SETS_OFF + (((sp) >> 15 & 31) * ST_SET_SIZE))

/* The CPU's number, as the host keeps it in the limit of a segment for its vDSO. */
static inline uint32_t st_cpu(void)
{
	uint32_t limit;

	__asm__ volatile("lsl %1, %0" : "=r"(limit) : "r"(0x7b));
	return limit & 0xfff;
}

/* Descriptors of every guest process; the control socket's number varies (st_pageset.ctl_fd). */
#define ST_FD_CTL 0 /* in the zygote */
#define ST_FD_DOORBELL 1
/* Only while the zygote starts: */
#define ST_FD_TEXT 2
#define ST_FD_SETS 3

/* The host signal that takes a thread out of guest code; guests' own signals are the sentry's. */
#define ST_SIGNAL_INTERRUPT 10 /* SIGUSR1 */

/* The two flag sets of clone(2) that the filter lets pass: a process, a thread. */
#define ST_CLONE_PROCESS (0x00008000UL | 17) /* CLONE_PARENT | SIGCHLD */
/* CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID */
#define ST_CLONE_THREAD 0x00250f00UL

/* Calls that gain nothing from a patched site: the host answers them, they need the signal frame
 * anyway, or they do not exist. */
static inline int st_must_trap(uint32_t nr)
{
	switch (nr) {
	case SYS_futex:
	case SYS_sched_yield:
	case SYS_membarrier:
	case SYS_rseq:
	case LINUX_SYS_futex_waitv:
	case LINUX_SYS_futex_wake:
	case LINUX_SYS_futex_wait:
	case LINUX_SYS_futex_requeue:
	case SYS_rt_sigreturn:
	case SYS_clone:
	case SYS_clone3:
	case SYS_fork:
	case SYS_vfork:
	case SYS_execve:
	case SYS_execveat:
	case SYS_exit:
	case SYS_exit_group:
		return 1;
	}
	return nr >= 512;
}

/* Whose move it is. */
enum st_turn {
	ST_TURN_SENTRY, /* the stub posted an event or a reply and waits */
	ST_TURN_STUB,	/* the stub executes a command; ST_CMD_RUN: the guest runs */
};

enum st_cmd {
	ST_CMD_RUN = 1,	   /* take over the registers, go to guest code */
	ST_CMD_RUN_DIRECT, /* the same, after performing the frame's system call in the host */
	ST_CMD_RUN_FAST,   /* of a fast call: back to its site, with rax */
	ST_CMD_RUN_LATE,   /* the same, after the copies of late[] */
	ST_CMD_RUN_FULL,   /* of a fast call: to guest code, with all registers but extended ones */
	ST_CMD_XSAVE,	   /* of a fast call: extended state, of the parts arg[0], to ops[] */
	ST_CMD_CONVERT,	   /* of a fast call: take a signal frame, for what needs one */
	ST_CMD_OPS,	   /* run ops[0..nops) */
	ST_CMD_CMPXCHG,	   /* compare-and-swap at arg[0]: expect arg[1], desired arg[2] */
	ST_CMD_COPY,	   /* arg[2] bytes from arg[1] to arg[0], one of which is in ops[] */
	ST_CMD_FORK,	   /* clone this process */
	ST_CMD_THREAD,	   /* clone a thread into the slot whose stack is at arg[0] */
	ST_CMD_MOVE,	   /* pread64 or (arg[0] & 1) pwrite64 of descriptor arg[0] >> 1 */
	ST_CMD_KEEP,	   /* receive a descriptor to keep, close those of the mask arg[0] before */
	ST_CMD_CLOSE,	   /* close the descriptors of the mask arg[0] */
	ST_CMD_EXIT,	   /* this host thread ends */
};

enum st_kind {
	ST_KIND_EVENT = 1, /* of guest code */
	ST_KIND_REPLY,	   /* to the command with number reply_seq */
};

struct st_op {
	int32_t nr;	/* host system call */
	uint32_t flags; /* ST_OP_* */
	uint64_t arg[6];
	int64_t ret; /* stub */
};
#define ST_OP_FD 1u    /* arg[4] counts the descriptors received for this command from 0 */
#define ST_OP_CLEAR 2u /* no call: zeroes arg[1] bytes at arg[0] */
/* No call: unmaps [0, arg[0]), arg[2] bytes at arg[1], and with arg[3] the windows; closes the
 * descriptors of the mask arg[5]; the extended state of the frame at arg[4], if there is one,
 * becomes the initial one. */
#define ST_OP_RESET 4u
#define ST_OP_WRITE 8u	/* no call: copies arg[2] bytes from arg[1] to arg[0] */
#define ST_OP_FDS_MAX 4 /* a command */
#define ST_OPS_MAX 128

/* The header of an XSAVE area (Intel SDM vol. 1, 13.4.2). */
#define ST_XSAVE_MXCSR 24
#define ST_XSAVE_HEADER 512
#define ST_XSAVE_HEADER_LEN 64
#define ST_MXCSR_DEFAULT 0x1f80

struct st_event {
	int32_t signo, code;
	uint32_t arch;	/* SIGSYS: si_arch */
	uint32_t flags; /* ST_EV_* */
	uint64_t addr, trapno, error_code,
		cr2;	  /* ST_EV_BROUGHT: data[] holds trapno bytes of addr */
	uint64_t fpstate; /* address of the frame's XSAVE area */
	int64_t deadline; /* ST_EV_ABORTED: CLOCK_MONOTONIC ns, 0: none */
	struct arch_regs regs;
};
#define ST_EV_OWED 8u	 /* the operation that was left to do before guest code runs failed */
#define ST_EV_FAST 2u	 /* from a patched call site: there is no signal frame */
#define ST_EV_BROUGHT 4u /* … and brings bytes of the guest's along */
#define ST_EV_RETRY 16u	 /* … again: the copies of late[] failed */
#define ST_EV_NOTES 32u	 /* notes[] has something new; goes with any other */
#define ST_EV_ABORTED 1u /* a futex call that was passed to the host, aborted */

struct st_late { /* a copy that is made before a fast call returns */
	uint64_t dst, src, len;
	uint64_t file; /* 0, or a kept descriptor and 1: from its offset src */
};
#define ST_LATE_MAX 2

struct st_stream {     /* reads that the stub makes by itself (lent.c) */
	uint32_t fd;   /* the guest's number and 1; 0: none */
	uint32_t kept; /* the process's own */
	int64_t pos;   /* moved by the stub */
};
#define ST_STREAMS 2
#define ST_STREAM_MAX (4UL << 20) /* a read at most: no interrupt gets in between */

struct st_ids { /* of the calling thread, as the guest sees them; pid 0: not known */
	uint32_t pid, tid, uid, euid, gid, egid;
};

enum st_kin { ST_KIN_PARENT, ST_KIN_GROUP, ST_KIN_SESSION, ST_KINS };

#define ST_NOTE_ROBUST_LIST 1u
#define ST_NOTE_CLEAR_TID 2u

struct st_usage { /* getrusage(2) */
	int64_t maxrss_kib, minor_faults, major_faults, voluntary, involuntary;
};

/*
 * Lines: what both sides write in each call costs a trip between CPUs each, and on some machines at
 * some times that is 0.2 us.  So a fast call's arguments, its result and the turn share one line,
 * that of rdi; all others are only written when something changes.
 */
struct st_pageset {
	/* Written by the stub, and seldom read by the sentry. */
	uint64_t vdso_sp;  /* within a call of the vDSO; else 0 */
	uint64_t guest_sp; /* while a fast call begins */
	uint64_t answered; /* how many calls */
	uint64_t pad0[5];

	/* Written by the stub. */
	uint32_t stub_sleeps; /* in a host wait on `turn` */
	uint32_t waiting;     /* in a passed-through futex */
	uint32_t kind;	      /* of what was posted last */
	uint32_t reply_seq;
	int64_t reply;	 /* result of the command */
	uint64_t reply2; /* ST_CMD_CMPXCHG: the value seen */
	uint32_t tid;	 /* cleared by the host kernel when the thread has ended */
	uint32_t ops_done;
	uint32_t new_ctl; /* ST_CMD_FORK, child: its control socket's number */
	uint32_t owes;	  /* ST_CMD_RUN and its kin: ST_CMD_OPS comes first; set by the sentry */
	/* The registration of rseq(2) that the host has for the thread; address 0: none. */
	uint64_t rseq;
	uint32_t rseq_len, rseq_sig;

	/* Written by the sentry. */
	uint32_t cmd;
	uint32_t cmd_seq;
	uint32_t sentry_sleeps; /* on `turn`, for a reply */
	uint32_t polled;	/* a worker looks at `turn`: the doorbell can wait */
	uint32_t taken;		/* the posted event has been taken, though the answer is not near */
	uint32_t intr;		/* an interrupt is wanted; only the sentry clears it */
	uint32_t direct;	/* calls may be passed straight to the host */
	uint32_t fsgsbase;	/* rdfsbase and its kin may be used */
	uint64_t spin;		/* how many TSC ticks to spin for an answer */
	int64_t redo_deadline;	/* of the aborted futex wait that is being redone, or 0 */
	uint64_t id;		/* what to write to the doorbell */
	uint32_t ctl_fd;
	uint32_t nops;
	uint64_t nonce;
	uint64_t arg[4];
	uint32_t nfds;	 /* ST_CMD_OPS: how many descriptors to receive first, and to close last */
	uint32_t parked; /* the answer will take long: not worth spinning for */
	uint64_t self;	 /* this page set's address: what GS must hold for a fast call */
	uint64_t stack_top; /* of the alternate stack */

	union {
		struct st_event ev; /* stub → sentry; ev.regs also sentry → stub for ST_CMD_RUN */
		struct {
			uint64_t before_turn[23];
			uint32_t turn; /* a futex word of both sides, in ev.regs.orig_rax */
		};
	};

	/* Start-up of the zygote: the sentry's filter program; the vDSO's place comes back. */
	uint64_t vvar_len, vdso_len;
	int64_t start_error;
	uint32_t filter_len;
	uint32_t filter_done;

	int64_t cpu_ns; /* stub: CPU time of the host thread when its guest thread called exit(2) */

	/* For the stub's own answers (stub/answer.c), written by the sentry but for `mask`. */
	struct st_ids ids __attribute__((aligned(64)));
	uint32_t kin[ST_KINS];	  /* pids and 1; 0: not known */
	uint32_t mask_lent;	  /* the stub may change `mask` */
	uint64_t mask;		  /* blocked signals: by whom it is lent to */
	uint64_t vdso_clock;	  /* where the vDSO's clock_gettime is; 0: none */
	uint64_t vdso_getcpu;	  /* … and its getcpu */
	int64_t monotonic_offset; /* how far the guest's CLOCK_MONOTONIC is ahead, ns */
	/* Written by the stub. */
	struct st_usage usage __attribute__((aligned(64))); /* at exit(2): of the process */
	uint64_t woken_tsc; /* when it last woke up to find that it had the turn */
	uint32_t cpu;	    /* where it went to sleep, waiting for the turn */
	/* Arguments of calls that were answered and that the sentry is to know of, at the next
	 * event. */
	uint64_t robust_list, clear_tid;
	uint32_t notes;	      /* ST_NOTE_*: which of them are new */
	uint32_t notes_given; /* … and which go with the event */

	struct st_stream streams[ST_STREAMS] __attribute__((aligned(64)));

	/* Written by the sentry: ST_CMD_RUN_LATE. */
	uint32_t nlate __attribute__((aligned(64)));
	uint32_t late_retry; /* if they fail, the call is reported again */
	struct st_late late[ST_LATE_MAX];

	struct st_op ops[ST_OPS_MAX] __attribute__((aligned(4096)));
	union {
		uint64_t filter[512]; /* struct sock_filter, 8 bytes each: the zygote's start */
		uint8_t data[4096];   /* what travels with a call, then with its answer */
	};
};

/* Writes what differs: a line that nobody writes stays in the caches of both CPUs. */
#define st_put(word, v)                                                  \
	do {                                                             \
		__typeof__(word) v_ = (v);                               \
		if (__atomic_load_n(&(word), __ATOMIC_RELAXED) != v_)    \
			__atomic_store_n(&(word), v_, __ATOMIC_RELAXED); \
	} while (0)

/*
 * Gives the turn; a full barrier.  The store is a plain one, that the line's other words are
 * written just before: they get there together.  A locked one would wait for those, and whoever
 * looks at the turn take the line away in between.
 */
static inline void st_give_turn(struct st_pageset *ps, uint32_t turn)
{
	__atomic_store_n(&ps->turn, turn, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

_Static_assert(sizeof(struct st_pageset) <= ST_SET_SIZE, "a page set fits its place");
_Static_assert(sizeof(struct st_op) == 64, "ops keep their size");
_Static_assert(__builtin_offsetof(struct st_pageset, intr) == ST_PS_INTR, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, self) == ST_PS_SELF, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, stack_top) == ST_PS_STACK, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, vdso_sp) == ST_PS_VDSO_SP, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, guest_sp) == ST_PS_GUEST_SP, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, ev.regs) == ST_PS_REGS, "entry.S");
_Static_assert(__builtin_offsetof(struct st_pageset, turn) ==
		       __builtin_offsetof(struct st_pageset, ev.regs.orig_rax),
	       "the turn is where no register is");
_Static_assert(__builtin_offsetof(struct st_pageset, ev.regs.r9) % 64 == 0 &&
		       __builtin_offsetof(struct st_pageset, turn) % 64 == 56,
	       "arguments, result and turn share a line");
_Static_assert(sizeof(struct arch_regs) <= ST_FAST_FRAME && ST_FAST_FRAME % 16 == 0, "entry.S");
#endif

/* vDSO and vvar end one page below the region; the zygote moves them there. */
#define ST_VDSO_END (ST_TASK_SIZE - 0x1000UL)

/*
 * internal.h - the sentry's side of systrap.
 *
 * Objects
 *   struct systrap    the platform: zygote, pools, thread table, doorbell.
 *   struct p_aspace   a host process.  References: its creator's, one a thread.  The last put kills
 *                     and reaps it; until then its pid stays its own (a zombie at least).
 *   struct p_thread   a host thread; type-stable: freed ones go to a list and stay p_threads, so
 *                     that a worker with a stale pointer reads a state word and not rubbish.
 *
 * Thread states, in p_thread.st together with a resume counter (against ABA) and three bits:
 *
 *	FREE → STOPPED ⇄ RESUMING → RUNNING → STOPPED → FREE
 *
 * The turn word of the page set is meaningful as an event only in RUNNING.  Whoever moves st from
 * RUNNING to STOPPED by compare-and-swap owns the event.  RESUMING lasts from giving the turn to
 * publishing RUNNING; what arrives in between leaves a bit for the resumer to act on.
 *
 * Locks: as->cmd_lock (lc_aspace) is held over a conversation with the guest process about its
 * control socket or its slots; pf->lock (lc_platform) guards tables and lists, briefly.
 */
#pragma once

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "platform/platform.h"
#include "platform/systrap/layout.h"
#include "platform/systrap/text.h"
#include "sentry/lib/list.h"
#include "sentry/lib/lock.h"
#include "sentry/lib/log.h"

#define SYSTRAP_POOL_SIZE 3 /* ready processes: a pipeline's worth of execs */
#define SYSTRAP_KITS 2	    /* ready page-set memfds and control sockets */
#define SYSTRAP_GRAVES 16   /* ended processes that no worker has had the time to bury */
#define SYSTRAP_MAX_PROCESSES 8192
#define SYSTRAP_POLL_MAX 8 /* threads that one worker polls */
/* How many slices of 100 ms a command may take: long enough for any one batch of an honest guest on
 * a busy host.  A hostile one can hold a worker for that long, once a process. */
#define SYSTRAP_CMD_SLICES 50
#define SYSTRAP_MOVE_SLICES 600 /* of one that waits for a file */
#define SYSTRAP_START_DEADLINE_NS (10LL * 1000000000)

#define NS_PER_MS 1000000LL

/* p_thread.st */
#define ST_FREE 0u
#define ST_STOPPED 1u
#define ST_RESUMING 2u
#define ST_RUNNING 3u
#define ST_STATE 3u
#define ST_INTR 4u  /* p_interrupt() came */
#define ST_HINT 8u  /* the doorbell rang while RESUMING */
#define ST_DEAD 16u /* the process has ended; its event is due, or was given */
#define ST_COUNT 32u

struct kit {	    /* what a new process needs, made ahead */
	char *sets; /* mapping of its first block of page sets */
	int sets_fd;
	int ctl, guest_ctl;
};

/* A host thread whose guest thread has ended, and which waits for the next one of its process. */
struct parked {
	uint16_t block, slot;
	bool fast; /* p_thread.fast and .fpstate, as it was left */
	pid_t tid;
	uint64_t fpstate;
	int64_t cpu_ns;
};
#define SYSTRAP_PARKED 8 /* a process */

struct block {
	char *sets;	  /* our mapping, ST_SETS_LEN */
	uint16_t index;	  /* ST_BLOCK(index) */
	uint32_t used;	  /* slots, by bit */
	uint32_t exiting; /* of these: the thread was told to end; see pageset.tid */
};

/* A window into a file; see window.c. */
struct window {
	uint64_t key[2], index; /* which file, and which of its windows */
	bool mapped, writable;
	uint64_t used;		/* when, in as->window_clock */
	_Atomic uint32_t users; /* threads whose answer goes through it */
};
struct warmth { /* a window's worth of a file that is not mapped */
	uint64_t key[2], index;
	uint64_t score;
	uint64_t next; /* where the last move ended */
};

/* A descriptor of a file that the guest's process keeps; see lent.c. */
struct kept {
	uint64_t key[2];
	bool write, gone;	/* which access it has; to be closed */
	int fd;			/* over there; -1: none */
	uint64_t used;		/* when, in as->window_clock */
	_Atomic uint32_t users; /* threads whose answer goes through it */
};
struct interest { /* in a file that it keeps none of */
	uint64_t key[2], bytes;
	bool write;
};

struct p_aspace {
	_Atomic int ref;
	struct systrap *pf;
	struct list_head link; /* pf->aspaces */
	pid_t pid;
	int pidfd;
	int ctl;
	_Atomic bool dead; /* killed, or found dead: no copies, no commands */
	uint64_t serial;   /* what the overseer knows it by */
	bool exited;	   /* its pidfd said so; pf->lock */
	/* No references any more, and who buries it; pf->lock. */
	enum { BURIAL_NONE, BURIAL_WORKER, BURIAL_OVERSEER } burial;
	struct list_head grave; /* pf->graves */
	int signo;		/* what killed it; pf->lock */
	uint64_t nonce;
	bool vdso_gone;		  /* unmapped or replaced by the guest; pf->lock */
	struct list_head threads; /* pf->lock */
	int nthreads;		  /* not destroyed; pf->lock */
	uint64_t cpu_ns;	  /* its CPU clock when it was last read; pf->lock */
	struct mutex cmd_lock;	  /* lc_aspace */
	uint32_t guest_ctl;	  /* the control socket's number over there; cmd_lock */
	_Atomic bool no_patching; /* somebody looks at the code */
	struct mutex text_change; /* lc_text_change, see text.h; as the next three */
	struct text *texts;	  /* read under pf->text_lock, written under both */
	uint32_t ntexts, texts_cap;
	struct block *blocks; /* cmd_lock, as the next three */
	size_t nblocks;
	struct parked parked[SYSTRAP_PARKED];
	int nparked;
	struct window windows[ST_WINDOWS]; /* cmd_lock, as the rest */
	struct warmth warmth[ST_WINDOWS];
	uint64_t window_clock;
	unsigned next_warmth;
	struct kept kept[ST_KEPT];	   /* written under cmd_lock and pf->lock */
	struct interest interest[ST_KEPT]; /* cmd_lock */
	unsigned next_interest;
	_Atomic bool kept_gone; /* some of them are `gone` */
};

struct p_thread {
	_Atomic uint32_t st;
	uint32_t index; /* in pf->table */
	uint32_t generation;
	struct p_aspace *as; /* a reference */
	struct st_pageset *ps;
	uint64_t ps_addr; /* where the guest has it */
	pid_t tid;
	int64_t cpu_before; /* ns that the host thread had used when it was parked; a hint */
	bool leader;
	_Atomic uint64_t cpus;	  /* set_cpus */
	_Atomic bool direct;	  /* calls may go straight to the host */
	struct list_head pending; /* pf->pending: exactly one clone(2) of it may continue */
	_Atomic bool cmd_waiting; /* a worker waits for a reply */
	uint32_t cmd_seq;
	bool cmd_long; /* the last command takes its time */
	/* An operation that waits in the page set for the next run (owed.c), or went with it. */
	bool owed, owed_given;
	int owed_error; /* of one that was done early */
	struct p_memop owed_op;
	void *owner;
	struct list_head link;	/* as->threads; free ones: pf->free_threads */
	struct list_head ready; /* pf->ready */
	struct arch_regs regs;
	struct p_event event;
	bool fast; /* stopped at a fast call: no frame, only rax may change; see thread_convert */
	struct p_notes notes;	    /* not yet taken */
	uint64_t trapped;	    /* a call site that trapped, not yet counted; 0: none */
	struct arch_regs fast_regs; /* as reported */
	/* marshal.c: the guest's bytes that came with the call, and those that go with the answer.
	 */
	uint64_t in_addr, in_len;
	struct st_late late[ST_LATE_MAX];
	unsigned nlate;
	size_t late_used; /* bytes of data[] */
	bool late_failed;
	long late_result;		  /* … and what the call returns then */
	struct window *window;		  /* that the answer goes through */
	struct kept *kept;		  /* the same */
	struct kept *streams[ST_STREAMS]; /* by which the stub reads by itself, or NULL */
	bool cmd_patient;		  /* the command may take as long as a disk does */
	uint64_t fpstate;		  /* the frame's XSAVE area; 0: none known */
	uint32_t vain, skip;  /* spins of its stub that began with the doorbell: spin_of_stub */
	bool parked;	      /* its task waited before it answered; see thread_parks */
	uint64_t stub_spins;  /* ticks that its stub was told to spin for an answer … */
	uint64_t spins_since; /* … and began to at this time */
	uint64_t resumed_tsc, taken_tsc;
	uint64_t guest_ticks, handle_ticks; /* last run in guest code; last time in the sentry */
	/* A futex wait that was aborted: if exactly it is done again, its deadline is this. */
	struct {
		uint64_t rip, rdi, rsi, rdx, r10;
		int64_t deadline;
	} redo;
	int64_t intr_since; /* deadline of an interrupt, in ticks of the overseer; pf->lock */
};

struct systrap {
	struct platform base;
	struct p_options opt;
	struct p_limits limits;
	uint32_t mxcsr_mask;
	bool fsgsbase;
	uint64_t vdso_getcpu; /* address in guests; 0: none */
	int ncpus;
	cpu_set_t cpus; /* that we were started with */
	int64_t clock0; /* when it began, by the clock and by the TSC */
	uint64_t tsc0;
	uint64_t tsc_per_us;
	uint64_t spin_ticks;	      /* 0: never spin */
	_Atomic uint64_t quiet_until; /* TSC: no spinning before, see spin_on() */
	_Atomic uint64_t quiet_ticks;

	struct mutex lock; /* lc_platform */
	struct list_head aspaces;
	_Atomic int naspaces;
	struct p_thread **table;
	uint32_t table_len, table_cap;
	struct list_head free_threads;
	struct list_head pending; /* threads whose clone(2) may continue, once */
	struct list_head ready;	  /* threads with an event that did not come through a page set */
	_Atomic int nready;

	struct mutex text_lock; /* lc_text */
	struct text_file *texts[TEXT_FILES];

	struct p_stats stats; /* `answered`: of threads that are gone, pf->lock */
	int doorbell_r, doorbell_w;
	_Atomic int kicks;
	_Atomic bool broken;

	/* Polling; see worker.c. */
	_Atomic bool polling;
	_Atomic uint32_t poll_round;
	_Atomic(struct p_thread *) watch[SYSTRAP_POLL_MAX];
	_Atomic int running;	     /* threads in RUNNING */
	_Atomic uint64_t sample_tsc; /* when cpu_free was measured */
	_Atomic bool cpu_free;

	/* Zygote and pools. */
	struct p_aspace *zygote;
	struct p_thread *zygote_thread;
	struct mutex fork_lock; /* lc_zygote: the zygote's clones */
	struct kit kits[SYSTRAP_KITS];
	_Atomic int nkits;
	_Atomic bool forks;			  /* guests do: kits pay */
	struct p_thread *pool[SYSTRAP_POOL_SIZE]; /* each the only one of a fresh process */
	int npool;
	int pool_size;		 /* how many are wanted now; 1 at first; pf->lock */
	_Atomic uint32_t refill; /* futex: bumped when the pools want refilling */
	struct mutex clone_gate; /* lc_clone: held while strays are looked for */
	int clones;		 /* in flight; pf->lock */
	bool strays;		 /* pf->lock */
	pid_t pid_before;	 /* the latest known when `clones` was 0; pf->lock */
	uint64_t nonce_seed;
	_Atomic uint64_t serial; /* of the latest address space */
	struct list_head graves; /* of processes with BURIAL_WORKER */
	_Atomic int ngraves;

	/* Overseer. */
	int listener;
	int epoll;
	int wakeup;		 /* eventfd */
	_Atomic bool interrupts; /* some interrupt is outstanding */
	int64_t ticks;
	bool started;
	_Atomic bool stopping;
	pthread_t overseer_thread, pool_thread;
};

static inline struct systrap *systrap_of(struct platform *pf)
{
	return (struct systrap *)pf;
}

/* util.c */
int64_t st_now(void);
static inline uint64_t st_tsc(void)
{
	return __builtin_ia32_rdtsc();
}
void st_futex_wait(void *word, uint32_t val, int64_t timeout_ns); /* shared; < 0: none */
void st_futex_wake(void *word, int n);

/* filter.c: writes the guests' filter as struct sock_filter; returns its length. */
unsigned filter_build(uint64_t *out, unsigned cap);

/* zygote_start.c */
int zygote_start(struct systrap *pf);
int zygote_ready(struct systrap *pf); /* waits for it, learns what it has to say */

/* worker.c */
struct p_thread *worker_next(struct platform *pf);
void worker_kick(struct platform *pf);
void worker_break(struct systrap *pf);			      /* next() gives NULL from now on */
void worker_ready(struct p_thread *th) REQUIRES(lc_platform); /* th's event is in th->event */
bool worker_is_this(void); /* does the thread that asks call worker_next()? */
bool worker_watch(struct p_thread *th);
void worker_forget(struct p_thread *th);
/* For how many ticks a spin may last now; 0: not at all. */
uint64_t worker_spin(struct systrap *pf);
/* do { look } while (spin_on(pf, &s)): true while it is worth looking again. */
struct spin {
	uint64_t begin, last, budget;
};
struct spin spin_begin(uint64_t budget);
bool spin_on(struct systrap *pf, struct spin *s);

/* event.c */
static inline uint64_t thread_id(const struct p_thread *th)
{
	return (uint64_t)th->generation << 32 | (th->index + 1);
}
static inline bool event_posted(const struct p_thread *th)
{
	return __atomic_load_n(&th->ps->turn, __ATOMIC_ACQUIRE) == ST_TURN_SENTRY;
}
/* RUNNING → STOPPED for a thread that posted, as seen with state st; *interrupted: p_interrupt()
 * had been called.  False: somebody else was faster. */
bool event_claim(struct p_thread *th, uint32_t st, bool *interrupted);
/* Fetches a claimed event.  False: there is nothing to report (a late interrupt, a signal that
 * somebody on the host sent), and the thread should simply go on. */
bool event_take(struct p_thread *th, bool interrupted);
void event_set(struct p_thread *th, enum p_event_kind kind, int signo);
void thread_misbehaved(struct p_thread *th, const char *what); /* kills its process */
void thread_report_death(struct p_thread *th, int signo) REQUIRES(lc_platform);

/* resume.c */
void thread_resume(struct p_thread *th);
void thread_parks(struct p_thread *th);
void thread_resume_direct(struct p_thread *th);
void thread_interrupt(struct p_thread *th);

/* command.c */
/* Runs a command on a stopped thread and waits: the stub's result, or -ESRCH. */
long command_run(struct p_thread *th, enum st_cmd cmd);
/* Its halves: fork needs two page sets' replies. */
void command_give(struct p_thread *th, enum st_cmd cmd);
long command_wait(struct p_thread *th);
bool command_replied(const struct p_thread *th);
int command_send_fds(struct p_aspace *as, const int *fds, int n);
/* Has the stub run ps->ops[0..n), with at most ST_OP_FDS_MAX descriptors.  Returns how many it
 * began, or -errno. */
long command_ops(struct p_thread *th, size_t n, const int *fds, int nfds);
/* Puts one operation into the page set, where ST_CMD_OPS finds it, and its descriptor on its way.
 */
int command_put(struct p_thread *th, const struct p_memop *op);
/* How ps->ops[i], which was `op`, ended: ≥ 0 or -errno. */
long command_result(struct p_thread *th, const struct p_memop *op, size_t i);
int thread_mem(struct p_thread *th, struct p_memop *ops, size_t n);
int thread_cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		     uint32_t *seen);

/* Of a fast call: gives it a signal frame; else nothing.  0, or -ESRCH. */
int thread_convert(struct p_thread *th);

/* One more; one that another worker counts at this moment may get lost. */
static inline void st_count(uint64_t *counter)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* answer.c: platform.h, set_ids and the following */
void thread_set_ids(struct p_thread *th, const struct p_ids *ids);
void notes_fetch(struct p_thread *th); /* that came with an event */
bool thread_take_notes(struct p_thread *th, struct p_notes *out);
void thread_set_kin(struct p_thread *th, enum p_kin which, uint32_t pid);
void thread_set_clock_offset(struct p_thread *th, int64_t monotonic);
void thread_lend_mask(struct p_thread *th, uint64_t mask);
void systrap_stats(struct platform *platform, struct p_stats *out);
void thread_recall_mask(struct p_thread *th);
uint64_t thread_lent_mask(struct p_thread *th);
void vdso_learn(struct systrap *pf);
void vdso_publish(struct p_thread *th); /* under pf->lock */
void vdso_before_op(struct p_thread *th, const struct p_memop *m);

/* patch.c */
void patch_note(struct p_thread *th, uint64_t ret, uint32_t nr); /* a call that trapped */
/* Around a batch of memory operations: keeps as->texts true, and offers copies of text. */
#define PATCH_MAPS 4
struct patch_batch {
	bool begun; /* it concerns us; text_change is held */
	int nmaps;
	const struct p_memop *op[PATCH_MAPS];
	struct text text[PATCH_MAPS];
};
void patch_begin(struct p_thread *th, const struct p_memop *ops, size_t n, struct patch_batch *b);
/* What a map of the batch shall map, from its beginning, in the place of its file; NULL: nothing.
 */
const struct text_image *patch_copy_of(const struct patch_batch *b, const struct p_memop *op);
void patch_end(struct p_thread *th, const struct p_memop *ops, size_t n, struct patch_batch *b);
/* Does it stand where a trampoline begins? */
bool patch_not_begun(struct p_aspace *as, uint64_t rip);
/* A thread that stands in a trampoline: where it would be in the original; and back. */
void patch_original_place(struct p_aspace *as, struct arch_regs *r);
void patch_copied_place(struct p_aspace *as, struct arch_regs *r);
void patch_withdraw(struct p_thread *th); /* platform.h: show_original */
/* The parent's text_change is held until the host has forked. */
int patch_fork(struct p_aspace *child, const struct p_aspace *parent);
void patch_forget(struct p_aspace *as);

/* owed.c: platform.h, mem_later */
bool thread_mem_later(struct p_thread *th, struct p_memop *op);
int thread_mem_settle(struct p_thread *th);
/* The same for whoever wants the page set: an error waits for the next resume. */
void owed_run(struct p_thread *th);

/* reset.c: platform.h, can_reset; and what follows on the operation. */
bool systrap_can_reset(struct p_thread *th);
int thread_was_reset(struct p_thread *th);

/* aspace.c */
int kit_make(struct kit *k);
void kit_free(struct kit *k);
int aspace_clone(struct p_thread *parent, struct p_aspace **as, struct p_thread **th);
int systrap_aspace_create(struct platform *pf, struct p_aspace **as, struct p_thread **th);
int systrap_fork(struct p_thread *parent, struct p_aspace **as, struct p_thread **th);
struct p_aspace *aspace_get(struct p_aspace *as);
/* A new process and its first thread in slot `slot` of block `block`; pid 0 so far. */
int aspace_alloc(struct systrap *pf, const struct kit *k, unsigned block, unsigned slot,
		 struct p_aspace **as, struct p_thread **th);
int aspace_watch(struct p_aspace *as); /* opens the pidfd, tells the overseer */
int pool_start(struct systrap *pf);
void pool_refill(struct systrap *pf);
/* A memfd of page sets, mapped: its descriptor, or -errno. */
int sets_create(char **map);
void pool_drain(struct systrap *pf);

/* thread.c */
/* fresh: the host thread is still to come; else it waits for its turn in the stub. */
struct p_thread *thread_alloc(struct p_aspace *as, struct st_pageset *ps, uint64_t ps_addr,
			      bool fresh);
void thread_free(struct p_thread *th);
int systrap_thread_create(struct p_thread *parent, struct p_thread **th);
void systrap_thread_destroy(struct p_thread *th);
void thread_init_pageset(struct p_thread *th);

/* marshal.c: platform.h, copy_out_late and settle */
bool thread_copy_out_late(struct p_thread *th, uint64_t dst, const void *src, size_t n);
void thread_settle(struct p_thread *th);
void marshal_take(struct p_thread *th, const struct st_event *ev); /* an event's bytes */
/* Copies n bytes of src that came with the call; false: they did not. */
bool marshal_copy_in(struct p_thread *th, void *dst, uint64_t src, size_t n);
/* Before anything else happens to th's memory: what came with the call is stale after it. */
void marshal_flush(struct p_thread *th);
void marshal_send(struct p_thread *th); /* the copies go with ST_CMD_RUN_LATE */

/* window.c: platform.h, copy_file_late */
enum p_lend thread_copy_file_late(struct p_thread *th, const struct p_file *f, uint64_t off,
				  uint64_t addr, size_t n, bool write);
/* The answer has arrived, or will not go through what was lent for it. */
void window_leave(struct p_thread *th);
void window_reset(struct p_aspace *as); /* the process was emptied */

/* lent.c: platform.h, move_file and forget_file */
/* A read that the answer makes; as thread_copy_file_late(), but reads only. */
enum p_lend kept_read_late(struct p_thread *th, const struct p_file *f, uint64_t off, uint64_t addr,
			   size_t n);
ssize_t thread_move_file(struct p_thread *th, const struct p_file *f, uint64_t off, uint64_t addr,
			 size_t n, bool write);
void systrap_forget_file(struct platform *p, const uint64_t key[2]);
/* pread64 or pwrite64 by descriptor `fd` of the process, now. */
long kept_move(struct p_thread *th, int fd, uint64_t off, uint64_t addr, size_t n, bool write);
void kept_leave(struct p_thread *th);
bool lent_stream_begin(struct p_thread *th, unsigned i, int fd);
bool lent_stream_go(struct p_thread *th, unsigned i, int64_t pos);
int64_t lent_stream_pos(struct p_thread *th, unsigned i);
void lent_stream_end(struct p_thread *th, unsigned i);
void lent_streams_leave(struct p_thread *th);
void kept_close_gone(struct p_thread *th); /* as->kept_gone; th is stopped */
/* The numbers over there, as a mask; cmd_lock is held, or there is no second thread. */
uint64_t kept_mask(const struct p_aspace *as);
void kept_reset(struct p_aspace *as); /* they were closed */
/* A forked child has its parent's; the parent's cmd_lock is held. */
void kept_inherit(struct p_aspace *child, const struct p_aspace *parent);

/* xstate.c */
/* By a command; how many bytes were not copied, or -ESRCH. */
long thread_copy(struct p_thread *th, uint64_t dst, uint64_t src, uint64_t n);
int xstate_learn(struct systrap *pf, struct p_thread *th);
int thread_xstate_get(struct p_thread *th, void *buf, size_t size);
int thread_xstate_set(struct p_thread *th, const void *buf, size_t size);
int thread_xstate_reset(struct p_thread *th);
/* The frame whose extended state the stub can make the initial one; 0: thread_xstate_reset. */
uint64_t thread_frame_to_init(const struct p_thread *th);
/* Also above the guest's addresses. */
ssize_t aspace_write_raw(struct p_aspace *as, uint64_t addr, const void *bytes, size_t n);
ssize_t aspace_copy_in(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src, size_t n);
ssize_t aspace_copy_out(struct p_aspace *as, struct p_thread *th, uint64_t dst, const void *src,
			size_t n);

/* burial.c */
void aspace_put(struct p_aspace *as);
void aspace_kill(struct p_aspace *as);
void aspace_exited(struct systrap *pf, uint64_t serial); /* overseer: the pidfd says so */
bool burial_one(struct systrap *pf); /* by somebody who has the time; false: nothing to do */
void burial_before_sleep(struct systrap *pf); /* of a worker */

/* overseer.c */
int overseer_start(struct systrap *pf);
int overseer_watch(struct p_aspace *as); /* until its pidfd speaks, or … */
void overseer_unwatch(struct p_aspace *as);
void overseer_wake(struct systrap *pf);

/* pi_queue.h - what the files of priority-inheritance futexes share: words, and who waits. */
#pragma once

#include "sentry/kernel/futex/pi.h"
#include "sentry/kernel/task.h"

struct pi_key {
	const void *space; /* the inode of a shared mapping, else the mm */
	uint64_t addr;
	struct file *file; /* reference that keeps the inode's address its own; NULL: an mm's */
};

/* A word that somebody waits for.  All of it: lc_futex. */
struct pi_futex {
	struct list_head link; /* of futexes */
	struct pi_key key;
	unsigned users;		  /* queued waiters, and operations that hold on to it */
	struct list_head waiters; /* pi_waiter.link, in the order in which they get the lock */
	struct task *owner;	  /* borrowed: futex_pi_release takes it out; NULL: a word that is
				     only requeued from, or whose lock changes hands */
	struct list_head owned;	  /* of owner->pi_owned */
};

enum pi_state {
	PI_WAITING, /* on the queue of f */
	PI_HANDING, /* off it, still using f: its tid is being written to the word */
	PI_GRANTED, /* owns the lock */
	PI_LOOK,    /* off the queue, to try from the start */
};

struct pi_waiter {
	struct list_head link; /* lc_futex, as what follows */
	struct task *t;	       /* borrowed: it stays until it has left the queue */
	int tid;	       /* of t, which may go while it is handed the lock */
	struct pi_futex *f;    /* while PI_WAITING and PI_HANDING */
	enum pi_state state;
	int rank;
	bool left;	      /* the task died while it was handed the lock */
	bool requeued;	      /* from the word of a wait to the lock */
	struct pi_key target; /* the lock that a requeue must name; space NULL: waits for a lock */
	int dead_tid;	      /* the owner that went while it waited; 0: none */
	unsigned refs;	      /* the task's own and that of whoever hands it the lock */
};

extern struct mutex pi_futex_lock; /* lc_futex */

/* ---- keys ---- */
/* The key of a word; the caller puts key->file.  -EINVAL, -EFAULT. */
int pi_key_get(struct task *t, uaddr_t addr, bool shared, struct pi_key *k) MUST_CHECK;
bool pi_key_equal(const struct pi_key *a, const struct pi_key *b);

/* ---- words and their queues ---- */
struct pi_futex *pi_find(const struct pi_key *k) REQUIRES(lc_futex);
/* Found or made.  NULL: no memory. */
struct pi_futex *pi_use(const struct pi_key *k) REQUIRES(lc_futex);
/* Returns the file that the caller puts once it has let go of lc_futex; often NULL. */
struct file *pi_unuse(struct pi_futex *f) MUST_CHECK REQUIRES(lc_futex);
void pi_set_owner(struct pi_futex *f, struct task *owner) REQUIRES(lc_futex);
/* On the queue behind those of its rank; takes over the use of f. */
void pi_enqueue(struct pi_waiter *w, struct pi_futex *f) REQUIRES(lc_futex);
/* Off it; returns as pi_unuse. */
struct file *pi_dequeue(struct pi_waiter *w, enum pi_state state) MUST_CHECK REQUIRES(lc_futex);
struct pi_waiter *pi_first(struct pi_futex *f) REQUIRES(lc_futex);
/* Ends the first waiter's sleep so that it tries again: the word was freed meanwhile. */
void pi_wake_first(const struct pi_key *k);
struct pi_waiter *pi_waiter_new(struct task *t);
/* Off whatever queue it is on; the task's own reference goes. */
void pi_waiter_end(struct pi_waiter *w);
/* Queues w for the lock whose word is `val`: 0, or -EDEADLK, -ESRCH (no such owner), -ENOMEM. */
int pi_queue_for_owner(struct pi_waiter *w, const struct pi_key *k, uint32_t val)
	REQUIRES(lc_futex);
/* The task that owns a lock whose word is `val`, if it can still unlock it. */
struct task *pi_owner_of(const struct task *t, uint32_t val) REQUIRES(lc_futex);
/* Sleeps until w's state says something: 0 it owns the lock, 1 it is to look again; or an error,
 * and it is on no queue. */
long pi_sleep(struct pi_waiter *w, int64_t deadline);

/* ---- the word ---- */
int pi_word_read(struct task *t, uaddr_t addr, uint32_t *val) MUST_CHECK;
/* 1: changed; 0: it was not `from` any more; -EFAULT. */
int pi_word_change(struct task *t, uaddr_t addr, uint32_t from, uint32_t to) MUST_CHECK;

/* ---- handing over ---- */
/* Takes the first waiter off the queue for the caller, who writes its tid to the word and calls
 * pi_hand_over_done.  NULL: nobody waits. */
struct pi_waiter *pi_hand_over(struct pi_futex *f) REQUIRES(lc_futex);
/*
 * written: the word of the lock says w's tid; else w is first on its queue again.  Returns whether
 * w has it: not when it died meanwhile, so that somebody else must get the lock.
 */
bool pi_hand_over_done(struct pi_waiter *w, const struct pi_key *lock, bool written);

/* Locks the word for w's task; the body of FUTEX_LOCK_PI. */
long pi_lock_word(struct pi_waiter *w, uaddr_t addr, const struct pi_key *k, bool try,
		  int64_t deadline);

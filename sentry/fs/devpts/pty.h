/*
 * pty.h - inside of sentry/fs/devpts: a pair of terminal ends and its line discipline.
 *
 * Bytes that the master writes wait in `to_ldisc`, go through the line discipline (ldisc.c) as
 * far as it has room, and are read by the replica from `in`.  What the replica writes, and echoes,
 * are processed (output.c) into `to_master`.
 *
 * All is guarded by pty->lock (lc_tty) unless said otherwise.  What has to be told to others at
 * the end, events and signals, is collected meanwhile; pty_unlock tells it.
 */
#pragma once

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "sentry/fs/devpts/devpts.h"
#include "sentry/kernel/tty.h"
#include "sentry/time/ktimer.h"
#include "sentry/vfs/file.h"

#define LINE_MAX_BYTES 4096 /* of the line discipline's input and of its echo */
#define QUEUE_BYTES 65536   /* between an end and the line discipline; a power of two */

#define EV_IN (POLLIN | POLLRDNORM)
#define EV_OUT (POLLOUT | POLLWRNORM)

/* A ring of QUEUE_BYTES, allocated when first used; the counters run freely. */
struct byte_queue {
	uint8_t *buf;
	uint32_t head, tail;
};

struct pty {
	struct tty tty;		/* reference count; lc_tasks for the rest of it */
	struct super_block *sb; /* reference */
	struct mutex lock;	/* lc_tty */
	struct waitq master_wq, replica_wq;
	uint32_t master_events, replica_events; /* to be told by pty_unlock */
	uint64_t signals;			/* the same, for the foreground group */

	bool locked, exclusive, master_exclusive; /* TIOCSPTLCK, TIOCEXCL */
	_Atomic bool hung;			  /* the master is closed */
	unsigned replicas;			  /* open files of the replica */
	bool replica_closed; /* the last of them went; not set before the first */

	struct termios2 termios;
	struct winsize winsize;
	bool stopped, tco_stopped; /* output of the replica: by ^S, by TCOOFF */
	bool master_stopped;	   /* the master's: TCOOFF there */
	bool packet;		   /* TIOCPKT */
	uint8_t packet_status;	   /* TIOCPKT_* to be read by the master */

	struct byte_queue to_ldisc, to_master;

	/* The line discipline: free-running positions in `in`; canon: the end of the last complete
	 * line.  `ends` has a bit for each byte that ends a line; a NUL there is an end of file. */
	uint8_t in[LINE_MAX_BYTES];
	uint64_t ends[LINE_MAX_BYTES / 64];
	uint32_t head, canon, tail;
	bool literal_next, erasing;
	unsigned column, canon_column;
	uint8_t echo[LINE_MAX_BYTES]; /* that could not go out yet */
	uint32_t echo_head, echo_tail;
	struct ktimer gap_timer; /* VTIME between bytes; its callback takes the lock */
	bool gap_armed, gap_passed;
};

static inline void pty_lock(struct pty *p) ACQUIRES(lc_tty)
{
	mutex_lock(&p->lock, &lc_tty);
}
/* Tells what was collected. */
void pty_unlock(struct pty *p) RELEASES(lc_tty);

/* ---- the pair (pty.c) ---- */
int pty_new(struct super_block *sb, unsigned index, struct pty **out) MUST_CHECK;
/* Makes f the master (consumes a reference), or one more file of the replica. */
void pty_open_master(struct pty *p, struct file *f);
int pty_open_replica(struct pty *p, struct file *f) MUST_CHECK;
bool file_is_pty_master(const struct file *f);

/* ---- the file system (super.c) ---- */
/* The terminal's name goes with its master; its number when nobody refers to it any more. */
void devpts_forget_name(struct super_block *sb, unsigned index);
void devpts_put_index(struct super_block *sb, unsigned index);
/* The replica's name as opened next to this master (TIOCGPTPEER); references. */
int devpts_replica_path(struct file *master, unsigned index, struct path *out) MUST_CHECK;

/* ---- ioctls (pty_ioctl.c) ---- */
long pty_ioctl(struct pty *p, struct file *f, bool master, struct task *t, unsigned cmd,
	       uint64_t arg);

/* ---- queues (output.c) ---- */
int queue_prepare(struct byte_queue *q) MUST_CHECK;
static inline uint32_t queue_used(const struct byte_queue *q)
{
	return q->head - q->tail;
}
static inline uint32_t queue_room(const struct byte_queue *q)
{
	return QUEUE_BYTES - queue_used(q);
}
/* n is at most the room, or what is used. */
void queue_put(struct byte_queue *q, const void *src, uint32_t n);
void queue_peek(const struct byte_queue *q, void *dst, uint32_t n);

/* ---- output processing (output.c) ---- */
/* One byte of the replica's output; false: no room for what becomes of it. */
bool output_byte(struct pty *p, uint8_t c);
void echo_byte(struct pty *p, uint8_t c);    /* as it is */
void echo_visible(struct pty *p, uint8_t c); /* control characters as ^X with ECHOCTL */
void echo_flush(struct pty *p);		     /* what waits, as far as it goes */
void output_stop(struct pty *p);
void output_start(struct pty *p);
/* Tells the master's reader in packet mode. */
void packet_notify(struct pty *p, uint8_t set, uint8_t clear);

/* ---- the line discipline (ldisc.c) ---- */
void ldisc_init(struct pty *p);
/* Moves bytes from to_ldisc as far as there is room.  After every change that may make some. */
void ldisc_run(struct pty *p);
/* May a read of up to n bytes return now?  nonblock: whatever there is will do. */
bool ldisc_readable(struct pty *p, uint32_t n, bool nonblock);
/* How many bytes a read of up to n gets; takes them to dst unless that is NULL. */
uint32_t ldisc_take(struct pty *p, uint8_t *dst, uint32_t n);
uint32_t ldisc_inq(const struct pty *p); /* FIONREAD */
void ldisc_flush_input(struct pty *p);
/* Adopts new modes, with what they mean for bytes that are there already. */
void ldisc_set_termios(struct pty *p, const struct termios2 *t);
/* Starts the wait for the next byte of a read with VMIN and VTIME. */
void ldisc_start_gap(struct pty *p);

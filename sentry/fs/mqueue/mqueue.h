/*
 * mqueue.h - POSIX message queues: a file system with one flat directory, one for the sandbox.
 *
 * A queue is an inode; its messages live in sentry memory, bounded by the queue's limits and, over
 * all queues of a user, by RLIMIT_MSGQUEUE.  Operations do not wait: -EAGAIN, and file_waitq().
 *
 * Locking: mq->lock (lc_ipc) guards messages and the notification; the directory's data_lock its
 * names.  Source: mq_overview(7) and the pages it names.
 */
#pragma once

#include <mqueue.h>
#include <signal.h>

#include "sentry/vfs/file.h"
#include "sentry/vfs/vfs.h"

struct task;

#define MQ_PRIO_LIMIT 32768

struct mq_message {
	struct list_head link; /* of the queue, by falling priority and then by arrival */
	unsigned prio;
	size_t size;
	char text[];
};

/* A new instance that belongs to `owner`, for an IPC namespace: ipc_mqueue_instance. */
int mqueue_instance(struct user_ns *owner, struct mount **out) MUST_CHECK;
/* The caller's namespace's instance with one more reference (its mounts all show the same). */
int mqueue_mount(const char *options, struct super_block **out) MUST_CHECK;
/* Its root, borrowed, while the caller is in that namespace: where mq_open's names are looked up.
 * -ENOSYS */
int mqueue_root(struct path *out) MUST_CHECK;
/*
 * Makes d, a negative child of the root, a queue.  limits NULL: the defaults.  bytes_max is the
 * caller's RLIMIT_MSGQUEUE.  -EINVAL, -EMFILE, -ENOSPC, and as vfs_do_create.
 */
int mqueue_create(struct dentry *root, struct dentry *d, uint32_t mode,
		  const struct mq_attr *limits, uint64_t bytes_max,
		  const struct cred *c) MUST_CHECK;

bool file_is_mqueue(const struct file *f);
/* -EMSGSIZE, -EAGAIN.  Sending consumes m on success. */
int mqueue_check_send(struct file *f, size_t size) MUST_CHECK;
int mqueue_send(struct file *f, struct mq_message *m, struct task *sender) MUST_CHECK;
int mqueue_receive(struct file *f, size_t room, struct mq_message **out) MUST_CHECK;
/* A receiver begins or ends to sleep: while there is one, arrivals are not notified. */
void mqueue_receiver_waits(struct file *f, int by);
void mqueue_get_attr(struct file *f, struct mq_attr *out);
/* How a process is told with SIGEV_THREAD, once: `tell` frees it. */
struct mq_notice {
	void (*tell)(struct mq_notice *n,
		     bool removed); /* the registration ended, for no message */
};

/* ev NULL: takes the process's registration away.  -EBUSY.  notice: of SIGEV_THREAD, else NULL;
 * owned by the queue on success. */
int mqueue_notify(struct file *f, struct task *t, const struct sigevent *ev,
		  struct mq_notice *notice) MUST_CHECK;

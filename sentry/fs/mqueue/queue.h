/* Inside of sentry/fs/mqueue. */
#pragma once

#include "sentry/fs/mqueue/mqueue.h"
#include "sentry/lib/waitq.h"

struct thread_group;

struct mqueue {
	struct inode in;
	struct mutex lock; /* lc_ipc: all below */
	struct waitq wq;
	struct list_head messages;
	long max_messages, max_size; /* immutable */
	long count;
	uint64_t bytes;
	int receivers;	/* that sleep */
	uint32_t owner; /* whom `charged` bytes are counted for; immutable */
	uint64_t charged;
	struct thread_group *notify_owner; /* reference, or NULL: nobody */
	struct sigevent notify;
	struct mq_notice *notice; /* owned; NULL: not by SIGEV_THREAD */
};

static inline struct mqueue *mqueue_of(const struct inode *in)
{
	return container_of((struct inode *)in, struct mqueue, in);
}

extern const struct file_ops mqueue_fops;
extern const struct inode_ops mqueue_iops;
void mqueue_fini(struct mqueue *q);

/* The queue of what was sent to a socket. */
#include <errno.h>
#include <stdlib.h>

#include "sentry/net/inet/inet_sock.h"

struct inet_chunk *inet_chunk_new(size_t n)
{
	struct inet_chunk *k = malloc(sizeof(*k) + n);

	if (!k)
		return NULL;
	list_init(&k->node);
	k->off = k->len = 0;
	k->cap = (uint32_t)n;
	return k;
}

int inet_claim(struct inet_sock *i, struct inet_chunk **first)
{
	if (i->rbusy) {
		i->rmissed = true;
		return -EAGAIN;
	}
	if (list_empty(&i->rcvq))
		return -EAGAIN;
	i->rbusy = true;
	*first = list_first(&i->rcvq, struct inet_chunk, node);
	return 0;
}

void inet_unclaim(struct inet_sock *i)
{
	i->rbusy = false;
	bool missed = i->rmissed;
	i->rmissed = false;
	mutex_unlock(&i->lock, &lc_socket);
	if (missed)
		waitq_notify(&i->s.wq, POLLIN | POLLRDNORM);
}

void inet_queue_free(struct list_head *q)
{
	while (!list_empty(q)) {
		struct inet_chunk *k = list_first(q, struct inet_chunk, node);
		list_del(&k->node);
		free(k);
	}
}

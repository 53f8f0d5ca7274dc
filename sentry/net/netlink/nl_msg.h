/* nl_msg.h - messages of netlink being made.  Shared by the files of net/netlink only. */
#pragma once

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct ns;

/* A datagram of one or more messages.  Failure to get memory sticks. */
struct nl_buf {
	uint8_t *data; /* owned */
	size_t len, cap;
	size_t head; /* where the message that is being made begins */
	bool failed;
};

/* Begins a message in answer to `req`, for port `port`; body: its fixed part. */
void nl_begin(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, uint16_t type,
	      uint16_t flags, const void *body, size_t n);
void nl_attr(struct nl_buf *b, uint16_t type, const void *data, size_t n);
void nl_attr_u32(struct nl_buf *b, uint16_t type, uint32_t v);
void nl_attr_u8(struct nl_buf *b, uint16_t type, uint8_t v);
void nl_attr_str(struct nl_buf *b, uint16_t type, const char *s);
void nl_end(struct nl_buf *b);
/* NLMSG_ERROR: an acknowledgement when err is 0. */
void nl_error(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, int err);

/*
 * Answers one request of NETLINK_ROUTE (route.c); msg is all of it, of msg->nlmsg_len bytes.  0, or
 * the errno of the NLMSG_ERROR that is to be sent.  admin: the sender has
 * CAP_NET_ADMIN over net, the socket's namespace (NULL: none).
 */
int nl_route(const struct nlmsghdr *msg, uint32_t port, struct ns *net, bool admin,
	     struct nl_buf *b) MUST_CHECK;

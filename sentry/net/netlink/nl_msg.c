#include "sentry/net/netlink/nl_msg.h"

#include <stdlib.h>
#include <string.h>

/* n bytes of room behind what is there, padded with zeros. */
static uint8_t *grow(struct nl_buf *b, size_t n)
{
	size_t padded = NLMSG_ALIGN(n);

	if (b->len + padded > b->cap) {
		size_t cap = (b->len + padded) * 2;
		uint8_t *data = b->failed ? NULL : realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	uint8_t *at = b->data + b->len;
	memset(at, 0, padded);
	b->len += padded;
	return at;
}

static void append(struct nl_buf *b, const void *data, size_t n)
{
	uint8_t *at = grow(b, n);

	if (at && n)
		memcpy(at, data, n);
}

void nl_begin(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, uint16_t type,
	      uint16_t flags, const void *body, size_t n)
{
	const struct nlmsghdr h = {
		.nlmsg_type = type,
		.nlmsg_flags = flags,
		.nlmsg_seq = req->nlmsg_seq,
		.nlmsg_pid = port,
	};

	b->head = b->len;
	append(b, &h, sizeof(h));
	append(b, body, n);
}

void nl_attr(struct nl_buf *b, uint16_t type, const void *data, size_t n)
{
	const struct nlattr a = {.nla_len = (uint16_t)(sizeof(a) + n), .nla_type = type};

	append(b, &a, sizeof(a));
	append(b, data, n);
}

void nl_attr_u32(struct nl_buf *b, uint16_t type, uint32_t v)
{
	nl_attr(b, type, &v, sizeof(v));
}

void nl_attr_u8(struct nl_buf *b, uint16_t type, uint8_t v)
{
	nl_attr(b, type, &v, sizeof(v));
}

void nl_attr_str(struct nl_buf *b, uint16_t type, const char *s)
{
	nl_attr(b, type, s, strlen(s) + 1);
}

void nl_end(struct nl_buf *b)
{
	uint32_t n = (uint32_t)(b->len - b->head);

	if (!b->failed)
		memcpy(b->data + b->head + offsetof(struct nlmsghdr, nlmsg_len), &n, sizeof(n));
}

void nl_error(struct nl_buf *b, const struct nlmsghdr *req, uint32_t port, int err)
{
	const struct nlmsgerr body = {.error = err, .msg = *req};

	nl_begin(b, req, port, NLMSG_ERROR, err ? 0 : NLM_F_CAPPED, &body, sizeof(body));
	nl_end(b);
}

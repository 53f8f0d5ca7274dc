/* Socket structures as the x86-64 kernel has them.  Source: recvmsg(2), cmsg(3), recvmmsg(2). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct linux_msghdr {
	uint64_t name;
	int32_t namelen;
	uint32_t pad0;
	uint64_t iov, iovlen;
	uint64_t control, controllen;
	uint32_t flags, pad1;
};
_Static_assert(sizeof(struct linux_msghdr) == 56, "guest layout");
_Static_assert(offsetof(struct linux_msghdr, flags) == 48, "guest layout");

struct linux_mmsghdr {
	struct linux_msghdr hdr;
	uint32_t len, pad;
};
_Static_assert(sizeof(struct linux_mmsghdr) == 64, "guest layout");

struct linux_cmsghdr {
	uint64_t len; /* header included */
	int32_t level, type;
};
_Static_assert(sizeof(struct linux_cmsghdr) == 16, "guest layout");

#define LINUX_CMSG_ALIGN(n) (((n) + 7) & ~7ULL)
#define LINUX_SOCK_TYPE_MASK 0xf

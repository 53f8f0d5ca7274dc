/* futex2: futex_waitv(2) and its kin; what older headers lack.  Source: linux/futex.h. */
#pragma once

#include <linux/futex.h>
#include <stdint.h>

#define LINUX_SYS_futex_waitv 449
#define LINUX_SYS_futex_wake 454
#define LINUX_SYS_futex_wait 455
#define LINUX_SYS_futex_requeue 456

/* Flags of one futex. */
#define LINUX_FUTEX2_SIZE_MASK 0x03u
#define LINUX_FUTEX2_SIZE_U32 0x02u /* the only size that Linux has so far */
#define LINUX_FUTEX2_PRIVATE 0x80u

struct linux_futex_waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};
_Static_assert(sizeof(struct linux_futex_waitv) == 24, "futex_waitv(2)");

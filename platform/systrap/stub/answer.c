/*
 * Level 0: calls whose answer the guest process has at hand.  The sentry publishes ids and lends
 * the signal mask in the page set; clocks and the CPU's number come from the host's vDSO.  What
 * guest code spoils here is its own.
 *
 * A few calls only tell the kernel where something is: they are noted, and go with the next event.
 *
 * Whatever is out of the ordinary - a fault, an odd argument, a fact not published - is left to the
 * sentry, by returning 0 with nothing done.
 */
#include "platform/systrap/stub/stub.h"

#include <asm/prctl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#define NS_PER_US 1000
#define MASK_SIZE 8
#define ROBUST_HEAD_LEN 24 /* sizeof(struct robust_list_head) */
#define MASK_NEVER (1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1))
/* Those that the vDSO reads without a system call. */
#define VDSO_CLOCKS                                                                          \
	(1u << CLOCK_REALTIME | 1u << CLOCK_MONOTONIC | 1u << CLOCK_MONOTONIC_RAW |          \
	 1u << CLOCK_REALTIME_COARSE | 1u << CLOCK_MONOTONIC_COARSE | 1u << CLOCK_BOOTTIME | \
	 1u << CLOCK_TAI)

/* Above the guest's addresses there is nothing that a call may write. */
static int is_guests(uint64_t addr, uint64_t len)
{
	return addr < ST_TASK_SIZE - len;
}

static int answer_id(const struct st_ids *ids, uint32_t nr, uint64_t *ret)
{
	if (!ids->pid)
		return 0;
	switch (nr) {
	case SYS_getpid:
		*ret = ids->pid;
		return 1;
	case SYS_gettid:
		*ret = ids->tid;
		return 1;
	case SYS_getuid:
		*ret = ids->uid;
		return 1;
	case SYS_geteuid:
		*ret = ids->euid;
		return 1;
	case SYS_getgid:
		*ret = ids->gid;
		return 1;
	case SYS_getegid:
		*ret = ids->egid;
		return 1;
	}
	return 0;
}

/* pid: whose; only the caller's own is known. */
static int answer_kin(const struct st_pageset *ps, enum st_kin which, uint32_t pid, uint64_t *ret)
{
	uint32_t kin = __atomic_load_n(&ps->kin[which], __ATOMIC_RELAXED);

	if (!kin || pid)
		return 0;
	*ret = kin - 1;
	return 1;
}

static int read_clock(struct st_pageset *ps, uint32_t clock, struct stub_timespec *t)
{
	return ps->vdso_clock && clock < 32 && (1u << clock & VDSO_CLOCKS) &&
	       stub_vdso_call(ps->vdso_clock, clock, t, ps) == 0;
}

static int answer_clock(struct st_pageset *ps, uint32_t clock, uint64_t dst, uint64_t *ret)
{
	struct stub_timespec t;

	if (!is_guests(dst, sizeof(t)) || !read_clock(ps, clock, &t) ||
	    stub_store64(dst, (uint64_t)t.sec) || stub_store64(dst + 8, (uint64_t)t.nsec))
		return 0;
	*ret = 0;
	return 1;
}

static int answer_timeofday(struct st_pageset *ps, uint64_t dst, uint64_t zone, uint64_t *ret)
{
	struct stub_timespec t;

	if (zone || !is_guests(dst, sizeof(t)) || !read_clock(ps, CLOCK_REALTIME, &t) ||
	    stub_store64(dst, (uint64_t)t.sec) ||
	    stub_store64(dst + 8, (uint64_t)t.nsec / NS_PER_US))
		return 0;
	*ret = 0;
	return 1;
}

static int answer_time(struct st_pageset *ps, uint64_t dst, uint64_t *ret)
{
	struct stub_timespec t;

	if (dst || !read_clock(ps, CLOCK_REALTIME_COARSE, &t))
		return 0;
	*ret = (uint64_t)t.sec;
	return 1;
}

static int answer_getcpu(struct st_pageset *ps, uint64_t cpu, uint64_t node, uint64_t *ret)
{
	uint32_t is[2];

	if (!ps->vdso_getcpu || !is_guests(cpu, 4) || !is_guests(node, 4) ||
	    stub_vdso_call(ps->vdso_getcpu, (uint64_t)&is[0], &is[1], ps))
		return 0;
	if ((cpu && stub_store32(cpu, is[0])) || (node && stub_store32(node, is[1])))
		return 0;
	*ret = 0;
	return 1;
}

/*
 * The mask is ours to change while the sentry lends it; it takes it back when a signal is pending,
 * blocked or not.  We store the mask, then look whether it is still lent; it takes it back, then
 * reads the mask: one sees the other.
 */
static int answer_sigprocmask(struct st_pageset *ps, int how, uint64_t set, uint64_t old,
			      uint64_t *ret)
{
	uint64_t was = ps->mask, mask = was, v;

	if (!__atomic_load_n(&ps->mask_lent, __ATOMIC_RELAXED) || !is_guests(set, MASK_SIZE) ||
	    !is_guests(old, MASK_SIZE))
		return 0;
	if (set) {
		if (stub_load64(set, &v))
			return 0;
		if (how == SIG_BLOCK)
			mask |= v;
		else if (how == SIG_UNBLOCK)
			mask &= ~v;
		else if (how == SIG_SETMASK)
			mask = v;
		else
			return 0;
		mask &= ~MASK_NEVER;
	}
	if (mask != was)
		__atomic_store_n(&ps->mask, mask, __ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&ps->mask_lent, __ATOMIC_SEQ_CST) || (old && stub_store64(old, was))) {
		__atomic_store_n(&ps->mask, was, __ATOMIC_SEQ_CST);
		return 0;
	}
	*ret = 0;
	return 1;
}

/* Less than all, or an error, is the sentry's to say, and to make of the position what it is. */
static int answer_read(struct st_pageset *ps, uint32_t fd, uint64_t buf, uint64_t n, uint64_t *ret)
{
	struct st_stream *s = ps->streams;

	if (fd == UINT32_MAX)
		return 0;
	while (s->fd != fd + 1)
		if (++s == ps->streams + ST_STREAMS)
			return 0;
	if (!n || n > ST_STREAM_MAX || !is_guests(buf, n) ||
	    STUB_CALL(SYS_pread64, s->kept, buf, n, s->pos, 0, 0) != (long)n)
		return 0;
	s->pos += (int64_t)n;
	*ret = n;
	return 1;
}

static int answer_robust_list(struct st_pageset *ps, uint64_t head, uint64_t len, uint64_t *ret)
{
	if (len != ROBUST_HEAD_LEN)
		return 0;
	ps->robust_list = head;
	ps->notes |= ST_NOTE_ROBUST_LIST;
	*ret = 0;
	return 1;
}

static int answer_tid_address(struct st_pageset *ps, uint64_t addr, uint64_t *ret)
{
	if (!ps->ids.pid)
		return 0;
	ps->clear_tid = addr;
	ps->notes |= ST_NOTE_CLEAR_TID;
	*ret = ps->ids.tid;
	return 1;
}

static int answer_set_fs(struct st_pageset *ps, uint64_t code, uint64_t base, uint64_t *ret)
{
	if (code != ARCH_SET_FS || !ps->fsgsbase || base >= ST_TASK_SIZE)
		return 0;
	__asm__ volatile("wrfsbase %0" ::"r"(base));
	*ret = 0;
	return 1;
}

static int answer(struct st_pageset *ps, uint32_t nr, const uint64_t a[4], uint64_t *ret)
{
	switch (nr) {
	case SYS_read:
		return answer_read(ps, (uint32_t)a[0], a[1], a[2], ret);
	case SYS_rt_sigprocmask:
		return a[3] == MASK_SIZE && answer_sigprocmask(ps, (int)a[0], a[1], a[2], ret);
	case SYS_clock_gettime:
		return answer_clock(ps, (uint32_t)a[0], a[1], ret);
	case SYS_gettimeofday:
		return answer_timeofday(ps, a[0], a[1], ret);
	case SYS_time:
		return answer_time(ps, a[0], ret);
	case SYS_getcpu:
		return answer_getcpu(ps, a[0], a[1], ret);
	case SYS_set_robust_list:
		return answer_robust_list(ps, a[0], a[1], ret);
	case SYS_set_tid_address:
		return answer_tid_address(ps, a[0], ret);
	case SYS_arch_prctl:
		return answer_set_fs(ps, (uint32_t)a[0], a[1], ret);
	case SYS_getppid:
		return answer_kin(ps, ST_KIN_PARENT, 0, ret);
	case SYS_getpgrp:
		return answer_kin(ps, ST_KIN_GROUP, 0, ret);
	case SYS_getpgid:
		return answer_kin(ps, ST_KIN_GROUP, (uint32_t)a[0], ret);
	case SYS_getsid:
		return answer_kin(ps, ST_KIN_SESSION, (uint32_t)a[0], ret);
	}
	return answer_id(&ps->ids, nr, ret);
}

int stub_answer(struct st_pageset *ps, uint32_t nr, const uint64_t a[4], uint64_t *ret)
{
	if (!ps->direct || !answer(ps, nr, a, ret))
		return 0;
	ps->answered++;
	return 1;
}

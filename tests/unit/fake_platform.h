/*
 * A platform for unit tests of the memory manager: the "guest process" is the test itself, below
 * FAKE_TASK_SIZE, where nothing of the test's own lies.  It performs every batch on the test's
 * memory and keeps a record of it.
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"

/* Between the sanitizers' shadow and where position-independent programs are put. */
#define FAKE_MMAP_MIN 0x110000000000UL
#define FAKE_TASK_SIZE 0x300000000000UL

#define FAKE_LOG_MAX 4096

static struct fake {
	struct p_memop log[FAKE_LOG_MAX];
	size_t nlog;
	size_t batches;
	int fail_after; /* operations until one fails with ENOMEM; -1: never */
	bool later;
	struct p_event event;
} fake;

static const struct p_limits fake_limits_value = {
	.task_size = FAKE_TASK_SIZE,
	.mmap_min = FAKE_MMAP_MIN,
	.xstate_size = 576,
};

static const struct p_limits *fake_limits(struct platform *pf)
{
	(void)pf;
	return &fake_limits_value;
}

static int fake_aspace_create(struct platform *pf, struct p_aspace **as, struct p_thread **th)
{
	(void)pf;
	*as = (struct p_aspace *)&fake;
	*th = (struct p_thread *)&fake;
	return 0;
}

static int fake_fork(struct p_thread *parent, struct p_aspace **as, struct p_thread **th)
{
	(void)parent;
	return fake_aspace_create(NULL, as, th);
}

static void fake_aspace_put(struct p_aspace *as)
{
	(void)as;
}

static void fake_thread_destroy(struct p_thread *th)
{
	(void)th;
}

static const struct p_event *fake_event(struct p_thread *th)
{
	(void)th;
	return &fake.event;
}

static long fake_perform(const struct p_memop *op)
{
	void *addr = (void *)op->addr, *r = addr;
	long ret = 0;

	ck_assert_uint_le(op->addr + op->len, FAKE_TASK_SIZE);
	switch (op->kind) {
	case P_MEMOP_MAP:
		r = mmap(addr, op->len, op->prot, op->flags | MAP_FIXED, op->fd, (off_t)op->off);
		break;
	case P_MEMOP_UNMAP:
		ret = munmap(addr, op->len);
		break;
	case P_MEMOP_PROTECT:
		ret = mprotect(addr, op->len, op->prot);
		break;
	case P_MEMOP_MOVE:
		ck_assert_uint_le(op->new_addr + op->new_len, FAKE_TASK_SIZE);
		r = mremap(addr, op->len, op->new_len, MREMAP_MAYMOVE | MREMAP_FIXED,
			   (void *)op->new_addr);
		break;
	case P_MEMOP_RESIZE:
		r = mremap(addr, op->len, op->new_len, 0);
		break;
	case P_MEMOP_ADVISE:
		ret = madvise(addr, op->len, op->flags);
		break;
	case P_MEMOP_CLEAR:
		memset(addr, 0, op->len);
		break;
	case P_MEMOP_WRITE:
		memcpy(addr, op->bytes, op->len);
		break;
	case P_MEMOP_WAKE:
	case P_MEMOP_RESET:
		break;
	}
	return ret < 0 || r == MAP_FAILED ? -errno : 0;
}

static int fake_mem(struct p_thread *th, struct p_memop *ops, size_t n)
{
	int err = 0;

	(void)th;
	fake.batches++;
	for (size_t i = 0; i < n; i++) {
		if (err) {
			ops[i].ret = -ECANCELED;
			continue;
		}
		if (fake.fail_after == 0) {
			fake.fail_after = -1;
			ops[i].ret = -ENOMEM;
		} else {
			if (fake.fail_after > 0)
				fake.fail_after--;
			ops[i].ret = fake_perform(&ops[i]);
		}
		if (fake.nlog < FAKE_LOG_MAX)
			fake.log[fake.nlog++] = ops[i];
		err = ops[i].ret < 0 ? (int)ops[i].ret : 0;
	}
	return err;
}

/* Puts off what fake.later says, and forgets it: as if it failed when its time came. */
static bool fake_mem_later(struct p_thread *th, struct p_memop *op)
{
	(void)th;
	op->ret = 0;
	return fake.later;
}

static ssize_t fake_copy(void *local, uint64_t guest, size_t n, bool out)
{
	struct iovec l = {local, n}, g = {(void *)guest, n};
	ssize_t r = out ? process_vm_writev(getpid(), &l, 1, &g, 1, 0)
			: process_vm_readv(getpid(), &l, 1, &g, 1, 0);

	return r < 0 ? 0 : r;
}

static ssize_t fake_copy_in(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src,
			    size_t n)
{
	(void)as;
	(void)th;
	return fake_copy(dst, src, n, false);
}

static ssize_t fake_copy_out(struct p_aspace *as, struct p_thread *th, uint64_t dst,
			     const void *src, size_t n)
{
	(void)as;
	(void)th;
	return fake_copy((void *)(uintptr_t)src, dst, n, true);
}

static const struct platform_ops fake_ops = {
	.name = "fake",
	.limits = fake_limits,
	.aspace_create = fake_aspace_create,
	.fork = fake_fork,
	.aspace_put = fake_aspace_put,
	.thread_destroy = fake_thread_destroy,
	.event = fake_event,
	.mem = fake_mem,
	.mem_later = fake_mem_later,
	.copy_in = fake_copy_in,
	.copy_out = fake_copy_out,
};

static struct platform fake_platform = {.ops = &fake_ops};

/* Forgets the record and what is mapped. */
static void fake_reset(void)
{
	munmap((void *)FAKE_MMAP_MIN, FAKE_TASK_SIZE - FAKE_MMAP_MIN);
	memset(&fake, 0, sizeof(fake));
	fake.fail_after = -1;
	fake.event.kind = P_EVENT_SYSCALL;
}

/* uring.h - an io_uring under test, by the kernel's own interface. */
#pragma once

#include <linux/io_uring.h>
#include <sys/mman.h>

#include "tests/compat/compat.h"

static struct io_uring_params par;
static int ring;
static char *rings;
static struct io_uring_sqe *sqes;

static inline uint32_t *word(uint32_t off)
{
	return (uint32_t *)(rings + off);
}

static inline int setup(unsigned n, struct io_uring_params *p)
{
	return (int)syscall(SYS_io_uring_setup, n, p);
}

static inline long enter_ring(unsigned submit, unsigned min, unsigned flags)
{
	return syscall(SYS_io_uring_enter, ring, submit, min, flags, NULL, 0L);
}

static inline long reg(unsigned op, void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring, op, arg, n);
}

static inline void open_ring(unsigned n, unsigned flags)
{
	memset(&par, 0, sizeof(par));
	par.flags = flags;
	EXPECT_OK(chdir(test_dir()));
	ring = setup(n, &par);
	if (ring < 0 && (errno == ENOSYS || errno == EPERM))
		test_skip("no io_uring here");
	EXPECT(ring >= 0);
	EXPECT(par.features & IORING_FEAT_SINGLE_MMAP);
	size_t sq = par.sq_off.array + par.sq_entries * 4;
	size_t cq = par.cq_off.cqes + par.cq_entries * 16;
	rings = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		     ring, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, par.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, ring, (off_t)IORING_OFF_SQES);
	EXPECT(rings != MAP_FAILED && sqes != MAP_FAILED);
}

static inline struct io_uring_sqe *push(int op, int fd, const void *addr, unsigned len,
					uint64_t off, uint64_t data)
{
	uint32_t *tail = word(par.sq_off.tail), mask = *word(par.sq_off.ring_mask);
	uint32_t i = *tail & mask;
	struct io_uring_sqe *s = &sqes[i];

	memset(s, 0, sizeof(*s));
	s->opcode = (uint8_t)op;
	s->fd = fd;
	s->addr = (uintptr_t)addr;
	s->len = len;
	s->off = off;
	s->user_data = data;
	word(par.sq_off.array)[i] = i;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return s;
}

/* The next completion; waits for it. */
static inline struct io_uring_cqe pull(void)
{
	uint32_t *head = word(par.cq_off.head), mask = *word(par.cq_off.ring_mask);

	if (*head == __atomic_load_n(word(par.cq_off.tail), __ATOMIC_ACQUIRE))
		EXPECT_OK(enter_ring(0, 1, IORING_ENTER_GETEVENTS));
	EXPECT(*head != __atomic_load_n(word(par.cq_off.tail), __ATOMIC_ACQUIRE));
	struct io_uring_cqe *cqes = (void *)(rings + par.cq_off.cqes), c = cqes[*head & mask];
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return c;
}

static inline bool empty(void)
{
	return *word(par.cq_off.head) == __atomic_load_n(word(par.cq_off.tail), __ATOMIC_ACQUIRE);
}

static inline int run(void)
{
	EXPECT_EQ(enter_ring(1, 1, IORING_ENTER_GETEVENTS), 1);
	return pull().res;
}

static inline int run1(int op, int fd, const void *addr, unsigned len, uint64_t off)
{
	push(op, fd, addr, len, off, 1);
	return run();
}

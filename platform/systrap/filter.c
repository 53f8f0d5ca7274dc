/*
 * The host's filter for guest processes.
 *
 * Outside the stub's text every call traps, and becomes the guest's, but for the few that mean on
 * the host what they mean to the guest (stub/direct.c): those cost what the host's cost.  Inside,
 * the list below passes with these arguments; anything else traps as well, and the sentry, which
 * sees where it came from, kills the process - quieter than the filter's own kill, of which each is
 * a line in the host's audit log.  Order: architecture, x32, instruction pointer (the one after the
 * call), number.
 */
#include "platform/systrap/internal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define X32_BIT 0x40000000u

struct prog {
	struct sock_filter *f;
	unsigned n, cap;
};

static void emit(struct prog *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	if (p->n < p->cap)
		p->f[p->n] = (struct sock_filter){code, jt, jf, k};
	p->n++;
}

static void load(struct prog *p, size_t off)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)off, 0, 0);
}

static void ret(struct prog *p, uint32_t what)
{
	emit(p, BPF_RET | BPF_K, what, 0, 0);
}

#define NR offsetof(struct seccomp_data, nr)
#define ARCH offsetof(struct seccomp_data, arch)
#define IP_LO offsetof(struct seccomp_data, instruction_pointer)
#define IP_HI (IP_LO + 4)
#define ARG_LO(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#define ARG_HI(i) (ARG_LO(i) + 4)

/* if (A <op> k) continue, else trap */
static void require(struct prog *p, uint16_t op, uint32_t k)
{
	emit(p, BPF_JMP | op | BPF_K, k, 1, 0);
	ret(p, SECCOMP_RET_TRAP);
}

static void refuse_bits(struct prog *p, uint32_t bits)
{
	emit(p, BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1);
	ret(p, SECCOMP_RET_TRAP);
}

/* The argument equals one of n 32-bit values: falls through; else trap. */
static void require_one_of(struct prog *p, const uint32_t *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, v[i], (uint8_t)(n - i), 0);
	ret(p, SECCOMP_RET_TRAP);
}

/* Begins the section of one call; its length is patched by section_end. */
static unsigned section(struct prog *p, uint32_t nr)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 0);
	return p->n - 1;
}

static void section_end(struct prog *p, unsigned at, uint32_t what)
{
	ret(p, what);
	if (at < p->cap)
		p->f[at].jf = (uint8_t)(p->n - at - 1);
}

static void allow_plain(struct prog *p, uint32_t nr)
{
	section_end(p, section(p, nr), SECCOMP_RET_ALLOW);
}

static void allow_futex(struct prog *p)
{
	/* Requeue keeps its private flag: a shared one could carry away a wait of the sentry. */
	static const uint32_t ops[] = {FUTEX_WAIT,
				       FUTEX_WAIT_PRIVATE,
				       FUTEX_WAKE,
				       FUTEX_WAKE_PRIVATE,
				       FUTEX_WAKE_OP,
				       FUTEX_WAKE_OP_PRIVATE,
				       FUTEX_WAIT_BITSET,
				       FUTEX_WAIT_BITSET_PRIVATE,
				       FUTEX_WAKE_BITSET,
				       FUTEX_WAKE_BITSET_PRIVATE,
				       FUTEX_REQUEUE_PRIVATE,
				       FUTEX_CMP_REQUEUE_PRIVATE};
	unsigned at = section(p, SYS_futex);

	load(p, ARG_LO(1));
	emit(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)FUTEX_CLOCK_REALTIME, 0, 0);
	require_one_of(p, ops, ARRAY_SIZE(ops));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

/*
 * Guest code's own futex calls.  What has a timeout by CLOCK_MONOTONIC traps: the stub makes a
 * relative one absolute, so that a wait which is aborted and redone does not grow, and moves an
 * absolute one by what the guest's clock is ahead.  Restarting the other waits is exact.
 */
static void allow_futex_outside(struct prog *p)
{
	static const uint32_t ops[] = {FUTEX_WAKE,
				       FUTEX_WAKE_PRIVATE,
				       FUTEX_WAKE_OP,
				       FUTEX_WAKE_OP_PRIVATE,
				       FUTEX_WAIT_BITSET,
				       FUTEX_WAIT_BITSET_PRIVATE,
				       FUTEX_WAKE_BITSET,
				       FUTEX_WAKE_BITSET_PRIVATE,
				       FUTEX_REQUEUE_PRIVATE,
				       FUTEX_CMP_REQUEUE_PRIVATE};
	unsigned at = section(p, SYS_futex);

	load(p, ARG_LO(1));
	emit(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)FUTEX_PRIVATE_FLAG, 0, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAIT, 1, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAIT_BITSET, 0, 5);
	load(p, ARG_LO(3));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
	load(p, ARG_HI(3));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, ARRAY_SIZE(ops) + 4, 0);
	ret(p, SECCOMP_RET_TRAP);
	load(p, ARG_LO(1));
	emit(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)FUTEX_CLOCK_REALTIME, 0, 0);
	require_one_of(p, ops, ARRAY_SIZE(ops));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_mmap(struct prog *p)
{
	unsigned at = section(p, SYS_mmap);

	load(p, ARG_LO(3));
	refuse_bits(p, ~(uint32_t)(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS |
				   MAP_NORESERVE | MAP_POPULATE));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_madvise(struct prog *p)
{
	/* Not MADV_REMOVE and MADV_DOFORK: they reach beyond the mapping (design, rule 1). */
	static const uint32_t advice[] = {MADV_NORMAL,	      MADV_RANDOM,	   MADV_SEQUENTIAL,
					  MADV_WILLNEED,      MADV_DONTNEED,	   MADV_FREE,
					  MADV_DONTFORK,      MADV_HUGEPAGE,	   MADV_NOHUGEPAGE,
					  MADV_DONTDUMP,      MADV_DODUMP,	   MADV_WIPEONFORK,
					  MADV_KEEPONFORK,    MADV_COLD,	   MADV_PAGEOUT,
					  MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE};
	unsigned at = section(p, SYS_madvise);

	load(p, ARG_LO(2));
	require_one_of(p, advice, ARRAY_SIZE(advice));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_clone(struct prog *p)
{
	static const uint32_t flags[] = {ST_CLONE_PROCESS, ST_CLONE_THREAD};
	unsigned at = section(p, SYS_clone);

	load(p, ARG_HI(0));
	require(p, BPF_JEQ, 0);
	load(p, ARG_LO(0));
	require_one_of(p, flags, ARRAY_SIZE(flags));
	section_end(p, at, SECCOMP_RET_USER_NOTIF);
}

static void allow_write(struct prog *p)
{
	unsigned at = section(p, SYS_write);

	load(p, ARG_LO(0));
	require(p, BPF_JEQ, ST_FD_DOORBELL);
	load(p, ARG_HI(2));
	require(p, BPF_JEQ, 0);
	load(p, ARG_LO(2));
	require(p, BPF_JEQ, 8);
	section_end(p, at, SECCOMP_RET_ALLOW);
}

/* Of files that the process was given, with the access that it was given (lent.c). */
static void allow_file_moves(struct prog *p)
{
	allow_plain(p, SYS_pread64);
	allow_plain(p, SYS_pwrite64);
}

static void allow_mremap(struct prog *p)
{
	unsigned at = section(p, SYS_mremap);

	load(p, ARG_LO(3));
	refuse_bits(p, ~(uint32_t)(MREMAP_MAYMOVE | MREMAP_FIXED));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_arch_prctl(struct prog *p)
{
	static const uint32_t codes[] = {0x1001, 0x1002, 0x1003,
					 0x1004}; /* ARCH_{SET,GET}_{GS,FS} */
	unsigned at = section(p, SYS_arch_prctl);

	load(p, ARG_LO(0));
	require_one_of(p, codes, ARRAY_SIZE(codes));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_clock_gettime(struct prog *p)
{
	static const uint32_t clocks[] = {CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID};
	unsigned at = section(p, SYS_clock_gettime);

	load(p, ARG_LO(0));
	require_one_of(p, clocks, ARRAY_SIZE(clocks));
	section_end(p, at, SECCOMP_RET_ALLOW);
}

static void allow_getrusage(struct prog *p)
{
	unsigned at = section(p, SYS_getrusage);

	load(p, ARG_LO(0));
	require(p, BPF_JEQ, RUSAGE_SELF);
	section_end(p, at, SECCOMP_RET_ALLOW);
}

/* The query's answer names commands that are not passed on: outside, it traps and is corrected. */
static void allow_membarrier(struct prog *p, bool inside)
{
	static const uint32_t cmds[] = {MEMBARRIER_CMD_QUERY, MEMBARRIER_CMD_PRIVATE_EXPEDITED,
					MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED,
					MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE,
					MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE};
	unsigned at = section(p, SYS_membarrier), skip = inside ? 0 : 1;

	load(p, ARG_LO(0));
	require_one_of(p, cmds + skip, ARRAY_SIZE(cmds) - skip);
	section_end(p, at, SECCOMP_RET_ALLOW);
}

/* Ends the program: what guest code may call by itself. */
static void outside(struct prog *p)
{
	load(p, NR);
	allow_futex_outside(p);
	allow_plain(p, SYS_sched_yield);
	allow_membarrier(p, false);
	ret(p, SECCOMP_RET_TRAP);
}

static void inside(struct prog *p)
{
	load(p, NR);
	allow_plain(p, SYS_rt_sigreturn);
	allow_futex(p);
	allow_write(p);
	allow_plain(p, SYS_rt_sigprocmask);
	allow_clock_gettime(p);
	allow_getrusage(p);
	allow_mmap(p);
	allow_plain(p, SYS_munmap);
	allow_plain(p, SYS_mprotect);
	allow_madvise(p);
	allow_mremap(p);
	allow_file_moves(p);
	allow_plain(p, SYS_recvmsg);
	allow_plain(p, SYS_close);
	allow_clone(p);
	allow_plain(p, SYS_exit);
	allow_membarrier(p, true);
	allow_plain(p, SYS_rseq);
	allow_plain(p, LINUX_SYS_futex_waitv);
	allow_arch_prctl(p);
	ret(p, SECCOMP_RET_TRAP);
}

unsigned filter_build(uint64_t *out, unsigned cap)
{
	struct prog p = {.f = (struct sock_filter *)out, .cap = cap};

	_Static_assert(sizeof(struct sock_filter) == sizeof(uint64_t), "host ABI");
	load(&p, ARCH);
	require(&p, BPF_JEQ, AUDIT_ARCH_X86_64);
	load(&p, NR);
	emit(&p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	ret(&p, SECCOMP_RET_TRAP);
	load(&p, IP_HI);
	emit(&p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(ST_TEXT >> 32), 0, 3);
	load(&p, IP_LO);
	emit(&p, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)ST_TEXT + 2, 0, 1);
	unsigned to_inside = p.n;
	emit(&p, BPF_JMP | BPF_JGT | BPF_K, (uint32_t)ST_TEXT + ST_TEXT_LEN, 0, 0);
	outside(&p);
	if (to_inside < cap)
		p.f[to_inside].jf = (uint8_t)(p.n - to_inside - 1);
	inside(&p);
	return p.n;
}

/*
 * What every platform must do, and what guests must not be able to do to it.
 *
 *	platform_test NAME [TEST]	as root, or where user namespaces make one
 *	platform_test NAME bench	figures instead of tests
 *
 * Guest programs are a few instructions each (platform_test_guest.S), mapped at CODE.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/platform.h"
#include "sentry/host/reopen.h"
#include "sentry/lib/log.h"

#define CODE 0x400000UL
#define DATA 0x500000UL
#define DATA_LEN 0x10000UL
#define STACK_TOP 0x620000UL

extern const char guest_code[], guest_code_end[];
#define GUEST(label) (CODE + (uint64_t)((const char *)(label)-guest_code))

static const struct platform_ops *ops;
static struct platform *pf;
static const struct p_limits *limits;
static const char *current_test;
static int spin_us = -1;

#define CHECK(cond)                                                                              \
	do {                                                                                     \
		if (!(cond)) {                                                                   \
			printf("FAIL %s: %s:%d: %s\n", current_test, __FILE__, __LINE__, #cond); \
			exit(1);                                                                 \
		}                                                                                \
	} while (0)
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long va_ = (long long)(a), vb_ = (long long)(b);                              \
		if (va_ != vb_) {                                                                  \
			printf("FAIL %s: %s:%d: %s is %lld (%#llx), not %lld (%#llx)\n",           \
			       current_test, __FILE__, __LINE__, #a, va_, (unsigned long long)va_, \
			       vb_, (unsigned long long)vb_);                                      \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- a guest to experiment with ---- */

struct guest {
	struct p_aspace *as;
	struct p_thread *th;
};

static struct p_memop map_op(uint64_t addr, uint64_t len, int prot)
{
	return (struct p_memop){.kind = P_MEMOP_MAP,
				.addr = addr,
				.len = len,
				.prot = prot,
				.flags = MAP_PRIVATE,
				.fd = -1};
}

static struct guest guest_new(const char *entry)
{
	struct guest g;
	struct p_memop m[3] = {map_op(CODE, 0x2000, PROT_READ | PROT_WRITE | PROT_EXEC),
			       map_op(DATA, DATA_LEN, PROT_READ | PROT_WRITE),
			       map_op(STACK_TOP - 0x10000, 0x10000, PROT_READ | PROT_WRITE)};
	size_t len = (size_t)(guest_code_end - guest_code);

	CHECK_EQ(ops->aspace_create(pf, &g.as, &g.th), 0);
	CHECK_EQ(ops->mem(g.th, m, 3), 0);
	CHECK_EQ(ops->copy_out(g.as, g.th, CODE, guest_code, len), len);
	ops->regs(g.th)->rip = GUEST(entry);
	ops->regs(g.th)->rsp = STACK_TOP - 64;
	return g;
}

static void guest_end(struct guest *g)
{
	ops->thread_destroy(g->th);
	ops->aspace_put(g->as);
}

static const struct p_event *wait_for(struct p_thread *th)
{
	struct p_thread *got = ops->next(pf);

	CHECK(got == th);
	return ops->event(got);
}

static const struct p_event *run(struct p_thread *th)
{
	ops->resume(th);
	return wait_for(th);
}

static void run_to_syscall(struct p_thread *th, long nr)
{
	const struct p_event *e = run(th);

	if (e->kind == P_EVENT_SIGNAL)
		printf("signal %d code %d addr %#llx rip %#llx\n", e->signo, e->si_code,
		       (unsigned long long)e->addr, (unsigned long long)ops->regs(th)->rip);
	CHECK_EQ(e->kind, P_EVENT_SYSCALL);
	CHECK_EQ(ops->regs(th)->orig_rax, nr);
	CHECK_EQ(ops->regs(th)->rax, (uint64_t)-ENOSYS);
}

static uint64_t peek(struct guest *g, uint64_t addr)
{
	uint64_t v = 0;

	CHECK_EQ(ops->copy_in(g->as, NULL, &v, addr, 8), 8);
	return v;
}

static void poke(struct guest *g, uint64_t addr, uint64_t v)
{
	CHECK_EQ(ops->copy_out(g->as, NULL, addr, &v, 8), 8);
}

extern const char g_syscalls[], g_load[], g_store[], g_ud2[], g_int3[], g_div[], g_loop[],
	g_xsave[], g_thread[], g_futex[], g_nr[], g_step[], g_int80[], g_vcall[], g_jump[],
	g_wakeloop[], g_counter[], g_gsbase[], g_fill[], g_flood[], g_fillloop[];

/* ---- registers and system calls ---- */

static void syscall_carries_six_arguments_and_a_result(void)
{
	struct guest g = guest_new(g_syscalls);
	struct arch_regs *r = ops->regs(g.th);

	r->rax = 1000;
	r->rdi = 1, r->rsi = 2, r->rdx = 3, r->r10 = 4, r->r8 = 5, r->r9 = 0x123456789abcdefULL;
	run_to_syscall(g.th, 1000);
	r = ops->regs(g.th);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(arch_syscall_arg(r, i), i + 1);
	CHECK_EQ(arch_syscall_arg(r, 5), 0x123456789abcdefULL);
	CHECK_EQ(r->rip, GUEST(g_syscalls) + 2);
	CHECK_EQ(r->rcx, r->rip);
	CHECK_EQ(r->cs, ARCH_USER_CS);
	r->rax = 42;
	run_to_syscall(g.th, 1001);
	CHECK_EQ(ops->regs(g.th)->rdi, 42);
	/* Restart: back to the instruction with the number in rax. */
	r->rip -= ARCH_SYSCALL_INSN_LEN;
	r->rax = r->orig_rax;
	run_to_syscall(g.th, 1001);
	guest_end(&g);
}

static void registers_survive_a_round_trip(void)
{
	struct guest g = guest_new(g_syscalls);
	struct arch_regs *r = ops->regs(g.th);
	struct arch_regs want;

	r->rax = 1000;
	r->rbx = 0xb0b, r->rbp = 0xbb, r->rdi = 7, r->rsi = 8, r->rdx = 9, r->r8 = 10, r->r9 = 11;
	r->r10 = 12, r->r12 = 13, r->r13 = 14, r->r14 = 15, r->r15 = ~0ULL;
	r->fs_base = DATA, r->gs_base = 0x7654321000;
	r->eflags = ARCH_EFLAGS_FIXED | 1;
	want = *r;
	run_to_syscall(g.th, 1000);
	r = ops->regs(g.th);
	want.cs = ARCH_USER_CS, want.ss = ARCH_USER_DS;
	want.rip += 2, want.rcx = want.rip, want.r11 = r->r11, want.orig_rax = 1000;
	want.rax = (uint64_t)-ENOSYS, want.eflags = r->eflags;
	const uint64_t *a = (const uint64_t *)r, *b = (const uint64_t *)&want;
	for (size_t i = 0; i < sizeof(want) / sizeof(*a); i++)
		if (a[i] != b[i])
			printf("register %zu of struct arch_regs: %#llx, not %#llx\n", i,
			       (unsigned long long)a[i], (unsigned long long)b[i]);
	CHECK(!memcmp(r, &want, sizeof(want)));
	CHECK_EQ(r->eflags & 1, 1);
	guest_end(&g);
}

static void guest_may_own_gs(void)
{
	struct guest g = guest_new(g_gsbase);

	ops->regs(g.th)->gs_base = DATA;
	poke(&g, DATA, 77);
	run_to_syscall(g.th, 77);
	ops->regs(g.th)->gs_base = DATA + 8;
	poke(&g, DATA + 8, 78);
	run_to_syscall(g.th, 78);
	guest_end(&g);
}

static void numbers_that_the_host_knows_are_reported_too(void)
{
	static const int numbers[] = {0, 15, 39, 56, 57, 60, 219, 231, 435, 500, 0x40000000 + 1};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct guest g = guest_new(g_nr);
		ops->regs(g.th)->rax = (uint64_t)numbers[i];
		run_to_syscall(g.th, numbers[i]);
		guest_end(&g);
	}
}

/* The host answers it with SIGILL before its filters look (Linux 6.11). */
static void uretprobe_call_is_reported_as_a_call(void)
{
	struct guest g = guest_new(g_nr);

	ops->regs(g.th)->rax = 335;
	run_to_syscall(g.th, 335);
	CHECK_EQ(ops->regs(g.th)->rip, GUEST(g_nr) + 2);
	guest_end(&g);
}

static void single_step_traps_after_each_instruction(void)
{
	struct guest g = guest_new(g_step);

	for (int i = 1; i <= 3; i++) {
		ops->regs(g.th)->eflags |= ARCH_EFLAGS_TF;
		const struct p_event *e = run(g.th);
		CHECK_EQ(e->kind, P_EVENT_SIGNAL);
		CHECK_EQ(e->signo, SIGTRAP);
		CHECK_EQ(ops->regs(g.th)->rip, GUEST(g_step) + (uint64_t)i);
	}
	ops->regs(g.th)->eflags &= ~ARCH_EFLAGS_TF;
	run_to_syscall(g.th, 5);
	guest_end(&g);
}

/* ---- faults ---- */

static void faults_carry_signal_address_and_error(void)
{
	struct guest g = guest_new(g_load);
	const struct p_event *e;

	ops->regs(g.th)->rdi = 0x123000;
	e = run(g.th);
	CHECK_EQ(e->kind, P_EVENT_SIGNAL);
	CHECK_EQ(e->signo, SIGSEGV);
	CHECK_EQ(e->si_code, SEGV_MAPERR);
	CHECK_EQ(e->addr, 0x123000);
	CHECK_EQ(e->cr2, 0x123000);
	CHECK_EQ(e->trapno, 14);
	CHECK_EQ(e->error_code, 4);
	CHECK_EQ(ops->regs(g.th)->rip, GUEST(g_load));
	/* The same instruction again, after the page has come. */
	struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
	CHECK_EQ(ops->mem(g.th, &m, 1), 0);
	run_to_syscall(g.th, 0);
	ops->regs(g.th)->rip = GUEST(g_store);
	e = run(g.th);
	CHECK_EQ(e->si_code, SEGV_ACCERR);
	CHECK_EQ(e->error_code & ~2ULL, 5); /* ptrace(2) does not tell writes from reads */
	guest_end(&g);

	static const struct {
		const char *entry;
		int signo, code;
	} other[] = {{g_ud2, SIGILL, ILL_ILLOPN},
		     {g_int3, SIGTRAP, SI_KERNEL},
		     {g_div, SIGFPE, FPE_INTDIV}};
	for (int i = 0; i < 3; i++) {
		g = guest_new(other[i].entry);
		e = run(g.th);
		CHECK_EQ(e->kind, P_EVENT_SIGNAL);
		CHECK_EQ(e->signo, other[i].signo);
		CHECK_EQ(e->si_code, other[i].code);
		guest_end(&g);
	}
}

static void int80_is_no_way_in(void)
{
	struct guest g = guest_new(g_int80);
	const struct p_event *e = run(g.th);

	CHECK_EQ(e->kind, P_EVENT_SIGNAL);
	CHECK_EQ(e->signo, SIGSEGV);
	CHECK(ops->regs(g.th)->rip - GUEST(g_int80) <= 7);
	guest_end(&g);
}

/* ---- extended state ---- */

static void extended_state_survives_and_can_be_changed(void)
{
	static uint8_t x[ARCH_XSTATE_MAX], y[ARCH_XSTATE_MAX];
	struct guest g = guest_new(g_xsave);
	uint8_t pattern[64];

	CHECK(limits->xstate_size >= 512 && limits->xstate_size <= ARCH_XSTATE_MAX);
	for (int i = 0; i < 64; i++)
		pattern[i] = (uint8_t)(i * 3 + 1);
	CHECK_EQ(ops->copy_out(g.as, NULL, DATA, pattern, 64), 64);
	ops->regs(g.th)->rdi = DATA;
	run_to_syscall(g.th, 1); /* xmm0 loaded */
	CHECK_EQ(ops->xstate_get(g.th, x, sizeof(x)), 0);
	CHECK(!memcmp(x + 160, pattern, 16));
	run_to_syscall(g.th, 2); /* stored at DATA+64 */
	uint8_t back[64];
	CHECK_EQ(ops->copy_in(g.as, NULL, back, DATA + 64, 16), 16);
	CHECK(!memcmp(back, pattern, 16));

	memset(x + 160, 0xab, 16);
	CHECK_EQ(ops->xstate_set(g.th, x, sizeof(x)), 0);
	CHECK_EQ(ops->xstate_get(g.th, y, sizeof(y)), 0);
	CHECK(!memcmp(x, y, limits->xstate_size));
	ops->regs(g.th)->rip = GUEST(g_xsave) + 4; /* behind the load */
	run_to_syscall(g.th, 1);
	run_to_syscall(g.th, 2);
	CHECK_EQ(peek(&g, DATA + 64), 0xababababababababULL);

	memset(x + 24, 0xff, 4); /* MXCSR */
	CHECK_EQ(ops->xstate_set(g.th, x, sizeof(x)), -EINVAL);
	CHECK_EQ(ops->xstate_get(g.th, x, sizeof(x)), 0);
	if (limits->xstate_size > 512) {
		x[520 + 7] = 0x80; /* XCOMP_BV: compacted */
		CHECK_EQ(ops->xstate_set(g.th, x, sizeof(x)), -EINVAL);
		CHECK_EQ(ops->xstate_get(g.th, x, sizeof(x)), 0);
		memset(x + 512, 0xff, 8);
		CHECK_EQ(ops->xstate_set(g.th, x, sizeof(x)), -EINVAL);
	}
	CHECK_EQ(ops->xstate_reset(g.th), 0);
	ops->regs(g.th)->rip = GUEST(g_xsave) + 4;
	run_to_syscall(g.th, 1);
	run_to_syscall(g.th, 2);
	CHECK_EQ(peek(&g, DATA + 64), 0);
	guest_end(&g);
}

/* ---- processes and threads ---- */

static void fork_copies_registers_state_and_memory(void)
{
	struct guest g = guest_new(g_xsave), c;
	static uint8_t x[ARCH_XSTATE_MAX], y[ARCH_XSTATE_MAX];

	poke(&g, DATA, 0x1111);
	ops->regs(g.th)->rdi = DATA;
	ops->regs(g.th)->fs_base = 0x12340000;
	run_to_syscall(g.th, 1);
	CHECK_EQ(ops->fork(g.th, &c.as, &c.th), 0);
	CHECK(ops->host_pid(c.as) != ops->host_pid(g.as));
	CHECK(!memcmp(ops->regs(c.th), ops->regs(g.th), sizeof(struct arch_regs)));
	CHECK_EQ(ops->xstate_get(g.th, x, sizeof(x)), 0);
	CHECK_EQ(ops->xstate_get(c.th, y, sizeof(y)), 0);
	CHECK(!memcmp(x, y, limits->xstate_size));
	poke(&c, DATA, 0x2222);
	CHECK_EQ(peek(&g, DATA), 0x1111);
	run_to_syscall(c.th, 2);
	run_to_syscall(g.th, 2);
	CHECK_EQ(peek(&c, DATA + 64), 0x1111);
	CHECK_EQ(ops->regs(c.th)->fs_base, 0x12340000);
	/* A grandchild, and the middle one goes first. */
	struct guest gc;
	CHECK_EQ(ops->fork(c.th, &gc.as, &gc.th), 0);
	guest_end(&c);
	CHECK_EQ(peek(&gc, DATA), 0x2222);
	ops->regs(gc.th)->rip = GUEST(g_nr);
	ops->regs(gc.th)->rax = 9;
	run_to_syscall(gc.th, 9);
	guest_end(&gc);
	guest_end(&g);
}

static void *kick_soon(void *arg)
{
	(void)arg;
	usleep(20000);
	ops->kick(pf);
	return NULL;
}

/* Who ends while workers are busy is buried when one has the time, at the latest when none is. */
static void ended_processes_are_buried(void)
{
	struct guest g = guest_new(g_nr), c;
	pid_t pids[40];
	pthread_t t;

	ops->regs(g.th)->rax = 9;
	run_to_syscall(g.th, 9);
	for (size_t i = 0; i < 40; i++) {
		CHECK_EQ(ops->fork(g.th, &c.as, &c.th), 0);
		pids[i] = ops->host_pid(c.as);
		guest_end(&c);
	}
	CHECK_EQ(pthread_create(&t, NULL, kick_soon, NULL), 0);
	CHECK(ops->next(pf) == NULL);
	pthread_join(t, NULL);
	for (size_t i = 0; i < 40; i++)
		for (int tries = 0; !kill(pids[i], 0); tries++) {
			CHECK(tries < 1000);
			usleep(1000);
		}
	guest_end(&g);
}

#define THREADS 80 /* more than two blocks of slots */

static void many_threads_share_memory(void)
{
	struct guest g = guest_new(g_thread);
	struct p_thread *t[THREADS];
	uint64_t seen = 0;

	ops->regs(g.th)->fs_base = 0x1000;
	for (int round = 0; round < 3; round++) {
		poke(&g, DATA, 0);
		for (int i = 0; i < THREADS; i++) {
			CHECK_EQ(ops->thread_create(g.th, &t[i]), 0);
			struct arch_regs *r = ops->regs(t[i]);
			CHECK(!memcmp(r, ops->regs(g.th), sizeof(*r)));
			r->rdi = (uint64_t)i;
			r->rsi = DATA;
			r->rsp = STACK_TOP - 64 - (uint64_t)i * 128;
			ops->set_owner(t[i], (void *)(uintptr_t)i);
			CHECK(ops->owner(t[i]) == (void *)(uintptr_t)i);
		}
		for (int i = 0; i < THREADS; i++)
			ops->resume(t[i]);
		for (int i = 0; i < THREADS; i++) {
			struct p_thread *th = ops->next(pf);
			CHECK_EQ(ops->event(th)->kind, P_EVENT_SYSCALL);
			CHECK_EQ(ops->regs(th)->orig_rax, 3);
			CHECK_EQ(ops->regs(th)->rdi, (uintptr_t)ops->owner(th));
			seen += ops->regs(th)->rdi;
		}
		CHECK_EQ(peek(&g, DATA), THREADS);
		for (int i = 0; i < THREADS; i++)
			ops->thread_destroy(t[i]);
	}
	CHECK_EQ(seen, 3 * THREADS * (THREADS - 1) / 2);
	guest_end(&g);
}

static void leader_may_end_before_its_threads(void)
{
	struct guest g = guest_new(g_thread), c;
	struct p_thread *t;

	CHECK_EQ(ops->thread_create(g.th, &t), 0);
	ops->regs(t)->rsi = DATA;
	ops->thread_destroy(g.th);
	run_to_syscall(t, 3);
	CHECK_EQ(peek(&g, DATA), 1);
	/* A fork by a thread in another slot than the first. */
	CHECK_EQ(ops->fork(t, &c.as, &c.th), 0);
	ops->regs(c.th)->rip = GUEST(g_thread);
	run_to_syscall(c.th, 3);
	CHECK_EQ(peek(&c, DATA), 2);
	for (int i = 0; i < THREADS; i++) {
		struct p_thread *u;
		CHECK_EQ(ops->thread_create(c.th, &u), 0);
		ops->regs(u)->rip = GUEST(g_thread);
		run_to_syscall(u, 3);
	}
	CHECK_EQ(peek(&c, DATA), 2 + THREADS);
	ops->aspace_put(c.as);
	g.th = t;
	guest_end(&g);
}

/* ---- interrupts ---- */

static void *interrupt_later(void *arg)
{
	usleep(50000);
	ops->interrupt(arg);
	return NULL;
}

static void interrupt_stops_guest_code(void)
{
	struct guest g = guest_new(g_loop);
	pthread_t t;

	for (int i = 0; i < 3; i++) {
		pthread_create(&t, NULL, interrupt_later, g.th);
		const struct p_event *e = run(g.th);
		CHECK_EQ(e->kind, P_EVENT_INTERRUPTED);
		CHECK_EQ(ops->regs(g.th)->rip, GUEST(g_loop));
		pthread_join(t, NULL);
	}
	/* Stopped: remembered, and given at once. */
	ops->interrupt(g.th);
	CHECK_EQ(run(g.th)->kind, P_EVENT_INTERRUPTED);
	guest_end(&g);
}

static void futex_call(struct p_thread *th, int op, uint32_t val, uint64_t ts)
{
	struct arch_regs *r = ops->regs(th);

	r->rip = GUEST(g_futex);
	r->rdi = DATA, r->rsi = (uint64_t)op, r->rdx = val, r->r10 = ts, r->r8 = 0, r->r9 = ~0U;
}

static void futex_wait_is_passed_on_and_can_be_aborted(void)
{
	struct guest g = guest_new(g_futex);
	pthread_t t;

	futex_call(g.th, FUTEX_WAIT_PRIVATE, 0, 0);
	pthread_create(&t, NULL, interrupt_later, g.th);
	ops->resume(g.th);
	usleep(20000);
	CHECK(ops->in_host_wait(g.th));
	const struct p_event *e = wait_for(g.th);
	CHECK_EQ(e->kind, P_EVENT_SYSCALL);
	CHECK_EQ(ops->regs(g.th)->orig_rax, SYS_futex);
	CHECK(e->host_wait_aborted);
	CHECK_EQ(e->host_wait_deadline, 0);
	CHECK(!ops->in_host_wait(g.th));
	pthread_join(t, NULL);

	/* A relative timeout; redone after an abort it ends when it would have. */
	struct timespec ts = {0, 200000000}, n;
	CHECK_EQ(ops->copy_out(g.as, NULL, DATA + 64, &ts, sizeof(ts)), sizeof(ts));
	futex_call(g.th, FUTEX_WAIT, 0, DATA + 64);
	clock_gettime(CLOCK_MONOTONIC, &n);
	double begin = now_us();
	pthread_create(&t, NULL, interrupt_later, g.th);
	e = run(g.th);
	CHECK(e->host_wait_aborted);
	int64_t left = e->host_wait_deadline - (n.tv_sec * 1000000000LL + n.tv_nsec);
	CHECK(left > 190000000 && left < 230000000);
	pthread_join(t, NULL);
	usleep(50000);
	ops->regs(g.th)->rip -= 2;
	ops->regs(g.th)->rax = SYS_futex;
	run_to_syscall(g.th, 4); /* reports the result in rdi */
	CHECK_EQ(ops->regs(g.th)->rdi, (uint64_t)-ETIMEDOUT);
	CHECK(now_us() - begin > 195000 && now_us() - begin < 245000);

	futex_call(g.th, FUTEX_WAIT, 1, 0);
	run_to_syscall(g.th, 4);
	CHECK_EQ(ops->regs(g.th)->rdi, (uint64_t)-EAGAIN);
	futex_call(g.th, FUTEX_WAIT, 0, 0x10);
	run_to_syscall(g.th, 4);
	CHECK_EQ(ops->regs(g.th)->rdi, (uint64_t)-EFAULT);
	futex_call(g.th, FUTEX_WAKE, 1, 0);
	run_to_syscall(g.th, 4);
	CHECK_EQ(ops->regs(g.th)->rdi, 0);
	/* A PI futex carries ids: the sentry's. */
	futex_call(g.th, FUTEX_LOCK_PI, 0, 0);
	run_to_syscall(g.th, SYS_futex);
	CHECK(!ops->event(g.th)->host_wait_aborted);
	/* What the platform passes on is not passed on for a traced thread, until told to. */
	ops->set_direct(g.th, false);
	ts = (struct timespec){1, 0};
	CHECK_EQ(ops->copy_out(g.as, NULL, DATA + 64, &ts, sizeof(ts)), sizeof(ts));
	futex_call(g.th, FUTEX_WAIT, 1, DATA + 64);
	run_to_syscall(g.th, SYS_futex);
	ops->resume_direct(g.th);
	CHECK_EQ(wait_for(g.th)->kind, P_EVENT_SYSCALL);
	CHECK_EQ(ops->regs(g.th)->orig_rax, 4);
	CHECK_EQ(ops->regs(g.th)->rdi, (uint64_t)-EAGAIN);
	guest_end(&g);
}

static void futex_wakes_between_threads(void)
{
	struct guest g = guest_new(g_futex);
	struct p_thread *t;

	CHECK_EQ(ops->thread_create(g.th, &t), 0);
	futex_call(t, FUTEX_WAIT_PRIVATE, 0, 0);
	ops->resume(t);
	while (!ops->in_host_wait(t))
		usleep(1000);
	usleep(10000);
	futex_call(g.th, FUTEX_WAKE_PRIVATE, 1, 0);
	ops->resume(g.th);
	for (int i = 0; i < 2; i++) {
		struct p_thread *th = ops->next(pf);
		CHECK_EQ(ops->regs(th)->orig_rax, 4);
		CHECK_EQ(ops->regs(th)->rdi, th == t ? 0 : 1);
	}
	/* The sentry's way to wake (robust lists, clear_child_tid). */
	futex_call(t, FUTEX_WAIT_PRIVATE, 0, 0);
	ops->resume(t);
	while (!ops->in_host_wait(t))
		usleep(1000);
	usleep(10000);
	struct p_memop m = {
		.kind = P_MEMOP_WAKE, .addr = DATA, .len = 1, .flags = FUTEX_PRIVATE_FLAG};
	CHECK_EQ(ops->mem(g.th, &m, 1), 0);
	CHECK_EQ(m.ret, 1);
	wait_for(t);
	CHECK_EQ(ops->regs(t)->rdi, 0);
	ops->thread_destroy(t);
	guest_end(&g);
}

static _Atomic int storm_stop, storm_sent, storm_seen;
static void *storm(void *arg)
{
	unsigned seed = 1;

	while (!storm_stop) {
		int seen = storm_seen;
		ops->interrupt(arg);
		storm_sent++;
		double limit = now_us() + 500000;
		while (storm_seen == seen && !storm_stop)
			if (now_us() > limit) {
				printf("FAIL %s: interrupt %d lost\n", current_test, storm_sent);
				exit(1);
			}
		double until = now_us() + rand_r(&seed) % 40;
		while (now_us() < until)
			;
	}
	return NULL;
}

/* The thread goes round: futex wait that times out at once, a direct call, a few instructions. */
static void no_interrupt_is_lost(void)
{
	struct guest g = guest_new(g_wakeloop);
	struct timespec ts = {0, 20000};
	pthread_t t;
	int aborted = 0, plain = 0;

	storm_stop = storm_sent = storm_seen = 0;
	CHECK_EQ(ops->copy_out(g.as, NULL, DATA + 64, &ts, sizeof(ts)), sizeof(ts));
	ops->regs(g.th)->rbx = DATA;
	ops->resume(g.th);
	pthread_create(&t, NULL, storm, g.th);
	while (storm_seen < 5000) {
		const struct p_event *e = wait_for(g.th);
		if (e->kind == P_EVENT_INTERRUPTED) {
			plain++;
		} else {
			CHECK_EQ(e->kind, P_EVENT_SYSCALL);
			CHECK(e->host_wait_aborted);
			ops->regs(g.th)->rax = (uint64_t)-EINTR;
			aborted++;
		}
		storm_seen++;
		ops->resume(g.th);
	}
	storm_stop = 1;
	pthread_join(t, NULL);
	ops->aspace_kill(g.as);
	CHECK(aborted > 0 && plain > 0);
	guest_end(&g);
}

/* ---- death ---- */

static void death_is_reported_once_to_every_thread(void)
{
	struct guest g = guest_new(g_loop);
	struct p_thread *t, *stopped;

	CHECK_EQ(ops->thread_create(g.th, &t), 0);
	CHECK_EQ(ops->thread_create(g.th, &stopped), 0);
	ops->resume(g.th);
	ops->resume(t);
	usleep(10000);
	CHECK_EQ(kill(ops->host_pid(g.as), SIGKILL), 0);
	struct p_thread *a = ops->next(pf), *b = ops->next(pf);
	CHECK((a == g.th && b == t) || (a == t && b == g.th));
	CHECK_EQ(ops->event(a)->kind, P_EVENT_DEAD);
	CHECK_EQ(ops->event(a)->signo, SIGKILL);
	CHECK_EQ(ops->event(b)->kind, P_EVENT_DEAD);
	uint64_t v;
	CHECK_EQ(ops->copy_in(g.as, NULL, &v, DATA, 8), -ESRCH);
	struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
	CHECK_EQ(ops->mem(stopped, &m, 1), -ESRCH);
	CHECK_EQ(run(stopped)->kind, P_EVENT_DEAD);
	ops->kick(pf);
	CHECK(ops->next(pf) == NULL); /* nothing else came */
	ops->thread_destroy(t);
	ops->thread_destroy(stopped);
	guest_end(&g);
}

static void kill_makes_copies_fail_and_threads_reapable(void)
{
	struct guest g = guest_new(g_loop);
	uint64_t v;

	ops->resume(g.th);
	ops->aspace_kill(g.as);
	CHECK_EQ(ops->copy_in(g.as, NULL, &v, DATA, 8), -ESRCH);
	pid_t pid = ops->host_pid(g.as);
	guest_end(&g); /* while it runs */
	for (int i = 0; i < 1000 && kill(pid, 0) == 0; i++)
		usleep(1000);
	CHECK(kill(pid, 0) < 0 && errno == ESRCH);
}

/* ---- memory ---- */

static void batches_map_descriptors_and_stop_at_the_first_failure(void)
{
	struct guest g = guest_new(g_load);
	int a = memfd_create("a", 0), b = memfd_create("b", 0);
	char buf[16] = {0};

	CHECK_EQ(ftruncate(a, 0x10000), 0);
	CHECK_EQ(ftruncate(b, 0x10000), 0);
	CHECK_EQ(pwrite(a, "file a", 7, 0x1000), 7);
	CHECK_EQ(pwrite(b, "file b", 7, 0), 7);
	struct p_memop m[6];
	for (int i = 0; i < 4; i++) {
		m[i] = map_op(0x700000 + (uint64_t)i * 0x10000, 0x2000, PROT_READ | PROT_WRITE);
		m[i].fd = i & 1 ? b : a;
		m[i].flags = i < 2 ? MAP_PRIVATE : MAP_SHARED;
	}
	m[4] = (struct p_memop){
		.kind = P_MEMOP_PROTECT, .addr = 0x700000, .len = 0x2000, .prot = PROT_READ};
	m[5] = (struct p_memop){.kind = P_MEMOP_UNMAP, .addr = 0x710000, .len = 0x1000};
	CHECK_EQ(ops->mem(g.th, m, 6), 0);
	CHECK_EQ(m[0].ret, 0x700000);
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, 0x701000, 7), 7);
	CHECK(!strcmp(buf, "file a"));
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, 0x710000, 7), 0);
	CHECK_EQ(ops->copy_out(g.as, NULL, 0x730000, "shared", 7), 7);
	CHECK_EQ(pread(b, buf, 7, 0), 7);
	CHECK(!strcmp(buf, "shared"));
	/* Copies are short at the first missing page. */
	char big[0x4000];
	CHECK_EQ(ops->copy_in(g.as, NULL, big, 0x720000, 0x4000), 0x2000);
	CHECK_EQ(ops->copy_out(g.as, NULL, 0x700000, "x", 1), 0);

	struct p_memop f[3] = {
		map_op(0x800000, 0x1000, PROT_READ),
		{.kind = P_MEMOP_PROTECT, .addr = 0x900000, .len = 0x1000, .prot = PROT_READ},
		map_op(0x900000, 0x1000, PROT_READ)};
	CHECK_EQ(ops->mem(g.th, f, 3), -ENOMEM);
	CHECK_EQ(f[0].ret, 0x800000);
	CHECK_EQ(f[1].ret, -ENOMEM);
	CHECK_EQ(f[2].ret, -ECANCELED);

	struct p_memop mv[2] = {
		{.kind = P_MEMOP_MOVE,
		 .addr = 0x720000,
		 .len = 0x2000,
		 .new_addr = 0xa00000,
		 .new_len = 0x2000},
		{.kind = P_MEMOP_RESIZE, .addr = DATA, .len = DATA_LEN, .new_len = 0x1000}};
	CHECK_EQ(ops->mem(g.th, mv, 2), 0);
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, 0xa01000, 7), 7);
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, DATA + 0x1000, 7), 0);

	static struct p_memop many[500];
	for (int i = 0; i < 500; i++) {
		many[i] = map_op(0x2000000 + (uint64_t)i * 0x2000, 0x1000, PROT_READ);
		if (i % 100 == 7)
			many[i].fd = a;
	}
	CHECK_EQ(ops->mem(g.th, many, 500), 0);
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, 0x2000000 + 499 * 0x2000, 7), 7);
	close(a);
	close(b);
	guest_end(&g);
}

/* What a load from `addr` reads, or SIGSEGV: the next call is reported, or the fault. */
static int load_signal(struct guest *g, uint64_t addr)
{
	ops->regs(g->th)->rip = GUEST(g_load);
	ops->regs(g->th)->rdi = addr;
	const struct p_event *e = run(g->th);

	return e->kind == P_EVENT_SIGNAL ? e->signo : 0;
}

static void put_off_operation_comes_before_guest_code(void)
{
	struct guest g = guest_new(g_load);
	int fd = memfd_create("a", 0);
	char buf[8] = {0};

	CHECK_EQ(ftruncate(fd, 0x1000), 0);
	CHECK_EQ(pwrite(fd, "file a", 7, 0), 7);
	struct p_memop m = map_op(0x700000, 0x1000, PROT_READ | PROT_WRITE);
	CHECK(ops->mem_later(g.th, &m));
	CHECK(!ops->mem_later(g.th, &m)); /* one at a time */
	CHECK_EQ(load_signal(&g, 0x700000), 0);

	/* Descriptors go with it; a batch, a copy or a fork finds it done. */
	m.fd = fd;
	CHECK(ops->mem_later(g.th, &m));
	CHECK_EQ(ops->copy_in(g.as, g.th, buf, 0x700000, 7), 7);
	CHECK(!strcmp(buf, "file a"));
	m = map_op(0x710000, 0x1000, PROT_READ);
	m.fd = fd;
	CHECK(ops->mem_later(g.th, &m));
	struct p_memop n = map_op(0x720000, 0x1000, PROT_READ);
	CHECK_EQ(ops->mem(g.th, &n, 1), 0);
	CHECK_EQ(ops->copy_in(g.as, NULL, buf, 0x710000, 7), 7);
	m = (struct p_memop){.kind = P_MEMOP_UNMAP, .addr = 0x710000, .len = 0x1000, .fd = -1};
	CHECK(ops->mem_later(g.th, &m));
	struct guest child;
	CHECK_EQ(ops->fork(g.th, &child.as, &child.th), 0);
	CHECK_EQ(load_signal(&child, 0x710000), SIGSEGV);
	CHECK_EQ(load_signal(&g, 0x710000), SIGSEGV);
	guest_end(&child);
	close(fd);
	guest_end(&g);
}

static void put_off_operation_that_fails_is_an_event(void)
{
	struct guest g = guest_new(g_load);
	int pipes[2];
	struct p_memop m = map_op(0x700000, 0x1000, PROT_READ);

	CHECK_EQ(pipe(pipes), 0);
	m.fd = pipes[0]; /* nothing that can be mapped */
	for (int i = 0; i < 3; i++) {
		CHECK(ops->mem_later(g.th, &m));
		ops->regs(g.th)->rax = 0x1234 + (uint64_t)i;
		const struct p_event *e = run(g.th);
		CHECK_EQ(e->kind, P_EVENT_OWED);
		CHECK_EQ(e->si_code, -ENODEV);
		CHECK_EQ(ops->regs(g.th)->rax, 0x1234 + i);
		CHECK_EQ(ops->regs(g.th)->rip, GUEST(g_load));
	}
	/* Found early, it is told at the next resume, or by whoever asks. */
	CHECK(ops->mem_later(g.th, &m));
	uint64_t v;
	CHECK_EQ(ops->copy_in(g.as, g.th, &v, DATA, 8), 8);
	const struct p_event *e = run(g.th);
	CHECK_EQ(e->kind, P_EVENT_OWED);
	CHECK_EQ(e->si_code, -ENODEV);
	CHECK(ops->mem_later(g.th, &m));
	CHECK_EQ(ops->mem_settle(g.th), -ENODEV);
	CHECK_EQ(ops->mem_settle(g.th), 0);
	CHECK_EQ(load_signal(&g, DATA), 0);
	CHECK_EQ(load_signal(&g, 0x700000), SIGSEGV);

	/* Not where others could tell, and not for text. */
	m = map_op(0x700000, 0x1000, PROT_READ | PROT_EXEC);
	CHECK(!ops->mem_later(g.th, &m));
	struct p_thread *other;
	CHECK_EQ(ops->thread_create(g.th, &other), 0);
	m.prot = PROT_READ;
	CHECK(!ops->mem_later(g.th, &m));
	ops->thread_destroy(other);
	close(pipes[0]);
	close(pipes[1]);
	guest_end(&g);
}

static void reset_leaves_nothing_but_the_vdso(void)
{
	struct guest g = guest_new(g_load), child;
	struct p_memop m[3] = {{.kind = P_MEMOP_RESET, .fd = -1},
			       map_op(0x700000, 0x2000, PROT_READ | PROT_WRITE),
			       {.kind = P_MEMOP_CLEAR, .addr = 0x700010, .len = 16, .fd = -1}};
	const struct p_limits *lim = ops->limits(pf);
	uint64_t v = ~0ULL;

	CHECK(ops->can_reset(g.th));
	CHECK_EQ(ops->fork(g.th, &child.as, &child.th), 0);
	CHECK(ops->can_reset(child.th));
	pid_t pid = ops->host_pid(child.as);
	CHECK_EQ(ops->mem(child.th, m, 3), 0);
	CHECK_EQ(ops->host_pid(child.as), pid);
	CHECK_EQ(ops->copy_in(child.as, NULL, &v, DATA, 8), 0);
	CHECK_EQ(ops->copy_in(child.as, NULL, &v, CODE, 8), 0);
	CHECK_EQ(ops->copy_in(child.as, NULL, &v, STACK_TOP - 8, 8), 0);
	CHECK_EQ(ops->copy_in(child.as, NULL, &v, 0x700010, 8), 8);
	CHECK_EQ(v, 0);
	if (lim->vdso_base)
		CHECK_EQ(ops->copy_in(child.as, NULL, &v, lim->vdso_base, 8), 8);
	/* The parent keeps what it has. */
	CHECK_EQ(load_signal(&g, DATA), 0);
	/* Clearing what cannot be written is a failure, and not the stub's death. */
	m[2].addr = 0x800000;
	CHECK_EQ(ops->mem(child.th, &m[2], 1), -EFAULT);
	CHECK_EQ(ops->mem(child.th, &m[1], 1), 0);
	guest_end(&child);

	struct p_thread *other;
	CHECK_EQ(ops->thread_create(g.th, &other), 0);
	CHECK(!ops->can_reset(g.th));
	ops->thread_destroy(other);
	CHECK(!ops->can_reset(g.th)); /* its host thread waits for the next one */
	guest_end(&g);
}

/* Bytes go with a batch, more than the platform takes at once. */
static void batches_write_bytes(void)
{
	struct guest g = guest_new(g_nr);
	static char bytes[P_WRITE_MAX + 1], seen[2 * P_WRITE_MAX];
	struct p_memop w = {.kind = P_MEMOP_WRITE, .len = P_WRITE_MAX, .bytes = bytes, .fd = -1};
	struct p_memop m[3] = {w, w, w};

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7);
	m[0].addr = DATA + 1;
	m[1].addr = DATA + 1 + P_WRITE_MAX;
	m[1].len = 1000;
	m[2].addr = DATA + 2 * P_WRITE_MAX;
	m[2].len = 3000;
	CHECK_EQ(ops->mem(g.th, m, 3), 0);
	CHECK_EQ(ops->copy_in(g.as, g.th, seen, DATA, sizeof(seen)), sizeof(seen));
	CHECK(!memcmp(seen + 1, bytes, P_WRITE_MAX));
	CHECK(!memcmp(seen + 1 + P_WRITE_MAX, bytes, 1000));
	CHECK_EQ(ops->copy_in(g.as, g.th, seen, DATA + 2 * P_WRITE_MAX, 3000), 3000);
	CHECK(!memcmp(seen, bytes, 3000));
	m[0].len = P_WRITE_MAX + 1;
	CHECK_EQ(ops->mem(g.th, m, 1), -EINVAL);
	m[0].len = 16;
	m[0].addr = DATA + DATA_LEN - 8;
	CHECK_EQ(ops->mem(g.th, m, 2), -EFAULT);
	CHECK_EQ(m[1].ret, -ECANCELED);
	m[0].addr = limits->task_size - 8;
	CHECK_EQ(ops->mem(g.th, m, 1), -EINVAL);
	guest_end(&g);
}

static void addresses_beyond_the_guests_are_refused(void)
{
	struct guest g = guest_new(g_load);
	uint64_t bad[] = {limits->task_size, limits->task_size - 0x1000, ~0UL & ~0xfffUL,
			  1UL << 63};
	uint64_t v;

	for (int i = 0; i < 4; i++) {
		struct p_memop m = map_op(bad[i], 0x2000, PROT_READ);
		CHECK_EQ(ops->mem(g.th, &m, 1), -EINVAL);
		CHECK_EQ(m.ret, -EINVAL);
		m = (struct p_memop){.kind = P_MEMOP_MOVE,
				     .addr = DATA,
				     .len = 0x2000,
				     .new_addr = bad[i],
				     .new_len = 0x2000};
		CHECK_EQ(ops->mem(g.th, &m, 1), -EINVAL);
		CHECK_EQ(ops->copy_in(g.as, NULL, &v, bad[i] + 0x1000, 8), 0);
		CHECK_EQ(ops->copy_out(g.as, NULL, bad[i] + 0x1000, &v, 8), 0);
		uint32_t seen;
		CHECK_EQ(ops->cmpxchg32(g.th, bad[i] + 0x1000, 0, 0, &seen), -EFAULT);
	}
	guest_end(&g);
}

static void cmpxchg_swaps_or_faults(void)
{
	struct guest g = guest_new(g_load);
	uint32_t seen = 0;

	poke(&g, DATA, 5);
	CHECK_EQ(ops->cmpxchg32(g.th, DATA, 5, 9, &seen), 0);
	CHECK_EQ(seen, 5);
	CHECK_EQ(peek(&g, DATA), 9);
	CHECK_EQ(ops->cmpxchg32(g.th, DATA, 5, 10, &seen), 0);
	CHECK_EQ(seen, 9);
	CHECK_EQ(peek(&g, DATA), 9);
	CHECK_EQ(ops->cmpxchg32(g.th, 0x123000, 0, 1, &seen), -EFAULT);
	CHECK_EQ(ops->cmpxchg32(g.th, 0x123000, 0, 1, &seen), -EFAULT);
	struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
	CHECK_EQ(ops->mem(g.th, &m, 1), 0);
	CHECK_EQ(ops->cmpxchg32(g.th, 0x123000, 0, 1, &seen), -EFAULT);
	/* Also while it is stopped at a fault of its own. */
	ops->regs(g.th)->rdi = 0x10;
	CHECK_EQ(run(g.th)->signo, SIGSEGV);
	CHECK_EQ(ops->cmpxchg32(g.th, 0x124000, 0, 1, &seen), -EFAULT);
	CHECK_EQ(ops->cmpxchg32(g.th, DATA, 9, 11, &seen), 0);
	CHECK_EQ(peek(&g, DATA), 11);
	guest_end(&g);
}

static void fresh_process_has_nothing_but_the_vdso(void)
{
	struct guest g = guest_new(g_vcall);
	char path[64], line[256], magic[4];

	if (limits->vdso_base) {
		CHECK_EQ(ops->copy_in(g.as, NULL, magic, limits->vdso_base, 4), 4);
		CHECK(!memcmp(magic, "\177ELF", 4));
	}
	snprintf(path, sizeof(path), "/proc/%d/maps", ops->host_pid(g.as));
	FILE *f = fopen(path, "r");
	if (f) {
		while (fgets(line, sizeof(line), f)) {
			unsigned long a = strtoul(line, NULL, 16);
			if (getenv("SHOW"))
				fputs(line, stdout);
			CHECK(a >= limits->task_size || a == CODE || a == DATA ||
			      a == STACK_TOP - 0x10000 ||
			      (a >= limits->vvar_base && a < limits->vdso_base + limits->vdso_len));
		}
		fclose(f);
	}
	guest_end(&g);
}

/* The address of a vDSO function: its symbol in our own image, which is the same one. */
static uint64_t vdso_offset(const char *name)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *eh = (const void *)base;
	const Elf64_Shdr *sh = (const void *)(base + eh->e_shoff);

	for (int i = 0; i < eh->e_shnum; i++) {
		if (sh[i].sh_type != SHT_DYNSYM)
			continue;
		const Elf64_Sym *sym = (const void *)(base + sh[i].sh_offset);
		const char *str = base + sh[sh[i].sh_link].sh_offset;
		for (size_t k = 0; k < sh[i].sh_size / sizeof(*sym); k++)
			if (!strcmp(str + sym[k].st_name, name))
				return sym[k].st_value;
	}
	return 0;
}

static void vdso_tells_the_hosts_time(void)
{
	struct timespec before, after, seen;

	if (!limits->vdso_base)
		return;
	struct guest g = guest_new(g_vcall);
	ops->regs(g.th)->rax = limits->vdso_base + vdso_offset("__vdso_clock_gettime");
	ops->regs(g.th)->rdi = CLOCK_MONOTONIC;
	ops->regs(g.th)->rsi = DATA;
	clock_gettime(CLOCK_MONOTONIC, &before);
	run_to_syscall(g.th, 6); /* no call in between: the data pages moved along */
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK_EQ(ops->copy_in(g.as, NULL, &seen, DATA, sizeof(seen)), sizeof(seen));
	int64_t t = seen.tv_sec * 1000000000LL + seen.tv_nsec;
	CHECK(t >= before.tv_sec * 1000000000LL + before.tv_nsec);
	CHECK(t <= after.tv_sec * 1000000000LL + after.tv_nsec);
	guest_end(&g);
}

static void kick_makes_next_return_null(void)
{
	ops->kick(pf);
	CHECK(ops->next(pf) == NULL);
	ops->kick(pf);
	ops->kick(pf);
	CHECK(ops->next(pf) == NULL);
	CHECK(ops->next(pf) == NULL);
}

#include "tests/unit/platform_test_hostile.h"
#include "tests/unit/platform_test_bench.h"

/* ---- main ---- */

/* clang-format off */
#define T(f) {#f, f, false}
#define H(f) {#f, f, true} /* knows how systrap is made */
static const struct test {
	const char *name;
	void (*fn)(void);
	bool systrap_only;
} tests[] = {
	T(syscall_carries_six_arguments_and_a_result),
	T(registers_survive_a_round_trip),
	T(guest_may_own_gs),
	T(numbers_that_the_host_knows_are_reported_too),
	T(uretprobe_call_is_reported_as_a_call),
	T(single_step_traps_after_each_instruction),
	T(faults_carry_signal_address_and_error),
	T(int80_is_no_way_in),
	T(extended_state_survives_and_can_be_changed),
	T(fork_copies_registers_state_and_memory),
	T(ended_processes_are_buried),
	T(many_threads_share_memory),
	T(leader_may_end_before_its_threads),
	T(interrupt_stops_guest_code),
	T(futex_wait_is_passed_on_and_can_be_aborted),
	T(futex_wakes_between_threads),
	T(no_interrupt_is_lost),
	T(death_is_reported_once_to_every_thread),
	T(kill_makes_copies_fail_and_threads_reapable),
	T(batches_map_descriptors_and_stop_at_the_first_failure),
	T(batches_write_bytes),
	T(addresses_beyond_the_guests_are_refused),
	T(cmpxchg_swaps_or_faults),
	T(fresh_process_has_nothing_but_the_vdso),
	T(vdso_tells_the_hosts_time),
	T(kick_makes_next_return_null),
	T(deaths_at_any_time),
	H(put_off_operation_comes_before_guest_code),
	H(put_off_operation_that_fails_is_an_event),
	H(reset_leaves_nothing_but_the_vdso),
	H(calls_beyond_the_list_end_the_process),
	H(allowed_calls_harm_only_the_caller),
	H(unasked_clones_end_the_process),
	H(thread_that_vanishes_is_found_by_interrupt),
	H(masked_interrupt_ends_in_a_kill),
	H(scribbled_page_sets_harm_only_the_guest),
	H(doorbell_flood_stops_nobody),
	H(random_jumps_into_the_stub),
	H(scribbling_during_commands),
};
/* clang-format on */

/* In a process of its own, init of its own PID namespace: what a platform's sentry is. */
static void run_test(const char *name, void (*fn)(void))
{
	const struct p_options opt = {.patching = !getenv("NO_PATCHING"), .spin_us = spin_us};

	current_test = name;
	CHECK_EQ(ops->prepare(&opt, &pf), 0);
	CHECK_EQ(ops->ready ? ops->ready(pf) : 0, 0);
	CHECK_EQ(ops->start(pf), 0);
	limits = ops->limits(pf);
	fn();
	ops->destroy(pf);
	exit(0);
}

#define TEST_SECONDS 60
static pid_t init_pid;
static void too_slow(int sig)
{
	(void)sig;
	kill(init_pid, SIGKILL); /* an init is deaf to alarms of its own */
}

static int in_namespace(const char *name, void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) {
			perror("unshare");
			exit(77);
		}
		init_pid = fork();
		if (!init_pid) {
			mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
			mount("proc", "/proc", "proc", 0, NULL);
			host_set_proc_fd(open("/proc", O_PATH | O_DIRECTORY));
			run_test(name, fn);
		}
		signal(SIGALRM, too_slow);
		alarm(TEST_SECONDS);
		while (waitpid(init_pid, &status, 0) < 0)
			if (errno != EINTR)
				exit(1);
		if (!WIFEXITED(status))
			printf("FAIL %s: signal %d\n", name, WTERMSIG(status));
		/* Without a look for leaks: the namespace's init is dead, no thread can be made. */
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	return waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) ? 1 : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "systrap", *only = argc > 2 ? argv[2] : NULL;
	int failed = 0;

	setvbuf(stdout, NULL, _IONBF, 0);
	ops = platform_lookup(name);
	if (!ops) {
		printf("usage: %s PLATFORM [TEST|bench]\n", argv[0]);
		return 2;
	}
	if (getenv("SPIN"))
		spin_us = atoi(getenv("SPIN"));
	if (getenv("VERBOSE"))
		log_open(2, false);
	if (only && !strcmp(only, "bench"))
		return in_namespace("bench", bench);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		const struct test *t = &tests[i];
		if ((only && strcmp(only, t->name)) || (t->systrap_only && strcmp(name, "systrap")))
			continue;
		double begin = now_us();
		int r = in_namespace(t->name, t->fn);
		failed += r != 0;
		printf("%s %s (%.0f ms)\n", r ? "not ok" : "ok", t->name, (now_us() - begin) / 1e3);
	}
	return failed != 0;
}

/*
 * What a compromised guest process can do: jump into the stub with any registers, write its page
 * set, ring the doorbell, mask signals, vanish.  The sentry must stay right and alive; the guest
 * may only harm itself.  systrap only: these know its layout.
 */
#include <sys/uio.h>

#include "platform/systrap/layout.h"

/* A `syscall; ret` in the stub's text. */
static uint64_t stub_syscall_insn(struct guest *g)
{
	static uint8_t text[ST_TEXT_LEN];
	struct iovec l = {text, sizeof(text)}, r = {(void *)ST_TEXT, sizeof(text)};

	CHECK_EQ(process_vm_readv(ops->host_pid(g->as), &l, 1, &r, 1, 0), sizeof(text));
	for (size_t i = 0; i < sizeof(text) - 2; i++)
		if (text[i] == 0x0f && text[i + 1] == 0x05 && text[i + 2] == 0xc3)
			return ST_TEXT + i;
	CHECK(!"no syscall instruction in the stub");
	return 0;
}

/* Makes the guest execute one host call from inside the stub and return to g_nr, number 77. */
static void aim_at_stub(struct guest *g, long nr, const uint64_t a[6])
{
	struct arch_regs *r = ops->regs(g->th);

	*r = (struct arch_regs){.rsp = STACK_TOP - 64, .eflags = ARCH_EFLAGS_FIXED};
	r->rax = (uint64_t)nr;
	r->rdi = a[0], r->rsi = a[1], r->rdx = a[2], r->r10 = a[3], r->r8 = a[4], r->r9 = a[5];
	r->r15 = stub_syscall_insn(g);
	r->rip = GUEST(g_jump);
	poke(g, STACK_TOP - 64, GUEST(g_nr));
}

struct deadline {
	struct p_thread *th;
	_Atomic int done;
	int us;
};

static void *interrupt_at_deadline(void *arg)
{
	struct deadline *d = arg;

	for (int i = 0; i < d->us && !d->done; i += 100)
		usleep(100);
	if (!d->done)
		ops->interrupt(d->th);
	return NULL;
}

/* Whatever comes of it, it comes: the event's kind. */
static enum p_event_kind outcome(struct guest *g, int us)
{
	struct deadline d = {g->th, 0, us};
	pthread_t t;

	pthread_create(&t, NULL, interrupt_at_deadline, &d);
	ops->resume(g->th);
	struct p_thread *got = ops->next(pf);
	d.done = 1;
	pthread_join(t, NULL);
	CHECK(got == g->th);
	return ops->event(got)->kind;
}

static void still_healthy(void)
{
	struct guest g = guest_new(g_nr), c;

	ops->regs(g.th)->rax = 5;
	run_to_syscall(g.th, 5);
	CHECK_EQ(ops->fork(g.th, &c.as, &c.th), 0);
	ops->regs(c.th)->rax = 6;
	run_to_syscall(c.th, 6);
	guest_end(&c);
	guest_end(&g);
}

static void calls_beyond_the_list_end_the_process(void)
{
	static const int allowed[] = {SYS_futex,	  SYS_write,	 SYS_rt_sigreturn,
				      SYS_rt_sigprocmask, SYS_mmap,	 SYS_munmap,
				      SYS_mprotect,	  SYS_madvise,	 SYS_mremap,
				      SYS_recvmsg,	  SYS_close,	 SYS_clone,
				      SYS_exit,		  SYS_rseq,	 SYS_membarrier,
				      SYS_arch_prctl,	  SYS_pread64,	 SYS_pwrite64,
				      SYS_clock_gettime,  SYS_getrusage, LINUX_SYS_futex_waitv};
	static const struct {
		long nr;
		uint64_t a[6];
	} arguments[] = {
		{SYS_write, {2, DATA, 8}},
		{SYS_write, {1, DATA, 16}},
		{SYS_write, {1, DATA, (1UL << 32) + 8}},
		{SYS_mmap, {0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN}},
		{SYS_mmap, {0, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB}},
		{SYS_madvise, {DATA, 4096, MADV_REMOVE}},
		{SYS_madvise, {ST_BLOCK(0) + ST_SETS_OFF, 4096, MADV_DOFORK}},
		{SYS_madvise, {DATA, 4096, 100}},
		{SYS_mremap, {DATA, 4096, 4096, 4 | 1}},
		{SYS_futex, {DATA, FUTEX_CMP_REQUEUE, 1, 1, DATA, 0}},
		{SYS_futex, {DATA, FUTEX_LOCK_PI, 0}},
		{SYS_futex, {DATA, FUTEX_FD, 0}},
		{SYS_clone, {SIGCHLD}},
		{SYS_clone, {CLONE_VM | CLONE_VFORK | SIGCHLD}},
		{SYS_clone, {(1UL << 32) | ST_CLONE_PROCESS}},
		{SYS_clone, {ST_CLONE_PROCESS | CLONE_NEWUSER}},
		{SYS_arch_prctl, {0x3001}},
		{SYS_clock_gettime, {0, DATA}},
		{SYS_getrusage, {(uint64_t)RUSAGE_CHILDREN, DATA}},
		{SYS_membarrier, {1}},
		{0x40000000L + SYS_close, {0}},
	};
	static const uint64_t none[6];
	int calls = 0;

	for (int nr = 0; nr < 470; nr++) {
		bool listed =
			nr == 335 || nr == 336; /* never seen by a filter: answered natively */
		for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
			listed |= allowed[i] == nr;
		if (listed)
			continue;
		struct guest g = guest_new(g_nr);
		aim_at_stub(&g, nr, none);
		CHECK_EQ(outcome(&g, 5000000), P_EVENT_DEAD);
		guest_end(&g);
		calls++;
	}
	for (size_t i = 0; i < sizeof(arguments) / sizeof(arguments[0]); i++) {
		struct guest g = guest_new(g_nr);
		aim_at_stub(&g, arguments[i].nr, arguments[i].a);
		CHECK_EQ(outcome(&g, 5000000), P_EVENT_DEAD);
		guest_end(&g);
		calls++;
	}
	CHECK(calls > 450);
	still_healthy();
}

static void allowed_calls_harm_only_the_caller(void)
{
	static const struct {
		long nr;
		uint64_t a[6];
	} calls[] = {
		{SYS_munmap, {ST_BLOCK(0), ST_STACKS_LEN}},
		{SYS_munmap, {ST_BLOCK(0) + ST_SETS_OFF, ST_SETS_LEN}},
		{SYS_munmap, {ST_TEXT, ST_TEXT_LEN}},
		{SYS_munmap, {0, ST_TOP}},
		{SYS_mprotect, {ST_TEXT, ST_TEXT_LEN, 7}},
		{SYS_mprotect, {ST_BLOCK(0), ST_STACKS_LEN, 0}},
		{SYS_close, {0}},
		{SYS_close, {ST_FD_DOORBELL}},
		{SYS_rt_sigreturn, {0}},
		{SYS_exit, {3}},
		{SYS_mmap,
		 {ST_BLOCK(0) + ST_SETS_OFF, ST_SETS_LEN, 3,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0UL, 0}},
		{SYS_recvmsg, {0, DATA, 0}},
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct guest g = guest_new(g_nr);
		aim_at_stub(&g, calls[i].nr, calls[i].a);
		enum p_event_kind k = outcome(&g, 20000);
		for (int n = 0; n < 3 && k != P_EVENT_DEAD; n++) {
			struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
			struct p_thread *t;
			uint32_t seen;
			if (ops->mem(g.th, &m, 1) == -ESRCH ||
			    ops->cmpxchg32(g.th, DATA, 0, 0, &seen) == -ESRCH)
				break;
			if (!ops->thread_create(g.th, &t))
				ops->thread_destroy(t);
			ops->regs(g.th)->rip = GUEST(g_nr);
			k = outcome(&g, 20000);
		}
		guest_end(&g);
	}
	still_healthy();
}

static void unasked_clones_end_the_process(void)
{
	static const uint64_t flags[2] = {ST_CLONE_PROCESS, ST_CLONE_THREAD};

	for (int i = 0; i < 2; i++) {
		struct guest g = guest_new(g_nr);
		const uint64_t a[6] = {flags[i], STACK_TOP - 128, 0, DATA};
		aim_at_stub(&g, SYS_clone, a);
		CHECK_EQ(outcome(&g, 5000000), P_EVENT_DEAD);
		guest_end(&g);
	}
	still_healthy();
}

static void thread_that_vanishes_is_found_by_interrupt(void)
{
	static const uint64_t none[6];
	struct guest g = guest_new(g_nr), t = {g.as, NULL};

	CHECK_EQ(ops->thread_create(g.th, &t.th), 0);
	aim_at_stub(&t, SYS_exit, none);
	CHECK_EQ(outcome(&t, 20000), P_EVENT_DEAD);
	ops->thread_destroy(t.th);
	ops->regs(g.th)->rax = 5;
	run_to_syscall(g.th, 5);
	guest_end(&g);
}

static void masked_interrupt_ends_in_a_kill(void)
{
	struct guest g = guest_new(g_nr);
	const uint64_t a[6] = {SIG_BLOCK, DATA, 0, 8};

	poke(&g, DATA, 1UL << (ST_SIGNAL_INTERRUPT - 1));
	aim_at_stub(&g, SYS_rt_sigprocmask, a);
	poke(&g, STACK_TOP - 64, GUEST(g_loop));
	double t = now_us();
	CHECK_EQ(outcome(&g, 20000), P_EVENT_DEAD);
	CHECK(now_us() - t < 4e6);
	guest_end(&g);
	/* Blocking SIGSYS is suicide: the host kernel insists. */
	g = guest_new(g_nr);
	poke(&g, DATA, ~0UL);
	aim_at_stub(&g, SYS_rt_sigprocmask, a);
	CHECK_EQ(outcome(&g, 1000000), P_EVENT_DEAD);
	guest_end(&g);
	still_healthy();
}

static void scribbled_page_sets_harm_only_the_guest(void)
{
	static const uint8_t bytes[] = {0, 1, 0x7f, 0xff};

	for (size_t i = 0; i < sizeof(bytes); i++) {
		for (size_t off = 0; off < sizeof(struct st_pageset); off += 128) {
			if (off > 1024 && off % 4096)
				continue;
			struct guest g = guest_new(g_fill);
			struct arch_regs *r = ops->regs(g.th);
			r->rdi = ST_BLOCK(0) + ST_SETS_OFF + off;
			r->rcx = 128;
			r->rax = bytes[i];
			for (int n = 0; n < 3; n++) {
				struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
				if (outcome(&g, 5000) == P_EVENT_DEAD ||
				    ops->mem(g.th, &m, 1) == -ESRCH)
					break;
			}
			guest_end(&g);
		}
	}
	still_healthy();
}

static void doorbell_flood_stops_nobody(void)
{
	struct guest g = guest_new(g_flood), h = guest_new(g_counter);

	poke(&g, DATA, 0x1234567812345678UL);
	ops->regs(g.th)->r15 = stub_syscall_insn(&g);
	ops->regs(g.th)->rsi = DATA;
	ops->resume(g.th);
	usleep(50000); /* the pipe is full by now */
	ops->regs(h.th)->rbx = 500;
	for (int i = 0; i < 500; i++)
		run_to_syscall(h.th, 39);
	run_to_syscall(h.th, 7);
	ops->kick(pf);
	CHECK(ops->next(pf) == NULL);
	guest_end(&g);
	guest_end(&h);
	still_healthy();
}

static void random_jumps_into_the_stub(void)
{
	struct guest base = guest_new(g_nr), g;
	unsigned seed = 7;

	for (int i = 0; i < 400; i++) {
		if (ops->fork(base.th, &g.as, &g.th))
			continue;
		struct arch_regs *r = ops->regs(g.th);
		uint64_t *w = (uint64_t *)r;
		for (int k = 0; k < 15; k++) {
			switch (rand_r(&seed) % 6) {
			case 0:
				w[k] = DATA + (uint64_t)(rand_r(&seed) & 0xfff8);
				break;
			case 1:
				w[k] = ST_BLOCK(0) + (uint64_t)(rand_r(&seed) & 0x1ffff8);
				break;
			case 2:
				w[k] = (uint64_t)rand_r(&seed) % 340;
				break;
			case 3:
				w[k] = ~0UL - (uint64_t)rand_r(&seed) % 16;
				break;
			default:
				w[k] = (uint64_t)rand_r(&seed) % 16;
			}
		}
		r->rip = ST_TEXT + (uint64_t)rand_r(&seed) % 0x1800;
		r->rsp = rand_r(&seed) & 1
				 ? STACK_TOP - 512
				 : ST_BLOCK(0) + 0x4000 + (uint64_t)rand_r(&seed) % 0x3ff8;
		for (int n = 0; n < 2 && outcome(&g, 3000) != P_EVENT_DEAD; n++)
			;
		guest_end(&g);
	}
	guest_end(&base);
	still_healthy();
}

/* One thread is asked for batches, clones and threads while its sibling overwrites its page set. */
static void scribbling_during_commands(void)
{
	for (int round = 0; round < 6; round++) {
		struct guest g = guest_new(g_nr), c;
		struct p_thread *t, *u;
		CHECK_EQ(ops->thread_create(g.th, &t), 0);
		struct arch_regs *r = ops->regs(t);
		r->rip = GUEST(g_fillloop);
		r->rdi = ST_BLOCK(0) + ST_SETS_OFF + (uint64_t)(round % 20) * 32;
		r->rdx = round & 1 ? 32 : 300;
		r->rax = (uint64_t)(round / 2 % 3);
		ops->resume(t);
		for (int i = 0; i < 20; i++) {
			struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
			m.fd = i & 1 ? fileno(stdout) : -1;
			if (ops->mem(g.th, &m, 1) == -ESRCH)
				break;
			if (!ops->fork(g.th, &c.as, &c.th))
				guest_end(&c);
			if (!ops->thread_create(g.th, &u))
				ops->thread_destroy(u);
		}
		ops->aspace_kill(g.as);
		ops->thread_destroy(t);
		guest_end(&g);
	}
	/* What was left of events belongs to threads that are gone. */
	still_healthy();
}

static _Atomic int workers_stop;
static _Atomic long deaths, handled;

/* A sentry in miniature: whatever happens to a thread, it goes on or goes away. */
static void *worker(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (!workers_stop) {
		struct p_thread *th = ops->next(pf), *u;
		struct guest c;
		if (!th)
			continue;
		struct p_aspace *as = ops->owner(th);
		if (ops->event(th)->kind == P_EVENT_DEAD) {
			deaths++;
			ops->thread_destroy(th);
			ops->aspace_put(as);
			continue;
		}
		handled++;
		int dice = rand_r(&seed) % 100;
		if (dice < 3)
			kill(ops->host_pid(as), SIGKILL);
		if (dice < 20 && !ops->fork(th, &c.as, &c.th)) {
			ops->set_owner(c.th, c.as);
			if (dice & 1)
				ops->interrupt(c.th);
			ops->resume(c.th);
		} else if (dice < 40 && !ops->thread_create(th, &u)) {
			ops->set_owner(u, ops->aspace_get(as));
			ops->resume(u);
		} else if (dice < 60) {
			struct p_memop m = map_op(0x123000, 0x1000, PROT_READ);
			int err = ops->mem(th, &m, 1);
			CHECK(err == 0 || err == -ESRCH);
		} else if (dice < 95) {
			if (dice & 1)
				ops->aspace_kill(as);
			ops->thread_destroy(th);
			ops->aspace_put(as);
			continue;
		}
		ops->resume(th);
	}
	return NULL;
}

static void deaths_at_any_time(void)
{
	pthread_t w[3];

	workers_stop = 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&w[i], NULL, worker, (void *)(uintptr_t)(i + 1));
	double end = now_us() + 5e6;
	while (now_us() < end) {
		struct guest g = guest_new(g_nr);
		ops->set_owner(g.th, g.as);
		ops->resume(g.th);
		usleep(2000);
	}
	usleep(200000);
	workers_stop = 1;
	for (int i = 0; i < 3; i++)
		ops->kick(pf);
	for (int i = 0; i < 3; i++)
		pthread_join(w[i], NULL);
	CHECK(handled > 500 && deaths > 50);
	printf("     %ld events, %ld deaths\n", (long)handled, (long)deaths);
}

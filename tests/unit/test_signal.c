/*
 * Signals, end to end, on a platform that runs nothing: registers are a struct, guest memory is an
 * array of this program.  Tasks that have to sleep run on the real workers.
 */
#include "sentry/kernel/pid.h"
#include "sentry/kernel/signal.h"

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"
#include "sentry/time/posix_timers.h"

/* ---- the platform ---- */

struct p_thread {
	struct arch_regs regs;
	struct p_event event;
	uint8_t xstate[ARCH_XSTATE_MAX];
	int xstate_resets;
	void *owner;
};

#define XSTATE_SIZE 832
static _Alignas(4096) uint8_t memory[1 << 16]; /* the guest's */
static sem_t kicks;

static struct p_limits limits = {
	.task_size = 1ULL << 47, .xstate_size = XSTATE_SIZE, .xstate_mask = 7};

static const struct p_limits *fake_limits(struct platform *pf)
{
	(void)pf;
	return &limits;
}

static struct p_thread *fake_next(struct platform *pf)
{
	(void)pf;
	while (sem_wait(&kicks))
		;
	return NULL;
}

static void fake_kick(struct platform *pf)
{
	(void)pf;
	sem_post(&kicks);
}

static struct arch_regs *fake_regs(struct p_thread *th)
{
	return &th->regs;
}

static int fake_xstate_get(struct p_thread *th, void *buf, size_t size)
{
	memcpy(buf, th->xstate, size);
	return 0;
}

static int fake_xstate_set(struct p_thread *th, const void *buf, size_t size)
{
	memcpy(th->xstate, buf, size);
	return 0;
}

static int fake_xstate_reset(struct p_thread *th)
{
	th->xstate_resets++;
	return 0;
}

static bool inside(uint64_t addr, size_t n)
{
	uint64_t low = (uint64_t)memory;
	return addr >= low && addr + n <= low + sizeof(memory);
}

static ssize_t fake_copy_in(struct p_aspace *as, struct p_thread *th, void *dst, uint64_t src,
			    size_t n)
{
	(void)as;
	(void)th;
	if (!inside(src, n))
		return 0;
	memcpy(dst, (const void *)src, n);
	return (ssize_t)n;
}

static ssize_t fake_copy_out(struct p_aspace *as, struct p_thread *th, uint64_t dst,
			     const void *src, size_t n)
{
	(void)as;
	(void)th;
	if (!inside(dst, n))
		return 0;
	memcpy((void *)dst, src, n);
	return (ssize_t)n;
}

static const struct platform_ops fake_ops = {
	.name = "fake",
	.limits = fake_limits,
	.next = fake_next,
	.kick = fake_kick,
	.regs = fake_regs,
	.xstate_get = fake_xstate_get,
	.xstate_set = fake_xstate_set,
	.xstate_reset = fake_xstate_reset,
	.copy_in = fake_copy_in,
	.copy_out = fake_copy_out,
};
static struct platform fake_platform = {.ops = &fake_ops};

/* ---- the tasks ---- */

static struct container box;
static struct mm space;
static struct task *parent, *a, *b; /* parent is the container's init; a and b are its child */
static struct cred *cred;

static struct task *add_task(struct thread_group *tg)
{
	struct task *t = task_new(tg);

	ck_assert_ptr_nonnull(t);
	t->pt = calloc(1, sizeof(*t->pt));
	t->mm = &space;
	t->um = (struct umem){.mm = &space};
	t->cred = cred_get(cred);
	t->pt->regs.cs = ARCH_USER_CS;
	t->pt->regs.ss = ARCH_USER_DS;
	t->pt->regs.rsp = (uint64_t)memory + 32768;
	t->pt->regs.rip = 0x401000;
	t->pt->regs.eflags = ARCH_EFLAGS_FIXED;
	t->pt->regs.orig_rax = ~0ULL;
	xstate_init_area(&(struct xstate_format){XSTATE_SIZE, 7}, t->pt->xstate);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	ck_assert_int_eq(task_link(t, NULL, NULL), 0);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return t;
}

static struct thread_group *add_group(struct thread_group *of, struct session *s)
{
	struct thread_group *tg = thread_group_new(&box);

	tg->pid_ns = pid_ns_get(&pid_ns_top);
	tg->sighand = sighand_new();
	tg->session = session_get(s);
	for (int i = 0; i < RLIM_NLIMITS; i++)
		tg->rlimit[i] = (struct krlimit){RLIM_K_INFINITY, RLIM_K_INFINITY};
	tg->rlimit[RLIMIT_CORE].cur = 0;
	tg->parent = of;
	if (of)
		list_add_tail(&tg->sibling, &of->children);
	return tg;
}

static void setup(void)
{
	ref_init(&box.ref, 1);
	ref_init(&space.ref, 100);
	space.pf = &fake_platform;
	space.task_size = limits.task_size;
	sem_init(&kicks, 0, 0);
	ck_assert_int_eq(kernel_init(&fake_platform, "test", ""), 0);
	ck_assert_int_eq(ktimer_start_thread(), 0);
	cred = cred_new_root();
	struct session *s = session_new(1), *other = session_new(2);
	struct thread_group *init = add_group(NULL, s), *tg = add_group(init, other);
	parent = add_task(init);
	box.init = init;
	a = add_task(tg);
	b = add_task(tg);
}

static ksiginfo from_user(int signo, int value)
{
	ksiginfo info;

	signal_info_user(&info, signo, SI_QUEUE, parent);
	info.si_value.sival_int = value;
	return info;
}

static int send_to(struct task *t, int signo)
{
	ksiginfo info = from_user(signo, 0);
	return signal_send_task(t, &info);
}

static int send_group(int signo)
{
	ksiginfo info;

	signal_info_user(&info, signo, SI_USER, parent);
	return signal_send_group(a->tg, &info);
}

#define HANDLER 0x402000
#define RESTORER 0x403000

static void handle(int signo, uint64_t flags, sigset_k mask)
{
	const struct ksigaction act = {.handler = HANDLER,
				       .flags = flags | 0x04000000,
				       .restorer = RESTORER,
				       .mask = mask};
	ck_assert_int_eq(ksigaction_set(a, signo, &act, NULL), 0);
}

static void set_handler(int signo, uint64_t handler)
{
	const struct ksigaction act = {.handler = handler};
	ck_assert_int_eq(ksigaction_set(a, signo, &act, NULL), 0);
}

static struct linux_rt_sigframe frame_of(struct task *t)
{
	struct linux_rt_sigframe f;

	ck_assert(inside(t->pt->regs.rsp, sizeof(f)));
	memcpy(&f, (const void *)t->pt->regs.rsp, sizeof(f));
	return f;
}

static void return_from_handler(struct task *t)
{
	t->pt->regs.rsp += 8; /* the handler's ret */
	t->pt->regs.orig_rax = SYS_rt_sigreturn;
	t->pt->regs.rax = (uint64_t)signal_sigreturn(t);
}

static int take(struct task *t, ksiginfo *info)
{
	ksiginfo unused;
	return signal_dequeue(t, ~0ULL, info ? info : &unused);
}

/* ---- queues ---- */

START_TEST(standard_signals_coalesce_and_realtime_ones_queue)
{
	ksiginfo info;

	signal_set_mask(a, ~0ULL);
	for (int i = 0; i < 3; i++) {
		ksiginfo one = from_user(SIGUSR1, i), two = from_user(40, i);
		ck_assert_int_eq(signal_send_task(a, &one), 0);
		ck_assert_int_eq(signal_send_task(a, &two), 0);
	}
	ck_assert_int_eq(take(a, &info), SIGUSR1);
	ck_assert_int_eq(info.si_value.sival_int, 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(take(a, &info), 40);
		ck_assert_int_eq(info.si_value.sival_int, i);
	}
	ck_assert_int_eq(take(a, NULL), 0);
}
END_TEST

START_TEST(faults_first_then_lowest_number_thread_before_group)
{
	signal_set_mask(a, ~0ULL);
	signal_set_mask(b, ~0ULL);
	send_group(SIGHUP);
	send_to(a, 34);
	send_to(a, SIGUSR2);
	send_to(a, SIGSEGV);
	ck_assert_int_eq(take(a, NULL), SIGSEGV);
	ck_assert_int_eq(take(a, NULL), SIGUSR2);
	ck_assert_int_eq(take(a, NULL), 34);
	ck_assert_int_eq(take(a, NULL), SIGHUP);
}
END_TEST

START_TEST(ignored_signal_is_dropped_unless_blocked)
{
	send_to(a, SIGCHLD);
	ck_assert_uint_eq(signal_pending_set(a), 0);
	set_handler(SIGUSR1, LINUX_SIG_IGN);
	send_to(a, SIGUSR1);
	ck_assert_uint_eq(signal_pending_set(a), 0);

	signal_set_mask(a, SIG_BIT(SIGUSR1) | SIG_BIT(SIGCHLD));
	send_to(a, SIGUSR1);
	send_to(a, SIGCHLD);
	ck_assert_uint_eq(signal_pending_set(a), SIG_BIT(SIGUSR1) | SIG_BIT(SIGCHLD));
	ck_assert(!signal_pending(a));
	/* What becomes ignored goes, blocked or not. */
	set_handler(SIGUSR1, LINUX_SIG_IGN);
	ck_assert_uint_eq(signal_pending_set(a), SIG_BIT(SIGCHLD));
}
END_TEST

START_TEST(group_signal_goes_to_a_thread_that_does_not_block_it)
{
	handle(SIGUSR1, 0, 0);
	signal_set_mask(a, SIG_BIT(SIGUSR1));
	send_group(SIGUSR1);
	ck_assert(!signal_pending(a));
	ck_assert(signal_pending(b));
	/* Blocked there as well, it waits for whoever unblocks it first. */
	signal_set_mask(b, SIG_BIT(SIGUSR1));
	ck_assert(!signal_pending(b));
	signal_set_mask(a, 0);
	ck_assert(signal_pending(a));
}
END_TEST

START_TEST(exiting_thread_hands_group_signals_on)
{
	handle(SIGUSR1, 0, 0);
	signal_set_mask(b, SIG_BIT(SIGUSR1));
	send_group(SIGUSR1);
	ck_assert(signal_pending(a));
	signal_set_mask(b, 0);
	atomic_store(&b->sigpending, false);
	signal_task_exit(a);
	ck_assert(signal_pending(b));
	ck_assert_int_eq(send_to(a, SIGUSR2), 0);
	ck_assert_uint_eq(a->pending.set, 0);
}
END_TEST

START_TEST(continue_and_stop_signals_discard_each_other)
{
	signal_set_mask(a, ~0ULL);
	signal_set_mask(b, ~0ULL);
	send_to(a, SIGTSTP);
	send_group(SIGTTIN);
	send_group(SIGCONT);
	ck_assert_uint_eq(signal_pending_set(a), SIG_BIT(SIGCONT));
	send_to(b, SIGTTOU);
	ck_assert_uint_eq(signal_pending_set(a), 0);
	ck_assert_uint_eq(signal_pending_set(b), SIG_BIT(SIGTTOU));
}
END_TEST

START_TEST(queue_limit_stops_sigqueue_but_not_kill)
{
	ksiginfo info = from_user(40, 0);

	signal_set_mask(a, ~0ULL);
	a->tg->rlimit[RLIMIT_SIGPENDING].cur = 2;
	ck_assert_int_eq(signal_send_task(a, &info), 0);
	ck_assert_int_eq(signal_send_task(a, &info), 0);
	ck_assert_int_eq(signal_send_task(a, &info), -EAGAIN);
	ck_assert_int_eq(send_group(SIGUSR1), 0);
	ck_assert(signal_pending_set(a) & SIG_BIT(SIGUSR1));
	while (take(a, NULL))
		;
	ck_assert_uint_eq(atomic_load(&a->tg->nsigqueued), 0);
}
END_TEST

START_TEST(init_is_protected_from_inside_only)
{
	ksiginfo info;

	signal_info_user(&info, SIGKILL, SI_USER, a);
	signal_send_group(parent->tg, &info);
	info.si_signo = SIGTERM;
	signal_send_group(parent->tg, &info);
	signal_info_kernel(&info, SIGTERM);
	signal_send_group(parent->tg, &info);
	ck_assert(!atomic_load(&parent->tg->exiting));
	ck_assert(!signal_pending(parent));

	info.si_code = SI_USER; /* pid 0: from outside */
	signal_send_group(parent->tg, &info);
	ck_assert(signal_pending(parent));
	ck_assert(!signal_deliver(parent));
	ck_assert_int_eq(parent->tg->group_exit_status, SIGTERM);
}
END_TEST

START_TEST(sigkill_ends_the_group_at_once)
{
	signal_set_mask(a, ~0ULL);
	send_to(b, SIGKILL);
	ck_assert(signal_fatal_pending(a) && signal_fatal_pending(b));
	ck_assert(!signal_deliver(a));
	ck_assert_int_eq(a->tg->group_exit_status, SIGKILL);
}
END_TEST

/* ---- delivery ---- */

START_TEST(handler_and_sigreturn_leave_no_trace)
{
	const sigset_k mask = SIG_BIT(SIGHUP);
	struct arch_regs before;

	for (int i = 0; i < 14; i++)
		((uint64_t *)&a->pt->regs)[i] = 0x1111 * (unsigned)i;
	a->pt->regs.eflags |= 0x8d5;
	a->pt->regs.fs_base = 0x7000;
	before = a->pt->regs;
	uint8_t xstate[XSTATE_SIZE];
	a->pt->xstate[512] = 7;
	memset(a->pt->xstate + 160, 0xab, 64); /* xmm registers */
	memcpy(xstate, a->pt->xstate, sizeof(xstate));

	handle(SIGUSR1, SA_SIGINFO, SIG_BIT(SIGUSR2) | SIG_BIT(SIGKILL));
	signal_set_mask(a, mask);
	ksiginfo info = from_user(SIGUSR1, 77);
	signal_send_task(a, &info);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rip, HANDLER);
	ck_assert_uint_eq(a->pt->regs.rdi, SIGUSR1);
	ck_assert_uint_eq(a->mask, mask | SIG_BIT(SIGUSR1) | SIG_BIT(SIGUSR2));
	struct linux_rt_sigframe f = frame_of(a);
	ck_assert_uint_eq(f.pretcode, RESTORER);
	ck_assert_uint_eq(f.uc.sigmask, mask);
	ck_assert_int_eq(f.info.si_value.sival_int, 77);
	ck_assert_uint_eq(a->pt->regs.rdx, a->pt->regs.rsp + 8);

	memset(a->pt->xstate, 0, sizeof(a->pt->xstate));
	return_from_handler(a);
	ck_assert_mem_eq(&a->pt->regs, &before, sizeof(before));
	ck_assert_uint_eq(a->mask, mask);
	ck_assert_mem_eq(a->pt->xstate, xstate, ARCH_XSTATE_SW_BYTES);
	ck_assert_mem_eq(a->pt->xstate + 512, xstate + 512, XSTATE_SIZE - 512);
	ck_assert(!signal_pending(a));
}
END_TEST

START_TEST(pending_signals_stack_their_frames)
{
	handle(SIGUSR1, 0, 0);
	handle(SIGUSR2, 0, 0);
	send_to(a, SIGUSR2);
	send_to(a, SIGUSR1);
	ck_assert(signal_deliver(a));
	/* The last frame built runs first: that of the higher number. */
	ck_assert_uint_eq(a->pt->regs.rdi, SIGUSR2);
	return_from_handler(a);
	ck_assert_uint_eq(a->pt->regs.rip, HANDLER);
	ck_assert_uint_eq(a->pt->regs.rdi, SIGUSR1);
	return_from_handler(a);
	ck_assert_uint_eq(a->pt->regs.rip, 0x401000);
	ck_assert_uint_eq(a->mask, 0);
}
END_TEST

static const struct {
	int code;
	int no_handler; /* 1: restarts; 219: by restart_syscall */
	int handler;	/* 1: restarts; 0: EINTR */
	int sa_restart;
} restarts[] = {
	{ERESTARTSYS, 1, 0, 1},
	{ERESTARTNOINTR, 1, 1, 1},
	{ERESTARTNOHAND, 1, 0, 0},
	{ERESTART_RESTARTBLOCK, SYS_restart_syscall, 0, 0},
};

static void interrupted_call(int code)
{
	a->pt->regs.rip = 0x401002;
	a->pt->regs.orig_rax = SYS_read;
	a->pt->regs.rax = (uint64_t)-code;
}

START_TEST(interrupted_calls_restart_as_signal_7_says)
{
	int code = restarts[_i].code;

	interrupted_call(code);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rip, 0x401000);
	ck_assert_uint_eq(a->pt->regs.rax, restarts[_i].no_handler == 1
						   ? (uint64_t)SYS_read
						   : (uint64_t)restarts[_i].no_handler);
	ck_assert_uint_eq(a->pt->regs.orig_rax, ~0ULL);

	for (int restart = 0; restart < 2; restart++) {
		handle(SIGUSR1, restart ? SA_RESTART : 0, 0);
		interrupted_call(code);
		send_to(a, SIGUSR1);
		ck_assert(signal_deliver(a));
		struct linux_rt_sigframe f = frame_of(a);
		bool again = restart ? restarts[_i].sa_restart : restarts[_i].handler;
		ck_assert_uint_eq(f.uc.mcontext.ip, again ? 0x401000 : 0x401002);
		ck_assert_uint_eq(f.uc.mcontext.ax, again ? (uint64_t)SYS_read : (uint64_t)-EINTR);
		return_from_handler(a);
	}
}
END_TEST

START_TEST(results_that_look_like_restart_codes_are_left_alone)
{
	a->pt->regs.orig_rax = ~0ULL;
	a->pt->regs.rax = (uint64_t)-ERESTARTSYS;
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rax, (uint64_t)-ERESTARTSYS);
	ck_assert_uint_eq(a->pt->regs.rip, 0x401000);
}
END_TEST

START_TEST(temporary_mask_is_put_back_after_the_handler)
{
	handle(SIGUSR1, 0, 0);
	signal_set_mask(a, SIG_BIT(SIGUSR1) | SIG_BIT(SIGHUP));
	send_to(a, SIGUSR1);
	ck_assert(!signal_pending(a));
	signal_set_temp_mask(a, SIG_BIT(SIGUSR2));
	ck_assert(signal_pending(a));
	interrupted_call(ERESTARTNOHAND);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(frame_of(a).uc.sigmask, SIG_BIT(SIGUSR1) | SIG_BIT(SIGHUP));
	ck_assert_uint_eq(a->mask, SIG_BIT(SIGUSR1) | SIG_BIT(SIGUSR2));
	return_from_handler(a);
	ck_assert_uint_eq(a->mask, SIG_BIT(SIGUSR1) | SIG_BIT(SIGHUP));

	signal_set_temp_mask(a, 0);
	interrupted_call(ERESTARTNOHAND);
	ck_assert(signal_deliver(a)); /* nothing came after all */
	ck_assert_uint_eq(a->mask, SIG_BIT(SIGUSR1) | SIG_BIT(SIGHUP));
}
END_TEST

START_TEST(resethand_and_nodefer)
{
	struct ksigaction old;

	handle(SIGUSR1, (uint32_t)SA_RESETHAND | SA_NODEFER, 0);
	send_to(a, SIGUSR1);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->mask, 0);
	ck_assert_int_eq(ksigaction_set(a, SIGUSR1, NULL, &old), 0);
	ck_assert_uint_eq(old.handler, LINUX_SIG_DFL);
	send_to(a, SIGUSR1);
	ck_assert(!signal_deliver(a));
	ck_assert_int_eq(a->tg->group_exit_status, SIGUSR1);
}
END_TEST

START_TEST(frame_that_cannot_be_written_is_sigsegv)
{
	handle(SIGUSR1, 0, 0);
	handle(SIGSEGV, SA_ONSTACK, 0);
	a->altstack = (struct sigaltstack_k){.sp = (uint64_t)memory, .size = 16384};
	a->pt->regs.rsp = 0x1000;
	send_to(a, SIGUSR1);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rdi, SIGSEGV);
	ck_assert_int_eq(frame_of(a).info.si_code, SI_KERNEL);
	/* Not even there: dead. */
	return_from_handler(a);
	a->altstack.size = 0;
	a->pt->regs.rsp = 0x1000;
	send_to(a, SIGUSR1);
	ck_assert(!signal_deliver(a));
	ck_assert_int_eq(a->tg->group_exit_status, SIGSEGV);
}
END_TEST

START_TEST(action_without_restorer_is_sigsegv)
{
	const struct ksigaction act = {.handler = HANDLER};

	ck_assert_int_eq(ksigaction_set(a, SIGUSR1, &act, NULL), 0);
	send_to(a, SIGUSR1);
	ck_assert(!signal_deliver(a));
	ck_assert_int_eq(a->tg->group_exit_status, SIGSEGV);
}
END_TEST

START_TEST(fault_that_is_blocked_or_ignored_kills)
{
	ksiginfo info;

	handle(SIGSEGV, 0, 0);
	signal_set_mask(a, SIG_BIT(SIGSEGV));
	signal_info_kernel(&info, SIGSEGV);
	signal_force(a, &info);
	ck_assert(!signal_deliver(a));
	ck_assert_int_eq(a->tg->group_exit_status, SIGSEGV);

	signal_force(parent, &info);
	ck_assert(!signal_deliver(parent)); /* init too */
}
END_TEST

static void make_frame(struct linux_rt_sigframe *f)
{
	memset(f, 0, sizeof(*f));
	f->uc.flags = 7;
	f->uc.mcontext.cs = ARCH_USER_CS;
	f->uc.mcontext.ss = ARCH_USER_DS;
	f->uc.mcontext.ip = 0x401000;
	f->uc.mcontext.ax = (uint64_t)-ERESTARTSYS;
}

static void put_frame(const struct linux_rt_sigframe *f)
{
	uint64_t at = (uint64_t)memory + 8192;

	memcpy((void *)at, f, sizeof(*f));
	a->pt->regs.rsp = at;
	return_from_handler(a);
}

START_TEST(hostile_sigreturn_is_sigsegv_and_nothing_else)
{
	static const uint64_t bad_ip[] = {1ULL << 47, 0x8000000000000000, ~0ULL,
					  0xdeadbeefdeadbeef};
	struct linux_rt_sigframe f;

	make_frame(&f);
	put_frame(&f);
	ck_assert(!signal_pending(a));
	ck_assert_int_eq(a->pt->xstate_resets, 1); /* no state: the initial one */
	/* A result of the guest's choice is no restart code. */
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rip, 0x401000);

	handle(SIGSEGV, SA_NODEFER, 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad_ip); i++) {
		make_frame(&f);
		f.uc.mcontext.ip = bad_ip[i];
		f.uc.mcontext.sp = (uint64_t)memory + 32768;
		put_frame(&f);
		ck_assert(signal_deliver(a));
		ck_assert_uint_eq(a->pt->regs.rdi, SIGSEGV);
		ck_assert_uint_eq(frame_of(a).uc.mcontext.ip, bad_ip[i]);
	}
	make_frame(&f);
	f.uc.mcontext.cs = 0x23;
	put_frame(&f);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rdi, SIGSEGV);

	a->pt->regs.rsp = 0x5000; /* no frame at all */
	return_from_handler(a);
	ck_assert(!signal_deliver(a)); /* and no stack for the handler either */
}
END_TEST

START_TEST(hostile_extended_state_is_sigsegv)
{
	struct linux_rt_sigframe f;
	uint64_t fp = (uint64_t)memory + 16384;

	make_frame(&f);
	memset((void *)fp, 0xff, 4096);
	f.uc.mcontext.fpstate = fp;
	f.uc.mcontext.sp = (uint64_t)memory + 32768;
	handle(SIGSEGV, SA_NODEFER, 0);
	put_frame(&f);
	ck_assert(signal_deliver(a));
	ck_assert_uint_eq(a->pt->regs.rdi, SIGSEGV);
	memset((void *)fp, 0, 4096);
	f.uc.mcontext.fpstate = fp + 1; /* XRSTOR would fault on it */
	put_frame(&f);
	ck_assert(signal_pending(a));
	ck_assert(signal_deliver(a));
	f.uc.mcontext.fpstate = 0x10000;
	put_frame(&f);
	ck_assert(signal_pending(a));
}
END_TEST

START_TEST(altstack_rules)
{
	struct sigaltstack_k ss = {.sp = 0x10000, .size = 8192}, old;

	signal_altstack_get(a, 0x10800, &old);
	ck_assert_int_eq(old.flags, SS_DISABLE);
	ss.size = 2047;
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0), -ENOMEM);
	ss.size = 8192;
	ss.flags = 4;
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0), -EINVAL);
	ss.flags = SS_ONSTACK;
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0), 0);
	signal_altstack_get(a, 0x10800, &old);
	ck_assert_int_eq(old.flags, SS_ONSTACK);
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0x10800), -EPERM);
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0x10000), 0); /* its low end is not on it */
	ss.flags = SS_DISABLE;
	ck_assert_int_eq(signal_altstack_set(a, &ss, 0), 0);
	signal_altstack_get(a, 0x10800, &old);
	ck_assert_int_eq(old.flags, SS_DISABLE);
	ck_assert_uint_eq(old.sp, 0);
}
END_TEST

START_TEST(exec_keeps_only_what_is_ignored)
{
	struct ksigaction old;

	handle(SIGUSR1, SA_RESTART, 5);
	set_handler(SIGUSR2, LINUX_SIG_IGN);
	a->altstack = (struct sigaltstack_k){.sp = 1, .size = 9999};
	sighand_get(a->tg->sighand); /* shared: the other's must not change */
	struct sighand *shared = a->tg->sighand;
	signal_exec(a);
	ck_assert_ptr_ne(a->tg->sighand, shared);
	ck_assert_uint_eq(shared->action[SIGUSR1 - 1].handler, HANDLER);
	sighand_put(shared);
	ck_assert_int_eq(ksigaction_set(a, SIGUSR1, NULL, &old), 0);
	ck_assert_uint_eq(old.handler, LINUX_SIG_DFL);
	ck_assert_uint_eq(old.flags | old.mask, 0);
	ck_assert_int_eq(ksigaction_set(a, SIGUSR2, NULL, &old), 0);
	ck_assert_uint_eq(old.handler, LINUX_SIG_IGN);
	ck_assert_uint_eq(a->altstack.size, 0);
}
END_TEST

/* ---- stops ---- */

static _Atomic int delivered;

static void deliver_and_leave(void *arg)
{
	struct task *t = arg;

	atomic_fetch_add(&delivered, signal_deliver(t) ? 1 : 100);
	fiber_exit(&t->fiber, (void (*)(void *))task_put, task_get(t));
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

#define AWAIT(cond)                                          \
	do {                                                 \
		for (int i_ = 0; i_ < 3000 && !(cond); i_++) \
			nap();                               \
		ck_assert(cond);                             \
	} while (0)

/* The second looks for signals only when the first has begun the stop. */
static void run_tasks_into_stop(void)
{
	a->fiber.entry = b->fiber.entry = deliver_and_leave;
	ck_assert_int_eq(kernel_start_workers(), 0);
	task_make_runnable(a);
	AWAIT(a->tg->stop_state != STOP_NONE);
	task_make_runnable(b);
}

START_TEST(stop_takes_all_threads_and_cont_resumes_them)
{
	signal_set_mask(b, ~0ULL);
	send_group(SIGSTOP);
	run_tasks_into_stop();
	AWAIT(a->tg->stop_state == STOP_STOPPED);
	AWAIT(atomic_load(&a->state) == TASK_STOPPED && atomic_load(&b->state) == TASK_STOPPED);
	ck_assert(a->tg->stop_unreported);
	ck_assert_int_eq(a->tg->stop_signo, SIGSTOP);
	ck_assert_int_eq(atomic_load(&delivered), 0);
	/* Other signals wait. */
	handle(SIGUSR1, 0, 0);
	send_to(a, SIGUSR1);
	nap();
	ck_assert(!signal_pending(a));

	set_handler(SIGCONT, LINUX_SIG_IGN); /* resumes all the same */
	send_group(SIGCONT);
	AWAIT(atomic_load(&delivered) == 2);
	ck_assert(a->tg->cont_unreported && !a->tg->stop_unreported);
	ck_assert_int_eq(a->tg->stop_notify, 0);
	ck_assert_uint_eq(a->pt->regs.rdi, SIGUSR1);
}
END_TEST

START_TEST(sigkill_ends_stopped_threads)
{
	send_group(SIGSTOP);
	run_tasks_into_stop();
	AWAIT(a->tg->stop_state == STOP_STOPPED);
	send_group(SIGKILL);
	AWAIT(atomic_load(&delivered) == 200);
}
END_TEST

START_TEST(exit_of_the_last_running_thread_completes_the_stop)
{
	b->fiber.entry = a->fiber.entry = deliver_and_leave;
	ck_assert_int_eq(kernel_start_workers(), 0);
	send_group(SIGSTOP);
	task_make_runnable(a);
	AWAIT(atomic_load(&a->state) == TASK_STOPPED);
	ck_assert_int_eq(a->tg->stop_state, STOP_PENDING);
	signal_task_exit(b);
	ck_assert_int_eq(a->tg->stop_state, STOP_STOPPED);
}
END_TEST

START_TEST(terminal_stop_of_an_orphaned_group_is_void)
{
	/* The parent is in another session, so that nobody could continue the group. */
	send_to(a, SIGTSTP);
	ck_assert(signal_pending(a));
	ck_assert(signal_deliver(a));
	ck_assert_int_eq(a->tg->stop_state, STOP_NONE);
}
END_TEST

/* ---- timers ---- */

START_TEST(interval_timer_waits_for_its_signal_to_be_taken)
{
	const struct itimer_ns set = {.value = 2000000, .interval = 2000000}, off = {0};
	struct itimer_ns old;
	ksiginfo info;

	signal_set_mask(a, SIG_BIT(SIGALRM));
	signal_set_mask(b, SIG_BIT(SIGALRM));
	ck_assert_int_eq(itimer_set(a, ITIMER_REAL, &set, &old), 0);
	ck_assert_int_eq(old.value, 0);
	for (int i = 0; i < 3; i++) {
		AWAIT(signal_pending_set(a) & SIG_BIT(SIGALRM));
		ck_assert_int_eq(take(b, &info), SIGALRM);
		ck_assert_int_eq(info.si_code, SI_KERNEL);
	}
	ck_assert_int_eq(itimer_set(a, ITIMER_REAL, &off, &old), 0);
	ck_assert_int_eq(old.interval, 2000000);
	take(a, NULL);
	for (int i = 0; i < 10; i++)
		nap();
	ck_assert_uint_eq(signal_pending_set(a), 0);
	posix_timers_exit(a->tg);
}
END_TEST

START_TEST(posix_timer_counts_what_it_missed)
{
	const struct linux_sigevent ev = {.signo = 40, .notify = SIGEV_SIGNAL, .value = 99};
	const struct itimer_ns set = {.value = 1000000, .interval = 1000000};
	struct itimer_ns left;
	ksiginfo info;
	int id;

	signal_set_mask(a, ~0ULL);
	signal_set_mask(b, ~0ULL);
	ck_assert_int_eq(posix_timer_create(a, CLOCK_MONOTONIC, &ev, &id), 0);
	ck_assert_int_eq(posix_timer_gettime(a, id, &left), 0);
	ck_assert_int_eq(left.value, 0);
	ck_assert_int_eq(posix_timer_settime(a, id, false, &set, NULL), 0);
	for (int i = 0; i < 30; i++)
		nap();
	ck_assert_int_eq(posix_timer_gettime(a, id, &left), 0);
	ck_assert(left.value > 0 && left.value <= 1000000);
	ck_assert_int_eq(take(a, &info), 40);
	ck_assert_int_eq(info.si_code, SI_TIMER);
	ck_assert_int_eq(info.si_timerid, id);
	ck_assert_int_eq(info.si_value.sival_int, 99);
	ck_assert_int_ge(info.si_overrun, 20);
	ck_assert_int_eq(posix_timer_getoverrun(a, id), info.si_overrun);
	AWAIT(signal_pending_set(a) & SIG_BIT(40));
	/* Gone with its signal. */
	ck_assert_int_eq(posix_timer_delete(a, id), 0);
	ck_assert_uint_eq(signal_pending_set(a), 0);
	ck_assert_int_eq(posix_timer_delete(a, id), -EINVAL);
	ck_assert_uint_eq(atomic_load(&a->tg->nsigqueued), 0);
	posix_timers_exit(a->tg);
}
END_TEST

START_TEST(timer_for_one_thread_signals_that_thread)
{
	struct linux_sigevent ev = {.signo = SIGUSR1, .notify = SIGEV_THREAD_ID, .tid = b->tid};
	const struct itimer_ns set = {.value = 1};
	int id;

	signal_set_mask(b, SIG_BIT(SIGUSR1));
	ck_assert_int_eq(posix_timer_create(a, CLOCK_REALTIME, &ev, &id), 0);
	ck_assert_int_eq(posix_timer_settime(a, id, true, &set, NULL), 0);
	AWAIT(signal_pending_set(b) & SIG_BIT(SIGUSR1));
	ck_assert_uint_eq(signal_pending_set(a), 0);
	ev.tid = parent->tid;
	ck_assert_int_eq(posix_timer_create(a, CLOCK_REALTIME, &ev, &id), -EINVAL);
	ev.notify = 77;
	ck_assert_int_eq(posix_timer_create(a, CLOCK_REALTIME, &ev, &id), -EINVAL);
	ev.notify = SIGEV_SIGNAL;
	ck_assert_int_eq(posix_timer_create(a, CLOCK_MONOTONIC_COARSE, &ev, &id), -EOPNOTSUPP);
	ck_assert_int_eq(posix_timer_create(a, 77, &ev, &id), -EINVAL);
	posix_timers_exit(a->tg);
	ck_assert_uint_eq(signal_pending_set(b), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("signal");
	TCase *tc = tcase_create("signal");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, standard_signals_coalesce_and_realtime_ones_queue);
	tcase_add_test(tc, faults_first_then_lowest_number_thread_before_group);
	tcase_add_test(tc, ignored_signal_is_dropped_unless_blocked);
	tcase_add_test(tc, group_signal_goes_to_a_thread_that_does_not_block_it);
	tcase_add_test(tc, exiting_thread_hands_group_signals_on);
	tcase_add_test(tc, continue_and_stop_signals_discard_each_other);
	tcase_add_test(tc, queue_limit_stops_sigqueue_but_not_kill);
	tcase_add_test(tc, init_is_protected_from_inside_only);
	tcase_add_test(tc, sigkill_ends_the_group_at_once);
	tcase_add_test(tc, handler_and_sigreturn_leave_no_trace);
	tcase_add_test(tc, pending_signals_stack_their_frames);
	tcase_add_loop_test(tc, interrupted_calls_restart_as_signal_7_says, 0,
			    ARRAY_SIZE(restarts));
	tcase_add_test(tc, results_that_look_like_restart_codes_are_left_alone);
	tcase_add_test(tc, temporary_mask_is_put_back_after_the_handler);
	tcase_add_test(tc, resethand_and_nodefer);
	tcase_add_test(tc, frame_that_cannot_be_written_is_sigsegv);
	tcase_add_test(tc, action_without_restorer_is_sigsegv);
	tcase_add_test(tc, fault_that_is_blocked_or_ignored_kills);
	tcase_add_test(tc, hostile_sigreturn_is_sigsegv_and_nothing_else);
	tcase_add_test(tc, hostile_extended_state_is_sigsegv);
	tcase_add_test(tc, altstack_rules);
	tcase_add_test(tc, exec_keeps_only_what_is_ignored);
	tcase_add_test(tc, stop_takes_all_threads_and_cont_resumes_them);
	tcase_add_test(tc, sigkill_ends_stopped_threads);
	tcase_add_test(tc, exit_of_the_last_running_thread_completes_the_stop);
	tcase_add_test(tc, terminal_stop_of_an_orphaned_group_is_void);
	tcase_add_test(tc, interval_timer_waits_for_its_signal_to_be_taken);
	tcase_add_test(tc, posix_timer_counts_what_it_missed);
	tcase_add_test(tc, timer_for_one_thread_signals_that_thread);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}

/* Faults and the processor's state: si_code and si_addr, damaged frames, AVX across everything. */
#include "tests/compat/compat.h"

#include <cpuid.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf back;
static volatile siginfo_t last;
static volatile long last_trapno, last_err, last_rip;

static void on_fault(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	last = *info;
	last_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
	last_err = uc->uc_mcontext.gregs[REG_ERR];
	last_rip = uc->uc_mcontext.gregs[REG_RIP];
	siglongjmp(back, signo);
}

static void catch_faults(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		EXPECT_OK(sigaction(signals[i], &sa, NULL));
}

/* The signal that these statements raise; 0: none. */
#define SIGNAL_OF(...)                       \
	({                                   \
		int s_ = sigsetjmp(back, 1); \
		if (!s_) {                   \
			__VA_ARGS__;         \
		}                            \
		s_;                          \
	})

TEST(fault_segv_codes_tell_unmapped_from_forbidden)
{
	char *p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	EXPECT_OK(mprotect(p + 4096, 4096, PROT_NONE));
	EXPECT_EQ(SIGNAL_OF(*(volatile char *)(p + 77) = 1), SIGSEGV);
	EXPECT_EQ(last.si_code, SEGV_ACCERR);
	EXPECT(last.si_addr == p + 77);
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(p + 4096 + 5)), SIGSEGV);
	EXPECT_EQ(last.si_code, SEGV_ACCERR);
	EXPECT(last.si_addr == p + 4096 + 5);
	EXPECT_OK(munmap(p, 8192));
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)p), SIGSEGV);
	EXPECT_EQ(last.si_code, SEGV_MAPERR);
	EXPECT_EQ(last_trapno, 14);
	EXPECT_EQ(last_err & 7, 4);
}

TEST(fault_executing_data_is_segv_accerr)
{
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	catch_faults();
	*p = (char)0xc3;
	EXPECT_EQ(SIGNAL_OF(((void (*)(void))p)()), SIGSEGV);
	EXPECT_EQ(last.si_code, SEGV_ACCERR);
	EXPECT(last.si_addr == p);
	EXPECT_EQ(last_rip, (long)p);
	EXPECT_OK(mprotect(p, 4096, PROT_READ | PROT_EXEC));
	EXPECT_EQ(SIGNAL_OF(((void (*)(void))p)()), 0);
	EXPECT_EQ(SIGNAL_OF(((void (*)(void))0x20)()), SIGSEGV);
	EXPECT_EQ(last.si_code, SEGV_MAPERR);
	EXPECT(last.si_addr == (void *)0x20);
}

TEST(fault_beyond_a_truncated_file_is_sigbus)
{
	test_dir();
	int fd = test_file("f", 8192);
	char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *private = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	catch_faults();
	EXPECT_EQ(SIGNAL_OF(shared[5000] = 1), 0);
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(private + 5000)), 0);
	EXPECT_OK(ftruncate(fd, 4096));
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(shared + 5000)), SIGBUS);
	EXPECT_EQ(last.si_code, BUS_ADRERR);
	EXPECT(last.si_addr == shared + 5000);
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(private + 5000)), SIGBUS);
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(private + 4000)), 0);
	EXPECT_OK(ftruncate(fd, 8192));
	EXPECT_EQ(SIGNAL_OF((void)*(volatile char *)(shared + 5000)), 0);
	EXPECT_EQ(shared[5000], 0);
}

TEST(fault_division_is_fpe_intdiv)
{
	volatile int seven = 7, zero = 0, r;

	catch_faults();
	EXPECT_EQ(SIGNAL_OF(r = seven / zero), SIGFPE);
	(void)r;
	EXPECT_EQ(last.si_code, FPE_INTDIV);
	EXPECT_EQ((long)last.si_addr, last_rip);
	EXPECT_EQ(last_trapno, 0);
}

TEST(fault_unmasked_sse_exception_is_fpe_fltdiv)
{
	catch_faults();
	EXPECT_EQ(SIGNAL_OF({
			  unsigned csr = 0x1f80 & ~0x200u; /* divide by zero unmasked */
			  double one = 1, zero = 0;
			  __asm__ volatile("ldmxcsr %0\n\tdivsd %2, %1"
					   :
					   : "m"(csr), "x"(one), "x"(zero));
		  }),
		  SIGFPE);
	EXPECT_EQ(last.si_code, FPE_FLTDIV);
	EXPECT_EQ(last_trapno, 19);
}

TEST(fault_ud2_is_ill_illopn)
{
	catch_faults();
	EXPECT_EQ(SIGNAL_OF(__asm__ volatile("ud2")), SIGILL);
	EXPECT_EQ(last.si_code, ILL_ILLOPN);
	EXPECT_EQ((long)last.si_addr, last_rip);
	EXPECT_EQ(last_trapno, 6);
}

TEST(fault_privileged_instructions_are_segv)
{
	catch_faults();
	EXPECT_EQ(SIGNAL_OF(__asm__ volatile("hlt")), SIGSEGV);
	EXPECT_EQ(last.si_code, SI_KERNEL);
	EXPECT(last.si_addr == NULL);
	EXPECT_EQ(last_trapno, 13);
	EXPECT_EQ(SIGNAL_OF(__asm__ volatile("cli")), SIGSEGV);
	EXPECT_EQ(SIGNAL_OF(__asm__ volatile("inb $0x80, %%al" : : : "rax")), SIGSEGV);
}

TEST(fault_breakpoint_is_trap_after_the_instruction)
{
	long start;

	catch_faults();
	EXPECT_EQ(SIGNAL_OF(__asm__ volatile("lea 0f(%%rip), %0\n0:\tint3"
					     : "=r"(start));
			    last_rip = 0),
		  SIGTRAP);
	EXPECT_EQ(last.si_code, SI_KERNEL);
	EXPECT_EQ(last_trapno, 3);
}

static volatile int steps;

static void on_step(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	(void)signo;
	steps++;
	last = *info;
	last_trapno = uc->uc_mcontext.gregs[REG_TRAPNO];
	uc->uc_mcontext.gregs[REG_EFL] &= ~0x100L;
}

TEST(fault_trap_flag_single_steps)
{
	struct sigaction sa = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

	EXPECT_OK(sigaction(SIGTRAP, &sa, NULL));
	__asm__ volatile("sub $128, %%rsp\n\tpushf\n\torl $0x100, (%%rsp)\n\tpopf\n\tnop\n\tnop\n\t"
			 "add $128, %%rsp"
			 :
			 :
			 : "memory", "cc");
	EXPECT_EQ(steps, 1);
	EXPECT_EQ(last.si_code, TRAP_TRACE);
	EXPECT_EQ(last_trapno, 1);
}

static void blocked_fault(void *arg)
{
	sigset_t set;

	(void)arg;
	catch_faults();
	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*(volatile char *)BAD_ADDR = 1;
	_exit(0);
}

TEST(fault_while_the_signal_is_blocked_kills)
{
	int status = test_child(blocked_fault, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

static void fault_again(int signo)
{
	(void)signo;
	*(volatile char *)BAD_ADDR = 1;
}

static void double_fault(void *arg)
{
	(void)arg;
	signal(SIGSEGV, fault_again);
	*(volatile char *)BAD_ADDR = 1;
	_exit(0);
}

TEST(fault_in_the_handler_of_the_fault_kills)
{
	int status = test_child(double_fault, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

static void *fault_in_thread(void *arg)
{
	int *got = arg;

	if (!(*got = sigsetjmp(back, 1)))
		*(volatile char *)BAD_ADDR = 1;
	return NULL;
}

TEST(fault_goes_to_the_thread_that_caused_it)
{
	pthread_t th;
	int got = 0;

	catch_faults();
	EXPECT_OK(-pthread_create(&th, NULL, fault_in_thread, &got));
	pthread_join(th, NULL);
	EXPECT_EQ(got, SIGSEGV);
}

TEST(fault_in_a_lazily_written_page_after_fork_is_resolved)
{
	enum { PAGES = 64 };
	volatile char *p = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;

	for (int i = 0; i < PAGES; i += 2)
		p[i * 4096] = (char)i;
	pid_t pid = fork();
	if (pid == 0) {
		for (int i = 0; i < PAGES; i++) {
			if (p[i * 4096] != (i % 2 ? 0 : i))
				_exit(1);
			p[i * 4096] = 1;
		}
		_exit(0);
	}
	for (int i = 0; i < PAGES; i++)
		p[i * 4096 + 1] = 2;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[2 * 4096], 2);
}

/* ---- damaged frames ---- */

enum damage { SEGMENT, FLAGS, STACK_GONE, FP_POINTER, FP_MAGIC, FP_MXCSR, FP_FEATURES, FP_RANDOM };
static enum damage damage;

static void damage_frame(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;
	unsigned char *fp = (void *)uc->uc_mcontext.fpregs;

	(void)signo;
	(void)info;
	switch (damage) {
	case SEGMENT:
		((uint16_t *)&uc->uc_mcontext.gregs[REG_CSGSFS])[0] = 0x10; /* the kernel's */
		break;
	case FLAGS:
		uc->uc_mcontext.gregs[REG_EFL] |= 0x3000 | 0x20000 | 0x200000; /* IOPL, VM, ID */
		break;
	case STACK_GONE:
		uc->uc_mcontext.gregs[REG_RSP] = (long long)0xffffffff80000000ULL;
		break;
	case FP_POINTER:
		uc->uc_mcontext.fpregs = BAD_ADDR;
		break;
	case FP_MAGIC:
		memset(fp + 464, 0xff, 48); /* the software-reserved bytes */
		break;
	case FP_MXCSR:
		*(uint32_t *)(fp + 24) = 0xffffffff;
		break;
	case FP_FEATURES:
		memset(fp + 512, 0xff, 64); /* the XSAVE header */
		break;
	case FP_RANDOM:
		for (int i = 0; i < 512; i++)
			fp[i] = (unsigned char)(i * 37 + 11);
		break;
	}
}

static void return_damaged(void *arg)
{
	struct sigaction sa = {.sa_sigaction = damage_frame, .sa_flags = SA_SIGINFO};

	(void)arg;
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	unsigned long flags;
	__asm__ volatile("pushf\n\tpop %0" : "=r"(flags));
	_exit(flags & 0x23000 ? 1 : 42);
}

static int outcome(enum damage d)
{
	damage = d;
	int status = test_child(return_damaged, NULL);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

TEST(sigreturn_with_kernel_segment_is_forced_to_user_privilege)
{
	/* Linux ors 3 into the selector: 0x13 does not exist for user code. */
	EXPECT_EQ(outcome(SEGMENT), -SIGSEGV);
}

TEST(sigreturn_takes_only_harmless_flags)
{
	EXPECT_EQ(outcome(FLAGS), 42);
}

TEST(sigreturn_with_damaged_extended_state_kills_or_is_repaired)
{
	EXPECT_EQ(outcome(FP_POINTER), -SIGSEGV);
	EXPECT_EQ(outcome(FP_MAGIC), 42);
	EXPECT_EQ(outcome(FP_MXCSR), -SIGSEGV);
	EXPECT_EQ(outcome(FP_FEATURES), -SIGSEGV);
	outcome(FP_RANDOM); /* whatever it does, we are still here */
	EXPECT_EQ(outcome(STACK_GONE), -SIGSEGV);
}

/* ---- AVX state ---- */

static bool has_avx(void)
{
	return __builtin_cpu_supports("avx");
}

__attribute__((target("avx"))) static void load_ymm(const uint64_t (*v)[4])
{
	__asm__ volatile("vmovdqu (%0), %%ymm0\n\tvmovdqu 32(%0), %%ymm1\n\t"
			 "vmovdqu 64(%0), %%ymm7\n\tvmovdqu 96(%0), %%ymm15"
			 :
			 : "r"(v)
			 : "memory");
}

/* Loads four registers, makes this system call, and stores them: nothing in between is C. */
__attribute__((target("avx"), noinline)) static long
ymm_across(long nr, long a, long b, long c, const uint64_t (*in)[4], uint64_t (*out)[4])
{
	long ret;

	__asm__ volatile("vmovdqu (%5), %%ymm0\n\tvmovdqu 32(%5), %%ymm1\n\t"
			 "vmovdqu 64(%5), %%ymm7\n\tvmovdqu 96(%5), %%ymm15\n\t"
			 "syscall\n\t"
			 "vmovdqu %%ymm0, (%6)\n\tvmovdqu %%ymm1, 32(%6)\n\t"
			 "vmovdqu %%ymm7, 64(%6)\n\tvmovdqu %%ymm15, 96(%6)"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(in), "r"(out)
			 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm7", "xmm15");
	return ret;
}

static void fill(uint64_t (*v)[4], uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		for (int j = 0; j < 4; j++)
			v[i][j] = seed * 0x9e3779b97f4a7c15ULL + (uint64_t)(i * 4 + j);
}

static void spoil_ymm(int signo)
{
	static const uint64_t junk[4][4] = {{~0UL, ~0UL, ~0UL, ~0UL}};

	(void)signo;
	load_ymm(junk);
}

TEST(avx_state_survives_signals)
{
	uint64_t in[4][4], out[4][4];

	if (!has_avx())
		test_skip("no AVX here");
	signal(SIGUSR1, spoil_ymm);
	for (uint64_t i = 1; i < 50; i++) {
		fill(in, i);
		EXPECT_EQ(ymm_across(SYS_tgkill, getpid(), gettid(), SIGUSR1, in, out), 0);
		EXPECT(!memcmp(in, out, sizeof(in)));
	}
}

TEST(avx_state_survives_system_calls_and_fork)
{
	uint64_t in[4][4], out[4][4];
	int status;

	if (!has_avx())
		test_skip("no AVX here");
	fill(in, 3);
	ymm_across(SYS_getppid, 0, 0, 0, in, out);
	EXPECT(!memcmp(in, out, sizeof(in)));
	struct timespec ts = {.tv_nsec = 5000000};
	ymm_across(SYS_nanosleep, (long)&ts, 0, 0, in, out);
	EXPECT(!memcmp(in, out, sizeof(in)));
	long pid = ymm_across(SYS_fork, 0, 0, 0, in, out);
	if (pid == 0)
		_exit(memcmp(in, out, sizeof(in)) ? 1 : 0);
	EXPECT(!memcmp(in, out, sizeof(in)));
	EXPECT_EQ(waitpid((pid_t)pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void *ymm_thread(void *arg)
{
	uint64_t in[4][4], out[4][4];
	long bad = 0;

	for (int i = 0; i < 300; i++) {
		fill(in, (uint64_t)(long)arg * 1000 + (uint64_t)i);
		ymm_across(i % 3 ? SYS_getppid : SYS_sched_yield, 0, 0, 0, in, out);
		bad += memcmp(in, out, sizeof(in)) != 0;
	}
	return (void *)bad;
}

TEST(avx_state_is_per_thread)
{
	pthread_t th[4];
	void *bad;

	if (!has_avx())
		test_skip("no AVX here");
	for (long i = 0; i < 4; i++)
		EXPECT_OK(-pthread_create(&th[i], NULL, ymm_thread, (void *)(i + 1)));
	for (int i = 0; i < 4; i++) {
		pthread_join(th[i], &bad);
		EXPECT_EQ((long)bad, 0);
	}
}

static void find_ymm(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;
	unsigned char *fp = (void *)uc->uc_mcontext.fpregs;
	unsigned a, b, c, d;

	(void)signo;
	(void)info;
	/* The upper half of ymm1 is where CPUID says that AVX's part of the image is. */
	__cpuid_count(13, 2, a, b, c, d);
	uint64_t *upper = (uint64_t *)(fp + b + 16);
	upper[0] ^= 0xff;
	last_err = (long)*(uint32_t *)(fp + 464); /* FP_XSTATE_MAGIC1 */
	last_rip = (long)*(uint64_t *)(fp + 512); /* which features the image has */
}

TEST(avx_state_in_the_frame_can_be_changed)
{
	struct sigaction sa = {.sa_sigaction = find_ymm, .sa_flags = SA_SIGINFO};
	uint64_t in[4][4], out[4][4];

	if (!has_avx())
		test_skip("no AVX here");
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	fill(in, 9);
	EXPECT_EQ(ymm_across(SYS_tgkill, getpid(), gettid(), SIGUSR1, in, out), 0);
	EXPECT_EQ(last_err, 0x46505853);
	EXPECT_EQ(last_rip & 7, 7);
	in[1][2] ^= 0xff;
	EXPECT(!memcmp(in, out, sizeof(in)));
}

TEST(processor_flags_survive_system_calls)
{
	unsigned long before, after;

	/* DF set, then a call: the flags come back as they were. */
	__asm__ volatile("sub $128, %%rsp\n\tstd\n\tstc\n\tpushf\n\tpop %0\n\tsyscall\n\t"
			 "pushf\n\tpop %1\n\tcld\n\tadd $128, %%rsp"
			 : "=&r"(before), "=&r"(after)
			 : "a"(SYS_getppid)
			 : "rcx", "r11", "memory", "cc");
	EXPECT_EQ(after & 0xcd5, before & 0xcd5);
	EXPECT_EQ(after & 0x401, 0x401);
}

TEST(registers_survive_system_calls)
{
	uint64_t r[8] = {0};

	__asm__ volatile(
		"mov $101, %%rbx\n\tmov $102, %%r8\n\tmov $103, %%r9\n\tmov $104, %%r10\n\t"
		"mov $105, %%r12\n\tmov $106, %%r13\n\tmov $107, %%r14\n\tsyscall\n\t"
		"mov %%rbx, (%1)\n\tmov %%r8, 8(%1)\n\tmov %%r9, 16(%1)\n\t"
		"mov %%r10, 24(%1)\n\tmov %%r12, 32(%1)\n\tmov %%r13, 40(%1)\n\t"
		"mov %%r14, 48(%1)"
		:
		: "a"(SYS_getppid), "r"(r)
		: "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "memory");
	for (uint64_t i = 0; i < 7; i++)
		EXPECT_EQ(r[i], 101 + i);
}

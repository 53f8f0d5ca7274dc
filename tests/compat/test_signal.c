/* Signals: sigaction(2), sigprocmask(2), kill(2), sigwaitinfo(2), sigaltstack(2), job control. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <ucontext.h>

static volatile sig_atomic_t hits, last_signo, last_code, last_value;
static volatile pid_t last_pid;

static void count(int signo)
{
	hits++;
	last_signo = signo;
}

static void count_info(int signo, siginfo_t *info, void *uc)
{
	(void)uc;
	hits++;
	last_signo = signo;
	last_code = info->si_code;
	last_pid = info->si_pid;
	last_value = info->si_value.sival_int;
}

static void handle(int signo, int flags)
{
	struct sigaction sa = {.sa_flags = flags};

	if (flags & SA_SIGINFO)
		sa.sa_sigaction = count_info;
	else
		sa.sa_handler = count;
	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static void block(int how, int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	EXPECT_OK(sigprocmask(how, &set, NULL));
}

/* ---- hostile arguments ---- */

TEST(sigaction_refuses_bad_arguments)
{
	struct sigaction sa = {.sa_handler = count};
	char kernel_act[32] = {0};

	EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, kernel_act, NULL, 7), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, BAD_ADDR, NULL, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, NULL, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigaction, 0, NULL, NULL, 8), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigaction, -1, NULL, NULL, 8), EINVAL);
	EXPECT_ERRNO(sigaction(SIGKILL, &sa, NULL), EINVAL);
	EXPECT_ERRNO(sigaction(SIGSTOP, &sa, NULL), EINVAL);
	EXPECT_OK(syscall(SYS_rt_sigaction, SIGKILL, NULL, kernel_act, 8));
}

TEST(sigprocmask_refuses_bad_arguments)
{
	uint64_t set = ~0ULL, old = 0;

	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 4), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, 3, &set, NULL, 8), EINVAL);
	EXPECT_OK(syscall(SYS_rt_sigprocmask, 3, NULL, &old, 8));
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD_ADDR, NULL, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, BAD_ADDR, 8), EFAULT);
	EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8));
	EXPECT_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &old, 8));
	EXPECT_EQ(old, ~((1ULL << (SIGKILL - 1)) | (1ULL << (SIGSTOP - 1))));
}

TEST(kill_refuses_bad_arguments)
{
	EXPECT_ERRNO(kill(getpid(), 65), EINVAL);
	EXPECT_ERRNO(kill(getpid(), -1), EINVAL);
	EXPECT_ERRNO(kill(0x3fffffff, 0), ESRCH);
	EXPECT_ERRNO(kill(-0x3fffffff, SIGUSR1), ESRCH);
	EXPECT_ERRNO(kill((pid_t)0x80000000, SIGUSR1), ESRCH);
	EXPECT_OK(kill(getpid(), 0));
	EXPECT_ERRNO(syscall(SYS_tgkill, 0, getpid(), 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_tgkill, getpid(), 0, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_tgkill, getppid(), getpid(), 0), ESRCH);
	EXPECT_ERRNO(syscall(SYS_tkill, 0, 0), EINVAL);
	EXPECT_OK(syscall(SYS_tkill, gettid(), 0));
}

TEST(sigqueue_cannot_pretend_to_be_the_kernel)
{
	siginfo_t info = {.si_code = SI_USER};

	EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info), EPERM);
	info.si_code = SI_TKILL;
	EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info), EPERM);
	info.si_code = SI_QUEUE;
	EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info));
	EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), -1, SIGUSR1, &info), EINVAL);
}

/* ---- handlers ---- */

TEST(handler_sees_who_sent_it)
{
	handle(SIGUSR1, SA_SIGINFO);
	EXPECT_OK(kill(getpid(), SIGUSR1));
	EXPECT_EQ(hits, 1);
	EXPECT_EQ(last_code, SI_USER);
	EXPECT_EQ(last_pid, getpid());
	EXPECT_OK(raise(SIGUSR1));
	EXPECT_EQ(last_code, SI_TKILL);
	union sigval v = {.sival_int = 1234};
	EXPECT_OK(sigqueue(getpid(), SIGUSR1, v));
	EXPECT_EQ(last_code, SI_QUEUE);
	EXPECT_EQ(last_value, 1234);
}

static double keep_fp(double x)
{
	double y = x * 3.25;
	raise(SIGUSR1);
	return y + x;
}

static void spoil_fp(int signo)
{
	double junk = signo;
	long double junk2 = signo;

	for (int i = 0; i < 20; i++) {
		junk = junk * 1.7 + 0.3;
		junk2 = junk2 * 1.1L;
	}
	last_value = (int)(junk + (double)junk2);
	__asm__ volatile("pxor %%xmm0, %%xmm0\n\tpxor %%xmm7, %%xmm7\n\tpxor %%xmm15, %%xmm15"
			 :
			 :
			 : "xmm0", "xmm7", "xmm15");
}

TEST(handler_leaves_floating_point_state_alone)
{
	struct sigaction sa = {.sa_handler = spoil_fp};

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	for (int i = 0; i < 100; i++)
		EXPECT(keep_fp(i) == i * 4.25);
}

static void edit_context(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	(void)signo;
	(void)info;
	uc->uc_mcontext.gregs[REG_RBX] = 0x1234567;
	uc->uc_mcontext.fpregs->_xmm[5].element[0] = 0xabcd;
	sigaddset(&uc->uc_sigmask, SIGUSR2);
}

TEST(handler_may_edit_registers_and_mask_in_its_frame)
{
	struct sigaction sa = {.sa_sigaction = edit_context, .sa_flags = SA_SIGINFO};
	uint64_t rbx;
	uint32_t xmm5;
	sigset_t now;

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	__asm__ volatile("xor %%ebx, %%ebx\n\tpxor %%xmm5, %%xmm5\n\tsyscall\n\t"
			 "mov %%rbx, %0\n\tmovd %%xmm5, %1"
			 : "=r"(rbx), "=r"(xmm5)
			 : "a"(SYS_tgkill), "D"((long)getpid()), "S"((long)gettid()),
			   "d"((long)SIGUSR1)
			 : "rbx", "rcx", "r11", "xmm5", "memory");
	EXPECT_EQ(rbx, 0x1234567);
	EXPECT_EQ(xmm5, 0xabcd);
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT(sigismember(&now, SIGUSR2) == 1);
}

static char *alt_low;
static volatile int on_alt, alt_flags;

static void look_at_stack(int signo)
{
	char here;
	stack_t ss;

	(void)signo;
	on_alt = &here >= alt_low && &here < alt_low + 65536;
	if (!sigaltstack(NULL, &ss))
		alt_flags = ss.ss_flags;
	ss.ss_flags = SS_DISABLE;
	last_value = sigaltstack(&ss, NULL) ? errno : 0;
}

TEST(altstack_is_used_and_cannot_be_changed_on_it)
{
	struct sigaction sa = {.sa_handler = look_at_stack, .sa_flags = SA_ONSTACK};
	stack_t ss = {.ss_size = 65536}, old;

	alt_low = ss.ss_sp = malloc(65536);
	EXPECT_ERRNO(syscall(SYS_sigaltstack, BAD_ADDR, NULL), EFAULT);
	EXPECT_ERRNO(syscall(SYS_sigaltstack, NULL, BAD_ADDR), EFAULT);
	EXPECT_OK(sigaltstack(NULL, &old));
	EXPECT_EQ(old.ss_flags, SS_DISABLE);
	EXPECT_OK(sigaltstack(&ss, NULL));
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	EXPECT_EQ(on_alt, 1);
	EXPECT_EQ(alt_flags, SS_ONSTACK);
	EXPECT_EQ(last_value, EPERM);
	sa.sa_flags = 0;
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	EXPECT_EQ(on_alt, 0);
}

static void overflow(void *arg)
{
	struct sigaction sa = {.sa_handler = look_at_stack};
	stack_t ss = {.ss_size = 65536};

	(void)arg;
	ss.ss_sp = malloc(65536);
	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL); /* not on the alternate stack: no room for a frame */
	__asm__ volatile("mov $16, %rsp\n\tpush %rax");
}

TEST(frame_without_room_kills)
{
	int status = test_child(overflow, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

static void bad_return(void *arg)
{
	(void)arg;
	__asm__ volatile("mov $15, %eax\n\tsyscall");
	_exit(3);
}

TEST(sigreturn_without_a_frame_kills_the_caller_only)
{
	int status = test_child(bad_return, NULL);

	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

static void non_canonical(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	(void)info;
	if (signo == SIGSEGV)
		_exit(42);
	uc->uc_mcontext.gregs[REG_RIP] = (long long)0x8000000000000000ULL;
}

static void return_to_nowhere(void *arg)
{
	struct sigaction sa = {.sa_sigaction = non_canonical, .sa_flags = SA_SIGINFO};

	(void)arg;
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	raise(SIGUSR1);
	_exit(1);
}

TEST(sigreturn_to_a_non_canonical_address_is_sigsegv)
{
	int status = test_child(return_to_nowhere, NULL);

	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(resethand_works_once_and_nodefer_nests)
{
	struct sigaction old;

	handle(SIGUSR1, (int)SA_RESETHAND);
	raise(SIGUSR1);
	EXPECT_EQ(hits, 1);
	EXPECT_OK(sigaction(SIGUSR1, NULL, &old));
	EXPECT(old.sa_handler == SIG_DFL);
}

/* ---- queues ---- */

TEST(standard_signals_coalesce_and_realtime_ones_queue_in_order)
{
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	for (int i = 0; i < 3; i++) {
		union sigval v = {.sival_int = i};
		EXPECT_OK(sigqueue(getpid(), SIGRTMIN + 1, v));
		EXPECT_OK(sigqueue(getpid(), SIGUSR1, v));
	}
	sigset_t pending;
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGUSR1), 1);
	EXPECT_EQ(sigismember(&pending, SIGHUP), 0);
	EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	EXPECT_EQ(info.si_value.sival_int, 0);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(sigwaitinfo(&set, &info), SIGRTMIN + 1);
		EXPECT_EQ(info.si_value.sival_int, i);
	}
	EXPECT_ERRNO(sigtimedwait(&set, &info, &(struct timespec){0}), EAGAIN);
}

TEST(ignoring_discards_what_is_pending)
{
	sigset_t pending;

	block(SIG_BLOCK, SIGUSR1);
	raise(SIGUSR1);
	signal(SIGUSR1, SIG_IGN);
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGUSR1), 0);
}

TEST(sigpending_limit_gives_eagain)
{
	struct rlimit lim = {4, 4};
	union sigval v = {0};
	int n = 0;

	block(SIG_BLOCK, SIGRTMIN + 2);
	EXPECT_OK(setrlimit(RLIMIT_SIGPENDING, &lim));
	while (n < 100 && sigqueue(getpid(), SIGRTMIN + 2, v) == 0)
		n++;
	EXPECT(n <= 4);
	EXPECT_ERRNO(sigqueue(getpid(), SIGRTMIN + 2, v), EAGAIN);
}

TEST(sigtimedwait_waits_and_times_out)
{
	struct timespec ts = {.tv_nsec = 20000000}, bad = {.tv_nsec = 1000000000}, t0, t1;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	clock_gettime(CLOCK_MONOTONIC, &t0);
	EXPECT_ERRNO(sigtimedwait(&set, NULL, &ts), EAGAIN);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	EXPECT((t1.tv_sec - t0.tv_sec) * 1000000000LL + t1.tv_nsec - t0.tv_nsec >= 20000000);
	EXPECT_ERRNO(sigtimedwait(&set, NULL, &bad), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, BAD_ADDR, NULL, NULL, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, &set, NULL, NULL, 16), EINVAL);
	pid_t pid = fork();
	if (pid == 0) {
		test_sleep_ms(20);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	EXPECT_EQ(sigwaitinfo(&set, NULL), SIGUSR1);
	waitpid(pid, NULL, 0);
}

/* ---- interrupted calls ---- */

static void signal_later(int signo, int ms)
{
	pid_t parent = getpid();

	signal(SIGCHLD, SIG_IGN);
	if (fork() == 0) {
		test_sleep_ms(ms);
		kill(parent, signo);
		test_sleep_ms(100);
		_exit(0);
	}
}

TEST(read_is_interrupted_without_sa_restart)
{
	int p[2];
	char c;

	EXPECT_OK(pipe(p));
	handle(SIGUSR1, 0);
	signal_later(SIGUSR1, 20);
	EXPECT_ERRNO(read(p[0], &c, 1), EINTR);
	EXPECT_EQ(hits, 1);
}

TEST(read_restarts_with_sa_restart)
{
	pid_t parent = getpid();
	int p[2];
	char c;

	EXPECT_OK(pipe(p));
	handle(SIGUSR1, SA_RESTART);
	signal(SIGCHLD, SIG_IGN);
	if (fork() == 0) {
		test_sleep_ms(20);
		kill(parent, SIGUSR1);
		test_sleep_ms(20);
		_exit(write(p[1], "x", 1) != 1);
	}
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(hits, 1);
}

TEST(nanosleep_tells_what_is_left)
{
	struct timespec req = {.tv_sec = 5}, rem = {0};

	handle(SIGUSR1, SA_RESTART);
	signal_later(SIGUSR1, 20);
	EXPECT_ERRNO(nanosleep(&req, &rem), EINTR);
	EXPECT(rem.tv_sec == 4);
}

TEST(sleep_goes_on_after_stop_and_continue)
{
	struct timespec t0, t1;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	pid_t pid = fork();
	if (pid == 0) {
		struct timespec ts = {.tv_nsec = 200000000};
		_exit(nanosleep(&ts, NULL) ? errno : 0);
	}
	test_sleep_ms(20);
	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
	EXPECT(WIFCONTINUED(status));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	EXPECT((t1.tv_sec - t0.tv_sec) * 1000000000LL + t1.tv_nsec - t0.tv_nsec >= 200000000);
}

TEST(sigsuspend_puts_the_mask_back)
{
	sigset_t none, now;

	handle(SIGUSR1, 0);
	block(SIG_BLOCK, SIGUSR1);
	raise(SIGUSR1);
	sigemptyset(&none);
	EXPECT_ERRNO(sigsuspend(&none), EINTR);
	EXPECT_EQ(hits, 1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
	EXPECT_ERRNO(syscall(SYS_rt_sigsuspend, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigsuspend, &none, 4), EINVAL);
}

TEST(ppoll_lets_the_masked_signal_in)
{
	struct timespec ts = {.tv_sec = 5};
	sigset_t none, now;

	handle(SIGUSR1, SA_RESTART);
	block(SIG_BLOCK, SIGUSR1);
	raise(SIGUSR1);
	sigemptyset(&none);
	EXPECT_ERRNO(ppoll(NULL, 0, &ts, &none), EINTR);
	EXPECT_EQ(hits, 1);
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
	raise(SIGUSR1);
	EXPECT_ERRNO(pselect(0, NULL, NULL, NULL, &ts, &none), EINTR);
	EXPECT_EQ(hits, 2);
	int ep = (int)EXPECT_OK(epoll_create1(0));
	struct epoll_event ev;
	raise(SIGUSR1);
	EXPECT_ERRNO(epoll_pwait(ep, &ev, 1, 5000, &none), EINTR);
	EXPECT_EQ(hits, 3);
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT_EQ(sigismember(&now, SIGUSR1), 1);
}

/* ---- processes and threads ---- */

static void spin(void *arg)
{
	(void)arg;
	for (;;)
		__asm__ volatile("" ::: "memory");
}

TEST(kill_reaches_a_process_that_makes_no_calls)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		spin(NULL);
	test_sleep_ms(20);
	EXPECT_OK(kill(pid, SIGTERM));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(stop_and_continue_reach_a_spinning_process)
{
	int status;
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		spin(NULL);
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(kill(pid, SIGSTOP));
		EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WSTOPPED));
		EXPECT_EQ(info.si_code, CLD_STOPPED);
		EXPECT_EQ(info.si_status, SIGSTOP);
		EXPECT_OK(kill(pid, SIGCONT));
		EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WCONTINUED));
		EXPECT_EQ(info.si_code, CLD_CONTINUED);
	}
	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_OK(waitid(P_PID, (id_t)pid, &info, WSTOPPED));
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

static void *thread_spin(void *arg)
{
	spin(arg);
	return NULL;
}

TEST(stop_takes_every_thread)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t th;
		pthread_create(&th, NULL, thread_spin, NULL);
		pthread_create(&th, NULL, thread_spin, NULL);
		pause();
		_exit(1);
	}
	test_sleep_ms(50);
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(kill(pid, SIGSTOP));
		EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
		EXPECT(WIFSTOPPED(status));
		EXPECT_OK(kill(pid, SIGCONT));
		EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
	}
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

static pthread_barrier_t barrier;
static volatile pid_t handler_tid;

static void note_tid(int signo)
{
	(void)signo;
	handler_tid = gettid();
}

static void *blocked_thread(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return arg;
}

TEST(process_signal_finds_the_thread_that_does_not_block_it)
{
	struct sigaction sa = {.sa_handler = note_tid};
	pthread_t th;

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	EXPECT_OK(-pthread_barrier_init(&barrier, NULL, 2));
	EXPECT_OK(-pthread_create(&th, NULL, blocked_thread, NULL));
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20; i++) {
		handler_tid = 0;
		EXPECT_OK(kill(getpid(), SIGUSR1));
		EXPECT_EQ(handler_tid, gettid());
	}
	pthread_barrier_wait(&barrier);
	pthread_join(th, NULL);
}

static void *wait_in_thread(void *arg)
{
	sigset_t set;
	int signo;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_barrier_wait(&barrier);
	*(int *)arg = sigwait(&set, &signo) ? -1 : signo;
	return NULL;
}

TEST(sigwait_in_a_thread_takes_a_process_signal)
{
	pthread_t th;
	int got = 0;

	block(SIG_BLOCK, SIGUSR2);
	EXPECT_OK(-pthread_barrier_init(&barrier, NULL, 2));
	EXPECT_OK(-pthread_create(&th, NULL, wait_in_thread, &got));
	pthread_barrier_wait(&barrier);
	test_sleep_ms(10);
	EXPECT_OK(kill(getpid(), SIGUSR2));
	pthread_join(th, NULL);
	EXPECT_EQ(got, SIGUSR2);
}

TEST(segv_tells_the_address)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct sigaction sa = {.sa_sigaction = count_info, .sa_flags = SA_SIGINFO};
		sigaction(SIGUSR1, &sa, NULL);
		signal(SIGSEGV, SIG_IGN); /* a fault cannot be ignored */
		*(volatile int *)0x10 = 1;
		_exit(1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status));
	EXPECT_EQ(WTERMSIG(status), SIGSEGV);
}

static void *volatile fault_addr;
static volatile int fault_code, fault_trapno;
static volatile long fault_cr2;

static void on_fault(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	(void)signo;
	fault_addr = info->si_addr;
	fault_code = info->si_code;
	fault_trapno = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
	fault_cr2 = (long)uc->uc_mcontext.gregs[REG_CR2];
	/* Skip the faulting instruction: movb $1, (%rax) is three bytes. */
	uc->uc_mcontext.gregs[REG_RIP] += 3;
}

static void poke(void *p)
{
	__asm__ volatile("movb $1, (%0)" : : "a"(p) : "memory");
}

TEST(fault_handler_sees_address_code_and_trap)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	char *ro = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_OK(sigaction(SIGSEGV, &sa, NULL));
	poke((void *)0x18);
	EXPECT(fault_addr == (void *)0x18);
	EXPECT_EQ(fault_code, SEGV_MAPERR);
	EXPECT_EQ(fault_trapno, 14);
	EXPECT_EQ(fault_cr2, 0x18);
	poke(ro + 5);
	EXPECT(fault_addr == ro + 5);
	EXPECT_EQ(fault_code, SEGV_ACCERR);
	poke((void *)0x8000000000000000);
	EXPECT(fault_addr == NULL);
	EXPECT_EQ(fault_code, SI_KERNEL);
	EXPECT_EQ(fault_trapno, 13);
}

TEST(group_kill_reaches_the_whole_group)
{
	int status, p[2];
	char c;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		if (fork() == 0)
			pause();
		pause();
	}
	setpgid(pid, pid);
	close(p[1]);
	test_sleep_ms(20);
	EXPECT_OK(kill(-pid, SIGTERM));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGTERM);
	EXPECT_EQ(read(p[0], &c, 1), 0); /* the grandchild is gone as well */
}

TEST(unprivileged_kill_needs_the_same_user)
{
	if (getuid())
		test_skip("needs root");
	int status;
	pid_t root = fork();
	if (root == 0)
		pause();
	pid_t user = fork();
	if (user == 0) {
		if (setuid(12345))
			_exit(1);
		if (kill(root, 0) != -1 || errno != EPERM)
			_exit(2);
		if (kill(root, SIGTERM) != -1 || errno != EPERM)
			_exit(3);
		if (kill(root, SIGCONT)) /* same session */
			_exit(4);
		_exit(kill(getpid(), 0) ? 5 : 0);
	}
	EXPECT_EQ(waitpid(user, &status, 0), user);
	EXPECT_EQ(status, 0);
	EXPECT_OK(kill(root, SIGKILL));
	EXPECT_EQ(waitpid(root, &status, 0), root);
}

/* Signals, continued: what handlers see, restarts of each kind of call, SIGCHLD, job control. */
#include "tests/compat/compat.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <ucontext.h>

static volatile sig_atomic_t hits, depth, deepest;
static volatile siginfo_t last;
static volatile int order[16], orders;

static void count(int signo)
{
	(void)signo;
	hits++;
}

static void note_info(int signo, siginfo_t *info, void *uc)
{
	(void)uc;
	hits++;
	last = *info;
	if (orders < 16)
		order[orders++] = signo;
}

static void handle(int signo, void (*fn)(int), int flags)
{
	struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};

	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static void handle_info(int signo, int flags)
{
	struct sigaction sa = {.sa_sigaction = note_info, .sa_flags = flags | SA_SIGINFO};

	EXPECT_OK(sigaction(signo, &sa, NULL));
}

static void mask(int how, int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	EXPECT_OK(sigprocmask(how, &set, NULL));
}

/* A child that sends `signo` to us after `ms`, `n` times. */
static pid_t sender(int signo, int ms, int n)
{
	pid_t parent = getpid(), pid = fork();

	EXPECT(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < n; i++) {
			test_sleep_ms(ms);
			kill(parent, signo);
		}
		_exit(0);
	}
	return pid;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* ---- hostile arguments ---- */

TEST(signal_calls_refuse_hostile_sizes_and_pointers)
{
	uint64_t set = 0;
	siginfo_t info = {.si_code = SI_QUEUE};
	stack_t ss = {.ss_sp = &info, .ss_size = 100}, odd = {.ss_flags = 77};

	EXPECT_ERRNO(syscall(SYS_rt_sigpending, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigpending, &set, 9), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigpending, &set, ~0UL), EINVAL);
	EXPECT_ERRNO(sigaltstack(&ss, NULL), ENOMEM);
	EXPECT_ERRNO(sigaltstack(&odd, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, &set, NULL, BAD_ADDR, 8), EFAULT);
	EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), 65, &info), EINVAL);
	EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, 0x3fffffff, SIGUSR1, &info), ESRCH);
	EXPECT_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), getppid(), SIGUSR1, &info), ESRCH);
	EXPECT_ERRNO(syscall(SYS_tgkill, getpid(), gettid(), 65), EINVAL);
}

TEST(sigtimedwait_fault_on_the_info_still_takes_the_signal)
{
	uint64_t set = 1UL << (SIGUSR1 - 1);
	sigset_t pending;

	mask(SIG_BLOCK, SIGUSR1);
	raise(SIGUSR1);
	EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, &set, BAD_ADDR, NULL, 8), EFAULT);
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGUSR1), 0);
}

/* ---- siginfo ---- */

TEST(siginfo_tells_each_kind_of_sender)
{
	union sigval v = {.sival_ptr = (void *)0x123456789abcdef0};

	handle_info(SIGUSR1, 0);
	EXPECT_OK(kill(getpid(), SIGUSR1));
	EXPECT_EQ(last.si_code, SI_USER);
	EXPECT_EQ(last.si_pid, getpid());
	EXPECT_EQ(last.si_uid, getuid());
	EXPECT_OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	EXPECT_EQ(last.si_code, SI_TKILL);
	EXPECT_EQ(last.si_pid, getpid());
	EXPECT_OK(sigqueue(getpid(), SIGUSR1, v));
	EXPECT_EQ(last.si_code, SI_QUEUE);
	EXPECT(last.si_value.sival_ptr == v.sival_ptr);
	EXPECT_EQ(last.si_pid, getpid());
	siginfo_t own = {.si_code = -77};
	own.si_value.sival_int = 5;
	EXPECT_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &own));
	EXPECT_EQ(last.si_code, -77);
	EXPECT_EQ(last.si_signo, SIGUSR1);
	EXPECT_EQ(last.si_value.sival_int, 5);
	own.si_code = SI_TKILL; /* to oneself one may lie */
	EXPECT_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &own));
	EXPECT_EQ(last.si_code, SI_TKILL);
	EXPECT_EQ(hits, 5);
}

static void exit_7(void *arg)
{
	(void)arg;
	_exit(7);
}

static void die_of_term(void *arg)
{
	(void)arg;
	raise(SIGTERM);
}

TEST(sigchld_tells_how_the_child_ended)
{
	handle_info(SIGCHLD, 0);
	test_child(exit_7, NULL);
	EXPECT_EQ(last.si_code, CLD_EXITED);
	EXPECT_EQ(last.si_status, 7);
	EXPECT_EQ(last.si_uid, getuid());
	test_child(die_of_term, NULL);
	EXPECT_EQ(last.si_code, CLD_KILLED);
	EXPECT_EQ(last.si_status, SIGTERM);
	EXPECT_EQ(hits, 2);
}

static pid_t stopping_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		raise(SIGSTOP);
		_exit(0);
	}
	return pid;
}

TEST(sigchld_for_stops_unless_nocldstop)
{
	int status;

	handle_info(SIGCHLD, 0);
	pid_t pid = stopping_child();
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	while (!hits)
		test_sleep_ms(1);
	EXPECT_EQ(last.si_code, CLD_STOPPED);
	EXPECT_EQ(last.si_status, SIGSTOP);
	EXPECT_EQ(last.si_pid, pid);
	mask(SIG_BLOCK, SIGCHLD);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);

	handle_info(SIGCHLD, SA_NOCLDSTOP);
	mask(SIG_UNBLOCK, SIGCHLD);
	hits = 0;
	pid = stopping_child();
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	test_sleep_ms(20);
	EXPECT_EQ(hits, 0);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(last.si_code, CLD_EXITED);
}

TEST(sigchld_nocldwait_reaps_but_still_signals)
{
	handle_info(SIGCHLD, SA_NOCLDWAIT | SA_RESTART);
	pid_t pid = fork();
	if (pid == 0)
		_exit(3);
	EXPECT_ERRNO(waitpid(pid, NULL, 0), ECHILD);
	EXPECT_EQ(hits, 1);
	EXPECT_EQ(last.si_pid, pid);
}

TEST(wait_for_all_ends_with_echild_when_children_are_not_kept)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 0; i < 3; i++)
		if (fork() == 0) {
			test_sleep_ms(10 * i);
			_exit(0);
		}
	EXPECT_ERRNO(wait(NULL), ECHILD);
}

/* ---- nesting, masks and stacks ---- */

static void nest(int signo)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	if (hits++ < 4)
		raise(signo);
	depth--;
}

TEST(nodefer_nests_and_the_default_defers)
{
	handle(SIGUSR1, nest, SA_NODEFER);
	raise(SIGUSR1);
	EXPECT_EQ(deepest, 5);
	EXPECT_EQ(hits, 5);
	hits = deepest = 0;
	handle(SIGUSR1, nest, 0);
	raise(SIGUSR1);
	EXPECT_EQ(deepest, 1);
	EXPECT_EQ(hits, 5);
}

static void raise_other(int signo)
{
	order[orders++] = signo;
	if (signo == SIGUSR1)
		raise(SIGUSR2);
	order[orders++] = -signo;
}

TEST(sa_mask_defers_other_signals)
{
	struct sigaction sa = {.sa_handler = raise_other};

	handle(SIGUSR2, raise_other, 0);
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	EXPECT(order[0] == SIGUSR1 && order[1] == SIGUSR2 && order[2] == -SIGUSR2 &&
	       order[3] == -SIGUSR1);
	orders = 0;
	sigaddset(&sa.sa_mask, SIGUSR2);
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	EXPECT(order[0] == SIGUSR1 && order[1] == -SIGUSR1 && order[2] == SIGUSR2 &&
	       order[3] == -SIGUSR2);
}

TEST(pending_signals_are_delivered_lowest_first_realtime_last)
{
	sigset_t set, old;

	sigemptyset(&set);
	for (int s = SIGRTMIN + 3; s >= SIGRTMIN; s -= 3) {
		handle_info(s, 0);
		sigaddset(&set, s);
	}
	handle_info(SIGUSR1, 0);
	handle_info(SIGHUP, 0);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, &old));
	raise(SIGRTMIN + 3);
	raise(SIGRTMIN);
	raise(SIGUSR1);
	raise(SIGHUP);
	EXPECT_OK(sigprocmask(SIG_SETMASK, &old, NULL));
	/* Frames are stacked as signals are taken, so that the last one taken runs first. */
	EXPECT_EQ(orders, 4);
	EXPECT_EQ(order[0], SIGRTMIN + 3);
	EXPECT_EQ(order[1], SIGRTMIN);
	EXPECT_EQ(order[2], SIGUSR1);
	EXPECT_EQ(order[3], SIGHUP);
}

static void only_count(int signo)
{
	(void)signo;
	hits++;
}

static char *altstack_low;
static stack_t inside;

static void look_at_altstack(int signo)
{
	(void)signo;
	hits++;
	sigaltstack(NULL, &inside);
	char here;
	depth = &here >= altstack_low && &here < altstack_low + 65536;
	if (hits == 1)
		raise(SIGUSR1);
}

TEST(altstack_frames_nest_on_it)
{
	stack_t ss = {.ss_size = 65536, .ss_sp = altstack_low = malloc(65536)};

	EXPECT_OK(sigaltstack(&ss, NULL));
	handle(SIGUSR1, look_at_altstack, SA_ONSTACK | SA_NODEFER);
	raise(SIGUSR1);
	EXPECT_EQ(hits, 2);
	EXPECT_EQ(depth, 1);
	EXPECT_EQ(inside.ss_flags, SS_ONSTACK);
	EXPECT_OK(sigaltstack(NULL, &ss));
	EXPECT_EQ(ss.ss_flags, 0);
	EXPECT(ss.ss_sp == altstack_low);
}

TEST(altstack_autodisarm_takes_it_away_during_the_handler)
{
	enum { AUTODISARM = 1U << 31 };
	stack_t ss = {.ss_size = 65536, .ss_sp = altstack_low = malloc(65536)};

	ss.ss_flags = (int)AUTODISARM;
	EXPECT_OK(sigaltstack(&ss, NULL));
	hits = 1;
	handle(SIGUSR1, look_at_altstack, SA_ONSTACK);
	raise(SIGUSR1);
	EXPECT_EQ(depth, 1);
	EXPECT_EQ(inside.ss_flags, SS_DISABLE);
	EXPECT_OK(sigaltstack(NULL, &ss));
	EXPECT_EQ((unsigned)ss.ss_flags, (unsigned)AUTODISARM);
	EXPECT(ss.ss_sp == altstack_low);
}

static void altstack_of_child(void *arg)
{
	stack_t ss;

	sigaltstack(NULL, &ss);
	_exit(ss.ss_sp == arg ? 0 : 1);
}

static void *altstack_of_thread(void *arg)
{
	stack_t ss;

	sigaltstack(NULL, &ss);
	*(int *)arg = ss.ss_flags;
	return NULL;
}

TEST(altstack_is_inherited_by_fork_but_not_by_threads)
{
	stack_t ss = {.ss_size = 65536, .ss_sp = malloc(65536)};
	pthread_t th;
	int flags = -1;

	EXPECT_OK(sigaltstack(&ss, NULL));
	EXPECT_EQ(test_child(altstack_of_child, ss.ss_sp), 0);
	EXPECT_OK(-pthread_create(&th, NULL, altstack_of_thread, &flags));
	pthread_join(th, NULL);
	EXPECT_EQ(flags, SS_DISABLE);
}

static void overflow_with_altstack(void *arg)
{
	stack_t ss = {.ss_size = 65536, .ss_sp = malloc(65536)};
	struct sigaction sa = {.sa_handler = (void (*)(int))_exit, .sa_flags = SA_ONSTACK};

	(void)arg;
	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	__asm__ volatile("mov $0x1000, %rsp\n\tpush %rax");
}

TEST(altstack_catches_a_lost_stack)
{
	int status = test_child(overflow_with_altstack, NULL);

	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), SIGSEGV);
}

TEST(masks_are_inherited_by_fork_and_pending_ones_are_not)
{
	int status;

	mask(SIG_BLOCK, SIGUSR1);
	raise(SIGUSR1);
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t now, pending;
		sigprocmask(SIG_BLOCK, NULL, &now);
		sigpending(&pending);
		_exit(sigismember(&now, SIGUSR1) == 1 && !sigismember(&pending, SIGUSR1) ? 0 : 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void in_signal_mask(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;
	sigset_t now;

	(void)info;
	sigprocmask(SIG_BLOCK, NULL, &now);
	order[0] = sigismember(&now, signo);
	order[1] = sigismember(&now, SIGHUP);
	order[2] = sigismember(&uc->uc_sigmask, signo);
	order[3] = sigismember(&uc->uc_sigmask, SIGTERM);
}

TEST(handler_mask_and_saved_mask)
{
	struct sigaction sa = {.sa_sigaction = in_signal_mask, .sa_flags = SA_SIGINFO};

	sigaddset(&sa.sa_mask, SIGHUP);
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	mask(SIG_BLOCK, SIGTERM);
	raise(SIGUSR1);
	EXPECT_EQ(order[0], 1);
	EXPECT_EQ(order[1], 1);
	EXPECT_EQ(order[2], 0);
	EXPECT_EQ(order[3], 1);
	sigset_t now;
	EXPECT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	EXPECT_EQ(sigismember(&now, SIGUSR1), 0);
	EXPECT_EQ(sigismember(&now, SIGHUP), 0);
}

TEST(sigaction_tells_what_it_was_given)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} a, b;

	handle(SIGUSR1, only_count, SA_RESTART | SA_NODEFER);
	EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &a, 8));
	EXPECT(a.handler == (void *)only_count);
	EXPECT_EQ(a.flags, SA_RESTART | SA_NODEFER | 0x04000000);
	a.mask = ~0UL;
	a.flags |= 0x400; /* SA_UNSUPPORTED: never kept */
	EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, &a, NULL, 8));
	EXPECT_OK(syscall(SYS_rt_sigaction, SIGUSR1, NULL, &b, 8));
	EXPECT_EQ(b.flags, SA_RESTART | SA_NODEFER | 0x04000000);
	EXPECT_EQ(b.mask, ~(1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1)));
}

/* ---- interrupted and restarted calls ---- */

TEST(nanosleep_restarts_silently_after_an_ignored_signal)
{
	int64_t t0 = now_ms();

	signal(SIGUSR1, SIG_IGN);
	pid_t pid = sender(SIGUSR1, 10, 3);
	EXPECT_OK(usleep(60000));
	EXPECT(now_ms() - t0 >= 60);
	waitpid(pid, NULL, 0);
}

TEST(poll_select_and_epoll_are_eintr_even_with_sa_restart)
{
	struct pollfd none = {.fd = -1};
	struct epoll_event ev;
	int ep = (int)EXPECT_OK(epoll_create1(0));

	handle(SIGUSR1, count, SA_RESTART);
	pid_t pid = sender(SIGUSR1, 30, 4);
	EXPECT_ERRNO(poll(&none, 1, 5000), EINTR);
	EXPECT_ERRNO(poll(&none, 1, -1), EINTR);
	struct timeval tv = {.tv_sec = 5};
	EXPECT_ERRNO(select(0, NULL, NULL, NULL, &tv), EINTR);
	EXPECT_EQ(tv.tv_sec, 4); /* Linux tells what was left */
	EXPECT_ERRNO(epoll_wait(ep, &ev, 1, 5000), EINTR);
	EXPECT_EQ(hits, 4);
	waitpid(pid, NULL, 0);
}

TEST(poll_goes_on_after_stop_and_continue)
{
	int status;
	int64_t t0 = now_ms();

	pid_t pid = fork();
	if (pid == 0)
		_exit(poll(NULL, 0, 150));
	test_sleep_ms(20);
	for (int i = 0; i < 3; i++) {
		EXPECT_OK(kill(pid, SIGSTOP));
		EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
		EXPECT(WIFSTOPPED(status));
		EXPECT_OK(kill(pid, SIGCONT));
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT(now_ms() - t0 >= 150);
}

TEST(wait_restarts_with_sa_restart_and_is_eintr_without)
{
	int p[2];

	EXPECT_OK(pipe(p));
	pid_t child = fork();
	if (child == 0) {
		char c;
		close(p[1]);
		_exit(read(p[0], &c, 1) ? 1 : 0);
	}
	close(p[0]);
	handle(SIGUSR1, count, 0);
	pid_t s = sender(SIGUSR1, 20, 1);
	EXPECT_ERRNO(waitpid(child, NULL, 0), EINTR);
	EXPECT_EQ(hits, 1);
	waitpid(s, NULL, 0);
	handle(SIGUSR1, count, SA_RESTART);
	pid_t parent = getpid();
	s = fork();
	if (s == 0) {
		test_sleep_ms(20);
		kill(parent, SIGUSR1);
		test_sleep_ms(20);
		_exit(0);
	}
	/* The sender's end of the pipe is the last one. */
	close(p[1]);
	EXPECT_EQ(waitpid(child, NULL, 0), child);
	EXPECT_EQ(hits, 2);
	waitpid(s, NULL, 0);
}

TEST(socket_reads_with_a_timeout_are_eintr_even_with_sa_restart)
{
	int s[2];
	char c;
	struct timeval tv = {.tv_sec = 5};

	EXPECT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	EXPECT_OK(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	handle(SIGUSR1, count, SA_RESTART);
	pid_t pid = sender(SIGUSR1, 20, 1);
	EXPECT_ERRNO(recv(s[0], &c, 1, 0), EINTR);
	waitpid(pid, NULL, 0);
}

TEST(write_interrupted_after_some_bytes_tells_how_many)
{
	int p[2];
	size_t size = 1 << 20;
	char *buf = calloc(1, size);

	EXPECT_OK(pipe(p));
	int room = (int)EXPECT_OK(fcntl(p[1], F_GETPIPE_SZ));
	handle(SIGUSR1, count, SA_RESTART);
	pid_t pid = sender(SIGUSR1, 30, 1);
	EXPECT_EQ(write(p[1], buf, size), room);
	EXPECT_EQ(hits, 1);
	waitpid(pid, NULL, 0);
}

TEST(sigtimedwait_is_interrupted_by_another_signal)
{
	sigset_t set;
	struct timespec ts = {.tv_sec = 5};

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	handle(SIGUSR1, count, SA_RESTART);
	pid_t pid = sender(SIGUSR1, 20, 1);
	EXPECT_ERRNO(sigtimedwait(&set, NULL, &ts), EINTR);
	EXPECT_EQ(hits, 1);
	waitpid(pid, NULL, 0);
}

TEST(sigwait_takes_signals_that_are_ignored_by_default)
{
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	EXPECT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	pid_t pid = fork();
	if (pid == 0)
		_exit(5);
	EXPECT_EQ(sigwaitinfo(&set, &info), SIGCHLD);
	EXPECT_EQ(info.si_pid, pid);
	EXPECT_EQ(info.si_status, 5);
	waitpid(pid, NULL, 0);
}

TEST(pause_ends_only_with_a_handler)
{
	pid_t pid, parent = getpid();

	signal(SIGUSR2, SIG_IGN);
	handle(SIGUSR1, count, SA_RESTART);
	pid = fork();
	if (pid == 0) {
		test_sleep_ms(20);
		kill(parent, SIGUSR2);
		test_sleep_ms(20);
		kill(parent, SIGUSR1);
		_exit(0);
	}
	EXPECT_ERRNO(pause(), EINTR);
	EXPECT_EQ(hits, 1);
	waitpid(pid, NULL, 0);
}

/* ---- storms ---- */

TEST(every_queued_realtime_signal_arrives)
{
	enum { N = 200 };
	int status;

	handle(SIGRTMIN + 4, count, SA_RESTART);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		union sigval v = {0};
		for (int i = 0; i < N; i++)
			if (sigqueue(parent, SIGRTMIN + 4, v))
				_exit(1);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		EXPECT_EQ(errno, EINTR);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(hits, N);
}

static volatile int stop_work;
static volatile uint64_t work_done;

static void *work(void *arg)
{
	while (!stop_work)
		work_done++;
	return arg;
}

TEST(signals_to_a_busy_thread_all_get_there)
{
	enum { N = 300 };
	pthread_t th;

	handle(SIGUSR1, count, 0);
	EXPECT_OK(-pthread_create(&th, NULL, work, NULL));
	while (!work_done)
		test_sleep_ms(1);
	for (int i = 0; i < N; i++) {
		int before = hits;
		EXPECT_OK(-pthread_kill(th, SIGUSR1));
		while (hits == before)
			sched_yield();
	}
	stop_work = 1;
	pthread_join(th, NULL);
	EXPECT_EQ(hits, N);
}

TEST(a_signal_between_calls_is_never_lost)
{
	int p[2], status;
	char c;

	/* The classic race: a signal just before a blocking call must not be slept over, because
	 * it was blocked until sigsuspend. */
	mask(SIG_BLOCK, SIGUSR1);
	handle(SIGUSR1, count, 0);
	EXPECT_OK(pipe(p));
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		for (int i = 0; i < 100; i++) {
			if (read(p[0], &c, 1) != 1)
				_exit(1);
			kill(parent, SIGUSR1);
		}
		_exit(0);
	}
	sigset_t none;
	sigemptyset(&none);
	for (int i = 0; i < 100; i++) {
		EXPECT_EQ(write(p[1], "x", 1), 1);
		EXPECT_ERRNO(sigsuspend(&none), EINTR);
		EXPECT_EQ(hits, i + 1);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

/* ---- job control ---- */

TEST(sigcont_and_stops_cancel_each_other_while_pending)
{
	sigset_t pending;

	mask(SIG_BLOCK, SIGTSTP);
	mask(SIG_BLOCK, SIGCONT);
	raise(SIGTSTP);
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGTSTP), 1);
	raise(SIGCONT);
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGTSTP), 0);
	EXPECT_EQ(sigismember(&pending, SIGCONT), 1); /* nothing blocked is ignored at once */
	raise(SIGTSTP);
	EXPECT_OK(sigpending(&pending));
	EXPECT_EQ(sigismember(&pending, SIGCONT), 0);
	EXPECT_EQ(sigismember(&pending, SIGTSTP), 1);
}

TEST(sigcont_continues_even_when_blocked_and_ignored)
{
	int status, go[2];
	char byte = 0;

	EXPECT_OK(pipe(go)); /* its end would hide that it continued */
	pid_t pid = fork();
	if (pid == 0) {
		signal(SIGCONT, SIG_IGN);
		mask(SIG_BLOCK, SIGCONT);
		raise(SIGSTOP);
		EXPECT_EQ(read(go[0], &byte, 1), 1);
		_exit(12);
	}
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(waitpid(pid, &status, WCONTINUED), pid);
	EXPECT(WIFCONTINUED(status));
	EXPECT_EQ(write(go[1], &byte, 1), 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WEXITSTATUS(status), 12);
}

TEST(sigtstp_does_not_stop_an_orphaned_group)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setsid(); /* leader of a group without a parent in its session */
		raise(SIGTSTP);
		_exit(13);
	}
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 13);
}

TEST(stopped_process_takes_signals_only_when_continued)
{
	int status, p[2];
	char c;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		handle(SIGUSR1, count, 0);
		if (write(p[1], "r", 1) != 1)
			_exit(1);
		raise(SIGSTOP);
		_exit(hits == 1 ? 0 : 2);
	}
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	EXPECT_OK(kill(pid, SIGUSR1));
	test_sleep_ms(10);
	EXPECT_EQ(waitpid(pid, &status, WNOHANG | WUNTRACED), 0);
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(orphaned_stopped_group_gets_hup_and_cont)
{
	int p[2];
	char c;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		/* A session of our own, a group in it, that stops, and then we leave it alone. */
		setsid();
		pid_t inner = fork();
		if (inner == 0) {
			setpgid(0, 0);
			handle(SIGHUP, count, 0);
			raise(SIGSTOP);
			c = hits ? 'H' : 'n';
			_exit(write(p[1], &c, 1) != 1);
		}
		int status;
		waitpid(inner, &status, WUNTRACED);
		_exit(0);
	}
	close(p[1]);
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(c, 'H');
}

TEST(pdeathsig_comes_when_the_parent_dies)
{
	int p[2];
	char c;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		if (fork() == 0) {
			handle(SIGUSR1, count, 0);
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			if (write(p[1], "r", 1) != 1)
				_exit(1);
			while (!hits)
				test_sleep_ms(1);
			_exit(write(p[1], "d", 1) != 1);
		}
		pause();
	}
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_OK(kill(pid, SIGKILL));
	waitpid(pid, NULL, 0);
	close(p[1]);
	EXPECT_EQ(read(p[0], &c, 1), 1);
	EXPECT_EQ(c, 'd');
}

static volatile uint64_t frame_xmm, frame_carry;

static void note_frame(int signo, siginfo_t *info, void *p)
{
	ucontext_t *uc = p;

	(void)signo;
	(void)info;
	hits++;
	frame_xmm = uc->uc_mcontext.fpregs->_xmm[5].element[0];
	frame_carry = uc->uc_mcontext.gregs[REG_EFL] & 1;
	__asm__ volatile("pxor %%xmm5, %%xmm5" ::: "xmm5");
}

/* Often enough for a platform to take its fastest way into the handler. */
TEST(hot_call_is_interrupted_with_all_its_registers)
{
	struct sigaction sa = {.sa_sigaction = note_frame, .sa_flags = SA_SIGINFO};
	const long pid = getpid(), tid = gettid();

	hits = 0;
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	for (uint64_t i = 1; i <= 3000; i++) {
		register uint64_t r8 __asm__("r8") = i;
		uint64_t rbx;
		uint32_t xmm5;
		uint8_t carry;
		long rax = SYS_tgkill;
		__asm__ volatile("mov %%r8, %%rbx\n\tmovd %%r8d, %%xmm5\n\tstc\n\tsyscall\n\t"
				 "setc %2\n\tmov %%rbx, %0\n\tmovd %%xmm5, %1"
				 : "=m"(rbx), "=m"(xmm5), "=m"(carry), "+r"(r8), "+a"(rax)
				 : "D"(pid), "S"(tid), "d"((long)SIGUSR1)
				 : "rbx", "rcx", "r11", "xmm5", "memory", "cc");
		EXPECT_EQ(rbx, i);
		EXPECT_EQ(r8, i);
		EXPECT_EQ(xmm5, i);
		EXPECT_EQ(carry, 1);
		EXPECT_EQ(frame_xmm, i);
		EXPECT_EQ(frame_carry, 1);
		EXPECT_EQ(hits, (int)i);
	}
}

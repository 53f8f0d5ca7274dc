/* Futexes, robust lists, the word that a dying thread clears: futex(2), set_robust_list(2). */
#include "tests/compat/compat.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>

static long futex(void *word, int op, uint32_t val, const void *timeout, void *word2, uint32_t val3)
{
	return syscall(SYS_futex, word, op, val, timeout, word2, val3);
}

static uint32_t *shared_words(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

static void deadline(clockid_t clock, int ms, struct timespec *ts)
{
	EXPECT_OK(clock_gettime(clock, ts));
	ts->tv_nsec += ms * 1000000L;
	while (ts->tv_nsec >= 1000000000L) {
		ts->tv_nsec -= 1000000000L;
		ts->tv_sec++;
	}
}

/* ---- hostile arguments ---- */

TEST(futex_refuses_hostile_words)
{
	uint32_t word[2] = {0};

	EXPECT_ERRNO(futex((char *)word + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex((char *)word + 2, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(BAD_ADDR, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(BAD_ADDR, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(BAD_ADDR, FUTEX_WAKE, 1, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex((void *)-4096L, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex((void *)-4096L, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
}

TEST(futex_refuses_bad_operations_and_values)
{
	uint32_t word = 0;

	EXPECT_ERRNO(futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
	EXPECT_ERRNO(futex(&word, FUTEX_FD, 0, NULL, NULL, 0), ENOSYS);
	EXPECT_ERRNO(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_REQUEUE, (uint32_t)-1, (void *)1, &word, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)-1L, &word, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_CMP_REQUEUE, 1, (void *)1, &word, 5), EAGAIN);
	EXPECT_EQ(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

TEST(futex_refuses_bad_timeouts)
{
	uint32_t word = 0;
	struct timespec bad = {.tv_nsec = 1000000000}, negative = {.tv_sec = -1};

	EXPECT_ERRNO(futex(&word, FUTEX_WAIT, 0, BAD_ADDR, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT, 0, &bad, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_PRIVATE, 0, &negative, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET, 0, &bad, NULL, FUTEX_BITSET_MATCH_ANY),
		     EINVAL);
}

/* ---- waiting ---- */

TEST(futex_wait_times_out)
{
	uint32_t word = 3;
	struct timespec rel = {.tv_nsec = 20000000}, abs, t0, t1;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT, 3, &rel, NULL, 0), ETIMEDOUT);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_PRIVATE, 3, &rel, NULL, 0), ETIMEDOUT);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	EXPECT((t1.tv_sec - t0.tv_sec) * 1000000000LL + t1.tv_nsec - t0.tv_nsec >= 40000000);
	deadline(CLOCK_MONOTONIC, 10, &abs);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET, 3, &abs, NULL, 1), ETIMEDOUT);
	deadline(CLOCK_REALTIME, 10, &abs);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 3, &abs, NULL, 1),
		     ETIMEDOUT);
	struct timespec past = {.tv_sec = 1};
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 3, &past, NULL, 1), ETIMEDOUT);
	EXPECT_ERRNO(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 4, &past, NULL, 1), EAGAIN);
}

struct waiter {
	pthread_t thread;
	uint32_t *word;
	int op;
	uint32_t bits;
	volatile long result;
};

static void *wait_on_word(void *arg)
{
	struct waiter *w = arg;

	w->result = futex(w->word, w->op, 0, NULL, NULL, w->bits) ? errno : 0;
	return NULL;
}

static void start_waiter(struct waiter *w, uint32_t *word, int op, uint32_t bits)
{
	*w = (struct waiter){.word = word, .op = op, .bits = bits, .result = -1};
	EXPECT_OK(-pthread_create(&w->thread, NULL, wait_on_word, w));
}

/* Wakes until `n` were woken in all; the waiters may still be on their way to sleep. */
static void wake_in_all(uint32_t *word, int op, uint32_t bits, int n)
{
	int got = 0;

	for (int i = 0; i < 2000 && got < n; i++) {
		got += (int)EXPECT_OK(futex(word, op, (uint32_t)(n - got), NULL, NULL, bits));
		test_sleep_ms(1);
	}
	EXPECT_EQ(got, n);
}

TEST(futex_wakes_as_many_as_asked)
{
	struct waiter w[3];
	uint32_t word = 0;

	for (int i = 0; i < 3; i++)
		start_waiter(&w[i], &word, FUTEX_WAIT_PRIVATE, 0);
	wake_in_all(&word, FUTEX_WAKE_PRIVATE, 0, 2);
	test_sleep_ms(20);
	EXPECT_EQ((w[0].result == 0) + (w[1].result == 0) + (w[2].result == 0), 2);
	wake_in_all(&word, FUTEX_WAKE_PRIVATE, 0, 1);
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(w[i].result, 0);
	}
	EXPECT_EQ(futex(&word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 0);
}

TEST(futex_bitsets_choose_whom_to_wake)
{
	struct waiter a, b;
	uint32_t word = 0;

	start_waiter(&a, &word, FUTEX_WAIT_BITSET_PRIVATE, 1);
	start_waiter(&b, &word, FUTEX_WAIT_BITSET_PRIVATE, 2);
	wake_in_all(&word, FUTEX_WAKE_BITSET_PRIVATE, 2, 1);
	pthread_join(b.thread, NULL);
	EXPECT_EQ(b.result, 0);
	EXPECT_EQ(a.result, -1);
	EXPECT_EQ(futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 4), 0);
	wake_in_all(&word, FUTEX_WAKE_PRIVATE, 0, 1); /* any bit will do */
	pthread_join(a.thread, NULL);
	EXPECT_EQ(a.result, 0);
}

TEST(futex_requeue_moves_waiters_to_the_other_word)
{
	struct waiter w[3];
	uint32_t from = 0, to = 0;
	long moved = 0;

	for (int i = 0; i < 3; i++)
		start_waiter(&w[i], &from, FUTEX_WAIT_PRIVATE, 0);
	for (int i = 0; i < 2000 && moved < 3; i++) {
		moved += EXPECT_OK(
			futex(&from, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)(3 - moved), &to, 0));
		test_sleep_ms(1);
	}
	EXPECT_EQ(moved, 3);
	EXPECT_EQ(futex(&from, FUTEX_WAKE_PRIVATE, 3, NULL, NULL, 0), 0);
	EXPECT_EQ(futex(&to, FUTEX_WAKE_PRIVATE, 3, NULL, NULL, 0), 3);
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(w[i].result, 0);
	}
}

TEST(futex_wake_op_changes_the_second_word)
{
	uint32_t word = 0, second = 5;

	/* second += 3; wake there if it was equal to 5. */
	EXPECT_EQ(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &second,
			FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)),
		  0);
	EXPECT_EQ(second, 8);
	EXPECT_EQ(futex(&word, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &second,
			FUTEX_OP(FUTEX_OP_XOR, 8, FUTEX_OP_CMP_NE, 0)),
		  0);
	EXPECT_EQ(second, 0);
	EXPECT_ERRNO(futex(&word, FUTEX_WAKE_OP, 1, (void *)1, BAD_ADDR,
			   FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)),
		     EFAULT);
}

TEST(futex_in_shared_memory_wakes_another_process)
{
	uint32_t *word = shared_words();
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0) ? errno : 0);
	wake_in_all(word, FUTEX_WAKE, 0, 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

TEST(futex_in_a_shared_file_wakes_through_another_mapping)
{
	int status;
	test_dir();
	int fd = test_file("words", 4096);
	uint32_t *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	EXPECT(a != MAP_FAILED);
	a[7] = 0;
	pid_t pid = fork();
	if (pid == 0) {
		uint32_t *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (b == MAP_FAILED || b == a)
			_exit(99);
		_exit(futex(b + 7, FUTEX_WAIT, 0, NULL, NULL, 0) ? errno : 0);
	}
	wake_in_all(a + 7, FUTEX_WAKE, 0, 1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static volatile sig_atomic_t hits;

static void count(int signo)
{
	(void)signo;
	hits++;
}

static void signal_parent_later(int ms, uint32_t *then_wake)
{
	pid_t parent = getpid();

	signal(SIGCHLD, SIG_IGN);
	if (fork() == 0) {
		test_sleep_ms(ms);
		kill(parent, SIGUSR1);
		test_sleep_ms(ms);
		if (then_wake) {
			*then_wake = 1;
			futex(then_wake, FUTEX_WAKE, 1, NULL, NULL, 0);
		}
		_exit(0);
	}
}

TEST(futex_wait_without_sa_restart_is_eintr)
{
	struct sigaction sa = {.sa_handler = count};
	uint32_t *word = shared_words();

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	signal_parent_later(20, NULL);
	EXPECT_ERRNO(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0), EINTR);
	EXPECT_EQ(hits, 1);
}

TEST(futex_wait_with_sa_restart_goes_on)
{
	struct sigaction sa = {.sa_handler = count, .sa_flags = SA_RESTART};
	uint32_t *word = shared_words();

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	signal_parent_later(30, word);
	EXPECT_OK(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0));
	EXPECT_EQ(hits, 1);
	EXPECT_EQ(*word, 1);
}

TEST(futex_wait_with_timeout_is_eintr_even_with_sa_restart)
{
	struct sigaction sa = {.sa_handler = count, .sa_flags = SA_RESTART};
	uint32_t *word = shared_words();
	struct timespec ts = {.tv_sec = 5};

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	signal_parent_later(20, NULL);
	EXPECT_ERRNO(futex(word, FUTEX_WAIT, 0, &ts, NULL, 0), EINTR);
	EXPECT_EQ(hits, 1);
}

TEST(futex_waiter_is_killed)
{
	uint32_t *word = shared_words();
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(futex(word, FUTEX_WAIT, 0, NULL, NULL, 0) ? errno : 0);
	test_sleep_ms(20);
	EXPECT_OK(kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

/* ---- the end of a thread ---- */

TEST(robust_list_calls_refuse_bad_arguments)
{
	struct robust_list_head *head;
	size_t len;

	EXPECT_ERRNO(syscall(SYS_set_robust_list, NULL, sizeof(*head) - 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_get_robust_list, 0x3fffffff, &head, &len), ESRCH);
	EXPECT_ERRNO(syscall(SYS_get_robust_list, 0, BAD_ADDR, &len), EFAULT);
	EXPECT_ERRNO(syscall(SYS_get_robust_list, 0, &head, BAD_ADDR), EFAULT);
	EXPECT_OK(syscall(SYS_get_robust_list, 0, &head, &len));
	EXPECT_EQ(len, sizeof(*head));
	EXPECT(head != NULL); /* libc's */
}

static pthread_mutex_t *robust_mutex(void)
{
	pthread_mutex_t *m = (pthread_mutex_t *)shared_words();
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	EXPECT_OK(-pthread_mutex_init(m, &attr));
	return m;
}

static void *lock_and_leave(void *m)
{
	return (void *)(long)pthread_mutex_lock(m);
}

TEST(robust_mutex_of_a_dead_thread_is_recovered)
{
	pthread_mutex_t *m = robust_mutex();
	pthread_t th;

	EXPECT_OK(-pthread_create(&th, NULL, lock_and_leave, m));
	pthread_join(th, NULL);
	EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
	EXPECT_EQ(pthread_mutex_consistent(m), 0);
	EXPECT_EQ(pthread_mutex_unlock(m), 0);
	EXPECT_EQ(pthread_mutex_lock(m), 0);
}

TEST(robust_mutex_of_a_killed_process_wakes_the_waiter)
{
	pthread_mutex_t *m = robust_mutex();
	volatile uint32_t *held = shared_words();
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_mutex_lock(m);
		*held = 1;
		pause();
	}
	while (!*held)
		test_sleep_ms(1);
	pid_t killer = fork();
	if (killer == 0) {
		test_sleep_ms(30);
		_exit(kill(pid, SIGKILL));
	}
	EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(WTERMSIG(status), SIGKILL);
	EXPECT_EQ(waitpid(killer, &status, 0), killer);
}

TEST(robust_mutex_is_released_by_exec)
{
	pthread_mutex_t *m = robust_mutex();
	volatile uint32_t *held = shared_words();
	int p[2], status;

	EXPECT_OK(pipe(p));
	pid_t pid = fork();
	if (pid == 0) {
		dup2(p[0], STDIN_FILENO);
		close(p[0]);
		close(p[1]);
		pthread_mutex_lock(m);
		*held = 1;
		execl("/bin/cat", "cat", NULL);
		_exit(99);
	}
	while (!*held)
		test_sleep_ms(1);
	EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
	close(p[1]);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static void damaged_list(void *arg)
{
	static struct robust_list_head head;
	static struct robust_list a, b;

	(void)arg;
	if (fork() == 0) {
		a.next = &b; /* a list without an end */
		b.next = &a;
		head.list.next = &a;
		syscall(SYS_set_robust_list, &head, sizeof(head));
		_exit(0);
	}
	wait(NULL);
	head.list.next = BAD_ADDR;
	syscall(SYS_set_robust_list, &head, sizeof(head));
	_exit(7);
}

TEST(damaged_robust_lists_do_not_stop_the_exit)
{
	int status = test_child(damaged_list, NULL);

	EXPECT(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 7);
}

static char child_stack[65536] __attribute__((aligned(16)));

static int return_at_once(void *arg)
{
	(void)arg;
	return 0;
}

TEST(clear_child_tid_wakes_a_waiter_when_the_thread_ends)
{
	static volatile pid_t tid;
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		    CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID;

	int id = clone(return_at_once, child_stack + sizeof(child_stack), flags, NULL, &tid, NULL,
		       &tid);
	EXPECT(id > 0);
	for (pid_t seen; (seen = tid);) {
		EXPECT_EQ(seen, id);
		futex((void *)&tid, FUTEX_WAIT, (uint32_t)seen, NULL, NULL, 0);
	}
	/* The word is cleared a little before the number is given back. */
	for (int i = 0; i < 1000 && !syscall(SYS_tgkill, getpid(), id, 0); i++)
		test_sleep_ms(1);
	EXPECT_ERRNO(syscall(SYS_tgkill, getpid(), id, 0), ESRCH);
}

TEST(set_tid_address_moves_the_cleared_word)
{
	volatile uint32_t *word = shared_words();
	int status;

	word[0] = word[1] = 77;
	/* With its memory to itself, nobody can look: the word of a plain process stays. */
	pid_t pid = fork();
	if (pid == 0) {
		if (syscall(SYS_set_tid_address, &word[0]) != getpid())
			_exit(1);
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(word[0], 77);
	EXPECT_EQ(word[1], 77);
}

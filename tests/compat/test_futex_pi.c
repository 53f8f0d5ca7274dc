/* Priority-inheritance futexes.  Source: futex(2), pthread_mutexattr_setprotocol(3). */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>

#include "compat.h"

static long futex(void *word, int op, unsigned val, const void *timeout, void *word2, unsigned val3)
{
	return syscall(SYS_futex, word, op, val, timeout, word2, val3);
}

static uint32_t my_tid(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

TEST(futex_pi_refuses_hostile_words)
{
	uint32_t words[2] = {0, 0};
	char *odd = (char *)words + 1;

	EXPECT_ERRNO(futex(BAD_ADDR, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(BAD_ADDR, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex((void *)~3UL, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(odd, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(odd, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EINVAL);
	EXPECT_ERRNO(futex(words, FUTEX_LOCK_PI, 0, BAD_ADDR, NULL, 0), EFAULT);
	EXPECT_ERRNO(futex(words, FUTEX_WAIT_REQUEUE_PI, 0, NULL, words, 0), EINVAL);
	EXPECT_ERRNO(futex(words, FUTEX_CMP_REQUEUE_PI, 1, 0, words, 0), EINVAL);
	EXPECT_ERRNO(futex(words, FUTEX_CMP_REQUEUE_PI, 2, 0, words + 1, 0), EINVAL);
	EXPECT_ERRNO(futex(words, FUTEX_CMP_REQUEUE_PI, 1, (void *)-1L, words + 1, 0), EINVAL);
	EXPECT_ERRNO(futex(words, FUTEX_CMP_REQUEUE_PI, 1, 0, words + 1, 7), EAGAIN);
	EXPECT_ERRNO(futex(words, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0), ENOSYS);
}

TEST(futex_pi_word_holds_the_owner)
{
	uint32_t word = 0;

	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_EQ(word & FUTEX_TID_MASK, my_tid());
	EXPECT_ERRNO(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
	EXPECT_ERRNO(futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_EQ(word, 0);
	EXPECT_ERRNO(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
	EXPECT_OK(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
	EXPECT_EQ(word & FUTEX_TID_MASK, my_tid());
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}

TEST(futex_pi_owner_that_does_not_exist_is_esrch)
{
	uint32_t word = 0x3ffffff0;

	EXPECT_ERRNO(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0), ESRCH);
	EXPECT_ERRNO(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), ESRCH);
}

struct locker {
	pthread_t thread;
	uint32_t *word;
	volatile uint32_t tid;
	volatile int got, err;
	const struct timespec *deadline;
	int op;
};

static void *lock_it(void *arg)
{
	struct locker *l = arg;

	l->tid = my_tid();
	l->err = futex(l->word, l->op, 0, l->deadline, NULL, 0) ? errno : 0;
	l->got = 1;
	if (!l->err)
		EXPECT_OK(futex(l->word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	return NULL;
}

static void wait_for_waiters(volatile uint32_t *word)
{
	for (int i = 0; i < 5000 && !(*word & FUTEX_WAITERS); i++)
		test_sleep_ms(1);
	EXPECT(*word & FUTEX_WAITERS);
	test_sleep_ms(10);
}

TEST(futex_pi_unlock_hands_the_lock_to_the_waiter)
{
	uint32_t word = 0;
	struct locker l = {.word = &word, .op = FUTEX_LOCK_PI_PRIVATE};

	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	wait_for_waiters(&word);
	EXPECT_EQ(l.got, 0);
	EXPECT_EQ(word & FUTEX_TID_MASK, my_tid());
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT((word & FUTEX_TID_MASK) != my_tid());
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, 0);
	EXPECT_EQ(word, 0);
}

TEST(futex_pi_waiters_get_it_in_turn)
{
	uint32_t word = 0;
	struct locker l[4];

	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	for (int i = 0; i < 4; i++) {
		l[i] = (struct locker){.word = &word, .op = FUTEX_LOCK_PI_PRIVATE};
		EXPECT_OK(-pthread_create(&l[i].thread, NULL, lock_it, &l[i]));
	}
	wait_for_waiters(&word);
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	for (int i = 0; i < 4; i++) {
		pthread_join(l[i].thread, NULL);
		EXPECT_EQ(l[i].err, 0);
	}
	EXPECT_EQ(word & FUTEX_TID_MASK, 0);
}

TEST(futex_pi_lock_times_out)
{
	uint32_t word = 0;
	struct timespec wall = test_time_in_ms(CLOCK_REALTIME, 30), past = {1, 0};
	struct timespec mono = test_time_in_ms(CLOCK_MONOTONIC, 30);
	struct locker l = {.word = &word, .op = FUTEX_LOCK_PI_PRIVATE, .deadline = &wall};

	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, ETIMEDOUT);
	l.deadline = &mono;
	l.op = FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG;
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, ETIMEDOUT);
	l.deadline = &past;
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, ETIMEDOUT);
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_EQ(word, 0);
}

TEST(futex_pi_trylock_of_a_held_lock_is_eagain)
{
	uint32_t word = 0;
	struct locker l = {.word = &word, .op = FUTEX_TRYLOCK_PI_PRIVATE};

	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, EAGAIN);
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
}

struct circle {
	uint32_t a, b;
	volatile int second_holds_b, err;
};

static void *circle_second(void *arg)
{
	struct circle *c = arg;

	EXPECT_OK(futex(&c->b, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	c->second_holds_b = 1;
	c->err = futex(&c->a, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? errno : 0;
	EXPECT_OK(futex(&c->b, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	if (!c->err)
		EXPECT_OK(futex(&c->a, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	return NULL;
}

TEST(futex_pi_circle_of_owners_is_edeadlk)
{
	struct circle c = {0};
	pthread_t thread;

	EXPECT_OK(futex(&c.a, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_OK(-pthread_create(&thread, NULL, circle_second, &c));
	wait_for_waiters(&c.a);
	EXPECT_EQ(c.second_holds_b, 1);
	EXPECT_ERRNO(futex(&c.b, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
	EXPECT_OK(futex(&c.a, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	pthread_join(thread, NULL);
	EXPECT_EQ(c.err, 0);
}

static void nothing(int sig)
{
	(void)sig;
}

TEST(futex_pi_lock_goes_on_after_a_signal)
{
	uint32_t word = 0;
	struct locker l = {.word = &word, .op = FUTEX_LOCK_PI_PRIVATE};
	struct sigaction sa = {.sa_handler = nothing}; /* no SA_RESTART: it makes no difference */

	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	EXPECT_OK(futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	EXPECT_OK(-pthread_create(&l.thread, NULL, lock_it, &l));
	wait_for_waiters(&word);
	for (int i = 0; i < 5; i++) {
		pthread_kill(l.thread, SIGUSR1);
		test_sleep_ms(5);
	}
	EXPECT_EQ(l.got, 0);
	EXPECT_OK(futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	pthread_join(l.thread, NULL);
	EXPECT_EQ(l.err, 0);
}

/* ---- the owner's death ---- */

static uint32_t *shared_words(void)
{
	uint32_t *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	EXPECT(w != MAP_FAILED);
	return w;
}

TEST(futex_pi_waiter_in_another_process_inherits_from_a_killed_owner)
{
	uint32_t *word = shared_words();
	pid_t owner = (pid_t)EXPECT_OK(fork());

	if (!owner) {
		EXPECT_OK(futex(word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
		pause();
		_exit(1);
	}
	for (int i = 0; i < 5000 && !*(volatile uint32_t *)word; i++)
		test_sleep_ms(1);
	pid_t waiter = (pid_t)EXPECT_OK(fork());
	if (!waiter) {
		EXPECT_OK(futex(word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
		EXPECT_EQ(*word & FUTEX_TID_MASK, my_tid());
		EXPECT(*word & FUTEX_OWNER_DIED);
		_exit(0);
	}
	wait_for_waiters(word);
	kill(owner, SIGKILL);
	int status;
	EXPECT_EQ(waitpid(waiter, &status, 0), waiter);
	EXPECT_EQ(status, 0);
	waitpid(owner, NULL, 0);
}

TEST(pthread_robust_pi_mutex_tells_of_the_owners_death)
{
	pthread_mutex_t *m = (pthread_mutex_t *)shared_words();
	pthread_mutexattr_t attr;
	int status;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	EXPECT_OK(-pthread_mutex_init(m, &attr));
	pid_t child = (pid_t)EXPECT_OK(fork());
	if (!child) {
		pthread_mutex_lock(m);
		test_sleep_ms(30);
		_exit(0);
	}
	for (int i = 0; i < 5000 && !*(volatile int *)m; i++)
		test_sleep_ms(1);
	EXPECT_EQ(pthread_mutex_lock(m), EOWNERDEAD);
	EXPECT_EQ(pthread_mutex_consistent(m), 0);
	EXPECT_EQ(pthread_mutex_unlock(m), 0);
	EXPECT_EQ(waitpid(child, &status, 0), child);
}

static pthread_mutex_t counted;
static long counter;

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&counted);
		counter++;
		pthread_mutex_unlock(&counted);
	}
	return NULL;
}

TEST(pthread_pi_mutex_excludes)
{
	pthread_mutexattr_t attr;
	pthread_t thread[4];

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	EXPECT_OK(-pthread_mutex_init(&counted, &attr));
	for (int i = 0; i < 4; i++)
		EXPECT_OK(-pthread_create(&thread[i], NULL, count, NULL));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(counter, 8000);
}

/* ---- requeueing ---- */

struct cond_waiter {
	pthread_t thread;
	uint32_t *cond, *lock;
	volatile int err, done;
	const struct timespec *deadline;
};

static void *cond_wait(void *arg)
{
	struct cond_waiter *w = arg;

	w->err = futex(w->cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 0, w->deadline, w->lock, 0) ? errno
											   : 0;
	if (!w->err) {
		EXPECT_EQ(*w->lock & FUTEX_TID_MASK, my_tid());
		EXPECT_OK(futex(w->lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	}
	w->done = 1;
	return NULL;
}

static void requeue_in_all(uint32_t *cond, uint32_t *lock, int n)
{
	int moved = 0;

	for (int i = 0; i < 5000 && moved < n; i++) {
		moved += (int)EXPECT_OK(
			futex(cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)INT_MAX, lock, 0));
		test_sleep_ms(1);
	}
	EXPECT_EQ(moved, n);
}

TEST(futex_requeue_pi_gives_a_held_lock_later)
{
	uint32_t cond = 0, lock = 0;
	struct cond_waiter w[3];

	EXPECT_OK(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	for (int i = 0; i < 3; i++) {
		w[i] = (struct cond_waiter){.cond = &cond, .lock = &lock};
		EXPECT_OK(-pthread_create(&w[i].thread, NULL, cond_wait, &w[i]));
	}
	requeue_in_all(&cond, &lock, 3);
	test_sleep_ms(10);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(w[i].done, 0);
	EXPECT_EQ(lock, my_tid() | FUTEX_WAITERS);
	EXPECT_OK(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	for (int i = 0; i < 3; i++) {
		pthread_join(w[i].thread, NULL);
		EXPECT_EQ(w[i].err, 0);
	}
	EXPECT_EQ(lock & FUTEX_TID_MASK, 0);
}

TEST(futex_requeue_pi_gives_a_free_lock_at_once)
{
	uint32_t cond = 0, lock = 0;
	struct cond_waiter w = {.cond = &cond, .lock = &lock};

	EXPECT_OK(-pthread_create(&w.thread, NULL, cond_wait, &w));
	requeue_in_all(&cond, &lock, 1);
	pthread_join(w.thread, NULL);
	EXPECT_EQ(w.err, 0);
}

TEST(futex_requeue_pi_only_to_the_lock_that_was_named)
{
	uint32_t cond = 0, lock = 0, other = 0;
	struct timespec at = test_time_in_ms(CLOCK_MONOTONIC, 100);
	struct cond_waiter w = {.cond = &cond, .lock = &lock, .deadline = &at};

	EXPECT_ERRNO(futex(&cond, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 5, NULL, &lock, 0), EAGAIN);
	EXPECT_OK(-pthread_create(&w.thread, NULL, cond_wait, &w));
	test_sleep_ms(30);
	EXPECT_ERRNO(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)INT_MAX, &other, 0),
		     EINVAL);
	pthread_join(w.thread, NULL);
	EXPECT_EQ(w.err, ETIMEDOUT);
	EXPECT_EQ(futex(&cond, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, (void *)INT_MAX, &lock, 0), 0);
}

/* futex_waitv(2), futex_wait, futex_wake, futex_requeue: on the words that futex(2) uses, too. */
#include <linux/futex.h>
#include <pthread.h>

#include "tests/compat/compat.h"

#define NR_WAITV 449
#define NR_WAKE 454
#define NR_WAIT 455
#define NR_REQUEUE 456
#define U32 2
#define PRIVATE 128

struct waiter {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

static long waitv(void *w, unsigned n, unsigned flags, void *ts, int clock)
{
	return syscall(NR_WAITV, w, n, flags, ts, clock);
}

static long wait2(void *at, unsigned long val, unsigned long mask, unsigned flags, void *ts,
		  int clock)
{
	return syscall(NR_WAIT, at, val, mask, flags, ts, clock);
}

static long wake2(void *at, unsigned long mask, int n, unsigned flags)
{
	return syscall(NR_WAKE, at, mask, n, flags);
}

static void need(long nr)
{
	errno = 0;
	if (syscall(nr, NULL, 0, 0, 0, 0, 0) == -1 && errno == ENOSYS)
		test_skip("this kernel does not have the call");
}

static struct waiter entry(uint32_t *word, uint32_t val, uint32_t flags)
{
	return (struct waiter){val, (uintptr_t)word, flags, 0};
}

TEST(futex_waitv_checks_its_arguments)
{
	uint32_t word = 0;
	struct waiter w = entry(&word, 0, U32 | PRIVATE), bad;
	struct timespec ts = {0, 0}, wild = {0, 2000000000};

	need(NR_WAITV);
	EXPECT_ERRNO(waitv(NULL, 1, 0, NULL, 0), EINVAL);
	EXPECT_ERRNO(waitv(&w, 0, 0, NULL, 0), EINVAL);
	EXPECT_ERRNO(waitv(&w, 129, 0, NULL, 0), EINVAL);
	EXPECT_ERRNO(waitv(&w, 1, 1, NULL, 0), EINVAL);
	EXPECT_ERRNO(waitv(BAD_ADDR, 1, 0, NULL, 0), EFAULT);
	EXPECT_ERRNO(waitv((void *)-4096L, 1, 0, NULL, 0), EFAULT);
	EXPECT_ERRNO(waitv(&w, 1, 0, &ts, CLOCK_BOOTTIME), EINVAL);
	EXPECT_ERRNO(waitv(&w, 1, 0, &wild, CLOCK_MONOTONIC), EINVAL);
	EXPECT_ERRNO(waitv(&w, 1, 0, BAD_ADDR, CLOCK_MONOTONIC), EFAULT);
	EXPECT_ERRNO(waitv(&w, 1, 0, &ts, CLOCK_MONOTONIC), ETIMEDOUT);
	EXPECT_ERRNO(waitv(&w, 1, 0, &ts, CLOCK_REALTIME), ETIMEDOUT);
	bad = entry(&word, 1, U32 | PRIVATE);
	EXPECT_ERRNO(waitv(&bad, 1, 0, NULL, 0), EAGAIN);
	bad = entry(&word, 0, PRIVATE); /* 8 bits */
	EXPECT_ERRNO(waitv(&bad, 1, 0, NULL, 0), EINVAL);
	bad = w;
	bad.reserved = 1;
	EXPECT_ERRNO(waitv(&bad, 1, 0, NULL, 0), EINVAL);
	bad = w;
	bad.uaddr++;
	EXPECT_ERRNO(waitv(&bad, 1, 0, NULL, 0), EINVAL);
	bad = entry(BAD_ADDR, 0, U32 | PRIVATE);
	EXPECT_ERRNO(waitv(&bad, 1, 0, NULL, 0), EFAULT);
}

struct vector {
	uint32_t word[3];
	long result;
	int err;
	unsigned flags;
};

static void *vector_wait(void *arg)
{
	struct vector *v = arg;
	struct waiter w[3];
	struct timespec ts = test_time_in_ms(CLOCK_MONOTONIC, 20000);

	for (int i = 0; i < 3; i++)
		w[i] = entry(&v->word[i], 0, v->flags);
	v->result = waitv(w, 3, 0, &ts, CLOCK_MONOTONIC);
	v->err = errno;
	return NULL;
}

static void wake_one_of_vector(unsigned flags, bool old)
{
	struct vector v = {.flags = flags};
	pthread_t thread;
	int op = FUTEX_WAKE | (flags & PRIVATE ? FUTEX_PRIVATE_FLAG : 0);

	pthread_create(&thread, NULL, vector_wait, &v);
	while ((old ? syscall(SYS_futex, &v.word[1], op, 1, NULL, NULL, 0)
		    : wake2(&v.word[1], 1, 1, flags)) != 1)
		test_sleep_ms(1);
	pthread_join(thread, NULL);
	EXPECT_EQ(v.result, 1);
}

TEST(futex_waitv_says_which_was_woken)
{
	need(NR_WAITV);
	wake_one_of_vector(U32 | PRIVATE, true);
	wake_one_of_vector(U32, true);
	need(NR_WAKE);
	wake_one_of_vector(U32 | PRIVATE, false);
	wake_one_of_vector(U32, false);
}

static void share_wait(void *arg)
{
	struct vector *v = arg;

	vector_wait(v);
	_exit(v->result == 2 ? 0 : 1);
}

TEST(futex_waitv_across_processes)
{
	need(NR_WAITV);
	struct vector *v =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	EXPECT(v != MAP_FAILED);
	v->flags = U32;
	pid_t pid = fork();
	if (!pid)
		share_wait(v);
	while (syscall(SYS_futex, &v->word[2], FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
		test_sleep_ms(1);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static volatile sig_atomic_t handled;

static void on_signal(int sig)
{
	(void)sig;
	handled = 1;
}

struct target {
	pthread_t thread;
	_Atomic bool done;
};

static void *shooter(void *arg)
{
	struct target *t = arg;

	while (!t->done) {
		test_sleep_ms(5);
		pthread_kill(t->thread, SIGUSR1);
	}
	return NULL;
}

/* waitv's errno while the handler runs again and again. */
static int waitv_under_fire(int sa_flags, int ms)
{
	uint32_t word = 0;
	struct waiter w = entry(&word, 0, U32 | PRIVATE);
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = sa_flags};
	struct timespec ts = test_time_in_ms(CLOCK_MONOTONIC, ms);
	struct target t = {.thread = pthread_self()};
	pthread_t thread;

	need(NR_WAITV);
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&thread, NULL, shooter, &t);
	long r = waitv(&w, 1, 0, &ts, CLOCK_MONOTONIC);
	int err = errno;
	t.done = true;
	pthread_join(thread, NULL);
	EXPECT(handled);
	EXPECT_EQ(r, -1);
	return err;
}

TEST(futex_waitv_is_interrupted_by_a_handler)
{
	EXPECT_EQ(waitv_under_fire(0, 20000), EINTR);
}

/* The timeout is absolute: it does not grow with every restart. */
TEST(futex_waitv_is_restarted_until_its_time)
{
	EXPECT_EQ(waitv_under_fire(SA_RESTART, 100), ETIMEDOUT);
}

TEST(futex2_wait_and_wake_check_their_arguments)
{
	uint32_t word = 0;
	struct timespec ts = {0, 0}, wild = {-1, 0};

	need(NR_WAIT);
	EXPECT_ERRNO(wait2(&word, 1, 1, U32, NULL, 0), EAGAIN);
	EXPECT_ERRNO(wait2(&word, 0, 0, U32, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2(&word, 0, 1, 0, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32 | 0x40, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2(&word, 1UL << 32, 1, U32, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2(&word, 0, 1UL << 32, U32, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2((char *)&word + 1, 0, 1, U32, NULL, 0), EINVAL);
	EXPECT_ERRNO(wait2(BAD_ADDR, 0, 1, U32, NULL, 0), EFAULT);
	EXPECT_ERRNO(wait2((void *)-4096L, 0, 1, U32, NULL, 0), EFAULT);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32, &ts, CLOCK_TAI), EINVAL);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32, &wild, CLOCK_MONOTONIC), EINVAL);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32, BAD_ADDR, CLOCK_MONOTONIC), EFAULT);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32, &ts, CLOCK_MONOTONIC), ETIMEDOUT);
	EXPECT_ERRNO(wait2(&word, 0, 1, U32 | PRIVATE, &ts, CLOCK_REALTIME), ETIMEDOUT);

	EXPECT_EQ(wake2(&word, 1, 1, U32), 0);
	EXPECT_EQ(wake2(&word, 1, 0, U32), 0);
	EXPECT_ERRNO(wake2(&word, 0, 1, U32), EINVAL);
	EXPECT_ERRNO(wake2(&word, 1UL << 32, 1, U32), EINVAL);
	EXPECT_ERRNO(wake2(&word, 1, 1, 1), EINVAL);
	EXPECT_ERRNO(wake2((char *)&word + 2, 1, 1, U32), EINVAL);
	EXPECT_ERRNO(wake2((void *)-4096L, 1, 1, U32 | PRIVATE), EFAULT);
}

struct sleeper {
	uint32_t *word;
	unsigned long mask;
	unsigned flags;
	bool old; /* by futex(2) */
	pthread_t thread;
};

static void *sleeper_run(void *arg)
{
	struct sleeper *s = arg;
	long r = s->old ? syscall(SYS_futex, s->word,
				  FUTEX_WAIT_BITSET | (s->flags & PRIVATE ? FUTEX_PRIVATE_FLAG : 0),
				  0, NULL, NULL, (uint32_t)s->mask)
			: wait2(s->word, 0, s->mask, s->flags, NULL, 0);

	return (void *)(r ? -1L : 0L);
}

static void join(struct sleeper *s)
{
	void *r;

	pthread_join(s->thread, &r);
	EXPECT(!r);
}

/* Both kinds of calls meet on one word; masks choose. */
TEST(futex2_meets_futex)
{
	uint32_t word = 0;
	struct sleeper s[2] = {{&word, 1, U32 | PRIVATE, false, 0},
			       {&word, 2, U32 | PRIVATE, true, 0}};

	need(NR_WAIT);
	for (int i = 0; i < 2; i++)
		pthread_create(&s[i].thread, NULL, sleeper_run, &s[i]);
	while (wake2(&word, 2, 1, U32 | PRIVATE) != 1)
		test_sleep_ms(1);
	join(&s[1]);
	while (syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) != 1)
		test_sleep_ms(1);
	join(&s[0]);
}

TEST(futex2_requeue_checks_its_arguments)
{
	uint32_t word[2] = {0};
	struct waiter w[2] = {entry(&word[0], 0, U32 | PRIVATE), entry(&word[1], 0, U32 | PRIVATE)};

	need(NR_REQUEUE);
	EXPECT_ERRNO(syscall(NR_REQUEUE, NULL, 0, 1, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_REQUEUE, w, 1, 1, 1), EINVAL);
	EXPECT_ERRNO(syscall(NR_REQUEUE, BAD_ADDR, 0, 1, 1), EFAULT);
	EXPECT_ERRNO(syscall(NR_REQUEUE, w, 0, -1, 1), EINVAL);
	EXPECT_EQ(syscall(NR_REQUEUE, w, 0, 1, 1), 0);
	w[0].val = 5;
	EXPECT_ERRNO(syscall(NR_REQUEUE, w, 0, 1, 1), EAGAIN);
	w[0].val = 0;
	w[1].reserved = 1;
	EXPECT_ERRNO(syscall(NR_REQUEUE, w, 0, 1, 1), EINVAL);
}

TEST(futex2_requeue_moves_waiters)
{
	uint32_t word[2] = {0};
	struct waiter w[2] = {entry(&word[0], 0, U32 | PRIVATE), entry(&word[1], 0, U32 | PRIVATE)};
	struct sleeper s[2] = {{&word[0], 1, U32 | PRIVATE, false, 0},
			       {&word[0], 1, U32 | PRIVATE, true, 0}};
	long moved = 0;

	need(NR_REQUEUE);
	for (int i = 0; i < 2; i++)
		pthread_create(&s[i].thread, NULL, sleeper_run, &s[i]);
	while (moved < 2) {
		moved += EXPECT_OK(syscall(NR_REQUEUE, w, 0, 0, 2));
		test_sleep_ms(1);
	}
	EXPECT_EQ(wake2(&word[0], 1, 2, U32 | PRIVATE), 0);
	EXPECT_EQ(wake2(&word[1], 1, 2, U32 | PRIVATE), 2);
	join(&s[0]);
	join(&s[1]);
}

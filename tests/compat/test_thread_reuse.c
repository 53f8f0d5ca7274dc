/* One thread after another in a process: nothing of an ended one shows in the next. */
#include "tests/compat/compat.h"

#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

static int64_t cpu_ns(void)
{
	struct timespec t;

	EXPECT_OK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t));
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void run_thread(void *(*fn)(void *), void *arg)
{
	pthread_t th;

	EXPECT_OK(-pthread_create(&th, NULL, fn, arg));
	EXPECT_OK(-pthread_join(th, NULL));
}

static void *burn(void *arg)
{
	while (cpu_ns() < 80000000)
		;
	return arg;
}

static void *read_clock(void *arg)
{
	*(int64_t *)arg = cpu_ns();
	return NULL;
}

TEST(thread_cpu_clock_starts_anew)
{
	int64_t used = -1;

	run_thread(burn, NULL);
	run_thread(read_clock, &used);
	EXPECT(used >= 0 && used < 40000000);
}

static void *read_mxcsr(void *arg)
{
	*(unsigned *)arg = _mm_getcsr();
	_mm_setcsr(_mm_getcsr() ^ _MM_ROUND_TOWARD_ZERO);
	return NULL;
}

/* pthread_create(3): the floating-point environment is the creator's. */
TEST(thread_begins_with_its_creators_rounding_mode)
{
	unsigned own = _mm_getcsr(), seen;

	for (int i = 0; i < 4; i++) {
		unsigned mode = (unsigned)i << 13;
		_mm_setcsr((own & ~_MM_ROUND_MASK) | mode);
		run_thread(read_mxcsr, &seen);
		EXPECT_EQ(_mm_getcsr() & _MM_ROUND_MASK, mode);
		EXPECT_EQ(seen & _MM_ROUND_MASK, mode);
	}
	_mm_setcsr(own);
}

static long stack_thread(void *arg)
{
	volatile char page[4096];

	memset((char *)page, 7, sizeof(page));
	usleep(1000);
	return (long)arg;
}

static void *on_own_stack(void *arg)
{
	return (void *)stack_thread(arg);
}

/* The host must not write to an ended thread's rseq area, which is gone with its stack. */
TEST(thread_stacks_can_be_unmapped_when_joined)
{
	for (int i = 0; i < 200; i++) {
		size_t size = 256 << 10;
		void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				   -1, 0),
		     *r;
		pthread_attr_t attr;
		pthread_t th[2];
		EXPECT(stack != MAP_FAILED);
		EXPECT_OK(-pthread_attr_init(&attr));
		EXPECT_OK(-pthread_attr_setstack(&attr, stack, size));
		EXPECT_OK(-pthread_create(&th[0], &attr, on_own_stack, (void *)1L));
		EXPECT_OK(-pthread_create(&th[1], NULL, on_own_stack, (void *)2L));
		EXPECT_OK(-pthread_join(th[0], &r));
		EXPECT_EQ((long)r, 1);
		EXPECT_OK(munmap(stack, size));
		EXPECT_OK(-pthread_join(th[1], &r));
		EXPECT_EQ((long)r, 2);
	}
}

static void *idle(void *arg)
{
	usleep(20000);
	return arg;
}

TEST(threads_come_in_waves)
{
	for (int wave = 0; wave < 5; wave++) {
		pthread_t th[40];
		for (int i = 0; i < 40; i++)
			EXPECT_OK(-pthread_create(&th[i], NULL, idle, NULL));
		for (int i = 0; i < 40; i++)
			EXPECT_OK(-pthread_join(th[i], NULL));
	}
}

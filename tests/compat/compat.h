/*
 * compat.h - the frame of the compatibility tests.
 *
 * A test is a small Linux program.  All of them are in one binary, which runs first on the host's
 * own kernel, where every test must pass (a test that fails on Linux is wrong), then inside the
 * sandbox on each platform.  Each test runs in a process of its own, under an alarm; it passes when
 * it returns.  Names say what Linux does: pipe2_fault_leaves_no_descriptor.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct test {
	const char *name;
	const char *file;
	void (*fn)(void);
	struct test *next;
};

void test_register(struct test *t);
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void test_skip(const char *why);

#define TEST(id)                                                               \
	static void test_##id(void);                                           \
	static struct test test_entry_##id = {#id, __FILE__, test_##id, NULL}; \
	__attribute__((constructor)) static void test_register_##id(void)      \
	{                                                                      \
		test_register(&test_entry_##id);                               \
	}                                                                      \
	static void test_##id(void)

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

/* The condition holds. */
#define EXPECT(cond)                                                  \
	do {                                                          \
		if (!(cond))                                          \
			FAIL("%s is false (errno %d)", #cond, errno); \
	} while (0)

#define EXPECT_EQ(a, b)                                                                      \
	do {                                                                                 \
		long long a_ = (long long)(a), b_ = (long long)(b);                          \
		if (a_ != b_)                                                                \
			FAIL("%s is %lld (errno %d), not %s = %lld", #a, a_, errno, #b, b_); \
	} while (0)

#define EXPECT_STR(a, b)                                              \
	do {                                                          \
		const char *a_ = (a), *b_ = (b);                      \
		if (strcmp(a_, b_))                                   \
			FAIL("%s is \"%s\", not \"%s\"", #a, a_, b_); \
	} while (0)

/* The call fails with this errno. */
#define EXPECT_ERRNO(call, err)                                                         \
	do {                                                                            \
		errno = 0;                                                              \
		long long r_ = (long long)(call);                                       \
		int e_ = errno;                                                         \
		if (r_ != -1 || e_ != (err))                                            \
			FAIL("%s gives %lld with errno %d (%s), not %s", #call, r_, e_, \
			     strerror(e_), #err);                                       \
	} while (0)

/* The call succeeds; its value. */
#define EXPECT_OK(call)                                                                     \
	({                                                                                  \
		errno = 0;                                                                  \
		long long r_ = (long long)(call);                                           \
		if (r_ < 0)                                                                 \
			FAIL("%s fails with errno %d (%s)", #call, errno, strerror(errno)); \
		r_;                                                                         \
	})

/* Nothing is ever mapped here. */
#define BAD_ADDR test_bad_addr
extern void *volatile test_bad_addr; /* volatile: compilers reject what they can see through */

/* A fresh directory, current at return, removed by the runner. */
const char *test_dir(void);
/* Runs fn in a child and returns its wait status. */
int test_child(void (*fn)(void *), void *arg);
/* The lowest free descriptor: equal before and after means that nothing leaked. */
int test_lowest_fd(void);
/* A file of this size with bytes that depend on their offset; returns it open read-write. */
int test_file(const char *name, size_t size);
void test_sleep_ms(int ms);
/* That clock's time in so many milliseconds. */
struct timespec test_time_in_ms(clockid_t clock, int ms);

/*
 * Calls that only tell the kernel something: set_robust_list(2), set_tid_address(2), and
 * arch_prctl(2) for FS.  Often enough that whoever patches or answers them by itself has begun to.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat.h"

#define OFTEN 400

struct robust {
	struct robust_list_head head;
	struct robust_list entry;
	uint32_t word, ready;
};

static void *robust_get(void)
{
	void *head = NULL;
	size_t len = 0;

	EXPECT_EQ(syscall(SYS_get_robust_list, 0, &head, &len), 0);
	EXPECT_EQ(len, sizeof(struct robust_list_head));
	return head;
}

TEST(notes_robust_list_is_known_after_many_calls)
{
	void *mine = robust_get();
	static struct robust_list_head heads[2];

	for (int i = 0; i < OFTEN; i++) {
		EXPECT_EQ(syscall(SYS_set_robust_list, &heads[i % 2], sizeof(heads[0])), 0);
		if (i % 16 == 0)
			EXPECT_EQ((uintptr_t)robust_get(), (uintptr_t)&heads[i % 2]);
		EXPECT_ERRNO(syscall(SYS_set_robust_list, &heads[1 - i % 2], 8), EINVAL);
	}
	EXPECT_EQ((uintptr_t)robust_get(), (uintptr_t)&heads[(OFTEN - 1) % 2]);
	EXPECT_EQ(syscall(SYS_set_robust_list, mine, sizeof(heads[0])), 0);
	EXPECT_EQ((uintptr_t)robust_get(), (uintptr_t)mine);
}

/* The child says where its list is, and does not make another call before it dies. */
static void die_with_lock(struct robust *r, bool killed)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* Nothing of the parent's is left. */
		syscall(SYS_set_robust_list, NULL, sizeof(r->head));
		r->word = (uint32_t)syscall(SYS_gettid);
		syscall(SYS_set_robust_list, &r->head, sizeof(r->head));
		if (!killed)
			_exit(0);
		__atomic_store_n(&r->ready, 1, __ATOMIC_SEQ_CST);
		for (;;)
			continue;
	}
	if (killed) {
		while (!__atomic_load_n(&r->ready, __ATOMIC_SEQ_CST))
			sched_yield();
		kill(pid, SIGKILL);
	}
	EXPECT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(notes_robust_futex_of_the_dead_is_marked)
{
	struct robust *r =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	EXPECT(r != MAP_FAILED);
	for (int i = 0; i < 20; i++) {
		memset(r, 0, sizeof(*r));
		r->head.list.next = &r->entry;
		r->entry.next = &r->head.list;
		r->head.futex_offset =
			offsetof(struct robust, word) - offsetof(struct robust, entry);
		die_with_lock(r, i % 2);
		EXPECT_EQ(r->word, FUTEX_OWNER_DIED);
	}
	munmap(r, 4096);
}

TEST(notes_fork_inherits_no_list)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* A libc's own fork registers one: what remains is its, at the same place. */
		void *first = robust_get();
		static struct robust_list_head head;
		syscall(SYS_set_robust_list, &head, sizeof(head));
		pid_t child = (pid_t)syscall(SYS_fork);
		if (child == 0)
			_exit(robust_get() != NULL);
		int status;
		waitpid(child, &status, 0);
		syscall(SYS_set_robust_list, first, sizeof(head));
		_exit(WEXITSTATUS(status));
	}
	int status;
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
}

static int own_clear_tid;

static void *exits_with_own_word(void *arg)
{
	(void)arg;
	int *libcs = NULL;

	prctl(PR_GET_TID_ADDRESS, &libcs);
	for (int i = 0; i < OFTEN; i++)
		if (syscall(SYS_set_tid_address, i % 2 ? &own_clear_tid : libcs) !=
		    syscall(SYS_gettid))
			return (void *)1;
	own_clear_tid = 5;
	int *now = NULL;
	if (prctl(PR_GET_TID_ADDRESS, &now) == 0 && now != &own_clear_tid)
		return (void *)2;
	/* The one that joiners wait for comes back last, after a call that is reported. */
	syscall(SYS_set_tid_address, libcs);
	return NULL;
}

TEST(notes_tid_address_is_known_after_many_calls)
{
	pthread_t t;
	void *r;

	EXPECT_EQ(pthread_create(&t, NULL, exits_with_own_word, NULL), 0);
	EXPECT_EQ(pthread_join(t, &r), 0);
	EXPECT_EQ((intptr_t)r, 0);
	EXPECT_EQ(own_clear_tid, 5);
}

static volatile int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/* Signals come at every moment, and find FS as the last call left it. */
TEST(notes_fs_base_survives_signals)
{
	unsigned long fs = 0, seen = 0;

	EXPECT_EQ(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs), 0);
	EXPECT_ERRNO(syscall(SYS_arch_prctl, ARCH_SET_FS, 0x8000000000000000UL), EPERM);
	EXPECT_ERRNO(syscall(SYS_arch_prctl, ARCH_GET_FS, BAD_ADDR), EFAULT);
	/* A copy of what libc has there, so that handlers run on either. */
	static char copy[8192] __attribute__((aligned(4096)));
	size_t below = fs % 4096;
	memcpy(copy, (char *)fs - below, below + 1024);
	unsigned long other = (unsigned long)copy + below;

	struct sigaction sa = {.sa_handler = on_alarm}, was;
	struct itimerval it = {{0, 300}, {0, 300}}, off = {{0, 0}, {0, 0}};
	sigaction(SIGALRM, &sa, &was);
	setitimer(ITIMER_REAL, &it, NULL);
	int bad = 0;
	for (int i = 0; i < 30000 && !bad; i++) {
		unsigned long want = i % 2 ? other : fs;
		syscall(SYS_arch_prctl, ARCH_SET_FS, want);
		for (volatile int spin = 0; spin < i % 64; spin++)
			continue;
		syscall(SYS_arch_prctl, ARCH_GET_FS, &seen);
		bad = seen != want;
	}
	syscall(SYS_arch_prctl, ARCH_SET_FS, fs);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &was, NULL);
	EXPECT_EQ(bad, 0);
	EXPECT(alarms > 0);
}

/* PID namespaces: who is in them, who sees whom, and their end.  pid_namespaces(7). */
#include <sys/prctl.h>

#include "pidns.h"

TEST(pidns_first_child_is_one_and_has_no_parent)
{
	int pid = new_init();

	if (!pid) {
		CHECK(getpid() == 1 && syscall(SYS_gettid) == 1 && getppid() == 0);
		CHECK(getpgrp() == 0 && getsid(0) == 0); /* of the parent's, which is not seen */
		int c = fork();
		if (!c) {
			CHECK(getpid() == 2 && getppid() == 1);
			_exit(7);
		}
		int st;
		CHECK(c == 2 && wait(&st) == 2 && st == 7 << 8);
		_exit(0);
	}
	EXPECT(pid > 1);
	wait_exited(pid, 0);
}

TEST(pidns_setsid_and_groups_by_own_numbers)
{
	int pid = new_init();

	if (!pid) {
		CHECK(setsid() == 1 && getpgrp() == 1 && getsid(0) == 1);
		int c = fork();
		if (!c) {
			CHECK(setpgid(0, 0) == 0 && getpgrp() == 2 && getpgid(1) == 1);
			CHECK(setpgid(0, 1) == 0 && getpgrp() == 1);
			_exit(0);
		}
		int st;
		CHECK(waitpid(-1, &st, 0) == 2 && st == 0);
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_outside_numbers_are_seen_from_outside_only)
{
	volatile int *w = shared();
	int pid = new_init();

	if (!pid) {
		int c = fork();
		if (!c) {
			w[0] = 1;
			pause();
		}
		wait_for(&w[0], 1);
		CHECK(kill(c, 0) == 0);
		CHECK(kill(w[1], 0) == -1 && errno == ESRCH);
		w[2] = 1;
		pause();
	}
	w[1] = getpid() > 100 ? getpid() : 0x3ffff0;
	wait_for(&w[2], 1);
	EXPECT_EQ(getpgid(pid), getpgrp());
	EXPECT_EQ(getsid(pid), getsid(0));
	EXPECT_OK(kill(pid, SIGKILL));
	wait_killed(pid, SIGKILL);
}

TEST(pidns_death_of_init_kills_all_members)
{
	volatile int *w = shared();
	int fds[2], pid;

	EXPECT_OK(pipe(fds));
	if (!(pid = new_init())) {
		for (int i = 0; i < 5; i++) {
			if (!fork()) {
				signal(SIGTERM, SIG_IGN);
				if (i == 4 && fork_with(CLONE_FLAG_NEWPID) == 0)
					w[1] = 1;
				__sync_fetch_and_add(&w[0], 1);
				for (;;)
					pause();
			}
		}
		wait_for(&w[0], 6);
		_exit(3);
	}
	close(fds[1]);
	wait_exited(pid, 3);
	/* All are gone by now: nobody holds the pipe open. */
	char c;
	EXPECT_EQ(read(fds[0], &c, 1), 0);
	EXPECT_EQ(w[1], 1);
}

TEST(pidns_init_ignores_what_it_does_not_handle)
{
	int pid = new_init();

	if (!pid) {
		kill(1, SIGTERM);
		kill(1, SIGKILL);
		kill(getpid(), SIGSTOP);
		raise(SIGINT);
		int c = fork();
		if (!c) {
			kill(1, SIGKILL);
			kill(getppid(), SIGSTOP);
			kill(1, SIGUSR1);
			_exit(0);
		}
		CHECK(waitpid(c, NULL, 0) == c);
		_exit(5);
	}
	wait_exited(pid, 5);
}

TEST(pidns_ancestors_kill_and_stop_init_only_for_sure)
{
	volatile int *w = shared();
	int pid = new_init(), status;

	if (!pid) {
		w[0] = 1;
		for (;;)
			pause();
	}
	wait_for(&w[0], 1);
	EXPECT_OK(kill(pid, SIGTERM)); /* no handler: ignored */
	test_sleep_ms(20);
	EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
	EXPECT_OK(kill(pid, SIGSTOP));
	EXPECT_EQ(EXPECT_OK(waitpid(pid, &status, WUNTRACED)), pid);
	EXPECT(WIFSTOPPED(status));
	EXPECT_OK(kill(pid, SIGCONT));
	EXPECT_OK(kill(pid, SIGKILL));
	wait_killed(pid, SIGKILL);
}

static volatile int *seen_word;
static void note_sender(int sig, siginfo_t *info, void *uc)
{
	(void)sig, (void)uc;
	seen_word[1] = info->si_pid;
	seen_word[2] = info->si_code;
	seen_word[3] = 1;
}

TEST(pidns_sender_outside_is_zero)
{
	volatile int *w = seen_word = shared();
	struct sigaction sa = {.sa_sigaction = note_sender, .sa_flags = SA_SIGINFO};
	int pid = new_init();

	if (!pid) {
		sigaction(SIGUSR1, &sa, NULL);
		w[0] = 1;
		for (;;)
			pause();
	}
	wait_for(&w[0], 1);
	EXPECT_OK(kill(pid, SIGUSR1));
	wait_for(&w[3], 1);
	EXPECT_EQ(w[1], 0);
	EXPECT_EQ(w[2], SI_USER);
	w[3] = 0;
	EXPECT_OK(sigqueue(pid, SIGUSR1, (union sigval){.sival_int = 4}));
	wait_for(&w[3], 1);
	EXPECT_EQ(w[1], 0);
	EXPECT_EQ(w[2], SI_QUEUE);
	EXPECT_OK(kill(pid, SIGKILL));
	wait_killed(pid, SIGKILL);
}

TEST(pidns_sigchld_names_child_by_own_numbers)
{
	volatile int *w = seen_word = shared();
	struct sigaction sa = {.sa_sigaction = note_sender, .sa_flags = SA_SIGINFO};

	sigaction(SIGCHLD, &sa, NULL);
	int pid = new_init();
	if (!pid) {
		memset((void *)w, 0, 32);
		int c = fork();
		if (!c)
			_exit(0);
		while (!w[3])
			usleep(1000);
		CHECK(w[1] == c && c == 2);
		siginfo_t si;
		CHECK(waitid(P_PID, 2, &si, WEXITED) == 0 && si.si_pid == 2);
		w[3] = w[1] = 0;
		_exit(0);
	}
	wait_for(&w[3], 0);
	wait_exited(pid, 0);
	EXPECT_EQ(w[1], pid);
}

TEST(pidns_orphans_go_to_its_init)
{
	volatile int *w = shared();
	int pid = new_init();

	if (!pid) {
		int c = fork();
		if (!c) {
			int g = fork();
			if (!g) {
				while (getppid() == 2)
					usleep(1000);
				w[0] = getppid();
				_exit(9);
			}
			_exit(0);
		}
		int st;
		CHECK(waitpid(2, &st, 0) == 2);
		CHECK(wait(&st) == 3 && st == 9 << 8);
		_exit(w[0] == 1 ? 0 : 1);
	}
	wait_exited(pid, 0);
}

TEST(pidns_subreaper_takes_orphans_of_its_namespace_only)
{
	EXPECT_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int pid = new_init();

	if (!pid) {
		int c = fork();
		if (!c) {
			prctl(PR_SET_CHILD_SUBREAPER, 1);
			int g = fork();
			if (!g) {
				if (!fork()) {
					while (getppid() == 3)
						usleep(1000);
					_exit(getppid()); /* 2 */
				}
				_exit(0);
			}
			int st;
			CHECK(waitpid(3, &st, 0) == 3);
			CHECK(wait(&st) == 4 && st == 2 << 8);
			_exit(0);
		}
		int st;
		CHECK(wait(&st) == 2 && st == 0);
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_kill_all_stays_inside)
{
	volatile int *w = shared();
	int outsider = fork();

	if (!outsider) {
		pause();
		_exit(0);
	}
	int pid = new_init();
	if (!pid) {
		for (int i = 0; i < 3; i++)
			if (!fork()) {
				__sync_fetch_and_add(&w[0], 1);
				for (;;)
					pause();
			}
		wait_for(&w[0], 3);
		CHECK(kill(-1, SIGKILL) == 0);
		int st, n = 0;
		while (wait(&st) > 0)
			n += WIFSIGNALED(st);
		CHECK(n == 3);
		CHECK(kill(-1, 0) == -1 && errno == ESRCH);
		_exit(0);
	}
	wait_exited(pid, 0);
	EXPECT_OK(kill(outsider, 0));
	kill(outsider, SIGKILL);
	wait_killed(outsider, SIGKILL);
}

TEST(pidns_unshare_moves_children_only)
{
	int self = getpid();

	if (unshare(CLONE_FLAG_NEWPID) && errno == EPERM)
		test_skip("no right to make PID namespaces");
	EXPECT_EQ(getpid(), self);
	EXPECT_ERRNO(unshare(CLONE_FLAG_NEWPID), EINVAL);
	EXPECT_ERRNO(fork_with(CLONE_FLAG_NEWPID), EINVAL);
	/* No threads: they would be in another one. */
	EXPECT_ERRNO(syscall(SYS_clone, 0x10900UL /* THREAD|SIGHAND|VM */, 0, 0, 0, 0), EINVAL);
	volatile int *w = shared();
	int first = fork();
	if (!first) {
		CHECK(getpid() == 1 && getppid() == 0);
		wait_for(&w[0], 1);
		_exit(0);
	}
	int second = EXPECT_OK(fork());
	if (!second)
		_exit(getpid());
	wait_exited(second, 2);
	w[0] = 1;
	wait_exited(first, 0);
	/* Its init is gone, and nobody comes in any more. */
	EXPECT_ERRNO(fork(), ENOMEM);
}

TEST(pidns_of_threads_and_shared_parts_is_refused)
{
	EXPECT_ERRNO(syscall(SYS_clone, CLONE_FLAG_NEWPID | 0x10900UL, 0, 0, 0, 0), EINVAL);
	int pid = new_init();
	if (!pid) {
		/* An init's siblings would be orphans at once. */
		CHECK(fork_with(CLONE_FLAG_PARENT) == -1 && errno == EINVAL);
		_exit(0);
	}
	wait_exited(pid, 0);
}

TEST(pidns_nests_32_deep)
{
	volatile int *w = shared();
	int pid = new_init();

	if (!pid) {
		int depth = 1;
		for (;;) {
			int c = fork_with(CLONE_FLAG_NEWPID);
			if (c < 0)
				break;
			if (c) {
				int st;
				CHECK(waitpid(c, &st, 0) == c && c == 2);
				_exit(WEXITSTATUS(st));
			}
			depth++;
		}
		w[0] = depth;
		w[1] = errno;
		_exit(0);
	}
	wait_exited(pid, 0);
	EXPECT(w[0] >= 16 && w[0] <= 32); /* less where this is nested already */
	EXPECT_EQ(w[1], ENOSPC);
}

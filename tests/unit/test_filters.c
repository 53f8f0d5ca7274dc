/* The system call filters of our own processes: how many calls pass, and what the others meet. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gofer/gofer_filter.h"
#include "sentry/host/filter.h"
#include "sentry/host/sentry_filter.h"

#define CALLS_MAX 600
#define PROGRAM_MAX 4096
/* What the sanitizers' runtime adds, in builds that have it. */
#if defined(__SANITIZE_ADDRESS__)
#define EXTRA 12
#else
#define EXTRA 0
#endif

struct program {
	const char *name;
	const struct sock_filter *insn;
	size_t len;
	int calls_max; /* section 7 of the design */
};

#define PROGRAM(name, max)                                                  \
	{                                                                   \
#name, name, sizeof(name) / sizeof(struct sock_filter), max \
	}
static const struct program programs[] = {
	PROGRAM(filter_systrap, 60),
	PROGRAM(filter_ptrace, 60),
	PROGRAM(filter_plain, 45),
	PROGRAM(filter_sockets, 45),
};

enum known { NOTHING, NUMBER, ARCH };

/*
 * Whether any arguments of call `nr` let it pass: all paths from `pc` on, where tests of the number
 * and the architecture go their way and all others both ways.
 */
static bool may_pass(const struct program *p, uint32_t nr, size_t pc, enum known a, bool seen[][3])
{
	for (;;) {
		ck_assert_uint_lt(pc, p->len);
		if (seen[pc][a])
			return false;
		seen[pc][a] = true;
		const struct sock_filter *i = &p->insn[pc++];
		uint32_t value = a == NUMBER ? nr : AUDIT_ARCH_X86_64;
		bool yes;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = i->k == 0 ? NUMBER : i->k == 4 ? ARCH : NOTHING;
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a = NOTHING;
			continue;
		case BPF_RET | BPF_K:
			return i->k == SECCOMP_RET_ALLOW;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = value == i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = value > i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = value >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = value & i->k;
			break;
		default:
			ck_abort_msg("%s: unknown instruction %#x", p->name, i->code);
		}
		if (a == NOTHING && may_pass(p, nr, pc + i->jf, a, seen))
			return true;
		pc += a == NOTHING || yes ? i->jt : i->jf;
	}
}

static bool passes(const struct program *p, uint32_t nr)
{
	static bool seen[PROGRAM_MAX][3];

	ck_assert_uint_lt(p->len, PROGRAM_MAX);
	memset(seen, 0, sizeof(seen));
	return may_pass(p, nr, 0, NOTHING, seen);
}

START_TEST(lists_are_short)
{
	const struct program *p = &programs[_i];
	int n = 0;

	for (uint32_t nr = 0; nr < CALLS_MAX; nr++)
		n += passes(p, nr);
	ck_assert_int_gt(n, 20);
	ck_assert_msg(n <= p->calls_max + EXTRA, "%s: %d calls", p->name, n);
}
END_TEST

START_TEST(dangerous_calls_are_not_in_the_lists)
{
	static const unsigned never[] = {
		SYS_execve,	     SYS_execveat, SYS_fork,	   SYS_vfork,  SYS_mount,
		SYS_umount2,	     SYS_chroot,   SYS_pivot_root, SYS_setuid, SYS_setns,
		SYS_unshare,	     SYS_bpf,	   SYS_keyctl,	   SYS_dup2,   SYS_io_uring_setup,
		SYS_perf_event_open, SYS_capset,   SYS_listen,	   SYS_chdir,
	};
	const struct program *p = &programs[_i];

	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		ck_assert_msg(!passes(p, never[i]), "%s: call %u passes", p->name, never[i]);
	for (uint32_t nr = 0; nr < CALLS_MAX; nr++)
		ck_assert_msg(!passes(p, nr | 0x40000000), "%s: x32 call %u passes", p->name, nr);
	ck_assert(!!passes(p, SYS_socket) == !strcmp(p->name, "filter_sockets"));
	ck_assert(!!passes(p, SYS_ptrace) == !strcmp(p->name, "filter_ptrace"));
}
END_TEST

static void try_exec(void)
{
	syscall(SYS_execve, "/bin/true", NULL, NULL);
}

static void try_socket(void)
{
	socket(AF_INET, SOCK_STREAM, 0);
}

static void try_executable_memory(void)
{
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void try_creating(void)
{
	openat(AT_FDCWD, "/tmp/x", O_CREAT | O_RDWR, 0600);
}

static void try_nothing(void)
{
	close(-1);
}

/* The signal that ends a process behind the filter that calls fn; 0: it got through. */
static int killed_by(const struct program *p, void (*fn)(void))
{
	static const int no_fds[8] = {-1, -1, -1, -1, -1, -1, -1, -1};
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		signal(SIGSYS, SIG_DFL);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    filter_load(p->insn, p->len, no_fds, 8))
			syscall(SYS_exit_group, 9);
		fn();
		syscall(SYS_exit_group, 0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "%s: cannot be loaded",
		      p->name);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

START_TEST(calls_outside_the_lists_kill)
{
	const struct program *p = &programs[_i];
	bool gofer = p->insn == filter_plain || p->insn == filter_sockets;

	ck_assert_int_eq(killed_by(p, try_nothing), 0);
	ck_assert_int_eq(killed_by(p, try_exec), SIGSYS);
	ck_assert_int_eq(killed_by(p, try_socket), SIGSYS);
	if (!gofer || !EXTRA) /* the sanitizers' runtime maps as it likes */
		ck_assert_int_eq(killed_by(p, try_executable_memory), SIGSYS);
	if (gofer) /* the sentry's openat() from there is malloc's and fails */
		ck_assert_int_eq(killed_by(p, try_creating), SIGSYS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("filters");
	TCase *t = tcase_create("filters");
	const int n = (int)ARRAY_SIZE(programs);

	tcase_add_loop_test(t, lists_are_short, 0, n);
	tcase_add_loop_test(t, dangerous_calls_are_not_in_the_lists, 0, n);
	tcase_add_loop_test(t, calls_outside_the_lists_kill, 0, n);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}

/*
 * Prints the gofer's system call filters, compiled by libseccomp: what follows, with these
 * arguments; anything else kills.
 *
 * openat2 takes its flags from memory, where a filter cannot look; it is bound to a directory
 * descriptor (never the current directory), and everything above the attach points is out of reach
 * for other reasons: the root is empty and each attach point is a mount tree of its own.  openat is
 * bound to the current directory, /proc/self/fd, and cannot create.
 */
#include "gofer/proto.h"
#include "gofer/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "sentry/host/filter.h"
#include "sentry/host/filter_gen.h"

#define LOW32 0xffffffffULL
#define IS(n, v) FILTER_EQ(n, v)
#define IS_CWD(n) IS(n, AT_FDCWD)
#define HAS_NO(n, bits) SCMP_CMP(n, SCMP_CMP_MASKED_EQ, (uint64_t)(bits), 0)
#define MAX_RULES 4

struct rule {
	int nr;
	unsigned n; /* conditions, all of which must hold */
	struct scmp_arg_cmp arg[MAX_RULES];
};

static int add_rules(scmp_filter_ctx ctx, const struct rule *r, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, r[i].nr, r[i].n, r[i].arg);
	return err;
}

static int add_plain(scmp_filter_ctx ctx)
{
	static const int plain[] = {
		SYS_brk,	  SYS_clock_gettime, SYS_close,	      SYS_exit_group,
		SYS_fdatasync,	  SYS_fstatfs,	     SYS_fsync,	      SYS_ftruncate,
		SYS_getdents64,	  SYS_getpid,	     SYS_getxattr,    SYS_listxattr,
		SYS_munmap,	  SYS_readlinkat,    SYS_removexattr, SYS_restart_syscall,
		SYS_rt_sigreturn, SYS_setxattr,	     SYS_symlinkat,   SYS_syncfs,
	};
	int err = 0;

	for (size_t i = 0; i < ARRAY_SIZE(plain) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, plain[i], 0);
	return err;
}

static int add_checked(scmp_filter_ctx ctx)
{
	const struct rule rules[] = {
		{SYS_recvmsg, 2, {IS(0, FILTER_FD(FILTER_CONN)), IS(2, MSG_CMSG_CLOEXEC)}},
		{SYS_sendmsg, 2, {IS(0, FILTER_FD(FILTER_CONN)), IS(2, MSG_NOSIGNAL)}},
		{SYS_openat,
		 2,
		 {IS_CWD(0), HAS_NO(2, O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY))}},
		{SYS_openat2,
		 2,
		 {SCMP_CMP(0, SCMP_CMP_LE, INT32_MAX),
		  SCMP_CMP(3, SCMP_CMP_EQ, sizeof(struct open_how))}},
		{SYS_statx, 1, {IS(2, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)}},
		{SYS_fchmodat, 2, {IS_CWD(0), HAS_NO(2, ~07777U)}},
		{SYS_fchownat, 1, {IS(4, AT_EMPTY_PATH)}},
		{SYS_utimensat, 1, {IS(3, AT_EMPTY_PATH)}},
		{SYS_mkdirat, 1, {IS(2, 0)}},
		{SYS_mknodat, 1, {IS(2, S_IFIFO)}},
		{SYS_mknodat, 1, {IS(2, S_IFSOCK)}},
		{SYS_mknodat, 2, {IS(2, S_IFCHR), IS(3, 0)}},
		{SYS_linkat, 2, {IS_CWD(0), IS(4, AT_SYMLINK_FOLLOW)}},
		{SYS_unlinkat, 1, {HAS_NO(2, LOW32 & ~(uint64_t)AT_REMOVEDIR)}},
		{SYS_renameat2,
		 1,
		 {HAS_NO(4, LOW32 & ~(uint64_t)(RENAME_NOREPLACE | RENAME_EXCHANGE |
						RENAME_WHITEOUT))}},
		{SYS_inotify_init1, 1, {IS(0, IN_NONBLOCK | IN_CLOEXEC)}},
		{SYS_inotify_add_watch, 1, {IS(2, GOFER_WATCH_EVENTS)}},
		{SYS_inotify_rm_watch, 0, {{0}}},
		{SYS_lseek, 1, {IS(2, SEEK_SET)}},
		{SYS_mmap,
		 3,
		 {HAS_NO(2, PROT_EXEC), IS(3, MAP_PRIVATE | MAP_ANONYMOUS), IS(4, -1)}},
		{SYS_mremap, 1, {HAS_NO(3, LOW32 & ~(uint64_t)MREMAP_MAYMOVE)}},
		{SYS_write, 1, {IS(0, FILTER_FD(FILTER_LOG))}},
		{SYS_write, 1, {IS(0, FILTER_FD(FILTER_READY))}},
	};

	return add_rules(ctx, rules, ARRAY_SIZE(rules));
}

static int add_sockets(scmp_filter_ctx ctx)
{
	const int extra = SOCK_CLOEXEC | SOCK_NONBLOCK;
	const struct rule rules[] = {
		{SYS_socket, 3, {IS(0, AF_UNIX), IS(1, SOCK_STREAM | extra), IS(2, 0)}},
		{SYS_socket, 3, {IS(0, AF_UNIX), IS(1, SOCK_DGRAM | extra), IS(2, 0)}},
		{SYS_socket, 3, {IS(0, AF_UNIX), IS(1, SOCK_SEQPACKET | extra), IS(2, 0)}},
		{SYS_connect, 0, {{0}}},
		{SYS_bind, 0, {{0}}},
	};

	return add_rules(ctx, rules, ARRAY_SIZE(rules));
}

/* The sanitizers' runtime, in builds that have it: its shadow memory, threads' bookkeeping and the
 * reports, which name no source lines because files are out of reach. */
static int add_sanitizer(scmp_filter_ctx ctx)
{
	int err = 0;
#if defined(__SANITIZE_ADDRESS__)
	static const int plain[] = {
		SYS_mmap,	 SYS_mprotect,	  SYS_madvise,	      SYS_futex,	SYS_gettid,
		SYS_sched_yield, SYS_sigaltstack, SYS_rt_sigprocmask, SYS_rt_sigaction,
	};
	static const int refused[] = {SYS_open, SYS_readlink, SYS_prlimit64};

	for (size_t i = 0; i < ARRAY_SIZE(plain) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, plain[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(refused) && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOENT), refused[i], 0);
#else
	(void)ctx;
#endif
	return err;
}

static int print(bool host_uds, const char *name)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int err = !ctx || seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);

	if (!err)
		err = add_plain(ctx);
	if (!err)
		err = add_checked(ctx);
	if (!err)
		err = add_sanitizer(ctx);
	if (!err && host_uds)
		err = add_sockets(ctx);
	if (!err)
		err = filter_print(ctx, name);
	seccomp_release(ctx);
	return err;
}

int main(void)
{
	return print(false, "filter_plain") || print(true, "filter_sockets") ? EXIT_FAILURE
									     : EXIT_SUCCESS;
}

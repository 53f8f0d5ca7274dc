/*
 * The filter of guest processes under ptrace: the second wall, behind SYSEMU.  It sees only calls
 * that the tracer injected or let pass.  By hand, as the guests' programs of both platforms are:
 * short enough to be checked by eye.
 */
#include "platform/ptrace/internal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "sentry/abi/futex.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(x) BPF_STMT(BPF_RET | BPF_K, (x))
#define EQ(k, jt, jf) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (jt), (jf))
/* The accumulator holds the number. */
#define ALLOW(nr) EQ((nr), 0, 1), RETURN(SECCOMP_RET_ALLOW)

#define CLONE_PROCESS (CLONE_PARENT | SIGCHLD)
#define CLONE_A_THREAD \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define MAP_ALLOWED \
	(MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_POPULATE)

unsigned pt_filter_build(uint64_t *out, unsigned cap)
{
	static const struct sock_filter program[] = {
		LOAD(arch),
		EQ(AUDIT_ARCH_X86_64, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		ALLOW(SYS_munmap),
		ALLOW(SYS_mprotect),
		ALLOW(SYS_mremap),
		ALLOW(SYS_recvmsg),
		ALLOW(SYS_close),
		ALLOW(SYS_exit),
		ALLOW(SYS_exit_group),
		ALLOW(SYS_sched_yield),
		ALLOW(SYS_membarrier),
		ALLOW(SYS_rseq),
		ALLOW(SYS_restart_syscall),
		ALLOW(LINUX_SYS_futex_waitv),
		ALLOW(LINUX_SYS_futex_wake),
		ALLOW(LINUX_SYS_futex_wait),
		ALLOW(LINUX_SYS_futex_requeue),
		/* futex: no priority inheritance (it carries thread ids), no requeue of shared
		   words */
		EQ(SYS_futex, 0, 7),
		LOAD(args[1]),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, FUTEX_CMD_MASK),
		EQ(FUTEX_LOCK_PI, 3, 0),
		EQ(FUTEX_WAIT_REQUEUE_PI, 2, 0),
		EQ(FUTEX_CMP_REQUEUE_PI, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		/* madvise: not MADV_REMOVE (it punches files), not MADV_DOFORK (it undoes ours) */
		EQ(SYS_madvise, 0, 5),
		LOAD(args[2]),
		EQ(MADV_REMOVE, 2, 0),
		EQ(MADV_DOFORK, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		EQ(SYS_mmap, 0, 4),
		LOAD(args[3]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ~(unsigned)MAP_ALLOWED, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		EQ(SYS_clone, 0, 4),
		LOAD(args[0]),
		EQ(CLONE_PROCESS, 1, 0),
		EQ(CLONE_A_THREAD, 0, 1),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_KILL_PROCESS),
	};
	unsigned n = sizeof(program) / sizeof(program[0]);

	if (n > cap)
		return 0;
	memcpy(out, program, sizeof(program));
	return n;
}

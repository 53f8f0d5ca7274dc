/*
 * Operations inside a stopped guest process: registers are set to an instruction of the text page,
 * which is single-stepped.  The guest's own registers are the sentry's copy and come back at
 * resume.
 */
#include "platform/ptrace/internal.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

long pt_trace(long request, pid_t tid, uint64_t addr, uint64_t data)
{
	return syscall(SYS_ptrace, request, tid, addr, data);
}

int pt_set_regs(struct p_thread *th, const struct arch_regs *regs)
{
	struct arch_regs r = *regs;

	r.cs = ARCH_USER_CS;
	r.ss = ARCH_USER_DS;
	r.ds = r.es = r.fs = r.gs = 0;
	r.eflags = (r.eflags & ARCH_EFLAGS_USER) | ARCH_EFLAGS_FIXED;
	r.orig_rax = ~0ULL; /* the host must not restart anything on its own */
	if (r.fs_base >= PT_TASK_SIZE)
		r.fs_base = 0;
	if (r.gs_base >= PT_TASK_SIZE)
		r.gs_base = 0;
	return pt_trace(PTRACE_SETREGS, th->tid, 0, (uint64_t)(uintptr_t)&r) ? -ESRCH : 0;
}

/*
 * Steps over one instruction; *message is that of an event which it raised on the way.  Returns the
 * stop signal of the step, or -ESRCH.  A thread that leaves a system-call stop reports a step
 * before it has executed anything: it is stepped again.
 */
static int step(struct p_thread *th, const struct arch_regs *regs, unsigned long *message)
{
	int status, err = pt_set_regs(th, regs);

	if (err)
		return err;
	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, th->tid, 0, 0))
			return -ESRCH;
		if ((err = pt_wait(th, &status)))
			return err;
		int event = status >> 16;
		if (event == PTRACE_EVENT_CLONE || event == PTRACE_EVENT_FORK) {
			if (ptrace(PTRACE_GETEVENTMSG, th->tid, 0, message))
				return -ESRCH;
		} else if (event == 0) {
			struct arch_regs now;
			if (ptrace(PTRACE_GETREGS, th->tid, 0, &now))
				return -ESRCH;
			if (WSTOPSIG(status) != SIGTRAP || now.rip != regs->rip)
				return WSTOPSIG(status);
		}
	}
}

static void base_regs(struct p_thread *th, uint64_t insn, struct arch_regs *regs)
{
	memset(regs, 0, sizeof(*regs));
	regs->rip = insn;
	regs->rsp = PT_SCRATCH + PAGE_SIZE;
	regs->orig_rax = ~0ULL;
	regs->fs_base = th->regs.fs_base;
	regs->gs_base = th->regs.gs_base;
}

static int run_call(struct p_thread *th, uint64_t insn, const uint64_t a[7], long *ret,
		    unsigned long *message)
{
	struct arch_regs regs;

	base_regs(th, insn, &regs);
	regs.rax = a[0];
	regs.rdi = a[1];
	regs.rsi = a[2];
	regs.rdx = a[3];
	regs.r10 = a[4];
	regs.r8 = a[5];
	regs.r9 = a[6];
	int sig = step(th, &regs, message);
	if (sig < 0)
		return sig;
	if (sig != SIGTRAP || ptrace(PTRACE_GETREGS, th->tid, 0, &regs))
		return -ESRCH;
	*ret = (long)regs.rax;
	return 0;
}

int pt_call_at(struct p_thread *th, uint64_t insn, const uint64_t a[7], long *ret)
{
	return run_call(th, insn, a, ret, NULL);
}

int pt_clone(struct p_thread *th, uint64_t flags, struct p_thread *child)
{
	struct pt_platform *pf = th->as->pf;
	const uint64_t a[7] = {SYS_clone, flags};
	unsigned long tid = 0;
	int status;
	long ret;
	int err = run_call(th, PT_SYSCALL_INSN, a, &ret, &tid);
	pid_t early = pf->newborn;

	pf->newborn = 0;
	if (early && early != (pid_t)tid)
		kill(early, SIGKILL); /* of a parent that died before it told */
	if (!tid)
		return err ? err : ret < 0 ? (int)ret : -EAGAIN;
	/* The child is ours from birth and stops before its first instruction. */
	if (early != (pid_t)tid &&
	    (waitpid((pid_t)tid, &status, __WALL) != (pid_t)tid || !WIFSTOPPED(status)))
		return err ? err : -EAGAIN;
	pt_thread_register(child, (pid_t)tid);
	return 0;
}

int pt_scratch_write(struct p_thread *th, size_t off, const void *src, size_t n)
{
	struct iovec from = {(void *)(uintptr_t)src, n}, to = {(void *)(PT_SCRATCH + off), n};

	return process_vm_writev(th->as->pid, &from, 1, &to, 1, 0) == (ssize_t)n ? 0 : -ESRCH;
}

/* Gives the process a descriptor: it becomes PT_FD_NEXT, the lowest that is free. */
static int send_fd(struct p_thread *th, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	long ret;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(th->as->pf->ctl, &m, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return -errno;
	/* The same message as the guest process sees it, in its scratch page. */
	struct iovec guest_iov = {(void *)(PT_SCRATCH + 128), 1};
	struct msghdr guest = {.msg_iov = (void *)(PT_SCRATCH + 64),
			       .msg_iovlen = 1,
			       .msg_control = (void *)(PT_SCRATCH + 192),
			       .msg_controllen = sizeof(control)};
	int err;
	if ((err = pt_scratch_write(th, 0, &guest, sizeof(guest))) ||
	    (err = pt_scratch_write(th, 64, &guest_iov, sizeof(guest_iov))) ||
	    (err = pt_call(th, SYS_recvmsg, PT_FD_CTL, PT_SCRATCH, MSG_DONTWAIT, 0, 0, 0, &ret)))
		return err;
	return ret < 0 ? (int)ret : 0;
}

static int map(struct p_thread *th, const struct p_memop *op, long *ret)
{
	uint64_t flags = (uint64_t)op->flags | MAP_FIXED;
	long ignored;
	int err;

	if (op->fd < 0)
		return pt_call(th, SYS_mmap, op->addr, op->len, (uint64_t)op->prot,
			       flags | MAP_ANONYMOUS, (uint64_t)-1, 0, ret);
	if ((err = send_fd(th, op->fd)))
		return err;
	err = pt_call(th, SYS_mmap, op->addr, op->len, (uint64_t)op->prot, flags, PT_FD_NEXT,
		      op->off, ret);
	if (!err)
		err = pt_call(th, SYS_close, PT_FD_NEXT, 0, 0, 0, 0, 0, &ignored);
	return err;
}

/* Of what the guest may write: the host's process_vm_writev(2) does not go further either. */
static int clear(struct p_thread *th, const struct p_memop *op)
{
	static const uint8_t zeros[4096];
	uint64_t done = 0;

	while (done < op->len) {
		size_t n = MIN(op->len - done, sizeof(zeros));
		if (platform_ptrace.copy_out(th->as, th, op->addr + done, zeros, n) != (ssize_t)n)
			return -EFAULT;
		done += n;
	}
	return 0;
}

static int write_bytes(struct p_thread *th, const struct p_memop *op)
{
	if (op->len > P_WRITE_MAX)
		return -EINVAL;
	ssize_t n = platform_ptrace.copy_out(th->as, th, op->addr, op->bytes, op->len);
	return n == (ssize_t)op->len ? 0 : -EFAULT;
}

static bool in_range(uint64_t addr, uint64_t len)
{
	return addr < PT_TASK_SIZE && len <= PT_TASK_SIZE - addr;
}

static int one_op(struct p_thread *th, struct p_memop *op, long *ret)
{
	bool moves = op->kind == P_MEMOP_MOVE;

	if (!in_range(op->addr, op->kind == P_MEMOP_WAKE ? 4 : op->len) ||
	    ((moves || op->kind == P_MEMOP_RESIZE) &&
	     !in_range(moves ? op->new_addr : op->addr, op->new_len)))
		return -EINVAL;
	switch (op->kind) {
	case P_MEMOP_MAP:
		return map(th, op, ret);
	case P_MEMOP_UNMAP:
		return pt_call(th, SYS_munmap, op->addr, op->len, 0, 0, 0, 0, ret);
	case P_MEMOP_PROTECT:
		return pt_call(th, SYS_mprotect, op->addr, op->len, (uint64_t)op->prot, 0, 0, 0,
			       ret);
	case P_MEMOP_MOVE:
		return pt_call(th, SYS_mremap, op->addr, op->len, op->new_len,
			       MREMAP_MAYMOVE | MREMAP_FIXED, op->new_addr, 0, ret);
	case P_MEMOP_RESIZE:
		return pt_call(th, SYS_mremap, op->addr, op->len, op->new_len, 0, 0, 0, ret);
	case P_MEMOP_ADVISE:
		return pt_call(th, SYS_madvise, op->addr, op->len, (uint64_t)op->flags, 0, 0, 0,
			       ret);
	case P_MEMOP_WAKE:
		return pt_call(th, SYS_futex, op->addr, (uint64_t)(FUTEX_WAKE | op->flags), op->len,
			       0, 0, 0, ret);
	case P_MEMOP_CLEAR:
		return clear(th, op);
	case P_MEMOP_WRITE:
		return write_bytes(th, op);
	case P_MEMOP_RESET:
		break; /* there is no can_reset */
	}
	return -EINVAL;
}

int pt_mem(struct p_thread *th, struct p_memop *ops, size_t n)
{
	int first = 0;

	for (size_t i = 0; i < n; i++) {
		if (first) {
			ops[i].ret = -ECANCELED;
			continue;
		}
		long ret = 0;
		int err = one_op(th, &ops[i], &ret);
		if (!err && ret < 0 && ret > -4096)
			err = (int)ret;
		ops[i].ret = err ? err : ret;
		first = err;
	}
	return first;
}

int pt_cmpxchg32(struct p_thread *th, uint64_t addr, uint32_t expect, uint32_t desired,
		 uint32_t *seen)
{
	struct arch_regs regs;

	if (!in_range(addr, 4) || addr % 4)
		return -EFAULT;
	base_regs(th, PT_CMPXCHG_INSN, &regs);
	regs.rdi = addr;
	regs.rax = expect;
	regs.rsi = desired;
	int sig = step(th, &regs, NULL);
	if (sig < 0)
		return sig;
	if (sig != SIGTRAP)
		return -EFAULT;
	if (ptrace(PTRACE_GETREGS, th->tid, 0, &regs))
		return -ESRCH;
	*seen = (uint32_t)regs.rax;
	return 0;
}

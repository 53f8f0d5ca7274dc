/* ptrace(2): requests and their arguments.  What they do is in sentry/kernel/ptrace. */
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "sentry/arch/xstate.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/signal_queue.h"
#include "sentry/lib/cleanup.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

/* <sys/ptrace.h> and <linux/ptrace.h> exclude each other. */
#define LINUX_PTRACE_GETREGS 12
#define LINUX_PTRACE_SETREGS 13
#define LINUX_PTRACE_GETFPREGS 14
#define LINUX_PTRACE_SETFPREGS 15
#define LINUX_PTRACE_SYSEMU 31
#define LINUX_PTRACE_SYSEMU_SINGLESTEP 32

#define FPREGS_SIZE XSTATE_LEGACY_SIZE
/* struct user: its size, and where the debug registers are. */
#define USER_SIZE 912
#define DEBUG_OFFSET 848

/* ---- memory ---- */

static long peek_data(struct task *t, struct task *target, uint64_t addr, uint64_t data)
{
	uint64_t word;
	struct mm *mm = task_mm_get(target);

	if (!mm)
		return -EIO;
	const struct umem um = {.mm = mm};
	int err = copy_in_val(&um, &word, UADDR(addr));
	mm_put(mm);
	return err ? -EIO : copy_out_val(&t->um, UADDR(data), &word);
}

static long poke_data(struct task *target, uint64_t addr, uint64_t word)
{
	struct mm *mm = task_mm_get(target);

	if (!mm)
		return -EIO;
	size_t n = mm_write_forced(mm, addr, &word, sizeof(word));
	mm_put(mm);
	return n == sizeof(word) ? 0 : -EIO;
}

/* ---- registers ---- */

static long peek_user(struct task *t, struct task *target, uint64_t off, uint64_t data)
{
	struct arch_regs regs;
	uint64_t word = 0;

	if (off % sizeof(word) || off >= USER_SIZE)
		return -EIO;
	long err = ptrace_get_regs(target, &regs);
	if (err)
		return err;
	if (off < sizeof(regs))
		memcpy(&word, (const char *)&regs + off, sizeof(word));
	else if (off >= DEBUG_OFFSET && off < DEBUG_OFFSET + sizeof(target->trace.debugreg))
		word = target->trace.debugreg[(off - DEBUG_OFFSET) / sizeof(word)];
	return copy_out_val(&t->um, UADDR(data), &word);
}

static long poke_user(struct task *target, uint64_t off, uint64_t word)
{
	struct arch_regs regs;

	if (off % sizeof(word) || off >= USER_SIZE)
		return -EIO;
	long err = ptrace_get_regs(target, &regs);
	if (err)
		return err;
	if (off < sizeof(regs)) {
		memcpy((char *)&regs + off, &word, sizeof(word));
		return ptrace_set_regs(target, &regs);
	}
	if (off >= DEBUG_OFFSET && off < DEBUG_OFFSET + sizeof(target->trace.debugreg))
		return ptrace_set_debugreg(target, (unsigned)((off - DEBUG_OFFSET) / sizeof(word)),
					   word);
	return 0;
}

static long get_regs(struct task *t, struct task *target, uint64_t data)
{
	struct arch_regs regs;
	long err = ptrace_get_regs(target, &regs);

	return err ? err : copy_out_val(&t->um, UADDR(data), &regs);
}

static long set_regs(struct task *t, struct task *target, uint64_t data)
{
	struct arch_regs regs;

	if (copy_in_val(&t->um, &regs, UADDR(data)))
		return -EFAULT;
	return ptrace_set_regs(target, &regs);
}

/* n bytes of the extended state, from its beginning. */
static long get_state(struct task *t, struct task *target, uint64_t data, size_t n)
{
	uint8_t area[ARCH_XSTATE_MAX] = {0};
	long err = ptrace_get_xstate(target, area);

	if (!err && n == FPREGS_SIZE)
		memset(area + ARCH_XSTATE_SW_BYTES, 0, FPREGS_SIZE - ARCH_XSTATE_SW_BYTES);
	return err ? err : copy_out(&t->um, UADDR(data), area, n);
}

static long set_state(struct task *t, struct task *target, uint64_t data, size_t n)
{
	uint8_t area[ARCH_XSTATE_MAX] = {0};
	long err = ptrace_get_xstate(target, area);
	uint64_t components;

	if (err)
		return err;
	if (copy_in(&t->um, area, UADDR(data), n))
		return -EFAULT;
	if (n == FPREGS_SIZE) {
		memcpy(&components, area + XSTATE_LEGACY_SIZE, sizeof(components));
		components |= XFEATURE_FP | XFEATURE_SSE;
		memcpy(area + XSTATE_LEGACY_SIZE, &components, sizeof(components));
	}
	return ptrace_set_xstate(target, area);
}

/* PTRACE_GETREGSET, PTRACE_SETREGSET: the iovec's length becomes what was moved. */
static long regset(struct task *t, struct task *target, uint64_t type, uint64_t data, bool set)
{
	const struct p_limits *l = t->k->pf->ops->limits(t->k->pf);
	struct iovec iov;
	struct arch_regs regs;
	size_t size, unit = 8;
	long err;

	switch (type) {
	case NT_PRSTATUS:
		size = sizeof(regs);
		break;
	case NT_PRFPREG:
		size = FPREGS_SIZE;
		break;
	case NT_X86_XSTATE:
		size = MIN(l->xstate_size, (size_t)ARCH_XSTATE_MAX);
		break;
	default:
		return -EINVAL;
	}
	if (copy_in_val(&t->um, &iov, UADDR(data)))
		return -EFAULT;
	if (iov.iov_len % unit)
		return -EINVAL;
	size_t n = MIN(iov.iov_len, size);
	uint64_t base = (uint64_t)(uintptr_t)iov.iov_base;
	if (type == NT_PRSTATUS) {
		err = ptrace_get_regs(target, &regs);
		if (!err && !set)
			err = copy_out(&t->um, UADDR(base), &regs, n);
		else if (!err && !(err = copy_in(&t->um, &regs, UADDR(base), n)))
			err = ptrace_set_regs(target, &regs);
	} else if (set) {
		err = n < size ? -EFAULT : set_state(t, target, base, n);
	} else {
		uint8_t area[ARCH_XSTATE_MAX] = {0};
		err = ptrace_get_xstate(target, area);
		if (!err)
			err = copy_out(&t->um, UADDR(base), area, n);
	}
	if (err)
		return err;
	iov.iov_len = n;
	return copy_out_val(&t->um, UADDR(data), &iov);
}

/* ---- signals ---- */

static long get_siginfo(struct task *t, struct task *target, uint64_t data)
{
	ksiginfo info;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool has = target->trace.has_info;
	info = target->trace.info;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return has ? copy_out_val(&t->um, UADDR(data), &info) : -EINVAL;
}

static long set_siginfo(struct task *t, struct task *target, uint64_t data)
{
	ksiginfo info;

	if (copy_in_val(&t->um, &info, UADDR(data)))
		return -EFAULT;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool has = target->trace.has_info;
	if (has)
		target->trace.info = info;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return has ? 0 : -EINVAL;
}

static bool nth_pending(struct task *target, bool shared, uint64_t n, ksiginfo *info)
{
	struct sigqueue_head *q = shared ? &target->tg->pending : &target->pending;
	struct sigqueue *e;
	bool found = false;

	mutex_lock(&target->tg->siglock, &lc_signal);
	list_for_each (e, &q->list, node) {
		if (n-- == 0) {
			*info = e->info;
			found = true;
			break;
		}
	}
	mutex_unlock(&target->tg->siglock, &lc_signal);
	return found;
}

static long peek_siginfo(struct task *t, struct task *target, uint64_t addr, uint64_t data)
{
	struct ptrace_peeksiginfo_args a;
	ksiginfo info;
	long n;

	if (copy_in_val(&t->um, &a, UADDR(addr)))
		return -EFAULT;
	if ((a.flags & ~(uint32_t)PTRACE_PEEKSIGINFO_SHARED) || a.nr < 0)
		return -EINVAL;
	for (n = 0; n < a.nr; n++) {
		if (signal_fatal_pending(t) ||
		    !nth_pending(target, a.flags & PTRACE_PEEKSIGINFO_SHARED, a.off + (uint64_t)n,
				 &info))
			break;
		if (copy_out_val(&t->um, UADDR(data + (uint64_t)n * sizeof(info)), &info))
			return n ? n : -EFAULT;
	}
	return n;
}

static long signal_mask(struct task *t, struct task *target, uint64_t size, uint64_t data, bool set)
{
	sigset_k mask;

	if (size != sizeof(mask))
		return -EINVAL;
	if (set) {
		if (copy_in_val(&t->um, &mask, UADDR(data)))
			return -EFAULT;
		signal_set_mask(target, mask);
		return 0;
	}
	mutex_lock(&target->tg->siglock, &lc_signal);
	mask = target->has_saved_mask ? target->saved_mask : target->mask;
	mutex_unlock(&target->tg->siglock, &lc_signal);
	return copy_out_val(&t->um, UADDR(data), &mask);
}

/* ---- the rest ---- */

static long set_options(struct task *t, struct task *target, uint64_t opt)
{
	if (opt & ~(uint64_t)PTRACE_O_MASK)
		return -EINVAL;
	if (!ptrace_options_ok(t, opt))
		return -EPERM;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	target->trace.options = (uint32_t)opt;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return 0;
}

static long syscall_info(struct task *t, struct task *target, uint64_t size, uint64_t data)
{
	struct ptrace_syscall_info i;
	struct arch_regs regs;
	size_t n = offsetof(struct ptrace_syscall_info, entry);

	memset(&i, 0, sizeof(i));
	long err = ptrace_get_regs(target, &regs);
	if (err)
		return err;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	i.op = (uint8_t)target->trace.syscall_op;
	uint64_t message = target->trace.message;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	i.arch = AUDIT_ARCH_X86_64;
	i.instruction_pointer = regs.rip;
	i.stack_pointer = regs.rsp;
	switch (i.op) {
	case PTRACE_SYSCALL_INFO_SECCOMP:
		i.seccomp.ret_data = (uint32_t)message;
		n = offsetof(struct ptrace_syscall_info, seccomp.ret_data) + sizeof(uint32_t);
		/* fallthrough */
	case PTRACE_SYSCALL_INFO_ENTRY:
		i.entry.nr = regs.orig_rax;
		for (int k = 0; k < 6; k++)
			i.entry.args[k] = arch_syscall_arg(&regs, k);
		if (i.op == PTRACE_SYSCALL_INFO_ENTRY)
			n = offsetof(struct ptrace_syscall_info, entry) + sizeof(i.entry);
		break;
	case PTRACE_SYSCALL_INFO_EXIT:
		i.exit.rval = (int64_t)regs.rax;
		i.exit.is_error = regs.rax >= (uint64_t)-4095;
		n = offsetof(struct ptrace_syscall_info, exit.is_error) + 1;
	}
	if (copy_out(&t->um, UADDR(data), &i, MIN(n, size)))
		return -EFAULT;
	return (long)n;
}

/* The chain's filter number n, the oldest being 0; with a reference. */
static struct seccomp_filter *nth_filter(struct task *target, uint64_t n)
{
	struct seccomp_filter *f;

	mutex_lock(&target->tg->siglock, &lc_signal);
	f = atomic_load(&target->seccomp);
	while (f && f->depth != n + 1)
		f = f->prev;
	if (f)
		ref_get(&f->ref);
	mutex_unlock(&target->tg->siglock, &lc_signal);
	return f;
}

static long filter_request(struct task *t, struct task *target, bool metadata, uint64_t addr,
			   uint64_t data)
{
	struct {
		uint64_t off, flags;
	} md;
	long ret;

	if (!task_capable(t, CAP_SYS_ADMIN) || seccomp_mode(t) != SECCOMP_MODE_DISABLED)
		return -EACCES;
	if (metadata && addr < sizeof(md.off))
		return -EINVAL;
	if (metadata && copy_in_val(&t->um, &md.off, UADDR(data)))
		return -EFAULT;
	if (seccomp_mode(target) != SECCOMP_MODE_FILTER)
		return -EINVAL;
	struct seccomp_filter *f = nth_filter(target, metadata ? md.off : addr);
	if (!f)
		return -ENOENT;
	if (metadata) {
		md.flags = f->log ? SECCOMP_FILTER_FLAG_LOG : 0;
		size_t n = MIN(addr, sizeof(md));
		ret = copy_out(&t->um, UADDR(data), &md, n);
		ret = ret ? ret : (long)n;
	} else {
		ret = (long)f->len;
		if (data && copy_out(&t->um, UADDR(data), f->prog, f->len * sizeof(*f->prog)))
			ret = -EFAULT;
	}
	seccomp_filter_put(f);
	return ret;
}

static long kill_target(struct task *target)
{
	ksiginfo info;

	signal_info_kernel(&info, SIGKILL);
	(void)!signal_send_task(target, &info);
	return 0;
}

static long event_message(struct task *t, struct task *target, uint64_t data)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	uint64_t message = target->trace.message;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return copy_out_val(&t->um, UADDR(data), &message);
}

static long resume_request(struct task *target, int64_t request, uint64_t signo)
{
	if (signo > LINUX_NSIG)
		return -EIO;
	switch (request) {
	case PTRACE_SYSCALL:
		return ptrace_resume(target, TRACE_SYSCALL, false, (int)signo);
	case PTRACE_SINGLESTEP:
		return ptrace_resume(target, TRACE_CONT, true, (int)signo);
	case LINUX_PTRACE_SYSEMU:
		return ptrace_resume(target, TRACE_SYSEMU, false, (int)signo);
	case LINUX_PTRACE_SYSEMU_SINGLESTEP:
		return ptrace_resume(target, TRACE_SYSEMU, true, (int)signo);
	case PTRACE_DETACH:
		return ptrace_detach(target, (int)signo);
	default:
		return ptrace_resume(target, TRACE_CONT, false, (int)signo);
	}
}

/* On a task that stands in a ptrace-stop. */
static long stopped_request(struct task *t, struct task *target, int64_t request, uint64_t addr,
			    uint64_t data)
{
	switch (request) {
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
		return peek_data(t, target, addr, data);
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
		return poke_data(target, addr, data);
	case PTRACE_PEEKUSR:
		return peek_user(t, target, addr, data);
	case PTRACE_POKEUSR:
		return poke_user(target, addr, data);
	case LINUX_PTRACE_GETREGS:
		return get_regs(t, target, data);
	case LINUX_PTRACE_SETREGS:
		return set_regs(t, target, data);
	case LINUX_PTRACE_GETFPREGS:
		return get_state(t, target, data, FPREGS_SIZE);
	case LINUX_PTRACE_SETFPREGS:
		return set_state(t, target, data, FPREGS_SIZE);
	case PTRACE_GETREGSET:
	case PTRACE_SETREGSET:
		return regset(t, target, addr, data, request == PTRACE_SETREGSET);
	case PTRACE_GETSIGINFO:
		return get_siginfo(t, target, data);
	case PTRACE_SETSIGINFO:
		return set_siginfo(t, target, data);
	case PTRACE_PEEKSIGINFO:
		return peek_siginfo(t, target, addr, data);
	case PTRACE_GETSIGMASK:
	case PTRACE_SETSIGMASK:
		return signal_mask(t, target, addr, data, request == PTRACE_SETSIGMASK);
	case PTRACE_SETOPTIONS:
		return set_options(t, target, data);
	case PTRACE_GETEVENTMSG:
		return event_message(t, target, data);
	case PTRACE_GET_SYSCALL_INFO:
		return syscall_info(t, target, addr, data);
	case PTRACE_SECCOMP_GET_FILTER:
	case PTRACE_SECCOMP_GET_METADATA:
		return filter_request(t, target, request == PTRACE_SECCOMP_GET_METADATA, addr,
				      data);
	case PTRACE_LISTEN:
		return ptrace_listen(target);
	case PTRACE_CONT:
	case PTRACE_SYSCALL:
	case PTRACE_SINGLESTEP:
	case LINUX_PTRACE_SYSEMU:
	case LINUX_PTRACE_SYSEMU_SINGLESTEP:
	case PTRACE_DETACH:
		return resume_request(target, request, data);
	}
	return -EIO;
}

static long attach(struct task *t, struct task *target, bool seize, uint64_t addr, uint64_t options)
{
	if (seize && (addr || (options & ~(uint64_t)PTRACE_O_MASK)))
		return -EIO;
	if (seize && !ptrace_options_ok(t, options))
		return -EPERM;
	return ptrace_attach(t, target, seize, seize ? options : 0);
}

long sys_ptrace(struct task *t, int64_t request, int64_t pid, uint64_t addr, uint64_t data)
{
	long ret;

	if (request == PTRACE_TRACEME)
		return ptrace_traceme(t);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *target = pid > 0 && pid <= INT32_MAX ? task_named(t, (int)pid) : NULL;
	if (target)
		task_get(target);
	bool ours = target && atomic_load(&target->trace.tracer) == t;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!target)
		return -ESRCH;
	if (request == PTRACE_ATTACH || request == PTRACE_SEIZE)
		ret = attach(t, target, request == PTRACE_SEIZE, addr, data);
	else if (!ours)
		ret = -ESRCH;
	else if (request == PTRACE_KILL)
		ret = kill_target(target);
	else if (request == PTRACE_INTERRUPT)
		ret = ptrace_interrupt(target);
	else if (!atomic_load(&target->trace.stopped))
		ret = -ESRCH;
	else
		ret = stopped_request(t, target, request, addr, data);
	task_put(target);
	return ret;
}

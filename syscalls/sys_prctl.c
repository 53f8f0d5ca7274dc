/* prctl(2), arch_prctl(2), personality(2). */
#include <asm/prctl.h>
#include <errno.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/pid.h"
#include "syscalls/syscalls.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define CAP_NR_SETPCAP 8
#define CAP_NR_SYS_RESOURCE 24

static long set_name(struct task *t, uint64_t addr)
{
	char name[16];
	ssize_t n = copy_in_str(&t->um, name, UADDR(addr), sizeof(name));

	if (n == -ENAMETOOLONG)
		name[15] = 0;
	else if (n < 0)
		return n;
	else
		memset(name + n, 0, sizeof(name) - (size_t)n);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(t->comm, name, sizeof(name));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return 0;
}

static long change_cred(struct task *t, void (*change)(struct cred *c, uint64_t arg), uint64_t arg)
{
	struct cred *c = cred_dup(t->cred);

	if (!c)
		return -ENOMEM;
	change(c, arg);
	task_set_cred(t, c);
	return 0;
}

static void drop_bounding(struct cred *c, uint64_t cap)
{
	c->cap_bounding &= ~CAP_BIT(cap);
}

static void set_securebits(struct cred *c, uint64_t bits)
{
	c->securebits = (uint32_t)bits;
}

static void set_ambient(struct cred *c, uint64_t caps)
{
	c->cap_ambient = caps;
}

#define SECBIT_KEEP_CAPS (1u << 4)
#define SECBIT_KEEP_CAPS_LOCKED (1u << 5)
#define SECBIT_NO_CAP_AMBIENT_RAISE (1u << 6)
#define SECBIT_LOCKS 0xaau
#define SECBIT_ALL 0xffu

static long prctl_securebits(struct task *t, uint64_t bits)
{
	uint32_t old = t->cred->securebits;

	if ((bits & ~(uint64_t)SECBIT_ALL) || ((old & SECBIT_LOCKS) & ~bits) ||
	    (((old & SECBIT_LOCKS) >> 1) & (old ^ bits)) || !task_own_capable(t, CAP_NR_SETPCAP))
		return -EPERM;
	return change_cred(t, set_securebits, bits);
}

static long prctl_ambient(struct task *t, uint64_t op, uint64_t cap)
{
	struct cred *c = t->cred;

	if (op == PR_CAP_AMBIENT_CLEAR_ALL)
		return cap ? -EINVAL : change_cred(t, set_ambient, 0);
	if (cap > CAP_LAST)
		return -EINVAL;
	switch (op) {
	case PR_CAP_AMBIENT_IS_SET:
		return !!(c->cap_ambient & CAP_BIT(cap));
	case PR_CAP_AMBIENT_RAISE:
		if (!(c->cap_permitted & c->cap_inheritable & CAP_BIT(cap)) ||
		    (c->securebits & SECBIT_NO_CAP_AMBIENT_RAISE))
			return -EPERM;
		return change_cred(t, set_ambient, c->cap_ambient | CAP_BIT(cap));
	case PR_CAP_AMBIENT_LOWER:
		return change_cred(t, set_ambient, c->cap_ambient & ~CAP_BIT(cap));
	}
	return -EINVAL;
}

/* Machine checks never reach a guest; what it wants done about them is remembered. */
static long prctl_mce_kill(struct task *t, uint64_t op, uint64_t when)
{
	switch (op) {
	case PR_MCE_KILL_CLEAR:
		if (when)
			return -EINVAL;
		t->mce_kill = PR_MCE_KILL_DEFAULT;
		return 0;
	case PR_MCE_KILL_SET:
		if (when > PR_MCE_KILL_DEFAULT)
			return -EINVAL;
		t->mce_kill = (int)when;
		return 0;
	}
	return -EINVAL;
}

/* As on a processor that no speculation flaw affects: there is nothing to turn on or off. */
static long prctl_speculation(bool set, uint64_t which, uint64_t value)
{
	switch (which) {
	case PR_SPEC_STORE_BYPASS:
		return set ? -ENXIO : PR_SPEC_NOT_AFFECTED;
	case PR_SPEC_INDIRECT_BRANCH:
		if (!set)
			return PR_SPEC_NOT_AFFECTED;
		if (value == PR_SPEC_ENABLE)
			return 0;
		return value == PR_SPEC_DISABLE || value == PR_SPEC_FORCE_DISABLE ? -EPERM
										  : -ERANGE;
	case PR_SPEC_L1D_FLUSH:
		return set ? -EPERM : (long)PR_SPEC_FORCE_DISABLE;
	}
	return -ENODEV;
}

/* Newer than libc's headers. */
#define LINUX_PR_SET_MDWE 65
#define LINUX_PR_GET_MDWE 66
#define LINUX_PR_GET_AUXV 0x41555856

/* The heap begins after the program's data, and its size is limited with theirs. */
static int set_mm_brk(struct mm *mm, bool end, uint64_t addr)
{
	uint64_t start = end ? mm->brk_start : addr, brk = end ? addr : mm->brk;

	if (addr <= mm->data_end || start > brk)
		return -EINVAL;
	if (mm->rlimit_data != RLIM_INFINITY &&
	    brk - start + (mm->data_end - mm->data_start) > mm->rlimit_data)
		return -EINVAL;
	*(end ? &mm->brk : &mm->brk_start) = addr;
	return 0;
}

/* The words that PR_SET_MM changes, and the one that bounds each from the other side. */
static int set_mm_word(struct mm *mm, uint64_t option, uint64_t addr)
{
	struct {
		uint64_t *start, *end;
	} pair;
	bool end = false;

	switch (option) {
	case PR_SET_MM_END_CODE:
		end = true; /* fallthrough */
	case PR_SET_MM_START_CODE:
		pair.start = &mm->code_start, pair.end = &mm->code_end;
		break;
	case PR_SET_MM_END_DATA:
		end = true; /* fallthrough */
	case PR_SET_MM_START_DATA:
		pair.start = &mm->data_start, pair.end = &mm->data_end;
		break;
	case PR_SET_MM_ARG_END:
		end = true; /* fallthrough */
	case PR_SET_MM_ARG_START:
		pair.start = &mm->arg_start, pair.end = &mm->arg_end;
		break;
	case PR_SET_MM_ENV_END:
		end = true; /* fallthrough */
	case PR_SET_MM_ENV_START:
		pair.start = &mm->env_start, pair.end = &mm->env_end;
		break;
	case PR_SET_MM_START_STACK:
		mm->start_stack = addr;
		return 0;
	case PR_SET_MM_START_BRK:
	case PR_SET_MM_BRK:
		return set_mm_brk(mm, option == PR_SET_MM_BRK, addr);
	default:
		return -EINVAL;
	}
	uint64_t low = end ? *pair.start : addr, high = end ? addr : *pair.end;
	if (low > high || (low == high && option <= PR_SET_MM_END_CODE))
		return -EINVAL;
	*(end ? pair.end : pair.start) = addr;
	return 0;
}

static long prctl_set_mm(struct task *t, uint64_t option, uint64_t addr, uint64_t a4, uint64_t a5)
{
	struct mm *mm = t->mm;
	uint64_t auxv[ARRAY_SIZE(mm->auxv)] = {0};

	if (a5 || (a4 && option != PR_SET_MM_AUXV))
		return -EINVAL;
	if (!task_capable(t, CAP_NR_SYS_RESOURCE))
		return -EPERM;
	if (option == PR_SET_MM_AUXV) {
		if (a4 > sizeof(auxv) - 2 * sizeof(*auxv))
			return -EINVAL;
		if (copy_in(&t->um, auxv, UADDR(addr), a4))
			return -EFAULT;
		mutex_lock(&mm->lock, &lc_mm);
		memcpy(mm->auxv, auxv, sizeof(auxv));
		mm->auxv_words = a4 / sizeof(*auxv) + 2;
		mutex_unlock(&mm->lock, &lc_mm);
		return 0;
	}
	if (addr >= mm->task_size || addr < mm->mmap_min)
		return -EINVAL;
	bool on_stack = option == PR_SET_MM_START_STACK ||
			(option >= PR_SET_MM_ARG_START && option <= PR_SET_MM_ENV_END);
	if (on_stack && !mm_may_access(mm, addr, 1, false))
		return -EFAULT;
	mutex_lock(&mm->lock, &lc_mm);
	int err = set_mm_word(mm, option, addr);
	mutex_unlock(&mm->lock, &lc_mm);
	return err;
}

static long prctl_get_auxv(struct task *t, uint64_t addr, uint64_t len)
{
	uint64_t auxv[ARRAY_SIZE(t->mm->auxv)];

	mutex_lock(&t->mm->lock, &lc_mm);
	memcpy(auxv, t->mm->auxv, sizeof(auxv));
	mutex_unlock(&t->mm->lock, &lc_mm);
	return copy_out(&t->um, UADDR(addr), auxv, MIN(len, sizeof(auxv))) ? -EFAULT
									   : (long)sizeof(auxv);
}

/* Once said, it is said for good. */
static long prctl_set_mdwe(struct mm *mm, uint64_t bits)
{
	if (bits & ~(uint64_t)(MM_MDWE_REFUSE_EXEC_GAIN | MM_MDWE_NO_INHERIT) ||
	    bits == MM_MDWE_NO_INHERIT)
		return -EINVAL;
	if (mm->mdwe && mm->mdwe != bits)
		return -EPERM;
	mm->mdwe = (unsigned)bits;
	return 0;
}

/* Whom Yama lets attach: attaching goes by ptrace(2)'s own rules here. */
static long prctl_set_ptracer(struct task *t, uint64_t pid)
{
	if (pid == 0 || pid == UINT64_MAX)
		return 0;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool found = pid <= INT32_MAX && task_named(t, (int)pid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return found ? 0 : -EINVAL;
}

long sys_prctl(struct task *t, int option, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	int32_t v;

	switch (option) {
	case PR_SET_NAME:
		return set_name(t, a2);
	case PR_GET_NAME:
		return copy_out(&t->um, UADDR(a2), t->comm, sizeof(t->comm));
	case PR_SET_PDEATHSIG:
		if (a2 > LINUX_NSIG)
			return -EINVAL;
		t->pdeath_signal = (int)a2;
		return 0;
	case PR_GET_PDEATHSIG:
		v = t->pdeath_signal;
		return copy_out_val(&t->um, UADDR(a2), &v);
	case PR_GET_DUMPABLE:
		return atomic_load(&t->mm->dumpable);
	case PR_SET_DUMPABLE:
		if (a2 > 1)
			return -EINVAL;
		atomic_store(&t->mm->dumpable, (int)a2);
		return 0;
	case PR_GET_KEEPCAPS:
		return !!(t->cred->securebits & SECBIT_KEEP_CAPS);
	case PR_SET_KEEPCAPS:
		if (a2 > 1)
			return -EINVAL;
		if (t->cred->securebits & SECBIT_KEEP_CAPS_LOCKED)
			return -EPERM;
		return change_cred(t, set_securebits,
				   a2 ? t->cred->securebits | SECBIT_KEEP_CAPS
				      : t->cred->securebits & ~SECBIT_KEEP_CAPS);
	case PR_GET_SECUREBITS:
		return t->cred->securebits;
	case PR_SET_SECUREBITS:
		return prctl_securebits(t, a2);
	case PR_CAPBSET_READ:
		return a2 > CAP_LAST ? -EINVAL : !!(t->cred->cap_bounding & CAP_BIT(a2));
	case PR_CAPBSET_DROP:
		if (!task_own_capable(t, CAP_NR_SETPCAP))
			return -EPERM;
		return a2 > CAP_LAST ? -EINVAL : change_cred(t, drop_bounding, a2);
	case PR_CAP_AMBIENT:
		return a4 || a5 ? -EINVAL : prctl_ambient(t, a2, a3);
	case PR_SET_NO_NEW_PRIVS:
		if (a2 != 1 || a3 || a4 || a5)
			return -EINVAL;
		t->no_new_privs = true;
		return 0;
	case PR_GET_NO_NEW_PRIVS:
		return a2 || a3 || a4 || a5 ? -EINVAL : t->no_new_privs;
	case PR_SET_CHILD_SUBREAPER:
		t->tg->child_subreaper = a2 != 0;
		return 0;
	case PR_GET_CHILD_SUBREAPER:
		v = t->tg->child_subreaper;
		return copy_out_val(&t->um, UADDR(a2), &v);
	case PR_GET_TIMERSLACK:
		return (long)t->timer_slack;
	case PR_SET_TIMERSLACK:
		t->timer_slack = (int64_t)a2 <= 0 ? TIMER_SLACK_DEFAULT : a2;
		return 0;
	case PR_GET_TIMING:
		return PR_TIMING_STATISTICAL;
	case PR_SET_TIMING:
		return a2 == PR_TIMING_STATISTICAL ? 0 : -EINVAL;
	case PR_GET_SECCOMP:
		return seccomp_mode(t);
	case PR_SET_SECCOMP:
		if (a2 == SECCOMP_MODE_STRICT)
			return sys_seccomp(t, SECCOMP_SET_MODE_STRICT, 0, UADDR_NULL);
		if (a2 == SECCOMP_MODE_FILTER)
			return sys_seccomp(t, SECCOMP_SET_MODE_FILTER, 0, UADDR(a3));
		return -EINVAL;
	case PR_SET_SYSCALL_USER_DISPATCH:
		return sud_set(t, a2, a3, a4, a5);
	case PR_GET_TSC:
		v = PR_TSC_ENABLE;
		return copy_out_val(&t->um, UADDR(a2), &v);
	case PR_GET_TID_ADDRESS:
		return copy_out_val(&t->um, UADDR(a2), &t->clear_child_tid.v);
	case PR_SET_THP_DISABLE:
		if (a3 || a4 || a5)
			return -EINVAL;
		atomic_store(&t->mm->thp_disabled, a2 != 0);
		return 0;
	case PR_GET_THP_DISABLE:
		return a2 || a3 || a4 || a5 ? -EINVAL : atomic_load(&t->mm->thp_disabled);
	case PR_MCE_KILL:
		return a4 || a5 ? -EINVAL : prctl_mce_kill(t, a2, a3);
	case PR_MCE_KILL_GET:
		return a2 || a3 || a4 || a5 ? -EINVAL : (long)t->mce_kill;
	case PR_GET_SPECULATION_CTRL:
		return a3 || a4 || a5 ? -EINVAL : prctl_speculation(false, a2, 0);
	case PR_SET_SPECULATION_CTRL:
		return a4 || a5 ? -EINVAL : prctl_speculation(true, a2, a3);
	case PR_SET_MM:
		return prctl_set_mm(t, a2, a3, a4, a5);
	case PR_SET_PTRACER:
		return prctl_set_ptracer(t, a2);
	case LINUX_PR_SET_MDWE:
		return a3 || a4 || a5 ? -EINVAL : prctl_set_mdwe(t->mm, a2);
	case LINUX_PR_GET_MDWE:
		return a2 || a3 || a4 || a5 ? -EINVAL : (long)t->mm->mdwe;
	case LINUX_PR_GET_AUXV:
		return a4 || a5 ? -EINVAL : prctl_get_auxv(t, a2, a3);
	case PR_SET_VMA:
		/* Names of anonymous mappings: a kernel may be built without them. */
		return -EINVAL;
	}
	return -EINVAL;
}

long sys_arch_prctl(struct task *t, int code, uint64_t addr)
{
	const struct platform_ops *ops = t->k->pf->ops;
	struct arch_regs *regs = ops->regs(t->pt);

	switch (code) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if (addr >= ops->limits(t->k->pf)->task_size)
			return -EPERM;
		if (code == ARCH_SET_FS)
			regs->fs_base = addr;
		else
			regs->gs_base = addr;
		return 0;
	case ARCH_GET_FS:
		return copy_out_val(&t->um, UADDR(addr), &regs->fs_base);
	case ARCH_GET_GS:
		return copy_out_val(&t->um, UADDR(addr), &regs->gs_base);
	}
	return -EINVAL;
}

long sys_personality(struct task *t, unsigned persona)
{
	unsigned old = t->personality;

	if (persona != 0xffffffff)
		t->personality = persona;
	return old;
}

#include "sentry/host/confine.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* What glibc's pthread_create asks of clone(2). */
#define THREAD_FLAGS                                                                        \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
/* Descriptors and ioctl numbers are 32-bit: the upper half of the register is not looked at. */
#define EQ(arg, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffffUL, (uint32_t)(value))
#define NO_EXEC(arg) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)
#define PROC_FD proc_fd

enum when { ALWAYS, ON_PTRACE, ON_SYSTRAP };

struct rule {
	int nr;
	uint32_t action;
	enum when when;
	unsigned n;
	struct scmp_arg_cmp cmp[3];
};

static int add_rules(scmp_filter_ctx ctx, int proc_fd, bool ptrace_platform)
{
#define RULE(name, action, when, ...)                                                \
	{SCMP_SYS(name),                                                             \
	 action,                                                                     \
	 when,                                                                       \
	 sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp), \
	 {__VA_ARGS__}},
#define HOSTCALL(name, why, ...) RULE(name, SCMP_ACT_ALLOW, ALWAYS, __VA_ARGS__)
#define PTRACE_ONLY(name, why, ...) RULE(name, SCMP_ACT_ALLOW, ON_PTRACE, __VA_ARGS__)
#define SYSTRAP_ONLY(name, why, ...) RULE(name, SCMP_ACT_ALLOW, ON_SYSTRAP, __VA_ARGS__)
#define REFUSED(name, error, why, ...) RULE(name, SCMP_ACT_ERRNO(error), ALWAYS, __VA_ARGS__)
	const struct rule rules[] = {
#include "sentry/host/syscalls.def"
	};

	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++) {
		const struct rule *r = &rules[i];
		if (r->when == ON_PTRACE && !ptrace_platform)
			continue;
		if (r->when == ON_SYSTRAP && ptrace_platform)
			continue;
		if (r->nr == SCMP_SYS(openat) && r->action == SCMP_ACT_ALLOW && proc_fd < 0)
			continue;
		int err = seccomp_rule_add_array(ctx, r->action, r->nr, r->n, r->cmp);
		if (err)
			return err;
	}
	return 0;
}

int host_confine(int proc_fd, bool ptrace_platform)
{
	/* TRAP, not KILL: nothing is allowed that way either, and the report names the call. */
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);

	if (!ctx)
		return -ENOMEM;
	int err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!err)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!err)
		err = add_rules(ctx, proc_fd, ptrace_platform);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}

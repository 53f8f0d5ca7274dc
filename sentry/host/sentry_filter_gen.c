/* Prints the sentry's filters, one for each platform: syscalls.def, compiled by libseccomp. */
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "sentry/host/filter.h"
#include "sentry/host/filter_gen.h"

/* What glibc's pthread_create asks of clone(2). */
#define THREAD_FLAGS                                                                        \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)
#define EQ(arg, value) FILTER_EQ(arg, value)
#define NO_EXEC(arg) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)
#define PROC_FD FILTER_FD(0)

enum when { ALWAYS, ON_PTRACE, ON_SYSTRAP };

struct rule {
	int nr;
	uint32_t action;
	enum when when;
	unsigned n;
	struct scmp_arg_cmp cmp[3];
};

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

static int add_rules(scmp_filter_ctx ctx, enum when platform)
{
	const struct rule rules[] = {
#include "sentry/host/syscalls.def"
	};
	int err = 0;

	for (size_t i = 0; !err && i < sizeof(rules) / sizeof(*rules); i++)
		if (rules[i].when == ALWAYS || rules[i].when == platform)
			err = seccomp_rule_add_array(ctx, rules[i].action, rules[i].nr, rules[i].n,
						     rules[i].cmp);
	return err;
}

static int print(enum when platform, const char *name)
{
	/* TRAP, not KILL: nothing is allowed that way either, and the report names the call. */
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int err = !ctx || seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) ||
		  seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);

	if (!err)
		err = add_rules(ctx, platform);
	if (!err)
		err = filter_print(ctx, name);
	seccomp_release(ctx);
	return err;
}

int main(void)
{
	return print(ON_PTRACE, "filter_ptrace") || print(ON_SYSTRAP, "filter_systrap")
		       ? EXIT_FAILURE
		       : EXIT_SUCCESS;
}

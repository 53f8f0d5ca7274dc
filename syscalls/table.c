#include "syscalls/syscalls.h"

#include <errno.h>

#include "platform/platform.h"

#define SYS0(nr, name, level, note)                                  \
	static long call_##name(struct task *t, const uint64_t a[6]) \
	{                                                            \
		(void)a;                                             \
		return sys_##name(t);                                \
	}
#define SYS1(nr, name, level, note, k1, n1)                          \
	static long call_##name(struct task *t, const uint64_t a[6]) \
	{                                                            \
		return sys_##name(t, arg_##k1(a[0]));                \
	}
#define SYS2(nr, name, level, note, k1, n1, k2, n2)                   \
	static long call_##name(struct task *t, const uint64_t a[6])  \
	{                                                             \
		return sys_##name(t, arg_##k1(a[0]), arg_##k2(a[1])); \
	}
#define SYS3(nr, name, level, note, k1, n1, k2, n2, k3, n3)                           \
	static long call_##name(struct task *t, const uint64_t a[6])                  \
	{                                                                             \
		return sys_##name(t, arg_##k1(a[0]), arg_##k2(a[1]), arg_##k3(a[2])); \
	}
#define SYS4(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4)                  \
	static long call_##name(struct task *t, const uint64_t a[6])                 \
	{                                                                            \
		return sys_##name(t, arg_##k1(a[0]), arg_##k2(a[1]), arg_##k3(a[2]), \
				  arg_##k4(a[3]));                                   \
	}
#define SYS5(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5)          \
	static long call_##name(struct task *t, const uint64_t a[6])                 \
	{                                                                            \
		return sys_##name(t, arg_##k1(a[0]), arg_##k2(a[1]), arg_##k3(a[2]), \
				  arg_##k4(a[3]), arg_##k5(a[4]));                   \
	}
#define SYS6(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5, k6, n6)  \
	static long call_##name(struct task *t, const uint64_t a[6])                 \
	{                                                                            \
		return sys_##name(t, arg_##k1(a[0]), arg_##k2(a[1]), arg_##k3(a[2]), \
				  arg_##k4(a[3]), arg_##k5(a[4]), arg_##k6(a[5]));   \
	}
#define SYSN(nr, name, errno_, note)
#include "syscalls/syscalls.def"
#undef SYS0
#undef SYS1
#undef SYS2
#undef SYS3
#undef SYS4
#undef SYS5
#undef SYS6
#undef SYSN

#define ARG(k, n)            \
	{                    \
		KIND_##k, #n \
	}
#define ROW(nr, name, level, note, count, ...) \
	[nr] = {nr, #name, call_##name, 0, count, {__VA_ARGS__}, SUPPORT_##level, note},

static const struct syscall_desc table[SYSCALL_MAX] = {
#define SYS0(nr, name, level, note) \
	[nr] = {nr, #name, call_##name, 0, 0, {{KIND_int, NULL}}, SUPPORT_##level, note},
#define SYS1(nr, name, level, note, k1, n1) ROW(nr, name, level, note, 1, ARG(k1, n1))
#define SYS2(nr, name, level, note, k1, n1, k2, n2) \
	ROW(nr, name, level, note, 2, ARG(k1, n1), ARG(k2, n2))
#define SYS3(nr, name, level, note, k1, n1, k2, n2, k3, n3) \
	ROW(nr, name, level, note, 3, ARG(k1, n1), ARG(k2, n2), ARG(k3, n3))
#define SYS4(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4) \
	ROW(nr, name, level, note, 4, ARG(k1, n1), ARG(k2, n2), ARG(k3, n3), ARG(k4, n4))
#define SYS5(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5)               \
	ROW(nr, name, level, note, 5, ARG(k1, n1), ARG(k2, n2), ARG(k3, n3), ARG(k4, n4), \
	    ARG(k5, n5))
#define SYS6(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5, k6, n6)       \
	ROW(nr, name, level, note, 6, ARG(k1, n1), ARG(k2, n2), ARG(k3, n3), ARG(k4, n4), \
	    ARG(k5, n5), ARG(k6, n6))
#define SYSN(nr, name, errno_, note) \
	[nr] = {nr, #name, NULL, errno_, 0, {{KIND_int, NULL}}, SUPPORT_NONE, note},
#include "syscalls/syscalls.def"
};

const struct syscall_desc *syscall_lookup(uint64_t nr)
{
	return nr < SYSCALL_MAX && table[nr].name ? &table[nr] : NULL;
}

static uint8_t row_brings(const struct syscall_desc *d)
{
	for (int i = 0; i < d->nargs; i++) {
		if (d->args[i].kind == KIND_path)
			return P_BRING_STRING | (uint8_t)i;
		if (d->args[i].kind == KIND_bytes)
			return P_BRING_BYTES | (uint8_t)i;
	}
	return 0;
}

const uint8_t *syscall_brings(void)
{
	static uint8_t brings[SYSCALL_MAX];

	for (int nr = 0; nr < SYSCALL_MAX; nr++)
		if (table[nr].call)
			brings[nr] = row_brings(&table[nr]);
	return brings;
}

long syscall_run(struct task *t, uint64_t nr, const uint64_t a[6])
{
	const struct syscall_desc *d = syscall_lookup(nr);
	if (!d)
		return -ENOSYS;
	bool traced = t->k->strace &&
		      (!t->k->strace_filter || t->k->strace_filter[nr / 64] >> nr % 64 & 1);
	if (traced)
		strace_enter(t, d, a);
	long ret = d->call ? d->call(t, a) : -d->none_errno;
	if (traced)
		strace_exit(t, d, a, ret);
	return ret;
}

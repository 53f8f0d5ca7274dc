/*
 * syscalls.h - the system-call table.  syscalls.def holds one row a call; this file turns the rows
 * into prototypes, table.c into dispatch, strace.c into the printer, `runsc syscalls` into
 * documentation.
 *
 * A handler gets its arguments by kind (KIND_*), already converted: 32-bit kinds are truncated as
 * Linux does, pointers are uaddr_t.  It returns a value ≥ 0 or -errno (or a restart code).
 */
#pragma once

#include "sentry/kernel/task.h"
#include "sentry/lib/uaddr.h"

/* X(kind, C type, conversion from a 64-bit register) */
#define SYSCALL_KINDS(X)                                                              \
	X(int, int, (int)v)                                                           \
	X(uint, unsigned, (unsigned)v)                                                \
	X(long, int64_t, (int64_t)v)                                                  \
	X(ulong, uint64_t, v)                                                         \
	X(fd, int, (int)v)                                                            \
	X(flags, int, (int)v)                                                         \
	X(lflags, uint64_t, v)                                                        \
	X(mode, uint32_t, (uint32_t)v)                                                \
	X(signo, int, (int)v)                                                         \
	X(addr, uint64_t, v) /* a guest address that is a number: mmap's */           \
	X(path, uaddr_t, UADDR(v))                                                    \
	X(in, uaddr_t, UADDR(v))    /* structure or buffer that is read */            \
	X(bytes, uaddr_t, UADDR(v)) /* the same, as long as the next argument says */ \
	X(out, uaddr_t, UADDR(v))   /* … that is written */                         \
	X(inout, uaddr_t, UADDR(v))

#define X(kind, type, conv)                                 \
	typedef type arg_##kind##_t;                        \
	static inline arg_##kind##_t arg_##kind(uint64_t v) \
	{                                                   \
		return conv;                                \
	}
SYSCALL_KINDS(X)
#undef X

enum syscall_kind {
#define X(kind, type, conv) KIND_##kind,
	SYSCALL_KINDS(X)
#undef X
};

enum syscall_level { SUPPORT_FULL, SUPPORT_PARTIAL, SUPPORT_STUB, SUPPORT_NONE };

struct syscall_arg {
	enum syscall_kind kind;
	const char *name;
};

struct syscall_desc {
	int nr;
	const char *name;
	long (*call)(struct task *t, const uint64_t a[6]); /* NULL: returns -none_errno */
	int none_errno;
	int nargs;
	struct syscall_arg args[6];
	enum syscall_level level;
	const char *note;
};

#define SYSCALL_MAX 512
/* NULL for numbers that no row has (ENOSYS). */
const struct syscall_desc *syscall_lookup(uint64_t nr);
/* p_options.brings: paths, and buffers whose length is the next argument, from the rows' kinds. */
const uint8_t *syscall_brings(void);
/* What the task loop calls: dispatch, with strace. */
long syscall_run(struct task *t, uint64_t nr, const uint64_t a[6]);
/* --strace: a line in the log as a call begins and ends (strace.c). */
void strace_enter(struct task *t, const struct syscall_desc *d, const uint64_t a[6]);
void strace_exit(struct task *t, const struct syscall_desc *d, const uint64_t a[6], long ret);

/* Prototypes: long sys_NAME(struct task *t, …typed arguments…) */
#define SYS0(nr, name, level, note) long sys_##name(struct task *t);
#define SYS1(nr, name, level, note, k1, n1) long sys_##name(struct task *t, arg_##k1##_t n1);
#define SYS2(nr, name, level, note, k1, n1, k2, n2) \
	long sys_##name(struct task *t, arg_##k1##_t n1, arg_##k2##_t n2);
#define SYS3(nr, name, level, note, k1, n1, k2, n2, k3, n3) \
	long sys_##name(struct task *t, arg_##k1##_t n1, arg_##k2##_t n2, arg_##k3##_t n3);
#define SYS4(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4)                        \
	long sys_##name(struct task *t, arg_##k1##_t n1, arg_##k2##_t n2, arg_##k3##_t n3, \
			arg_##k4##_t n4);
#define SYS5(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5)                \
	long sys_##name(struct task *t, arg_##k1##_t n1, arg_##k2##_t n2, arg_##k3##_t n3, \
			arg_##k4##_t n4, arg_##k5##_t n5);
#define SYS6(nr, name, level, note, k1, n1, k2, n2, k3, n3, k4, n4, k5, n5, k6, n6)        \
	long sys_##name(struct task *t, arg_##k1##_t n1, arg_##k2##_t n2, arg_##k3##_t n3, \
			arg_##k4##_t n4, arg_##k5##_t n5, arg_##k6##_t n6);
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

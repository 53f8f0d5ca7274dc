/*
 * --strace: one line when a call begins to wait or ends, in the debug log.
 *
 *	[   1] bash: openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC, 0) = 3
 *
 * What the guest passes is printed escaped and short; pointers are read again for it, so a printed
 * string can differ from the one that the handler used.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sentry/lib/log.h"
#include "syscalls/syscalls.h"

#define STRING_SHOWN 64

struct out {
	char *buf;
	size_t size, n;
};

static void out_add(struct out *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void out_add(struct out *o, const char *fmt, ...)
{
	va_list ap;

	if (o->n >= o->size)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(o->buf + o->n, o->size - o->n, fmt, ap);
	va_end(ap);
	o->n += n > 0 ? (size_t)n : 0;
}

static void out_string(struct task *t, struct out *o, uint64_t addr)
{
	char raw[STRING_SHOWN], shown[STRING_SHOWN * 4 + 8];

	if (!addr) {
		out_add(o, "NULL");
		return;
	}
	size_t n = copy_in_partial(&t->um, raw, UADDR(addr), sizeof(raw));
	if (n == 0) {
		out_add(o, "%#llx", (unsigned long long)addr);
		return;
	}
	size_t len = strnlen(raw, n);
	out_add(o, "\"%s\"%s", log_escape(shown, sizeof(shown), raw, len), len == n ? "..." : "");
}

static void out_arg(struct task *t, struct out *o, const struct syscall_arg *arg, uint64_t v)
{
	switch (arg->kind) {
	case KIND_fd:
		if ((int)v == AT_FDCWD) {
			out_add(o, "AT_FDCWD");
			break;
		}
		out_add(o, "%d", (int)v);
		break;
	case KIND_int:
		out_add(o, "%d", (int)v);
		break;
	case KIND_uint:
		out_add(o, "%u", (unsigned)v);
		break;
	case KIND_long:
		out_add(o, "%lld", (long long)v);
		break;
	case KIND_ulong:
		out_add(o, "%llu", (unsigned long long)v);
		break;
	case KIND_mode:
		out_add(o, "%#o", (unsigned)v);
		break;
	case KIND_signo:
		if ((int)v > 0 && (int)v < 32)
			out_add(o, "SIG%s", sigabbrev_np((int)v));
		else
			out_add(o, "%d", (int)v);
		break;
	case KIND_path:
		out_string(t, o, v);
		break;
	default:
		if (v)
			out_add(o, "%#llx", (unsigned long long)v);
		else
			out_add(o, "0");
	}
}

static void out_call(struct task *t, struct out *o, const struct syscall_desc *d,
		     const uint64_t a[6])
{
	out_add(o, "[%4d] %s: %s(", t->tid, t->comm, d->name);
	for (int i = 0; i < d->nargs; i++) {
		if (i)
			out_add(o, ", ");
		out_arg(t, o, &d->args[i], a[i]);
	}
	out_add(o, ")");
}

void strace_enter(struct task *t, const struct syscall_desc *d, const uint64_t a[6])
{
	char buf[512];
	struct out o = {buf, sizeof(buf), 0};

	out_call(t, &o, d, a);
	log_info("%s ...", buf);
}

void strace_exit(struct task *t, const struct syscall_desc *d, const uint64_t a[6], long ret)
{
	char buf[512];
	struct out o = {buf, sizeof(buf), 0};

	/* The arguments of a call that replaced the program mean nothing any more. */
	if ((d->nr == 59 || d->nr == 322) && ret == 0)
		out_add(&o, "[%4d] %s: %s(...)", t->tid, t->comm, d->name);
	else
		out_call(t, &o, d, a);
	if (ret < 0 && ret > -4096) {
		const char *name = strerrorname_np((int)-ret);
		if (name)
			out_add(&o, " = -1 %s", name);
		else
			out_add(&o, " = ? (restart %ld)", -ret);
	} else if (ret >= 0 && ret < 1 << 20) {
		out_add(&o, " = %ld", ret);
	} else {
		out_add(&o, " = %#lx", (unsigned long)ret);
	}
	log_info("%s", buf);
}

/* What kernel this is, how much of everything it has, and randomness. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/personality.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/version.h"
#include "syscalls/syscalls.h"

#define CAP_NR_SYS_ADMIN 21
#define CAP_NR_SYSLOG 34
#define LOG_BUFFER_SIZE 131072

/* What personality(2) makes of a kernel for programs that cannot bear it: "2.6.(60 + y)" of x.y. */
static void old_release(char *release, size_t size)
{
	unsigned minor = 0;
	char rest[32];

	if (sscanf(release, "%*u.%u", &minor) != 1)
		return;
	snprintf(rest, sizeof(rest), "%s", release + strspn(release, "0123456789."));
	snprintf(release, size, "2.6.%u%s", minor + 60, rest);
}

long sys_uname(struct task *t, uaddr_t buf)
{
	struct uts_ns *uts = uts_ns_of(t->ns->of[NS_UTS]);
	struct utsname u;

	memset(&u, 0, sizeof(u));
	strcpy(u.sysname, "Linux");
	strcpy(u.release, KERNEL_RELEASE);
	strcpy(u.version, KERNEL_VERSION);
	if (t->personality & UNAME26)
		old_release(u.release, sizeof(u.release));
	strcpy(u.machine, (t->personality & PER_MASK) == PER_LINUX32 ? "i686" : "x86_64");
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(u.nodename, uts->hostname, sizeof(u.nodename));
	memcpy(u.domainname, uts->domainname, sizeof(u.domainname));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return copy_out_last_val(&t->um, buf, &u);
}

static long set_name(struct task *t, char dst[65], uaddr_t name, int len)
{
	char buf[65];

	if (!task_ns_capable(t, t->ns->of[NS_UTS]->owner, CAP_NR_SYS_ADMIN))
		return -EPERM;
	if (len < 0 || len > 64)
		return -EINVAL;
	memset(buf, 0, sizeof(buf));
	if (copy_in(&t->um, buf, name, (size_t)len))
		return -EFAULT;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(dst, buf, sizeof(buf));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return 0;
}

long sys_sethostname(struct task *t, uaddr_t name, int len)
{
	return set_name(t, uts_ns_of(t->ns->of[NS_UTS])->hostname, name, len);
}

long sys_setdomainname(struct task *t, uaddr_t name, int len)
{
	return set_name(t, uts_ns_of(t->ns->of[NS_UTS])->domainname, name, len);
}

long sys_sysinfo(struct task *t, uaddr_t out)
{
	struct sysinfo si;

	/* Memory and load are the host's: guests' pages are its pages. */
	if (sysinfo(&si))
		return -ENOSYS;
	si.uptime = (time_boottime() + task_time_offsets(t)->boottime - kernel->boot_boottime) /
		    NSEC_PER_SEC;
	si.procs = (unsigned short)atomic_load(&kernel->ntasks);
	return copy_out_last_val(&t->um, out, &si);
}

long sys_getrandom(struct task *t, uaddr_t buf, uint64_t count, unsigned flags)
{
	char chunk[1024];
	uint64_t done = 0;

	if (flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) ||
	    (flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE))
		return -EINVAL;
	count = MIN(count, (uint64_t)INT32_MAX);
	while (done < count) {
		size_t n = MIN(count - done, sizeof(chunk));
		if (getrandom(chunk, n, 0) != (ssize_t)n)
			return done ? (long)done : -EAGAIN;
		size_t copied = copy_out_partial(&t->um, uaddr_add(buf, done), chunk, n);
		done += copied;
		if (copied < n)
			return done ? (long)done : -EFAULT;
		if (signal_pending(t) && done < count)
			break;
	}
	return (long)done;
}

/* The actions of syslog(2). */
enum {
	LOG_CLOSE,
	LOG_OPEN,
	LOG_READ,
	LOG_READ_ALL,
	LOG_READ_CLEAR,
	LOG_CLEAR,
	LOG_CONSOLE_OFF,
	LOG_CONSOLE_ON,
	LOG_CONSOLE_LEVEL,
	LOG_SIZE_UNREAD,
	LOG_SIZE_BUFFER,
};

/* A log in which nothing is ever written, that only the privileged may look at. */
long sys_syslog(struct task *t, int type, uaddr_t buf, int len)
{
	if (!task_capable(t, CAP_NR_SYSLOG) && !task_capable(t, CAP_NR_SYS_ADMIN))
		return -EPERM;
	switch (type) {
	case LOG_READ:
	case LOG_READ_ALL:
	case LOG_READ_CLEAR:
		if (uaddr_is_null(buf) || len < 0)
			return -EINVAL;
		if (len && !mm_may_access(t->mm, buf.v, 1, true))
			return -EFAULT;
		while (type == LOG_READ && len)
			if (task_park(t, TASK_SLEEPING, TIME_NEVER))
				return -ERESTARTSYS;
		return 0;
	case LOG_CONSOLE_LEVEL:
		return len < 1 || len > 8 ? -EINVAL : 0;
	case LOG_SIZE_BUFFER:
		return LOG_BUFFER_SIZE;
	case LOG_CLOSE:
	case LOG_OPEN:
	case LOG_CLEAR:
	case LOG_CONSOLE_OFF:
	case LOG_CONSOLE_ON:
	case LOG_SIZE_UNREAD:
		return 0;
	}
	return -EINVAL;
}

/* wait4(2), waitid(2), and what a parent learns of stops.  Source: wait(2). */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

struct wait_query {
	int type; /* P_ALL, P_PID, P_PGID */
	int id;
	int options;
};

/* One change of state, copied out of the tree. */
struct wait_result {
	struct thread_group *reaped; /* its tree references are ours to put */
	struct task *untraced;	     /* a zombie that we traced: a reference */
	int pid, code, status;	     /* CLD_*; status as siginfo has it */
	int wait_status;	     /* … and as wait4 has it */
	uint32_t uid;
	struct rusage usage;
};

static bool selects(const struct wait_query *q, const struct thread_group *c)
{
	bool clone_child = c->exit_signal != SIGCHLD;

	if (!(q->options & __WALL) && clone_child != !!(q->options & __WCLONE))
		return false;
	switch (q->type) {
	case P_PID:
		return c->tgid == q->id;
	case P_PGID:
		return c->pgid == q->id;
	default:
		return true;
	}
}

/* A traced one is waited for whatever kind of child it is. */
static bool selects_traced(const struct wait_query *q, const struct task *c)
{
	switch (q->type) {
	case P_PID:
		return c->tid == q->id;
	case P_PGID:
		return c->tg->pgid == q->id;
	default:
		return true;
	}
}

static void ns_to_timeval(int64_t ns, struct timeval *tv)
{
	tv->tv_sec = ns / NSEC_PER_SEC;
	tv->tv_usec = ns % NSEC_PER_SEC / 1000;
}

static void usage_to_rusage(const struct mm_usage *u, struct rusage *ru)
{
	ru->ru_maxrss = (long)(u->resident_peak * (PAGE_SIZE / 1024));
	ru->ru_minflt = (long)u->minor_faults;
	ru->ru_majflt = (long)u->major_faults;
	ru->ru_nvcsw = (long)u->voluntary_switches;
	ru->ru_nivcsw = (long)u->involuntary_switches;
}

static void put_times(struct cpu_times used, struct rusage *ru)
{
	ns_to_timeval(used.user, &ru->ru_utime);
	ns_to_timeval(used.system, &ru->ru_stime);
}

static void take_usage(struct thread_group *c, struct rusage *ru) REQUIRES(lc_tasks)
{
	struct cpu_times used = thread_group_last_times(c);

	memset(ru, 0, sizeof(*ru));
	used.user += c->child_times.user;
	used.system += c->child_times.system;
	put_times(used, ru);
	struct mm_usage usage = c->dead_usage;
	mm_usage_add(&usage, &c->child_usage);
	usage_to_rusage(&usage, ru);
}

static void exit_result(struct wait_result *r, int ws)
{
	r->wait_status = ws;
	r->code = WIFEXITED(ws) ? CLD_EXITED : ws & 0x80 ? CLD_DUMPED : CLD_KILLED;
	r->status = WIFEXITED(ws) ? WEXITSTATUS(ws) : WTERMSIG(ws);
}

/* Does c have news that the query asks for?  Takes it unless WNOWAIT. */
static bool take_news(const struct wait_query *q, struct thread_group *c, struct thread_group *own,
		      struct wait_result *r) REQUIRES(lc_tasks)
{
	bool keep = q->options & WNOWAIT, found = false;

	if (c->zombie && (q->options & WEXITED)) {
		exit_result(r, c->wait_status);
		found = true;
	} else if (!c->zombie) {
		mutex_lock(&c->siglock, &lc_signal);
		if ((q->options & WSTOPPED) && c->stop_state == STOP_STOPPED &&
		    c->stop_unreported) {
			r->code = CLD_STOPPED;
			r->status = c->stop_signo;
			r->wait_status = c->stop_signo << 8 | 0x7f;
			c->stop_unreported = keep;
			found = true;
		} else if ((q->options & WCONTINUED) && c->cont_unreported) {
			r->code = CLD_CONTINUED;
			r->status = SIGCONT;
			r->wait_status = 0xffff;
			c->cont_unreported = keep;
			found = true;
		}
		mutex_unlock(&c->siglock, &lc_signal);
	}
	if (!found)
		return false;
	r->pid = pid_nr_in(c->pid, own->pid_ns);
	r->uid = c->leader->cred->uid;
	take_usage(c, &r->usage);
	r->reaped = NULL;
	if (c->zombie && !keep) {
		thread_group_reap(c);
		r->reaped = c;
	}
	return true;
}

/* The same of one that we trace: its stops, and its end unless it is our own child (that is
 * take_news'). */
static bool take_trace_news(const struct wait_query *q, struct task *c, struct thread_group *own,
			    struct wait_result *r) REQUIRES(lc_tasks)
{
	bool keep = q->options & WNOWAIT, leader = c == c->tg->leader;
	int nr = pid_nr_in(c->pid, own->pid_ns);

	if (atomic_load(&c->trace.stopped) && c->trace.unreported) {
		r->code = CLD_TRAPPED;
		r->status = c->trace.code;
		r->wait_status = c->trace.code << 8 | 0x7f;
		c->trace.unreported = keep;
	} else if ((q->options & WEXITED) &&
		   (c->trace.zombie || (leader && c->tg->zombie && c->tg->parent != own))) {
		exit_result(r, leader ? c->tg->wait_status : c->exit_status);
		if (!keep) {
			r->untraced = task_get(c);
			trace_unlink(c);
			if (!leader)
				task_unhash(c);
		}
	} else {
		return false;
	}
	r->pid = nr;
	r->uid = c->cred->uid;
	memset(&r->usage, 0, sizeof(r->usage));
	return true;
}

/* As scan_children, of those that the group's threads (with __WNOTHREAD: this one) trace. */
static int scan_traced(struct task *t, const struct wait_query *q, struct wait_result *r)
	REQUIRES(lc_tasks)
{
	struct task *s, *c;
	int ret = -ECHILD;

	list_for_each (s, &t->tg->threads, thread_link) {
		if ((q->options & __WNOTHREAD) && s != t)
			continue;
		list_for_each (c, &s->trace.tracees, trace.link) {
			if (!selects_traced(q, c))
				continue;
			ret = 0;
			if (take_trace_news(q, c, t->tg, r))
				return 1;
		}
	}
	return ret;
}

/* Its tracer elsewhere has not waited for its end yet. */
static bool held_by_tracer(const struct thread_group *c, const struct thread_group *own)
	REQUIRES(lc_tasks)
{
	struct task *tracer = atomic_load(&c->leader->trace.tracer);

	return tracer && tracer->tg != own;
}

/* 1 found, 0 nothing yet, -ECHILD no such child. */
static int scan_children(struct task *t, const struct wait_query *q, struct wait_result *r)
{
	struct thread_group *c;

	r->reaped = NULL;
	r->untraced = NULL;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	int ret = scan_traced(t, q, r);
	if (ret == 1)
		goto out;
	list_for_each (c, &t->tg->children, sibling) {
		if (!selects(q, c))
			continue;
		ret = 0;
		/* One that we trace tells its stops itself. */
		if (c->zombie ? held_by_tracer(c, t->tg)
			      : task_is_traced(c->leader) && !held_by_tracer(c, t->tg))
			continue;
		if (take_news(q, c, t->tg, r)) {
			ret = 1;
			break;
		}
	}
out:
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (ret == 1 && r->untraced) {
		if (!r->untraced->trace.zombie)
			thread_group_untraced(r->untraced->tg);
		task_put(r->untraced);
	}
	if (ret == 1 && r->reaped) {
		struct task *leader = r->reaped->leader;
		r->reaped->leader = NULL;
		task_put(leader);
		thread_group_put(r->reaped);
	}
	return ret;
}

static int wait_for(struct task *t, const struct wait_query *q, struct wait_result *r)
{
	struct task_waiter tw;
	int found, err = 0;

	task_waiter_init(&tw, t);
	waitq_add(&t->tg->wait_children, &tw.w, POLLIN);
	for (;;) {
		found = scan_children(t, q, r);
		if (found != 0 || (q->options & WNOHANG))
			break;
		/* Only now: the signal is mostly the SIGCHLD of the news that we wait for. */
		if (err) {
			found = -ERESTARTSYS;
			break;
		}
		err = task_park(t, TASK_SLEEPING, TIME_NEVER);
	}
	waitq_remove(&tw.w);
	return found;
}

long task_wait4(struct task *t, int pid, uaddr_t ustatus, int options, uaddr_t urusage)
{
	struct wait_query q = {.options = options | WEXITED};
	struct wait_result r;

	if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | (int)__WALL))
		return -EINVAL;
	if (pid == -1) {
		q.type = P_ALL;
	} else if (pid > 0) {
		q.type = P_PID;
		q.id = pid_from_guest(t, pid);
	} else {
		if (pid == INT32_MIN)
			return -ESRCH;
		q.type = P_PGID;
		q.id = pid ? pid_from_guest(t, -pid) : t->tg->pgid;
	}
	int found = wait_for(t, &q, &r);
	if (found <= 0)
		return found;
	int32_t status = r.wait_status;
	if (!uaddr_is_null(ustatus) && copy_out_val(&t->um, ustatus, &status))
		return -EFAULT;
	if (!uaddr_is_null(urusage) && copy_out_val(&t->um, urusage, &r.usage))
		return -EFAULT;
	return r.pid;
}

static int pidfd_to_pid(struct task *t, int fd, int *pid, bool *nonblock)
{
	struct file *f = fdtable_file(t->fds, fd);

	if (!f)
		return -EBADF;
	struct thread_group *tg = pidfd_group(f);
	int err = tg ? 0 : -EBADF;
	if (tg) {
		*pid = tg->tgid;
		*nonblock = atomic_load(&f->flags) & 04000 /* O_NONBLOCK */;
	}
	file_put(f);
	return err;
}

long task_waitid(struct task *t, int type, int id, uaddr_t uinfo, int options, uaddr_t urusage)
{
	struct wait_query q = {.type = type, .id = id, .options = options};
	struct wait_result r;
	bool nonblock = false;
	int err;

	if (options & ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | __WNOTHREAD |
			__WCLONE | (int)__WALL))
		return -EINVAL;
	if (!(options & (WEXITED | WSTOPPED | WCONTINUED)))
		return -EINVAL;
	switch (type) {
	case P_ALL:
		break;
	case P_PID:
		if (id <= 0)
			return -EINVAL;
		q.id = pid_from_guest(t, id);
		break;
	case P_PGID:
		if (id < 0)
			return -EINVAL;
		q.id = id ? pid_from_guest(t, id) : t->tg->pgid;
		break;
	case P_PIDFD:
		if (id < 0)
			return -EINVAL;
		if ((err = pidfd_to_pid(t, id, &q.id, &nonblock)))
			return err;
		q.type = P_PID;
		if (nonblock)
			q.options |= WNOHANG;
		break;
	default:
		return -EINVAL;
	}
	int found = wait_for(t, &q, &r);
	if (found < 0)
		return found;
	if (found == 0 && nonblock && !(options & WNOHANG))
		return -EAGAIN;
	if (!uaddr_is_null(uinfo)) {
		/* The kernel writes the first fields only; all of them are zero without news. */
		struct {
			int32_t signo, err, code, pad, pid;
			uint32_t uid;
			int32_t status;
		} info;
		memset(&info, 0, sizeof(info));
		if (found) {
			info.signo = SIGCHLD;
			info.code = r.code;
			info.pid = r.pid;
			info.uid = uid_show(t->cred->user_ns, r.uid);
			info.status = r.status;
		}
		if (copy_out_val(&t->um, uinfo, &info))
			return -EFAULT;
	}
	if (found && !uaddr_is_null(urusage) && copy_out_val(&t->um, urusage, &r.usage))
		return -EFAULT;
	return 0;
}

void task_notify_parent_stop(struct thread_group *tg, int cld_code, int signo)
{
	ksiginfo info;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct thread_group *parent = tg->parent ? thread_group_get(tg->parent) : NULL;
	uint32_t uid = tg->leader ? tg->leader->cred->uid : 0;
	int pid = parent && tg->pid ? pid_nr_in(tg->pid, parent->pid_ns) : 0;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (!parent)
		return;
	mutex_lock(&parent->siglock, &lc_signal);
	bool quiet = parent->sighand->action[SIGCHLD - 1].flags & SA_NOCLDSTOP;
	mutex_unlock(&parent->siglock, &lc_signal);
	if (!quiet) {
		memset(&info, 0, sizeof(info));
		info.si_signo = SIGCHLD;
		info.si_code = cld_code;
		info.si_pid = pid;
		info.si_uid = uid;
		info.si_status = signo;
		(void)!signal_send_group(parent, &info);
	}
	waitq_notify(&parent->wait_children, POLLIN);
	thread_group_put(parent);
}

void task_rusage(struct thread_group *tg, struct mm *mm, int who, struct rusage *out)
{
	struct mm_usage usage;

	memset(out, 0, sizeof(*out));
	if (who == RUSAGE_CHILDREN) {
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		put_times(tg->child_times, out);
		usage = tg->child_usage;
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	} else {
		memset(&usage, 0, sizeof(usage));
		if (mm)
			mm_usage(mm, &usage);
		mutex_lock(&kernel->tasks_lock, &lc_tasks);
		mm_usage_add(&usage, &tg->dead_usage);
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		put_times(thread_group_times(tg), out);
	}
	usage_to_rusage(&usage, out);
}

void task_own_rusage(struct task *t, struct rusage *out)
{
	struct mm_usage usage, whole;

	memset(out, 0, sizeof(*out));
	task_host_usage(t, &usage);
	mm_usage(t->mm, &whole);
	usage.resident_peak = whole.resident_peak;
	put_times(task_times(t), out);
	usage_to_rusage(&usage, out);
}

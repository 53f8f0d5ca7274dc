/* The stops of a traced task. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"

#define EVENT(sig, event) ((sig) | (event) << 8)

struct stop {
	int code;
	uint64_t message;
	int syscall_op;
	const ksiginfo *info; /* NULL: there is none (a group stop of one that was attached) */
	bool at_exit;	      /* the task is ending, and stops all the same */
};

static void notify_tracer(struct task *t) REQUIRES(lc_tasks)
{
	struct thread_group *tg = atomic_load(&t->trace.tracer)->tg;
	ksiginfo info;

	mutex_lock(&tg->siglock, &lc_signal);
	const struct ksigaction *a = &tg->sighand->action[SIGCHLD - 1];
	bool quiet = a->handler == LINUX_SIG_IGN || (a->flags & SA_NOCLDSTOP);
	mutex_unlock(&tg->siglock, &lc_signal);
	if (!quiet) {
		memset(&info, 0, sizeof(info));
		info.si_signo = SIGCHLD;
		info.si_code = CLD_TRAPPED;
		info.si_pid = pid_nr_in(t->pid, tg->pid_ns);
		info.si_uid = t->cred->uid;
		info.si_status = t->trace.code & 0x7f;
		(void)!signal_send_group(tg, &info);
	}
	waitq_notify(&tg->wait_children, POLLIN);
}

static bool stop_goes_on(struct task *t)
{
	struct trace *tr = &t->trace;

	if (atomic_load(&tr->stopped))
		return true;
	if (!atomic_load(&tr->listening))
		return false;
	mutex_lock(&t->tg->siglock, &lc_signal);
	bool on = !atomic_load(&tr->trap_wanted) && t->tg->stop_state != STOP_NONE;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return on;
}

static void want_trap(struct task *t)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	atomic_store(&t->trace.trap_wanted, true);
	signal_recalc(t);
	mutex_unlock(&t->tg->siglock, &lc_signal);
}

/* Stops until the tracer, or the end of either, ends it: the signal that the tracer resumes with;
 * -1: there was no stop. */
static int trace_stop(struct task *t, const struct stop *s)
{
	struct trace *tr = &t->trace;

	if (task_is_traced(t) && t->k->pf->ops->show_original)
		t->k->pf->ops->show_original(t->pt);
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	if (!task_is_traced(t) || (!s->at_exit && task_must_die(t))) {
		mutex_unlock(&kernel->tasks_lock, &lc_tasks);
		return -1;
	}
	tr->code = s->code;
	tr->message = s->message;
	tr->syscall_op = s->syscall_op;
	tr->has_info = s->info != NULL;
	if (s->info)
		tr->info = *s->info;
	tr->resume_signal = 0;
	tr->unreported = true;
	atomic_store(&tr->step, false);
	atomic_store(&tr->mode, TRACE_CONT);
	atomic_store(&tr->stopped, true);
	notify_tracer(t);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);

	while (stop_goes_on(t))
		if (task_park(t, s->at_exit ? TASK_TRACED_AT_EXIT : TASK_TRACED, TIME_NEVER) &&
		    !s->at_exit)
			break;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	atomic_store(&tr->stopped, false);
	bool listened = atomic_exchange(&tr->listening, false) && task_is_traced(t);
	int signo = tr->resume_signal;
	tr->syscall_op = PTRACE_SYSCALL_INFO_NONE;
	/* The tracer may still be at our registers. */
	mutex_lock(&tr->lock, &lc_trace);
	mutex_unlock(&tr->lock, &lc_trace);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (listened)
		want_trap(t);
	return signo;
}

/* A stop with the siginfo that such stops have: the code again, and the task itself. */
static int stop_with_code(struct task *t, struct stop *s)
{
	ksiginfo info;

	memset(&info, 0, sizeof(info));
	info.si_signo = s->code & 0x7f;
	info.si_code = s->code;
	info.si_pid = pid_nr_own(t->pid);
	info.si_uid = uid_show(t->cred->user_ns, t->cred->uid);
	s->info = &info;
	return trace_stop(t, s);
}

static void send_from_tracer(struct task *t, int signo)
{
	ksiginfo info;

	if (signo <= 0)
		return;
	signal_info_kernel(&info, signo);
	(void)!signal_send_task(t, &info);
}

static uint32_t options(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	uint32_t opt = task_is_traced(t) ? t->trace.options : 0;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return opt;
}

/* ---- calls ---- */

static void syscall_stop(struct task *t, uint64_t message, int op)
{
	int good = options(t) & PTRACE_O_TRACESYSGOOD ? 0x80 : 0;
	struct stop s = {.code = SIGTRAP | good, .message = message, .syscall_op = op};

	send_from_tracer(t, stop_with_code(t, &s));
}

bool ptrace_syscall_enter(struct task *t)
{
	int mode = atomic_load(&t->trace.mode);

	if (mode == TRACE_CONT)
		return true;
	syscall_stop(t, PTRACE_EVENTMSG_SYSCALL_ENTRY, PTRACE_SYSCALL_INFO_ENTRY);
	if (task_must_die(t) || mode == TRACE_SYSEMU)
		return false;
	return (int32_t)t->k->pf->ops->regs(t->pt)->orig_rax != -1;
}

void ptrace_syscall_exit(struct task *t)
{
	ksiginfo info;

	if (task_must_die(t) || t->exit_requested)
		return;
	if (atomic_load(&t->trace.mode) == TRACE_SYSCALL) {
		syscall_stop(t, PTRACE_EVENTMSG_SYSCALL_EXIT, PTRACE_SYSCALL_INFO_EXIT);
	} else if (atomic_load(&t->trace.step)) {
		memset(&info, 0, sizeof(info));
		info.si_signo = SIGTRAP;
		info.si_code = TRAP_BRKPT;
		info.si_addr = (void *)(uintptr_t)t->k->pf->ops->regs(t->pt)->rip;
		signal_force(t, &info);
	}
}

bool ptrace_seccomp(struct task *t, uint16_t data)
{
	if (!(options(t) & PTRACE_O_TRACESECCOMP))
		return false;
	struct stop s = {.code = EVENT(SIGTRAP, PTRACE_EVENT_SECCOMP),
			 .message = data,
			 .syscall_op = PTRACE_SYSCALL_INFO_SECCOMP};
	return stop_with_code(t, &s) >= 0;
}

bool ptrace_suspends_seccomp(struct task *t)
{
	return options(t) & PTRACE_O_SUSPEND_SECCOMP;
}

/* ---- signals and group stops ---- */

int ptrace_signal(struct task *t, int signo, ksiginfo *info)
{
	struct stop s = {.code = signo, .info = info};

	int now = trace_stop(t, &s);
	if (now < 0)
		return signo;
	if (now == 0)
		return 0;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	*info = t->trace.info;
	struct task *tracer = atomic_load(&t->trace.tracer);
	if (now != info->si_signo && tracer) {
		signal_info_user(info, now, SI_USER, tracer);
		info->si_pid = pid_nr_in(tracer->pid, task_pid_ns(t));
	}
	info->si_signo = now;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (t->mask & SIG_BIT(now) & ~SIG_UNBLOCKABLE) {
		(void)!signal_send_task(t, info);
		return 0;
	}
	return now;
}

static bool is_seized(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	bool seized = t->trace.seized;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return seized;
}

/* The signal of the group stop that is in effect, or SIGTRAP. */
static int stop_signal(struct task *t)
{
	mutex_lock(&t->tg->siglock, &lc_signal);
	int signo = t->tg->stop_state != STOP_NONE ? t->tg->stop_signo : SIGTRAP;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return signo;
}

void ptrace_group_stop(struct task *t)
{
	int signo = stop_signal(t);
	struct stop s = {.code = is_seized(t) ? EVENT(signo, PTRACE_EVENT_STOP) : signo};

	if (is_seized(t))
		stop_with_code(t, &s);
	else
		trace_stop(t, &s);
}

void ptrace_trap(struct task *t)
{
	struct stop s = {.code = EVENT(stop_signal(t), PTRACE_EVENT_STOP)};

	stop_with_code(t, &s);
}

/* ---- events ---- */

void ptrace_event(struct task *t, int event, uint64_t message)
{
	struct stop s = {.code = EVENT(SIGTRAP, event),
			 .message = message,
			 .at_exit = event == PTRACE_EVENT_EXIT};

	if (options(t) >> event & 1)
		send_from_tracer(t, stop_with_code(t, &s));
}

int ptrace_tid_seen(struct task *t)
{
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *tracer = atomic_load(&t->trace.tracer);
	int seen = tracer ? pid_nr_in(t->pid, task_pid_ns(tracer)) : 0;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	return seen;
}

void ptrace_event_pid(struct task *t, int event, int tid)
{
	int seen = 0;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	struct task *tracer = atomic_load(&t->trace.tracer);
	if (tracer)
		seen = pid_show(task_pid_ns(tracer), tid);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	ptrace_event(t, event, (uint64_t)seen);
}

void ptrace_exec(struct task *t, int old_tid)
{
	ksiginfo info;

	memset(t->trace.debugreg, 0, sizeof(t->trace.debugreg));
	if (!task_is_traced(t))
		return;
	if (options(t) & PTRACE_O_TRACEEXEC) {
		ptrace_event(t, PTRACE_EVENT_EXEC, (uint64_t)old_tid);
	} else if (!is_seized(t)) {
		signal_info_user(&info, SIGTRAP, SI_USER, t);
		(void)!signal_send_task(t, &info);
	}
}

/* ---- single steps ---- */

void ptrace_step_into_handler(struct task *t)
{
	struct stop s = {.code = SIGTRAP};

	if (atomic_load(&t->trace.step))
		send_from_tracer(t, stop_with_code(t, &s));
}

void ptrace_enter_guest(struct task *t)
{
	struct arch_regs *regs = t->k->pf->ops->regs(t->pt);

	t->trace.set_tf = (atomic_load(&t->trace.step) || ptrace_watches(t)) &&
			  !(regs->eflags & ARCH_EFLAGS_TF);
	if (t->trace.set_tf)
		regs->eflags |= ARCH_EFLAGS_TF;
}

void ptrace_left_guest(struct task *t)
{
	if (t->trace.set_tf)
		t->k->pf->ops->regs(t->pt)->eflags &= ~ARCH_EFLAGS_TF;
	t->trace.set_tf = false;
}

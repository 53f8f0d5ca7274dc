/* The tracer thread: stops become events, commands and requests become ptrace requests. */
#include "platform/ptrace/internal.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sentry/lib/log.h"

/* <sys/ptrace.h> and <linux/ptrace.h> exclude each other; the raw call serves both. */
static long trace(long request, pid_t tid, uint64_t addr, uint64_t data)
{
	return syscall(SYS_ptrace, request, tid, addr, data);
}

#define WAKE_SIGNAL SIGUSR2
#define ERESTART_FIRST 512
#define ERESTART_LAST 516

static struct list_head *bucket(struct pt_platform *pf, pid_t tid)
{
	return &pf->threads[(unsigned)tid % PT_BUCKETS];
}

struct p_thread *pt_thread_new(struct pt_platform *pf, struct p_aspace *as, pid_t tid)
{
	struct p_thread *th = calloc(1, sizeof(*th));

	if (!th)
		return NULL;
	th->as = as;
	th->tid = tid;
	list_init(&th->ready);
	list_init(&th->request);
	list_add(&th->hash, bucket(pf, tid));
	as->nthreads++;
	return th;
}

void pt_thread_forget(struct p_thread *th)
{
	list_del(&th->hash);
	th->as->nthreads--;
}

static struct p_thread *thread_lookup(struct pt_platform *pf, pid_t tid)
{
	struct p_thread *th;

	list_for_each (th, bucket(pf, tid), hash)
		if (th->tid == tid)
			return th;
	return NULL;
}

int pt_set_regs(struct p_thread *th, const struct arch_regs *regs)
{
	struct arch_regs r = *regs;

	r.cs = ARCH_USER_CS;
	r.ss = ARCH_USER_DS;
	r.ds = r.es = r.fs = r.gs = 0;
	r.eflags = (r.eflags & ARCH_EFLAGS_USER) | ARCH_EFLAGS_FIXED;
	r.orig_rax = ~0ULL; /* the host must not restart anything on its own */
	if (r.fs_base >= PT_TASK_SIZE)
		r.fs_base = 0;
	if (r.gs_base >= PT_TASK_SIZE)
		r.gs_base = 0;
	return trace(PTRACE_SETREGS, th->tid, 0, (uint64_t)(uintptr_t)&r) ? -ESRCH : 0;
}

int pt_wait(struct p_thread *th, int *status)
{
	while (waitpid(th->tid, status, __WALL) != th->tid)
		if (errno != EINTR)
			return -ESRCH;
	if (WIFSTOPPED(*status))
		return 0;
	th->dead = true;
	if (th->tid == th->as->pid)
		atomic_store(&th->as->dead, true);
	return -ESRCH;
}

void pt_post(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	atomic_store(&th->host_wait, false);
	atomic_store(&th->state, PT_QUEUED);
	pthread_mutex_lock(&pf->queue_lock);
	list_add_tail(&th->ready, &pf->ready);
	pthread_cond_signal(&pf->queue_cond);
	pthread_mutex_unlock(&pf->queue_lock);
}

static void post_kind(struct p_thread *th, enum p_event_kind kind)
{
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = kind;
	pt_post(th);
}

static void post_dead(struct p_thread *th, int signo)
{
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = P_EVENT_DEAD;
	th->ev.signo = signo;
	pt_post(th);
}

static void go(struct p_thread *th, long request)
{
	if (trace(request, th->tid, 0, 0)) {
		/* Gone, or about to be: its exit status posts the event. */
		log_debug("thread %d cannot be resumed: %s", th->tid, strerror(errno));
	}
}

/* ---- calls that the guest's own instruction performs ---- */

static bool is_direct(const struct arch_regs *r)
{
	switch (r->orig_rax) {
	case SYS_sched_yield:
	case SYS_membarrier:
	case SYS_rseq:
		return true;
	case SYS_futex:
		switch ((int)r->rsi & FUTEX_CMD_MASK) {
		case FUTEX_WAIT:
		case FUTEX_WAKE:
		case FUTEX_REQUEUE:
		case FUTEX_CMP_REQUEUE:
		case FUTEX_WAKE_OP:
		case FUTEX_WAIT_BITSET:
		case FUTEX_WAKE_BITSET:
			return true;
		}
	}
	return false;
}

/* When the futex wait that is about to begin times out; 0: never. */
static int64_t wait_deadline(struct p_thread *th, const struct arch_regs *r)
{
	int op = (int)r->rsi & FUTEX_CMD_MASK;
	struct timespec ts, now;

	if (r->orig_rax != SYS_futex || (op != FUTEX_WAIT && op != FUTEX_WAIT_BITSET) || !r->r10)
		return 0;
	struct iovec to = {&ts, sizeof(ts)}, from = {(void *)(uintptr_t)r->r10, sizeof(ts)};
	if (process_vm_readv(th->as->pid, &to, 1, &from, 1, 0) != sizeof(ts))
		return 0;
	int64_t t = ts.tv_sec * 1000000000LL + ts.tv_nsec;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (op == FUTEX_WAIT)
		return t + now.tv_sec * 1000000000LL + now.tv_nsec;
	if ((int)r->rsi & FUTEX_CLOCK_REALTIME) {
		struct timespec real;
		clock_gettime(CLOCK_REALTIME, &real);
		t += (now.tv_sec - real.tv_sec) * 1000000000LL + now.tv_nsec - real.tv_nsec;
	}
	return t;
}

static void perform_directly(struct p_thread *th)
{
	struct arch_regs r = th->regs;

	th->deadline = wait_deadline(th, &r);
	int op = (int)r.rsi & FUTEX_CMD_MASK;
	atomic_store(&th->host_wait,
		     r.orig_rax == SYS_futex && (op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET));
	r.rip -= ARCH_SYSCALL_INSN_LEN;
	r.rax = r.orig_rax;
	th->direct = true;
	th->direct_rip = r.rip;
	if (pt_set_regs(th, &r))
		return;
	go(th, PTRACE_SINGLESTEP);
}

/* The instruction is done, or was interrupted. */
static void direct_stopped(struct p_thread *th, bool interrupt_stop)
{
	struct arch_regs *r = &th->regs;
	uint64_t nr = r->orig_rax;

	if (trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)r))
		return;
	int64_t err = -(int64_t)r->rax;
	bool aborted = err >= ERESTART_FIRST && err <= ERESTART_LAST;
	/* Not executed yet (see step in inject.c), or a stop that nobody waits for any more. */
	if ((!interrupt_stop && r->rip == th->direct_rip) ||
	    (interrupt_stop && !atomic_load(&th->interrupted))) {
		r->orig_rax = nr;
		go(th, PTRACE_SINGLESTEP);
		return;
	}
	th->direct = false;
	atomic_store(&th->host_wait, false);
	if (interrupt_stop && aborted) {
		atomic_store(&th->interrupted, false);
		memset(&th->ev, 0, sizeof(th->ev));
		th->ev.kind = P_EVENT_SYSCALL;
		th->ev.host_wait_aborted = true;
		th->ev.host_wait_deadline = th->deadline;
		r->orig_rax = nr;
		r->rax = (uint64_t)-EINTR;
		pt_post(th);
		return;
	}
	if (interrupt_stop) {
		atomic_store(&th->interrupted, false);
		post_kind(th, P_EVENT_INTERRUPTED);
		return;
	}
	if (pt_set_regs(th, r))
		return;
	go(th, PTRACE_SYSEMU);
}

/* ---- stops ---- */

static bool is_foreign_abi(struct p_thread *th)
{
	struct ptrace_syscall_info info;

	return trace(PTRACE_GET_SYSCALL_INFO, th->tid, sizeof(info), (uint64_t)(uintptr_t)&info) >
		       0 &&
	       info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch != AUDIT_ARCH_X86_64;
}

static void syscall_stopped(struct p_thread *th)
{
	if (trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&th->regs))
		return;
	/* int $0x80 has i386's numbers, which mean nothing here: ENOSYS (design, rule 11). */
	if (is_foreign_abi(th)) {
		th->regs.rax = (uint64_t)-ENOSYS;
		if (!pt_set_regs(th, &th->regs))
			go(th, PTRACE_SYSEMU);
		return;
	}
	if (is_direct(&th->regs)) {
		perform_directly(th);
		return;
	}
	th->regs.rax = (uint64_t)-ENOSYS;
	post_kind(th, P_EVENT_SYSCALL);
}

/* The exception that the processor must have raised for the host to send this signal. */
static uint64_t trap_number(struct p_thread *th, int signo, int code)
{
	struct user_fpregs_struct fp;

	switch (signo) {
	case SIGSEGV:
		return code == SI_KERNEL ? 13 : 14;
	case SIGBUS:
		return code == BUS_ADRALN ? 17 : code == SI_KERNEL ? 12 : 14;
	case SIGILL:
		return 6;
	case SIGTRAP:
		return code == SI_KERNEL ? 3 : 1;
	}
	if (code == FPE_INTDIV || code == FPE_INTOVF ||
	    trace(PTRACE_GETFPREGS, th->tid, 0, (uint64_t)(uintptr_t)&fp))
		return 0;
	/* An x87 exception is pending in its status word, else it was SSE's. */
	return fp.swd & ~fp.cwd & 0x3f ? 16 : 19;
}

static void signal_stopped(struct p_thread *th, int signo)
{
	siginfo_t info;

	if (trace(PTRACE_GETSIGINFO, th->tid, 0, (uint64_t)(uintptr_t)&info) ||
	    trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&th->regs))
		return;
	bool own = signo == SIGSEGV || signo == SIGBUS || signo == SIGILL || signo == SIGFPE ||
		   signo == SIGTRAP;
	/* Steps of ours that a stop overtook (over a call: TRAP_BRKPT); signals from outside. */
	if (!own || info.si_code <= 0 ||
	    (signo == SIGTRAP && (info.si_code == TRAP_TRACE || info.si_code == TRAP_BRKPT) &&
	     !(th->regs.eflags & ARCH_EFLAGS_TF))) {
		go(th, th->direct ? PTRACE_SINGLESTEP : PTRACE_SYSEMU);
		return;
	}
	th->direct = false;
	th->regs.orig_rax = ~0ULL;
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = P_EVENT_SIGNAL;
	th->ev.signo = signo;
	th->ev.si_code = info.si_code;
	th->ev.addr = (uint64_t)(uintptr_t)info.si_addr;
	/* ptrace does not tell these; what they must be for a guest's own access. */
	th->ev.cr2 = th->ev.addr;
	th->ev.trapno = trap_number(th, signo, info.si_code);
	th->ev.error_code = th->ev.trapno == 14 ? 4 | (info.si_code == SEGV_ACCERR) : 0;
	pt_post(th);
}

static void interrupt_stopped(struct p_thread *th)
{
	if (th->direct) {
		direct_stopped(th, true);
		return;
	}
	if (!atomic_load(&th->interrupted)) {
		go(th, PTRACE_SYSEMU);
		return;
	}
	if (trace(PTRACE_GETREGS, th->tid, 0, (uint64_t)(uintptr_t)&th->regs))
		return;
	atomic_store(&th->interrupted, false);
	th->regs.orig_rax = ~0ULL;
	post_kind(th, P_EVENT_INTERRUPTED);
}

static void ended(struct pt_platform *pf, struct p_thread *th, int status)
{
	th->dead = true;
	bool expected = th->tid != th->as->pid || atomic_exchange(&th->as->dead, true);
	if (atomic_load(&th->state) == PT_RUNNING)
		post_dead(th, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (!expected && pf->process_lost)
		pf->process_lost();
	if (th == pf->zygote_thread && pf->died)
		pf->died("the zygote of guest processes exited unexpectedly");
}

static void handle_status(struct pt_platform *pf, pid_t tid, int status)
{
	struct p_thread *th = thread_lookup(pf, tid);

	if (!th)
		return; /* an orphan, or a thread that was destroyed */
	if (!WIFSTOPPED(status)) {
		ended(pf, th, status);
		return;
	}
	/* A stopped thread can stop again: an interrupt that arrived late. */
	if (atomic_load(&th->state) != PT_RUNNING)
		return;
	int sig = WSTOPSIG(status), event = status >> 16;
	if (event == PTRACE_EVENT_STOP)
		interrupt_stopped(th);
	else if (sig == (SIGTRAP | 0x80))
		syscall_stopped(th);
	else if (sig == SIGTRAP && th->direct && event == 0)
		direct_stopped(th, false);
	else
		signal_stopped(th, sig);
}

/* ---- requests and commands ---- */

static void serve_request(struct p_thread *th)
{
	if (atomic_exchange(&th->resume_wanted, false)) {
		if (th->dead || atomic_load(&th->as->dead)) {
			post_dead(th, SIGKILL);
			return;
		}
		if (atomic_exchange(&th->interrupted, false)) {
			th->regs.orig_rax = ~0ULL;
			post_kind(th, P_EVENT_INTERRUPTED);
			return;
		}
		if (!pt_set_regs(th, &th->regs))
			go(th, PTRACE_SYSEMU);
		return;
	}
	if (atomic_load(&th->interrupted) && atomic_load(&th->state) == PT_RUNNING)
		go(th, PTRACE_INTERRUPT);
}

static void wake_tracer(struct pt_platform *pf)
{
	syscall(SYS_tgkill, getpid(), atomic_load(&pf->tracer_tid), WAKE_SIGNAL);
}

void pt_request(struct p_thread *th)
{
	struct pt_platform *pf = th->as->pf;

	pthread_mutex_lock(&pf->cmd_lock);
	if (list_empty(&th->request))
		list_add_tail(&th->request, &pf->requests);
	pthread_mutex_unlock(&pf->cmd_lock);
	wake_tracer(pf);
}

void pt_run(struct pt_platform *pf, void (*fn)(struct pt_platform *, void *), void *arg)
{
	struct pt_command c = {.fn = fn, .arg = arg};

	pthread_mutex_lock(&pf->cmd_lock);
	list_add_tail(&c.link, &pf->commands);
	pthread_mutex_unlock(&pf->cmd_lock);
	wake_tracer(pf);
	pthread_mutex_lock(&pf->cmd_lock);
	while (!c.done)
		pthread_cond_wait(&pf->cmd_done, &pf->cmd_lock);
	pthread_mutex_unlock(&pf->cmd_lock);
}

/* Requests before commands: a command may free a thread that has one. */
static void serve(struct pt_platform *pf)
{
	pthread_mutex_lock(&pf->cmd_lock);
	for (;;) {
		if (!list_empty(&pf->requests)) {
			struct p_thread *th = list_first(&pf->requests, struct p_thread, request);
			list_del(&th->request);
			pthread_mutex_unlock(&pf->cmd_lock);
			serve_request(th);
			pthread_mutex_lock(&pf->cmd_lock);
		} else if (!list_empty(&pf->commands)) {
			struct pt_command *c = list_first(&pf->commands, struct pt_command, link);
			list_del(&c->link);
			pthread_mutex_unlock(&pf->cmd_lock);
			c->fn(pf, c->arg);
			pthread_mutex_lock(&pf->cmd_lock);
			c->done = true;
			pthread_cond_broadcast(&pf->cmd_done);
		} else {
			break;
		}
	}
	pthread_mutex_unlock(&pf->cmd_lock);
}

struct start {
	struct pt_platform *pf;
	int err;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void *tracer_main(void *arg)
{
	struct start *start = arg;
	struct pt_platform *pf = start->pf;
	sigset_t wanted;
	int status;
	pid_t tid;

	atomic_store(&pf->tracer_tid, (pid_t)syscall(SYS_gettid));
	int err = pt_zygote_attach(pf);
	pthread_mutex_lock(&start->lock);
	start->err = err;
	start->done = true;
	pthread_cond_signal(&start->cond);
	pthread_mutex_unlock(&start->lock);
	if (err)
		return NULL;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, WAKE_SIGNAL);
	for (;;) {
		serve(pf);
		while ((tid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
			handle_status(pf, tid, status);
		sigwaitinfo(&wanted, NULL);
	}
	return NULL;
}

int pt_tracer_start(struct pt_platform *pf)
{
	struct start s = {
		.pf = pf, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	int err = -pthread_create(&pf->tracer, &attr, tracer_main, &s);
	pthread_attr_destroy(&attr);
	if (err)
		return err;
	pthread_mutex_lock(&s.lock);
	while (!s.done)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
	return s.err;
}

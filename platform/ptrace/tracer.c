/* The tracer thread: it takes wait statuses, turns stops into events, and serves the others'
 * requests and commands. */
#include "platform/ptrace/internal.h"

#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/lib/log.h"

#define SERVE_MAX 64 /* requests in a row, before statuses have a turn */

/* ---- statuses ---- */

/* A status without a thread: the child of a clone that its parent has not told of yet, or one
 * whose parent died before it could. */
static void keep_newborn(struct pt_platform *pf, pid_t tid, int status)
{
	if (WIFSTOPPED(status)) {
		if (pf->newborn)
			kill(pf->newborn, SIGKILL);
		pf->newborn = tid;
	} else if (pf->newborn == tid) {
		pf->newborn = 0;
	}
}

/* Takes one status, if there is one, and keeps it at its thread.  A death replaces a stop. */
static bool collect(struct pt_platform *pf)
{
	int status;

	pthread_mutex_lock(&pf->reap_lock);
	pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
	struct p_thread *th = tid > 0 ? pt_thread_lookup(pf, tid) : NULL;
	bool ended = th && !WIFSTOPPED(status);
	if (ended && tid == th->as->pid)
		atomic_store(&th->as->dead, true);
	pthread_mutex_unlock(&pf->reap_lock);
	if (tid <= 0)
		return false;
	if (!th) {
		keep_newborn(pf, tid, status);
		return true;
	}
	if (ended) {
		th->gone = true;
		th->signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	}
	th->status = status;
	if (list_empty(&th->stopped))
		list_add_tail(&th->stopped, &pf->stopped);
	return true;
}

int pt_wait(struct p_thread *th, int *status)
{
	siginfo_t info;

	while (!th->gone && list_empty(&th->stopped))
		if (!collect(th->as->pf))
			waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL);
	if (th->gone)
		return -ESRCH; /* the main loop has its status still */
	list_del(&th->stopped);
	*status = th->status;
	return 0;
}

void pt_go(struct p_thread *th, long request)
{
	if (!pt_run_allowed(th)) {
		/* What stands in th->regs is where the host's thread stands. */
		pt_post_interrupted(th);
		return;
	}
	/* A failure: it is dead, or about to be, and its status will tell. */
	pt_trace(request, th->tid, 0, 0);
}

static void post_dead(struct p_thread *th)
{
	memset(&th->ev, 0, sizeof(th->ev));
	th->ev.kind = P_EVENT_DEAD;
	th->ev.signo = th->signo ? th->signo : SIGKILL;
	pt_post(th);
}

/* Has a destroyed thread end; a leader stays. */
static void let_end(struct p_thread *th)
{
	struct arch_regs regs = {.rip = PT_SYSCALL_INSN, .rax = SYS_exit};

	if (th->tid != th->as->pid && !pt_set_regs(th, &regs))
		pt_trace(PTRACE_CONT, th->tid, 0, 0);
}

static void ended(struct pt_platform *pf, struct p_thread *th, enum pt_state state)
{
	if (th->tid == th->as->pid && !atomic_load(&th->as->killed) && pf->process_lost)
		pf->process_lost();
	if (th == pf->zygote_thread && pf->died)
		pf->died("the zygote of guest processes exited unexpectedly");
	if (state == PT_RUNNING)
		post_dead(th);
	else if (state == PT_GONE)
		pt_thread_free(th);
}

static void handle_status(struct pt_platform *pf, struct p_thread *th)
{
	list_del(&th->stopped);
	pthread_mutex_lock(&pf->lock);
	enum pt_state state = th->state;
	pthread_mutex_unlock(&pf->lock);
	if (!WIFSTOPPED(th->status))
		ended(pf, th, state);
	else if (state == PT_RUNNING)
		pt_stopped(th, th->status);
	else if (state == PT_GONE)
		let_end(th);
}

/* ---- requests and commands ---- */

static void serve_resume(struct p_thread *th)
{
	bool asked = th->direct_asked;

	th->direct_asked = false;
	if (th->gone || atomic_load(&th->as->killed) || atomic_load(&th->as->dead)) {
		post_dead(th);
		return;
	}
	if (asked) {
		if (!platform_passes(&th->regs)) {
			pt_post_kind(th, P_EVENT_SYSCALL);
			return;
		}
		pt_direct_begin(th);
		return;
	}
	if (!pt_run_allowed(th)) {
		pt_post_interrupted(th);
		return;
	}
	pt_redo_check(th);
	if (!pt_set_regs(th, &th->regs))
		pt_trace(PTRACE_SYSEMU, th->tid, 0, 0);
}

static void serve_request(struct pt_platform *pf, struct p_thread *th)
{
	pthread_mutex_lock(&pf->lock);
	enum pt_state state = th->state;
	bool interrupted = th->interrupted;
	if (state == PT_RESUMING)
		th->state = PT_RUNNING;
	pthread_mutex_unlock(&pf->lock);
	switch (state) {
	case PT_RESUMING:
		serve_resume(th);
		break;
	case PT_RUNNING:
		if (interrupted)
			pt_trace(PTRACE_INTERRUPT, th->tid, 0, 0);
		break;
	case PT_GONE:
		if (!th->gone)
			let_end(th);
		else if (list_empty(&th->stopped))
			pt_thread_free(th);
		break;
	case PT_STOPPED:
	case PT_QUEUED:
		break;
	}
}

/* Serves what there is; false: nothing. */
static bool serve(struct pt_platform *pf)
{
	struct p_thread *th = NULL;
	struct pt_command *c = NULL;

	pthread_mutex_lock(&pf->lock);
	if (!list_empty(&pf->requests)) {
		th = list_first(&pf->requests, struct p_thread, request);
		list_del(&th->request);
	} else if (!list_empty(&pf->commands)) {
		c = list_first(&pf->commands, struct pt_command, link);
		list_del(&c->link);
	}
	pthread_mutex_unlock(&pf->lock);
	if (th)
		serve_request(pf, th);
	if (c) {
		c->fn(pf, c->arg);
		pthread_mutex_lock(&pf->lock);
		c->done = true;
		pthread_cond_signal(&c->cond);
		pthread_mutex_unlock(&pf->lock);
	}
	return th || c;
}

/* Until a child has a status, or somebody a request: both signals stay pending until taken. */
static int sleep_until_asked(struct pt_platform *pf, const sigset_t *wanted)
{
	pthread_mutex_lock(&pf->lock);
	bool sleep = list_empty(&pf->requests) && list_empty(&pf->commands);
	pf->tracer_sleeps = sleep;
	pthread_mutex_unlock(&pf->lock);
	if (!sleep)
		return 0;
	int sig = sigwaitinfo(wanted, NULL);
	if (sig != PT_WAKE_SIGNAL) {
		pthread_mutex_lock(&pf->lock);
		pf->tracer_sleeps = false;
		pthread_mutex_unlock(&pf->lock);
	}
	return sig;
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

	pf->tracer_tid = (pid_t)syscall(SYS_gettid);
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
	sigaddset(&wanted, PT_WAKE_SIGNAL);
	for (;;) {
		int served = 0;
		while (served < SERVE_MAX && serve(pf))
			served++;
		if (served == SERVE_MAX ||
		    (list_empty(&pf->stopped) && sleep_until_asked(pf, &wanted) == SIGCHLD))
			while (collect(pf))
				;
		while (!list_empty(&pf->stopped))
			handle_status(pf, list_first(&pf->stopped, struct p_thread, stopped));
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

/* /proc/PID/stat, status and limits. */
#include <stdio.h>
#include <string.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/ns/time_ns.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/ptrace/ptrace.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/seccomp/seccomp.h"
#include "sentry/kernel/tty.h"

/* What both files show, taken under the locks once. */
struct snapshot {
	char comm[16];
	char state;
	int tracer, tid, tgid, ppid, pgid, sid, tty_pgid, nthreads, nice, policy, priority,
		exit_signal;
	unsigned tty_index;
	bool has_tty, no_new_privs;
	int64_t start_time;
	struct cpu_times children;
	struct mm_usage used, children_used;
	sigset_k pending, shared_pending, blocked, ignored, caught;
	struct cred *cred; /* reference */
	struct mm *mm;	   /* reference or NULL */
	uint64_t rss_limit, sigpending_limit;
	uint64_t affinity;
	int seccomp_mode, seccomp_filters;
	unsigned umask, fd_size, nsigqueued;
	/* The same in each namespace from that of the procfs down to the task's own. */
	int nslevels, nsnr[PID_NS_LEVEL_MAX + 1][4];
};

static const char *const nsnr_names[4] = {"NStgid", "NSpid", "NSpgid", "NSsid"};

static void own_numbers(struct task *t, const struct pid_ns *from, struct snapshot *s)
	REQUIRES(lc_tasks)
{
	const struct pid *pids[4] = {t->tg->pid, t->pid, pid_lookup(&pid_ns_top, t->tg->pgid),
				     pid_lookup(&pid_ns_top, t->tg->session->sid)};

	for (unsigned level = from->level; level <= t->pid->level; level++, s->nslevels++)
		for (int i = 0; i < 4; i++)
			s->nsnr[s->nslevels][i] =
				pids[i] ? pid_nr_in(pids[i], t->pid->numbers[level].ns) : 0;
}

static void put_own_numbers(struct text *out, const struct snapshot *s)
{
	for (int i = 0; i < 4; i++) {
		text_printf(out, "\n%s:", nsnr_names[i]);
		for (int level = 0; level < s->nslevels; level++)
			text_printf(out, "\t%d", s->nsnr[level][i]);
	}
	text_putc(out, '\n');
}

/* Numbers are those of ns. */
static void snapshot_take(struct task *t, const struct pid_ns *ns, struct snapshot *s)
{
	struct thread_group *tg = t->tg;
	struct task *tracer = NULL;

	memset(s, 0, sizeof(*s));
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(s->comm, t->comm, sizeof(s->comm));
	s->comm[15] = 0;
	s->state = task_state_letter(t);
	if (t->pid) {
		s->tid = pid_nr_in(t->pid, ns);
		s->tgid = pid_nr_in(tg->pid, ns);
		s->ppid = tg->parent ? pid_nr_in(tg->parent->pid, ns) : 0;
		s->pgid = pid_show(ns, tg->pgid);
		s->sid = pid_show(ns, tg->session->sid);
		own_numbers(t, ns, s);
	}
	if ((tracer = atomic_load(&t->trace.tracer)))
		s->tracer = pid_nr_in(tracer->pid, ns);
	s->has_tty = tg->session->tty != NULL;
	s->tty_index = s->has_tty ? tg->session->tty->index : 0;
	s->tty_pgid = s->has_tty ? pid_show(ns, tg->session->tty->fg_pgid) : -1;
	s->nthreads = MAX(tg->nthreads, 1);
	s->nice = t->nice;
	s->policy = t->sched_policy;
	s->priority = t->sched_priority;
	s->exit_signal = tg->exit_signal;
	s->no_new_privs = t->no_new_privs;
	mutex_lock(&tg->siglock, &lc_signal);
	s->seccomp_mode = seccomp_mode(t);
	s->seccomp_filters = seccomp_filter_count(t);
	mutex_unlock(&tg->siglock, &lc_signal);
	s->start_time = t->start_time - kernel->boot_boottime + time_offsets_here().boottime;
	s->children = tg->child_times;
	s->used = tg->dead_usage;
	s->children_used = tg->child_usage;
	s->cred = cred_get(t->cred);
	s->mm = t->mm ? mm_get(t->mm) : NULL;
	s->rss_limit = tg->rlimit[RLIMIT_RSS].cur;
	s->sigpending_limit = tg->rlimit[RLIMIT_SIGPENDING].cur;
	s->affinity = t->cpu_affinity;
	s->nsigqueued = atomic_load(&tg->nsigqueued);
	struct fs_context *fs = t->fs ? fs_context_get(t->fs) : NULL;
	struct fdtable *fds = t->fds ? fdtable_get(t->fds) : NULL;
	mutex_lock(&tg->siglock, &lc_signal);
	s->pending = t->pending.set;
	s->shared_pending = tg->pending.set;
	s->blocked = signal_mask_locked(t);
	for (int i = 0; i < LINUX_NSIG; i++) {
		uint64_t h = tg->sighand->action[i].handler;
		if (h == 1)
			s->ignored |= SIG_BIT(i + 1);
		else if (h > 1)
			s->caught |= SIG_BIT(i + 1);
	}
	mutex_unlock(&tg->siglock, &lc_signal);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	if (fs) {
		mutex_lock(&fs->lock, &lc_fs);
		s->umask = fs->umask;
		mutex_unlock(&fs->lock, &lc_fs);
		fs_context_put(fs);
	}
	if (fds) {
		s->fd_size = fdtable_size(fds);
		fdtable_put(fds);
	}
}

static void snapshot_drop(struct snapshot *s)
{
	cred_put(s->cred);
	mm_put(s->mm);
}

#define TICKS(ns) ((unsigned long long)((ns) / (NSEC_PER_SEC / 100)))

static void put_stat(struct text *out, struct task *t, struct cpu_times used)
{
	struct snapshot s;

	snapshot_take(t, proc_pid_ns(out->of->sb), &s);
	struct mm *mm = s.mm;
	struct mm_usage now = {0};
	if (mm)
		mm_usage(mm, &now);
	uint64_t rss = now.resident;
	mm_usage_add(&s.used, &now);
	text_printf(out, "%d (%s) %c %d %d %d %d %d %u ", s.tid, s.comm, s.state, s.ppid, s.pgid,
		    s.sid, s.has_tty ? (int)(34816 + s.tty_index) : 0, s.tty_pgid, 4194304u);
	text_printf(out, "%llu %llu %llu %llu %llu %llu %llu %llu ",
		    (unsigned long long)s.used.minor_faults,
		    (unsigned long long)s.children_used.minor_faults,
		    (unsigned long long)s.used.major_faults,
		    (unsigned long long)s.children_used.major_faults, TICKS(used.user),
		    TICKS(used.system), TICKS(s.children.user), TICKS(s.children.system));
	text_printf(out, "%d %d %d 0 %llu %llu %lld %llu ",
		    s.policy == 6		     ? -101
		    : s.policy == 1 || s.policy == 2 ? -1 - s.priority
						     : 20 + s.nice,
		    s.nice, s.nthreads, TICKS(s.start_time),
		    mm ? (unsigned long long)mm->total_pages << PAGE_SHIFT : 0ULL, (long long)rss,
		    (unsigned long long)s.rss_limit);
	text_printf(out, "%llu %llu %llu 0 0 %llu %llu %llu %llu 0 0 0 %d 0 %d %d 0 0 0 ",
		    mm ? (unsigned long long)mm->code_start : 0ULL,
		    mm ? (unsigned long long)mm->code_end : 0ULL,
		    mm ? (unsigned long long)mm->stack_top : 0ULL,
		    (unsigned long long)(s.pending & 0x7fffffff),
		    (unsigned long long)(s.blocked & 0x7fffffff),
		    (unsigned long long)(s.ignored & 0x7fffffff),
		    (unsigned long long)(s.caught & 0x7fffffff), s.exit_signal, s.priority,
		    s.policy);
	text_printf(out, "%llu %llu %llu %llu %llu %llu %llu 0\n",
		    mm ? (unsigned long long)mm->data_start : 0ULL,
		    mm ? (unsigned long long)mm->data_end : 0ULL,
		    mm ? (unsigned long long)mm->brk_start : 0ULL,
		    mm ? (unsigned long long)mm->arg_start : 0ULL,
		    mm ? (unsigned long long)mm->arg_end : 0ULL,
		    mm ? (unsigned long long)mm->env_start : 0ULL,
		    mm ? (unsigned long long)mm->env_end : 0ULL);
	snapshot_drop(&s);
}

static int show_stat(struct text *out, void *task)
{
	put_stat(out, task, thread_group_times(((struct task *)task)->tg));
	return 0;
}

static int show_thread_stat(struct text *out, void *task)
{
	put_stat(out, task, task_times(task));
	return 0;
}

static const char *state_name(char c)
{
	switch (c) {
	case 'S':
		return "sleeping";
	case 'D':
		return "disk sleep";
	case 'T':
		return "stopped";
	case 't':
		return "tracing stop";
	case 'Z':
		return "zombie";
	case 'X':
		return "dead";
	default:
		return "running";
	}
}

static void put_memory(struct text *out, struct mm *mm, const struct mm_usage *u)
{
	const struct {
		const char *name;
		unsigned long long pages;
	} rows[] = {
		{"VmPeak", mm->peak_pages},
		{"VmSize", mm->total_pages},
		{"VmLck", mm->locked_pages},
		{"VmPin", 0},
		{"VmHWM", MAX(u->resident_peak, u->resident)},
		{"VmRSS", u->resident},
		{"RssAnon", u->anon},
		{"RssFile", u->file},
		{"RssShmem", u->shmem},
		{"VmData", mm->data_pages},
		{"VmStk", mm->stack_pages},
		{"VmExe", (mm->code_end - mm->code_start) >> PAGE_SHIFT},
		{"VmLib", 0},
		{"VmPTE", u->page_tables},
		{"VmSwap", u->swapped},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		text_printf(out, "%s:\t%8llu kB\n", rows[i].name,
			    rows[i].pages * (PAGE_SIZE / 1024));
}

/* As "0-3,6". */
static void put_cpu_list(struct text *out, uint64_t mask)
{
	const char *comma = "";

	for (unsigned i = 0; i < 64; i++) {
		unsigned first = i;
		if (!(mask >> i & 1))
			continue;
		while (i < 63 && mask >> (i + 1) & 1)
			i++;
		text_printf(out, i > first ? "%s%u-%u" : "%s%u", comma, first, i);
		comma = ",";
	}
}

static int show_status(struct text *out, void *task)
{
	struct task *t = task;
	struct snapshot s;

	snapshot_take(t, proc_pid_ns(out->of->sb), &s);
	const struct cred *c = s.cred;
	const struct task *reader = task_current();
	const struct user_ns *u = reader ? reader->cred->user_ns : &user_ns_top;
	struct mm_usage usage = {0};

	if (s.mm)
		mm_usage(s.mm, &usage);
	text_printf(out, "Name:\t%s\n", s.comm);
	text_printf(out,
		    "Umask:\t%04o\nState:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\n"
		    "TracerPid:\t%d\n",
		    s.umask, s.state, state_name(s.state), s.tgid, s.tid, s.ppid, s.tracer);
	text_printf(out, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\nFDSize:\t%u\nGroups:\t",
		    uid_show(u, c->uid), uid_show(u, c->euid), uid_show(u, c->suid),
		    uid_show(u, c->fsuid), gid_show(u, c->gid), gid_show(u, c->egid),
		    gid_show(u, c->sgid), gid_show(u, c->fsgid), s.fd_size);
	for (size_t i = 0; i < c->ngroups; i++)
		text_printf(out, i ? " %u" : "%u", gid_show(u, c->groups[i]));
	text_putc(out, ' ');
	put_own_numbers(out, &s);
	if (s.mm)
		put_memory(out, s.mm, &usage);
	text_printf(out, "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t%d\nSigQ:\t%u/%llu\n",
		    s.nthreads, s.nsigqueued, (unsigned long long)s.sigpending_limit);
	text_printf(out,
		    "SigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\nSigIgn:\t%016llx\n"
		    "SigCgt:\t%016llx\n",
		    (unsigned long long)s.pending, (unsigned long long)s.shared_pending,
		    (unsigned long long)s.blocked, (unsigned long long)s.ignored,
		    (unsigned long long)s.caught);
	text_printf(out,
		    "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\nCapBnd:\t%016llx\n"
		    "CapAmb:\t%016llx\n",
		    (unsigned long long)c->cap_inheritable, (unsigned long long)c->cap_permitted,
		    (unsigned long long)c->cap_effective, (unsigned long long)c->cap_bounding,
		    (unsigned long long)c->cap_ambient);
	uint64_t cpus = s.affinity & kernel->cpus;
	text_printf(out,
		    "NoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n"
		    "Speculation_Store_Bypass:\tvulnerable\nCpus_allowed:\t%llx\n"
		    "Cpus_allowed_list:\t",
		    s.no_new_privs, s.seccomp_mode, s.seccomp_filters, (unsigned long long)cpus);
	put_cpu_list(out, cpus);
	text_printf(out,
		    "\nMems_allowed:\t1\nMems_allowed_list:\t0\n"
		    "voluntary_ctxt_switches:\t%llu\nnonvoluntary_ctxt_switches:\t%llu\n",
		    (unsigned long long)usage.voluntary_switches,
		    (unsigned long long)usage.involuntary_switches);
	snapshot_drop(&s);
	return 0;
}

static int show_limits(struct text *out, void *task)
{
	static const struct {
		const char *name, *unit;
	} rows[RLIM_NLIMITS] = {
		[RLIMIT_CPU] = {"Max cpu time", "seconds"},
		[RLIMIT_FSIZE] = {"Max file size", "bytes"},
		[RLIMIT_DATA] = {"Max data size", "bytes"},
		[RLIMIT_STACK] = {"Max stack size", "bytes"},
		[RLIMIT_CORE] = {"Max core file size", "bytes"},
		[RLIMIT_RSS] = {"Max resident set", "bytes"},
		[RLIMIT_NPROC] = {"Max processes", "processes"},
		[RLIMIT_NOFILE] = {"Max open files", "files"},
		[RLIMIT_MEMLOCK] = {"Max locked memory", "bytes"},
		[RLIMIT_AS] = {"Max address space", "bytes"},
		[RLIMIT_LOCKS] = {"Max file locks", "locks"},
		[RLIMIT_SIGPENDING] = {"Max pending signals", "signals"},
		[RLIMIT_MSGQUEUE] = {"Max msgqueue size", "bytes"},
		[RLIMIT_NICE] = {"Max nice priority", ""},
		[RLIMIT_RTPRIO] = {"Max realtime priority", ""},
		[RLIMIT_RTTIME] = {"Max realtime timeout", "us"},
	};
	struct krlimit limit[RLIM_NLIMITS];
	struct task *t = task;

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(limit, t->tg->rlimit, sizeof(limit));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	text_puts(
		out,
		"Limit                     Soft Limit           Hard Limit           Units     \n");
	for (int i = 0; i < RLIM_NLIMITS; i++) {
		text_printf(out, "%-25s ", rows[i].name);
		const uint64_t v[2] = {limit[i].cur, limit[i].max};
		for (int j = 0; j < 2; j++) {
			if (v[j] == RLIM_K_INFINITY)
				text_printf(out, "%-20s ", "unlimited");
			else
				text_printf(out, "%-20llu ", (unsigned long long)v[j]);
		}
		text_printf(out, "%-10s\n", rows[i].unit);
	}
	return 0;
}

#define COMMON .common.free_arg = proc_task_free
const struct synth_file_ops proc_stat_ops = {COMMON, .show = show_stat};
const struct synth_file_ops proc_thread_stat_ops = {COMMON, .show = show_thread_stat};
const struct synth_file_ops proc_status_ops = {COMMON, .show = show_status};
const struct synth_file_ops proc_limits_ops = {COMMON, .show = show_limits};

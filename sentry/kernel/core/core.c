/* Whether there is a core file, what it is called, and who waits for it. */
#include "sentry/kernel/core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/ns/ns_set.h"
#include "sentry/kernel/ns/uts.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/kernel/signal_queue.h"
#include "sentry/lib/log.h"
#include "sentry/vfs/file.h"

_Atomic int core_uses_pid;
static char core_pattern[CORE_PATTERN_MAX] = "core";
static struct mutex pattern_lock = MUTEX_INIT; /* lc_leaf */

void core_pattern_get(char out[CORE_PATTERN_MAX])
{
	mutex_lock(&pattern_lock, &lc_leaf);
	memcpy(out, core_pattern, CORE_PATTERN_MAX);
	mutex_unlock(&pattern_lock, &lc_leaf);
}

void core_pattern_set(const char *pattern)
{
	mutex_lock(&pattern_lock, &lc_leaf);
	memset(core_pattern, 0, sizeof(core_pattern));
	strncpy(core_pattern, pattern, sizeof(core_pattern) - 1);
	mutex_unlock(&pattern_lock, &lc_leaf);
}

/* ---- the name ---- */

struct name {
	char text[PATH_MAX];
	size_t len;
	bool has_pid, failed;
};

static void name_put(struct name *n, const char *s, bool escape)
{
	for (; *s && n->len < sizeof(n->text) - 1; s++)
		n->text[n->len++] = escape && *s == '/' ? '!' : *s;
	n->failed |= *s != 0;
	n->text[n->len] = 0;
}

static void name_put_number(struct name *n, long long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lld", value);
	name_put(n, text, false);
}

/* The path of the program, or the last part of it. */
static void name_put_exe(struct name *n, struct task *t, bool whole)
{
	char buf[VFS_PATH_MAX], *start = NULL;
	struct path root;

	mutex_lock(&t->fs->lock, &lc_fs);
	root = path_get(t->fs->root);
	mutex_unlock(&t->fs->lock, &lc_fs);
	mutex_lock(&t->mm->lock, &lc_mm);
	struct file *exe = t->mm->exe ? file_get(t->mm->exe) : NULL;
	mutex_unlock(&t->mm->lock, &lc_mm);
	if (exe && path_name(exe->path, root, buf, sizeof(buf), false, &start) < 0)
		start = NULL;
	const char *slash = start && !whole ? strrchr(start, '/') : NULL;
	if (start)
		name_put(n, slash ? slash + 1 : start, true);
	file_put(exe);
	path_put(root);
}

static void name_put_host(struct name *n, struct task *t)
{
	char host[65];

	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	memcpy(host, uts_ns_of(t->ns->of[NS_UTS])->hostname, sizeof(host));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	name_put(n, host, true);
}

static void name_put_item(struct name *n, struct task *t, char item, int signo)
{
	switch (item) {
	case '%':
		name_put(n, "%", false);
		break;
	case 'p':
		n->has_pid = true;
		name_put_number(n, pid_nr_own(t->tg->pid));
		break;
	case 'P':
		name_put_number(n, t->tg->tgid);
		break;
	case 'i':
		name_put_number(n, pid_nr_own(t->pid));
		break;
	case 'I':
		name_put_number(n, t->tid);
		break;
	case 'u':
		name_put_number(n, t->cred->uid);
		break;
	case 'g':
		name_put_number(n, t->cred->gid);
		break;
	case 'd':
		name_put_number(n, atomic_load(&t->mm->dumpable));
		break;
	case 's':
		name_put_number(n, signo);
		break;
	case 't':
		name_put_number(n, time_realtime() / NSEC_PER_SEC);
		break;
	case 'h':
		name_put_host(n, t);
		break;
	case 'e':
		name_put(n, t->comm, true);
		break;
	case 'f':
	case 'E':
		name_put_exe(n, t, item == 'E');
		break;
	case 'c':
		name_put_number(n, (long long)task_rlimit(t, RLIMIT_CORE));
		break;
	}
}

/* False: there is none; a program to pipe it to is nothing that the sandbox would start. */
static bool name_make(struct name *n, struct task *t, int signo)
{
	char pattern[CORE_PATTERN_MAX];

	*n = (struct name){.len = 0};
	core_pattern_get(pattern);
	if (pattern[0] == '|' || pattern[0] == '@')
		return false;
	for (const char *p = pattern; *p; p++) {
		if (*p != '%')
			name_put(n, (char[]){*p, 0}, false);
		else if (*++p)
			name_put_item(n, t, *p, signo);
		else
			break;
	}
	if (core_uses_pid && !n->has_pid) {
		name_put(n, ".", false);
		name_put_number(n, pid_nr_own(t->tg->pid));
	}
	return n->len && !n->failed;
}

/* ---- the file ---- */

/* A file that is all the caller's own, whatever its file system makes of owners and modes. */
static int check_file(struct task *t, struct file *f)
{
	struct kstat st;
	int err = vfs_getattr(f->path, &st);

	if (err)
		return err;
	if (!S_ISREG(st.mode) || st.nlink != 1 || st.uid != t->cred->fsuid ||
	    (st.mode & 0677) != 0600)
		return -EACCES;
	return 0;
}

static int open_core(struct task *t, const char *name, struct file **out)
{
	struct walk_env env;
	struct file *f;

	int err = task_walk_env(t, AT_FDCWD, name, &env);
	if (err)
		return err;
	/* An old one is never written to, whoever has it open, and wherever it leads. */
	(void)!vfs_unlink(&env, name, false);
	err = vfs_open(&env, name, O_CREAT | O_RDWR | O_EXCL | O_NOFOLLOW | O_NONBLOCK, 0600, 0,
		       &f);
	walk_env_fini(&env);
	if (!err && (err = check_file(t, f)))
		file_put(f);
	if (!err)
		*out = f;
	return err;
}

void core_write(struct core_out *o, const void *bytes, uint64_t n)
{
	if (o->ended || n > o->limit - o->written) {
		o->ended = true;
		return;
	}
	ssize_t put = file_pwrite(o->file, bytes, n, (int64_t)o->pos);
	o->ended = put < 0 || (uint64_t)put < n;
	if (o->ended)
		return;
	o->pos += n;
	o->written += n;
}

void core_skip(struct core_out *o, uint64_t n)
{
	if (n > INT64_MAX - o->pos)
		o->ended = true;
	else
		o->pos += n;
}

/* Returns whether there is a core, whole or cut at the limit. */
static bool write_core(struct task *t, const ksiginfo *info)
{
	struct core_out o = {.limit = MIN(task_rlimit(t, RLIMIT_CORE), (uint64_t)INT64_MAX)};
	CLEANUP_FREE struct name *name = malloc(sizeof(*name));

	if (!name || !name_make(name, t, info->si_signo) || open_core(t, name->text, &o.file))
		return false;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	unsigned filter = t->tg->coredump_filter;
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	int err = core_write_elf(t, info, filter, &o);
	/* What was left out at the end is part of it, too. */
	if (!err && vfs_truncate(o.file->path, o.pos, t->cred))
		log_limited(LOG_INFO, "core of process %d: its end is missing", t->tg->tgid);
	file_put(o.file);
	return !err;
}

/* ---- who waits ---- */

static bool others_wait(struct task *t)
{
	struct task *o;
	bool all = true;

	mutex_lock(&t->tg->siglock, &lc_signal);
	list_for_each (o, &t->tg->threads, thread_link)
		all &= o == t || o->core_waits;
	mutex_unlock(&t->tg->siglock, &lc_signal);
	return all;
}

void core_dump(struct task *t, const ksiginfo *info)
{
	struct core_state state = {.dumper = t};
	struct thread_group *tg = t->tg;
	struct task *o;

	bool wanted =
		task_rlimit(t, RLIMIT_CORE) >= PAGE_SIZE && atomic_load(&t->mm->dumpable) == 1;
	mutex_lock(&tg->siglock, &lc_signal);
	wanted &= !atomic_load(&tg->exiting);
	if (wanted)
		tg->core = &state;
	signal_group_exit_locked(tg, info->si_signo);
	mutex_unlock(&tg->siglock, &lc_signal);
	if (!wanted)
		return;
	while (!others_wait(t))
		task_park_always(t);
	bool dumped = write_core(t, info);
	mutex_lock(&tg->siglock, &lc_signal);
	if (dumped)
		tg->group_exit_status |= WCOREFLAG;
	tg->core = NULL;
	list_for_each (o, &tg->threads, thread_link)
		if (o->core_waits)
			task_wake(o);
	mutex_unlock(&tg->siglock, &lc_signal);
}

void core_wait(struct task *t)
{
	struct thread_group *tg = t->tg;

	for (;;) {
		mutex_lock(&tg->siglock, &lc_signal);
		struct core_state *c = tg->core;
		bool wait = c && c->dumper != t;
		if (wait && !t->core_waits)
			task_wake(c->dumper);
		t->core_waits = wait;
		mutex_unlock(&tg->siglock, &lc_signal);
		if (!wait)
			return;
		task_park_always(t);
	}
}

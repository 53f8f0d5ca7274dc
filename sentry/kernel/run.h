/* run.h - what the files of sentry/kernel share about running tasks, and nobody else needs. */
#pragma once

#include "sentry/kernel/task.h"

/* Queues a task whose fiber is suspended; any thread. */
void task_make_runnable(struct task *t);
/* Work that nobody waits for; fn may free it.  It runs, on the stack of this worker, before that
 * looks for the next event, and after the tasks that are runnable now; elsewhere at once. */
struct later {
	struct later *next;
	void (*fn)(struct later *l);
};
void worker_later(struct later *l);
/* The task loop: entry of every task's fiber. */
void task_main(void *arg);
/* The whole group ends, or another thread's execve replaces it: leave as soon as possible. */
bool task_must_die(const struct task *t);
/* Ends the task on its own fiber. */
_Noreturn void task_exit(struct task *t);

/* A new task of `tg` (reference taken), not linked anywhere; NULL: no memory. */
struct task *task_new(struct thread_group *tg);
/* … whose fiber begins elsewhere than in the task loop. */
struct task *task_new_on(struct thread_group *tg, void (*entry)(void *), void *arg);
/* A helper is about to sleep (helper.c). */
void helper_sleeps(struct task *h);
/* Waits for a token whatever becomes of the task; for waits that others' work ends soon. */
void task_park_always(struct task *t);
struct thread_group *thread_group_new(struct container *c); /* in no PID namespace yet */
/*
 * Gives the task its numbers (pids: those that are wanted, or NULL) and links it; a group's first
 * task makes the group visible, in process group and session `like` (NULL: its own, new ones).
 * -errno as pid_alloc.
 */
int task_link(struct task *t, const struct thread_group *like, const struct pid_choice *pids)
	REQUIRES(lc_tasks);
void task_unhash(struct task *t) REQUIRES(lc_tasks);
/* A zombie leaves the tree, with its leader. */
void thread_group_unlink(struct thread_group *tg) REQUIRES(lc_tasks);
/* execve by a thread that is not the leader: it takes the leader's number. */
void task_take_leader_pid(struct task *t) REQUIRES(lc_tasks);
/* Moves a group into another process group, or into a session of its own (`to` consumed; returns
 * the old session, which the caller puts). */
void thread_group_set_pgid(struct thread_group *tg, int pgid) REQUIRES(lc_tasks);
/* It has changed: whoever was told the old number is told the new one. */
void thread_group_show_kin(struct thread_group *tg, enum p_kin which) REQUIRES(lc_tasks);
struct session *thread_group_set_session(struct thread_group *tg, struct session *to)
	REQUIRES(lc_tasks);

/* Tells robust futexes and clear_child_tid about the end of a thread (gone) or of its address
 * space. */
void task_release_user(struct task *t, bool gone);
void task_vfork_done(struct task *t);
/* Removes a zombie for good; its numbers and times are accounted to the parent.  Returns with
 * lc_tasks held; the caller puts the reference that the tree had, afterwards. */
void thread_group_reap(struct thread_group *tg) REQUIRES(lc_tasks);
/* The tracer of its leader let go of a zombie: the parent gets to know, or it is reaped. */
void thread_group_untraced(struct thread_group *tg);
/* affinity.c: the task got a host thread (made by that of parent, if not NULL), and is about to
 * leave one. */
void task_host_restore(struct task *t, const struct task *parent);
void task_host_drop(struct task *t);
struct session *session_new(int sid);
struct session *session_get(struct session *s);
void session_put(struct session *s);

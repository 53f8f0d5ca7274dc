/*
 * cgroup.h - control groups, version 2: one tree of the sandbox's processes, with the controller
 * "pids".
 *
 * A process is in one group, and its children begin there.  All fields are guarded by lc_tasks.
 * Groups are made and removed by sentry/fs/cgroup, which shows them.  What the host's cgroup of the
 * sandbox limits is not in here.
 *
 * Source: Documentation/admin-guide/cgroup-v2.rst of Linux, cgroups(7).
 */
#pragma once

#include "sentry/lib/list.h"
#include "sentry/lib/ref.h"
#include "sentry/lib/waitq.h"
#include "sentry/vfs/vfs.h"

struct thread_group;

#define CGROUP_NO_LIMIT INT64_MAX
#define CGROUPS_MAX 10000 /* in the sandbox: EAGAIN */
#define CGROUP_DEPTH_MAX 32

struct cgroup {
	ref_t ref;
	struct cgroup *parent; /* reference; NULL: the root */
	struct list_head children, sibling;
	unsigned depth, nchildren;
	bool gone;	      /* removed */
	bool pids_below;      /* cgroup.subtree_control has "pids" */
	unsigned processes;   /* that live, here and below */
	uint64_t tasks, peak; /* the same, threads */
	uint64_t pids_max, pids_refused;
	uint64_t utime, stime; /* ns, of processes that are gone */
	uint64_t changes;      /* of cgroup.events; read without the lock, too */
	struct waitq changed;
	char name[VFS_NAME_MAX + 1];
};

extern struct cgroup cgroup_root;
void cgroup_init(void); /* start-up */

/* EAGAIN, ENOMEM; *out gets a reference. */
int cgroup_new(struct cgroup *parent, const char *name, struct cgroup **out) MUST_CHECK;
/* EBUSY: it has processes or groups in it. */
int cgroup_remove(struct cgroup *c) MUST_CHECK;
struct cgroup *cgroup_get(struct cgroup *c);
void cgroup_put(struct cgroup *c);

/* A process begins in its group (tg->cgroup, a reference), or its last thread has ended. */
void cgroup_enter(struct thread_group *tg) REQUIRES(lc_tasks);
void cgroup_leave(struct thread_group *tg) REQUIRES(lc_tasks);
/* A thread more; -EAGAIN: pids.max of its group or one above; -ENODEV.  A thread less. */
int cgroup_charge(struct cgroup *c) REQUIRES(lc_tasks) MUST_CHECK;
void cgroup_uncharge(struct cgroup *c) REQUIRES(lc_tasks);
/* With all its threads.  ENODEV: the group is gone. */
int cgroup_move(struct thread_group *tg, struct cgroup *to) REQUIRES(lc_tasks) MUST_CHECK;
bool cgroup_is_in(const struct cgroup *c, const struct cgroup *top);
/* "/a/b", at the end of buf; where it starts. */
const char *cgroup_path(const struct cgroup *c, char *buf, size_t size) REQUIRES(lc_tasks);
/* Kills all processes in it and below. */
void cgroup_kill(struct cgroup *c);
/* CPU time of all that are or were in it and below, in ns. */
void cgroup_times(struct cgroup *c, uint64_t *utime, uint64_t *stime);
/* The group whose directory that is: clone3(2).  NULL: it is none (sentry/fs/cgroup fills it). */
extern struct cgroup *(*cgroup_of_file)(struct file *f);

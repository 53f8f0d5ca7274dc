/* fanotify_impl.h - what the files of fanotify share.  All of it is guarded by lc_notify, except
 * what is immutable. */
#pragma once

#include <sys/fanotify.h>

#include "sentry/fs/notify/fanotify.h"
#include "sentry/fs/notify/user.h"
#include "sentry/kernel/task.h"
#include "sentry/vfs/file.h"
#include "sentry/vfs/handle.h"
#include "sentry/vfs/notify.h"

struct fan_group {
	unsigned refs;	 /* its file, and each question on its way */
	unsigned flags;	 /* of fanotify_init(2); immutable, as the next two */
	int event_flags; /* for events' files */
	bool unprivileged;
	bool closed; /* its file is gone: all is allowed */
	struct waitq wq;
	struct waitq answers;	  /* who waits for one */
	struct list_head queue;	  /* of struct fan_event */
	struct list_head waiting; /* questions that were read */
	int nqueued;
	bool overflown;
	struct notify_user *user;
	struct list_head marks;
	/* What its marks say to the event under way. */
	struct list_head touched;
	uint32_t want, ignore;
	unsigned roles;
	uint64_t fsid;
};

struct fan_mark {
	struct notify_mark mark;
	struct fan_group *group; /* borrowed: it owns the mark */
	struct list_head node;
	unsigned kind;	/* FAN_MARK_INODE, FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM */
	unsigned flags; /* FAN_MARK_EVICTABLE, _IGNORE, _IGNORED_SURV_MODIFY */
	uint32_t mask,
		ignored; /* with FAN_ONDIR and FAN_EVENT_ON_CHILD; ignored: by _IGNORE only */
	uint64_t fsid;	 /* immutable, as the next two */
	int mount_id;
	const struct super_block *sb;
	bool asks; /* counted in notify_nasking */
};

/* What a record of an event says of a file. */
struct fan_fid {
	bool there;
	uint16_t name_len;
	uint64_t ino;
	char *name; /* owned; NULL: none */
};

enum fan_state { FAN_QUEUED, FAN_READ, FAN_ANSWERED };

struct fan_event {
	unsigned refs;	       /* a question: its asker, and who just reads it; others: 1 */
	struct list_head node; /* in the queue or among those that wait */
	uint32_t mask;
	int pid;		 /* of the top namespace; 0: nobody's */
	struct thread_group *tg; /* reference or NULL: FAN_REPORT_PIDFD */
	struct path path;	 /* references, or NULLs */
	uint64_t fsid;
	struct fan_fid dir, new_dir, object;
	/* Questions: */
	struct fan_group *asker; /* a reference; NULL: no question */
	struct list_head asked;	 /* of the one who waits */
	enum fan_state state;
	int fd; /* what it was read with */
	unsigned answer;
};

extern const struct file_ops fanotify_ops;

/* ---- fanotify.c ---- */
void fan_group_put(struct fan_group *g);
/* Its file is gone. */
void fan_group_close(struct fan_group *g);

/* ---- fanotify_event.c ---- */
bool fan_hear(struct notify_mark *m, const struct notify_event *e, enum notify_role role)
	REQUIRES(lc_notify);
void fan_finish(const struct notify_event *e) REQUIRES(lc_notify);
/* With no lock held, unless others hold all that the event refers to. */
void fan_event_free(struct fan_event *v);
void fan_event_put(struct fan_event *v);

/* ---- fanotify_ask.c ---- */
int fan_ask(const struct path *p, uint32_t mask) MUST_CHECK;
/* The group answered, or cannot any more. */
void fan_answer(struct fan_event *v, unsigned answer) REQUIRES(lc_notify);

static inline bool fan_is_question(const struct fan_event *e)
{
	return e->asker != NULL;
}

/* user.h - what each user has in use of inotify and fanotify, for their limits.  lc_notify. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"
#include "sentry/vfs/notify.h"

enum notify_use { USE_INOTIFY_INSTANCES, USE_INOTIFY_WATCHES, USE_FAN_GROUPS, USE_FAN_MARKS, USES };

struct notify_user {
	struct list_head node;
	uint32_t uid;
	int used[USES];
};

/* The user, with one more instance of his in use: -EMFILE, -ENOMEM. */
int notify_user_get(uint32_t uid, enum notify_use instances, int limit,
		    struct notify_user **out) MUST_CHECK;
/* The instance is no longer counted: forgets a user who has nothing left. */
void notify_user_put(struct notify_user *u) REQUIRES(lc_notify);
/* Counts one more; false: that would be too many. */
bool notify_use(struct notify_user *u, enum notify_use what, int limit)
	REQUIRES(lc_notify) MUST_CHECK;

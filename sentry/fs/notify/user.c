#include "sentry/fs/notify/user.h"

#include <errno.h>
#include <stdlib.h>

static struct list_head users = LIST_HEAD_INIT(users);

static struct notify_user *find(uint32_t uid) REQUIRES(lc_notify)
{
	struct notify_user *u;

	list_for_each (u, &users, node)
		if (u->uid == uid)
			return u;
	u = calloc(1, sizeof(*u));
	if (u) {
		u->uid = uid;
		list_add(&u->node, &users);
	}
	return u;
}

void notify_user_put(struct notify_user *u)
{
	for (int i = 0; i < USES; i++)
		if (u->used[i])
			return;
	list_del(&u->node);
	free(u);
}

bool notify_use(struct notify_user *u, enum notify_use what, int limit)
{
	if (u->used[what] >= limit)
		return false;
	u->used[what]++;
	return true;
}

int notify_user_get(uint32_t uid, enum notify_use instances, int limit, struct notify_user **out)
{
	int err = 0;

	mutex_lock(&notify_lock, &lc_notify);
	struct notify_user *u = find(uid);
	if (!u) {
		err = -ENOMEM;
	} else if (!notify_use(u, instances, limit)) {
		err = -EMFILE;
		notify_user_put(u);
	} else {
		*out = u;
	}
	mutex_unlock(&notify_lock, &lc_notify);
	return err;
}

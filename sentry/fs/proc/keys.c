/* /proc/keys and /proc/key-users: keyrings(7). */
#include <stdio.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/keys/keys.h"
#include "sentry/time/clock.h"

#define NS_PER_SEC 1000000000LL

/* How long the key still has, in its largest unit. */
static void put_timeout(const struct key *k, char out[16])
{
	static const struct {
		int64_t below, seconds;
		char unit;
	} units[] = {
		{60, 1, 's'},
		{60 * 60, 60, 'm'},
		{60 * 60 * 24, 60 * 60, 'h'},
		{60 * 60 * 24 * 7, 60 * 60 * 24, 'd'},
		{INT64_MAX, 60 * 60 * 24 * 7, 'w'},
	};
	int64_t left = (k->expiry - time_realtime()) / NS_PER_SEC;
	size_t i = 0;

	if (!k->expiry) {
		snprintf(out, 16, "perm");
	} else if (k->expiry <= time_realtime()) {
		snprintf(out, 16, "expd");
	} else {
		while (left >= units[i].below)
			i++;
		snprintf(out, 16, "%lld%c", (long long)(left / units[i].seconds), units[i].unit);
	}
}

static void put_key(struct text *out, const struct key *k, const struct user_ns *u)
{
	char timeout[16];

	put_timeout(k, timeout);
	text_printf(out, "%08x I%c-Q--- %5u %4s %08x %5d %5d %-9.9s %s", (unsigned)k->serial,
		    k->revoked ? 'R' : '-', k->refs, timeout, k->perm, (int)uid_show(u, k->uid),
		    (int)gid_show(u, k->gid), k->type->name, k->desc);
	if (!key_is_keyring(k))
		text_printf(out, k->type->readable ? ": %zu\n" : "\n", k->len);
	else if (k->nlinks)
		text_printf(out, ": %zu\n", k->nlinks);
	else
		text_puts(out, ": empty\n");
}

/* Those that the reader may view. */
static int show_keys(struct text *out, void *arg)
{
	struct task *t = task_current();

	(void)arg;
	if (!t)
		return 0;
	mutex_lock(&keys_lock, &lc_keys);
	for (struct key *k = key_next(1); k; k = key_next(k->serial + 1)) {
		struct key_ref ref = {k, key_possessed(t, k)};
		if (key_permits(t->cred, ref, KEY_VIEW))
			put_key(out, k, t->cred->user_ns);
	}
	mutex_unlock(&keys_lock, &lc_keys);
	return 0;
}

static int show_key_users(struct text *out, void *arg)
{
	const struct task *t = task_current();
	const struct user_ns *reader = t ? t->cred->user_ns : &user_ns_top;

	(void)arg;
	mutex_lock(&keys_lock, &lc_keys);
	for (struct key_user *u = key_user_next(NULL); u; u = key_user_next(u)) {
		if (!uid_mapped(reader, u->uid))
			continue;
		text_printf(out, "%5u: %5zu %zu/%zu %zu/%d %zu/%d\n", uid_show(reader, u->uid),
			    u->nkeys, u->nkeys, u->nkeys, u->nkeys,
			    u->uid ? key_max_keys : key_root_max_keys, u->nbytes,
			    u->uid ? key_max_bytes : key_root_max_bytes);
	}
	mutex_unlock(&keys_lock, &lc_keys);
	return 0;
}

const struct synth_file_ops proc_keys_ops = {.show = show_keys};
const struct synth_file_ops proc_key_users_ops = {.show = show_key_users};

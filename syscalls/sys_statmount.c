/* statmount(2), listmount(2). */
#include <errno.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "sentry/abi/statmount.h"
#include "sentry/vfs/mount.h"
#include "syscalls/file_io.h"
#include "syscalls/mount_util.h"
#include "syscalls/syscalls.h"

#define STRINGS_MAX 16384
#define SB_RDONLY_FLAG 1

/* What is asked about: the caller's namespace only. */
static int get_request(struct task *t, uaddr_t ureq, struct linux_mnt_id_req *req)
{
	uint32_t size;

	if (copy_in_val(&t->um, &size, ureq))
		return -EFAULT;
	if (size > PAGE_SIZE)
		return -E2BIG;
	if (size < LINUX_MNT_ID_REQ_SIZE_VER0)
		return -EINVAL;
	int err = copy_in_extensible(t, req, sizeof(*req), ureq, size);
	if (err)
		return err;
	if (req->spare)
		return -EINVAL;
	if (req->mnt_ns_id && req->mnt_ns_id != t->fs->mnt_ns->ns.ino)
		return -ENOENT;
	return 0;
}

/* ---- listmount ---- */

struct listing {
	uint64_t *ids;
	uint64_t after;
	size_t n, max;
	struct path root;
	struct mount *below; /* NULL: all of the namespace */
	struct mount *found;
	uint64_t wanted;
	bool reverse;
};

static bool is_below(struct mount *m, const struct listing *l)
{
	if (!l->below)
		return mount_is_seen(m, l->root);
	return m != l->below && mount_is_child(m, l->below) && mount_is_seen(m, l->root);
}

static int list_one(struct mount *m, void *arg)
{
	struct listing *l = arg;
	uint64_t id = mount_unique_id(m);
	bool wanted = !l->after || (l->reverse ? id < l->after : id > l->after);

	if (!wanted || !is_below(m, l))
		return 0;
	if (l->n == l->max && l->reverse) {
		memmove(l->ids, l->ids + 1, (l->max - 1) * sizeof(*l->ids));
		l->n--;
	}
	if (l->n == l->max)
		return 1;
	l->ids[l->n++] = id;
	return 0;
}

static int find_one(struct mount *m, void *arg)
{
	struct listing *l = arg;

	if (mount_unique_id(m) == l->wanted && !l->found)
		l->found = mount_get(m);
	return 0;
}

static struct path root_of(struct task *t)
{
	mutex_lock(&t->fs->lock, &lc_fs);
	struct path root = path_get(t->fs->root);
	mutex_unlock(&t->fs->lock, &lc_fs);
	return root;
}

/* The mount of that number, with a reference.  -ENOENT; -EPERM: out of the caller's sight. */
static int find_mount(struct task *t, uint64_t id, struct path root, struct mount **out)
{
	struct listing l = {.wanted = id};
	int err = mnt_ns_for_each(t->fs->mnt_ns, find_one, &l);

	if (!err && !l.found)
		err = -ENOENT;
	if (!err && !mount_is_seen(l.found, root) && !may_mount(t))
		err = -EPERM;
	if (err)
		mount_put(l.found);
	else
		*out = l.found;
	return err;
}

static void reverse(uint64_t *ids, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		uint64_t id = ids[i];
		ids[i] = ids[n - 1 - i];
		ids[n - 1 - i] = id;
	}
}

long sys_listmount(struct task *t, uaddr_t ureq, uaddr_t uids, uint64_t n, unsigned flags)
{
	CLEANUP_PATH struct path root = {NULL, NULL};
	struct linux_mnt_id_req req;
	struct listing l = {.max = n, .reverse = flags & LINUX_LISTMOUNT_REVERSE};

	if (flags & ~LINUX_LISTMOUNT_REVERSE)
		return -EINVAL;
	if (n > LINUX_LISTMOUNT_MAX)
		return -EOVERFLOW;
	int err = get_request(t, ureq, &req);
	if (err)
		return err;
	root = l.root = root_of(t);
	l.after = req.param;
	if (req.mnt_id != LINUX_LSMT_ROOT && (err = find_mount(t, req.mnt_id, root, &l.below)))
		return err;
	CLEANUP_FREE uint64_t *ids = l.ids = calloc(n + 1, sizeof(*ids));
	err = !ids ? -ENOMEM : n ? mnt_ns_for_each(t->fs->mnt_ns, list_one, &l) : 0;
	mount_put(l.below);
	if (err < 0)
		return err;
	if (l.reverse)
		reverse(ids, l.n);
	if (l.n && copy_out(&t->um, uids, ids, l.n * sizeof(*ids)))
		return -EFAULT;
	return (long)l.n;
}

/* ---- statmount ---- */

struct statement {
	struct linux_statmount s;
	char text[STRINGS_MAX];
	size_t used;
	bool full;
};

static void put_text(struct statement *st, uint32_t *where, const char *text, size_t n)
{
	if (n + 1 > sizeof(st->text) - st->used) {
		st->full = true;
		return;
	}
	*where = (uint32_t)st->used;
	memcpy(st->text + st->used, text, n);
	st->text[st->used + n] = 0;
	st->used += n + 1;
}

static void put_name(struct statement *st, uint32_t *where, struct path p, struct path root)
{
	char *start;
	CLEANUP_FREE char *buf = malloc(VFS_PATH_MAX);
	ssize_t n = buf ? path_name(p, root, buf, VFS_PATH_MAX, false, &start) : -ENOMEM;

	if (n >= 0)
		put_text(st, where, start, (size_t)n);
}

static uint64_t attrs_of(unsigned flags)
{
	static const struct {
		unsigned flag;
		uint64_t attr;
	} same[] = {
		{MS_RDONLY, MOUNT_ATTR_RDONLY},
		{MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NODEV, MOUNT_ATTR_NODEV},
		{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NOATIME, MOUNT_ATTR_NOATIME},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
		{MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
	};
	uint64_t attrs = 0;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if (flags & same[i].flag)
			attrs |= same[i].attr;
	return flags & (MS_RELATIME | MS_NOATIME) ? attrs : attrs | MOUNT_ATTR_STRICTATIME;
}

static void state_numbers(struct statement *st, struct mount *m, struct path root, uint64_t mask)
{
	struct linux_statmount *s = &st->s;
	struct mount_sharing sharing;

	mount_sharing(m, root, &sharing);
	if (mask & STATMOUNT_SB_BASIC) {
		s->sb_dev_major = major(m->sb->dev);
		s->sb_dev_minor = minor(m->sb->dev);
		s->sb_magic = m->sb->magic;
		s->sb_flags = m->sb->readonly ? SB_RDONLY_FLAG : 0;
	}
	if (mask & STATMOUNT_MNT_BASIC) {
		s->mnt_id = mount_unique_id(m);
		s->mnt_id_old = (uint32_t)m->id;
		s->mnt_parent_id_old = (uint32_t)mount_parent_id(m);
		s->mnt_parent_id =
			s->mnt_parent_id_old ? MOUNT_UNIQUE_BASE + s->mnt_parent_id_old : s->mnt_id;
		s->mnt_attr = attrs_of(m->flags);
		s->mnt_propagation = sharing.shared ? MS_SHARED : 0;
		s->mnt_propagation |= sharing.master ? MS_SLAVE : 0;
		s->mnt_propagation |= sharing.unbindable ? MS_UNBINDABLE : 0;
		if (!s->mnt_propagation)
			s->mnt_propagation = MS_PRIVATE;
		s->mnt_peer_group = (uint64_t)sharing.shared;
		s->mnt_master = (uint64_t)sharing.master;
	}
	if (mask & STATMOUNT_PROPAGATE_FROM)
		s->propagate_from = (uint64_t)sharing.from;
	if (mask & STATMOUNT_MNT_NS_ID)
		s->mnt_ns_id = m->ns ? m->ns->ns.ino : 0;
	if (mask & STATMOUNT_SUPPORTED_MASK)
		s->supported_mask = STATMOUNT_KNOWN;
}

static void state_options(struct statement *st, struct mount *m, uint64_t mask)
{
	char options[VFS_PATH_MAX] = "", *o = options;

	if (!(mask & (STATMOUNT_MNT_OPTS | STATMOUNT_OPT_ARRAY)))
		return;
	if (m->sb->ops->show_options)
		m->sb->ops->show_options(m->sb, options, sizeof(options));
	o += *o == ',';
	if (!*o) {
		st->s.mask &= ~(uint64_t)(STATMOUNT_MNT_OPTS | STATMOUNT_OPT_ARRAY);
		return;
	}
	if (mask & STATMOUNT_MNT_OPTS)
		put_text(st, &st->s.mnt_opts, o, strlen(o));
	if (!(mask & STATMOUNT_OPT_ARRAY))
		return;
	st->s.opt_num = 1;
	for (char *p = o; *p; p++)
		if (*p == ',') {
			*p = 0;
			st->s.opt_num++;
		}
	size_t n = 0;
	for (uint32_t i = 0; i < st->s.opt_num; i++)
		n += strlen(o + n) + 1;
	put_text(st, &st->s.opt_array, o, n - 1);
}

static void state_texts(struct statement *st, struct mount *m, struct path root, uint64_t mask)
{
	struct mount all = {.root = m->sb->root};

	st->s.mask = mask & STATMOUNT_KNOWN;
	if (mask & STATMOUNT_MNT_ROOT)
		put_name(st, &st->s.mnt_root, (struct path){&all, m->root},
			 (struct path){&all, all.root});
	if (mask & STATMOUNT_MNT_POINT)
		put_name(st, &st->s.mnt_point, (struct path){m, m->root}, root);
	if (mask & STATMOUNT_FS_TYPE)
		put_text(st, &st->s.fs_type, m->sb->fstype, strlen(m->sb->fstype));
	if (mask & STATMOUNT_SB_SOURCE)
		put_text(st, &st->s.sb_source, m->source, strlen(m->source));
	state_options(st, m, mask);
}

long sys_statmount(struct task *t, uaddr_t ureq, uaddr_t ubuf, uint64_t size, unsigned flags)
{
	CLEANUP_PATH struct path root = {NULL, NULL};
	struct linux_mnt_id_req req;
	struct mount *m;

	if (flags)
		return -EINVAL;
	int err = get_request(t, ureq, &req);
	if (err)
		return err;
	CLEANUP_FREE struct statement *st = calloc(1, sizeof(*st));
	if (!st)
		return -ENOMEM;
	root = root_of(t);
	if ((err = find_mount(t, req.mnt_id, root, &m)))
		return err;
	st->used = 1; /* offset 0: an empty string */
	state_texts(st, m, root, req.param);
	state_numbers(st, m, root, req.param);
	mount_put(m);
	if (st->full)
		return -EOVERFLOW;
	size_t text = st->used > 1 ? st->used : 0;
	if (text && size < sizeof(st->s) + text)
		return -EOVERFLOW;
	st->s.size = (uint32_t)(sizeof(st->s) + text);
	if (copy_out(&t->um, ubuf, &st->s, MIN(size, sizeof(st->s))) ||
	    (text && copy_out(&t->um, uaddr_add(ubuf, sizeof(st->s)), st->text, text)))
		return -EFAULT;
	return 0;
}

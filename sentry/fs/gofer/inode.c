/* Inodes of goferfs: identity, attributes, links' targets. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "sentry/fs/gofer/listing.h"
#include "sentry/lib/cleanup.h"
#include "sentry/lib/log.h"
#include "sentry/lib/slab.h"
#include "sentry/time/ktimer.h"

#define SAME(vfs, wire) ((int)(vfs) == (int)(wire))
_Static_assert(SAME(ATTR_MODE, GOFER_SET_MODE) && SAME(ATTR_UID, GOFER_SET_UID) &&
		       SAME(ATTR_GID, GOFER_SET_GID) && SAME(ATTR_SIZE, GOFER_SET_SIZE) &&
		       SAME(ATTR_ATIME, GOFER_SET_ATIME) && SAME(ATTR_MTIME, GOFER_SET_MTIME) &&
		       SAME(ATTR_ATIME_NOW, GOFER_SET_ATIME_NOW) &&
		       SAME(ATTR_MTIME_NOW, GOFER_SET_MTIME_NOW),
	       "the wire has the vfs's bits");

static struct slab inodes = SLAB_INIT(sizeof(struct gofer_inode));

int64_t gofer_now(void)
{
	return time_monotonic();
}

/* ---- identity ---- */

/* One attach point may show several host file systems (mounts inside it, layers of an overlay).
 * The guest sees one device, so numbers of all but the first one are moved out of the way. */
uint64_t gofer_present_ino(struct gofer_sb *gsb, uint64_t dev, uint64_t ino)
{
	unsigned i;

	mutex_lock(&gsb->tree_lock, &lc_leaf);
	for (i = 0; i < gsb->ndevs && gsb->devs[i] != dev; i++)
		;
	if (i == gsb->ndevs && i < ARRAY_SIZE(gsb->devs))
		gsb->devs[gsb->ndevs++] = dev;
	mutex_unlock(&gsb->tree_lock, &lc_leaf);
	if (i == 0)
		return ino;
	/* Host numbers seldom reach 48 bits; devices beyond the table are told apart by their own.
	 */
	uint64_t tag = i < ARRAY_SIZE(gsb->devs) ? i : 64 + (dev ^ dev >> 32) % 16384;
	return ino ^ (1ULL << 63 | tag << 48);
}

static int compare(uint64_t dev, uint64_t ino, const struct gofer_inode *gi)
{
	if (dev != gi->host_dev)
		return dev < gi->host_dev ? -1 : 1;
	if (ino != gi->host_ino)
		return ino < gi->host_ino ? -1 : 1;
	return 0;
}

static void tree_remove(struct gofer_sb *gsb, struct gofer_inode *gi)
{
	if (gi->in_tree)
		rb_erase(&gsb->inodes, &gi->tree);
	gi->in_tree = false;
}

/*
 * Without a node nothing keeps the host from giving the number to another file, and a listing may
 * be older than that: the same file has the same type and time of birth.
 */
static bool is_another(const struct gofer_inode *known, const struct gofer_inode *fresh)
{
	return (known->in.mode ^ fresh->in.mode) & S_IFMT ||
	       known->in.btime.sec != fresh->in.btime.sec ||
	       known->in.btime.nsec != fresh->in.btime.nsec;
}

/*
 * Finds a live inode, or puts `fresh` in its place.  An inode whose last reference is going does
 * not count: the new one is put beside it.
 */
static struct gofer_inode *tree_find_or_add(struct gofer_sb *gsb, struct gofer_inode *fresh)
{
	struct rb_node **link = &gsb->inodes.node, *parent = NULL;

	while (*link) {
		struct gofer_inode *gi = rb_entry(*link, struct gofer_inode, tree);
		int c = compare(fresh->host_dev, fresh->host_ino, gi);
		parent = *link;
		if (c == 0 && !atomic_load(&gi->node) && is_another(gi, fresh)) {
			tree_remove(gsb, gi);
			link = &gsb->inodes.node;
			parent = NULL;
			continue;
		}
		if (c == 0 && ref_get_unless_zero(&gi->in.ref))
			return gi;
		/* Equal but dying: either side will do. */
		link = c < 0 ? &parent->left : &parent->right;
	}
	rb_insert(&gsb->inodes, &fresh->tree, parent, link);
	fresh->in_tree = true;
	return NULL;
}

static void gofer_inode_free(struct inode *in)
{
	struct gofer_inode *gi = gi_of(in);
	struct gofer_sb *gsb = gsb_of(in->sb);

	gofer_unlisted(gi);
	gofer_drop_fds(gi);
	/* The space of a removed file is free only when the gofer has let go of it, too. */
	if (gi->node)
		gofer_close_node(gsb->conn, gi->node, in->nlink == 0);
	slab_free(&inodes, gi);
}

void gofer_unlisted(struct gofer_inode *gi)
{
	struct gofer_sb *gsb = gsb_of(gi->in.sb);

	mutex_lock(&gsb->tree_lock, &lc_leaf);
	tree_remove(gsb, gi);
	mutex_unlock(&gsb->tree_lock, &lc_leaf);
}

void gofer_changed(struct gofer_inode *gi)
{
	atomic_store(&gi->stale, true);
	atomic_store(&gi->changed, true);
}

static const struct inode_ops *ops_for(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return &gofer_file_iops;
	case S_IFDIR:
		return &gofer_dir_iops;
	case S_IFLNK:
		return &gofer_link_iops;
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return &gofer_other_iops;
	default:
		return NULL;
	}
}

static struct gofer_inode *inode_new(struct gofer_sb *gsb, const struct gofer_entry *e)
{
	struct gofer_inode *gi = slab_alloc(&inodes);

	if (!gi)
		return NULL;
	atomic_init(&gi->node, e->node);
	gi->host_dev = gofer_attr_dev(&e->attr);
	gi->host_ino = e->attr.ino;
	atomic_init(&gi->ro_fd, -1);
	atomic_init(&gi->rw_fd, -1);
	atomic_init(&gi->wo_fd, -1);
	list_init(&gi->lru);
	inode_init(&gi->in, &gsb->sb, ops_for(e->attr.mode),
		   gofer_present_ino(gsb, gi->host_dev, gi->host_ino), e->attr.mode, NULL);
	return gi;
}

int gofer_inode_get(struct gofer_sb *gsb, const struct gofer_entry *e, const char *target,
		    size_t target_len, struct inode **out)
{
	if (!ops_for(e->attr.mode))
		return gofer_conn_fail(gsb->conn, "a file of no known type");
	struct gofer_inode *gi = inode_new(gsb, e);
	if (!gi) {
		if (e->node)
			gofer_close_node(gsb->conn, e->node, false);
		return -ENOMEM;
	}
	int err = gofer_set_attr(gi, &e->attr);
	if (!err && target_len)
		gi->in.link = strndup(target, target_len);
	struct gofer_inode *known = NULL;
	if (!err) {
		mutex_lock(&gsb->tree_lock, &lc_leaf);
		known = tree_find_or_add(gsb, gi);
		mutex_unlock(&gsb->tree_lock, &lc_leaf);
	}
	/* A file with a node is right, so what a listing says is not. */
	bool outdated = known && !e->node && is_another(known, gi);
	/* Known by its place only, it now gets the node that was found. */
	uint64_t none = 0, node = e->node;
	if (known && node && atomic_compare_exchange_strong(&known->node, &none, node))
		atomic_store(&gi->node, 0);
	if (err || known)
		inode_put(&gi->in);
	if (err)
		return err;
	if (outdated)
		err = -ESTALE;
	else if (known && gi_shared(known))
		err = gofer_set_attr(known, &e->attr);
	else if (known && (known->in.mode ^ e->attr.mode) & S_IFMT)
		err = gofer_conn_fail(gsb->conn, "a file changed its type");
	if (err) {
		inode_put(&known->in);
		return err;
	}
	*out = known ? &known->in : &gi->in;
	return 0;
}

/* ---- attributes ---- */

static struct ktime time_from(struct gofer_time t)
{
	return (struct ktime){t.sec, t.nsec};
}

int gofer_set_attr(struct gofer_inode *gi, const struct gofer_attr *a)
{
	struct inode *in = &gi->in;

	if ((a->mode ^ in->mode) & S_IFMT || a->mode & ~(uint32_t)(S_IFMT | 07777) ||
	    gofer_attr_dev(a) != gi->host_dev || a->ino != gi->host_ino || a->size > INT64_MAX ||
	    a->atime.nsec > 999999999 || a->mtime.nsec > 999999999 || a->ctime.nsec > 999999999 ||
	    a->btime.nsec > 999999999)
		return gofer_conn_fail(gi_conn(gi), "attributes that cannot be this file's");
	mutex_lock(&in->lock, &lc_inode);
	/* Walks read mode and ids without the lock: single stores. */
	__atomic_store_n(&in->mode, a->mode, __ATOMIC_RELAXED);
	__atomic_store_n(&in->uid, a->uid, __ATOMIC_RELAXED);
	__atomic_store_n(&in->gid, a->gid, __ATOMIC_RELAXED);
	in->nlink = a->nlink;
	in->rdev = makedev(a->rdev_major, a->rdev_minor);
	in->size = a->size;
	in->blocks = a->blocks;
	in->atime = time_from(a->atime);
	in->mtime = time_from(a->mtime);
	in->ctime = time_from(a->ctime);
	in->btime = time_from(a->btime);
	gi->dio_align = a->dio_align & (a->dio_align - 1) ? 0 : a->dio_align;
	gi->blksize = a->blksize;
	gi->attributes = a->attributes;
	gi->attributes_mask = a->attributes_mask;
	mutex_unlock(&in->lock, &lc_inode);
	atomic_store(&gi->checked, gofer_now());
	return 0;
}

/* The same from fstat(2) on a descriptor that was checked to be this file.  The owner is left out:
 * the sentry's user namespace has no names for the container's ids. */
static void set_attr_from_stat(struct gofer_inode *gi, const struct stat *st)
{
	struct inode *in = &gi->in;

	mutex_lock(&in->lock, &lc_inode);
	__atomic_store_n(&in->mode, (in->mode & S_IFMT) | (st->st_mode & 07777), __ATOMIC_RELAXED);
	in->nlink = (uint32_t)st->st_nlink;
	in->size = (uint64_t)st->st_size;
	in->blocks = (uint64_t)st->st_blocks;
	in->atime = (struct ktime){st->st_atim.tv_sec, (uint32_t)st->st_atim.tv_nsec};
	in->mtime = (struct ktime){st->st_mtim.tv_sec, (uint32_t)st->st_mtim.tv_nsec};
	in->ctime = (struct ktime){st->st_ctim.tv_sec, (uint32_t)st->st_ctim.tv_nsec};
	mutex_unlock(&in->lock, &lc_inode);
}

static int ask_attr(struct gofer_inode *gi)
{
	struct gofer_node_req rq;
	struct gofer_attr a;
	struct rpc r = {
		.op = GOFER_GETATTR,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = &a,
		.rep_min = sizeof(a),
		.rep_max = sizeof(a),
	};
	int err = gofer_node(gi, &rq.node);

	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	return err ? err : gofer_set_attr(gi, &a);
}

static bool is_old(struct gofer_inode *gi)
{
	return gi_shared(gi) && gofer_now() - atomic_load(&gi->checked) >= GOFERFS_WINDOW_NS;
}

/* With a descriptor at hand the host kernel is asked directly for what our own I/O changed; what
 * others may have changed (the owner, too) only the gofer knows. */
static int refresh_locked(struct gofer_inode *gi)
{
	int fd = gofer_io_fd(gi);
	bool old = is_old(gi);
	struct stat st;

	if (!old && !atomic_load(&gi->stale) && !atomic_load(&gi->written_by_map))
		return 0;
	atomic_store(&gi->stale, false);
	if (fd < 0 || old)
		return ask_attr(gi);
	if (gofer_fstat(fd, &st))
		return -errno;
	set_attr_from_stat(gi, &st);
	return 0;
}

int gofer_refresh(struct gofer_inode *gi)
{
	struct inode *in = &gi->in;

	if (!atomic_load(&gi->stale) && !atomic_load(&gi->written_by_map) && !is_old(gi))
		return 0;
	gofer_pin(gi);
	mutex_lock(&in->data_lock, &lc_inode_data2);
	int err = refresh_locked(gi);
	mutex_unlock(&in->data_lock, &lc_inode_data2);
	gofer_unpin(gi);
	return err;
}

static int gofer_getattr(struct inode *in, struct kstat *st)
{
	struct gofer_inode *gi = gi_of(in);
	int err = gofer_refresh(gi);

	if (err)
		return err;
	inode_fill_stat(in, st);
	mutex_lock(&in->lock, &lc_inode);
	st->blksize = gi->blksize;
	st->attributes = gi->attributes & gi->attributes_mask;
	st->attributes_mask = gi->attributes_mask;
	if (in->btime.sec == 0 && in->btime.nsec == 0)
		st->mask &= ~(uint32_t)STATX_BTIME;
	mutex_unlock(&in->lock, &lc_inode);
	return 0;
}

/* As gofer_getattr, of a name in a listed directory. */
static int gofer_peek(struct inode *dir, const char *name, size_t len, struct kstat *st)
{
	struct gofer_entry e;
	const struct gofer_attr *a = &e.attr;

	switch (gofer_listing_lookup(gi_of(dir), name, len, &e)) {
	case LISTING_UNKNOWN:
		return 0;
	case LISTING_NONE:
		return -ENOENT;
	case LISTING_FOUND:
		break;
	}
	*st = (struct kstat){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.dev = dir->sb->dev,
		.ino = gofer_present_ino(gsb_of(dir->sb), gofer_attr_dev(a), a->ino),
		.mode = a->mode,
		.nlink = a->nlink,
		.uid = a->uid,
		.gid = a->gid,
		.size = a->size,
		.blocks = a->blocks,
		.blksize = a->blksize,
		.atime = time_from(a->atime),
		.mtime = time_from(a->mtime),
		.ctime = time_from(a->ctime),
		.btime = time_from(a->btime),
		.attributes = a->attributes & a->attributes_mask,
		.attributes_mask = a->attributes_mask,
	};
	if (st->btime.sec == 0 && st->btime.nsec == 0)
		st->mask &= ~(uint32_t)STATX_BTIME;
	return 1;
}

static int send_attr(struct gofer_inode *gi, const struct iattr *a)
{
	struct gofer_setattr_req rq = {
		.valid = a->valid,
		.mode = a->mode & 07777,
		.uid = a->uid,
		.gid = a->gid,
		.size = a->size,
		.atime = {.sec = a->atime.sec, .nsec = a->atime.nsec},
		.mtime = {.sec = a->mtime.sec, .nsec = a->mtime.nsec},
	};
	struct gofer_attr got;
	struct rpc r = {
		.op = GOFER_SETATTR,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = &got,
		.rep_min = sizeof(got),
		.rep_max = sizeof(got),
	};

	if (!(a->valid & ATTR_ATIME))
		rq.atime = (struct gofer_time){0};
	if (!(a->valid & ATTR_MTIME))
		rq.mtime = (struct gofer_time){0};
	int err = gofer_node(gi, &rq.node);
	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	atomic_store(&gi->changed, true);
	return err ? err : gofer_set_attr(gi, &got);
}

void gofer_keep_privs(struct gofer_inode *gi, uint32_t mode)
{
	struct iattr a = {.valid = ATTR_MODE, .mode = mode & 07777};

	if (!(mode & (S_ISUID | S_ISGID)) || !S_ISREG(mode))
		return;
	gofer_pin(gi);
	if (send_attr(gi, &a))
		log_limited(LOG_WARN, "gofer: a file has lost its set-id bits");
	gofer_unpin(gi);
}

static int truncate_here(struct gofer_inode *gi, int fd, uint64_t size)
{
	uint32_t mode = gi->in.mode;

	if (ftruncate(fd, (off_t)size))
		return -errno;
	mutex_lock(&gi->in.lock, &lc_inode);
	gi->in.size = size;
	mutex_unlock(&gi->in.lock, &lc_inode);
	gofer_changed(gi);
	gofer_keep_privs(gi, mode);
	return 0;
}

/* data_lock keeps writes and truncations, and what they make of the size, in one order. */
static int gofer_setattr(struct inode *in, const struct iattr *attr)
{
	struct gofer_inode *gi = gi_of(in);
	struct iattr a = *attr;
	int err = 0;

	if (in->sb->readonly)
		return -EROFS;
	if (a.valid & ATTR_SIZE && a.size > INT64_MAX)
		return -EFBIG;
	/* A change of size sets the time of modification by itself. */
	if (a.valid & ATTR_SIZE && a.valid & ATTR_MTIME_NOW)
		a.valid &= ~(unsigned)(ATTR_MTIME | ATTR_MTIME_NOW);
	gofer_pin(gi);
	mutex_lock(&in->data_lock, &lc_inode_data2);
	int fd = atomic_load(&gi->rw_fd);
	if (a.valid & ATTR_SIZE && !(a.valid & ATTR_MODE) && fd < 0 &&
	    in->mode & (S_ISUID | S_ISGID)) {
		/* As gofer_keep_privs(). */
		a.valid |= ATTR_MODE;
		a.mode = in->mode & 07777;
	}
	if (a.valid & ATTR_SIZE && fd >= 0) {
		err = truncate_here(gi, fd, a.size);
		a.valid &= ~(unsigned)ATTR_SIZE;
	}
	if (!err && a.valid)
		err = send_attr(gi, &a);
	mutex_unlock(&in->data_lock, &lc_inode_data2);
	gofer_unpin(gi);
	return err;
}

/* ---- links ---- */

/* The vfs keeps the answer; it is also here when the lookup brought it along. */
static ssize_t gofer_readlink(struct inode *in, char *buf, size_t size)
{
	struct gofer_inode *gi = gi_of(in);
	const char *link = atomic_load(&in->link);

	if (link) {
		size_t n = MIN(strlen(link), size);
		memcpy(buf, link, n);
		return (ssize_t)n;
	}
	CLEANUP_FREE char *target = malloc(GOFER_PATH_LEN);
	if (!target)
		return -ENOMEM;
	struct gofer_node_req rq;
	struct rpc r = {
		.op = GOFER_READLINK,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = target,
		.rep_min = 1,
		.rep_max = GOFER_PATH_LEN,
	};
	int err = gofer_node(gi, &rq.node);
	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	if (err)
		return err;
	if (memchr(target, 0, r.rep_len))
		return gofer_conn_fail(gi_conn(gi), "a link's target has a zero byte");
	size_t n = MIN(r.rep_len, size);
	memcpy(buf, target, n);
	return (ssize_t)n;
}

#define COMMON_OPS                                                                      \
	.getattr = gofer_getattr, .setattr = gofer_setattr, .getxattr = gofer_getxattr, \
	.setxattr = gofer_setxattr, .listxattr = gofer_listxattr,                       \
	.removexattr = gofer_removexattr, .free = gofer_inode_free

const struct inode_ops gofer_file_iops = {COMMON_OPS, .open = gofer_open_file,
					  .forget = gofer_forget};
const struct inode_ops gofer_link_iops = {COMMON_OPS, .readlink = gofer_readlink};
const struct inode_ops gofer_other_iops = {COMMON_OPS};
const struct inode_ops gofer_dir_iops = {
	COMMON_OPS,
	.lookup = gofer_lookup,
	.peek = gofer_peek,
	.create = gofer_create,
	.mkdir = gofer_mkdir,
	.mknod = gofer_mknod,
	.symlink = gofer_symlink,
	.link = gofer_link,
	.unlink = gofer_unlink,
	.rmdir = gofer_rmdir,
	.rename = gofer_rename,
	.open = gofer_open_dir,
};

bool inode_is_goferfs(const struct inode *in)
{
	return in->ops == &gofer_file_iops || in->ops == &gofer_dir_iops ||
	       in->ops == &gofer_link_iops || in->ops == &gofer_other_iops;
}

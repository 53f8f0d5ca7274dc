/*
 * Descriptors that the gofer donated.
 *
 * An inode has at most two: read-only and read-write; and a write-only one while a file is open
 * that guest processes write themselves.  While it is pinned (an open file, or a call in progress)
 * they stay; afterwards they are kept on a list, so that opening the file again costs no round
 * trip, until others push them out.
 */
#include "sentry/fs/gofer/client.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Kept while no file is open: enough for trees that are gone through again and again, but what is
 * left must do for everything else. */
#define KEPT_MAX 8192
#define KEPT_UNASKED 1024

static unsigned kept_max = KEPT_UNASKED;

void goferfs_init(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r))
		kept_max = (unsigned)MIN((rlim_t)KEPT_MAX, r.rlim_cur * 3 / 8);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static bool has_fds(const struct gofer_inode *gi)
{
	return atomic_load(&gi->ro_fd) >= 0 || atomic_load(&gi->rw_fd) >= 0;
}

static void lru_remove(struct gofer_conn *c, struct gofer_inode *gi)
{
	if (list_empty(&gi->lru))
		return;
	list_del(&gi->lru);
	c->nfd_lru--;
}

void gofer_pin(struct gofer_inode *gi)
{
	struct gofer_conn *c = gi_conn(gi);

	mutex_lock(&c->fd_lock, &lc_leaf);
	if (gi->pins++ == 0)
		lru_remove(c, gi);
	mutex_unlock(&c->fd_lock, &lc_leaf);
}

/* Takes the descriptors of the one that has gone unused longest. */
static void lru_take(struct gofer_conn *c, int *ro, int *rw)
{
	struct gofer_inode *old = list_first(&c->fd_lru, struct gofer_inode, lru);

	lru_remove(c, old);
	*ro = atomic_exchange(&old->ro_fd, -1);
	*rw = atomic_exchange(&old->rw_fd, -1);
}

/* The same, if there are too many. */
static void lru_trim(struct gofer_conn *c, int *ro, int *rw)
{
	*ro = *rw = -1;
	if (c->nfd_lru > kept_max)
		lru_take(c, ro, rw);
}

static void lru_add(struct gofer_conn *c, struct gofer_inode *gi)
{
	if (!has_fds(gi))
		return;
	list_add_tail(&gi->lru, &c->fd_lru);
	c->nfd_lru++;
}

void gofer_unpin(struct gofer_inode *gi)
{
	struct gofer_conn *c = gi_conn(gi);
	int fd[5] = {-1, -1, -1, -1, -1};

	mutex_lock(&gi->in.lock, &lc_inode);
	bool unlinked = gi->in.nlink == 0;
	mutex_unlock(&gi->in.lock, &lc_inode);

	mutex_lock(&c->fd_lock, &lc_leaf);
	bool last = --gi->pins == 0;
	if (last) {
		atomic_store(&gi->written_by_map, false);
		fd[4] = atomic_exchange(&gi->wo_fd, -1);
		if (unlinked || gi_shared(gi))
			fd[0] = atomic_exchange(&gi->rw_fd, -1);
		if (unlinked)
			fd[1] = atomic_exchange(&gi->ro_fd, -1);
		lru_add(c, gi);
		lru_trim(c, &fd[2], &fd[3]);
	}
	mutex_unlock(&c->fd_lock, &lc_leaf);
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close_fd(fd[i]);
	if (last)
		gofer_lend_end(gi);
}

void gofer_adopt_fd(struct gofer_inode *gi, int fd, bool readonly)
{
	struct gofer_conn *c = gi_conn(gi);
	int none = -1, ro, rw;

	mutex_lock(&c->fd_lock, &lc_leaf);
	bool took = atomic_compare_exchange_strong(readonly ? &gi->ro_fd : &gi->rw_fd, &none, fd);
	if (took && gi->pins == 0 && list_empty(&gi->lru))
		lru_add(c, gi);
	lru_trim(c, &ro, &rw);
	mutex_unlock(&c->fd_lock, &lc_leaf);
	if (!took)
		close(fd);
	close_fd(ro);
	close_fd(rw);
}

void gofer_drop_fds(struct gofer_inode *gi)
{
	struct gofer_conn *c = gi_conn(gi);

	mutex_lock(&c->fd_lock, &lc_leaf);
	lru_remove(c, gi);
	mutex_unlock(&c->fd_lock, &lc_leaf);
	close_fd(atomic_exchange(&gi->ro_fd, -1));
	close_fd(atomic_exchange(&gi->rw_fd, -1));
	close_fd(atomic_exchange(&gi->wo_fd, -1));
}

int gofer_io_fd(const struct gofer_inode *gi)
{
	int fd = atomic_load(&gi->rw_fd);

	return fd >= 0 ? fd : atomic_load(&gi->ro_fd);
}

bool gofer_fd_is(const struct gofer_inode *gi, int fd, int accmode)
{
	int fl = fcntl(fd, F_GETFL);
	struct stat st;

	return fl >= 0 && (fl & (O_ACCMODE | O_PATH)) == accmode && gofer_fstat(fd, &st) == 0 &&
	       S_ISREG(st.st_mode) && st.st_ino == gi->host_ino &&
	       ((uint64_t)major(st.st_dev) << 32 | minor(st.st_dev)) == gi->host_dev;
}

int gofer_check_fd(struct gofer_inode *gi, int fd, int accmode)
{
	if (gofer_fd_is(gi, fd, accmode))
		return 0;
	close(fd);
	return gofer_conn_fail(gi_conn(gi), "a descriptor is not what was asked for");
}

static int take_fd(struct gofer_inode *gi, _Atomic int *slot, int fd, int accmode)
{
	int err = gofer_check_fd(gi, fd, accmode), none = -1;

	/* One that was opened ahead may have come in between. */
	if (!err && !atomic_compare_exchange_strong(slot, &none, fd))
		close(fd);
	return err;
}

static int request_fds(struct gofer_inode *gi, unsigned what)
{
	struct gofer_open_req rq = {.flags = what};
	struct gofer_open_rep out;
	struct rpc r = {
		.op = GOFER_OPEN,
		.fixed = &rq,
		.fixed_len = sizeof(rq),
		.rep = &out,
		.rep_min = sizeof(out),
		.rep_max = sizeof(out),
		.fds_room = 3,
	};
	unsigned want = (unsigned)__builtin_popcount(what);
	int err = gofer_node(gi, &rq.node);

	if (!err)
		err = gofer_rpc(gi_conn(gi), &r);
	if (err)
		return err;
	if (r.nfds != want) {
		for (unsigned i = 0; i < r.nfds; i++)
			close(r.fds[i]);
		return gofer_conn_fail(gi_conn(gi), "an open file came without its descriptors");
	}
	unsigned i = 0;
	if (what & GOFER_OPEN_READ)
		err = take_fd(gi, &gi->ro_fd, r.fds[i++], O_RDONLY);
	if (what & GOFER_OPEN_WRITE) {
		int e = take_fd(gi, &gi->rw_fd, r.fds[i++], O_RDWR);
		err = err ? err : e;
	}
	if (what & GOFER_OPEN_ONLY_WRITE) {
		int e = take_fd(gi, &gi->wo_fd, r.fds[i], O_WRONLY);
		err = err ? err : e;
	}
	if (!err && gi_shared(gi))
		err = gofer_set_attr(gi, &out.attr);
	return err;
}

/* Closes what is only kept: the process, or the host, has no more descriptors. */
static void give_up_fds(struct gofer_conn *c)
{
	for (;;) {
		int ro = -1, rw = -1;
		mutex_lock(&c->fd_lock, &lc_leaf);
		bool none = list_empty(&c->fd_lru);
		if (!none)
			lru_take(c, &ro, &rw);
		mutex_unlock(&c->fd_lock, &lc_leaf);
		if (none)
			return;
		close_fd(ro);
		close_fd(rw);
	}
}

int gofer_need_fds(struct gofer_inode *gi, unsigned what)
{
	int err = 0;

	mutex_lock(&gi->in.data_lock, &lc_inode_data2);
	if (atomic_load(&gi->ro_fd) >= 0)
		what &= ~(unsigned)GOFER_OPEN_READ;
	if (atomic_load(&gi->rw_fd) >= 0)
		what &= ~(unsigned)GOFER_OPEN_WRITE;
	if (atomic_load(&gi->wo_fd) >= 0)
		what &= ~(unsigned)GOFER_OPEN_ONLY_WRITE;
	if (what)
		err = request_fds(gi, what);
	if (err == -ENFILE || err == -EMFILE) {
		give_up_fds(gi_conn(gi));
		err = request_fds(gi, what);
	}
	mutex_unlock(&gi->in.data_lock, &lc_inode_data2);
	return err;
}

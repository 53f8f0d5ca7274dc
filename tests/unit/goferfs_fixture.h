/* A gofer in another process (not shut in) over a small tree, mounted in exclusive or shared mode.
 */
#pragma once

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gofer/server.h"
#include "sentry/fs/gofer/client.h"
#include "sentry/vfs/file.h"

static char root[PATH_MAX];
static pid_t server_pid;
static struct gofer_conn *conn;
static struct super_block *sb;
static struct mnt_ns *ns;
static struct cred *cred;
static struct walk_env env;
static int deaths;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static const char *host(const char *name)
{
	static char paths[4][PATH_MAX + 300];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

static void host_write(const char *name, const char *text)
{
	int fd = open(host(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void count_death(void *arg)
{
	(void)arg;
	deaths++;
}

static const struct goferfs_hooks hooks = {.dead = count_death};

_Noreturn static void serve(int fd, bool readonly, uint32_t max_nodes)
{
	struct gofer_server s;
	struct attach_point ap = {open(root, O_PATH | O_DIRECTORY), readonly};

	umask(0777);
	if (chdir("/proc/self/fd") || server_init(&s, &ap, 1, true, max_nodes))
		_exit(1);
	_exit(server_loop(&s, fd) ? 1 : 0);
}

static void start(unsigned flags, bool readonly, uint32_t max_nodes)
{
	int sv[2];

	snprintf(root, sizeof(root), "/tmp/test_goferfs.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	ck_assert_int_eq(chmod(root, 0755), 0);
	ck_assert_int_eq(mkdir(host("dir"), 0755), 0);
	host_write("file", "hello");
	host_write("dir/deep", "deep");
	ck_assert_int_eq(symlink("dir/deep", host("link")), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	server_pid = fork();
	if (server_pid == 0) {
		close(sv[0]);
		serve(sv[1], readonly, max_nodes);
	}
	close(sv[1]);
	deaths = 0;
	conn = gofer_conn_new(sv[0], &hooks);
	ck_assert_int_eq(goferfs_mount(conn, 0, flags, &sb), 0);
	struct mount *m = mount_new(sb, sb->root, 0, "root");
	ns = mnt_ns_new(m);
	cred = cred_new_root();
	env = (struct walk_env){{m, sb->root}, {m, sb->root}, cred};
}

static void stop(void)
{
	int st;

	dcache_shrink(0);
	mnt_ns_put(ns);
	super_put(sb);
	cred_put(cred);
	gofer_conn_put(conn);
	ck_assert_int_eq(waitpid(server_pid, &st, 0), server_pid);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void setup(void)
{
	start(0, false, 1000);
}

/* ---- shorthands ---- */

static struct file *open_file(const char *name, int flags)
{
	struct file *f = NULL;

	ck_assert_int_eq(vfs_open(&env, name, flags, 0644, 0, &f), 0);
	return f;
}

static int get_stat(const char *name, unsigned flags, struct kstat *st)
{
	struct path p;
	int err = path_walk(&env, name, flags, &p);

	if (err)
		return err;
	err = vfs_getattr(p, st);
	path_put(p);
	return err;
}

static void check_same(const char *name)
{
	struct kstat k;
	struct stat st;

	ck_assert_int_eq(get_stat(name, WALK_NOFOLLOW, &k), 0);
	ck_assert_int_eq(lstat(host(name), &st), 0);
	ck_assert_uint_eq(k.ino, st.st_ino);
	ck_assert_uint_eq(k.mode, st.st_mode);
	ck_assert_uint_eq(k.nlink, st.st_nlink);
	ck_assert_uint_eq(k.uid, st.st_uid);
	ck_assert_uint_eq(k.size, (uint64_t)st.st_size);
	ck_assert_uint_eq(k.blocks, (uint64_t)st.st_blocks);
	ck_assert_int_eq(k.mtime.sec, st.st_mtim.tv_sec);
	ck_assert_uint_eq(k.mtime.nsec, (uint32_t)st.st_mtim.tv_nsec);
	ck_assert_int_eq(k.ctime.sec, st.st_ctim.tv_sec);
	ck_assert_uint_eq(k.ctime.nsec, (uint32_t)st.st_ctim.tv_nsec);
}

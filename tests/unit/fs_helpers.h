/* What unit tests of file systems share: a root walk environment, and short forms of calls. */
#pragma once

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/host/reopen.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

static struct mount *fs_mnt;
static struct cred *fs_cred;
static struct walk_env fs_env;

#define OK(call) ck_assert_int_eq(call, 0)

/* Mounts sb (consumed) as the root of everything. */
static inline void fs_enter(struct super_block *sb)
{
	fs_mnt = mount_new(sb, sb->root, 0, "test");
	ck_assert_ptr_nonnull(fs_mnt);
	super_put(sb);
	fs_cred = cred_new_root();
	struct path root = {fs_mnt, fs_mnt->root};
	fs_env = (struct walk_env){.root = root, .start = root, .cred = fs_cred};
}

static inline void fs_leave(void)
{
	cred_put(fs_cred);
	mount_put(fs_mnt);
}

static inline int fs_open(const char *name, int flags, struct file **f)
{
	return vfs_open(&fs_env, name, flags, 0644, 0, f);
}

static inline struct file *fs_must_open(const char *name, int flags)
{
	struct file *f = NULL;
	int err = fs_open(name, flags, &f);
	ck_assert_msg(!err, "open %s: %d", name, err);
	return f;
}

static inline void fs_write(const char *name, const char *text)
{
	struct file *f = fs_must_open(name, O_WRONLY | O_CREAT | O_TRUNC);
	ck_assert_int_eq(file_pwrite(f, text, strlen(text), 0), (ssize_t)strlen(text));
	file_put(f);
}

static inline void fs_expect(const char *name, const char *text)
{
	char buf[256] = "";
	struct file *f = fs_must_open(name, O_RDONLY);
	ssize_t n = file_pread(f, buf, sizeof(buf) - 1, 0);
	ck_assert_int_ge(n, 0);
	ck_assert_str_eq(buf, text);
	file_put(f);
}

static inline int fs_stat(const char *name, struct kstat *st)
{
	struct path p;
	int err = path_walk(&fs_env, name, WALK_NOFOLLOW, &p);
	if (err)
		return err;
	err = vfs_getattr(p, st);
	path_put(p);
	return err;
}

static inline int fs_setattr(const char *name, const struct iattr *a)
{
	struct path p;
	int err = path_walk(&fs_env, name, WALK_NOFOLLOW, &p);
	if (err)
		return err;
	err = vfs_setattr(p, a, fs_cred);
	path_put(p);
	return err;
}

static inline int fs_chmod(const char *name, uint32_t mode)
{
	struct iattr a = {.valid = ATTR_MODE, .mode = mode};
	return fs_setattr(name, &a);
}

static inline int fs_rename(const char *from, const char *to, unsigned flags)
{
	return vfs_rename(&fs_env, from, &fs_env, to, flags);
}

static inline int fs_link(const char *from, const char *to)
{
	return vfs_link(&fs_env, from, &fs_env, to, WALK_NOFOLLOW);
}

/* "a b c " in the order of the listing, `per_call` entries at a time; dots left out. */
struct fs_listing {
	struct dir_context ctx;
	char text[4096];
	size_t left, total;
	uint64_t ino[64];
};

static inline bool fs_list_emit(struct dir_context *ctx, const char *name, size_t len,
				int64_t next_off, uint64_t ino, unsigned dtype)
{
	struct fs_listing *l = container_of(ctx, struct fs_listing, ctx);
	(void)next_off, (void)dtype;
	if (!l->left)
		return false;
	l->left--;
	if (name[0] == '.')
		return true;
	if (l->total < ARRAY_SIZE(l->ino))
		l->ino[l->total] = ino;
	l->total++;
	snprintf(l->text + strlen(l->text), sizeof(l->text) - strlen(l->text), "%.*s ", (int)len,
		 name);
	return true;
}

static inline void fs_list(const char *name, size_t per_call, struct fs_listing *l)
{
	memset(l, 0, sizeof(*l));
	l->ctx.emit = fs_list_emit;
	struct file *f = fs_must_open(name, O_RDONLY | O_DIRECTORY);
	int64_t before;
	do {
		before = f->pos;
		l->left = per_call;
		OK(file_readdir(f, &l->ctx));
	} while (f->pos != before);
	file_put(f);
}

static int fs_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names, sorted. */
static inline void fs_expect_names(const char *name, const char *sorted)
{
	struct fs_listing l;
	char *names[256], out[4096] = "", *save = NULL;
	size_t n = 0;
	fs_list(name, 3, &l);
	for (char *s = strtok_r(l.text, " ", &save); s; s = strtok_r(NULL, " ", &save))
		names[n++] = s;
	qsort(names, n, sizeof(*names), fs_compare);
	for (size_t i = 0; i < n; i++)
		snprintf(out + strlen(out), sizeof(out) - strlen(out), i ? " %s" : "%s", names[i]);
	ck_assert_str_eq(out, sorted);
}

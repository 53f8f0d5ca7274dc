/* play.h - a mount namespace with an empty private tmpfs to play in, for the cases about mounts. */
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include "compat.h"

static char base[] = "/tmp/compat-mount-XXXXXX";

/* Into it; it is the working directory from then on. */
static inline void enter_empty(void)
{
	if (unshare(CLONE_NEWNS))
		test_skip("no CAP_SYS_ADMIN");
	EXPECT(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT(mkdtemp(base));
	EXPECT(!mount("play", base, "tmpfs", 0, "size=1m,mode=755"));
	EXPECT(!chdir(base));
}

/* The same, with three directories in it. */
static inline void enter(void)
{
	enter_empty();
	EXPECT(!mkdir("a", 0755) && !mkdir("b", 0755) && !mkdir("c", 0755));
}

static inline void leave(void)
{
	EXPECT(!chdir("/"));
	EXPECT(!umount2(base, MNT_DETACH));
	EXPECT(!rmdir(base));
}

static inline bool exists(const char *name)
{
	return access(name, F_OK) == 0;
}

/* A file that holds its name. */
static inline void make_file(const char *name)
{
	int fd = open(name, O_CREAT | O_WRONLY, 0644);
	EXPECT(fd >= 0);
	EXPECT_EQ(write(fd, name, strlen(name)), (long)strlen(name));
	close(fd);
}

/* A small tmpfs there, with a file "in" in it. */
static inline void mount_tmpfs(const char *where)
{
	char file[200];

	EXPECT(!mount("t", where, "tmpfs", 0, "size=64k"));
	snprintf(file, sizeof(file), "%s/in", where);
	make_file(file);
}

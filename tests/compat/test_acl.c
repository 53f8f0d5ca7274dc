/* POSIX access control lists: their attributes, what they permit, inheritance. */
#include "tests/compat/compat.h"

#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"
#define NOBODY 0xffffffffu

struct list {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} e[8];
};

static const struct list user_1000_reads = {
	2,
	{{ACL_USER_OBJ, 6, NOBODY},
	 {ACL_USER, 4, 1000},
	 {ACL_GROUP_OBJ, 0, NOBODY},
	 {ACL_MASK, 6, NOBODY},
	 {ACL_OTHER, 0, NOBODY}},
};

static size_t size_of(int n)
{
	return 4 + (size_t)n * 8;
}

static int set(const char *name, const char *attr, const struct list *l, int n)
{
	return setxattr(name, attr, l, size_of(n), 0);
}

static void enter(void)
{
	EXPECT_OK(chdir(test_dir()));
	EXPECT_OK(chmod(".", 0755));
	umask(022);
	close(EXPECT_OK(open("f", O_CREAT | O_WRONLY, 0600)));
	EXPECT_OK(mkdir("d", 0755));
	if (set("f", ACCESS, &user_1000_reads, 5) && errno == EOPNOTSUPP)
		test_skip("no access control lists here");
	EXPECT_OK(removexattr("f", ACCESS));
	EXPECT_OK(chmod("f", 0600));
}

static mode_t mode_of(const char *name)
{
	struct stat st;
	EXPECT_OK(stat(name, &st));
	return st.st_mode & 07777;
}

struct attempt {
	uid_t uid;
	gid_t gid;
	const char *name;
	int flags;
};

static void try_open(void *arg)
{
	struct attempt *a = arg;
	if (setgroups(0, NULL) || setresgid(a->gid, a->gid, a->gid) ||
	    setresuid(a->uid, a->uid, a->uid))
		_exit(99);
	_exit(open(a->name, a->flags) < 0 ? errno : 0);
}

static int as(uid_t uid, gid_t gid, const char *name, int flags)
{
	struct attempt a = {uid, gid, name, flags};
	return WEXITSTATUS(test_child(try_open, &a));
}

TEST(acl_hostile_values)
{
	enter();
	struct list l = user_1000_reads;
	char buf[64];
	EXPECT_ERRNO(setxattr("f", ACCESS, &l, 3, 0), EINVAL);
	EXPECT_ERRNO(setxattr("f", ACCESS, &l, size_of(5) - 1, 0), EINVAL);
	l.version = 1;
	EXPECT_ERRNO(set("f", ACCESS, &l, 5), EOPNOTSUPP);
	l.version = 2;
	EXPECT_ERRNO(set("f", ACCESS, &l, 4), EINVAL);
	l.e[1].perm = 8;
	EXPECT_ERRNO(set("f", ACCESS, &l, 5), EINVAL);
	l.e[1].perm = 4;
	l.e[1].id = NOBODY;
	EXPECT_ERRNO(set("f", ACCESS, &l, 5), EINVAL);
	l.e[1].id = 1000;
	l.e[3].tag = 0x40;
	EXPECT_ERRNO(set("f", ACCESS, &l, 5), EINVAL);
	l.e[3].tag = ACL_OTHER;
	EXPECT_ERRNO(set("f", ACCESS, &l, 4), EINVAL); /* named, but no mask */
	EXPECT_EQ(mode_of("f"), 0600);
	EXPECT_ERRNO(getxattr("f", ACCESS, buf, sizeof(buf)), ENODATA);
	EXPECT_ERRNO(set("f", DEFAULT, &user_1000_reads, 5), EACCES);
	EXPECT_OK(removexattr("f", ACCESS));
	EXPECT_OK(symlink("f", "s"));
	EXPECT_ERRNO(lsetxattr("s", ACCESS, &user_1000_reads, size_of(5), 0), EOPNOTSUPP);
	EXPECT_ERRNO(setxattr("f", "system.other", "x", 1, 0), EOPNOTSUPP);
}

TEST(acl_is_an_attribute_and_changes_the_mode)
{
	enter();
	char buf[128];
	EXPECT_OK(set("f", ACCESS, &user_1000_reads, 5));
	EXPECT_EQ(mode_of("f"), 0660);
	EXPECT_EQ(getxattr("f", ACCESS, NULL, 0), size_of(5));
	EXPECT_ERRNO(getxattr("f", ACCESS, buf, 10), ERANGE);
	EXPECT_EQ(getxattr("f", ACCESS, buf, sizeof(buf)), size_of(5));
	EXPECT(!memcmp(buf, &user_1000_reads, size_of(5)));
	ssize_t n = EXPECT_OK(listxattr("f", buf, sizeof(buf)));
	EXPECT(memmem(buf, (size_t)n, ACCESS, sizeof(ACCESS)));
	/* Three entries are the mode and nothing else. */
	struct list plain = {
		2, {{ACL_USER_OBJ, 6, NOBODY}, {ACL_GROUP_OBJ, 4, NOBODY}, {ACL_OTHER, 4, NOBODY}}};
	EXPECT_OK(set("f", ACCESS, &plain, 3));
	EXPECT_EQ(mode_of("f"), 0644);
	EXPECT_ERRNO(getxattr("f", ACCESS, buf, sizeof(buf)), ENODATA);
	EXPECT_OK(set("f", ACCESS, &user_1000_reads, 5));
	EXPECT_OK(setxattr("f", ACCESS, NULL, 0, 0));
	EXPECT_ERRNO(getxattr("f", ACCESS, buf, sizeof(buf)), ENODATA);
	EXPECT_EQ(mode_of("f"), 0660);
}

TEST(acl_decides_who_may)
{
	enter();
	EXPECT_EQ(as(1000, 1000, "f", O_RDONLY), EACCES);
	EXPECT_OK(set("f", ACCESS, &user_1000_reads, 5));
	EXPECT_EQ(as(1000, 1000, "f", O_RDONLY), 0);
	EXPECT_EQ(as(1000, 1000, "f", O_WRONLY), EACCES);
	EXPECT_EQ(as(1001, 1000, "f", O_RDONLY), EACCES);
	EXPECT_EQ(as(1001, 0, "f", O_RDONLY), EACCES); /* the group itself has nothing */
	EXPECT_EQ(as(0, 0, "f", O_RDWR), 0);
	struct list groups = {2,
			      {{ACL_USER_OBJ, 6, NOBODY},
			       {ACL_USER, 7, 1000},
			       {ACL_GROUP_OBJ, 4, NOBODY},
			       {ACL_GROUP, 6, 2000},
			       {ACL_GROUP, 0, 2001},
			       {ACL_MASK, 6, NOBODY},
			       {ACL_OTHER, 4, NOBODY}}};
	EXPECT_OK(set("f", ACCESS, &groups, 7));
	EXPECT_EQ(as(1001, 2000, "f", O_RDWR), 0);
	EXPECT_EQ(as(1001, 2001, "f", O_RDONLY), EACCES);
	EXPECT_EQ(as(1001, 2002, "f", O_RDONLY), 0);
	EXPECT_EQ(as(1001, 2002, "f", O_WRONLY), EACCES);
	EXPECT_EQ(as(1000, 2002, "f", O_RDWR), 0);
	EXPECT_OK(chmod("f", 0640)); /* the mask becomes r-- */
	EXPECT_EQ(as(1001, 2000, "f", O_RDWR), EACCES);
	EXPECT_EQ(as(1001, 2000, "f", O_RDONLY), 0);
	EXPECT_EQ(as(1000, 2002, "f", O_RDWR), EACCES);
	EXPECT_EQ(as(1001, 2002, "f", O_RDONLY), EACCES);
	EXPECT_OK(chmod("f", 0600)); /* an empty mask: not even named users */
	EXPECT_EQ(as(1000, 2002, "f", O_RDONLY), EACCES);
	EXPECT_OK(chmod("f", 0660));
	EXPECT_EQ(as(1000, 2002, "f", O_RDWR), 0);
}

TEST(acl_defaults_are_inherited)
{
	enter();
	struct list l = {2,
			 {{ACL_USER_OBJ, 7, NOBODY},
			  {ACL_USER, 6, 1000},
			  {ACL_GROUP_OBJ, 5, NOBODY},
			  {ACL_MASK, 7, NOBODY},
			  {ACL_OTHER, 0, NOBODY}}};
	struct list got;
	EXPECT_OK(set("d", DEFAULT, &l, 5));
	EXPECT_EQ(mode_of("d"), 0755);
	/* The umask does not matter then. */
	close(EXPECT_OK(open("d/f", O_CREAT | O_WRONLY, 0666)));
	EXPECT_EQ(mode_of("d/f"), 0660);
	EXPECT_EQ(getxattr("d/f", ACCESS, &got, sizeof(got)), size_of(5));
	EXPECT_EQ(got.e[0].perm, 6);
	EXPECT_EQ(got.e[1].perm, 6);
	EXPECT_EQ(got.e[2].perm, 5);
	EXPECT_EQ(got.e[3].perm, 6);
	EXPECT_EQ(got.e[4].perm, 0);
	EXPECT_EQ(as(1000, 1000, "d/f", O_RDWR), 0);
	EXPECT_EQ(as(1001, 1000, "d/f", O_RDONLY), EACCES);
	EXPECT_OK(mkdir("d/sub", 0777));
	EXPECT_EQ(mode_of("d/sub"), 0770);
	EXPECT_EQ(getxattr("d/sub", DEFAULT, &got, sizeof(got)), size_of(5));
	EXPECT(!memcmp(&got, &l, size_of(5)));
	EXPECT_OK(mknod("d/sub/p", S_IFIFO | 0644, 0));
	EXPECT_EQ(mode_of("d/sub/p"), 0640);
	EXPECT_OK(symlink("f", "d/s"));
	EXPECT_ERRNO(lgetxattr("d/s", ACCESS, &got, sizeof(got)), EOPNOTSUPP);
	EXPECT_OK(removexattr("d", DEFAULT));
	close(EXPECT_OK(open("d/g", O_CREAT | O_WRONLY, 0666)));
	EXPECT_EQ(mode_of("d/g"), 0644);
	EXPECT_ERRNO(getxattr("d/g", ACCESS, &got, sizeof(got)), ENODATA);
	/* A plain default list is a kind of umask. */
	struct list plain = {
		2, {{ACL_USER_OBJ, 7, NOBODY}, {ACL_GROUP_OBJ, 7, NOBODY}, {ACL_OTHER, 2, NOBODY}}};
	EXPECT_OK(set("d", DEFAULT, &plain, 3));
	close(EXPECT_OK(open("d/h", O_CREAT | O_WRONLY, 0666)));
	EXPECT_EQ(mode_of("d/h"), 0662);
	EXPECT_ERRNO(getxattr("d/h", ACCESS, &got, sizeof(got)), ENODATA);
}

static void not_owner(void *arg)
{
	(void)arg;
	if (setresuid(1000, 1000, 1000))
		_exit(99);
	EXPECT_ERRNO(set("f", ACCESS, &user_1000_reads, 5), EPERM);
	EXPECT_ERRNO(removexattr("f", ACCESS), EPERM);
	struct list got;
	EXPECT_EQ(getxattr("f", ACCESS, &got, sizeof(got)), size_of(5));
}

TEST(acl_belongs_to_the_owner)
{
	enter();
	EXPECT_OK(set("f", ACCESS, &user_1000_reads, 5));
	EXPECT_EQ(test_child(not_owner, NULL), 0);
	EXPECT_OK(rename("f", "g"));
	EXPECT_EQ(as(1000, 1000, "g", O_RDONLY), 0);
	EXPECT_OK(link("g", "h"));
	EXPECT_EQ(as(1000, 1000, "h", O_RDONLY), 0);
}

/* add_key(2), request_key(2), keyctl(2). */
#include <linux/keyctl.h>
#include <pthread.h>
#include <stddef.h>

#include "compat.h"

typedef int32_t key;

static long keyctl(int op, long a, long b, long c, long d)
{
	return syscall(SYS_keyctl, op, a, b, c, d);
}

static long add(const char *type, const char *desc, const void *data, size_t len, key ring)
{
	return syscall(SYS_add_key, type, desc, data, len, ring);
}

static key user_key(const char *desc, const char *data)
{
	return (key)EXPECT_OK(add("user", desc, data, strlen(data), KEY_SPEC_PROCESS_KEYRING));
}

static key ring_in(const char *desc, key ring)
{
	return (key)EXPECT_OK(add("keyring", desc, NULL, 0, ring));
}

static const char *read_key(key k)
{
	static char buf[256];
	long n = EXPECT_OK(keyctl(KEYCTL_READ, k, (long)buf, sizeof(buf) - 1, 0));

	buf[n] = 0;
	return buf;
}

TEST(key_is_added_and_read)
{
	key k = user_key("a", "hello");
	char buf[8] = "xxxxxxx";

	EXPECT(k > 0);
	EXPECT_STR(read_key(k), "hello");
	EXPECT_EQ(keyctl(KEYCTL_READ, k, 0, 0, 0), 5);
	EXPECT_EQ(keyctl(KEYCTL_READ, k, (long)buf, 2, 0), 5);
	EXPECT(buf[2] == 'x' || buf[2] == 'l');
	EXPECT_ERRNO(keyctl(KEYCTL_READ, k, 8, 5, 0), EFAULT);
}

TEST(key_added_again_is_updated)
{
	key k = user_key("a", "one");

	EXPECT_EQ(user_key("a", "two"), k);
	EXPECT_STR(read_key(k), "two");
	EXPECT(user_key("b", "two") != k);
	EXPECT_OK(keyctl(KEYCTL_UPDATE, k, (long)"three", 5, 0));
	EXPECT_STR(read_key(k), "three");
}

TEST(add_key_checks_arguments)
{
	char big[40000] = {1};
	key p = KEY_SPEC_PROCESS_KEYRING;

	EXPECT_ERRNO(add("user", "a", "x", 0, p), EINVAL);
	EXPECT_ERRNO(add("user", "a", NULL, 1, p), EFAULT);
	EXPECT_ERRNO(add("user", "a", (void *)8, 1, p), EFAULT);
	EXPECT_ERRNO(add("user", "a", big, 32768, p), EINVAL);
	EXPECT_ERRNO(add("user", "a", big, 1 << 20, p), EINVAL);
	EXPECT_ERRNO(add("user", "", "x", 1, p), EINVAL);
	EXPECT_ERRNO(add("user", NULL, "x", 1, p), EINVAL);
	EXPECT_ERRNO(add("user", (char *)8, "x", 1, p), EFAULT);
	EXPECT_ERRNO(add((char *)8, "a", "x", 1, p), EFAULT);
	EXPECT_ERRNO(add("no such type", "a", "x", 1, p), ENODEV);
	EXPECT_ERRNO(add(".user", "a", "x", 1, p), EPERM);
	EXPECT_ERRNO(add("keyring", ".a", NULL, 0, p), EPERM);
	EXPECT_ERRNO(add("keyring", "a", "x", 1, p), EINVAL);
	EXPECT_ERRNO(add("logon", "a", "x", 1, p), EINVAL);
	EXPECT_ERRNO(add("logon", ":a", "x", 1, p), EINVAL);
	EXPECT_ERRNO(add("user", "a", "x", 1, 0), EINVAL);
	EXPECT_ERRNO(add("user", "a", "x", 1, -9), EINVAL);
	EXPECT_ERRNO(add("user", "a", "x", 1, user_key("k", "x")), ENOTDIR);
}

TEST(logon_key_cannot_be_read)
{
	key k = (key)EXPECT_OK(add("logon", "s:a", "secret", 6, KEY_SPEC_PROCESS_KEYRING));

	EXPECT_ERRNO(keyctl(KEYCTL_READ, k, 0, 0, 0), EOPNOTSUPP);
}

TEST(keyring_reads_as_serials)
{
	key ring = ring_in("r", KEY_SPEC_PROCESS_KEYRING), got[4];
	key a = (key)EXPECT_OK(add("user", "a", "1", 1, ring));

	EXPECT_EQ(keyctl(KEYCTL_READ, ring, (long)got, sizeof(got), 0), 4);
	EXPECT_EQ(got[0], a);
	EXPECT_OK(keyctl(KEYCTL_CLEAR, ring, 0, 0, 0));
	EXPECT_EQ(keyctl(KEYCTL_READ, ring, (long)got, sizeof(got), 0), 0);
	EXPECT_ERRNO(keyctl(KEYCTL_CLEAR, user_key("k", "x"), 0, 0, 0), ENOTDIR);
}

TEST(key_is_described)
{
	char buf[128], want[128];
	key k = user_key("descr", "x");
	long n = EXPECT_OK(keyctl(KEYCTL_DESCRIBE, k, (long)buf, sizeof(buf), 0));

	snprintf(want, sizeof(want), "user;%d;%d;3f010000;descr", getuid(), getgid());
	EXPECT_STR(buf, want);
	EXPECT_EQ(n, (long)strlen(want) + 1);
	buf[0] = '?';
	EXPECT_EQ(keyctl(KEYCTL_DESCRIBE, k, (long)buf, 4, 0), n);
	EXPECT_OK(add("logon", "l:x", "x", 1, KEY_SPEC_PROCESS_KEYRING));
	EXPECT_OK(keyctl(KEYCTL_DESCRIBE, KEY_SPEC_PROCESS_KEYRING, (long)buf, sizeof(buf), 0));
	snprintf(want, sizeof(want), "keyring;%d;%d;3f010000;_pid", getuid(), getgid());
	EXPECT_STR(buf, want);
	EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
	EXPECT_OK(keyctl(KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, (long)buf, sizeof(buf), 0));
	snprintf(want, sizeof(want), "keyring;%d;%d;3f030000;_ses", getuid(), getgid());
	EXPECT_STR(buf, want);
	EXPECT_OK(keyctl(KEYCTL_DESCRIBE, KEY_SPEC_USER_KEYRING, (long)buf, sizeof(buf), 0));
	EXPECT(strstr(buf, ";1f3f0000;_uid."));
}

/* So that there is a ring that has nothing to complain of. */
static void new_session(void)
{
	EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
}

TEST(key_revoked_and_expired)
{
	new_session();
	key k = user_key("a", "x"), e = user_key("e", "x");

	EXPECT_OK(keyctl(KEYCTL_REVOKE, k, 0, 0, 0));
	EXPECT_ERRNO(keyctl(KEYCTL_READ, k, 0, 0, 0), EKEYREVOKED);
	EXPECT_ERRNO(keyctl(KEYCTL_REVOKE, k, 0, 0, 0), EKEYREVOKED);
	/* The other rings were searched without complaint. */
	EXPECT_ERRNO(syscall(SYS_request_key, "user", "a", NULL, 0), ENOKEY);
	EXPECT_OK(keyctl(KEYCTL_SET_TIMEOUT, e, 1, 0, 0));
	EXPECT_OK(keyctl(KEYCTL_READ, e, 0, 0, 0));
	usleep(1100000);
	EXPECT_ERRNO(keyctl(KEYCTL_READ, e, 0, 0, 0), EKEYEXPIRED);
}

TEST(request_key_tells_of_a_key_that_is_no_good)
{
	EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
	key k = (key)EXPECT_OK(add("user", "a", "x", 1, KEY_SPEC_SESSION_KEYRING));

	EXPECT_OK(keyctl(KEYCTL_REVOKE, k, 0, 0, 0));
	EXPECT_ERRNO(syscall(SYS_request_key, "user", "a", NULL, 0), EKEYREVOKED);
	EXPECT_ERRNO(keyctl(KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, (long)"user", (long)"a", 0),
		     EKEYREVOKED);
}

TEST(key_invalidated_is_gone)
{
	key k = user_key("a", "x");

	EXPECT_OK(keyctl(KEYCTL_INVALIDATE, k, 0, 0, 0));
	EXPECT_ERRNO(syscall(SYS_request_key, "user", "a", NULL, 0), ENOKEY);
}

TEST(request_key_finds_and_links)
{
	key ring = ring_in("inner", KEY_SPEC_PROCESS_KEYRING);
	key k = (key)EXPECT_OK(add("user", "deep", "x", 1, ring));
	key dest = ring_in("dest", KEY_SPEC_PROCESS_KEYRING), got;

	EXPECT_EQ(syscall(SYS_request_key, "user", "deep", NULL, dest), k);
	EXPECT_EQ(keyctl(KEYCTL_READ, dest, (long)&got, sizeof(got), 0), 4);
	EXPECT_EQ(got, k);
	EXPECT_ERRNO(syscall(SYS_request_key, "user", "missing", NULL, 0), ENOKEY);
	EXPECT_ERRNO(syscall(SYS_request_key, "nothing", "deep", NULL, 0), ENOKEY);
	EXPECT_ERRNO(syscall(SYS_request_key, (char *)8, "deep", NULL, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_request_key, "user", (char *)8, NULL, 0), EFAULT);
}

TEST(keyctl_search_looks_into_rings)
{
	key outer = ring_in("outer", KEY_SPEC_PROCESS_KEYRING), inner = ring_in("inner", outer);
	key k = (key)EXPECT_OK(add("user", "deep", "x", 1, inner));

	EXPECT_EQ(keyctl(KEYCTL_SEARCH, outer, (long)"user", (long)"deep", 0), k);
	EXPECT_ERRNO(keyctl(KEYCTL_SEARCH, outer, (long)"user", (long)"none", 0), ENOKEY);
	EXPECT_ERRNO(keyctl(KEYCTL_SEARCH, k, (long)"user", (long)"deep", 0), ENOTDIR);
}

TEST(keyring_links_make_no_circle)
{
	key a = ring_in("a", KEY_SPEC_PROCESS_KEYRING), b = ring_in("b", a);

	EXPECT_ERRNO(keyctl(KEYCTL_LINK, a, a, 0, 0), EDEADLK);
	EXPECT_ERRNO(keyctl(KEYCTL_LINK, a, b, 0, 0), EDEADLK);
	EXPECT_ERRNO(keyctl(KEYCTL_LINK, a, user_key("u", "x"), 0, 0), ENOTDIR);
	EXPECT_OK(keyctl(KEYCTL_UNLINK, b, a, 0, 0));
	EXPECT_ERRNO(keyctl(KEYCTL_UNLINK, user_key("u", "x"), a, 0, 0), ENOENT);
}

TEST(key_permissions_bind)
{
	new_session();
	key k = user_key("a", "x");

	EXPECT_ERRNO(keyctl(KEYCTL_SETPERM, k, (long)0xffffffff, 0, 0), EINVAL);
	EXPECT_OK(keyctl(KEYCTL_SETPERM, k, 0x20000000, 0, 0)); /* SETATTR of the possessor */
	EXPECT_ERRNO(keyctl(KEYCTL_READ, k, 0, 0, 0), EACCES);
	EXPECT_ERRNO(keyctl(KEYCTL_DESCRIBE, k, 0, 0, 0), EACCES);
	EXPECT_ERRNO(keyctl(KEYCTL_UPDATE, k, (long)"y", 1, 0), EACCES);
	EXPECT_ERRNO(syscall(SYS_request_key, "user", "a", NULL, 0), ENOKEY);
}

TEST(key_of_another_user_is_not_possessed)
{
	key k = user_key("a", "x");
	int status;

	EXPECT_OK(keyctl(KEYCTL_SETPERM, k, 0x3f3f0000, 0, 0));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		/* The process keyring went with the fork. */
		EXPECT_STR(read_key(k), "x");
		EXPECT_OK(syscall(SYS_setresuid, 65534, 65534, 65534));
		EXPECT_ERRNO(keyctl(KEYCTL_READ, k, 0, 0, 0), EACCES);
		EXPECT_ERRNO(syscall(SYS_request_key, "user", "a", NULL, 0), ENOKEY);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

static void *thread_ring(void *arg)
{
	*(long *)arg = keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0, 0);
	EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0, 0, 0), ENOKEY);
	return NULL;
}

TEST(keyrings_of_threads_and_processes)
{
	long theirs;
	pthread_t th;
	int status;

	EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0, 0), ENOKEY);
	long ours = EXPECT_OK(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1, 0, 0));
	EXPECT_EQ(pthread_create(&th, NULL, thread_ring, &theirs), 0);
	EXPECT_EQ(pthread_join(th, NULL), 0);
	EXPECT_EQ(theirs, ours);
	EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
	long session = EXPECT_OK(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		EXPECT_EQ(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0),
			  session);
		EXPECT_ERRNO(keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0, 0),
			     ENOKEY);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(session_keyring_is_joined_by_name)
{
	long a = EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"compat-session", 0, 0, 0));

	EXPECT(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"compat-session", 0, 0, 0) != a);
	long b = EXPECT_OK(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"compat-open", 0, 0, 0));
	EXPECT_OK(keyctl(KEYCTL_SETPERM, KEY_SPEC_SESSION_KEYRING, 0x3f3f0000, 0, 0));
	EXPECT_EQ(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"compat-open", 0, 0, 0), 0);
	int status;
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		EXPECT(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) != b);
		EXPECT_EQ(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)"compat-open", 0, 0, 0), b);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
	EXPECT_ERRNO(keyctl(KEYCTL_JOIN_SESSION_KEYRING, (long)".dot", 0, 0, 0), EPERM);
	EXPECT_ERRNO(keyctl(KEYCTL_JOIN_SESSION_KEYRING, 8, 0, 0, 0), EFAULT);
}

TEST(key_moves_between_rings)
{
	key a = ring_in("a", KEY_SPEC_PROCESS_KEYRING), b = ring_in("b", KEY_SPEC_PROCESS_KEYRING);
	key k = (key)EXPECT_OK(add("user", "k", "x", 1, a)), got[2];

	EXPECT_ERRNO(keyctl(30, k, a, b, 2), EINVAL);
	EXPECT_OK(keyctl(30, k, a, b, 0));
	EXPECT_EQ(keyctl(KEYCTL_READ, a, (long)got, sizeof(got), 0), 0);
	EXPECT_EQ(keyctl(KEYCTL_READ, b, (long)got, sizeof(got), 0), 4);
	EXPECT_OK(add("user", "k", "y", 1, a));
	EXPECT_ERRNO(keyctl(30, k, b, a, 1), EEXIST);
}

TEST(keyring_restricted_takes_no_links)
{
	key a = ring_in("a", KEY_SPEC_PROCESS_KEYRING);

	EXPECT_OK(keyctl(KEYCTL_RESTRICT_KEYRING, a, 0, 0, 0));
	EXPECT_ERRNO(add("user", "k", "x", 1, a), EPERM);
}

TEST(key_chown_needs_privilege)
{
	key k = user_key("a", "x");
	char buf[128];
	int status;

	EXPECT_OK(keyctl(KEYCTL_CHOWN, k, 65534, 65534, 0));
	EXPECT_OK(keyctl(KEYCTL_DESCRIBE, k, (long)buf, sizeof(buf), 0));
	EXPECT(!strncmp(buf, "user;65534;65534;", 17));
	pid_t pid = EXPECT_OK(fork());
	if (!pid) {
		EXPECT_OK(syscall(SYS_setresuid, 65534, 65534, 65534));
		key own = user_key("own", "x");
		EXPECT_ERRNO(keyctl(KEYCTL_CHOWN, own, 0, -1, 0), EACCES);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(key_quota_ends)
{
	int status;
	pid_t pid = EXPECT_OK(fork());

	if (!pid) {
		char big[15000] = {1};
		EXPECT_OK(syscall(SYS_setresuid, 4321, 4321, 4321));
		EXPECT_OK(add("user", "a", big, sizeof(big), KEY_SPEC_PROCESS_KEYRING));
		EXPECT_ERRNO(add("user", "b", big, sizeof(big), KEY_SPEC_PROCESS_KEYRING), EDQUOT);
		_exit(0);
	}
	EXPECT_OK(waitpid(pid, &status, 0));
	EXPECT_EQ(status, 0);
}

TEST(keyctl_odd_operations)
{
	unsigned char caps[4] = {9, 9, 9, 9};
	char label[4] = "xxx";
	key k = user_key("a", "x");

	EXPECT_ERRNO(keyctl(999, 0, 0, 0, 0), EOPNOTSUPP);
	EXPECT_EQ(keyctl(31, (long)caps, 4, 0, 0), 2);
	EXPECT(caps[0] & 1);
	EXPECT_EQ(caps[3], 0);
	EXPECT_OK(keyctl(KEYCTL_GET_SECURITY, k, (long)label, sizeof(label), 0));
	EXPECT_EQ(keyctl(KEYCTL_ASSUME_AUTHORITY, 0, 0, 0, 0), 0);
	EXPECT_ERRNO(keyctl(KEYCTL_INSTANTIATE, k, (long)"x", 1, 0), EPERM);
	EXPECT_EQ(keyctl(KEYCTL_SET_REQKEY_KEYRING, -1, 0, 0, 0), 0);
	EXPECT_EQ(keyctl(KEYCTL_SET_REQKEY_KEYRING, 2, 0, 0, 0), 0);
	EXPECT_EQ(keyctl(KEYCTL_SET_REQKEY_KEYRING, -1, 0, 0, 0), 2);
	EXPECT_ERRNO(keyctl(KEYCTL_SET_REQKEY_KEYRING, 9, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(keyctl(KEYCTL_READ, 0x7ffffff0, 0, 0, 0), ENOKEY);
	EXPECT_ERRNO(keyctl(KEYCTL_READ, KEY_SPEC_GROUP_KEYRING, 0, 0, 0), ENOKEY);
	long p = EXPECT_OK(keyctl(KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING, 0, 0));
	EXPECT_EQ(keyctl(KEYCTL_GET_PERSISTENT, getuid(), KEY_SPEC_PROCESS_KEYRING, 0, 0), p);
}

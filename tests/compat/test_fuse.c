/* File systems whose server is a process: /dev/fuse. */
#include <dirent.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/time.h>

#include "fuse_server.h"

static char text[FILE_MAX];

static const char *read_file(const char *name)
{
	int fd = (int)EXPECT_OK(open(name, O_RDONLY));
	ssize_t n = EXPECT_OK(read(fd, text, sizeof(text) - 1));

	text[n] = 0;
	close(fd);
	return text;
}

static void write_file(const char *name, int flags, const char *what)
{
	int fd = (int)EXPECT_OK(open(name, O_WRONLY | O_CREAT | flags, 0644));

	EXPECT_EQ(write(fd, what, strlen(what)), (long)strlen(what));
	EXPECT(!close(fd));
}

/* ---- the device ---- */

TEST(fuse_device_without_mount_serves_nothing)
{
	char buf[FUSE_MIN_READ_BUFFER];
	int fd = open("/dev/fuse", O_RDWR);

	if (fd < 0)
		test_skip("no /dev/fuse");
	EXPECT_ERRNO(read(fd, buf, sizeof(buf)), EPERM);
	EXPECT_ERRNO(write(fd, buf, 16), EPERM);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLERR);
	EXPECT_ERRNO(ioctl(fd, FUSE_DEV_IOC_CLONE, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(ioctl(fd, 0x1234, 0), ENOTTY);
	close(fd);
}

TEST(fuse_mount_needs_its_options)
{
	static const char *const bad[] = {
		"",
		"fd=%d",
		"fd=%d,rootmode=40755,user_id=0",
		"fd=%d,user_id=0,group_id=0",
		"rootmode=40755,user_id=0,group_id=0",
		"fd=%d,rootmode=40755,user_id=0,group_id=0,nonsense",
		"fd=%d,rootmode=9,user_id=0,group_id=0",
		"fd=%d,rootmode=40755,user_id=-1,group_id=0",
	};
	char options[200];

	enter();
	int fd = open("/dev/fuse", O_RDWR), other = open("/dev/null", O_RDWR);
	if (fd < 0)
		test_skip("no /dev/fuse");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(options, sizeof(options), bad[i], fd);
		EXPECT_ERRNO(mount("x", "a", "fuse", 0, options), EINVAL);
	}
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0", other);
	EXPECT_ERRNO(mount("x", "a", "fuse", 0, options), EINVAL);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0", fd);
	EXPECT(!mount("x", "a", "fuse", 0, options));
	close(fd);
	EXPECT_ERRNO(access("a/x", F_OK), ENOTCONN);
	EXPECT(!umount("a"));
	leave();
}

/* On "a" of the playground, with the test itself as the server: its descriptor. */
static int mount_served_by_hand(void)
{
	char options[100];

	enter();
	int fd = open("/dev/fuse", O_RDWR | O_NONBLOCK);
	if (fd < 0)
		test_skip("no /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0", fd);
	EXPECT(!mount("x", "a", "fuse", 0, options));
	return fd;
}

TEST(fuse_device_read_needs_room_and_memory)
{
	static struct request r;

	int fd = mount_served_by_hand();
	EXPECT_ERRNO(read(fd, &r, 100), EINVAL);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	ssize_t n = read(fd, &r, sizeof(r));
	EXPECT_EQ(n, (long)(sizeof(r.h) + sizeof(struct fuse_init_in)));
	EXPECT_EQ(r.h.opcode, FUSE_INIT);
	EXPECT_EQ(r.h.len, n);
	EXPECT_ERRNO(read(fd, &r, sizeof(r)), EAGAIN);
	EXPECT(!umount("a"));
	EXPECT_ERRNO(read(fd, &r, sizeof(r)), ENODEV);
	leave();
}

TEST(fuse_device_refuses_answers_that_make_no_sense)
{
	static struct request r;
	struct fuse_out_header h = {.len = sizeof(h)};

	int fd = mount_served_by_hand();
	EXPECT(read(fd, &r, sizeof(r)) > 0);
	h.unique = r.h.unique;
	EXPECT_ERRNO(write(fd, &h, 8), EINVAL);
	EXPECT_ERRNO(write(fd, BAD_ADDR, 16), EFAULT);
	h.len = 17;
	EXPECT_ERRNO(write(fd, &h, 16), EINVAL);
	h.len = 16;
	h.error = 1;
	EXPECT_ERRNO(write(fd, &h, 16), EINVAL);
	h.error = -512;
	EXPECT_ERRNO(write(fd, &h, 16), EINVAL);
	h.error = -EIO;
	h.unique += 1000;
	EXPECT_ERRNO(write(fd, &h, 16), ENOENT);
	h.unique = 0;
	h.error = 99; /* no such message */
	EXPECT_ERRNO(write(fd, &h, 16), EINVAL);
	/* INIT that fails is the end. */
	h.unique = r.h.unique;
	h.error = -EIO;
	EXPECT_EQ(write(fd, &h, 16), 16);
	EXPECT_ERRNO(write(fd, &h, 16), ENOENT);
	EXPECT(access("a/x", F_OK));
	EXPECT(!umount("a"));
	leave();
}

/* ---- files ---- */

TEST(fuse_files_are_read_and_written)
{
	struct stat st;

	fuse_start("");
	EXPECT_STR(read_file("m/hello"), "hello, fuse");
	EXPECT(!stat("m/hello", &st));
	EXPECT_EQ(st.st_ino, 102);
	EXPECT_EQ(st.st_size, 11);
	EXPECT_ERRNO(open("m/none", O_RDONLY), ENOENT);
	write_file("m/new", O_EXCL, "some");
	write_file("m/new", O_APPEND, " more");
	EXPECT_STR(read_file("m/new"), "some more");
	EXPECT_STR(shared->files[FIRST].data, "some more");
	EXPECT(!truncate("m/new", 4));
	EXPECT_STR(read_file("m/new"), "some");
	EXPECT(!rename("m/new", "m/newer"));
	EXPECT_ERRNO(open("m/new", O_RDONLY), ENOENT);
	EXPECT_STR(read_file("m/newer"), "some");
	write_file("m/newer", O_TRUNC, "x");
	EXPECT_STR(read_file("m/newer"), "x");
	EXPECT(!unlink("m/newer"));
	EXPECT_ERRNO(stat("m/newer", &st), ENOENT);
	EXPECT(!symlink("hello", "m/link"));
	EXPECT_STR(read_file("m/link"), "hello, fuse");
	EXPECT(!mkdir("m/dir", 0700));
	EXPECT(!stat("m/dir", &st) && S_ISDIR(st.st_mode));
	EXPECT(!rmdir("m/dir"));
	EXPECT(!chmod("m/hello", 0600));
	EXPECT_EQ(shared->files[1].mode, S_IFREG | 0600);
	fuse_end();
}

TEST(fuse_large_reads_and_writes_come_in_parts)
{
	static char buf[FILE_MAX], back[FILE_MAX];

	fuse_start("");
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)(i * 7 >> 3);
	int fd = (int)EXPECT_OK(open("m/big", O_RDWR | O_CREAT, 0644));
	EXPECT_EQ(write(fd, buf, sizeof(buf)), (long)sizeof(buf));
	EXPECT(!memcmp(shared->files[FIRST].data, buf, sizeof(buf)));
	EXPECT_EQ(pread(fd, back, sizeof(back), 0), (long)sizeof(back));
	EXPECT(!memcmp(back, buf, sizeof(buf)));
	EXPECT_EQ(pread(fd, back, 100, FILE_MAX - 10), 10);
	EXPECT_EQ(pread(fd, back, 100, FILE_MAX), 0);
	EXPECT_EQ(lseek(fd, 0, SEEK_END), FILE_MAX);
	EXPECT_EQ(lseek(fd, 5, SEEK_DATA), 5);
	EXPECT_ERRNO(pwrite(fd, buf, 10, FILE_MAX), EFBIG);
	EXPECT_ERRNO(pread(fd, BAD_ADDR, 10, 0), EFAULT);
	EXPECT_ERRNO(pwrite(fd, BAD_ADDR, 10, 0), EFAULT);
	EXPECT(!fsync(fd));
	close(fd);
	fuse_end();
}

TEST(fuse_directories_are_listed)
{
	int n = 0;
	struct dirent *d;

	fuse_start("");
	DIR *dir = opendir("m");
	EXPECT(dir);
	while ((d = readdir(dir))) {
		EXPECT(!strcmp(d->d_name, n ? "slow" : "hello"));
		EXPECT_EQ(d->d_ino, n ? 103 : 102);
		EXPECT_EQ(d->d_type, DT_REG);
		n++;
	}
	EXPECT_EQ(n, 2);
	rewinddir(dir);
	EXPECT(readdir(dir));
	closedir(dir);
	fuse_end();
}

TEST(fuse_timeouts_save_requests)
{
	struct stat st;

	fuse_start("");
	EXPECT(!stat("m/hello", &st));
	int lookups = shared->seen[FUSE_LOOKUP];
	EXPECT(!stat("m/hello", &st));
	EXPECT(shared->seen[FUSE_LOOKUP] > lookups); /* nothing holds */
	shared->timeout = 1000;
	EXPECT(!stat("m/hello", &st));
	lookups = shared->seen[FUSE_LOOKUP];
	int getattrs = shared->seen[FUSE_GETATTR];
	for (int i = 0; i < 5; i++)
		EXPECT(!stat("m/hello", &st));
	EXPECT_EQ(shared->seen[FUSE_LOOKUP], lookups);
	EXPECT_EQ(shared->seen[FUSE_GETATTR], getattrs);
	fuse_end();
}

TEST(fuse_statfs_is_the_servers)
{
	struct statfs st;

	fuse_start("");
	EXPECT(!statfs("m", &st));
	EXPECT_EQ(st.f_type, 0x65735546);
	EXPECT_EQ(st.f_blocks, 1000);
	EXPECT_EQ(st.f_namelen, 60);
	fuse_end();
}

TEST(fuse_xattrs_are_the_servers)
{
	char v[64];

	fuse_start("");
	EXPECT_ERRNO(getxattr("m/hello", "user.y", v, sizeof(v)), ENODATA);
	EXPECT(!setxattr("m/hello", "user.x", "value", 5, 0));
	EXPECT_EQ(getxattr("m/hello", "user.x", NULL, 0), 5);
	EXPECT_EQ(getxattr("m/hello", "user.x", v, sizeof(v)), 5);
	EXPECT(!memcmp(v, "value", 5));
	EXPECT_ERRNO(getxattr("m/hello", "user.x", v, 2), ERANGE);
	EXPECT_ERRNO(listxattr("m/hello", v, sizeof(v)), EOPNOTSUPP); /* it said ENOSYS */
	fuse_end();
}

TEST(fuse_shows_in_mounts_with_its_subtype)
{
	static char line[8192];

	fuse_start(",allow_other,max_read=4096");
	int fd = open("/proc/self/mounts", O_RDONLY);
	size_t n = 0;
	ssize_t got;
	while ((got = read(fd, line + n, sizeof(line) - 1 - n)) > 0)
		n += (size_t)got;
	line[n] = 0;
	close(fd);
	char *at = strstr(line, " fuse.compat rw,nosuid,nodev,relatime,user_id=0,group_id=0,"
				"allow_other,max_read=4096 0 0");
	EXPECT(at);
	fuse_end();
}

/* ---- mapping ---- */

TEST(fuse_files_can_be_mapped)
{
	fuse_start("");
	int fd = (int)EXPECT_OK(open("m/hello", O_RDWR));
	char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	EXPECT(private != MAP_FAILED);
	EXPECT(!memcmp(private, "hello, fuse\0\0", 13));
	private[0] = 'J';
	EXPECT_EQ(shared->files[1].data[0], 'h');
	char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	EXPECT(map != MAP_FAILED);
	memcpy(map, "HELLO", 5);
	EXPECT(!msync(map, 4096, MS_SYNC));
	EXPECT_STR(shared->files[1].data, "HELLO, fuse");
	EXPECT_EQ(pread(fd, text, 5, 0), 5);
	EXPECT(!memcmp(text, "HELLO", 5));
	/* What is written shows in the mapping. */
	EXPECT_EQ(pwrite(fd, "Y", 1, 0), 1);
	EXPECT_EQ(map[0], 'Y');
	/* … and what is stored comes with the close at the latest. */
	map[1] = 'e';
	EXPECT(!close(fd));
	EXPECT(!munmap(map, 4096));
	EXPECT_STR(read_file("m/hello"), "YeLLO, fuse");
	EXPECT_STR(shared->files[1].data, "YeLLO, fuse");
	EXPECT(!munmap(private, 4096));
	fuse_end();
}

TEST(fuse_direct_io_is_not_mapped_shared)
{
	fuse_start("");
	shared->open_flags = FOPEN_DIRECT_IO;
	int fd = (int)EXPECT_OK(open("m/hello", O_RDWR));
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	EXPECT_EQ(errno, ENODEV);
	EXPECT_EQ(read(fd, text, 100), 11);
	strcpy(shared->files[1].data, "other");
	EXPECT_EQ(pread(fd, text, 5, 0), 5);
	EXPECT(!memcmp(text, "other", 5));
	close(fd);
	fuse_end();
}

TEST(fuse_cache_is_kept_only_if_the_server_says_so)
{
	fuse_start("");
	shared->timeout = 1000;
	EXPECT_STR(read_file("m/hello"), "hello, fuse");
	strcpy(shared->files[1].data, "HELLO, FUSE");
	EXPECT_STR(read_file("m/hello"), "HELLO, FUSE");
	shared->open_flags = FOPEN_KEEP_CACHE;
	strcpy(shared->files[1].data, "another one");
	EXPECT_STR(read_file("m/hello"), "HELLO, FUSE");
	fuse_end();
}

/* ---- signals and the end ---- */

static void nothing(int signo)
{
	(void)signo;
}

TEST(fuse_signal_interrupts_the_server)
{
	struct sigaction sa = {.sa_handler = nothing};
	struct itimerval soon = {.it_value = {.tv_usec = 100000}};

	fuse_start("");
	EXPECT(!sigaction(SIGALRM, &sa, NULL));
	int fd = (int)EXPECT_OK(open("m/slow", O_RDONLY));
	EXPECT(!setitimer(ITIMER_REAL, &soon, NULL));
	EXPECT_ERRNO(read(fd, text, 10), EINTR);
	EXPECT(shared->seen[FUSE_INTERRUPT] >= 1);
	close(fd);
	fuse_end();
}

TEST(fuse_waiting_task_can_be_killed)
{
	int status;

	fuse_start("");
	pid_t pid = fork();
	if (!pid) {
		int fd = open("m/slow", O_RDONLY);
		_exit(read(fd, text, 10) < 0);
	}
	while (!shared->seen[FUSE_READ])
		test_sleep_ms(5);
	EXPECT(!kill(pid, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_STR(read_file("m/hello"), "hello, fuse"); /* it serves on */
	fuse_end();
}

TEST(fuse_death_of_the_server_ends_requests)
{
	int status;

	fuse_start("");
	int open_fd = (int)EXPECT_OK(open("m/hello", O_RDONLY));
	pid_t pid = fork();
	if (!pid) {
		int fd = open("m/slow", O_RDONLY);
		_exit(read(fd, text, 10) < 0 ? errno : 0);
	}
	while (!shared->seen[FUSE_READ])
		test_sleep_ms(5);
	EXPECT(!kill(server, SIGKILL));
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT(WEXITSTATUS(status) == ECONNABORTED || WEXITSTATUS(status) == ENOTCONN);
	EXPECT_EQ(waitpid(server, &status, 0), server);
	EXPECT_ERRNO(open("m/hello", O_RDONLY), ENOTCONN);
	EXPECT_ERRNO(read(open_fd, text, 10), ENOTCONN);
	close(open_fd);
	EXPECT(!umount("m"));
	leave();
}

/* ---- a server that lies ---- */

TEST(fuse_answers_of_the_wrong_size_are_refused)
{
	struct stat st;

	fuse_start("");
	EXPECT(!stat("m", &st));
	shared->wrong_size = 8;
	EXPECT_ERRNO(stat("m", &st), EIO);
	while (!shared->last_error) /* the server hears of it after its reader */
		test_sleep_ms(5);
	EXPECT_EQ(shared->last_error, EINVAL);
	EXPECT(!stat("m", &st));
	shared->long_read = true;
	int fd = (int)EXPECT_OK(open("m/hello", O_RDONLY | O_DIRECT));
	EXPECT_ERRNO(read(fd, text, 100), EIO);
	close(fd);
	fuse_end();
}

TEST(fuse_nodes_that_cannot_be_are_refused)
{
	struct stat st;

	fuse_start("");
	int fd = (int)EXPECT_OK(open("m/hello", O_RDONLY));
	shared->change_type = true;
	EXPECT_ERRNO(fstat(fd, &st), EIO);
	shared->change_type = false;
	shared->files[1].size = 1UL << 63;
	EXPECT(stat("m/hello", &st));
	shared->files[1].size = 3;
	shared->bad_dirent = true;
	DIR *d = opendir("m");
	errno = 0;
	EXPECT(d && !readdir(d));
	EXPECT_EQ(errno, EIO);
	closedir(d);
	close(fd);
	shared->lookup_nodeid = FUSE_ROOT_ID;
	EXPECT_ERRNO(stat("m/slow", &st), EIO);
	fuse_end();
}

/* ---- a server that says anything ---- */

static uint64_t dice = 88172645463325252ULL;

static uint64_t roll(void)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	return dice ^= dice << 17;
}

/* Bytes of any kind, of about the size that fits, with a type of file where one would be. */
static void answer_anything(int dev, const struct request *r)
{
	static const size_t sizes[] = {sizeof(struct fuse_entry_out),
				       sizeof(struct fuse_attr_out),
				       sizeof(struct fuse_open_out),
				       sizeof(struct fuse_write_out),
				       sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out),
				       sizeof(struct fuse_statfs_out)};
	static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, 0};
	static uint64_t data[FILE_MAX / 8];
	size_t n = roll() % 3 ? sizes[roll() % 6] : roll() % sizeof(data);

	for (size_t i = 0; i < n / 8 + 1; i++)
		data[i] = roll() % 4 ? roll() % 16 : roll();
	struct fuse_attr *a = r->h.opcode == FUSE_GETATTR || r->h.opcode == FUSE_SETATTR
				      ? &((struct fuse_attr_out *)data)->attr
				      : &((struct fuse_entry_out *)data)->attr;
	if (roll() % 8)
		a->mode = (r->h.nodeid == 1 && r->h.opcode == FUSE_GETATTR ? S_IFDIR
									   : types[roll() % 5]) |
			  0777;
	answer_raw(dev, r->h.unique, roll() % 4 ? 0 : -(int)(roll() % 134), data, n);
	if (errno == EINVAL) /* let the request end */
		answer_raw(dev, r->h.unique, -EIO, NULL, 0);
}

static _Noreturn void serve_anything(int dev)
{
	static struct request r;

	for (;;) {
		ssize_t n = read(dev, &r, sizeof(r));
		if (n < 0 && errno == ENODEV)
			_exit(0);
		if (n <= 0 || r.h.opcode == FUSE_FORGET || r.h.opcode == FUSE_BATCH_FORGET)
			continue;
		errno = 0;
		if (r.h.opcode == FUSE_INIT)
			serve_one(dev, &r);
		else
			answer_anything(dev, &r);
	}
}

static void do_anything(void)
{
	static char buf[9000];
	char name[20], other[20];

	snprintf(name, sizeof(name), "m/%c", (char)('a' + roll() % 4));
	snprintf(other, sizeof(other), "m/%c", (char)('a' + roll() % 4));
	struct stat st;
	int fd = open(name, roll() % 2 ? O_RDWR | O_CREAT | O_NONBLOCK : O_RDONLY | O_NONBLOCK,
		      0644);
	long sum = 0;
	switch (roll() % 12) {
	case 0:
		sum += stat(name, &st);
		break;
	case 1:
		sum += read(fd, buf, roll() % sizeof(buf));
		break;
	case 2:
		sum += write(fd, buf, roll() % sizeof(buf));
		break;
	case 3:
		sum += mkdir(name, 0755);
		break;
	case 4:
		sum += rename(name, other);
		break;
	case 5:
		sum += unlink(name) + rmdir(other);
		break;
	case 6:
		sum += ftruncate(fd, (off_t)(roll() % 100000));
		break;
	case 7:
		sum += getxattr(name, "user.x", buf, roll() % sizeof(buf));
		sum += listxattr(name, buf, roll() % sizeof(buf));
		break;
	case 8: {
		char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map != MAP_FAILED)
			sum += munmap(map, 8192);
		break;
	}
	case 9: {
		DIR *d = opendir(roll() % 2 ? "m" : name);
		for (int i = 0; d && i < 50 && readdir(d); i++)
			;
		if (d)
			closedir(d);
		break;
	}
	case 10:
		sum += readlink(name, buf, sizeof(buf)) + symlink("x", other);
		break;
	case 11:
		sum += link(name, other) + chmod(name, 0700) + lseek(fd, 0, SEEK_END);
		break;
	}
	(void)sum;
	if (fd >= 0)
		close(fd);
}

TEST(fuse_server_that_says_anything_breaks_nobody)
{
	char options[100];
	int status;

	enter_empty();
	EXPECT(!mkdir("m", 0755));
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		test_skip("no /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0", dev);
	EXPECT(!mount("compat", "m", "fuse", 0, options));
	server = fork();
	if (!server)
		serve_anything(dev);
	close(dev);
	for (int i = 0; i < 600; i++)
		do_anything();
	EXPECT(!kill(server, SIGKILL));
	EXPECT_EQ(waitpid(server, &status, 0), server);
	EXPECT(!umount2("m", MNT_DETACH));
	leave();
}

/* ---- who may ---- */

static void as_another(void *expected)
{
	struct stat st;

	EXPECT(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	int err = stat("m/hello", &st) ? errno : 0;
	EXPECT_EQ(err, (long)expected);
	err = stat("m", &st) ? errno : 0;
	EXPECT_EQ(err, (long)expected);
}

TEST(fuse_is_for_its_user_alone)
{
	fuse_start("");
	EXPECT_EQ(test_child(as_another, (void *)(long)EACCES), 0);
	fuse_end();
}

TEST(fuse_allow_other_opens_it)
{
	fuse_start(",allow_other");
	EXPECT_EQ(test_child(as_another, (void *)0), 0);
	fuse_end();
}

static void read_private(void *arg)
{
	(void)arg;
	EXPECT(!setresgid(1000, 1000, 1000) && !setresuid(1000, 1000, 1000));
	EXPECT_ERRNO(open("m/hello", O_RDONLY), EACCES);
	EXPECT_ERRNO(access("m/hello", R_OK), EACCES);
}

TEST(fuse_default_permissions_are_the_modes)
{
	fuse_start(",allow_other,default_permissions");
	shared->files[1].mode = S_IFREG | 0600;
	EXPECT_EQ(test_child(read_private, NULL), 0);
	fuse_end();
}

/* ---- notifications, the new mount API ---- */

TEST(fuse_server_tells_of_changes)
{
	struct {
		struct fuse_out_header h;
		struct fuse_notify_inval_inode_out m;
	} msg = {.h = {.len = sizeof(msg), .error = FUSE_NOTIFY_INVAL_INODE}, .m = {.ino = 2}};
	struct stat st;
	char options[100];

	enter_empty();
	EXPECT(!mkdir("m", 0755));
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	shared->files[0].mode = S_IFDIR | 0755;
	shared->timeout = 1000;
	put_file(1, "hello", "hello, fuse");
	int dev = open("/dev/fuse", O_RDWR);
	if (dev < 0)
		test_skip("no /dev/fuse");
	int fs = (int)syscall(SYS_fsopen, "fuse", 0);
	EXPECT(fs >= 0);
	snprintf(options, sizeof(options), "%d", dev);
	EXPECT(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "fd", options, 0));
	EXPECT(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "rootmode", "40000", 0));
	EXPECT(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "user_id", "0", 0));
	EXPECT(!syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "group_id", "0", 0));
	EXPECT(!syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int mnt = (int)syscall(SYS_fsmount, fs, 0, 0);
	EXPECT(mnt >= 0);
	EXPECT(!syscall(SYS_move_mount, mnt, "", AT_FDCWD, "m", MOVE_MOUNT_F_EMPTY_PATH));
	close(mnt);
	close(fs);
	server = fork();
	if (!server)
		serve(dev);

	EXPECT(!stat("m/hello", &st));
	EXPECT_EQ(st.st_size, 11);
	shared->files[1].size = 5;
	EXPECT(!stat("m/hello", &st));
	EXPECT_EQ(st.st_size, 11); /* as it said */
	EXPECT_EQ(write(dev, &msg, sizeof(msg)), (long)sizeof(msg));
	EXPECT(!stat("m/hello", &st));
	EXPECT_EQ(st.st_size, 5);
	msg.m.ino = 77;
	EXPECT_ERRNO(write(dev, &msg, sizeof(msg)), ENOENT);

	struct {
		struct fuse_out_header h;
		struct fuse_notify_inval_entry_out m;
		char name[6];
	} __attribute__((packed)) entry = {
		.h = {.len = sizeof(entry), .error = FUSE_NOTIFY_INVAL_ENTRY},
		.m = {.parent = 1, .namelen = 5},
		.name = "hello",
	};
	shared->files[1].mode = 0;
	EXPECT(!stat("m/hello", &st)); /* as it said */
	EXPECT_EQ(write(dev, &entry, sizeof(entry)), (long)sizeof(entry));
	EXPECT_ERRNO(stat("m/hello", &st), ENOENT);
	entry.m.namelen = 4;
	EXPECT_ERRNO(write(dev, &entry, sizeof(entry)), EINVAL);
	close(dev);
	fuse_end();
}

static void in_user_namespace(void *arg)
{
	char options[100];
	int fd;

	(void)arg;
	EXPECT(!unshare(CLONE_NEWUSER | CLONE_NEWNS));
	fd = open("/proc/self/uid_map", O_WRONLY);
	EXPECT_EQ(write(fd, "0 0 1", 5), 5);
	close(fd);
	fd = open("/proc/self/setgroups", O_WRONLY);
	EXPECT_EQ(write(fd, "deny", 4), 4);
	close(fd);
	fd = open("/proc/self/gid_map", O_WRONLY);
	EXPECT_EQ(write(fd, "0 0 1", 5), 5);
	close(fd);
	int dev = (int)EXPECT_OK(open("/dev/fuse", O_RDWR));
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=5,group_id=0", dev);
	EXPECT_ERRNO(mount("x", "a", "fuse", 0, options), EINVAL); /* whoever that is */
	snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0", dev);
	EXPECT(!mount("x", "a", "fuse", 0, options));
	EXPECT(!umount("a"));
}

TEST(fuse_can_be_mounted_in_a_user_namespace)
{
	enter();
	if (access("/dev/fuse", R_OK | W_OK))
		test_skip("no /dev/fuse");
	EXPECT_EQ(test_child(in_user_namespace, NULL), 0);
	leave();
}

/* Shared subtrees, flags of mounts, MNT_EXPIRE, /proc/PID/mountinfo: mount_namespaces(7).  Each
 * test works in a namespace of its own. */
#include <poll.h>
#include <sys/statvfs.h>

#include "play.h"

static void set(const char *where, unsigned long type)
{
	EXPECT(!mount(NULL, where, NULL, type, NULL));
}

/* The optional fields of a mount below the base, with numbers replaced by their first letters'
 * order: "shared:A master:B"; "-": none.  Of several on one place, the last made. */
static const char *sharing(const char *where)
{
	static char text[4][200], seen[26][16];
	static int next, nseen;
	char line[2048], place[300], found[200] = "?", *save;

	snprintf(place, sizeof(place), "%s/%s", base, where);
	FILE *f = fopen("/proc/self/mountinfo", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f)) {
		int field = 0;
		bool here = false;
		for (char *p = strtok_r(line, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
			if (++field == 5 && (here = !strcmp(p, place)))
				found[0] = 0;
			if (field <= 6 || !here)
				continue;
			if (!strcmp(p, "-"))
				break;
			char *colon = strchr(p, ':');
			int i = 0;
			for (; colon && i < nseen && strcmp(seen[i], colon + 1); i++)
				;
			if (colon && i == nseen)
				strcpy(seen[nseen++], colon + 1);
			if (found[0])
				strcat(found, " ");
			size_t n = strlen(found);
			if (colon)
				snprintf(found + n, sizeof(found) - n, "%.*s:%c", (int)(colon - p),
					 p, 'A' + i);
			else
				strcat(found, p);
		}
	}
	fclose(f);
	next = (next + 1) % 4;
	strcpy(text[next], found[0] ? found : "-");
	return text[next];
}

TEST(propagation_types_in_mountinfo)
{
	enter();
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	EXPECT_STR(sharing("a"), "-");
	set("a", MS_SHARED);
	EXPECT_STR(sharing("a"), "shared:A");
	set("a", MS_SHARED); /* again: the same group */
	EXPECT_STR(sharing("a"), "shared:A");
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	EXPECT_STR(sharing("b"), "shared:A");
	set("b", MS_SLAVE);
	EXPECT_STR(sharing("b"), "master:A");
	set("b", MS_SHARED);
	EXPECT_STR(sharing("b"), "shared:B master:A");
	EXPECT(!mount("b", "c", NULL, MS_BIND, NULL));
	EXPECT_STR(sharing("c"), "shared:B master:A");
	set("c", MS_SLAVE);
	EXPECT_STR(sharing("c"), "master:B");
	set("b", MS_PRIVATE); /* the group ends: its slaves are its master's */
	EXPECT_STR(sharing("b"), "-");
	EXPECT_STR(sharing("c"), "master:A");
	set("a", MS_SLAVE); /* of nobody */
	EXPECT_STR(sharing("a"), "-");
	EXPECT_STR(sharing("c"), "-");
	set("a", MS_UNBINDABLE);
	EXPECT_STR(sharing("a"), "unbindable");
	set("a", MS_SLAVE); /* no change */
	EXPECT_STR(sharing("a"), "unbindable");
	set("a", MS_SHARED);
	EXPECT(!strncmp(sharing("a"), "shared:", 7)); /* the number may be an old one */
	leave();
}

TEST(propagation_flags_that_do_not_go_together)
{
	enter();
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_SHARED | MS_RDONLY, NULL), EINVAL);
	EXPECT_ERRNO(mount(NULL, "b", NULL, MS_SHARED, NULL), EINVAL);
	EXPECT_ERRNO(mount(NULL, "b", NULL, MS_UNBINDABLE, NULL), EINVAL);
	EXPECT(!mount(NULL, "a", NULL, MS_SHARED | MS_SILENT, NULL));
	leave();
}

TEST(propagation_of_mount_and_umount_between_peers)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	EXPECT(exists("b/m/in"));
	EXPECT_STR(sharing("a/m"), sharing("b/m")); /* what is mounted on shared is shared */
	EXPECT(strstr(sharing("a/m"), "shared:"));
	EXPECT(!umount("b/m"));
	EXPECT(!exists("a/m/in"));
	EXPECT_STR(sharing("a/m"), "?");
	mount_tmpfs("b/m");
	EXPECT(exists("a/m/in"));
	leave();
}

TEST(propagation_goes_to_slaves_and_not_back)
{
	enter();
	EXPECT(!mkdir("a/m", 0755) && !mkdir("a/n", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	set("b", MS_SLAVE);
	set("b", MS_SHARED);
	EXPECT(!mount("b", "c", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	EXPECT(exists("b/m/in") && exists("c/m/in"));
	EXPECT_STR(sharing("b/m"), sharing("c/m"));
	EXPECT(strstr(sharing("b/m"), "shared:") && strstr(sharing("b/m"), "master:"));
	mount_tmpfs("c/n");
	EXPECT(exists("b/n/in") && !exists("a/n/in"));
	EXPECT(!umount("a/m"));
	EXPECT(!exists("b/m/in") && !exists("c/m/in"));
	leave();
}

TEST(propagation_reaches_other_namespaces)
{
	int to[2], from[2];
	char c;

	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!pipe(to) && !pipe(from));
	pid_t pid = fork();
	if (!pid) {
		close(to[1]);
		if (unshare(CLONE_NEWNS) || write(from[1], "x", 1) != 1 || read(to[0], &c, 1) != 1)
			_exit(1);
		if (!exists("a/m/in"))
			_exit(2);
		if (umount("a/m"))
			_exit(3);
		(void)!write(from[1], "x", 1);
		(void)!read(to[0], &c, 1);
		_exit(0);
	}
	EXPECT_EQ(read(from[0], &c, 1), 1);
	mount_tmpfs("a/m");
	EXPECT_EQ(write(to[1], "x", 1), 1);
	EXPECT_EQ(read(from[0], &c, 1), 1);
	EXPECT(!exists("a/m/in"));
	close(to[1]);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	leave();
}

TEST(propagation_only_where_the_place_is_seen)
{
	enter();
	EXPECT(!mkdir("a/x", 0755) && !mkdir("a/y", 0755) && !mkdir("a/x/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a/x", "b", NULL, MS_BIND, NULL));
	EXPECT(!mount("a/y", "c", NULL, MS_BIND, NULL));
	mount_tmpfs("a/x/m");
	EXPECT(exists("b/m/in"));
	EXPECT_STR(sharing("c"), sharing("a"));
	mount_tmpfs("a/y");
	EXPECT(exists("c/in")); /* beneath nothing: the mount itself covers its root */
	leave();
}

TEST(propagation_stays_beneath_what_is_there)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	set("b", MS_SLAVE);
	EXPECT(!mount("own", "b/m", "tmpfs", 0, "size=64k"));
	make_file("b/m/own");
	mount_tmpfs("a/m");
	EXPECT(exists("b/m/own") && !exists("b/m/in"));
	EXPECT(!umount("a/m")); /* the one beneath goes, too */
	EXPECT(exists("b/m/own"));
	EXPECT(!umount("b/m"));
	EXPECT(!exists("b/m/own") && !exists("b/m/in"));
	EXPECT_ERRNO(umount("b/m"), EINVAL);
	leave();
}

TEST(propagation_of_umount_spares_what_carries_mounts)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	EXPECT(!mkdir("a/m/deep", 0755));
	set("b/m", MS_PRIVATE);
	mount_tmpfs("b/m/deep");
	EXPECT(!exists("a/m/deep/in"));
	EXPECT(!umount("a/m"));
	EXPECT(exists("b/m/deep/in"));
	leave();
}

TEST(propagation_of_umount_is_not_stopped_by_what_carries_mounts_and_a_cover)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	EXPECT(!mkdir("a/m/deep", 0755));
	set("b/m", MS_PRIVATE);
	mount_tmpfs("b/m/deep");
	EXPECT(!mount("own", "b/m", "tmpfs", 0, "size=64k"));
	EXPECT(!umount("a/m"));
	EXPECT(!umount("b/m"));
	EXPECT(exists("b/m/deep/in"));
	leave();
}

TEST(strictatime_moves_access_times)
{
	struct stat before, after;
	char c;

	enter();
	EXPECT(!mount("t", "a", "tmpfs", MS_STRICTATIME, "size=64k"));
	int fd = open("a/f", O_CREAT | O_RDWR, 0600);
	EXPECT_EQ(write(fd, "xy", 2), 2);
	for (int i = 0; i < 2; i++) { /* the second time it is newer than the last change */
		EXPECT(!fstat(fd, &before));
		test_sleep_ms(20);
		EXPECT_EQ(pread(fd, &c, 1, 0), 1);
		EXPECT(!fstat(fd, &after));
		EXPECT(after.st_atim.tv_sec > before.st_atim.tv_sec ||
		       after.st_atim.tv_nsec > before.st_atim.tv_nsec);
	}
	EXPECT(!mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RELATIME, NULL));
	test_sleep_ms(20);
	EXPECT_EQ(pread(fd, &c, 1, 0), 1);
	EXPECT(!fstat(fd, &before));
	EXPECT(after.st_atim.tv_nsec == before.st_atim.tv_nsec);
	close(fd);
	leave();
}

TEST(propagation_of_umount_is_refused_where_a_peer_uses_it)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	int fd = open("b/m/in", O_RDONLY);
	EXPECT(fd >= 0);
	EXPECT_ERRNO(umount("a/m"), EBUSY);
	EXPECT(!umount2("a/m", MNT_DETACH));
	EXPECT(!exists("b/m/in"));
	close(fd);
	leave();
}

TEST(propagation_of_a_bind_with_what_is_below)
{
	enter();
	EXPECT(!mkdir("a/m", 0755) && !mkdir("c/deep", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("c/deep");
	EXPECT(!mount("c", "a/m", NULL, MS_BIND | MS_REC, NULL));
	EXPECT(exists("b/m/deep/in"));
	EXPECT(!umount2("b/m", MNT_DETACH));
	EXPECT(!exists("a/m/deep") && exists("c/deep/in"));
	leave();
}

static int count_mounts(void)
{
	char line[2048];
	int n = 0;
	FILE *f = fopen("/proc/self/mountinfo", "r");

	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, base) != NULL;
	fclose(f);
	return n;
}

TEST(propagation_into_itself_ends)
{
	enter();
	EXPECT(!mkdir("a/m", 0755) && !mkdir("a/m/m", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "a/m", NULL, MS_BIND, NULL));
	EXPECT(exists("a/m/m"));
	EXPECT(!mount("a", "a/m", NULL, MS_BIND | MS_REC, NULL));
	EXPECT_EQ(count_mounts(), 7);
	leave();
}

TEST(unbindable_mounts_are_left_out)
{
	enter();
	EXPECT(!mkdir("a/m", 0755));
	mount_tmpfs("a/m");
	set("a/m", MS_UNBINDABLE);
	EXPECT_ERRNO(mount("a/m", "b", NULL, MS_BIND, NULL), EINVAL);
	EXPECT(!mount("a", "b", NULL, MS_BIND | MS_REC, NULL));
	EXPECT(!exists("b/m/in"));
	EXPECT(!unshare(CLONE_NEWNS)); /* a namespace's copy has them */
	EXPECT(exists("a/m/in"));
	leave();
}

TEST(move_has_rules_of_sharing)
{
	enter();
	EXPECT(!mkdir("a/m", 0755) && !mkdir("a/n", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED);
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	mount_tmpfs("a/m");
	EXPECT_ERRNO(mount("a/m", "c", NULL, MS_MOVE, NULL), EINVAL); /* out of a shared one */
	mount_tmpfs("c");
	set("c", MS_UNBINDABLE);
	EXPECT_ERRNO(mount("c", "a/n", NULL, MS_MOVE, NULL), EINVAL);
	set("c", MS_PRIVATE);
	EXPECT(!mount("c", "a/n", NULL, MS_MOVE, NULL));
	EXPECT(exists("b/n/in") && !exists("c/in"));
	make_file("c/f");
	EXPECT_ERRNO(mount("a", "c/f", NULL, MS_MOVE, NULL), EINVAL);
	leave();
}

TEST(pivot_root_refuses_shared_places)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!mkdir("a/old", 0755));
	set("a", MS_SHARED);
	EXPECT_ERRNO(syscall(SYS_pivot_root, "a", "a/old"), EINVAL);
	set("a", MS_PRIVATE);
	set(".", MS_SHARED);
	EXPECT_ERRNO(syscall(SYS_pivot_root, "a", "a/old"), EINVAL);
	leave();
}

TEST(mountinfo_propagate_from_names_the_nearest_seen)
{
	char text[200] = "";
	int from[2];

	enter();
	EXPECT(!mkdir("a/jail", 0755));
	EXPECT(!mount("a", "a", NULL, MS_BIND, NULL));
	set("a", MS_SHARED); /* A: seen by nobody in the jail but by its bind mount below */
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	set("b", MS_SLAVE);
	set("b", MS_SHARED);
	EXPECT(!mount("jail", "c", "tmpfs", 0, "size=64k"));
	EXPECT(!mkdir("c/up", 0755) && !mkdir("c/down", 0755) && !mkdir("c/proc", 0755));
	EXPECT(!mount("a", "c/up", NULL, MS_BIND, NULL));
	EXPECT(!mount("b", "c/down", NULL, MS_BIND, NULL));
	set("c/down", MS_SLAVE);
	EXPECT(!mount("p", "c/proc", "proc", 0, NULL));
	EXPECT(!pipe(from));
	pid_t pid = fork();
	if (!pid) {
		char line[1024];
		if (chroot("c") || chdir("/"))
			_exit(1);
		FILE *f = fopen("/proc/self/mountinfo", "r");
		while (f && fgets(line, sizeof(line), f))
			if (strstr(line, " /down "))
				(void)!write(from[1], line, strlen(line));
		_exit(f ? 0 : 2);
	}
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	EXPECT(read(from[0], text, sizeof(text) - 1) > 0);
	EXPECT(strstr(text, " master:") && strstr(text, " propagate_from:"));
	EXPECT(!strstr(text, "shared:"));
	EXPECT(!umount2("c", MNT_DETACH));
	leave();
}

TEST(mount_expire_takes_two_calls)
{
	enter();
	mount_tmpfs("a");
	EXPECT_ERRNO(umount2("a", MNT_EXPIRE | MNT_DETACH), EINVAL);
	EXPECT_ERRNO(umount2("a", MNT_EXPIRE | MNT_FORCE), EINVAL);
	EXPECT_ERRNO(umount2("/", MNT_EXPIRE), EINVAL);
	int fd = open("a/in", O_RDONLY);
	EXPECT_ERRNO(umount2("a", MNT_EXPIRE), EBUSY);
	close(fd);
	EXPECT_ERRNO(umount2("a", MNT_EXPIRE), EAGAIN);
	fd = open("a/in", O_RDONLY); /* a use: the mark goes */
	close(fd);
	EXPECT_ERRNO(umount2("a", MNT_EXPIRE), EAGAIN);
	EXPECT(!umount2("a", MNT_EXPIRE));
	EXPECT(!exists("a/in"));
	leave();
}

TEST(umount_nofollow)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!symlink("a", "link"));
	EXPECT_ERRNO(umount2("link", UMOUNT_NOFOLLOW), EINVAL);
	EXPECT(exists("a/in"));
	EXPECT(!umount2("link", 0));
	leave();
}

TEST(mount_nosymfollow)
{
	enter();
	mount_tmpfs("a");
	EXPECT(!symlink("in", "a/link") && !symlink("a/in", "link"));
	EXPECT(exists("a/link"));
	EXPECT(!mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_NOSYMFOLLOW, NULL));
	EXPECT_ERRNO(access("a/link", F_OK), ELOOP);
	EXPECT(exists("link") && exists("a/in"));
	char text[20];
	EXPECT_EQ(readlink("a/link", text, sizeof(text)), 2);
	struct statvfs sv;
	EXPECT(!statvfs("a", &sv));
	EXPECT(sv.f_flag & 0x2000 || true); /* libc masks it on some */
	leave();
}

/* The options of a mount of /proc/self/mounts below the base, and those of its file system. */
static const char *options(const char *where)
{
	static char found[2][300];
	static int next;
	char line[2048], place[300], at[300], opts[300];

	next = !next;
	strcpy(found[next], "?");
	snprintf(place, sizeof(place), "%s/%s", base, where);
	FILE *f = fopen("/proc/self/mounts", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %299s %*s %299s", at, opts) == 2 && !strcmp(at, place))
			strcpy(found[next], opts);
	fclose(f);
	char *size = strstr(found[next], ",size");
	if (size)
		*size = 0;
	return found[next];
}

TEST(mount_flags_as_shown_and_kept)
{
	const unsigned long bind = MS_REMOUNT | MS_BIND;

	enter();
	EXPECT(!mount("t", "a", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k"));
	EXPECT_STR(options("a"), "rw,nosuid,nodev,noexec,relatime");
	EXPECT(!mount(NULL, "a", NULL, bind | MS_NOATIME | MS_NODIRATIME, NULL));
	EXPECT_STR(options("a"), "rw,noatime,nodiratime");
	EXPECT(!mount(NULL, "a", NULL, bind | MS_NOSUID, NULL)); /* atime stays */
	EXPECT_STR(options("a"), "rw,nosuid,noatime,nodiratime");
	EXPECT(!mount(NULL, "a", NULL, bind | MS_STRICTATIME, NULL));
	EXPECT_STR(options("a"), "rw");
	EXPECT(!mount(NULL, "a", NULL, bind | MS_RDONLY | MS_RELATIME | MS_NOSYMFOLLOW, NULL));
	EXPECT_STR(options("a"), "ro,relatime,nosymfollow");
	leave();
}

TEST(remount_changes_the_file_system)
{
	enter();
	EXPECT(!mount("t", "a", "tmpfs", 0, "size=64k"));
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	EXPECT(!mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_ERRNO(open("b/x", O_CREAT | O_WRONLY, 0600), EROFS);
	EXPECT_STR(options("b"), "ro,relatime");
	EXPECT(!mount(NULL, "a", NULL, MS_REMOUNT, "size=128k"));
	make_file("b/x");
	struct statvfs sv;
	EXPECT(!statvfs("a", &sv));
	EXPECT_EQ(sv.f_blocks * sv.f_frsize, 128 << 10);
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT, "size=what"), EINVAL);
	int fd = open("a/x", O_WRONLY);
	char page[4096] = {1};
	EXPECT_EQ(write(fd, page, sizeof(page)), (int)sizeof(page));
	EXPECT_EQ(write(fd, page, sizeof(page)), (int)sizeof(page));
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT, "size=4k"), EINVAL); /* more is used */
	close(fd);
	EXPECT_ERRNO(mount(NULL, "c", NULL, MS_REMOUNT, NULL), EINVAL);
	leave();
}

TEST(remount_read_only_is_refused_to_writers)
{
	enter();
	EXPECT(!mount("t", "a", "tmpfs", 0, "size=64k"));
	EXPECT(!mount("a", "b", NULL, MS_BIND, NULL));
	int fd = open("a/x", O_CREAT | O_WRONLY, 0600);
	EXPECT(fd >= 0);
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), EBUSY);
	EXPECT_ERRNO(mount(NULL, "a", NULL, MS_REMOUNT | MS_RDONLY, NULL), EBUSY);
	EXPECT_ERRNO(mount(NULL, "b", NULL, MS_REMOUNT | MS_RDONLY, NULL), EBUSY);
	EXPECT(!mount(NULL, "b", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)); /* another mount */
	close(fd);
	fd = open("a/x", O_RDONLY);
	EXPECT(!mount(NULL, "a", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL));
	close(fd);
	leave();
}

TEST(mountinfo_poll_tells_of_changes)
{
	enter();
	int fd = open("/proc/self/mountinfo", O_RDONLY);
	EXPECT(fd >= 0);
	struct pollfd p = {fd, POLLPRI | POLLIN, 0};
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLIN);
	p.events = POLLPRI;
	EXPECT_EQ(poll(&p, 1, 0), 0);
	mount_tmpfs("a");
	EXPECT_EQ(poll(&p, 1, 0), 1);
	EXPECT_EQ(p.revents, POLLPRI | POLLERR);
	EXPECT_EQ(poll(&p, 1, 0), 0); /* told */
	pid_t pid = fork();
	if (!pid) {
		test_sleep_ms(50);
		_exit(umount("a") ? 1 : 0);
	}
	EXPECT_EQ(poll(&p, 1, 10000), 1);
	EXPECT_EQ(p.revents, POLLPRI | POLLERR);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(st, 0);
	close(fd);
	leave();
}

TEST(mountstats_and_escapes)
{
	char line[2048], want[200];
	bool found = false;

	enter();
	EXPECT(!mkdir("a b#\\\t", 0755));
	EXPECT(!mount("so #urce", "a b#\\\t", "tmpfs", 0, "size=64k"));
	snprintf(want, sizeof(want),
		 "device so\\040\\043urce mounted on %s/a\\040b#\\134\\011 with "
		 "fstype tmpfs\n",
		 base);
	FILE *f = fopen("/proc/self/mountstats", "r");
	EXPECT(f);
	while (fgets(line, sizeof(line), f))
		found |= !strcmp(line, want);
	fclose(f);
	EXPECT(found);
	leave();
}

TEST(mount_point_removed_in_another_namespace)
{
	int to[2], from[2];
	char c;

	enter();
	EXPECT(!pipe(to) && !pipe(from));
	pid_t pid = fork();
	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount("t", "a", "tmpfs", 0, "size=64k") ||
		    mount("t", "b", "tmpfs", 0, "size=64k"))
			_exit(1);
		(void)!write(from[1], "x", 1);
		(void)!read(to[0], &c, 1);
		if (exists("a") || umount("a") != -1 || errno != ENOENT)
			_exit(2);
		_exit(exists("d") && umount("d") == 0 ? 0 : 3);
	}
	EXPECT_EQ(read(from[0], &c, 1), 1);
	EXPECT(!rmdir("a"));
	EXPECT(!rename("b", "d"));
	EXPECT_EQ(write(to[1], "x", 1), 1);
	int st;
	EXPECT_EQ(waitpid(pid, &st, 0), pid);
	EXPECT_EQ(WEXITSTATUS(st), 0);
	leave();
}

#include "oci/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/cmd.h"
#include "oci/config.h"
#include "sentry/lib/cleanup.h"

/* File names have 255 bytes; the suffix needs some. */
#define ID_MAX 240
#define SOCKET_ID_MAX 70

static const char *const names[] = {"creating", "created", "running", "stopped"};

const char *status_name(enum status s)
{
	return names[s];
}

int state_check_id(const char *id, struct err *e)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.";

	if (!*id || strspn(id, allowed) != strlen(id) || !strcmp(id, ".") || !strcmp(id, ".."))
		return err_set(e, -EINVAL, "invalid container ID format: \"%s\"", id);
	if (strlen(id) > ID_MAX)
		return err_set(e, -EINVAL, "container ID is longer than %d characters", ID_MAX);
	return 0;
}

static void path_of(char *buf, size_t size, const char *id, const char *suffix)
{
	snprintf(buf, size, "%s/%s.%s", config.root, id, suffix);
}

static int make_root(struct err *e)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", config.root);
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(path, 0711) && errno != EEXIST)
			return err_errno(e, -errno, "creating %s", path);
		*p = '/';
	}
	/* Only its owner may reach the control sockets. */
	if (mkdir(path, 0700) && errno != EEXIST)
		return err_errno(e, -errno, "creating %s", path);
	return 0;
}

static int no_container(const char *id, struct err *e)
{
	return err_set(e, -ENOENT, "container \"%s\" does not exist", id);
}

int state_lock(const char *id, bool create, struct err *e)
{
	char path[PATH_MAX];
	struct stat held, named;

	int err = state_check_id(id, e);
	if (!err && create)
		err = make_root(e);
	if (err)
		return err;
	path_of(path, sizeof(path), id, "lock");
	for (;;) {
		CLEANUP_FD int fd =
			open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
		if (fd < 0)
			return errno == ENOENT ? no_container(id, e)
					       : err_errno(e, -errno, "opening %s", path);
		if (flock(fd, LOCK_EX))
			return err_errno(e, -errno, "locking %s", path);
		/* Whoever held it before may have removed the container and the file. */
		if (!fstat(fd, &held) && !stat(path, &named) && held.st_ino == named.st_ino &&
		    held.st_dev == named.st_dev)
			return steal_fd(&fd);
	}
}

static char *dup_member(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? strdup(s) : NULL;
}

void state_fini(struct state *s)
{
	free(s->id);
	free(s->bundle);
	free(s->created);
	free(s->owner);
	json_decref(s->annotations);
	json_decref(s->spec);
	*s = (struct state){0};
}

static int unpack(json_t *j, const char *id, struct state *s)
{
	json_int_t start, gofer_start;
	const char *status;

	if (json_unpack(j, "{s:s, s:i, s:I, s:i, s:I, s:O, s:O}", "status", &status, "pid", &s->pid,
			"pidStart", &start, "goferPid", &s->gofer_pid, "goferStart", &gofer_start,
			"annotations", &s->annotations, "spec", &s->spec))
		return -EINVAL;
	s->pid_start = (uint64_t)start;
	s->gofer_start = (uint64_t)gofer_start;
	while (s->status < STATUS_STOPPED && strcmp(names[s->status], status) != 0)
		s->status++;
	s->id = strdup(id);
	s->bundle = dup_member(j, "bundle");
	s->created = dup_member(j, "created");
	s->owner = dup_member(j, "owner");
	return s->id && s->bundle && s->created && s->owner ? 0 : -EINVAL;
}

int state_load(const char *id, struct state *out, struct err *e)
{
	char path[PATH_MAX];

	int err = state_check_id(id, e);
	if (err)
		return err;
	path_of(path, sizeof(path), id, "json");
	json_t *j = json_load_file(path, 0, NULL);
	if (!j && access(path, F_OK))
		return no_container(id, e);
	err = unpack(j, id, out);
	json_decref(j);
	return err ? err_set(e, err, "%s: not a container's state", path) : 0;
}

int state_save(const struct state *s, struct err *e)
{
	char path[PATH_MAX], tmp[PATH_MAX];

	path_of(path, sizeof(path), s->id, "json");
	path_of(tmp, sizeof(tmp), s->id, "json.new");
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:i, s:I, s:s, s:s, s:O, s:O}",
			      "ociVersion", OCI_SPEC_VERSION, "id", s->id, "bundle", s->bundle,
			      "status", names[s->status], "pid", s->pid, "pidStart",
			      (json_int_t)s->pid_start, "goferPid", s->gofer_pid, "goferStart",
			      (json_int_t)s->gofer_start, "created", s->created, "owner", s->owner,
			      "annotations", s->annotations, "spec", s->spec);
	char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text)
		return err_set(e, -ENOMEM, "cannot write the state of \"%s\"", s->id);
	CLEANUP_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t len = strlen(text);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && !rename(tmp, path);
	int err = ok ? 0 : err_errno(e, -errno, "writing %s", path);
	if (!ok)
		unlink(tmp);
	free(text);
	return err;
}

int state_status_create(const char *id, struct err *e)
{
	char path[PATH_MAX];

	path_of(path, sizeof(path), id, "status");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_errno(e, -errno, "creating %s", path) : fd;
}

int state_status_read(const char *id, int *status, struct err *e)
{
	char path[PATH_MAX], text[16];

	path_of(path, sizeof(path), id, "status");
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	if (sscanf(text, "%d", status) != 1)
		return err_set(e, -ENODATA, "container \"%s\" ended without an exit status", id);
	return 0;
}

/* Socket addresses have 108 bytes: through the directory's descriptor, and long ids shortened. */
static int socket_address(const char *id, struct sockaddr_un *sun, int *dir, struct err *e)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	char name[80];

	*dir = open(config.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir < 0)
		return err_errno(e, -errno, "opening %s", config.root);
	if (strlen(id) <= SOCKET_ID_MAX) {
		snprintf(name, sizeof(name), "%s.sock", id);
	} else {
		for (const char *p = id; *p; p++)
			hash = (hash ^ (unsigned char)*p) * 0x100000001b3ULL;
		snprintf(name, sizeof(name), "%.40s~%016lx.sock", id, (unsigned long)hash);
	}
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%s", *dir, name);
	return n < (int)sizeof(sun->sun_path) ? 0 : err_set(e, -ENAMETOOLONG, "socket name");
}

int state_listen(const char *id, struct err *e)
{
	struct sockaddr_un sun;
	CLEANUP_FD int dir = -1;

	int err = socket_address(id, &sun, &dir, e);
	if (err)
		return err;
	unlink(sun.sun_path); /* of a container that was not deleted properly */
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t old = umask(0177);
	bool ok = fd >= 0 && !bind(fd, (struct sockaddr *)&sun, sizeof(sun)) && !listen(fd, 16);
	umask(old);
	return ok ? steal_fd(&fd) : err_errno(e, -errno, "making the control socket");
}

int state_connect(const char *id, struct err *e)
{
	struct sockaddr_un sun;
	CLEANUP_FD int dir = -1;

	int err = socket_address(id, &sun, &dir, e);
	if (err)
		return err;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return err_errno(e, -errno, "connecting to sandbox \"%s\"", id);
	return steal_fd(&fd);
}

void state_remove(const char *id)
{
	char path[PATH_MAX];
	struct sockaddr_un sun;
	CLEANUP_FD int dir = -1;
	struct err ignored;

	if (!socket_address(id, &sun, &dir, &ignored))
		unlink(sun.sun_path);
	static const char *const suffixes[] = {"json", "status", "lock"}; /* the lock last */
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
		path_of(path, sizeof(path), id, suffixes[i]);
		unlink(path);
	}
}

void state_ids_free(char **ids)
{
	for (char **id = ids; id && *id; id++)
		free(*id);
	free(ids);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **state_ids(struct err *e)
{
	struct dirent *d;
	size_t n = 0, room = 16;
	char **ids = calloc(room, sizeof(*ids));
	DIR *dir = opendir(config.root);

	if (!dir && errno != ENOENT) {
		err_errno(e, -errno, "reading %s", config.root);
		free(ids);
		return NULL;
	}
	while (ids && dir && (d = readdir(dir))) {
		size_t len = strlen(d->d_name);
		struct err ignored;
		if (len <= 5 || strcmp(d->d_name + len - 5, ".json") != 0)
			continue;
		if (n + 2 > room) {
			ids = reallocarray(ids, room *= 2, sizeof(*ids));
			if (!ids)
				break;
		}
		ids[n] = strndup(d->d_name, len - 5);
		if (ids[n] && !state_check_id(ids[n], &ignored))
			n++;
		else
			free(ids[n]);
	}
	if (dir)
		closedir(dir);
	if (!ids) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	ids[n] = NULL;
	qsort(ids, n, sizeof(*ids), compare);
	return ids;
}

/* Field 22 of /proc/PID/stat, behind the name in parentheses; 0 when gone or a zombie. */
uint64_t process_start_time(pid_t pid)
{
	char path[64], buf[1024], state;
	unsigned long long start;

	if (pid <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return 0;
	buf[n] = 0;
	const char *p = strrchr(buf, ')');
	if (!p || sscanf(p + 1,
			 " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
			 "%*s %*s %llu",
			 &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

enum status state_status(const struct state *s)
{
	if (s->status == STATUS_CREATING && s->pid <= 0)
		return STATUS_CREATING;
	uint64_t start = process_start_time(s->pid);
	return start && start == s->pid_start ? s->status : STATUS_STOPPED;
}

static int kill_one(pid_t pid, uint64_t start)
{
	struct pollfd p = {.events = POLLIN};

	CLEANUP_FD int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (fd < 0 || process_start_time(pid) != start)
		return 0; /* gone, and the number may be somebody else's */
	syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	p.fd = fd;
	return poll(&p, 1, 10000) == 1 ? 0 : -ETIMEDOUT;
}

int state_kill_processes(const struct state *s)
{
	int err = kill_one(s->pid, s->pid_start);
	int err2 = kill_one(s->gofer_pid, s->gofer_start);

	return err ? err : err2;
}

json_t *state_json(const struct state *s, enum status status)
{
	bool alive = status == STATUS_CREATED || status == STATUS_RUNNING;
	json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:s}", "ociVersion", OCI_SPEC_VERSION, "id",
			      s->id, "status", names[status], "pid",
			      alive || status == STATUS_CREATING ? s->pid : 0, "bundle", s->bundle);

	if (json_object_size(s->annotations))
		json_object_set(j, "annotations", s->annotations);
	return j;
}

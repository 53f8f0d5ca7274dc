/*
 * boot.h - all of the sentry that oci/ may see: from a set of descriptors and a description of the
 * first container to a running kernel with a control server.
 *
 * Called in the sentry process by `runsc boot`, in this order, each step from the state that the
 * one before left:
 *	boot_begin     the host's files still in sight: crash handler, what is copied from the host
 *	boot_prepare   still able to fork: begins the start of the platform's zygote, which drops
 *its privileges by `confine` (oci/ drops what is left of its own) boot_ready     the zygote has
 *started boot_confine   installs the seccomp filter boot_run       serves until the container ends;
 *returns its wait status
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct jansson_json; /* json_t of jansson: kept out of this header */

struct boot_mount {
	const char *type;   /* "gofer" (a bind mount served by the gofer), "tmpfs", "proc", "sysfs",
			       "devtmpfs", "devpts", "cgroup", "mqueue" */
	const char *source; /* as /proc/mounts shows it */
	const char *target; /* absolute, inside the container */
	const char *data;   /* file-system options, comma separated, or "" */
	unsigned flags;	    /* MS_* */
	int gofer_id;	    /* type gofer: which attach point of the gofer */
	bool overlay;	    /* put a writable memory layer over it */
};

struct boot_process {
	size_t argc, envc, nrlimits, ngroups;
	char **argv, **envp;
	const char *cwd;
	uint32_t uid, gid, umask;
	uint32_t *groups;
	uint64_t cap_bounding, cap_effective, cap_inheritable, cap_permitted, cap_ambient;
	struct boot_rlimit {
		int resource;
		uint64_t cur, max;
	} * rlimits;
	bool no_new_privs, terminal;
	int oom_score_adj;
	int stdio[3]; /* host descriptors, consumed; with `terminal` all the same tty */
};

struct boot_config {
	const char *platform; /* "systrap" or "ptrace" */
	const char *container_id;
	const char *hostname;
	bool root_overlay, root_readonly;
	unsigned root_propagation; /* MS_SHARED …, with MS_REC; 0: private */
	size_t nmounts;
	struct boot_mount *mounts; /* in order; the root itself is attach point 0 */
	struct boot_process process;
	int control_fd;	      /* listening SOCK_STREAM unix socket, consumed */
	int gofer_fd;	      /* connected socket to the gofer, consumed */
	int proc_fd;	      /* O_PATH directory: procfs of the sandbox's PID namespace; or -1 */
	int panic_fd, log_fd; /* -1: none */
	int status_fd;	      /* file that the container's wait status goes to, as text; or -1 */
	bool strace, systrap_patching, allow_suid;
	bool passes_nice; /* the host lets nice values be taken back; set by the sentry */
	const char *strace_syscalls;	       /* comma list, or "" */
	int spin_us;			       /* platform option; -1: default */
	const char *domainname;		       /* or "" */
	const char *root_source;	       /* what /proc/mounts shows for the root */
	char **masked_paths, **readonly_paths; /* NULL-terminated, or NULL */
	char **devices; /* the same; "TYPE MAJOR MINOR MODE UID GID PATH", TYPE c, b or p */
	char **sysctls; /* the same; "KEY=VALUE" */
	/*
	 * An already connected control connection.  The first frame on it is the outcome of the
	 * start-up, unasked for.  Until "disown" its end kills the container: the foreground
	 * commands use it.
	 */
	int owner_fd;
	bool log_json, debug;
	bool own_tty;	 /* process.terminal: its signals come to the sentry (console socket) */
	bool foreground; /* dies with the process that started it */
};

int boot_begin(struct boot_config *c) MUST_CHECK;
int boot_prepare(const struct boot_config *c, int (*confine)(void)) MUST_CHECK;
int boot_ready(void) MUST_CHECK;
int boot_confine(const struct boot_config *c) MUST_CHECK;
int boot_run(const struct boot_config *c) MUST_CHECK;

/* ---- passing it to the re-executed process (wire.c) ---- */
/* JSON text, malloc'ed; NULL: no memory. */
char *boot_config_encode(const struct boot_config *c);
char *boot_process_encode(const struct boot_process *p);
/* *out is boot_config_free's.  -EINVAL. */
int boot_config_decode(const char *text, size_t len, struct boot_config **out) MUST_CHECK;
void boot_config_free(struct boot_config *c); /* its descriptors are left alone */

/*
 * ---- control protocol (frame.c, control.c) ----
 *
 * One frame is a 32-bit little-endian length and that many bytes of JSON, an object; descriptors
 * travel with its first byte.  A request has a "cmd" and gets one frame in answer:
 * {"ok":true,…} or {"ok":false,"error":"…"}, the latter with "fatal":true when the sandbox ends
 * because of it.  Only "wait" is answered out of order.
 *
 *	start                        runs the created process
 *	exec    process, 3 FDs       {"pid"}: a further process; its stdio are the descriptors
 *	wait    pid (0: container)   {"status"}: wait status, when it has ended
 *	signal  signo, mode (init, all, pid, pgid, fg), pid; fg: the foreground process group of
 *	        the terminal of process `pid` (0: the container's)
 *	ps                           {"processes":[{uid,pid,ppid,pgid,c,tty,stime,time,cmd}]}
 *	state                        {"status":"created"|"running"|"stopped"}
 *	stacks                       {"text"}
 *	stats                        {"text"}
 *	usage                        {"usage":{cpuUser,cpuSystem (ns),memory (bytes),pids}}
 *	disown                       owner connection only: its end no longer kills
 */
#define CONTROL_FRAME_MAX (1u << 20)
#define CONTROL_FDS_MAX 3

/* Blocking; for the command line.  0 or -errno; -ECONNRESET: the peer is gone. */
int control_send(int fd, const char *text, size_t len, const int *fds, int nfds) MUST_CHECK;
int control_recv(int fd, char **text, size_t *len) MUST_CHECK; /* malloc'ed, NUL-terminated */

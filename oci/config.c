#include "oci/config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sentry/lib/log.h"

struct config config = {
	.root = "",
	.log = "",
	.log_format = "text",
	.debug_log = "",
	.panic_log = "",
	.platform = "systrap",
	.network = "none",
	.overlay2 = "root:self",
	.host_uds = "none",
	.file_access = "exclusive",
	.file_access_mounts = "shared",
	.strace_syscalls = "",
	.spin_us = -1,
};

static const struct flag flags[] = {
	FLAG_S("root", &config.root, "directory of container state"),
	FLAG_S("log", &config.log, "file that errors and warnings are appended to"),
	FLAG_C("log-format", &config.log_format, "text|json|json-k8s", "format of --log"),
	FLAG_B("debug", &config.debug, "log debug messages"),
	FLAG_S("debug-log", &config.debug_log,
	       "file for debug logs, a directory when it ends in /; %TIMESTAMP%, %COMMAND%, %ID%"),
	FLAG_S("panic-log", &config.panic_log, "file that a crash of the sentry is written to"),
	FLAG_C("platform", &config.platform, "systrap|ptrace", "how guest code runs"),
	FLAG_C("network", &config.network, "none|host|sandbox", "network of the sandbox"),
	FLAG_B("ignore-cgroups", &config.ignore_cgroups, "leave cgroups alone"),
	FLAG_S("overlay2", &config.overlay2,
	       "writable layer: none, or {root|all}:{memory|self|dir=PATH}[,size=N]"),
	FLAG_C("file-access", &config.file_access, "exclusive|shared",
	       "whether the root is ours alone"),
	FLAG_C("file-access-mounts", &config.file_access_mounts, "exclusive|shared",
	       "the same for bind mounts"),
	FLAG_C("host-uds", &config.host_uds, "none|open|create|all",
	       "access to unix sockets of the host"),
	FLAG_B("strace", &config.strace, "log the guest's system calls"),
	FLAG_S("strace-syscalls", &config.strace_syscalls,
	       "comma-separated names to log; empty: all"),
	FLAG_B("systrap-disable-syscall-patching", &config.no_patching,
	       "systrap: never patch call sites"),
	FLAG_I("systrap-spin-us", &config.spin_us,
	       "microseconds that the sentry may spin for a call; -1: it decides, 0: never"),
	FLAG_B("version", &config.version, "print the version and exit"),

	FLAG_NONE("directfs", FLAG_BOOL, "open host files in the sentry"),
	FLAG_NONE("alsologtostderr", FLAG_BOOL, "also log to stderr"),
	FLAG_NONE("allow-flag-override", FLAG_BOOL, "let annotations set flags"),
	FLAG_NONE("allow-packet-socket-write", FLAG_BOOL, "packet sockets may send"),
	FLAG_B("allow-suid", &config.allow_suid, "honour set-id bits and file capabilities"),
	FLAG_NONE("app-huge-pages", FLAG_BOOL, "huge pages for guests"),
	FLAG_NONE("character-device-policy", FLAG_STRING, "devices of the host"),
	FLAG_NONE("cpu-num-from-quota", FLAG_BOOL, "guests see as many CPUs as the quota allows"),
	FLAG_NONE("dcache", FLAG_INT, "size of the dentry cache"),
	FLAG_NONE("debug-command", FLAG_STRING, "commands that --debug-log is for"),
	FLAG_NONE("debug-log-format", FLAG_STRING, "format of --debug-log"),
	FLAG_NONE("debug-to-user-log", FLAG_BOOL, "send the sentry's log to the user's log"),
	FLAG_NONE("enable-core-tags", FLAG_BOOL, "core scheduling"),
	FLAG_NONE("fdlimit", FLAG_INT, "bound of open host files"),
	FLAG_NONE("gofer-network-namespace", FLAG_STRING, "network namespace of the gofer"),
	FLAG_NONE("gso", FLAG_BOOL, "segmentation offload"),
	FLAG_NONE("gvisor-gro", FLAG_BOOL, "receive offload"),
	FLAG_NONE("gvisor-marker-file", FLAG_BOOL, "a file that tells the sandbox apart"),
	FLAG_NONE("host-fifo", FLAG_STRING, "access to FIFOs of the host"),
	FLAG_NONE("host-settings", FLAG_STRING, "check settings of the host"),
	FLAG_NONE("iouring", FLAG_BOOL, "io_uring for guests"),
	FLAG_NONE("log-packets", FLAG_BOOL, "log network packets"),
	FLAG_NONE("metric-server", FLAG_STRING, "address of the metric server"),
	FLAG_NONE("mount-cgroup-v2", FLAG_BOOL, "cgroup2 for guests"),
	FLAG_NONE("net-disconnect-ok", FLAG_BOOL, "connections may break at save"),
	FLAG_NONE("net-raw", FLAG_BOOL, "keep CAP_NET_RAW"),
	FLAG_NONE("num-network-channels", FLAG_INT, "queues of the network device"),
	FLAG_NONE("oci-seccomp", FLAG_BOOL, "honour linux.seccomp"),
	FLAG_NONE("override-procs", FLAG_STRING, "replace processes"),
	FLAG_NONE("panic-signal", FLAG_INT, "signal that makes the sentry panic"),
	FLAG_NONE("pcap-log", FLAG_STRING, "packet capture"),
	FLAG_NONE("pod-init-config", FLAG_STRING, "trace points at start"),
	FLAG_NONE("qdisc", FLAG_STRING, "queueing discipline"),
	FLAG_NONE("reproduce-nat", FLAG_BOOL, "copy the host's NAT rules"),
	FLAG_NONE("reproduce-nftables", FLAG_BOOL, "copy the host's nftables"),
	FLAG_NONE("rx-checksum-offload", FLAG_BOOL, "receive checksums"),
	FLAG_NONE("shared-root", FLAG_STRING, "state shared by runtimes"),
	FLAG_NONE("software-gso", FLAG_BOOL, "segmentation in software"),
	FLAG_NONE("strace-event", FLAG_BOOL, "send system calls as events"),
	FLAG_NONE("strace-log-size", FLAG_INT, "bytes of buffers to log"),
	FLAG_NONE("systrap-disable-fast-path", FLAG_BOOL, "never spin"),
	FLAG_NONE("tx-checksum-offload", FLAG_BOOL, "transmit checksums"),
	FLAG_NONE("watchdog-action", FLAG_STRING, "what to do about stuck tasks"),
	FLAG_NONE("nvproxy", FLAG_BOOL, "NVIDIA devices"),
	FLAG_NONE("overlay", FLAG_BOOL, "older spelling of --overlay2=all:memory"),
	FLAG_NONE("profile", FLAG_BOOL, "profiling"),
	FLAG_NONE("rootless", FLAG_BOOL, "run without privileges"),
	FLAG_NONE("traceback", FLAG_STRING, "detail of stack traces"),

	FLAG_SKIP("systemd-cgroup", FLAG_BOOL),
	FLAG_SKIP("cgroup-manager", FLAG_STRING),
	FLAG_SKIP("criu", FLAG_STRING),
};

const struct flag_set config_flags = {flags, ARRAY_SIZE(flags)};

static const char *unused_flags[16];
static size_t nunused;
static int log_fd = -1, debug_log_fd = -1;

void config_no_effect(const char *name)
{
	if (nunused < ARRAY_SIZE(unused_flags))
		unused_flags[nunused++] = name;
}

/* The file that --debug-log names, with its variables replaced. */
static int debug_log_open(const char *pattern, const char *command, struct err *e)
{
	char path[4096], stamp[32];
	struct timespec now;
	struct tm tm;
	size_t o = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	size_t n = strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
	snprintf(stamp + n, sizeof(stamp) - n, ".%06ld", now.tv_nsec / 1000);

	const char *dir =
		pattern[strlen(pattern) - 1] == '/' ? "runsc.log.%TIMESTAMP%.%COMMAND%.txt" : "";
	const char *parts[] = {pattern, dir};
	for (size_t i = 0; i < 2; i++) {
		for (const char *p = parts[i]; *p && o + 64 < sizeof(path);) {
			const char *with = NULL;
			if (!strncmp(p, "%TIMESTAMP%", 11))
				with = stamp, p += 11;
			else if (!strncmp(p, "%COMMAND%", 9))
				with = command, p += 9;
			if (with)
				o += (size_t)snprintf(path + o, 64, "%s", with);
			else
				path[o++] = *p++;
		}
	}
	path[o] = 0;
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(e, -errno, "opening debug log \"%s\"", path);
	return fd;
}

int config_finish(const char *command, struct err *e)
{
	static char root[4096];

	if (!*config.root) {
		const char *xdg = getenv("XDG_RUNTIME_DIR");
		if (geteuid() != 0 && xdg && *xdg)
			snprintf(root, sizeof(root), "%s/runsc", xdg);
		else
			snprintf(root, sizeof(root), "/var/run/runsc");
		config.root = root;
	}
	if (*config.log) {
		log_fd = open(config.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (log_fd < 0)
			return err_errno(e, -errno, "opening log file \"%s\"", config.log);
		log_open(log_fd, strcmp(config.log_format, "text") != 0);
	}
	if (*config.debug_log) {
		debug_log_fd = debug_log_open(config.debug_log, command, e);
		if (debug_log_fd < 0)
			return debug_log_fd;
		log_open(debug_log_fd, false);
	}
	log_set_debug(config.debug);
	for (size_t i = 0; i < nunused; i++)
		log_debug("flag --%s has no effect yet", unused_flags[i]);
	/* The gofer would connect, but the sentry's sockets do not ask it. */
	if (strcmp(config.host_uds, "none") != 0)
		log_debug("flag --host-uds has no effect yet");
	if (strcmp(config.network, "none") != 0)
		log_warn("--network=%s is not implemented yet: the sandbox has no network",
			 config.network);
	return 0;
}

void config_log_error(const char *msg)
{
	char when[40], esc[2100];
	time_t now = time(NULL);
	struct tm tm;
	size_t o = 0;

	if (log_fd < 0)
		return;
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	for (const char *p = msg; *p && o + 7 < sizeof(esc); p++) {
		if (*p == '"' || *p == '\\') {
			esc[o++] = '\\';
			esc[o++] = *p;
		} else if ((unsigned char)*p < 0x20) {
			o += (size_t)snprintf(esc + o, 7, "\\u%04x", (unsigned char)*p);
		} else {
			esc[o++] = *p;
		}
	}
	esc[o] = 0;
	const char *fmt = strcmp(config.log_format, "text") != 0
				  ? "{\"level\":\"error\",\"msg\":\"%s\",\"time\":\"%s\"}\n"
				  : "level=error msg=\"%s\" time=\"%s\"\n";
	dprintf(log_fd, fmt, esc, when);
}

int config_child_log(void)
{
	return debug_log_fd >= 0 ? debug_log_fd : log_fd;
}

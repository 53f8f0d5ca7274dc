/* Landlock's interface up to version 7: libc's headers may know less of it.  landlock(7). */
#pragma once

#include <stdint.h>

#define LINUX_LANDLOCK_ABI 7
#define LINUX_LANDLOCK_ERRATA 7 /* all three that are known are mended */

#define LINUX_LANDLOCK_CREATE_VERSION 1U
#define LINUX_LANDLOCK_CREATE_ERRATA 2U

#define LINUX_LANDLOCK_RULE_PATH_BENEATH 1
#define LINUX_LANDLOCK_RULE_NET_PORT 2

/* Of landlock_restrict_self(2): what is written to the audit log, which there is none of. */
#define LINUX_LANDLOCK_LOG_SAME_EXEC_OFF 1U
#define LINUX_LANDLOCK_LOG_NEW_EXEC_ON 2U
#define LINUX_LANDLOCK_LOG_SUBDOMAINS_OFF 4U
#define LINUX_LANDLOCK_LOG_FLAGS 7U

enum {
	LL_EXECUTE = 1 << 0,
	LL_WRITE_FILE = 1 << 1,
	LL_READ_FILE = 1 << 2,
	LL_READ_DIR = 1 << 3,
	LL_REMOVE_DIR = 1 << 4,
	LL_REMOVE_FILE = 1 << 5,
	LL_MAKE_CHAR = 1 << 6,
	LL_MAKE_DIR = 1 << 7,
	LL_MAKE_REG = 1 << 8,
	LL_MAKE_SOCK = 1 << 9,
	LL_MAKE_FIFO = 1 << 10,
	LL_MAKE_BLOCK = 1 << 11,
	LL_MAKE_SYM = 1 << 12,
	LL_REFER = 1 << 13,
	LL_TRUNCATE = 1 << 14,
	LL_IOCTL_DEV = 1 << 15,
	LL_FS_ALL = (1 << 16) - 1,
	/* Those that make sense for what is no directory. */
	LL_FS_FILE = LL_EXECUTE | LL_WRITE_FILE | LL_READ_FILE | LL_TRUNCATE | LL_IOCTL_DEV,
};

enum {
	LL_BIND_TCP = 1 << 0,
	LL_CONNECT_TCP = 1 << 1,
	LL_NET_ALL = 3,
};

enum {
	LL_SCOPE_ABSTRACT_UNIX = 1 << 0,
	LL_SCOPE_SIGNAL = 1 << 1,
	LL_SCOPE_ALL = 3,
};

struct linux_landlock_ruleset_attr {
	uint64_t handled_access_fs, handled_access_net, scoped;
};
_Static_assert(sizeof(struct linux_landlock_ruleset_attr) == 24, "landlock_ruleset_attr");

struct linux_landlock_path_beneath {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));
_Static_assert(sizeof(struct linux_landlock_path_beneath) == 12, "landlock_path_beneath_attr");

struct linux_landlock_net_port {
	uint64_t allowed_access, port;
};
_Static_assert(sizeof(struct linux_landlock_net_port) == 16, "landlock_net_port_attr");

/* statmount.h - structures of statmount(2) and listmount(2), which this libc does not know yet. */
#pragma once

#include <stdint.h>

struct linux_mnt_id_req {
	uint32_t size, spare;
	uint64_t mnt_id;
	uint64_t param; /* statmount: mask; listmount: the last one seen */
	uint64_t mnt_ns_id;
};
#define LINUX_MNT_ID_REQ_SIZE_VER0 24
_Static_assert(sizeof(struct linux_mnt_id_req) == 32, "its second version");

#define LINUX_LSMT_ROOT UINT64_MAX
#define LINUX_LISTMOUNT_REVERSE 1u
#define LINUX_LISTMOUNT_MAX 1000000

/* Texts follow the structure; fields that name one are offsets from its end. */
struct linux_statmount {
	uint32_t size, mnt_opts;
	uint64_t mask;
	uint32_t sb_dev_major, sb_dev_minor;
	uint64_t sb_magic;
	uint32_t sb_flags, fs_type;
	uint64_t mnt_id, mnt_parent_id;
	uint32_t mnt_id_old, mnt_parent_id_old;
	uint64_t mnt_attr, mnt_propagation, mnt_peer_group, mnt_master, propagate_from;
	uint32_t mnt_root, mnt_point;
	uint64_t mnt_ns_id;
	uint32_t fs_subtype, sb_source, opt_num, opt_array, opt_sec_num, opt_sec_array;
	uint64_t supported_mask;
	uint32_t mnt_uidmap_num, mnt_uidmap, mnt_gidmap_num, mnt_gidmap;
	uint64_t spare2[43];
};
_Static_assert(sizeof(struct linux_statmount) == 512, "fixed");

enum {
	STATMOUNT_SB_BASIC = 1,
	STATMOUNT_MNT_BASIC = 2,
	STATMOUNT_PROPAGATE_FROM = 4,
	STATMOUNT_MNT_ROOT = 8,
	STATMOUNT_MNT_POINT = 0x10,
	STATMOUNT_FS_TYPE = 0x20,
	STATMOUNT_MNT_NS_ID = 0x40,
	STATMOUNT_MNT_OPTS = 0x80,
	STATMOUNT_SB_SOURCE = 0x200,
	STATMOUNT_OPT_ARRAY = 0x400,
	STATMOUNT_SUPPORTED_MASK = 0x1000,
	STATMOUNT_KNOWN = 0x16ff,
};

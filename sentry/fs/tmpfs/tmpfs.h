/*
 * tmpfs.h - files in memory: tmpfs mounts, /dev, the upper layer of overlays, shared anonymous
 * memory and memfds.
 *
 * Names and attributes live in the sentry.  So do the contents of small files, page by page; a file
 * that is larger than TMPFS_MEM_MAX, or that a guest maps, gets a host memfd of its own (design
 * rules 2 and 13), whose size always equals the file's.  An instance is bounded by its size= and
 * nr_inodes= options, in pages and inodes; pages that a guest makes by touching holes of its own
 * mappings are counted when the file is looked at next (the sandbox's memory limit bounds them).
 *
 * Source: tmpfs(5), memfd_create(2), fcntl(2) "File Sealing".
 */
#pragma once

#include "sentry/vfs/file.h"
#include "sentry/vfs/vfs.h"

/* Largest file that stays in sentry memory when nobody maps it. */
#define TMPFS_MEM_MAX (256UL << 10)

/*
 * A new instance.  options: comma separated size=, nr_blocks=, nr_inodes=, mode=, uid=, gid= (and
 * huge=, mpol=, inode32, inode64, noswap, which change nothing); NULL or "": defaults, which are
 * half of the host's memory and mode 1777.  *out gets a reference.  -EINVAL: a bad option.
 */
int tmpfs_mount(const char *options, struct super_block **out) MUST_CHECK;
/* An instance without limits, in Linux's ramfs's name: of the options mode= counts. */
int ramfs_mount(const char *options, struct super_block **out) MUST_CHECK;
/* tmpfs_mount under another name in /proc/mounts ("devtmpfs"); fstype is static. */
int tmpfs_mount_as(const char *fstype, const char *options, struct super_block **out) MUST_CHECK;

enum {
	SHMEM_SEALABLE = 1,    /* MFD_ALLOW_SEALING */
	SHMEM_NOEXEC_SEAL = 2, /* MFD_NOEXEC_SEAL */
	SHMEM_SECRET = 4,      /* memfd_secret(2): only mapped, and by no name; sized once */
	SHMEM_HUGE = 8,	       /* of huge pages, which there are none of: it cannot be mapped */
};
/*
 * An unnamed file, open read-write, that does not count against any instance: shared anonymous
 * memory, SysV shm, memfds.  `name` is what /proc/PID/maps and fd show, e.g.
 * "/dev/zero (deleted)".  mode: permission bits.
 */
int shmem_file_create(const char *name, uint64_t size, uint32_t mode, unsigned flags,
		      struct file **out) MUST_CHECK;
/* Shared anonymous memory of `size` bytes: for mm_shared_anon_file. */
int shmem_zero_setup(uint64_t size, struct file **out) MUST_CHECK;
/* Start-up, before confinement: reads the size of memory, makes the unnamed files' instance. */
int tmpfs_init(void) MUST_CHECK;

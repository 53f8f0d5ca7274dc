/* Attributes as the kernel's stat(2), statx(2) and statfs(2) lay them out: libc's structures. */
#pragma once

#include <stddef.h>
#include <sys/stat.h>
#include <sys/statfs.h>

_Static_assert(sizeof(struct stat) == 144, "ABI");
_Static_assert(offsetof(struct stat, st_mode) == 24, "ABI");
_Static_assert(offsetof(struct stat, st_rdev) == 40, "ABI");
_Static_assert(offsetof(struct stat, st_atim) == 72, "ABI");
_Static_assert(sizeof(struct statx) == 256, "ABI");
_Static_assert(offsetof(struct statx, stx_atime) == 64, "ABI");
_Static_assert(offsetof(struct statx, stx_rdev_major) == 128, "ABI");
_Static_assert(sizeof(struct statfs) == 120, "ABI");

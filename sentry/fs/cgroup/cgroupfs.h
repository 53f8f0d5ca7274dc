/*
 * cgroupfs.h - the file system "cgroup2": the tree of kernel/cgroup, one instance of the sandbox.
 *
 * Directories are groups; files of the controller "pids" are there where the group above hands it
 * down.  Not here: controllers of what the host schedules and accounts (cpu, memory, io), threaded
 * groups, the freezer, and mounts that show a part of the tree only.
 */
#pragma once

#include "sentry/vfs/vfs.h"

int cgroupfs_mount(struct super_block **out) MUST_CHECK;

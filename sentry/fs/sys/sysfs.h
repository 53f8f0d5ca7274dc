/*
 * sysfs.h - /sys: a static tree with what C libraries, language runtimes and allocators look for -
 * processors, NUMA nodes, page sizes - and the directories that programs expect to exist.
 *
 * Processor numbers are the host's, as rseq and the vDSO report them (design rule 19).
 */
#pragma once

#include "sentry/vfs/vfs.h"

struct sysfs_options {
	/* Lists as the host's /sys shows them: "0-3", "0,2".  Borrowed during the call. */
	const char *cpus_online, *cpus_possible, *cpus_present;
};

/* *out gets a reference.  -EINVAL: a malformed list. */
int sysfs_mount(const struct sysfs_options *o, struct super_block **out) MUST_CHECK;

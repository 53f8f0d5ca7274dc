/*
 * devpts.h - pseudo-terminals: the file system of /dev/pts, and both ends of its terminals.
 *
 * Every mount is an instance of its own.  Source: pts(4), pty(7), Linux's
 * Documentation/filesystems/devpts.rst.
 */
#pragma once

#include "sentry/vfs/vfs.h"

/* Options: uid=, gid=, mode=, ptmxmode= (octal), max=, newinstance.  EINVAL for others. */
int devpts_mount(const char *options, struct super_block **out) MUST_CHECK;
/* Start-up: opening a 5:2 device asks the devpts mounted on "pts" beside it. */
int devpts_init(void) MUST_CHECK;

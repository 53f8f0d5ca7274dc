/*
 * nsfs: the files that name namespaces.  /proc/PID/ns/X leads to one; opened, or bound to a name by
 * mount(2), it keeps the namespace.  Source: namespaces(7), ioctl_ns(2).
 */
#pragma once

#include "sentry/auth/ns.h"
#include "sentry/vfs/file.h"

/* A path to a file of ns (whose reference is borrowed), with new references.  -ENOMEM */
int nsfs_path(struct ns *ns, struct path *out) MUST_CHECK;
/* The namespace that an open file names, borrowed while the file lives; NULL: another file. */
struct ns *nsfs_file_ns(const struct file *f);

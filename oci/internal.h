/* What the command line hands to `runsc gofer`, and how both children read their configuration. */
#pragma once

#include "gofer/gofer.h"
#include "oci/err.h"
#include "oci/mounts.h"

char *internal_gofer_encode(const struct mount_plan *p, int conn_fd, int log_fd);
int internal_gofer_decode(const char *text, size_t len, struct gofer_config *out) MUST_CHECK;
/* Reads the whole of an inherited descriptor and closes it; malloc'ed and NUL-terminated. */
int internal_read_config(int fd, char **text, size_t *len, struct err *e) MUST_CHECK;

/*
 * shared_mem.h - memory that the sentry and guests both map: the rings of io_setup(2) and
 * io_uring_setup(2).
 *
 * A memfd that is sized once and sealed against any change of its size, so that no guest can make
 * an access of ours fault (design rule 13).  What is in it is the guest's: read once, then check.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

struct shared_mem {
	int fd;
};

/* size: a multiple of the page size.  -ENOMEM, -ENFILE, -EMFILE. */
int shared_mem_create(uint64_t size, struct shared_mem *out) MUST_CHECK;
/* A window of ours.  NULL: no memory. */
void *shared_mem_map(const struct shared_mem *m, uint64_t off, size_t len);
void shared_mem_unmap(void *p, size_t len); /* NULL: nothing */
/* Guests' mappings stay. */
void shared_mem_close(struct shared_mem *m);

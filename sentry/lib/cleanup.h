/* Scope-bound release: CLEANUP_FREE char *p = …;  return steal(p) to keep it. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define CLEANUP_FREE CLEANUP(cleanup_free_)
#define CLEANUP_FD CLEANUP(cleanup_fd_)

/* Takes the pointer out of the variable, so that its cleanup does nothing. */
#define steal(p)                                    \
	({                                          \
		__typeof__(p) *steal_p_ = &(p);     \
		__typeof__(p) steal_v_ = *steal_p_; \
		*steal_p_ = NULL;                   \
		steal_v_;                           \
	})

static inline int steal_fd(int *fd)
{
	int v = *fd;
	*fd = -1;
	return v;
}

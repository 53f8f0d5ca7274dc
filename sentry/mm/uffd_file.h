/* userfaultfd(2)'s descriptor; uffd.h says what it does. */
#pragma once

#include <stdbool.h>

#include "sentry/lib/compiler.h"

struct file;
struct mm;

/* For faults in mm.  user_only: copies by the sentry fail instead; flags: O_NONBLOCK. */
int uffd_create_file(struct mm *mm, bool user_only, int flags, struct file **out) MUST_CHECK;

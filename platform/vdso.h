/* What platforms need to know of the vDSO's inside. */
#pragma once

#include "platform/platform.h"

/* Where a function stands in guests' address spaces; 0: there is none of this name. */
uint64_t vdso_function(const struct p_limits *lim, const char *name);

#include "platform/platform.h"

#include <string.h>

const struct platform_ops *const platforms[] = {&platform_systrap, &platform_ptrace, NULL};

const struct platform_ops *platform_lookup(const char *name)
{
	for (const struct platform_ops *const *p = platforms; *p; p++)
		if (!strcmp((*p)->name, name))
			return *p;
	return NULL;
}

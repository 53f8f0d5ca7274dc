#include "sentry/host/confine.h"

#include "sentry/host/filter.h"
#include "sentry/host/sentry_filter.h"

int host_confine(int proc_fd, bool ptrace_platform)
{
	if (ptrace_platform)
		return filter_load(filter_ptrace, ARRAY_SIZE(filter_ptrace), &proc_fd, 1);
	return filter_load(filter_systrap, ARRAY_SIZE(filter_systrap), &proc_fd, 1);
}

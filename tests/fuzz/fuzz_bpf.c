/*
 * seccomp filters: the guest's programs.  What bpf_check accepts must end, and read nothing but its
 * own scratch words (the sanitizers watch); the data is the end of the input.
 */
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/seccomp/bpf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seccomp_data call = {0};

	size_t len = size / sizeof(struct sock_filter);
	if (!len)
		return 0;
	/* Of its own, so that a step beyond it is seen. */
	struct sock_filter *prog = malloc(len * sizeof(*prog));
	if (!prog)
		return 0;
	memcpy(prog, data, len * sizeof(*prog));
	size_t rest = size < sizeof(call) ? size : sizeof(call);
	memcpy(&call, data + size - rest, rest);
	if (!bpf_check(prog, len) && bpf_run(prog, &call) != bpf_run(prog, &call))
		abort();
	free(prog);
	return 0;
}

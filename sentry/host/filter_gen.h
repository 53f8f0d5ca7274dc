/* What the filters' generators share: printing a libseccomp filter as a C array. */
#pragma once

#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <unistd.h>

/* A masked comparison of descriptors, ioctl numbers and flags: they are 32-bit, and the upper half
 * of the register is not looked at. */
#define FILTER_EQ(arg, value) SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, 0xffffffffUL, (uint32_t)(value))

static inline int filter_print(scmp_filter_ctx ctx, const char *name)
{
	struct sock_filter insn;
	FILE *f = tmpfile();

	if (!f || seccomp_export_bpf(ctx, fileno(f)) || lseek(fileno(f), 0, SEEK_SET))
		return -1;
	printf("#include <linux/filter.h>\n\nstatic const struct sock_filter %s[] = {\n", name);
	while (read(fileno(f), &insn, sizeof(insn)) == sizeof(insn))
		printf("\t{0x%x, %u, %u, 0x%x},\n", insn.code, insn.jt, insn.jf, insn.k);
	printf("};\n");
	fclose(f);
	return 0;
}

/*
 * Notes of core files, x86-64.  <sys/procfs.h> has them too, but brings <sys/user.h>, whose
 * PAGE_SIZE clashes.  Source: core(5), include/uapi/linux/elfcore.h.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

struct linux_prstatus {
	int32_t si_signo, si_code, si_errno;
	int16_t cursig;
	uint64_t sigpend, sighold;
	int32_t pid, ppid, pgrp, sid;
	struct timeval utime, stime, cutime, cstime;
	uint64_t reg[27]; /* struct user_regs_struct */
	int32_t fpvalid;
};

struct linux_prpsinfo {
	char state, sname, zomb, nice;
	uint64_t flag;
	uint32_t uid, gid;
	int32_t pid, ppid, pgrp, sid;
	char fname[16], psargs[80];
};

_Static_assert(sizeof(struct linux_prstatus) == 336, "prstatus");
_Static_assert(offsetof(struct linux_prstatus, reg) == 112, "prstatus.pr_reg");
_Static_assert(sizeof(struct linux_prpsinfo) == 136, "prpsinfo");
_Static_assert(offsetof(struct linux_prpsinfo, fname) == 40, "prpsinfo.pr_fname");

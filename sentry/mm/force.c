/*
 * Writes that the mapping's protection forbids: breakpoints in program text.  The host's procfs
 * writes to private copies of pages, as it does for the host's own debuggers; mappings that are
 * shared and not writable are refused, as by Linux.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/host/reopen.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

size_t mm_write_host(struct mm *mm, uint64_t addr, const void *src, size_t n)
{
	char name[32];

	if (host_proc_fd() < 0 || atomic_load(&mm->gone))
		return 0;
	snprintf(name, sizeof(name), "%d/mem", (int)mm->pf->ops->host_pid(mm->as));
	int fd = openat(host_proc_fd(), name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t done = pwrite(fd, src, n, (off_t)addr);
	close(fd);
	return done > 0 ? (size_t)done : 0;
}

size_t mm_write_forced(struct mm *mm, uint64_t addr, const void *src, size_t n)
{
	const struct umem um = {.mm = mm};
	size_t done = 0;
	struct vma v;

	while (done < n && mm_lookup(mm, addr + done, &v)) {
		size_t part = MIN(n - done, v.end - (addr + done)), moved = 0;
		const char *from = (const char *)src + done;
		if (v.prot & PROT_WRITE)
			moved = copy_out_partial(&um, UADDR(addr + done), from, part);
		else if (!(v.flags & MAP_SHARED))
			moved = mm_write_host(mm, addr + done, from, part);
		file_put(v.file);
		done += moved;
		if (moved < part)
			break;
	}
	return done;
}

/* mov $SYS_clock_gettime, %eax; syscall; ret */
static const uint8_t ask_by_call[] = {0xb8, 0xe4, 0, 0, 0, 0x0f, 0x05, 0xc3};

/*
 * The host's kernel does not split this mapping, so its protection changes as a whole.  Nothing
 * comes of it when the guest has put something else there: then it looks for itself.
 */
void mm_hide_vdso_clock(struct mm *mm, struct p_thread *th)
{
	const struct platform_ops *ops = mm->pf->ops;
	const struct p_limits *lim = ops->limits(mm->pf);
	struct p_memop op = {.kind = P_MEMOP_PROTECT,
			     .addr = lim->vdso_base,
			     .len = lim->vdso_len,
			     .prot = PROT_READ | PROT_WRITE,
			     .fd = -1};

	mutex_lock(&mm->map_lock, &lc_mm_map);
	const struct vma *v = lim->vdso_clock ? vma_find(mm, lim->vdso_clock) : NULL;
	if (v && v->start == lim->vdso_base && v->name && !strcmp(v->name, "[vdso]") &&
	    !mm_run(mm, th, &op, 1)) {
		(void)!ops->copy_out(mm->as, th, lim->vdso_clock, ask_by_call, sizeof(ask_by_call));
		op.prot = mm_host_prot(v->prot);
		(void)!mm_run(mm, th, &op, 1);
	}
	mutex_unlock(&mm->map_lock, &lc_mm_map);
}

/*
 * Writes that the mapping's protection forbids: breakpoints in program text.  The host's procfs
 * writes to private copies of pages, as it does for the host's own debuggers; mappings that are
 * shared and not writable are refused, as by Linux.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/host/reopen.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"
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

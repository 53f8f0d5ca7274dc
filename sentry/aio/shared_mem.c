#include "sentry/aio/shared_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int shared_mem_create(uint64_t size, struct shared_mem *out)
{
	int fd = memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		int err = -errno;
		close(fd);
		return err;
	}
	out->fd = fd;
	return 0;
}

void *shared_mem_map(const struct shared_mem *m, uint64_t off, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, (off_t)off);
	return p == MAP_FAILED ? NULL : p;
}

void shared_mem_unmap(void *p, size_t len)
{
	if (p)
		munmap(p, len);
}

void shared_mem_close(struct shared_mem *m)
{
	close(m->fd);
	m->fd = -1;
}

/* Memory: mmap(2) and its family, and process_vm_readv(2). */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/lib/cleanup.h"
#include "sentry/mm/mm.h"
#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"
#include "sentry/kernel/pid.h"
#include "syscalls/remote_mm.h"
#include "syscalls/syscalls.h"

/* personality(2), READ_IMPLIES_EXEC: where the file system does not forbid it. */
static bool implies_exec(const struct task *t, uint64_t prot, const struct file *f)
{
	bool noexec = f && f->path.mnt && f->path.mnt->flags & MS_NOEXEC;

	return prot & PROT_READ && t->personality & READ_IMPLIES_EXEC && !noexec;
}

long sys_mmap(struct task *t, uint64_t addr, uint64_t len, int prot, int flags, int fd,
	      uint64_t offset)
{
	CLEANUP_FILE struct file *file = NULL;
	uint64_t out;

	if (offset & ~PAGE_MASK)
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS)) {
		file = fdtable_file(t->fds, fd);
		if (!file)
			return -EBADF;
	}
	if (implies_exec(t, (uint64_t)prot, file))
		prot |= PROT_EXEC;
	const struct mm_map_args a = {
		.addr = addr,
		.len = len,
		.prot = prot,
		.flags = flags,
		.file = file,
		.off = file ? offset : 0,
		.lock_exempt = task_capable(t, CAP_IPC_LOCK),
	};
	int err = mm_map(t->mm, t->pt, &a, &out);
	return err ? err : (long)out;
}

long sys_munmap(struct task *t, uint64_t addr, uint64_t len)
{
	return mm_unmap(t->mm, t->pt, addr, len);
}

long sys_mprotect(struct task *t, uint64_t addr, uint64_t len, uint64_t prot)
{
	/* Bits above the low word are as unknown as those in it. */
	if (prot > INT32_MAX)
		return -EINVAL;
	if (implies_exec(t, prot, NULL))
		prot |= PROT_EXEC;
	return mm_protect(t->mm, t->pt, addr, len, (int)prot);
}

long sys_mremap(struct task *t, uint64_t addr, uint64_t old_len, uint64_t new_len, uint64_t flags,
		uint64_t new_addr)
{
	uint64_t out;

	if (flags > INT32_MAX)
		return -EINVAL;
	int err = mm_remap(t->mm, t->pt, addr, old_len, new_len, (int)flags, new_addr, &out);
	return err ? err : (long)out;
}

long sys_madvise(struct task *t, uint64_t addr, uint64_t len, int advice)
{
	return mm_advise(t->mm, t->pt, addr, len, advice);
}

long sys_msync(struct task *t, uint64_t addr, uint64_t len, int flags)
{
	return mm_sync(t->mm, addr, len, flags);
}

long sys_brk(struct task *t, uint64_t brk)
{
	return (long)mm_brk(t->mm, t->pt, brk);
}

long sys_mseal(struct task *t, uint64_t addr, uint64_t len, uint64_t flags)
{
	return flags ? -EINVAL : mm_seal(t->mm, addr, len);
}

long sys_remap_file_pages(struct task *t, uint64_t addr, uint64_t len, uint64_t prot, uint64_t page,
			  uint64_t flags)
{
	(void)flags; /* MAP_NONBLOCK would only keep pages from being brought in */
	if (prot)
		return -EINVAL;
	return mm_remap_file(t->mm, t->pt, addr, len, page, task_capable(t, CAP_IPC_LOCK));
}

/* Pages a step of mincore: one byte each goes through a buffer. */
#define MINCORE_STEP 4096UL

long sys_mincore(struct task *t, uint64_t addr, uint64_t len, uaddr_t vec)
{
	if (addr & ~PAGE_MASK)
		return -EINVAL;
	if (addr > t->mm->task_size || len > t->mm->task_size - addr)
		return -ENOMEM;
	uint64_t pages = page_up(len) >> PAGE_SHIFT;
	if (vec.v > t->mm->task_size || pages > t->mm->task_size - vec.v)
		return -EFAULT;
	CLEANUP_FREE uint8_t *buf = malloc(MINCORE_STEP);
	if (!buf)
		return -EAGAIN;

	while (pages) {
		uint64_t n = MIN(pages, MINCORE_STEP);
		int err = mm_mincore(t->mm, addr, n << PAGE_SHIFT, buf);
		if (!err)
			err = copy_out(&t->um, vec, buf, n);
		if (err)
			return err;
		addr += n << PAGE_SHIFT;
		vec = uaddr_add(vec, n);
		pages -= n;
	}
	return 0;
}

/* ---- mlock: RLIMIT_MEMLOCK and the guest's own accounts; nothing is pinned on the host ---- */

/* Linux brings the pages in; failing to do so is reported, the lock stays. */
static long populate(struct task *t, uint64_t addr, uint64_t len)
{
	uint64_t start = page_down(addr);

	len = page_up(len + (addr - start));
	if (mm_may_access(t->mm, start, len, true))
		return mm_advise(t->mm, t->pt, start, len, MADV_POPULATE_WRITE);
	if (mm_may_access(t->mm, start, len, false))
		return mm_advise(t->mm, t->pt, start, len, MADV_POPULATE_READ);
	return 0;
}

static long do_mlock(struct task *t, uint64_t addr, uint64_t len, bool on_fault)
{
	int err = mm_lock_allowed(t->mm, addr, len, task_capable(t, CAP_IPC_LOCK));

	if (!err)
		err = mm_lock_range(t->mm, addr, len, true);
	if (err || on_fault || !len)
		return err;
	/* Pages that cannot come in (beyond the end of a file): ENOMEM, as mlock(2) says. */
	return populate(t, addr, len) ? -ENOMEM : 0;
}

long sys_mlock(struct task *t, uint64_t addr, uint64_t len)
{
	return do_mlock(t, addr, len, false);
}

long sys_mlock2(struct task *t, uint64_t addr, uint64_t len, int flags)
{
	if (flags & ~MLOCK_ONFAULT)
		return -EINVAL;
	return do_mlock(t, addr, len, flags & MLOCK_ONFAULT);
}

long sys_munlock(struct task *t, uint64_t addr, uint64_t len)
{
	return mm_lock_range(t->mm, addr, len, false);
}

long sys_mlockall(struct task *t, int flags)
{
	if (!flags || flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) || flags == MCL_ONFAULT)
		return -EINVAL;
	return mm_lock_all(t->mm, flags & MCL_CURRENT, flags & MCL_FUTURE,
			   task_capable(t, CAP_IPC_LOCK));
}

long sys_munlockall(struct task *t)
{
	mm_unlock_all(t->mm);
	return 0;
}

/* ---- process_vm_readv, process_vm_writev ---- */

int remote_mm(struct task *t, int pid, struct mm **out)
{
	if (!pid) {
		*out = mm_get(t->mm);
		return 0;
	}
	mutex_lock(&t->k->tasks_lock, &lc_tasks);
	struct task *other = task_named(t, pid);
	if (other)
		task_get(other);
	mutex_unlock(&t->k->tasks_lock, &lc_tasks);
	if (!other)
		return -ESRCH;

	struct mm *mm = task_mm_get(other);
	int err = !mm ? -ESRCH : task_may_ptrace(t, other, false) ? 0 : -EPERM;
	task_put(other);
	if (err)
		mm_put(mm);
	else
		*out = mm;
	return err;
}

#define VM_CHUNK 65536

/* Moves between the local buffer and one remote range; false when a fault stopped it. */
static bool move_range(struct uio *local, const struct umem *remote, const struct uio_seg *seg,
		       char *buf, bool write, long *done)
{
	uint64_t at = 0;

	while (at < seg->len && local->left) {
		size_t n = MIN(seg->len - at, (uint64_t)VM_CHUNK), moved = 0;
		n = MIN(n, local->left);
		if (write) {
			ssize_t got = uio_get(local, buf, n);
			if (got > 0)
				moved = copy_out_partial(remote, UADDR(seg->base + at), buf,
							 (size_t)got);
		} else {
			size_t got = copy_in_partial(remote, buf, UADDR(seg->base + at), n);
			ssize_t put = got ? uio_put(local, buf, got) : 0;
			moved = put > 0 ? (size_t)put : 0;
		}
		*done += (long)moved;
		at += moved;
		if (moved < n)
			return false;
	}
	return true;
}

static long process_vm_rw(struct task *t, int pid, uaddr_t local, uint64_t nlocal, uaddr_t remote,
			  uint64_t nremote, uint64_t flags, bool write)
{
	if (flags)
		return -EINVAL;
	CLEANUP_FREE struct uio_seg *segs = calloc(2 * UIO_MAXIOV, sizeof(*segs));
	CLEANUP_FREE char *buf = malloc(VM_CHUNK);
	if (!segs || !buf)
		return -ENOMEM;

	struct uio lio, rio;
	struct uio_seg *remote_segs = segs + UIO_MAXIOV;
	int err = uio_import(&lio, segs, &t->um, local, nlocal);
	if (err || !lio.left)
		return err;
	if ((err = uio_import(&rio, remote_segs, &t->um, remote, nremote)))
		return err;

	struct mm *mm;
	if ((err = remote_mm(t, pid, &mm)))
		return err;
	const struct umem um = {.mm = mm};
	long done = 0;
	bool ok = true;
	for (size_t i = 0; ok && i < rio.nsegs && lio.left; i++)
		ok = move_range(&lio, &um, &remote_segs[i], buf, write, &done);
	mm_put(mm);
	return ok || done ? done : -EFAULT;
}

long sys_process_vm_readv(struct task *t, int pid, uaddr_t local, uint64_t nlocal, uaddr_t remote,
			  uint64_t nremote, uint64_t flags)
{
	return process_vm_rw(t, pid, local, nlocal, remote, nremote, flags, false);
}

long sys_process_vm_writev(struct task *t, int pid, uaddr_t local, uint64_t nlocal, uaddr_t remote,
			   uint64_t nremote, uint64_t flags)
{
	return process_vm_rw(t, pid, local, nlocal, remote, nremote, flags, true);
}

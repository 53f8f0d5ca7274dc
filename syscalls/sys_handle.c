/* name_to_handle_at(2), open_by_handle_at(2). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>

#include "sentry/vfs/handle.h"
#include "sentry/vfs/mount.h"
#include "syscalls/file_io.h"
#include "syscalls/syscalls.h"

#define LINUX_AT_HANDLE_MNT_ID_UNIQUE 1
#define LINUX_AT_HANDLE_FID 0x200
#define HANDLE_TYPE 1 /* FILEID_INO32_GEN */
#define LINUX_MAX_HANDLE_SZ 128

struct handle_head {
	uint32_t bytes;
	int32_t type;
};

static int put_mount_id(struct task *t, uaddr_t to, const struct mount *m, int flags)
{
	uint64_t unique = mount_unique_id(m);
	int id = m->id;

	return flags & LINUX_AT_HANDLE_MNT_ID_UNIQUE ? copy_out_val(&t->um, to, &unique)
						     : copy_out_val(&t->um, to, &id);
}

long sys_name_to_handle_at(struct task *t, int dirfd, uaddr_t name, uaddr_t handle,
			   uaddr_t mount_id, int flags)
{
	const int known = AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | LINUX_AT_HANDLE_FID |
			  LINUX_AT_HANDLE_MNT_ID_UNIQUE;
	CLEANUP_PATH struct path p = {NULL, NULL};
	struct handle_head head;
	struct vfs_handle h;

	if (flags & ~known)
		return -EINVAL;
	int err = path_at(t, dirfd, name,
			  (flags & AT_SYMLINK_FOLLOW ? 0 : WALK_NOFOLLOW) |
				  (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
			  &p);
	if (err || (err = handle_make(p, &h)))
		return err;
	if (copy_in_val(&t->um, &head, handle))
		return -EFAULT;
	if (head.bytes > LINUX_MAX_HANDLE_SZ)
		return -EINVAL;
	bool fits = head.bytes >= sizeof(h);
	head = (struct handle_head){sizeof(h), HANDLE_TYPE};
	if (copy_out_val(&t->um, handle, &head) || put_mount_id(t, mount_id, p.mnt, flags) ||
	    (fits && copy_out_val(&t->um, uaddr_add(handle, sizeof(head)), &h)))
		return -EFAULT;
	return fits ? 0 : -EOVERFLOW;
}

/* The mount that a descriptor, or the working directory, is on. */
static int mount_of(struct task *t, int fd, struct path *out)
{
	struct walk_env env;
	int err = task_walk_env(t, fd, "", &env);

	if (err)
		return err;
	*out = path_get(env.start);
	walk_env_fini(&env);
	return 0;
}

long sys_open_by_handle_at(struct task *t, int mount_fd, uaddr_t handle, int flags)
{
	CLEANUP_PATH struct path on = {NULL, NULL}, p = {NULL, NULL};
	struct handle_head head;
	struct vfs_handle h;
	struct file *f;
	int err;

	if (copy_in_val(&t->um, &head, handle))
		return -EFAULT;
	if (head.bytes > LINUX_MAX_HANDLE_SZ || !head.bytes || head.type < 0)
		return -EINVAL;
	if ((err = mount_of(t, mount_fd, &on)))
		return err;
	if (!task_capable(t, CAP_DAC_READ_SEARCH))
		return -EPERM;
	if (head.type != HANDLE_TYPE || head.bytes < sizeof(h))
		return -ESTALE;
	if (copy_in_val(&t->um, &h, uaddr_add(handle, sizeof(head))))
		return -EFAULT;
	if ((err = handle_find(on.mnt, &h, &p)))
		return err;
	const struct walk_env env = {.root = p, .start = p, .cred = t->cred};
	if ((err = vfs_open(&env, "", flags & ~(O_CREAT | O_EXCL), 0, WALK_EMPTY, &f)))
		return err;
	if ((err = io_open_wait(t, f))) {
		file_put(f);
		return err;
	}
	return fdtable_install(t->fds, task_rlimit(t, RLIMIT_NOFILE), f, flags & O_CLOEXEC);
}

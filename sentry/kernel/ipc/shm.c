/*
 * Shared memory: a segment is a file in memory.  Each shmat makes an open file of its own for it,
 * which the mapping refers to: every VMA holds a reference (forks and splits take more), so that
 * the references are the number of attachments, and its release is the last detach.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/kernel/ipc/ids.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/vma.h"
#include "sentry/vfs/file.h"

#define SHM_NAME_SIZE 32

struct shm_segment {
	struct ipc_object obj;
	struct file *file;	      /* reference; immutable */
	uint64_t size;		      /* immutable */
	struct list_head attachments; /* of struct shm_attachment */
	int64_t atime, dtime, ctime;
	int cpid, lpid;
};

/* What an attached file refers to. */
struct shm_attachment {
	struct list_head link;
	struct shm_segment *seg;
	struct file *file; /* borrowed: its owner */
};

int (*ipc_shm_file)(const char *name, uint64_t size, struct file **out);

static struct shm_segment *segment_of(struct ipc_object *o)
{
	return container_of(o, struct shm_segment, obj);
}

static int lookup(struct ipc_ns *ns, int id, struct shm_segment **out)
{
	struct ipc_object *o;
	int err = ipc_lookup(&ns->shm, id, &o);

	if (!err)
		*out = segment_of(o);
	return err;
}

/* Takes the segment out of the tables; the caller frees it after unlocking. */
static void unlink_segment(struct shm_segment *s)
{
	struct ipc_ns *ns = s->obj.ns;

	ipc_remove(&ns->shm, &s->obj);
	ns->shm_pages -= page_up(s->size) >> PAGE_SHIFT;
}

static void free_segment(struct shm_segment *s)
{
	if (!s)
		return;
	file_put(s->file);
	free(s);
}

/* The namespace goes, and nobody has a segment of it attached. */
void shm_ns_fini(struct ipc_ns *ns)
{
	struct ipc_object *o;

	for (unsigned i = 0; (o = ipc_next(&ns->shm, &i)); i++)
		free_segment(segment_of(o));
}

static uint64_t count_attachments(const struct shm_segment *s)
{
	const struct shm_attachment *a;
	uint64_t n = 0;

	list_for_each (a, &s->attachments, link)
		n += ref_read(&a->file->ref);
	return n;
}

/* ---- making ---- */

static struct shm_segment *segment_new(struct task *t, int key, uint64_t size, int *err)
{
	struct shm_segment *s = calloc(1, sizeof(*s));
	char name[SHM_NAME_SIZE];

	*err = -ENOMEM;
	if (!s)
		return NULL;
	snprintf(name, sizeof(name), "/SYSV%08x (deleted)", (unsigned)key);
	if ((*err = ipc_shm_file(name, size, &s->file))) {
		free(s);
		return NULL;
	}
	list_init(&s->attachments);
	s->size = size;
	s->ctime = ipc_now();
	s->cpid = t->tg->tgid;
	return s;
}

/* The existing segment of the key, or -ENOENT; 0: there is none, make one. */
static int find_existing(struct task *t, int key, uint64_t size, int flags, int *id)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;
	int found = ipc_search(&ns->shm, key, flags, &o);

	if (found <= 0)
		return found;
	if (segment_of(o)->size < size)
		return -EINVAL;
	int err = ipc_permitted(o, flags, t->cred);
	*id = o->id;
	return err ? err : 1;
}

int shm_get(struct task *t, int key, uint64_t size, int flags)
{
	struct ipc_ns *ns = task_ipc(t);
	int id = 0, err;

	mutex_lock(&ns->lock, &lc_ipc);
	int found = find_existing(t, key, size, flags, &id);
	mutex_unlock(&ns->lock, &lc_ipc);
	if (found)
		return found < 0 ? found : id;

	if (size == 0 || size > ipc_limit(ns, IPC_SHMMAX))
		return -EINVAL;
	if (page_up(size) < size)
		return -ENOSPC;
	/* As on a host whose pool of huge pages is empty. */
	if (flags & SHM_HUGETLB)
		return -ENOMEM;
	if (!ipc_shm_file)
		return -ENOSYS;
	if (!(flags & SHM_NORESERVE) && !mm_may_commit(page_up(size)))
		return -ENOMEM;
	struct shm_segment *s = segment_new(t, key, size, &err);
	if (!s)
		return err;

	/* Somebody may have been quicker meanwhile. */
	mutex_lock(&ns->lock, &lc_ipc);
	found = find_existing(t, key, size, flags, &id);
	uint64_t pages = page_up(size) >> PAGE_SHIFT;
	if (found == 0 && ns->shm_pages + pages > ipc_limit(ns, IPC_SHMALL))
		found = -ENOSPC;
	if (found == 0 && !(found = ipc_add(&ns->shm, &s->obj, key, flags, t->cred))) {
		ns->shm_pages += pages;
		s->file->inode->ino = (uint64_t)s->obj.id; /* as /proc/PID/maps shows it */
		id = s->obj.id;
		s = NULL;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	free_segment(s);
	return found < 0 ? found : id;
}

/* ---- attached files ---- */

static int attached_map_fd(struct file *f, bool shared, int *fd)
{
	struct shm_attachment *a = f->priv;

	/* f has the segment's inode and its own access mode, which is all that is looked at. */
	return a->seg->file->ops->map_fd(f, shared, fd);
}

static int attached_fsync(struct file *f, bool datasync)
{
	(void)f, (void)datasync;
	return 0;
}

static int attached_fallocate(struct file *f, int mode, int64_t off, int64_t len)
{
	struct shm_attachment *a = f->priv;

	return file_fallocate(a->seg->file, mode, off, len);
}

static void attached_release(struct file *f)
{
	struct shm_attachment *a = f->priv;
	struct shm_segment *s = a->seg, *dead = NULL;
	struct ipc_ns *ns = s->obj.ns;
	struct task *t = task_current();

	mutex_lock(&ns->lock, &lc_ipc);
	list_del(&a->link);
	s->dtime = ipc_now();
	if (t)
		s->lpid = t->tg->tgid;
	if (list_empty(&s->attachments) && s->obj.mode & SHM_DEST) {
		unlink_segment(s);
		dead = s;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	free_segment(dead);
	free(a);
	ns_put(&ns->ns);
}

static const struct file_ops attached_ops = {
	.map_fd = attached_map_fd,
	.fsync = attached_fsync,
	.fallocate = attached_fallocate,
	.release = attached_release,
};

static int access_of(int flags, int *prot)
{
	int want = IPC_READ;

	*prot = PROT_READ;
	if (!(flags & SHM_RDONLY)) {
		*prot |= PROT_WRITE;
		want |= IPC_WRITE;
	}
	if (flags & SHM_EXEC) {
		*prot |= PROT_EXEC;
		want |= 0111;
	}
	return want;
}

/* The segment with one more attachment: *out is its file, with a reference. */
static int attachment_new(struct task *t, int id, int want, int open_flags, struct file **out,
			  uint64_t *size)
{
	struct ipc_ns *ns = task_ipc(t);
	struct shm_attachment *a = calloc(1, sizeof(*a));
	struct shm_segment *s;
	struct file *f = NULL;

	if (!a)
		return -ENOMEM;
	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup(ns, id, &s);
	if (!err)
		err = ipc_permitted(&s->obj, want, t->cred);
	if (!err && !(f = file_new(s->file->path, open_flags)))
		err = -ENOMEM;
	if (!err) {
		f->ops = &attached_ops;
		f->priv = a;
		a->seg = s;
		ns_get(&ns->ns); /* a mapping keeps the namespace */
		a->file = f;
		list_add_tail(&a->link, &s->attachments);
		s->atime = ipc_now();
		s->lpid = t->tg->tgid;
		*size = s->size;
		*out = f;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	if (err)
		free(a);
	return err;
}

int shm_attach(struct task *t, int id, uint64_t addr, int flags, uint64_t *out)
{
	struct mm_map_args m = {.flags = MAP_SHARED, .lock_exempt = task_capable(t, CAP_IPC_LOCK)};

	if (id < 0)
		return -EINVAL;
	if (addr & ~PAGE_MASK) {
		if (!(flags & SHM_RND))
			return -EINVAL;
		addr = page_down(addr);
	}
	if (!addr && flags & SHM_REMAP)
		return -EINVAL;
	int want = access_of(flags, &m.prot);
	struct file *f;
	uint64_t size;
	int err = attachment_new(t, id, want, flags & SHM_RDONLY ? O_RDONLY : O_RDWR, &f, &size);
	if (err)
		return err;
	m.addr = addr;
	m.len = size;
	m.file = f;
	if (addr)
		m.flags |= flags & SHM_REMAP ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	if (addr && addr + page_up(size) < addr)
		err = -EINVAL;
	else
		err = mm_map(t->mm, t->pt, &m, out);
	file_put(f);
	return err == -EEXIST ? -EINVAL : err;
}

/* The pieces of one attachment from addr on. */
struct detach {
	struct task *t;
	uint64_t addr, size;
	struct file *file; /* reference, once the first piece was found */
	int err;
};

static int detach_piece(const struct vma *v, void *arg)
{
	struct detach *d = arg;

	if (v->start < d->addr || !v->file || v->file->ops != &attached_ops)
		return 0;
	if (d->file && v->start >= d->addr + page_up(d->size))
		return 1;
	if (v->start - d->addr != v->off || (d->file && v->file != d->file))
		return 0;
	if (!d->file) {
		const struct shm_attachment *a = v->file->priv;
		d->file = file_get(v->file);
		d->size = a->seg->size;
	}
	d->err = mm_unmap(d->t->mm, d->t->pt, v->start, v->end - v->start);
	return d->err;
}

int shm_detach(struct task *t, uint64_t addr)
{
	struct ipc_ns *ns = task_ipc(t);
	struct detach d = {.t = t, .addr = addr};

	if (addr & ~PAGE_MASK)
		return -EINVAL;
	(void)!mm_for_each(t->mm, detach_piece, &d);
	if (!d.file)
		return -EINVAL;
	struct shm_attachment *a = d.file->priv;
	mutex_lock(&ns->lock, &lc_ipc);
	a->seg->dtime = ipc_now();
	a->seg->lpid = t->tg->tgid;
	mutex_unlock(&ns->lock, &lc_ipc);
	file_put(d.file);
	return d.err;
}

/* ---- control ---- */

static void fill(const struct task *t, const struct shm_segment *s, struct shmid_ds *out)
{
	memset(out, 0, sizeof(*out));
	ipc_fill_perm(&s->obj, t->cred->user_ns, &out->shm_perm);
	out->shm_segsz = s->size;
	out->shm_atime = s->atime;
	out->shm_dtime = s->dtime;
	out->shm_ctime = s->ctime;
	out->shm_cpid = pid_to_guest(t, s->cpid);
	out->shm_lpid = pid_to_guest(t, s->lpid);
	out->shm_nattch = count_attachments(s);
}

int shm_stat(struct task *t, int id, enum ipc_find how, struct shmid_ds *out)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int ret = ipc_find(&ns->shm, id, how, t->cred, &o);
	if (!ret) {
		fill(t, segment_of(o), out);
		ret = how == IPC_BY_ID ? 0 : o->id;
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return ret;
}

int shm_set(struct task *t, int id, const struct shmid_ds *in)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->shm, id, t->cred, &o);
	if (!err && !(err = ipc_set_perm(o, &in->shm_perm, t->cred->user_ns)))
		segment_of(o)->ctime = ipc_now();
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

int shm_remove(struct task *t, int id)
{
	struct ipc_ns *ns = task_ipc(t);
	struct shm_segment *dead = NULL;
	struct ipc_object *o;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = ipc_lookup_owned(&ns->shm, id, t->cred, &o);
	if (!err && list_empty(&segment_of(o)->attachments)) {
		dead = segment_of(o);
		unlink_segment(dead);
	} else if (!err) {
		o->mode |= SHM_DEST;
		o->key = IPC_PRIVATE; /* nobody finds it any more */
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	free_segment(dead);
	return err;
}

int shm_lock(struct task *t, int id, bool lock)
{
	struct ipc_ns *ns = task_ipc(t);
	bool exempt = task_capable(t, CAP_IPC_LOCK);
	uint64_t limit = task_rlimit(t, RLIMIT_MEMLOCK);
	struct shm_segment *s = NULL;

	mutex_lock(&ns->lock, &lc_ipc);
	int err = lookup(ns, id, &s);
	if (!err && !exempt && t->cred->euid != s->obj.uid && t->cred->euid != s->obj.cuid)
		err = -EPERM;
	if (!err && lock && !exempt && !limit)
		err = -EPERM;
	if (!err && lock && !exempt && page_up(s->size) > limit)
		err = -ENOMEM;
	if (!err && lock)
		s->obj.mode |= SHM_LOCKED;
	else if (!err)
		s->obj.mode &= ~(unsigned)SHM_LOCKED;
	mutex_unlock(&ns->lock, &lc_ipc);
	return err;
}

int shm_info(struct task *t, struct shm_info *out)
{
	struct ipc_ns *ns = task_ipc(t);

	memset(out, 0, sizeof(*out));
	mutex_lock(&ns->lock, &lc_ipc);
	out->used_ids = (int)ns->shm.in_use;
	out->shm_tot = ns->shm_pages;
	int highest = ipc_highest(&ns->shm);
	mutex_unlock(&ns->lock, &lc_ipc);
	return highest;
}

int shm_limits(struct task *t, struct shminfo *out)
{
	struct ipc_ns *ns = task_ipc(t);

	*out = (struct shminfo){
		.shmmax = ipc_limit(ns, IPC_SHMMAX),
		.shmmin = 1,
		.shmmni = ipc_limit(ns, IPC_SHMMNI),
		.shmseg = ipc_limit(ns, IPC_SHMMNI),
		.shmall = ipc_limit(ns, IPC_SHMALL),
	};
	mutex_lock(&ns->lock, &lc_ipc);
	int highest = ipc_highest(&ns->shm);
	mutex_unlock(&ns->lock, &lc_ipc);
	return highest;
}

char *shm_proc_text(struct task *t)
{
	struct ipc_ns *ns = task_ipc(t);
	struct ipc_object *o;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	fprintf(out, "       key      shmid perms                  size  cpid  lpid nattch   uid"
		     "   gid  cuid  cgid      atime      dtime      ctime                   rss"
		     "                  swap\n");
	mutex_lock(&ns->lock, &lc_ipc);
	for (unsigned i = 0; (o = ipc_next(&ns->shm, &i)); i++) {
		const struct shm_segment *s = segment_of(o);
		fprintf(out,
			"%10d %10d  %4o %21lu %5u %5u  %5lu %5u %5u %5u %5u %10lu %10lu %10lu "
			"%21lu %21lu\n",
			o->key, o->id, o->mode, s->size, (unsigned)pid_to_guest(t, s->cpid),
			(unsigned)pid_to_guest(t, s->lpid), count_attachments(s), o->uid, o->gid,
			o->cuid, o->cgid, s->atime, s->dtime, s->ctime, 0UL, 0UL);
	}
	mutex_unlock(&ns->lock, &lc_ipc);
	return fclose(out) ? (free(text), NULL) : text;
}

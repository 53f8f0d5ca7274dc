/* /proc/PID/maps, statm and mem. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"

void proc_put_file_name(struct text *out, struct file *f)
{
	struct task *me = task_current();
	char *buf = malloc(VFS_PATH_MAX * 2), *start;

	if (!buf || !me) {
		free(buf);
		return;
	}
	mutex_lock(&me->fs->lock, &lc_fs);
	struct path root = path_get(me->fs->root);
	mutex_unlock(&me->fs->lock, &lc_fs);
	ssize_t n = path_name(f->path, root, buf, VFS_PATH_MAX * 2, true, &start);
	if (n >= 0)
		text_put_escaped(out, start, (size_t)n, "\n");
	path_put(root);
	free(buf);
}

void proc_put_map_line(struct text *out, const struct vma *v)
{
	struct kstat st = {0};
	size_t line = out->len;

	if (v->file && vfs_getattr(v->file->path, &st))
		memset(&st, 0, sizeof(st));
	text_printf(out, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ",
		    (unsigned long long)v->start, (unsigned long long)v->end,
		    v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
		    v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p',
		    (unsigned long long)(v->file ? v->off : 0), major(st.dev), minor(st.dev),
		    (unsigned long long)st.ino);
	if (v->file || v->name) {
		while (out->len - line < 73 && !out->failed)
			text_putc(out, ' ');
		if (v->file)
			proc_put_file_name(out, v->file);
		else
			text_puts(out, v->name);
	}
	text_putc(out, '\n');
}

static int put_map(const struct vma *v, void *out)
{
	proc_put_map_line(out, v);
	return 0;
}

static int show_maps(struct text *out, void *task)
{
	struct mm *mm = task_mm_get(task);

	if (!mm)
		return 0;
	int err = mm_for_each(mm, put_map, out);
	mm_put(mm);
	return err;
}

static int show_statm(struct text *out, void *task)
{
	struct mm *mm = task_mm_get(task);

	if (!mm) {
		text_puts(out, "0 0 0 0 0 0 0\n");
		return 0;
	}
	uint64_t rss = mm_resident_pages(mm);
	text_printf(out, "%llu %llu %llu %llu 0 %llu 0\n", (unsigned long long)mm->total_pages,
		    (unsigned long long)rss, (unsigned long long)mm->shared_pages,
		    (unsigned long long)((mm->code_end - mm->code_start) >> PAGE_SHIFT),
		    (unsigned long long)(mm->data_pages + mm->stack_pages));
	mm_put(mm);
	return 0;
}

int proc_may_look(struct inode *in, struct file *f, void *task)
{
	(void)in, (void)f;
	return proc_may_access(task) ? 0 : -EACCES;
}

#define COMMON .common = {.free_arg = proc_task_free, .may_open = proc_may_look}
const struct synth_file_ops proc_maps_ops = {COMMON, .show = show_maps};
const struct synth_file_ops proc_statm_ops = {.common.free_arg = proc_task_free,
					      .show = show_statm};

/* ---- mem: the address space as a file; the position is the address ---- */

static ssize_t mem_move(struct file *f, struct uio *io, int64_t *off, bool write)
{
	struct mm *mm = f->priv;
	struct umem um = {.mm = mm};
	char *page = malloc(PAGE_SIZE);
	ssize_t done = 0, ret = 0;

	if (!page)
		return -ENOMEM;
	while (io->left) {
		uint64_t at = (uint64_t)*off;
		size_t n = MIN(io->left, PAGE_SIZE - at % PAGE_SIZE);
		if (write) {
			ret = uio_get(io, page, n);
			if (ret > 0)
				ret = (ssize_t)mm_write_forced(mm, at, page, (size_t)ret);
		} else {
			n = copy_in_partial(&um, page, UADDR(at), n);
			ret = n ? uio_put(io, page, n) : 0;
		}
		if (ret <= 0)
			break;
		done += ret;
		*off += ret;
	}
	free(page);
	/* Nothing there: EIO, as Linux. */
	return done ? done : ret < 0 ? ret : io->left ? -EIO : 0;
}

static ssize_t mem_read(struct file *f, struct uio *io, int64_t *off)
{
	return mem_move(f, io, off, false);
}

static ssize_t mem_write(struct file *f, struct uio *io, int64_t *off)
{
	return mem_move(f, io, off, true);
}

static int64_t mem_llseek(struct file *f, int64_t off, int whence)
{
	if (whence == 1 /* SEEK_CUR */)
		off += atomic_load(&f->pos);
	else if (whence != 0)
		return -EINVAL;
	return off;
}

static void mem_release(struct file *f)
{
	mm_put(f->priv);
}

static const struct file_ops mem_file_ops = {
	.read = mem_read, .write = mem_write, .llseek = mem_llseek, .release = mem_release};

static int mem_open(struct inode *in, struct file *f, void *task)
{
	(void)in;
	struct mm *mm = task_mm_get(task);
	if (!mm)
		return -ESRCH;
	f->priv = mm;
	f->ops = &mem_file_ops;
	return 0;
}

const struct synth_file_ops proc_mem_ops = {COMMON, .open = mem_open};

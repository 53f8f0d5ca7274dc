/*
 * /proc/PID/smaps, smaps_rollup, pagemap and numa_maps: what the guest's memory really takes, as
 * the host's page tables say.  Source: proc(5).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/fs/proc/internal.h"
#include "sentry/kernel/run.h"
#include "sentry/lib/cleanup.h"

/* Pages of one mapping, or of all. */
struct tally {
	uint64_t size, resident, anon, exclusive, exclusive_dirty, shared_dirty, swapped, locked;
};

static void tally_vma(struct mm *mm, const struct vma *v, struct tally *t)
{
	CLEANUP_FD int pagemap = mm_pagemap_open(mm);
	uint64_t bits[512];
	uint64_t pages = (v->end - v->start) >> PAGE_SHIFT;

	t->size += pages;
	for (uint64_t at = v->start; at < v->end;) {
		size_t n = MIN((v->end - at) >> PAGE_SHIFT, ARRAY_SIZE(bits));
		size_t known = mm_page_bits(pagemap, at, bits, n);
		for (size_t i = 0; i < known; i++) {
			t->swapped += (bits[i] & MM_PAGE_SWAPPED) != 0;
			if (!(bits[i] & MM_PAGE_PRESENT))
				continue;
			/* The host does not tell which pages were written; private copies were. */
			bool anon = !(bits[i] & MM_PAGE_FILE);
			bool dirty = anon || (v->flags & MAP_SHARED && v->prot & PROT_WRITE);
			bool alone = bits[i] & MM_PAGE_EXCLUSIVE;
			t->resident++;
			t->anon += anon;
			t->exclusive += alone;
			t->exclusive_dirty += alone && dirty;
			t->shared_dirty += !alone && dirty;
		}
		if (known < n)
			break;
		at += n * PAGE_SIZE;
	}
	if (v->locked)
		t->locked += pages;
}

static void put_kb(struct text *out, const char *name, uint64_t pages)
{
	int width = 23 - (int)strlen(name);

	text_printf(out, "%s:%*llu kB\n", name, width,
		    (unsigned long long)pages * (PAGE_SIZE / 1024));
}

/* What smaps and smaps_rollup have in common.  A shared page counts half: the host does not tell
 * how many share it. */
static void put_tally(struct text *out, const struct tally *t)
{
	uint64_t shared = t->resident - t->exclusive;

	put_kb(out, "Rss", t->resident);
	put_kb(out, "Pss", t->exclusive + shared / 2);
	put_kb(out, "Pss_Dirty", t->exclusive_dirty + t->shared_dirty / 2);
	put_kb(out, "Shared_Clean", shared - t->shared_dirty);
	put_kb(out, "Shared_Dirty", t->shared_dirty);
	put_kb(out, "Private_Clean", t->exclusive - t->exclusive_dirty);
	put_kb(out, "Private_Dirty", t->exclusive_dirty);
	put_kb(out, "Referenced", t->resident);
	put_kb(out, "Anonymous", t->anon);
	put_kb(out, "KSM", 0);
	put_kb(out, "LazyFree", 0);
	put_kb(out, "AnonHugePages", 0);
	put_kb(out, "ShmemPmdMapped", 0);
	put_kb(out, "FilePmdMapped", 0);
	put_kb(out, "Shared_Hugetlb", 0);
	put_kb(out, "Private_Hugetlb", 0);
	put_kb(out, "Swap", t->swapped);
	put_kb(out, "SwapPss", t->swapped);
	put_kb(out, "Locked", t->locked);
}

static void put_vm_flags(struct text *out, const struct vma *v)
{
	bool shared = v->flags & MAP_SHARED;
	const struct {
		bool on;
		const char *name;
	} flags[] = {
		{v->prot & PROT_READ, "rd"},
		{v->prot & PROT_WRITE, "wr"},
		{v->prot & PROT_EXEC, "ex"},
		{shared, "sh"},
		{true, "mr"},
		{v->may_write, "mw"},
		{v->may_exec, "me"},
		{shared, "ms"},
		{v->flags & MAP_GROWSDOWN, "gd"},
		{v->locked, "lo"},
		{v->dontfork, "dc"},
		{v->flags & MAP_NORESERVE, "nr"},
		{v->wipeonfork, "wf"},
		{v->dontdump, "dd"},
		{v->sealed, "sl"},
	};

	text_puts(out, "VmFlags:");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].on)
			text_printf(out, " %s", flags[i].name);
	text_puts(out, " \n");
}

struct smaps_walk {
	struct text *out;
	struct mm *mm;
	struct tally all;
	uint64_t first, last;
};

static int put_smap(const struct vma *v, void *arg)
{
	struct smaps_walk *w = arg;
	struct tally t = {0};

	proc_put_map_line(w->out, v);
	tally_vma(w->mm, v, &t);
	put_kb(w->out, "Size", t.size);
	put_kb(w->out, "KernelPageSize", 1);
	put_kb(w->out, "MMUPageSize", 1);
	put_tally(w->out, &t);
	text_printf(w->out, "THPeligible:           0\n");
	put_vm_flags(w->out, v);
	return 0;
}

static int add_smap(const struct vma *v, void *arg)
{
	struct smaps_walk *w = arg;

	if (!w->all.size)
		w->first = v->start;
	w->last = v->end;
	tally_vma(w->mm, v, &w->all);
	return 0;
}

static int put_numa_map(const struct vma *v, void *arg)
{
	struct smaps_walk *w = arg;
	struct tally t = {0};

	tally_vma(w->mm, v, &t);
	text_printf(w->out, "%08llx default", (unsigned long long)v->start);
	if (v->file) {
		text_puts(w->out, " file=");
		proc_put_file_name(w->out, v->file);
	} else if (v->name && !strcmp(v->name, "[heap]")) {
		text_puts(w->out, " heap");
	} else if (v->name && !strcmp(v->name, "[stack]")) {
		text_puts(w->out, " stack");
	}
	if (t.anon)
		text_printf(w->out, " anon=%llu dirty=%llu", (unsigned long long)t.anon,
			    (unsigned long long)t.anon);
	if (t.resident > t.anon)
		text_printf(w->out, " mapped=%llu", (unsigned long long)t.resident);
	if (t.resident)
		text_printf(w->out, " N0=%llu kernelpagesize_kB=4", (unsigned long long)t.resident);
	text_putc(w->out, '\n');
	return 0;
}

static int walk(struct smaps_walk *w, struct task *t, int (*fn)(const struct vma *v, void *arg))
{
	w->mm = task_mm_get(t);
	if (!w->mm)
		return -ESRCH;
	int err = mm_for_each(w->mm, fn, w);
	mm_put(w->mm);
	return err;
}

static int show_smaps(struct text *out, void *task)
{
	struct smaps_walk w = {.out = out};
	int err = walk(&w, task, put_smap);

	return err == -ESRCH ? 0 : err;
}

static int show_numa_maps(struct text *out, void *task)
{
	struct smaps_walk w = {.out = out};
	int err = walk(&w, task, put_numa_map);

	return err == -ESRCH ? 0 : err;
}

static int show_rollup(struct text *out, void *task)
{
	struct smaps_walk w = {.out = out};
	int err = walk(&w, task, add_smap);

	if (err)
		return err;
	text_printf(out, "%08llx-%08llx ---p 00000000 00:00 0 %*s[rollup]\n",
		    (unsigned long long)w.first, (unsigned long long)w.last, 26, "");
	put_tally(out, &w.all);
	return 0;
}

#define COMMON .common = {.free_arg = proc_task_free, .may_open = proc_may_look}
const struct synth_file_ops proc_smaps_ops = {COMMON, .show = show_smaps};
const struct synth_file_ops proc_smaps_rollup_ops = {COMMON, .show = show_rollup};
const struct synth_file_ops proc_numa_maps_ops = {COMMON, .show = show_numa_maps};

/* ---- pagemap: 8 bytes a page; the position is the page's number times 8 ---- */

static ssize_t pagemap_read(struct file *f, struct uio *io, int64_t *off)
{
	struct mm *mm = f->priv;
	CLEANUP_FD int pagemap = mm_pagemap_open(mm);
	uint64_t bits[256];
	ssize_t done = 0;

	if (*off % 8 || io->left % 8)
		return -EINVAL;
	while (io->left) {
		uint64_t page = (uint64_t)*off / 8, end = mm->task_size >> PAGE_SHIFT;
		if (page >= end)
			break;
		size_t n = MIN(io->left / 8, ARRAY_SIZE(bits));
		n = MIN(n, end - page);
		size_t known = mm_page_bits(pagemap, page << PAGE_SHIFT, bits, n);
		memset(bits + known, 0, (n - known) * 8);
		ssize_t put = uio_put(io, bits, n * 8);
		if (put <= 0)
			return done ? done : put;
		done += put;
		*off += put;
		if ((size_t)put < n * 8)
			break;
	}
	return done;
}

static int64_t pagemap_llseek(struct file *f, int64_t off, int whence)
{
	if (whence == 1 /* SEEK_CUR */)
		off += atomic_load(&f->pos);
	else if (whence != 0)
		return -EINVAL;
	return off < 0 ? -EINVAL : off;
}

static void pagemap_release(struct file *f)
{
	mm_put(f->priv);
}

static const struct file_ops pagemap_file_ops = {
	.read = pagemap_read, .llseek = pagemap_llseek, .release = pagemap_release};

static int pagemap_open(struct inode *in, struct file *f, void *task)
{
	struct mm *mm = task_mm_get(task);

	(void)in;
	if (!mm)
		return -ESRCH;
	f->priv = mm;
	f->ops = &pagemap_file_ops;
	return 0;
}

const struct synth_file_ops proc_pagemap_ops = {COMMON, .open = pagemap_open};

/* A core file's contents: headers, notes of all threads, and the memory that the filter lets in. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/abi/elfcore.h"
#include "sentry/arch/xstate.h"
#include "sentry/kernel/core/core.h"
#include "sentry/kernel/pid.h"
#include "sentry/kernel/run.h"
#include "sentry/lib/cleanup.h"
#include "sentry/vfs/file.h"

/* Bits of coredump_filter: core(5). */
enum {
	DUMP_ANON_PRIVATE = 1,
	DUMP_ANON_SHARED = 2,
	DUMP_FILE_PRIVATE = 4,
	DUMP_FILE_SHARED = 8,
	DUMP_ELF_HEADERS = 16,
};

struct segment {
	uint64_t start, end, dumped; /* of the memory, how many bytes are in the file */
	int prot;
	bool sparse; /* pages that were never touched are zero */
};

/* A growing byte string; sticky failure. */
struct bytes {
	char *buf;
	size_t len, cap;
	bool failed;
};

struct dump {
	struct task *t;
	unsigned filter;
	struct segment *segs;
	size_t nsegs, segs_cap;
	struct bytes notes;
	/* NT_FILE in the making: the ranges, and the names behind them. */
	struct bytes file_ranges, file_names;
	uint64_t nfiles;
};

static void bytes_put(struct bytes *b, const void *src, size_t n)
{
	if (b->failed)
		return;
	if (b->len + n > b->cap) {
		size_t cap = MAX(b->cap * 2, b->len + n + 4096);
		char *more = realloc(b->buf, cap);
		if (!more) {
			b->failed = true;
			return;
		}
		b->buf = more;
		b->cap = cap;
	}
	if (n)
		memcpy(b->buf + b->len, src, n);
	b->len += n;
}

static void bytes_align(struct bytes *b)
{
	static const char zeros[4];

	bytes_put(b, zeros, -b->len & 3);
}

static void note_begin(struct bytes *b, const char *owner, uint32_t type, size_t size)
{
	Elf64_Nhdr h = {(uint32_t)strlen(owner) + 1, (uint32_t)size, type};

	bytes_put(b, &h, sizeof(h));
	bytes_put(b, owner, strlen(owner) + 1);
	bytes_align(b);
}

static void note_put(struct bytes *b, const char *owner, uint32_t type, const void *data,
		     size_t size)
{
	note_begin(b, owner, type, size);
	bytes_put(b, data, size);
	bytes_align(b);
}

/* ---- memory ---- */

static bool is_vdso(const struct vma *v)
{
	return v->name && !strcmp(v->name, "[vdso]");
}

/* How much of a mapping the filter wants: Linux's vma_dump_size. */
static uint64_t dumped_bytes(const struct dump *d, const struct vma *v)
{
	uint64_t all = v->end - v->start;
	struct kstat st = {0};

	if (is_vdso(v))
		return all;
	if (v->dontdump || (v->name && !strcmp(v->name, "[vvar]")))
		return 0;
	if (!v->file)
		return d->filter & DUMP_ANON_PRIVATE ? all : 0;
	if (vfs_getattr(v->file->path, &st))
		return 0;
	if (v->flags & MAP_SHARED)
		return d->filter & (st.nlink ? DUMP_FILE_SHARED : DUMP_ANON_SHARED) ? all : 0;
	/* Pages that may have been written are the process's own. */
	if ((v->was_writable || v->prot & PROT_WRITE) && d->filter & DUMP_ANON_PRIVATE)
		return all;
	if (d->filter & DUMP_FILE_PRIVATE)
		return all;
	bool header = d->filter & DUMP_ELF_HEADERS && v->off == 0 && v->prot & PROT_READ;
	return header && st.mode & 0111 ? PAGE_SIZE : 0;
}

static void note_file(struct dump *d, const struct vma *v)
{
	char buf[VFS_PATH_MAX], *start;
	const uint64_t range[3] = {v->start, v->end, v->off / PAGE_SIZE};
	struct fs_context *fs = d->t->fs;

	mutex_lock(&fs->lock, &lc_fs);
	struct path root = path_get(fs->root);
	mutex_unlock(&fs->lock, &lc_fs);
	ssize_t n = path_name(v->file->path, root, buf, sizeof(buf), true, &start);
	path_put(root);
	if (n < 0)
		return;
	bytes_put(&d->file_ranges, range, sizeof(range));
	bytes_put(&d->file_names, start, (size_t)n);
	bytes_put(&d->file_names, "", 1);
	d->nfiles++;
}

static int add_segment(const struct vma *v, void *arg)
{
	struct dump *d = arg;

	if (d->nsegs == d->segs_cap) {
		size_t cap = d->segs_cap ? d->segs_cap * 2 : 64;
		struct segment *more = realloc(d->segs, cap * sizeof(*more));
		if (!more)
			return -ENOMEM;
		d->segs = more;
		d->segs_cap = cap;
	}
	d->segs[d->nsegs++] = (struct segment){.start = v->start,
					       .end = v->end,
					       .dumped = dumped_bytes(d, v),
					       .prot = v->prot,
					       .sparse = !v->file && !is_vdso(v)};
	if (v->file)
		note_file(d, v);
	return 0;
}

#define BATCH 16 /* pages */

static void write_pages(const struct dump *d, struct core_out *o, uint64_t addr, uint64_t len,
			char *buf)
{
	const struct umem um = {.mm = d->t->mm};

	while (len && !o->ended) {
		uint64_t n = MIN(len, (uint64_t)BATCH * PAGE_SIZE);
		uint64_t got = copy_in_partial(&um, buf, UADDR(addr), n) & ~(PAGE_SIZE - 1);
		core_write(o, buf, got);
		if (got < n) { /* one that cannot be read */
			core_skip(o, PAGE_SIZE);
			got += PAGE_SIZE;
		}
		addr += got;
		len -= got;
	}
}

static void write_segment(const struct dump *d, struct core_out *o, const struct segment *s,
			  char *buf)
{
	uint64_t bits[256], end = s->start + s->dumped;

	if (!s->sparse) {
		write_pages(d, o, s->start, s->dumped, buf);
		return;
	}
	CLEANUP_FD int pagemap = mm_pagemap_open(d->t->mm);
	for (uint64_t at = s->start; at < end && !o->ended;) {
		size_t n = (size_t)MIN((end - at) / PAGE_SIZE, ARRAY_SIZE(bits));
		size_t known = mm_page_bits(pagemap, at, bits, n);
		for (size_t i = 0; i < n; i++, at += PAGE_SIZE) {
			if (i < known && !(bits[i] & (MM_PAGE_PRESENT | MM_PAGE_SWAPPED)))
				core_skip(o, PAGE_SIZE);
			else
				write_pages(d, o, at, PAGE_SIZE, buf);
		}
	}
}

/* ---- notes ---- */

static void put_prstatus(struct dump *d, struct task *o, int signo)
{
	struct thread_group *tg = o->tg;
	struct linux_prstatus s;

	memset(&s, 0, sizeof(s));
	s.si_signo = signo;
	s.cursig = (short)signo;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	s.pid = pid_nr_own(o->pid);
	s.ppid = thread_group_ppid(tg);
	s.pgrp = pid_show(tg->pid_ns, tg->pgid);
	s.sid = pid_show(tg->pid_ns, tg->session->sid);
	mutex_lock(&tg->siglock, &lc_signal);
	s.sigpend = o->pending.set;
	s.sighold = o->mask;
	mutex_unlock(&tg->siglock, &lc_signal);
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	s.fpvalid = 1;
	_Static_assert(sizeof(s.reg) == sizeof(struct arch_regs), "prstatus.pr_reg");
	memcpy(&s.reg, kernel->pf->ops->regs(o->pt), sizeof(s.reg));
	note_put(&d->notes, "CORE", NT_PRSTATUS, &s, sizeof(s));
}

static void put_prpsinfo(struct dump *d)
{
	struct task *t = d->t;
	const struct umem um = {.mm = t->mm};
	struct linux_prpsinfo p;

	memset(&p, 0, sizeof(p));
	p.sname = 'R';
	p.nice = (char)t->nice;
	p.uid = t->cred->uid;
	p.gid = t->cred->gid;
	mutex_lock(&kernel->tasks_lock, &lc_tasks);
	p.pid = pid_nr_own(t->tg->pid);
	p.ppid = thread_group_ppid(t->tg);
	p.pgrp = pid_show(t->tg->pid_ns, t->tg->pgid);
	p.sid = pid_show(t->tg->pid_ns, t->tg->session->sid);
	memcpy(p.fname, t->comm, sizeof(p.fname));
	mutex_unlock(&kernel->tasks_lock, &lc_tasks);
	uint64_t len = MIN(t->mm->arg_end - t->mm->arg_start, sizeof(p.psargs) - 1);
	if (t->mm->arg_end > t->mm->arg_start &&
	    copy_in_partial(&um, p.psargs, UADDR(t->mm->arg_start), len) == len)
		for (uint64_t i = 0; i < len; i++)
			if (!p.psargs[i])
				p.psargs[i] = ' ';
	note_put(&d->notes, "CORE", NT_PRPSINFO, &p, sizeof(p));
}

static void put_files(struct dump *d)
{
	const uint64_t head[2] = {d->nfiles, PAGE_SIZE};
	size_t size = sizeof(head) + d->file_ranges.len + d->file_names.len;

	if (!d->nfiles)
		return;
	note_begin(&d->notes, "CORE", NT_FILE, size);
	bytes_put(&d->notes, head, sizeof(head));
	bytes_put(&d->notes, d->file_ranges.buf, d->file_ranges.len);
	bytes_put(&d->notes, d->file_names.buf, d->file_names.len);
	bytes_align(&d->notes);
	d->notes.failed |= d->file_ranges.failed || d->file_names.failed;
}

static void put_xstate(struct dump *d, struct task *o)
{
	const struct p_limits *l = kernel->pf->ops->limits(kernel->pf);
	size_t size = MIN(l->xstate_size, (size_t)ARCH_XSTATE_MAX);
	uint64_t mask = l->xstate_mask;
	uint8_t area[ARCH_XSTATE_MAX];

	if (kernel->pf->ops->xstate_get(o->pt, area, size))
		return;
	note_put(&d->notes, "CORE", NT_PRFPREG, area, XSTATE_LEGACY_SIZE);
	/* Debuggers learn from here which components there are. */
	memcpy(area + ARCH_XSTATE_SW_BYTES, &mask, sizeof(mask));
	note_put(&d->notes, "LINUX", NT_X86_XSTATE, area, size);
}

/* The other threads wait in core_wait, and stay there. */
static void put_threads(struct dump *d, const ksiginfo *info)
{
	struct thread_group *tg = d->t->tg;
	struct task *o, *all[64], **list = all;
	size_t n = 0, max = (size_t)MAX(tg->nthreads, 1);

	if (max > ARRAY_SIZE(all) && !(list = calloc(max, sizeof(*list)))) {
		d->notes.failed = true;
		return;
	}
	mutex_lock(&tg->siglock, &lc_signal);
	list_for_each (o, &tg->threads, thread_link)
		if (o != d->t && n < max)
			list[n++] = o;
	mutex_unlock(&tg->siglock, &lc_signal);
	for (size_t i = 0; i < n; i++) {
		put_prstatus(d, list[i], info->si_signo);
		put_xstate(d, list[i]);
	}
	if (list != all)
		free(list);
}

static void put_notes(struct dump *d, const ksiginfo *info)
{
	put_prstatus(d, d->t, info->si_signo);
	put_prpsinfo(d);
	note_put(&d->notes, "CORE", NT_SIGINFO, info, sizeof(*info));
	note_put(&d->notes, "CORE", NT_AUXV, d->t->mm->auxv, d->t->mm->auxv_words * 8);
	put_files(d);
	put_xstate(d, d->t);
	put_threads(d, info);
}

/* ---- the file ---- */

static void write_headers(const struct dump *d, struct core_out *o)
{
	size_t phnum = d->nsegs + 1;
	Elf64_Ehdr eh = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
			    ELFOSABI_NONE},
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(eh),
		.e_ehsize = sizeof(eh),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = (Elf64_Half)phnum,
	};
	uint64_t off = sizeof(eh) + phnum * sizeof(Elf64_Phdr);
	Elf64_Phdr ph = {
		.p_type = PT_NOTE, .p_offset = off, .p_filesz = d->notes.len, .p_align = 4};

	core_write(o, &eh, sizeof(eh));
	core_write(o, &ph, sizeof(ph));
	off = (off + d->notes.len + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
	for (size_t i = 0; i < d->nsegs; i++) {
		const struct segment *s = &d->segs[i];
		ph = (Elf64_Phdr){.p_type = PT_LOAD,
				  .p_flags = (s->prot & PROT_READ ? PF_R : 0u) |
					     (s->prot & PROT_WRITE ? PF_W : 0u) |
					     (s->prot & PROT_EXEC ? PF_X : 0u),
				  .p_offset = off,
				  .p_vaddr = s->start,
				  .p_filesz = s->dumped,
				  .p_memsz = s->end - s->start,
				  .p_align = PAGE_SIZE};
		core_write(o, &ph, sizeof(ph));
		off += s->dumped;
	}
	core_write(o, d->notes.buf, d->notes.len);
	core_skip(o, -o->pos & (PAGE_SIZE - 1));
}

int core_write_elf(struct task *t, const ksiginfo *info, unsigned filter, struct core_out *o)
{
	struct dump d = {.t = t, .filter = filter};
	CLEANUP_FREE char *buf = malloc((size_t)BATCH * PAGE_SIZE);

	int err = buf ? mm_for_each(t->mm, add_segment, &d) : -ENOMEM;
	/* More would need the extended numbering of elf(5). */
	d.nsegs = MIN(d.nsegs, (size_t)PN_XNUM - 2);
	if (!err)
		put_notes(&d, info);
	if (d.notes.failed)
		err = -ENOMEM;
	if (!err) {
		write_headers(&d, o);
		for (size_t i = 0; i < d.nsegs && !o->ended; i++)
			write_segment(&d, o, &d.segs[i], buf);
	}
	free(d.segs);
	free(d.notes.buf);
	free(d.file_ranges.buf);
	free(d.file_names.buf);
	return err;
}

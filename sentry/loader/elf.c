#include "sentry/loader/elf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PHDRS_MAX_BYTES 65536

int elf_check_header(const void *buf, size_t n, Elf64_Ehdr *eh, struct elf_phdr_place *where)
{
	if (n < sizeof(*eh))
		return -ENOEXEC;
	memcpy(eh, buf, sizeof(*eh));
	if (memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
		return -ENOEXEC;
	if (eh->e_machine != EM_X86_64 || eh->e_phentsize != sizeof(Elf64_Phdr))
		return -ENOEXEC;
	size_t size = (size_t)eh->e_phnum * sizeof(Elf64_Phdr);
	if (!size || size > PHDRS_MAX_BYTES)
		return -ENOEXEC;
	if (eh->e_phoff > INT64_MAX - size)
		return -ENOEXEC;
	*where = (struct elf_phdr_place){.off = eh->e_phoff, .size = size};
	return 0;
}

void elf_image_fini(struct elf_image *img)
{
	free(img->segments);
	img->segments = NULL;
}

static int segment_prot(uint32_t flags)
{
	return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) |
	       (flags & PF_X ? PROT_EXEC : 0);
}

static void note_load(struct elf_image *img, const Elf64_Ehdr *eh, const Elf64_Phdr *p)
{
	if (p->p_filesz > p->p_memsz || p->p_memsz > ELF_ADDR_LIMIT ||
	    p->p_vaddr > ELF_ADDR_LIMIT - p->p_memsz) {
		img->load_error = -EINVAL;
		return;
	}
	struct elf_segment *s = &img->segments[img->nsegments++];
	*s = (struct elf_segment){.vaddr = p->p_vaddr,
				  .filesz = p->p_filesz,
				  .memsz = p->p_memsz,
				  .offset = p->p_offset,
				  .prot = segment_prot(p->p_flags)};

	uint64_t file_end = s->vaddr + s->filesz, end = s->vaddr + s->memsz;
	img->low = MIN(img->low, page_down(s->vaddr));
	img->high = MAX(img->high, page_up(end));
	img->brk = MAX(img->brk, end);
	if (p->p_align > img->align && !(p->p_align & (p->p_align - 1)))
		img->align = p->p_align;
	if (p->p_flags & PF_X) {
		img->code_start = MIN(img->code_start, s->vaddr);
		img->code_end = MAX(img->code_end, file_end);
	}
	img->data_start = MAX(img->data_start, s->vaddr);
	img->data_end = MAX(img->data_end, file_end);
	if (!img->phdr && s->offset <= eh->e_phoff && eh->e_phoff - s->offset < s->filesz)
		img->phdr = eh->e_phoff - s->offset + s->vaddr;
}

int elf_parse(const Elf64_Ehdr *eh, const Elf64_Phdr *ph, struct elf_image *img)
{
	*img = (struct elf_image){.dyn = eh->e_type == ET_DYN,
				  .entry = eh->e_entry,
				  .low = UINT64_MAX,
				  .align = PAGE_SIZE,
				  .phnum = eh->e_phnum,
				  .code_start = UINT64_MAX};
	img->segments = calloc(eh->e_phnum, sizeof(*img->segments));
	if (!img->segments)
		return -ENOMEM;

	for (size_t i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *p = &ph[i];
		switch (p->p_type) {
		case PT_LOAD:
			note_load(img, eh, p);
			break;
		case PT_INTERP:
			if (img->has_interp)
				break; /* the first one counts */
			img->has_interp = true;
			img->interp_off = p->p_offset;
			img->interp_len = p->p_filesz;
			break;
		case PT_GNU_STACK:
			img->exec_stack = p->p_flags & PF_X;
			break;
		}
	}
	/* The alignment of a file cannot ask for more room than there is. */
	img->align = MIN(img->align, (uint64_t)1 << 40);
	if (!img->nsegments || img->high == img->low)
		img->load_error = -EINVAL;
	return 0;
}

int elf_segment_layout(const struct elf_segment *s, uint64_t bias, struct elf_layout *out)
{
	uint64_t start = s->vaddr + bias, in_page = s->vaddr & ~PAGE_MASK;
	uint64_t file_end = start + s->filesz, end = start + s->memsz;

	*out = (struct elf_layout){0};
	if (s->filesz) {
		if (s->offset < in_page || (s->offset - in_page) & ~PAGE_MASK)
			return -EINVAL;
		out->file = (struct elf_map){.addr = page_down(start),
					     .len = page_up(in_page + s->filesz),
					     .off = s->offset - in_page,
					     .prot = s->prot};
	}
	if (s->memsz <= s->filesz)
		return 0;
	/*
	 * The page where the file's data ends holds whatever follows in the file: it is cleared.
	 * Further pages are anonymous and writable whatever the segment says, as in Linux.
	 */
	uint64_t anon = s->filesz ? page_up(file_end) : page_down(start);
	if (s->filesz) {
		out->zero_addr = file_end;
		out->zero_len = anon - file_end;
	}
	if (page_up(end) > anon)
		out->anon =
			(struct elf_map){.addr = anon,
					 .len = page_up(end) - anon,
					 .prot = PROT_READ | PROT_WRITE | (s->prot & PROT_EXEC)};
	return 0;
}

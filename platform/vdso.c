/* The vDSO's functions.  Our own vDSO is the guests', too, and linked at address 0. */
#include "platform/vdso.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include <sys/auxv.h>

/* Its dynamic section. */
struct vdso {
	const char *base, *strings;
	const Elf64_Sym *syms;
	size_t nsyms;
};

static bool vdso_open(struct vdso *v)
{
	const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)base;

	memset(v, 0, sizeof(*v));
	v->base = base;
	for (int i = 0; base && i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph = (const Elf64_Phdr *)(base + eh->e_phoff) + i;
		if (ph->p_type != PT_DYNAMIC)
			continue;
		for (const Elf64_Dyn *d = (const Elf64_Dyn *)(base + ph->p_offset); d->d_tag; d++) {
			if (d->d_tag == DT_STRTAB)
				v->strings = base + d->d_un.d_ptr;
			else if (d->d_tag == DT_SYMTAB)
				v->syms = (const Elf64_Sym *)(base + d->d_un.d_ptr);
		}
	}
	/* The linker puts the strings right after the symbols. */
	if (v->syms && v->strings > (const char *)v->syms)
		v->nsyms = (size_t)(v->strings - (const char *)v->syms) / sizeof(*v->syms);
	return v->nsyms > 0;
}

uint64_t vdso_function(const struct p_limits *lim, const char *name)
{
	struct vdso v;

	if (!lim->vdso_base || !vdso_open(&v))
		return 0;
	for (size_t i = 0; i < v.nsyms; i++) {
		uint64_t at = v.syms[i].st_value;
		if (v.syms[i].st_shndx != SHN_UNDEF && at && at < lim->vdso_len &&
		    !strcmp(v.strings + v.syms[i].st_name, name))
			return lim->vdso_base + at;
	}
	return 0;
}

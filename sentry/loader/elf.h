/*
 * elf.h - what the loader believes of an ELF64 file: its headers, checked and reduced to numbers
 * that fit the guest's address range.  Pure: no file, no memory of the guest.
 *
 * Written by hand rather than on libelf: what counts here is how Linux's binfmt_elf reads a
 * header (which fields it ignores, which errno it gives), not what the format says, and the whole
 * of it is two fixed-size structures.
 * Source: elf(5), the kernel's behaviour.
 */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sentry/lib/compiler.h"

/* No address of a file may reach this: the end of the 47-bit user range. */
#define ELF_ADDR_LIMIT 0x7ffffffff000ULL

struct elf_segment {
	uint64_t vaddr, filesz, memsz, offset;
	int prot;
};

struct elf_image {
	bool dyn;	    /* ET_DYN: may be placed anywhere */
	uint64_t entry;	    /* all addresses are the file's own */
	uint64_t low, high; /* page-aligned span of the segments */
	uint64_t align;	    /* a power of two, at least a page */
	uint64_t phdr;	    /* address of the program headers in memory; 0: not mapped */
	uint16_t phnum;
	bool exec_stack;
	bool has_interp;
	uint64_t interp_off, interp_len;
	uint64_t code_start, code_end, data_start, data_end, brk;
	int load_error; /* why the segments cannot be mapped, though exec goes so far */
	size_t nsegments;
	struct elf_segment *segments; /* owned */
};

/* Where the program headers are in the file. */
struct elf_phdr_place {
	uint64_t off;
	size_t size; /* bytes, a multiple of the entry size, at most 64 KiB */
};

/*
 * Checks the ELF header in the first n bytes of a file.  -ENOEXEC: not one that runs here.
 */
int elf_check_header(const void *buf, size_t n, Elf64_Ehdr *eh,
		     struct elf_phdr_place *where) MUST_CHECK;
/* Reads the program headers.  -ENOEXEC, -ENOMEM.  On success elf_image_fini() is owed. */
int elf_parse(const Elf64_Ehdr *eh, const Elf64_Phdr *ph, struct elf_image *img) MUST_CHECK;
void elf_image_fini(struct elf_image *img);

/* One map that a segment needs; len 0: none. */
struct elf_map {
	uint64_t addr, len, off;
	int prot;
};
/* The file part and the anonymous part of a segment at this bias, and the bytes to be zeroed
 * between the end of the file's data and the end of its page (zero_len may be 0). */
struct elf_layout {
	struct elf_map file, anon;
	uint64_t zero_addr, zero_len;
};
/* -EINVAL: offset and address differ within a page. */
int elf_segment_layout(const struct elf_segment *s, uint64_t bias,
		       struct elf_layout *out) MUST_CHECK;

/* A #! line: offsets into the buffer. */
struct script_line {
	size_t interp_off, interp_len;
	size_t arg_off, arg_len; /* arg_len 0: no argument */
};
#define SCRIPT_BUF_SIZE 256
/* buf: the first SCRIPT_BUF_SIZE bytes of the file, padded with NULs.  -ENOEXEC: not a script, or
 * one whose line is empty or cut off. */
int script_parse(const char buf[SCRIPT_BUF_SIZE], struct script_line *out) MUST_CHECK;

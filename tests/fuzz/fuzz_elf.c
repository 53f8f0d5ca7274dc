/* Fuzz target: the loader's reading of files - ELF and program headers, segment layout, #! lines.
 * The input is the file. */
#include <stdlib.h>
#include <string.h>

#include "sentry/loader/elf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_layout(const struct elf_image *img, const struct elf_segment *s)
{
	struct elf_layout lay;

	if (elf_segment_layout(s, 0, &lay))
		return;
	require(lay.file.addr % PAGE_SIZE == 0 && lay.file.len % PAGE_SIZE == 0);
	require(lay.file.off % PAGE_SIZE == 0 && lay.anon.addr % PAGE_SIZE == 0);
	require(!lay.file.len ||
		(lay.file.addr >= img->low && lay.file.addr + lay.file.len <= img->high));
	require(!lay.anon.len ||
		(lay.anon.addr >= img->low && lay.anon.addr + lay.anon.len <= img->high));
	require(lay.zero_len < PAGE_SIZE);
}

static void fuzz_elf(const uint8_t *data, size_t size)
{
	struct elf_phdr_place where;
	struct elf_image img;
	Elf64_Ehdr eh;

	if (elf_check_header(data, size, &eh, &where))
		return;
	require(where.size <= 65536);
	if (where.off > size || where.size > size - where.off)
		return;
	Elf64_Phdr *ph = malloc(where.size);
	if (!ph)
		return;
	memcpy(ph, data + where.off, where.size);
	if (elf_parse(&eh, ph, &img) == 0) {
		if (!img.load_error) {
			require(img.low < img.high && img.high <= ELF_ADDR_LIMIT);
			require(img.brk <= img.high && img.code_end <= img.high);
			require(img.align >= PAGE_SIZE && !(img.align & (img.align - 1)));
			for (size_t i = 0; i < img.nsegments; i++)
				check_layout(&img, &img.segments[i]);
		}
		elf_image_fini(&img);
	}
	free(ph);
}

static void fuzz_script(const uint8_t *data, size_t size)
{
	char buf[SCRIPT_BUF_SIZE] = {0};
	struct script_line line;

	memcpy(buf, data, MIN(size, sizeof(buf)));
	if (script_parse(buf, &line))
		return;
	require(line.interp_off + line.interp_len <= sizeof(buf));
	require(line.arg_off + line.arg_len <= sizeof(buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_elf(data, size);
	fuzz_script(data, size);
	return 0;
}

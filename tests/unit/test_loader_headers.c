/* What the loader believes of hostile ELF headers and #! lines. */
#include "sentry/loader/elf.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static Elf64_Ehdr good_header(void)
{
	Elf64_Ehdr eh = {.e_type = ET_DYN,
			 .e_machine = EM_X86_64,
			 .e_phoff = sizeof(Elf64_Ehdr),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 2,
			 .e_entry = 0x1040};

	memcpy(eh.e_ident, ELFMAG, SELFMAG);
	return eh;
}

static Elf64_Phdr load_segment(uint64_t vaddr, uint64_t offset, uint64_t filesz, uint64_t memsz,
			       uint32_t flags)
{
	return (Elf64_Phdr){.p_type = PT_LOAD,
			    .p_vaddr = vaddr,
			    .p_offset = offset,
			    .p_filesz = filesz,
			    .p_memsz = memsz,
			    .p_flags = flags,
			    .p_align = PAGE_SIZE};
}

static int check_header(const Elf64_Ehdr *eh)
{
	Elf64_Ehdr out;
	struct elf_phdr_place where;

	return elf_check_header(eh, sizeof(*eh), &out, &where);
}

START_TEST(headers_that_are_not_ours_are_enoexec)
{
	Elf64_Ehdr eh = good_header();
	ck_assert_int_eq(check_header(&eh), 0);

	struct elf_phdr_place where;
	Elf64_Ehdr out;
	ck_assert_int_eq(elf_check_header(&eh, sizeof(eh) - 1, &out, &where), -ENOEXEC);
	ck_assert_int_eq(elf_check_header(&eh, 0, &out, &where), -ENOEXEC);

	eh = good_header();
	eh.e_ident[1] = 'e';
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_type = ET_REL;
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_machine = EM_386;
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_phentsize = sizeof(Elf32_Phdr);
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_phnum = 0;
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_phnum = 65535;
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
	eh = good_header();
	eh.e_phoff = UINT64_MAX - 63;
	ck_assert_int_eq(check_header(&eh), -ENOEXEC);
}
END_TEST

START_TEST(a_usual_program_is_read)
{
	Elf64_Ehdr eh = good_header();
	const Elf64_Phdr ph[2] = {
		load_segment(0, 0, 0x1800, 0x1800, PF_R | PF_X),
		load_segment(0x3db0, 0x2db0, 0x258, 0x460, PF_R | PF_W),
	};
	struct elf_image img;

	ck_assert_int_eq(elf_parse(&eh, ph, &img), 0);
	ck_assert_int_eq(img.load_error, 0);
	ck_assert_uint_eq(img.nsegments, 2);
	ck_assert_uint_eq(img.low, 0);
	ck_assert_uint_eq(img.high, 0x5000);
	ck_assert_uint_eq(img.brk, 0x4210);
	ck_assert_uint_eq(img.phdr, sizeof(eh));
	ck_assert_uint_eq(img.code_end, 0x1800);
	ck_assert(!img.has_interp);

	struct elf_layout lay;
	ck_assert_int_eq(elf_segment_layout(&img.segments[1], 0x10000, &lay), 0);
	ck_assert_uint_eq(lay.file.addr, 0x13000);
	ck_assert_uint_eq(lay.file.len, 0x2000);
	ck_assert_uint_eq(lay.file.off, 0x2000);
	ck_assert_uint_eq(lay.zero_addr, 0x14008);
	ck_assert_uint_eq(lay.zero_len, 0xff8);
	ck_assert_uint_eq(lay.anon.len, 0);
	elf_image_fini(&img);
}
END_TEST

START_TEST(segments_that_cannot_be_are_load_errors)
{
	static const struct {
		uint64_t vaddr, filesz, memsz;
	} bad[] = {
		{0, 2, 1},		     /* more in the file than in memory */
		{0, 0, UINT64_MAX},	     /* larger than the address range */
		{UINT64_MAX - 4095, 1, 1},   /* above it */
		{ELF_ADDR_LIMIT - 1, 2, 2},  /* across its end */
		{1ULL << 63, 0, 1ULL << 63}, /* wraps */
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		Elf64_Ehdr eh = good_header();
		Elf64_Phdr ph[2] = {
			load_segment(0, 0, 1, 1, PF_R),
			load_segment(bad[i].vaddr, 0, bad[i].filesz, bad[i].memsz, PF_R)};
		struct elf_image img;
		ck_assert_int_eq(elf_parse(&eh, ph, &img), 0);
		ck_assert_int_eq(img.load_error, -EINVAL);
		elf_image_fini(&img);
	}

	Elf64_Ehdr eh = good_header();
	const Elf64_Phdr none[2] = {{.p_type = PT_NOTE}, {.p_type = PT_GNU_STACK, .p_flags = PF_X}};
	struct elf_image img;
	ck_assert_int_eq(elf_parse(&eh, none, &img), 0);
	ck_assert_int_eq(img.load_error, -EINVAL);
	ck_assert(img.exec_stack);
	elf_image_fini(&img);
}
END_TEST

START_TEST(offset_and_address_agree_within_a_page)
{
	struct elf_layout lay;
	const struct elf_segment off = {.vaddr = 0x1010, .offset = 0x20, .filesz = 8, .memsz = 8};
	const struct elf_segment before = {.vaddr = 0x1010, .offset = 0, .filesz = 8, .memsz = 8};

	ck_assert_int_eq(elf_segment_layout(&off, 0, &lay), -EINVAL);
	ck_assert_int_eq(elf_segment_layout(&before, 0, &lay), -EINVAL);
}
END_TEST

START_TEST(a_segment_without_file_data_is_anonymous)
{
	struct elf_layout lay;
	const struct elf_segment bss = {
		.vaddr = 0x1010, .offset = 3, .memsz = 0x2000, .prot = PROT_READ};

	ck_assert_int_eq(elf_segment_layout(&bss, 0, &lay), 0);
	ck_assert_uint_eq(lay.file.len, 0);
	ck_assert_uint_eq(lay.zero_len, 0);
	ck_assert_uint_eq(lay.anon.addr, 0x1000);
	ck_assert_uint_eq(lay.anon.len, 0x3000);
	ck_assert_int_eq(lay.anon.prot, PROT_READ | PROT_WRITE);
}
END_TEST

START_TEST(absurd_alignment_is_bounded_and_odd_alignment_ignored)
{
	Elf64_Ehdr eh = good_header();
	Elf64_Phdr ph[2] = {load_segment(0, 0, 1, 1, PF_R), load_segment(0x1000, 0, 1, 1, PF_R)};
	struct elf_image img;

	ph[0].p_align = 1ULL << 63;
	ph[1].p_align = 0x3000;
	ck_assert_int_eq(elf_parse(&eh, ph, &img), 0);
	ck_assert_uint_le(img.align, 1ULL << 40);
	ck_assert_uint_eq(img.align & (img.align - 1), 0);
	elf_image_fini(&img);
}
END_TEST

/* Expected results were seen on Linux 6.18. */
START_TEST(script_lines_are_read_as_linux_reads_them)
{
	char many[400], slashes[400];
	memset(many, ' ', sizeof(many));
	memcpy(many, "#!/bin/true", 11);
	memset(slashes, '/', sizeof(slashes));
	memcpy(slashes, "#!", 2);

	const struct {
		const char *file;
		size_t n;
		int err;
		const char *interp, *arg;
	} cases[] = {
		{"", 0, -ENOEXEC, 0, 0},
		{"#", 1, -ENOEXEC, 0, 0},
		{"#!", 2, 0, "", ""}, /* an empty name, not found later */
		{"#!\n", 3, -ENOEXEC, 0, 0},
		{"#! \t\n", 5, -ENOEXEC, 0, 0},
		{"#!/bin/true", 11, 0, "/bin/true", ""},
		{"#! \t/bin/true\n", 14, 0, "/bin/true", ""},
		{"#!/bin/sh -e  -x \t\nrest", 24, 0, "/bin/sh", "-e  -x"},
		{"#!/bin/sh\t-e", 12, 0, "/bin/sh", "-e"},
		{"#!/bin/sh\0-e\n", 13, 0, "/bin/sh", ""},
		{"#!/bin/sh -e\0x\n", 15, 0, "/bin/sh", "-e"},
		{many, sizeof(many), 0, "/bin/true", ""},
		{slashes, sizeof(slashes), -ENOEXEC, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char buf[SCRIPT_BUF_SIZE] = {0};
		struct script_line line;
		memcpy(buf, cases[i].file, MIN(cases[i].n, sizeof(buf)));
		int err = script_parse(buf, &line);
		ck_assert_msg(err == cases[i].err, "case %zu: %d", i, err);
		if (err)
			continue;
		ck_assert_uint_eq(line.interp_len, strlen(cases[i].interp));
		ck_assert_mem_eq(buf + line.interp_off, cases[i].interp, line.interp_len);
		ck_assert_uint_eq(line.arg_len, strlen(cases[i].arg));
		ck_assert_mem_eq(buf + line.arg_off, cases[i].arg, line.arg_len);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loader_headers");
	TCase *tc = tcase_create("loader_headers");

	tcase_add_test(tc, headers_that_are_not_ours_are_enoexec);
	tcase_add_test(tc, a_usual_program_is_read);
	tcase_add_test(tc, segments_that_cannot_be_are_load_errors);
	tcase_add_test(tc, offset_and_address_agree_within_a_page);
	tcase_add_test(tc, a_segment_without_file_data_is_anonymous);
	tcase_add_test(tc, absurd_alignment_is_bounded_and_odd_alignment_ignored);
	tcase_add_test(tc, script_lines_are_read_as_linux_reads_them);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}

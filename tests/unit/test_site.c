/* Call sites: lengths of instructions, what is taken for a site, and copies of text, executed. */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/systrap/insn.h"
#include "platform/systrap/internal.h"
#include "platform/systrap/site.h"

#define PAGE 4096

static size_t decode(const char *bytes, size_t n, struct insn *in)
{
	return insn_decode((const uint8_t *)bytes, n, in);
}

#define LENGTH(bytes, k)                                                                      \
	do {                                                                                  \
		struct insn in_;                                                              \
		ck_assert_uint_eq(decode(bytes, sizeof(bytes) - 1, &in_), sizeof(bytes) - 1); \
		ck_assert_uint_eq(in_.kind, k);                                               \
		for (size_t i_ = 0; i_ < sizeof(bytes) - 1; i_++) /* cut short */             \
			ck_assert_uint_eq(decode(bytes, i_, &in_), 0);                        \
	} while (0)

START_TEST(instructions_have_their_lengths)
{
	LENGTH("\xb8\x27\x00\x00\x00", INSN_PLAIN);			/* mov $39,%eax */
	LENGTH("\x48\xb8\x01\x02\x03\x04\x05\x06\x07\x08", INSN_PLAIN); /* movabs */
	LENGTH("\x48\xc7\xc0\xe4\x00\x00\x00", INSN_PLAIN);		/* mov $228,%rax */
	LENGTH("\x66\xc7\x00\x01\x02", INSN_PLAIN);			/* movw $,(%rax) */
	LENGTH("\x4c\x8b\x4c\x24\x08", INSN_PLAIN);			/* mov 8(%rsp),%r9 */
	LENGTH("\x8b\x84\x24\x00\x01\x00\x00", INSN_PLAIN);		/* mov 256(%rsp),%eax */
	LENGTH("\x8b\x04\x25\x00\x01\x00\x00", INSN_PLAIN);		/* mov 256,%eax */
	LENGTH("\x80\x3d\x01\x02\x03\x04\x00", INSN_RELATIVE);		/* cmpb $0,x(%rip) */
	LENGTH("\x48\x8d\x3d\xa4\x2a\x00\x00", INSN_RELATIVE);		/* lea x(%rip),%rdi */
	LENGTH("\x74\x10", INSN_BRANCH);				/* je */
	LENGTH("\x0f\x84\x01\x02\x03\x04", INSN_BRANCH);		/* je, near */
	LENGTH("\xe8\x01\x02\x03\x04", INSN_OTHER);			/* call */
	LENGTH("\xeb\x10", INSN_OTHER);					/* jmp */
	LENGTH("\xc3", INSN_OTHER);					/* ret */
	LENGTH("\x0f\x05", INSN_OTHER);					/* syscall */
	LENGTH("\xf0\x0f\xb1\x0d\x01\x02\x03\x04", INSN_OTHER);		/* lock cmpxchg */
	LENGTH("\xf6\x07\x01", INSN_PLAIN);				/* testb $1,(%rdi) */
	LENGTH("\xf7\xdf", INSN_PLAIN);					/* neg %edi */
	LENGTH("\xf3\x0f\x1e\xfa", INSN_OTHER);				/* endbr64 */
	LENGTH("\xc5\xf8\x77", INSN_OTHER);				/* vzeroupper */
	LENGTH("\xc4\xe3\x7d\x39\xc1\x01", INSN_OTHER);			/* vextracti128 */
	LENGTH("\x62\xf1\xfe\x48\x6f\x06", INSN_OTHER);			/* vmovdqu64 */
	LENGTH("\x66\x0f\x3a\x0f\xc1\x08", INSN_OTHER);			/* palignr */
	LENGTH("\x64\x48\x8b\x04\x25\x28\x00\x00\x00", INSN_PLAIN);	/* mov %fs:40,%rax */
	LENGTH("\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00", INSN_PLAIN); /* nop */
}
END_TEST

START_TEST(what_is_no_instruction_has_no_length)
{
	static const char *const bad[] = {"\x06xxxxxxxx",     "\x60xxxxxxxx",	"\x9axxxxxxxx",
					  "\xeaxxxxxxxx",     "\xd6xxxxxxxx",	"\x0f\x04xxxxxx",
					  "\x66\xe8xxxxxxxx", "\xc4\x1fxxxxxxx"};
	struct insn in;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_uint_eq(decode(bad[i], strlen(bad[i]), &in), 0);
	uint8_t prefixes[32];
	memset(prefixes, 0x66, sizeof(prefixes));
	ck_assert_uint_eq(insn_decode(prefixes, sizeof(prefixes), &in), 0);
}
END_TEST

/* Nothing beyond the end is read: the bytes end where a page that faults begins. */
START_TEST(any_bytes_are_decoded_within_their_bounds)
{
	uint8_t *p =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_int_eq(mprotect(p + PAGE, PAGE, PROT_NONE), 0);
	srandom(1);
	for (int i = 0; i < 300000; i++) {
		size_t n = (size_t)random() % 18;
		struct insn in;
		for (size_t k = 0; k < n; k++)
			p[PAGE - n + k] = (uint8_t)(random() >> 8);
		size_t len = insn_decode(p + PAGE - n, n, &in);
		ck_assert_uint_le(len, MIN(n, 15u));
		if (len && in.kind == INSN_RELATIVE)
			ck_assert_uint_le(in.rel + 4u, len);
	}
	munmap(p, 2 * PAGE);
}
END_TEST

/* ---- sites ---- */

/* Code with `tail` before its call, which stands at *call, after so many nops. */
static const uint8_t *code(const char *tail, size_t n, uint32_t *call)
{
	static uint8_t text[512];

	memset(text, 0x90, sizeof(text));
	memcpy(text + 128, tail, n);
	memcpy(text + 128 + n, "\x0f\x05\xc3", 3);
	*call = (uint32_t)(128 + n);
	return text;
}

static int site_len(const char *tail, size_t n)
{
	struct text_site s;
	uint32_t call;
	const uint8_t *text = code(tail, n, &call);

	return site_find(text, 0, call, false, &s) ? (int)(s.call - s.start) : 0;
}
#define SITE(tail) site_len(tail, sizeof(tail) - 1)

START_TEST(wrappers_of_all_libraries_are_sites)
{
	ck_assert_int_eq(SITE("\xb8\x27\x00\x00\x00"), 5); /* mov $39,%eax */
	ck_assert_int_eq(SITE("\x4c\x8b\x4c\x24\x08"), 5); /* glibc syscall() */
	ck_assert_int_eq(SITE("\x80\x3d\x01\x02\x03\x04\x00\x74\x10\x31\xc0"),
			 11);				   /* glibc read() */
	ck_assert_int_eq(SITE("\x4c\x89\x5c\x24\x08"), 5); /* musl's cancellable */
	ck_assert_int_eq(SITE("\x4c\x8b\x4c\x24\x08\x48\x89\xca"), 8);
	ck_assert_int_eq(SITE("\x48\xc7\xc0\xe4\x00\x00\x00"), 7); /* Go */
	ck_assert_int_eq(SITE("\x48\x8b\x44\x24\x08"), 5);
	/* What is nearest to the call and long enough. */
	ck_assert_int_eq(SITE("\xb8\x01\x00\x00\x00\xbf\x02\x00\x00\x00\x31\xf6"), 7);
}
END_TEST

START_TEST(what_cannot_be_moved_is_no_site)
{
	ck_assert_int_eq(SITE("\x48\x89\xdf\x48\x89\xce"), 0);	   /* nothing is long enough */
	ck_assert_int_eq(SITE("\xe8\x00\x00\x00\x00"), 0);	   /* a call */
	ck_assert_int_eq(SITE("\xb8\x27\x00\x00\x00\xeb\x00"), 0); /* a jump before */
	ck_assert_int_eq(SITE("\xb8\x27\x00\x00\x00\xf3\x90"), 0); /* pause */
	ck_assert_int_eq(SITE("\xb8\x27\x00\x00\x00\x0f\x05"), 0); /* another call */
	ck_assert_int_eq(SITE("\xb8\x27\x00\x00\x00\xe8\x0f\x05\x00\x00"), 0);
}
END_TEST

/* Go's only call: nothing is long enough, and so the jump overwrites two instructions. */
START_TEST(a_site_may_be_between_if_nothing_leads_there)
{
	static const char go[] = "\x48\x89\xce\x48\x89\xdf";
	uint8_t text[512];
	struct text_site s;
	uint32_t call;

	memcpy(text, code(go, 6, &call), sizeof(text));
	ck_assert(!site_find(text, 0, call, false, &s));
	ck_assert(site_find(text, 0, call, true, &s));
	ck_assert_uint_eq(s.call - s.start, 6);
	ck_assert(s.between);
	ck_assert(!site_is_entered(text, 0, sizeof(text), &s));
	memcpy(text + 200, "\xe9\xb6\xff\xff\xff", 5); /* jmp 131 */
	ck_assert(site_is_entered(text, 0, sizeof(text), &s));
	memcpy(text + 200, "\xe9\xb3\xff\xff\xff", 5); /* jmp 128: to the jump itself */
	ck_assert(!site_is_entered(text, 0, sizeof(text), &s));
	memcpy(text + 200, "\x74\xb9", 2); /* je 131 */
	ck_assert(site_is_entered(text, 0, sizeof(text), &s));
	memcpy(text + 200, "\x0f\x84\xb5\xff\xff\xff", 6);
	ck_assert(site_is_entered(text, 0, sizeof(text), &s));
	/* A long instruction is better, if there is one. */
	memcpy(text, code("\xb8\x01\x00\x00\x00\x48\x89\xce\x48\x89\xdf", 11, &call), sizeof(text));
	ck_assert(site_find(text, 0, call, true, &s));
	ck_assert_uint_eq(s.call - s.start, 11);
	ck_assert(!s.between);
}
END_TEST

START_TEST(the_inside_of_an_instruction_is_no_call)
{
	uint8_t text[256];
	struct text_site s;

	memset(text, 0x90, sizeof(text));
	memcpy(text + 128, "\xb8\x01\x00\x00\x00\x48\xc7\xc0\x0f\x05\x00\x00", 12);
	ck_assert(!site_find(text, 0, 136, false, &s));
	memcpy(text + 128, "\xb8\x01\x00\x00\x00\xe9\x0f\x05\x00\x00", 10);
	ck_assert(!site_find(text, 0, 134, false, &s));
	/* Nor is anything so near to the beginning that nothing shows where it is. */
	memcpy(text, "\xb8\x27\x00\x00\x00\x0f\x05", 7);
	ck_assert(!site_find(text, 0, 5, false, &s));
	ck_assert(!site_find(text, 0, 0, false, &s));
}
END_TEST

START_TEST(any_bytes_give_a_site_that_is_whole)
{
	uint8_t text[256];
	struct text_site s;

	srandom(2);
	for (int i = 0; i < 200000; i++) {
		for (size_t k = 0; k < sizeof(text); k++)
			text[k] = random() % 3 ? 0x90 : (uint8_t)(random() >> 8);
		memcpy(text + 200, "\x0f\x05", 2);
		if (!site_find(text, 50, 200, false, &s))
			continue;
		ck_assert_uint_ge(s.start, 50);
		ck_assert_uint_ge(s.call - s.start, SITE_JUMP);
		ck_assert_uint_le(s.call - s.start, SITE_BYTES);
		ck_assert_uint_le(s.n, SITE_INSNS);
	}
}
END_TEST

/* ---- copies ---- */

#define TEXT_AT 64

/* A file with one text segment of `pages` pages, of which `room` bytes are free at the end. */
static int elf_file(const uint8_t *text, size_t n, size_t pages, size_t room)
{
	const size_t filesz = pages * PAGE - room;
	const Elf64_Ehdr eh = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(eh),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1};
	const Elf64_Phdr ph = {.p_type = PT_LOAD,
			       .p_flags = PF_R | PF_X,
			       .p_offset = PAGE,
			       .p_vaddr = PAGE,
			       .p_filesz = filesz,
			       .p_memsz = filesz};
	int fd = memfd_create("elf", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pwrite(fd, &eh, sizeof(eh), 0), sizeof(eh));
	ck_assert_int_eq(pwrite(fd, &ph, sizeof(ph), sizeof(eh)), sizeof(ph));
	ck_assert_int_eq(ftruncate(fd, (off_t)(PAGE + filesz)), 0);
	/* Code stands before it: zeros do not show where an instruction begins. */
	for (int i = 0; i < TEXT_AT; i++)
		ck_assert_int_eq(pwrite(fd, "\x90", 1, PAGE + i), 1);
	ck_assert_int_eq(pwrite(fd, text, n, PAGE + TEXT_AT), (ssize_t)n);
	return fd;
}

/*
 * What a trampoline enters here in the place of the stub: makes the call by itself, adds 1000 to
 * its answer, and returns to where r11 says.
 */
__asm__(".text\n"
	"fake_stub:\n\t"
	"mov %r11, -64(%rsp)\n\t"
	"syscall\n\t"
	"add $1000, %rax\n\t"
	"jmp *-64(%rsp)\n");
extern const char fake_stub[];

/* Maps a copy and has its trampolines enter fake_stub. */
static uint8_t *map_copy(const struct text_image *im, size_t len)
{
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, im->fd, 0);
	const uint64_t to = (uint64_t)fake_stub;

	ck_assert_ptr_ne(p, MAP_FAILED);
	memcpy(p + im->tramp, &to, sizeof(to));
	return p;
}

static int build(int fd, uint64_t off, uint64_t len, const uint32_t *calls, uint32_t n,
		 const struct text_image *old, struct text_image **out)
{
	struct text_wish wish = {.n = n};

	memcpy(wish.at, calls, n * sizeof(*calls));
	return image_build(fd, off, len, &wish, old, out);
}

START_TEST(a_copy_does_what_the_text_did)
{
	/* getppid(); and the same if what stands at 96 is 7, else 0. */
	/* clang-format off */
	static const uint8_t text[] = {
		[0] = 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3,
		[8 ... 63] = 0x90,
		[64] = 0xb8, 110, 0, 0, 0,            /* 64: mov $110,%eax */
		0x83, 0x3d, 0x14, 0, 0, 0, 7,         /* 69: cmpl $7,96(%rip) */
		0x75, 0x1b,                           /* 76: jne 105 */
		0x0f, 0x05, 0xc3,                     /* 78: syscall; ret */
		[96] = 7, 0, 0, 0,
		[105] = 0x31, 0xc0, 0xc3,             /* xor %eax,%eax; ret */
		[160] = 0xc3};
	/* clang-format on */
	uint32_t calls[] = {TEXT_AT + 5, TEXT_AT + 78, TEXT_AT + 78, TEXT_AT + 160, 5, PAGE - 1, 0};
	struct text_image *im, *second;
	int fd = elf_file(text, sizeof(text), 2, 1000);

	ck_assert_int_eq(build(fd, PAGE, 2 * PAGE, calls, 1, NULL, &im), 0);
	ck_assert_uint_eq(im->nsites, 1);
	ck_assert_int_eq(build(fd, PAGE, 2 * PAGE, calls, ARRAY_SIZE(calls), im, &second), 0);
	ck_assert_uint_eq(second->nsites, 2);
	ck_assert_uint_eq(second->sites[0].tramp, im->sites[0].tramp);
	ck_assert_int_eq(build(fd, PAGE, 2 * PAGE, calls, 2, second, &im), -ENOENT);

	uint8_t *p = map_copy(second, 2 * PAGE);
	for (uint32_t i = 0; i < second->nsites; i++) {
		const struct text_site *s = &second->sites[i];
		ck_assert_uint_eq(p[s->start], 0xe9);
		ck_assert_ptr_eq(image_site(second, s->start), s);
		ck_assert_ptr_eq(image_site(second, s->call), s);
		ck_assert_ptr_eq(image_tramp(second, s->tramp + s->done), s);
		int (*f)(void) = (int (*)(void))(p + TEXT_AT + (i ? 64 : 0));
		ck_assert_int_eq(f(), getppid() + 1000);
	}
	ck_assert_ptr_null(image_site(second, TEXT_AT + 30));
	ck_assert_ptr_null(image_tramp(second, second->tramp));
	ck_assert_ptr_null(image_tramp(second, second->tramp_end));
	p[TEXT_AT + 96] = 8;
	ck_assert_int_eq(((int (*)(void))(p + TEXT_AT + 64))(), 0);
	munmap(p, 2 * PAGE);
	image_put(second);
	close(fd);
}
END_TEST

/* The plain end has the trampolines and none of the jumps; nobody can change a copy. */
START_TEST(a_copy_is_sealed_and_has_a_plain_end)
{
	static const uint8_t text[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
	uint32_t call = TEXT_AT + 5;
	struct text_image *im;
	uint8_t end[2 * PAGE];
	int fd = elf_file(text, sizeof(text), 1, 1000);

	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 1, NULL, &im), 0);
	ck_assert_int_eq(pread(im->fd, end, sizeof(end), 0), sizeof(end));
	ck_assert(memcmp(end + TEXT_AT, text, sizeof(text)));
	ck_assert(!memcmp(end + PAGE + TEXT_AT, text, sizeof(text)));
	ck_assert(!memcmp(end + im->tramp, end + PAGE + im->tramp, im->tramp_end - im->tramp));
	ck_assert_int_eq(pwrite(im->fd, text, 1, 0), -1);
	ck_assert_int_eq(ftruncate(im->fd, 0), -1);
	ck_assert_ptr_eq(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, im->fd, 0), MAP_FAILED);
	image_put(im);
	close(fd);
}
END_TEST

/* Of a large segment only the neighbourhood of the first site is copied, and the end. */
START_TEST(a_large_segment_is_copied_in_part)
{
	static const uint8_t text[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
	const uint32_t pages = 2000, middle = 1000 * PAGE;
	uint32_t calls[] = {TEXT_AT + middle + 5, TEXT_AT + 5};
	struct text_image *im;
	uint8_t before[TEXT_AT];
	struct stat st;
	int fd = elf_file(text, sizeof(text), pages, 1000);

	memset(before, 0x90, sizeof(before));
	ck_assert_int_eq(pwrite(fd, before, sizeof(before), PAGE + middle), sizeof(before));
	ck_assert_int_eq(pwrite(fd, text, sizeof(text), PAGE + middle + TEXT_AT), sizeof(text));
	ck_assert_int_eq(build(fd, PAGE, pages * PAGE, calls, 2, NULL, &im), 0);
	ck_assert_uint_eq(im->nsites, 1);
	ck_assert_int_eq(im->nruns, 2);
	ck_assert_uint_le(im->runs[0].off, calls[0]);
	ck_assert_uint_ge(im->runs[0].off + im->runs[0].len, calls[0]);
	ck_assert_uint_eq(im->runs[1].off + im->runs[1].len, pages * PAGE);
	ck_assert_int_eq(fstat(im->fd, &st), 0);
	ck_assert_int_lt(st.st_blocks * 512, 64 * PAGE);
	uint8_t *p = map_copy(im, pages * PAGE);
	ck_assert_int_eq(((int (*)(void))(p + middle + TEXT_AT))(), getppid() + 1000);
	munmap(p, pages * PAGE);
	image_put(im);
	close(fd);
}
END_TEST

START_TEST(strange_files_get_no_copy)
{
	static const uint8_t text[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};
	uint32_t call = TEXT_AT + 5;
	struct text_image *im;
	int fd = elf_file(text, sizeof(text), 1, 1000);
	Elf64_Phdr ph;

	/* Other than the segment is mapped; there is nothing to patch, or no room. */
	ck_assert_int_eq(build(fd, 0, PAGE, &call, 1, NULL, &im), -EINVAL);
	ck_assert_int_eq(build(fd, PAGE, 2 * PAGE, &call, 1, NULL, &im), -EINVAL);
	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 0, NULL, &im), -EINVAL);
	close(fd);
	fd = elf_file(text, sizeof(text), 1, 20);
	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 1, NULL, &im), -EINVAL);
	/* It is written to. */
	ck_assert_int_eq(pread(fd, &ph, sizeof(ph), sizeof(Elf64_Ehdr)), sizeof(ph));
	ph.p_flags |= PF_W;
	ph.p_filesz = ph.p_memsz = 1000;
	ck_assert_int_eq(pwrite(fd, &ph, sizeof(ph), sizeof(Elf64_Ehdr)), sizeof(ph));
	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 1, NULL, &im), -EINVAL);
	ph.p_flags &= ~(uint32_t)PF_W;
	ph.p_offset = UINT64_MAX - 10;
	ck_assert_int_eq(pwrite(fd, &ph, sizeof(ph), sizeof(Elf64_Ehdr)), sizeof(ph));
	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 1, NULL, &im), -EINVAL);
	/* The file ends before its segment does. */
	ph.p_offset = PAGE;
	ck_assert_int_eq(pwrite(fd, &ph, sizeof(ph), sizeof(Elf64_Ehdr)), sizeof(ph));
	ck_assert_int_eq(ftruncate(fd, PAGE + 100), 0);
	ck_assert_int_eq(build(fd, PAGE, PAGE, &call, 1, NULL, &im), -EIO);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("site");
	TCase *t = tcase_create("all");

	tcase_add_test(t, instructions_have_their_lengths);
	tcase_add_test(t, what_is_no_instruction_has_no_length);
	tcase_add_test(t, any_bytes_are_decoded_within_their_bounds);
	tcase_add_test(t, wrappers_of_all_libraries_are_sites);
	tcase_add_test(t, what_cannot_be_moved_is_no_site);
	tcase_add_test(t, a_site_may_be_between_if_nothing_leads_there);
	tcase_add_test(t, the_inside_of_an_instruction_is_no_call);
	tcase_add_test(t, any_bytes_give_a_site_that_is_whole);
	tcase_add_test(t, a_copy_does_what_the_text_did);
	tcase_add_test(t, a_copy_is_sealed_and_has_a_plain_end);
	tcase_add_test(t, a_large_segment_is_copied_in_part);
	tcase_add_test(t, strange_files_get_no_copy);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

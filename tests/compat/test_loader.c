/* What execve makes of files: #! lines, damaged ELF headers, argument sizes, the first stack. */
#include "tests/compat/compat.h"

#include <elf.h>
#include <sys/auxv.h>
#include <sys/resource.h>

static void write_file(const char *name, const void *data, size_t n, mode_t mode)
{
	unlink(name);
	int fd = EXPECT_OK(open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));

	EXPECT_EQ(write(fd, data, n), n);
	close(fd);
	EXPECT_OK(chmod(name, mode));
}

static void write_script(const char *name, const char *text)
{
	write_file(name, text, strlen(text), 0755);
}

/* Runs the file with one argument; the errno of execve, or 0 when it ran and ended well. */
static int run(const char *file, char *arg)
{
	char *argv[] = {(char *)file, arg, NULL}, *envp[] = {NULL};
	int p[2], err = 0, status;

	EXPECT_OK(pipe2(p, O_CLOEXEC));
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		execve(file, argv, envp);
		err = errno;
		(void)!write(p[1], &err, sizeof(err));
		_exit(127);
	}
	close(p[1]);
	(void)!read(p[0], &err, sizeof(err));
	close(p[0]);
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (!err && status)
		FAIL("%s ran and ended with status %#x", file, status);
	return err;
}

TEST(script_lines)
{
	char line[400];

	test_dir();
	write_script("empty", "");
	EXPECT_EQ(run("./empty", NULL), ENOEXEC);
	write_script("bare", "#!");
	EXPECT_EQ(run("./bare", NULL), EACCES);
	write_script("blank", "#! \t\n");
	EXPECT_EQ(run("./blank", NULL), ENOEXEC);
	write_script("plain", "#!/bin/sh\nexit 0\n");
	EXPECT_EQ(run("./plain", NULL), 0);
	write_script("spaces", "#! \t/bin/sh -e \t\nexit 0\n");
	EXPECT_EQ(run("./spaces", NULL), 0);
	write_script("missing", "#!/no/such/file\n");
	EXPECT_EQ(run("./missing", NULL), ENOENT);
	write_script("directory", "#!/\n");
	EXPECT_EQ(run("./directory", NULL), EACCES);
	write_file("mode", "#!/bin/sh\n", 10, 0644);
	EXPECT_EQ(run("./mode", NULL), EACCES);
	memset(line, '/', sizeof(line));
	memcpy(line, "#!", 2);
	line[sizeof(line) - 1] = '\0';
	write_script("long", line);
	EXPECT_EQ(run("./long", NULL), ENOEXEC);
}

TEST(scripts_nest_five_deep)
{
	char text[64], name[16];

	test_dir();
	write_script("s0", "#!/bin/true\n");
	for (int i = 1; i < 6; i++) {
		snprintf(text, sizeof(text), "#!./s%d\n", i - 1);
		snprintf(name, sizeof(name), "./s%d", i);
		write_script(name, text);
	}
	EXPECT_EQ(run("./s4", NULL), 0);
	EXPECT_EQ(run("./s5", NULL), ELOOP);
}

TEST(script_arguments_are_interpreter_option_script_rest)
{
	test_dir();
	write_script("s",
		     "#!/bin/sh -u  \ntest \"$0 $*\" = './s one' && test \"$-\" != \"${-#*u}\"\n");
	EXPECT_EQ(run("./s", "one"), 0);
}

TEST(directories_and_devices_do_not_execute)
{
	EXPECT_EQ(run("/", NULL), EACCES);
	EXPECT_EQ(run("/dev/null", NULL), EACCES);
	EXPECT_EQ(run("/no/such/file", NULL), ENOENT);
	EXPECT_EQ(run("", NULL), ENOENT);
}

TEST(argument_sizes_are_bounded)
{
	size_t max = 131072;
	char *big = malloc(max + 1);

	memset(big, 'x', max);
	big[max - 1] = '\0';
	EXPECT_EQ(run("/bin/true", big), 0);
	big[max - 1] = 'x';
	big[max] = '\0';
	EXPECT_EQ(run("/bin/true", big), E2BIG);

	struct rlimit stack = {256 << 10, RLIM_INFINITY};
	char *argv[102] = {"/bin/true"}, *envp[] = {NULL};
	big[4000] = '\0';
	for (int i = 1; i < 101; i++)
		argv[i] = big;
	EXPECT_OK(setrlimit(RLIMIT_STACK, &stack));
	EXPECT_ERRNO(execve("/bin/true", argv, envp), E2BIG);
	free(big);
}

/* ---- damaged programs ---- */

static unsigned char *program;
static size_t program_size;

static void load_program(void)
{
	struct stat st;
	int fd = EXPECT_OK(open("/bin/true", O_RDONLY));

	EXPECT_OK(fstat(fd, &st));
	program_size = (size_t)st.st_size;
	program = malloc(program_size);
	EXPECT_EQ(read(fd, program, program_size), program_size);
	close(fd);
}

static Elf64_Ehdr *header(void)
{
	return (Elf64_Ehdr *)program;
}

static Elf64_Phdr *segment(unsigned type)
{
	Elf64_Phdr *p = (Elf64_Phdr *)(program + header()->e_phoff);

	while (p->p_type != type)
		p++;
	return p;
}

static int run_program(size_t size)
{
	write_file("prog", program, size, 0755);
	return run("./prog", NULL);
}

#define DAMAGED(place, value)                       \
	({                                          \
		__typeof__(place) saved_ = (place); \
		(place) = (value);                  \
		int r_ = run_program(program_size); \
		(place) = saved_;                   \
		r_;                                 \
	})

TEST(damaged_headers_are_enoexec)
{
	test_dir();
	load_program();
	EXPECT_EQ(run_program(program_size), 0);
	EXPECT_EQ(run_program(20), ENOEXEC);
	EXPECT_EQ(run_program(100), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_ident[1], 'e'), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_type, ET_REL), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_machine, EM_AARCH64), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_phentsize, 32), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_phnum, 0), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_phnum, 2000), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_phoff, 1UL << 62), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_phoff, -64UL), ENOEXEC);
	EXPECT_EQ(DAMAGED(header()->e_ident[EI_CLASS], ELFCLASS32), 0); /* nobody looks */
}

TEST(damaged_interpreter_names)
{
	test_dir();
	load_program();
	Elf64_Phdr *in = segment(PT_INTERP);
	char *name = (char *)program + in->p_offset;

	EXPECT_EQ(DAMAGED(in->p_filesz, 1), ENOEXEC);
	EXPECT_EQ(DAMAGED(in->p_filesz, 4097), ENOEXEC);
	EXPECT_EQ(DAMAGED(in->p_filesz, in->p_filesz - 1), ENOEXEC);
	EXPECT_EQ(DAMAGED(in->p_offset, 1UL << 40), EIO);
	EXPECT_EQ(DAMAGED(in->p_offset, -1UL), EINVAL);
	strcpy(name, "./none");
	EXPECT_EQ(run_program(program_size), ENOENT);
	write_file("text", "#!/bin/sh, and long enough to be taken for a header, at 64 bytes\n", 65,
		   0755);
	strcpy(name, "./text");
	EXPECT_EQ(run_program(program_size), ELIBBAD);
	write_file("tiny", "abc", 3, 0755);
	strcpy(name, "./tiny");
	EXPECT_EQ(run_program(program_size), EIO);
	EXPECT_OK(chmod("tiny", 0644));
	EXPECT_EQ(run_program(program_size), EACCES);
}

/* ---- the new program's view ---- */

TEST(first_stack_tells_about_the_program)
{
	extern char **environ;
	const unsigned char *random = (const unsigned char *)getauxval(AT_RANDOM);
	int zeros = 0;

	EXPECT_EQ(getauxval(AT_PAGESZ), 4096);
	EXPECT_EQ(getauxval(AT_CLKTCK), 100);
	EXPECT_EQ(getauxval(AT_UID), getuid());
	EXPECT_EQ(getauxval(AT_EGID), getegid());
	EXPECT_EQ(getauxval(AT_SECURE), 0);
	EXPECT_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
	EXPECT_STR((const char *)getauxval(AT_PLATFORM), "x86_64");
	EXPECT(random != NULL);
	for (int i = 0; i < 16; i++)
		zeros += !random[i];
	EXPECT(zeros < 8);
	const Elf64_Phdr *ph = (const Elf64_Phdr *)getauxval(AT_PHDR);
	EXPECT_EQ(ph->p_type, PT_PHDR);
	EXPECT(getauxval(AT_PHNUM) > 2);
	EXPECT(getauxval(AT_SYSINFO_EHDR) != 0);
	EXPECT(memcmp((void *)getauxval(AT_SYSINFO_EHDR), ELFMAG, SELFMAG) == 0);
	EXPECT((uintptr_t)environ > (uintptr_t)&random);
	EXPECT(getauxval(AT_EXECFN) > (uintptr_t)environ);
}

TEST(layout_is_random)
{
	char first[64] = "", line[64];

	for (int i = 0; i < 2; i++) {
		FILE *f = popen("grep -F '[stack]' /proc/self/maps", "r");
		EXPECT(f && fgets(line, sizeof(line), f));
		pclose(f);
		EXPECT(strcmp(first, line) != 0);
		strcpy(first, line);
	}
}

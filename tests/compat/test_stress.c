/*
 * Signals, forks and changing program text in 32 threads at once, for some seconds, or as many as
 * STRESS_SECONDS in the environment says.  Whatever a sandbox does to make calls fast, each of them
 * gives what it should.
 */
#include "tests/compat/compat.h"

#include <elf.h>
#include <pthread.h>
#include <stdatomic.h>

#define THREADS 32
#define SECONDS 3
#define PAGE 4096
#define TEXT_LEN (2 * PAGE)
#define PARENT_AT 0x100
#define SEEK_AT 0x200
#define FILES 4
#define FILE_ROUNDS 400 /* after which a file is replaced: its text is unknown again */

/* clang-format off */
static const uint8_t parent_code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3}; /* getppid() */
static const uint8_t seek_code[] = {0xb8, 8, 0, 0, 0, 0x0f, 0x05, 0xc3};     /* lseek() */
/* clang-format on */

static pthread_t threads[THREADS];
static _Atomic bool stop;
static _Atomic long signals_sent, signals_handled, forks, texts;
static pthread_barrier_t all_there;
static pid_t self, parent;

/* Calls that must say the same wherever they are made from; the process's end if they do not. */
static void must(bool ok, int line)
{
	if (!ok) {
		dprintf(2, "# line %d, errno %d\n", line, errno);
		_exit(3);
	}
}
#define MUST(cond) must(cond, __LINE__)

static void handle(int signo)
{
	int saved = errno;
	sigset_t now;

	MUST(syscall(SYS_getppid) == (syscall(SYS_getpid) == self ? parent : self));
	MUST(lseek(-1, 0, SEEK_SET) == -1 && errno == EBADF);
	MUST(!sigprocmask(SIG_BLOCK, NULL, &now) && sigismember(&now, signo) == 1);
	atomic_fetch_add(&signals_handled, 1);
	errno = saved;
}

static const char *file_name(int i, char buf[32])
{
	snprintf(buf, 32, "text%d", i);
	return buf;
}

/* A program file that holds the two functions, in the place of the one that was there. */
static void write_text(int i)
{
	static const Elf64_Ehdr eh = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(eh),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1};
	static const Elf64_Phdr ph = {.p_type = PT_LOAD,
				      .p_flags = PF_R | PF_X,
				      .p_offset = PAGE,
				      .p_vaddr = PAGE,
				      .p_filesz = TEXT_LEN - 1500,
				      .p_memsz = TEXT_LEN - 1500};
	uint8_t bytes[PAGE + TEXT_LEN] = {0};
	const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
	char name[32], tmp[64];

	memcpy(bytes, &eh, sizeof(eh));
	memcpy(bytes + sizeof(eh), &ph, sizeof(ph));
	memset(bytes + PAGE, 0x90, TEXT_LEN - 1500);
	memcpy(bytes + PAGE + PARENT_AT, parent_code, sizeof(parent_code));
	memcpy(bytes + PAGE + SEEK_AT, seek_code, sizeof(seek_code));
	snprintf(tmp, sizeof(tmp), "new%d.%ld", i, syscall(SYS_gettid));
	int fd = open(tmp, O_RDWR | O_CREAT | O_TRUNC, 0755);
	MUST(fd >= 0 && write(fd, bytes, sizeof(bytes)) == sizeof(bytes));
	MUST(!futimens(fd, old) && !close(fd) && !rename(tmp, file_name(i, name)));
}

static void call_text(uint8_t *text, int times)
{
	long (*get_parent)(void) = (long (*)(void))(text + PARENT_AT);
	long (*seek)(long, long, long) = (long (*)(long, long, long))(text + SEEK_AT);
	pid_t mine = syscall(SYS_getpid) == self ? parent : self;

	for (int i = 0; i < times; i++) {
		MUST(get_parent() == mine);
		MUST(seek(-1, i, SEEK_SET) == -EBADF);
	}
}

/* Mapped, called often, written to, called, moved to other rights, and gone. */
static void use_text(unsigned *seed)
{
	int i = rand_r(seed) % FILES;
	char name[32];
	int fd = open(file_name(i, name), O_RDONLY | O_CLOEXEC);

	MUST(fd >= 0);
	uint8_t *p = mmap(NULL, TEXT_LEN, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, PAGE);
	MUST(p != MAP_FAILED && !close(fd));
	call_text(p, 40);
	MUST(!memcmp(p + SEEK_AT + sizeof(seek_code), "\x90\x90\x90", 3));
	if (rand_r(seed) % 4 == 0) {
		MUST(!mprotect(p, TEXT_LEN, PROT_READ | PROT_WRITE | PROT_EXEC));
		MUST(!memcmp(p + PARENT_AT, parent_code, sizeof(parent_code)));
		memcpy(p + SEEK_AT, seek_code, sizeof(seek_code));
		call_text(p, 3);
	}
	MUST(!munmap(p, TEXT_LEN));
	if (atomic_fetch_add(&texts, 1) % FILE_ROUNDS == 0)
		write_text(i);
}

static void send_signals(unsigned *seed)
{
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(!pthread_sigmask(SIG_BLOCK, &set, &old));
	for (int i = 0; i < 3; i++) {
		MUST(!pthread_kill(threads[(unsigned)rand_r(seed) % THREADS], SIGUSR1));
		atomic_fetch_add(&signals_sent, 1);
	}
	MUST(!pthread_sigmask(SIG_SETMASK, &old, NULL));
}

static void fork_one(unsigned *seed)
{
	int status;
	pid_t pid = (pid_t)syscall(SYS_fork);

	MUST(pid >= 0);
	if (pid == 0) {
		use_text(seed);
		MUST(syscall(SYS_getppid) == self);
		_exit(7);
	}
	while (waitpid(pid, &status, 0) < 0)
		MUST(errno == EINTR);
	MUST(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	atomic_fetch_add(&forks, 1);
}

static void talk(void)
{
	int fds[2];
	char c = 1;

	MUST(!pipe(fds) && write(fds[1], &c, 1) == 1 && read(fds[0], &c, 1) == 1);
	MUST(!close(fds[0]) && !close(fds[1]));
}

static void *worker(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	pthread_barrier_wait(&all_there);
	while (!atomic_load(&stop)) {
		switch (rand_r(&seed) % 8) {
		case 0:
			fork_one(&seed);
			break;
		case 1:
		case 2:
			use_text(&seed);
			break;
		case 3:
		case 4:
			send_signals(&seed);
			break;
		default:
			talk();
		}
	}
	pthread_barrier_wait(&all_there);
	return NULL;
}

TEST(signals_forks_and_changing_text_in_32_threads)
{
	const struct sigaction sa = {.sa_handler = handle, .sa_flags = SA_RESTART};
	const char *given = getenv("STRESS_SECONDS");
	const int seconds = given ? atoi(given) : SECONDS;

	test_dir();
	alarm((unsigned)seconds + 60);
	self = getpid();
	parent = getppid();
	for (int i = 0; i < FILES; i++)
		write_text(i);
	EXPECT_OK(sigaction(SIGUSR1, &sa, NULL));
	EXPECT_EQ(pthread_barrier_init(&all_there, NULL, THREADS + 1), 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT_EQ(pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)(i + 1)), 0);
	pthread_barrier_wait(&all_there);
	for (time_t end = time(NULL) + seconds; time(NULL) < end;)
		test_sleep_ms(100);
	atomic_store(&stop, true);
	pthread_barrier_wait(&all_there); /* a thread that has ended cannot be signalled */
	for (int i = 0; i < THREADS; i++)
		EXPECT_EQ(pthread_join(threads[i], NULL), 0);
	EXPECT(signals_handled > 0 && signals_handled <= signals_sent);
	EXPECT(forks > 0 && texts > 0);
	if (given)
		dprintf(2, "# %ld signals sent, %ld handled, %ld forks, %ld texts\n", signals_sent,
			signals_handled, forks, texts);
}

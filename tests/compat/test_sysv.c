/* System V IPC: shared memory, semaphores, message queues. */
#include "tests/compat/compat.h"

#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define PAGE 4096

static long shm_at(int id, const void *addr, int flags)
{
	return syscall(SYS_shmat, id, addr, flags);
}

static int new_shm(size_t size)
{
	return (int)EXPECT_OK(shmget(IPC_PRIVATE, size, IPC_CREAT | 0600));
}

static struct shmid_ds shm_stat_of(int id)
{
	struct shmid_ds ds;

	memset(&ds, 0, sizeof(ds));
	EXPECT_OK(shmctl(id, IPC_STAT, &ds));
	return ds;
}

/* A key that nobody else has. */
static key_t own_key(void)
{
	return 0x52750000 + (getpid() & 0xffff);
}

static void as_nobody(void)
{
	EXPECT_OK(setgid(65534));
	EXPECT_OK(setuid(65534));
}

/* ---- shared memory: hostile arguments ---- */

TEST(shmget_rejects_sizes)
{
	EXPECT_ERRNO(shmget(IPC_PRIVATE, 0, 0600), EINVAL);
	EXPECT_ERRNO(shmget(IPC_PRIVATE, (size_t)-1, 0600), EINVAL);
	EXPECT_ERRNO(shmget(own_key(), PAGE, 0600), ENOENT);
}

TEST(shmctl_rejects_bad_pointers_and_commands)
{
	int id = new_shm(PAGE);

	EXPECT_ERRNO(syscall(SYS_shmctl, id, IPC_STAT, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_shmctl, id, IPC_SET, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_shmctl, 0, IPC_INFO, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_shmctl, id, 999, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_shmctl, -1, IPC_STAT, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_shmctl, 0x7fffffff, IPC_RMID, NULL), EINVAL);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
	EXPECT_ERRNO(shmctl(id, IPC_RMID, NULL), EINVAL);
}

TEST(shmat_rejects_bad_addresses)
{
	int id = new_shm(PAGE);
	char *busy = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_ERRNO(shm_at(-1, NULL, 0), EINVAL);
	EXPECT_ERRNO(shm_at(id, busy + 1, 0), EINVAL);
	EXPECT_ERRNO(shm_at(id, busy, 0), EINVAL);
	EXPECT_ERRNO(shm_at(id, NULL, SHM_REMAP), EINVAL);
	EXPECT_ERRNO(shm_at(id, (void *)-4096L, 0), EINVAL);
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 0);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shmdt_rejects_what_is_not_attached)
{
	char *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_ERRNO(syscall(SYS_shmdt, p), EINVAL);
	EXPECT_ERRNO(syscall(SYS_shmdt, p + 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_shmdt, -4096L), EINVAL);
}

/* ---- shared memory ---- */

TEST(shm_is_shared_with_children_and_counted)
{
	int id = new_shm(3 * PAGE + 1), status;
	volatile int *p = (void *)EXPECT_OK(shm_at(id, NULL, 0));

	EXPECT_EQ(shm_stat_of(id).shm_nattch, 1);
	EXPECT_EQ(shm_stat_of(id).shm_segsz, 3 * PAGE + 1);
	pid_t pid = fork();
	if (pid == 0) {
		if (shm_stat_of(id).shm_nattch != 2)
			_exit(1);
		p[0] = 77;
		_exit(0);
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(p[0], 77);
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 1);
	EXPECT_OK(shmdt((void *)p));
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 0);
	EXPECT_EQ(shm_stat_of(id).shm_lpid, getpid());
	EXPECT_EQ(shm_stat_of(id).shm_cpid, getpid());
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shm_two_attachments_show_one_memory)
{
	int id = new_shm(PAGE);
	volatile int *a = (void *)EXPECT_OK(shm_at(id, NULL, 0));
	volatile int *b = (void *)EXPECT_OK(shm_at(id, NULL, SHM_RDONLY));

	a[5] = 9;
	EXPECT_EQ(b[5], 9);
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 2);
	EXPECT_ERRNO(mprotect((void *)b, PAGE, PROT_READ | PROT_WRITE), EACCES);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shm_removed_lives_until_the_last_detach)
{
	int id = new_shm(PAGE);
	volatile int *p = (void *)EXPECT_OK(shm_at(id, NULL, 0));

	p[0] = 5;
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
	EXPECT_EQ(shm_stat_of(id).shm_perm.mode & SHM_DEST, SHM_DEST);
	volatile int *q = (void *)EXPECT_OK(shm_at(id, NULL, 0));
	EXPECT_EQ(q[0], 5);
	EXPECT_OK(shmdt((void *)p));
	EXPECT_OK(shmdt((void *)q));
	struct shmid_ds ds;
	EXPECT_ERRNO(shmctl(id, IPC_STAT, &ds), EINVAL);
}

static void attach_and_exit(void *arg)
{
	if (shm_at(*(int *)arg, NULL, 0) == -1)
		_exit(1);
}

TEST(shm_removed_goes_when_its_process_exits)
{
	int id = new_shm(PAGE);
	struct shmid_ds ds;

	EXPECT_EQ(test_child(attach_and_exit, &id), 0);
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 0);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
	EXPECT_ERRNO(shmctl(id, IPC_STAT, &ds), EINVAL);
}

TEST(shm_keys_find_create_and_exclude)
{
	key_t key = own_key();
	int id = (int)EXPECT_OK(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0600));

	EXPECT_EQ(shmget(key, PAGE, 0600), id);
	EXPECT_EQ(shmget(key, 0, 0), id);
	EXPECT_ERRNO(shmget(key, PAGE + 1, 0600), EINVAL);
	EXPECT_ERRNO(shmget(key, PAGE, IPC_CREAT | IPC_EXCL | 0600), EEXIST);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
	EXPECT_ERRNO(shmget(key, PAGE, 0600), ENOENT);
}

TEST(shmat_rounds_and_replaces_on_request)
{
	int id = new_shm(PAGE);
	char *place = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT_EQ(shm_at(id, place + 8, SHM_RND | SHM_REMAP), (long)place);
	place[0] = 1;
	EXPECT_OK(munmap(place, 2 * PAGE));
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 0);
	EXPECT_EQ(shm_at(id, place + 8, SHM_RND), (long)place);
	EXPECT_OK(shmdt(place));
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shmdt_takes_all_pieces_of_an_attachment)
{
	int id = new_shm(4 * PAGE);
	char *p = (void *)EXPECT_OK(shm_at(id, NULL, 0));
	unsigned char vec[1];

	EXPECT_OK(mprotect(p + PAGE, PAGE, PROT_READ));
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 3);
	EXPECT_OK(munmap(p + 2 * PAGE, PAGE));
	EXPECT_OK(shmdt(p));
	for (int i = 0; i < 4; i++)
		EXPECT_ERRNO(mincore(p + i * PAGE, PAGE, vec), ENOMEM);
	EXPECT_EQ(shm_stat_of(id).shm_nattch, 0);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

static void shm_foreign(void *arg)
{
	int id = *(int *)arg;
	struct shmid_ds ds;

	as_nobody();
	EXPECT_ERRNO(shm_at(id, NULL, 0), EACCES);
	EXPECT_ERRNO(shmctl(id, IPC_STAT, &ds), EACCES);
	EXPECT_ERRNO(shmctl(id, IPC_RMID, NULL), EPERM);
	memset(&ds, 0, sizeof(ds));
	EXPECT_ERRNO(shmctl(id, IPC_SET, &ds), EPERM);
}

static void shm_foreign_readable(void *arg)
{
	as_nobody();
	EXPECT_OK(shm_at(*(int *)arg, NULL, SHM_RDONLY));
	EXPECT_ERRNO(shm_at(*(int *)arg, NULL, 0), EACCES);
}

TEST(shm_permissions_bind_others)
{
	int id = new_shm(PAGE);

	if (geteuid())
		test_skip("needs root");
	EXPECT_EQ(test_child(shm_foreign, &id), 0);
	struct shmid_ds ds = shm_stat_of(id);
	ds.shm_perm.mode = 0644;
	EXPECT_OK(shmctl(id, IPC_SET, &ds));
	EXPECT_EQ(test_child(shm_foreign_readable, &id), 0);
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

TEST(shm_info_calls_answer)
{
	int id = new_shm(PAGE), highest;
	struct shminfo limits;
	struct shm_info info;
	struct shmid_ds ds;
	bool found = false;

	EXPECT_OK(shmctl(0, IPC_INFO, (struct shmid_ds *)&limits));
	EXPECT_EQ(limits.shmmin, 1);
	EXPECT(limits.shmmni >= 4096);
	highest = (int)EXPECT_OK(shmctl(0, SHM_INFO, (struct shmid_ds *)&info));
	EXPECT(info.used_ids >= 1 && info.shm_tot >= 1);
	for (int i = 0; i <= highest; i++)
		found |= shmctl(i, SHM_STAT, &ds) == id;
	EXPECT(found);
	EXPECT_OK(shmctl(id, SHM_LOCK, NULL));
	EXPECT_EQ(shm_stat_of(id).shm_perm.mode & SHM_LOCKED, SHM_LOCKED);
	EXPECT_OK(shmctl(id, SHM_UNLOCK, NULL));
	EXPECT_OK(shmctl(id, IPC_RMID, NULL));
}

/* ---- semaphores ---- */

static int new_sem(int n)
{
	return (int)EXPECT_OK(semget(IPC_PRIVATE, n, IPC_CREAT | 0600));
}

static int op(int id, int num, int by, int flags)
{
	struct sembuf b = {(unsigned short)num, (short)by, (short)flags};

	return semop(id, &b, 1);
}

static long sem_ctl(int id, int num, int cmd, long arg)
{
	return syscall(SYS_semctl, id, num, cmd, arg);
}

TEST(semget_rejects_counts)
{
	EXPECT_ERRNO(semget(IPC_PRIVATE, -1, 0600), EINVAL);
	EXPECT_ERRNO(semget(IPC_PRIVATE, 0, 0600), EINVAL);
	EXPECT_ERRNO(semget(IPC_PRIVATE, 32001, 0600), EINVAL);
	EXPECT_ERRNO(semget(own_key(), 1, 0600), ENOENT);
}

TEST(semop_rejects_bad_arguments)
{
	int id = new_sem(2);
	struct sembuf b[2] = {{0, 1, 0}, {0, 1, 0}};
	struct timespec bad = {0, -1};

	EXPECT_ERRNO(syscall(SYS_semop, id, BAD_ADDR, 1), EFAULT);
	EXPECT_ERRNO(syscall(SYS_semop, id, b, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_semop, -1, b, 1), EINVAL);
	EXPECT_ERRNO(syscall(SYS_semop, id, b, 501), E2BIG);
	EXPECT_ERRNO(syscall(SYS_semop, id, b, 0xffffffffu), E2BIG);
	EXPECT_ERRNO(syscall(SYS_semtimedop, id, b, 1, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_semtimedop, id, b, 1, &bad), EINVAL);
	EXPECT_ERRNO(op(id, 2, 1, 0), EFBIG);
	EXPECT_OK(sem_ctl(id, 0, SETVAL, 32767));
	EXPECT_ERRNO(op(id, 0, 1, 0), ERANGE);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
	EXPECT_ERRNO(op(id, 0, 1, 0), EINVAL);
}

TEST(semctl_rejects_bad_arguments)
{
	int id = new_sem(2);
	unsigned short big[2] = {1, 32768};

	EXPECT_ERRNO(sem_ctl(id, 0, SETVAL, -1), ERANGE);
	EXPECT_ERRNO(sem_ctl(id, 0, SETVAL, 32768), ERANGE);
	EXPECT_ERRNO(sem_ctl(id, 2, SETVAL, 1), EINVAL);
	EXPECT_ERRNO(sem_ctl(id, -1, GETVAL, 0), EINVAL);
	EXPECT_ERRNO(sem_ctl(id, 0, GETALL, (long)BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sem_ctl(id, 0, SETALL, (long)BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sem_ctl(id, 0, SETALL, (long)big), ERANGE);
	EXPECT_ERRNO(sem_ctl(id, 0, IPC_STAT, (long)BAD_ADDR), EFAULT);
	EXPECT_ERRNO(sem_ctl(id, 0, 999, 0), EINVAL);
	EXPECT_ERRNO(sem_ctl(-1, 0, GETVAL, 0), EINVAL);
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 0);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

TEST(sem_values_are_set_and_read)
{
	int id = new_sem(3);
	unsigned short v[3] = {4, 5, 6}, got[3];

	EXPECT_OK(sem_ctl(id, 0, SETALL, (long)v));
	EXPECT_OK(sem_ctl(id, 1, SETVAL, 9));
	EXPECT_OK(sem_ctl(id, 0, GETALL, (long)got));
	EXPECT(got[0] == 4 && got[1] == 9 && got[2] == 6);
	EXPECT_OK(op(id, 2, -6, 0));
	EXPECT_EQ(sem_ctl(id, 2, GETVAL, 0), 0);
	EXPECT_EQ(sem_ctl(id, 2, GETPID, 0), getpid());
	struct semid_ds ds;
	EXPECT_OK(sem_ctl(id, 0, IPC_STAT, (long)&ds));
	EXPECT_EQ(ds.sem_nsems, 3);
	EXPECT(ds.sem_otime > 0);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

TEST(semop_is_all_or_nothing)
{
	int id = new_sem(2);
	struct sembuf b[3] = {{0, 3, 0}, {1, -1, IPC_NOWAIT}, {0, 1, 0}};

	EXPECT_ERRNO(semop(id, b, 2), EAGAIN);
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 0);
	/* Later operations see earlier ones. */
	struct sembuf c[2] = {{0, 2, 0}, {0, -2, IPC_NOWAIT}};
	EXPECT_OK(semop(id, c, 2));
	EXPECT_OK(sem_ctl(id, 0, SETVAL, 1));
	EXPECT_ERRNO(op(id, 0, 0, IPC_NOWAIT), EAGAIN);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

TEST(semtimedop_times_out)
{
	int id = new_sem(1);
	struct sembuf b = {0, -1, 0};
	struct timespec ts = {0, 30000000};

	EXPECT_ERRNO(semtimedop(id, &b, 1, &ts), EAGAIN);
	EXPECT_EQ(sem_ctl(id, 0, GETNCNT, 0), 0);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

struct sem_child {
	int id, by;
};

static void sem_op_child(void *arg)
{
	struct sem_child *c = arg;

	if (op(c->id, 0, c->by, 0))
		_exit(errno);
}

static pid_t start(void (*fn)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static void await_count(int id, int cmd)
{
	while (sem_ctl(id, 0, cmd, 0) != 1)
		test_sleep_ms(1);
}

TEST(sem_waiters_are_counted_and_woken)
{
	struct sem_child c = {new_sem(1), -2};
	pid_t pid = start(sem_op_child, &c);

	await_count(c.id, GETNCNT);
	EXPECT_EQ(sem_ctl(c.id, 0, GETZCNT, 0), 0);
	EXPECT_OK(op(c.id, 0, 1, 0));
	EXPECT_EQ(sem_ctl(c.id, 0, GETNCNT, 0), 1);
	EXPECT_OK(op(c.id, 0, 2, 0));
	EXPECT_EQ(finish(pid), 0);
	EXPECT_EQ(sem_ctl(c.id, 0, GETVAL, 0), 1);
	EXPECT_EQ(sem_ctl(c.id, 0, GETPID, 0), pid);

	c.by = 0;
	pid = start(sem_op_child, &c);
	await_count(c.id, GETZCNT);
	EXPECT_OK(op(c.id, 0, -1, 0));
	EXPECT_EQ(finish(pid), 0);
	EXPECT_OK(sem_ctl(c.id, 0, IPC_RMID, 0));
}

TEST(sem_removal_wakes_waiters)
{
	struct sem_child c = {new_sem(1), -1};
	pid_t pid = start(sem_op_child, &c);

	await_count(c.id, GETNCNT);
	EXPECT_OK(sem_ctl(c.id, 0, IPC_RMID, 0));
	EXPECT_EQ(finish(pid), EIDRM << 8);
}

static void nothing(int sig)
{
	(void)sig;
}

static void interrupted_semop(void *arg)
{
	struct sigaction sa = {.sa_handler = nothing, .sa_flags = SA_RESTART};

	sigaction(SIGUSR1, &sa, NULL);
	sem_op_child(arg);
}

TEST(semop_is_never_restarted)
{
	struct sem_child c = {new_sem(1), -1};
	pid_t pid = start(interrupted_semop, &c);

	await_count(c.id, GETNCNT);
	kill(pid, SIGUSR1);
	EXPECT_EQ(finish(pid), EINTR << 8);
	EXPECT_EQ(sem_ctl(c.id, 0, GETNCNT, 0), 0);
	EXPECT_OK(sem_ctl(c.id, 0, IPC_RMID, 0));
}

static void undo_child(void *arg)
{
	int id = *(int *)arg;

	EXPECT_OK(op(id, 0, -3, SEM_UNDO));
	EXPECT_OK(op(id, 0, 1, SEM_UNDO));
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 3);
}

TEST(sem_undo_is_applied_at_exit)
{
	int id = new_sem(1);

	EXPECT_OK(sem_ctl(id, 0, SETVAL, 5));
	EXPECT_EQ(test_child(undo_child, &id), 0);
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 5);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

static void undo_cleared_child(void *arg)
{
	int id = *(int *)arg;

	EXPECT_OK(op(id, 0, 3, SEM_UNDO));
	EXPECT_OK(sem_ctl(id, 0, SETVAL, 7));
}

TEST(sem_undo_is_cleared_by_setval)
{
	int id = new_sem(1);

	EXPECT_EQ(test_child(undo_cleared_child, &id), 0);
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 7);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

static void undo_wait_child(void *arg)
{
	int id = *(int *)arg;

	EXPECT_OK(op(id, 0, -1, SEM_UNDO));
	test_sleep_ms(60000);
}

TEST(sem_undo_of_a_killed_process_wakes_others)
{
	int id = new_sem(1);

	EXPECT_OK(op(id, 0, 1, 0));
	pid_t pid = start(undo_wait_child, &id);
	while (sem_ctl(id, 0, GETVAL, 0))
		test_sleep_ms(1);
	struct sem_child c = {id, -1};
	pid_t waiter = start(sem_op_child, &c);
	await_count(id, GETNCNT);
	kill(pid, SIGKILL);
	finish(pid);
	EXPECT_EQ(finish(waiter), 0);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

static void removed_with_undo(void *arg)
{
	int id = *(int *)arg;

	EXPECT_OK(op(id, 0, 1, SEM_UNDO));
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

TEST(sem_undo_of_a_removed_set_is_nothing)
{
	int id = new_sem(1);

	EXPECT_EQ(test_child(removed_with_undo, &id), 0);
}

static void sem_foreign(void *arg)
{
	int id = *(int *)arg;

	as_nobody();
	EXPECT_ERRNO(op(id, 0, 1, 0), EACCES);
	EXPECT_OK(op(id, 0, 0, IPC_NOWAIT));
	EXPECT_ERRNO(sem_ctl(id, 0, SETVAL, 1), EACCES);
	EXPECT_EQ(sem_ctl(id, 0, GETVAL, 0), 0);
	EXPECT_ERRNO(sem_ctl(id, 0, IPC_RMID, 0), EPERM);
}

TEST(sem_permissions_bind_others)
{
	if (geteuid())
		test_skip("needs root");
	int id = (int)EXPECT_OK(semget(IPC_PRIVATE, 1, 0644));
	EXPECT_EQ(test_child(sem_foreign, &id), 0);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

TEST(sem_info_calls_answer)
{
	int id = new_sem(4);
	struct seminfo info;

	EXPECT_OK(sem_ctl(0, 0, IPC_INFO, (long)&info));
	EXPECT_EQ(info.semvmx, 32767);
	EXPECT_EQ(info.semopm, 500);
	int highest = (int)EXPECT_OK(sem_ctl(0, 0, SEM_INFO, (long)&info));
	EXPECT(info.semusz >= 1 && info.semaem >= 4);
	struct semid_ds ds;
	bool found = false;
	for (int i = 0; i <= highest; i++)
		found |= sem_ctl(i, 0, SEM_STAT, (long)&ds) == id;
	EXPECT(found);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

/* ---- message queues ---- */

struct message {
	long type;
	char text[64];
};

static int new_msq(void)
{
	return (int)EXPECT_OK(msgget(IPC_PRIVATE, IPC_CREAT | 0600));
}

static void send_text(int id, long type, const char *text)
{
	struct message m = {.type = type};

	strcpy(m.text, text);
	EXPECT_OK(msgsnd(id, &m, strlen(text), 0));
}

/* The text of the next message that fits, or its errno. */
static const char *receive_text(int id, long type, int flags)
{
	static struct message m;

	memset(&m, 0, sizeof(m));
	if (msgrcv(id, &m, sizeof(m.text), type, flags | IPC_NOWAIT) < 0)
		return errno == ENOMSG ? "ENOMSG" : strerror(errno);
	return m.text;
}

TEST(msgsnd_rejects_bad_arguments)
{
	int id = new_msq();
	struct message m = {.type = 0};

	EXPECT_ERRNO(syscall(SYS_msgsnd, id, BAD_ADDR, 1, 0), EFAULT);
	EXPECT_ERRNO(syscall(SYS_msgsnd, id, &m, 1, 0), EINVAL);
	m.type = 1;
	EXPECT_ERRNO(syscall(SYS_msgsnd, id, &m, 8193, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_msgsnd, id, &m, -1L, 0), EINVAL);
	EXPECT_ERRNO(syscall(SYS_msgsnd, -1, &m, 1, 0), EINVAL);
	char *edge = (char *)mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) +
		     PAGE;
	munmap(edge, PAGE);
	*(long *)(edge - 8) = 1;
	EXPECT_ERRNO(syscall(SYS_msgsnd, id, edge - 8, 1, 0), EFAULT);
	EXPECT_STR(receive_text(id, 0, 0), "ENOMSG");
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
	EXPECT_ERRNO(msgsnd(id, &m, 1, 0), EINVAL);
}

TEST(msgrcv_rejects_bad_arguments)
{
	int id = new_msq();
	struct message m;

	EXPECT_ERRNO(syscall(SYS_msgrcv, id, &m, -1L, 0, IPC_NOWAIT), EINVAL);
	EXPECT_ERRNO(syscall(SYS_msgrcv, -1, &m, 1, 0, IPC_NOWAIT), EINVAL);
	EXPECT_ERRNO(syscall(SYS_msgrcv, id, &m, 1, 0, IPC_NOWAIT), ENOMSG);
	send_text(id, 1, "x");
	EXPECT_ERRNO(syscall(SYS_msgrcv, id, BAD_ADDR, 1, 0, IPC_NOWAIT), EFAULT);
	EXPECT_ERRNO(syscall(SYS_msgctl, id, IPC_STAT, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_msgctl, id, IPC_SET, BAD_ADDR), EFAULT);
	EXPECT_ERRNO(syscall(SYS_msgctl, id, 999, NULL), EINVAL);
	EXPECT_ERRNO(syscall(SYS_msgctl, id, -1, NULL), EINVAL);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(msgrcv_chooses_by_type)
{
	int id = new_msq();

	send_text(id, 3, "three");
	send_text(id, 1, "one");
	send_text(id, 2, "two");
	send_text(id, 1, "uno");
	EXPECT_STR(receive_text(id, 9, 0), "ENOMSG");
	EXPECT_STR(receive_text(id, 1, 0), "one");
	EXPECT_STR(receive_text(id, -2, 0), "uno");
	EXPECT_STR(receive_text(id, 3, MSG_EXCEPT), "two");
	EXPECT_STR(receive_text(id, -2, 0), "ENOMSG");
	EXPECT_STR(receive_text(id, 0, 0), "three");
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(msgrcv_leaves_or_cuts_long_messages)
{
	int id = new_msq();
	struct message m;

	send_text(id, 1, "0123456789");
	EXPECT_ERRNO(msgrcv(id, &m, 4, 0, IPC_NOWAIT), E2BIG);
	EXPECT_EQ(msgrcv(id, &m, 4, 0, IPC_NOWAIT | MSG_NOERROR), 4);
	EXPECT_STR(receive_text(id, 0, 0), "ENOMSG");
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(msg_queue_is_full_at_its_limit)
{
	int id = new_msq();
	static struct {
		long type;
		char text[8192];
	} big = {.type = 1};
	struct msqid_ds ds;

	EXPECT_OK(msgsnd(id, &big, 8192, 0));
	EXPECT_OK(msgsnd(id, &big, 8192, 0));
	EXPECT_ERRNO(msgsnd(id, &big, 1, IPC_NOWAIT), EAGAIN);
	EXPECT_OK(msgctl(id, IPC_STAT, &ds));
	EXPECT_EQ(ds.msg_qnum, 2);
	EXPECT_EQ(ds.msg_qbytes, 16384);
	EXPECT_EQ(ds.msg_lspid, getpid());
	ds.msg_qbytes = 100;
	EXPECT_OK(msgctl(id, IPC_SET, &ds));
	EXPECT_OK(msgrcv(id, &big, 8192, 0, 0));
	EXPECT_ERRNO(msgsnd(id, &big, 1, IPC_NOWAIT), EAGAIN);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

static void receive_child(void *arg)
{
	struct message m;

	if (msgrcv(*(int *)arg, &m, sizeof(m.text), 5, 0) != 3)
		_exit(errno);
}

TEST(msgrcv_waits_for_its_type)
{
	int id = new_msq();
	pid_t pid = start(receive_child, &id);
	struct msqid_ds ds;

	test_sleep_ms(30);
	send_text(id, 4, "no");
	send_text(id, 5, "yes");
	EXPECT_EQ(finish(pid), 0);
	EXPECT_OK(msgctl(id, IPC_STAT, &ds));
	EXPECT_EQ(ds.msg_qnum, 1);
	EXPECT_EQ(ds.msg_lrpid, pid);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(msg_removal_wakes_receivers)
{
	int id = new_msq();
	pid_t pid = start(receive_child, &id);

	test_sleep_ms(50);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
	EXPECT_EQ(finish(pid), EIDRM << 8);
}

static void interrupted_msgrcv(void *arg)
{
	struct sigaction sa = {.sa_handler = nothing, .sa_flags = SA_RESTART};

	sigaction(SIGUSR1, &sa, NULL);
	receive_child(arg);
}

TEST(msgrcv_is_never_restarted)
{
	int id = new_msq();
	pid_t pid = start(interrupted_msgrcv, &id);

	test_sleep_ms(50);
	kill(pid, SIGUSR1);
	EXPECT_EQ(finish(pid), EINTR << 8);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

static void fill_child(void *arg)
{
	static struct {
		long type;
		char text[8192];
	} big = {.type = 1};

	for (int i = 0; i < 6; i++)
		if (msgsnd(*(int *)arg, &big, 8192, 0))
			_exit(errno);
}

TEST(msgsnd_waits_for_room)
{
	static struct {
		long type;
		char text[8192];
	} big;
	int id = new_msq();
	pid_t pid = start(fill_child, &id);

	for (int i = 0; i < 6; i++)
		EXPECT_EQ(msgrcv(id, &big, 8192, 0, 0), 8192);
	EXPECT_EQ(finish(pid), 0);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

static void msg_foreign(void *arg)
{
	struct message m = {.type = 1};
	int id = *(int *)arg;

	as_nobody();
	EXPECT_ERRNO(msgsnd(id, &m, 1, 0), EACCES);
	EXPECT_ERRNO(msgrcv(id, &m, 1, 0, IPC_NOWAIT), EACCES);
	EXPECT_ERRNO(msgctl(id, IPC_RMID, NULL), EPERM);
}

TEST(msg_permissions_bind_others)
{
	int id = new_msq();

	if (geteuid())
		test_skip("needs root");
	EXPECT_EQ(test_child(msg_foreign, &id), 0);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

TEST(msg_info_calls_answer)
{
	int id = new_msq();
	struct msginfo info;
	struct msqid_ds ds;
	bool found = false;

	send_text(id, 1, "abc");
	EXPECT_OK(msgctl(0, IPC_INFO, (struct msqid_ds *)&info));
	EXPECT_EQ(info.msgmax, 8192);
	int highest = (int)EXPECT_OK(msgctl(0, MSG_INFO, (struct msqid_ds *)&info));
	EXPECT(info.msgpool >= 1 && info.msgmap >= 1 && info.msgtql >= 3);
	for (int i = 0; i <= highest; i++)
		found |= msgctl(i, MSG_STAT, &ds) == id;
	EXPECT(found);
	EXPECT_OK(msgctl(id, IPC_RMID, NULL));
}

/* ---- /proc ---- */

TEST(proc_sysvipc_lists_objects)
{
	int id = new_sem(7), sem, perms, n;
	char line[256];
	bool found = false;
	int key;

	FILE *f = fopen("/proc/sysvipc/sem", "r");
	EXPECT(f);
	EXPECT(fgets(line, sizeof(line), f) && strstr(line, "semid"));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%d %d %o %d", &key, &sem, &perms, &n) == 4 && sem == id)
			found = n == 7 && perms == 0600;
	EXPECT(found);
	fclose(f);
	EXPECT_OK(sem_ctl(id, 0, IPC_RMID, 0));
}

static int limit_write(const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s", name);
	int fd = EXPECT_OK(open(path, O_WRONLY));
	int err = write(fd, text, strlen(text)) < 0 ? errno : 0;

	close(fd);
	return err;
}

TEST(sysv_limits_are_the_namespaces)
{
	struct shminfo shm;
	struct seminfo sem;
	char text[64] = {0};

	if (unshare(CLONE_NEWIPC))
		test_skip("no CAP_SYS_ADMIN");
	EXPECT_EQ(limit_write("shmmax", "8192"), 0);
	EXPECT_EQ(limit_write("shmall", "4\n"), 0);
	EXPECT_EQ(limit_write("shmmni", "2"), 0);
	EXPECT_EQ(limit_write("shmmax", "much"), EINVAL);
	EXPECT_EQ(limit_write("shmmni", "32769"), EINVAL);
	EXPECT_OK(shmctl(0, IPC_INFO, (struct shmid_ds *)&shm));
	EXPECT_EQ(shm.shmmax, 8192);
	EXPECT_EQ(shm.shmall, 4);
	EXPECT_EQ(shm.shmmni, 2);
	EXPECT_ERRNO(shmget(IPC_PRIVATE, 8193, 0600), EINVAL);
	EXPECT_OK(shmget(IPC_PRIVATE, 8192, 0600));
	EXPECT_OK(shmget(IPC_PRIVATE, 4096, 0600));
	EXPECT_ERRNO(shmget(IPC_PRIVATE, 4096, 0600), ENOSPC); /* the third */
	EXPECT_EQ(limit_write("shmmni", "9"), 0);
	EXPECT_ERRNO(shmget(IPC_PRIVATE, 8192, 0600), ENOSPC); /* the fifth page */
	EXPECT_OK(shmget(IPC_PRIVATE, 4096, 0600));

	EXPECT_EQ(limit_write("sem", "10 20 3 4"), 0);
	EXPECT_EQ(limit_write("sem", "11"), 0); /* the others stay */
	int fd = EXPECT_OK(open("/proc/sys/kernel/sem", O_RDONLY));
	EXPECT(read(fd, text, sizeof(text) - 1) > 0);
	EXPECT_STR(text, "11\t20\t3\t4\n");
	EXPECT_OK(semctl(0, 0, IPC_INFO, &sem));
	EXPECT_EQ(sem.semmsl, 11);
	EXPECT_ERRNO(semget(IPC_PRIVATE, 12, 0600), EINVAL);
	EXPECT_OK(semget(IPC_PRIVATE, 11, 0600));
	EXPECT_ERRNO(semget(IPC_PRIVATE, 10, 0600), ENOSPC);

	struct {
		long type;
		char data[64];
	} m = {.type = 1};
	EXPECT_EQ(limit_write("msgmax", "16"), 0);
	EXPECT_EQ(limit_write("msgmnb", "20"), 0);
	int q = EXPECT_OK(msgget(IPC_PRIVATE, 0600));
	EXPECT_ERRNO(msgsnd(q, &m, 17, IPC_NOWAIT), EINVAL);
	EXPECT_OK(msgsnd(q, &m, 16, IPC_NOWAIT));
	EXPECT_ERRNO(msgsnd(q, &m, 16, IPC_NOWAIT), EAGAIN);

	EXPECT_OK(unshare(CLONE_NEWIPC)); /* a new one begins with the usual ones */
	EXPECT_OK(shmctl(0, IPC_INFO, (struct shmid_ds *)&shm));
	EXPECT_EQ(shm.shmmni, 4096);
}

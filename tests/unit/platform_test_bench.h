/* platform_test NAME bench: what the platform's operations cost, microseconds, mean of the middle
 * half of the runs. */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void show(const char *what, double *us, int n)
{
	double sum = 0;

	qsort(us, (size_t)n, sizeof(*us), by_value);
	for (int i = n / 4; i < n - n / 4; i++)
		sum += us[i];
	printf("%-40s %8.2f us   (best %.2f, worst %.2f)\n", what, sum / (n - n / 4 * 2), us[0],
	       us[n - 1]);
}

static void bench_calls(const char *what, int calls, int runs)
{
	double us[64];

	for (int i = 0; i < runs; i++) {
		struct guest g = guest_new(g_counter);
		ops->regs(g.th)->rbx = (uint64_t)calls;
		ops->resume(g.th);
		double t = now_us();
		for (;;) {
			wait_for(g.th);
			if (ops->regs(g.th)->orig_rax != 39)
				break;
			ops->regs(g.th)->rax = 1;
			ops->resume(g.th);
		}
		us[i] = (now_us() - t) / calls;
		guest_end(&g);
	}
	show(what, us, runs);
}

/* Calls that are rare: the thread computes for longer than anybody spins. */
static void bench_rare(void)
{
	double us[200];
	struct guest g = guest_new(g_syscalls);

	for (int i = 0; i < 200; i++) {
		usleep(500);
		ops->regs(g.th)->rip = GUEST(g_syscalls);
		ops->regs(g.th)->rax = 1000;
		double t = now_us();
		run(g.th);
		us[i] = now_us() - t;
	}
	show("one call after 0.5 ms of sleep", us, 200);
	guest_end(&g);
}

static void bench_processes(void)
{
	double us[300], us2[300], us3[300];
	struct guest g = guest_new(g_nr), c;
	struct p_thread *t;

	for (int i = 0; i < 300; i++) {
		double a = now_us();
		CHECK_EQ(ops->fork(g.th, &c.as, &c.th), 0);
		double b = now_us();
		run_to_syscall(c.th, (long)ops->regs(c.th)->rax);
		double d = now_us();
		guest_end(&c);
		us[i] = b - a, us2[i] = d - b, us3[i] = now_us() - d;
	}
	show("fork", us, 300);
	show("  child: resume to first event", us2, 300);
	show("  child: end", us3, 300);
	for (int i = 0; i < 300; i++) {
		double a = now_us();
		CHECK_EQ(ops->thread_create(g.th, &t), 0);
		us[i] = now_us() - a;
		ops->regs(t)->rax = 9;
		run_to_syscall(t, 9);
		double b = now_us();
		ops->thread_destroy(t);
		us2[i] = now_us() - b;
	}
	show("thread_create", us, 300);
	show("thread_destroy", us2, 300);
	for (int i = 0; i < 100; i++) {
		usleep(3000);
		double a = now_us();
		CHECK_EQ(ops->aspace_create(pf, &c.as, &c.th), 0);
		us[i] = now_us() - a;
		guest_end(&c);
	}
	show("aspace_create, pool full", us, 100);
	for (int i = 0; i < 300; i++) {
		double a = now_us();
		CHECK_EQ(ops->aspace_create(pf, &c.as, &c.th), 0);
		us[i] = now_us() - a;
		guest_end(&c);
	}
	show("aspace_create, back to back", us, 300);
	guest_end(&g);
}

static void bench_memory(void)
{
	double us[1000];
	struct guest g = guest_new(g_nr);
	uint64_t v;

	for (int i = 0; i < 1000; i++) {
		double a = now_us();
		CHECK_EQ(ops->copy_in(g.as, g.th, &v, DATA, 8), 8);
		us[i] = now_us() - a;
	}
	show("copy_in, 8 bytes", us, 1000);
	for (int i = 0; i < 1000; i++) {
		struct p_memop m = map_op(0x2000000, 0x10000, PROT_READ | PROT_WRITE);
		run_to_syscall(g.th, (long)(int32_t)ops->regs(g.th)->rax);
		double a = now_us();
		CHECK_EQ(ops->mem(g.th, &m, 1), 0);
		us[i] = now_us() - a;
	}
	show("mem, one anonymous map", us, 1000);
	int fd = memfd_create("x", 0);
	CHECK_EQ(ftruncate(fd, 0x10000), 0);
	for (int i = 0; i < 1000; i++) {
		struct p_memop m = map_op(0x2000000, 0x10000, PROT_READ);
		m.fd = fd;
		double a = now_us();
		CHECK_EQ(ops->mem(g.th, &m, 1), 0);
		us[i] = now_us() - a;
	}
	show("mem, one file map", us, 1000);
	close(fd);
	guest_end(&g);
}

static void bench(void)
{
	current_test = "bench";
	usleep(20000);
	bench_calls("system call, back to back", 20000, 10);
	bench_rare();
	bench_processes();
	bench_memory();
}

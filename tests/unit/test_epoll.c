/* epoll: triggers, nesting, files that go, and threads that do it all at once. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "sentry/vfs/file.h"

#define OK(call) ck_assert_int_eq(call, 0)

/* A file whose readiness is a word. */
struct source {
	struct waitq wq;
	_Atomic uint32_t events;
};

static uint32_t source_poll(struct file *f)
{
	return ((struct source *)f->priv)->events;
}

static struct waitq *source_waitq(struct file *f)
{
	return &((struct source *)f->priv)->wq;
}

static void source_release(struct file *f)
{
	free(f->priv);
}

static const struct file_ops source_ops = {
	.stream = true,
	.poll = source_poll,
	.waitq = source_waitq,
	.release = source_release,
};
static const struct file_ops plain_ops = {.stream = true};

static struct file *new_file(const struct file_ops *ops, void *priv)
{
	struct file *f;
	struct inode *in = anon_inode_new(0600, NULL, NULL);
	ck_assert_ptr_nonnull(in);
	OK(file_new_anon(in, "source", ops, priv, O_RDWR, &f));
	return f;
}

static struct file *source_new(void)
{
	struct source *s = calloc(1, sizeof(*s));
	waitq_init(&s->wq);
	return new_file(&source_ops, s);
}

static void source_set(struct file *f, uint32_t events)
{
	struct source *s = f->priv;
	s->events = events;
	waitq_notify(&s->wq, events);
}

static struct file *ep_new(void)
{
	struct file *f;
	OK(epoll_create_file(O_RDWR, &f));
	return f;
}

static int ctl(struct file *ep, int op, int fd, struct file *target, uint32_t events)
{
	struct epoll_event_k ev = {events, (uint64_t)fd};
	return epoll_control(ep, op, fd, target, &ev);
}

/* The events of the only ready item; 0: none. */
static uint32_t one(struct file *ep)
{
	struct epoll_event_k ev[4];
	int n = epoll_collect(ep, ev, 4);
	ck_assert_int_le(n, 1);
	return n ? ev[0].events : 0;
}

START_TEST(level_triggers_report_again_and_edges_do_not)
{
	struct file *ep = ep_new(), *f = source_new();
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN));
	ck_assert_uint_eq(one(ep), 0);
	source_set(f, EPOLLIN | EPOLLOUT);
	ck_assert_uint_eq(one(ep), EPOLLIN);
	ck_assert_uint_eq(one(ep), EPOLLIN);
	source_set(f, 0);
	ck_assert_uint_eq(one(ep), 0);

	OK(ctl(ep, EPOLL_CTL_MOD, 3, f, EPOLLIN | EPOLLET));
	source_set(f, EPOLLIN);
	ck_assert_uint_eq(one(ep), EPOLLIN);
	ck_assert_uint_eq(one(ep), 0);
	source_set(f, EPOLLIN);
	ck_assert_uint_eq(one(ep), EPOLLIN);
	/* A change of the registration looks again. */
	OK(ctl(ep, EPOLL_CTL_MOD, 3, f, EPOLLIN | EPOLLET));
	ck_assert_uint_eq(one(ep), EPOLLIN);
	file_put(ep);
	file_put(f);
}
END_TEST

START_TEST(one_shots_fire_once_until_rearmed)
{
	struct file *ep = ep_new(), *f = source_new();
	source_set(f, EPOLLIN);
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN | EPOLLONESHOT));
	ck_assert_uint_eq(one(ep), EPOLLIN);
	ck_assert_uint_eq(one(ep), 0);
	source_set(f, EPOLLIN | EPOLLHUP);
	ck_assert_uint_eq(one(ep), 0);
	OK(ctl(ep, EPOLL_CTL_MOD, 3, f, EPOLLIN | EPOLLONESHOT));
	ck_assert_uint_eq(one(ep), EPOLLIN | EPOLLHUP);
	ck_assert_uint_eq(one(ep), 0);
	file_put(f);
	file_put(ep);
}
END_TEST

START_TEST(errors_and_hang_ups_need_no_asking)
{
	struct file *ep = ep_new(), *f = source_new();
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, 0));
	source_set(f, EPOLLIN | EPOLLHUP);
	ck_assert_uint_eq(one(ep), EPOLLHUP);
	source_set(f, EPOLLERR);
	ck_assert_uint_eq(one(ep), EPOLLERR);
	file_put(f);
	file_put(ep);
}
END_TEST

START_TEST(registrations_are_by_number_and_file)
{
	struct file *ep = ep_new(), *f = source_new(), *plain = new_file(&plain_ops, NULL);
	struct epoll_event_k ev[8];
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN));
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN), -EEXIST);
	OK(ctl(ep, EPOLL_CTL_ADD, 4, f, EPOLLIN));
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_MOD, 5, f, EPOLLIN), -ENOENT);
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_DEL, 5, f, 0), -ENOENT);
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_ADD, 6, plain, EPOLLIN), -EPERM);
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_ADD, 6, ep, EPOLLIN), -EINVAL);
	ck_assert_int_eq(ctl(f, EPOLL_CTL_ADD, 6, ep, EPOLLIN), -EINVAL);
	ck_assert_int_eq(ctl(ep, 77, 3, f, EPOLLIN), -EINVAL);
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_MOD, 3, f, EPOLLIN | EPOLLEXCLUSIVE), -EINVAL);
	ck_assert_int_eq(ctl(ep, EPOLL_CTL_ADD, 9, f, EPOLLPRI | EPOLLEXCLUSIVE), -EINVAL);
	source_set(f, EPOLLIN);
	ck_assert_int_eq(epoll_collect(ep, ev, 8), 2);
	ck_assert_uint_eq(ev[0].data + ev[1].data, 7);
	/* Room for one: they take turns. */
	ck_assert_int_eq(epoll_collect(ep, ev, 1), 1);
	ck_assert_int_eq(epoll_collect(ep, ev + 1, 1), 1);
	ck_assert_uint_eq(ev[0].data + ev[1].data, 7);
	OK(ctl(ep, EPOLL_CTL_DEL, 3, f, 0));
	ck_assert_int_eq(epoll_collect(ep, ev, 8), 1);
	file_put(f);
	file_put(plain);
	file_put(ep);
}
END_TEST

START_TEST(a_file_that_goes_leaves_the_set)
{
	struct file *ep = ep_new(), *f = source_new(), *g = source_new();
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN));
	OK(ctl(ep, EPOLL_CTL_ADD, 4, g, EPOLLIN));
	source_set(f, EPOLLIN);
	file_put(f);
	ck_assert_uint_eq(one(ep), 0);
	source_set(g, EPOLLIN);
	ck_assert_uint_eq(one(ep), EPOLLIN);
	file_put(ep);
	source_set(g, EPOLLIN);
	file_put(g);
}
END_TEST

START_TEST(epolls_watch_epolls)
{
	struct file *outer = ep_new(), *inner = ep_new(), *f = source_new();
	struct epoll_event_k ev;
	OK(ctl(outer, EPOLL_CTL_ADD, 5, inner, EPOLLIN));
	OK(ctl(inner, EPOLL_CTL_ADD, 3, f, EPOLLIN));
	ck_assert_uint_eq(file_poll(outer), 0);
	source_set(f, EPOLLIN);
	ck_assert_uint_ne(file_poll(inner) & POLLIN, 0);
	ck_assert_uint_ne(file_poll(outer) & POLLIN, 0);
	ck_assert_uint_eq(one(outer), EPOLLIN);
	ck_assert_int_eq(epoll_collect(inner, &ev, 1), 1);
	/* What is not ready any more is found out by asking. */
	((struct source *)f->priv)->events = 0;
	ck_assert_uint_eq(file_poll(outer), 0);
	ck_assert_uint_eq(one(outer), 0);
	file_put(inner);
	file_put(outer);
	file_put(f);
}
END_TEST

START_TEST(loops_and_long_chains_are_refused)
{
	struct file *ep[6], *f = source_new();
	for (int i = 0; i < 6; i++)
		ep[i] = ep_new();
	OK(ctl(ep[0], EPOLL_CTL_ADD, 3, f, EPOLLIN));
	/* From the top down, so that levels have to rise along the chain. */
	for (int i = 4; i > 0; i--)
		OK(ctl(ep[i], EPOLL_CTL_ADD, 3, ep[i - 1], EPOLLIN));
	ck_assert_int_eq(ctl(ep[5], EPOLL_CTL_ADD, 3, ep[4], EPOLLIN), -ELOOP);
	ck_assert_int_eq(ctl(ep[0], EPOLL_CTL_ADD, 3, ep[4], EPOLLIN), -ELOOP);
	ck_assert_int_eq(ctl(ep[0], EPOLL_CTL_ADD, 3, ep[1], EPOLLIN), -ELOOP);
	source_set(f, EPOLLIN);
	ck_assert_uint_eq(one(ep[4]), EPOLLIN);
	OK(ctl(ep[4], EPOLL_CTL_DEL, 3, ep[3], 0));
	OK(ctl(ep[5], EPOLL_CTL_ADD, 3, ep[4], EPOLLIN));
	for (int i = 0; i < 6; i++)
		file_put(ep[i]);
	file_put(f);
}
END_TEST

struct counter {
	struct waiter w;
	int n;
};

static void count(struct waiter *w, uint32_t events)
{
	(void)events;
	container_of(w, struct counter, w)->n++;
}

START_TEST(an_event_wakes_one_sleeper_and_every_watcher)
{
	struct file *ep = ep_new(), *f = source_new();
	struct counter sleeper[2] = {{.w.notify = count}, {.w.notify = count}};
	struct counter watcher[2] = {{.w.notify = count}, {.w.notify = count}};
	OK(ctl(ep, EPOLL_CTL_ADD, 3, f, EPOLLIN));
	for (int i = 0; i < 2; i++) {
		waitq_add(epoll_sleepers(ep), &sleeper[i].w, POLLIN);
		waitq_add(file_waitq(ep), &watcher[i].w, POLLIN);
	}
	source_set(f, EPOLLOUT);
	ck_assert_int_eq(sleeper[0].n + watcher[0].n, 0);
	source_set(f, EPOLLIN);
	ck_assert_int_eq(sleeper[0].n, 1);
	ck_assert_int_eq(sleeper[1].n, 0);
	ck_assert_int_eq(watcher[0].n + watcher[1].n, 2);
	/* It leaves without collecting: the next one is told. */
	waitq_remove(&sleeper[0].w);
	epoll_pass_on(ep);
	ck_assert_int_eq(sleeper[1].n, 1);
	waitq_remove(&sleeper[1].w);
	waitq_remove(&watcher[0].w);
	waitq_remove(&watcher[1].w);
	file_put(ep);
	file_put(f);
}
END_TEST

static struct file *shared_ep, *shared_f;

static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	for (int i = 0; i < 4000; i++) {
		struct epoll_event_k ev[4];
		struct file *f;
		switch (rand_r(&seed) % 6) {
		case 0:
			(void)!ctl(shared_ep, EPOLL_CTL_ADD, rand_r(&seed) % 4, shared_f,
				   EPOLLIN | (rand_r(&seed) & 1 ? EPOLLET : 0));
			break;
		case 1:
			(void)!ctl(shared_ep, EPOLL_CTL_DEL, rand_r(&seed) % 4, shared_f, 0);
			break;
		case 2:
			source_set(shared_f, EPOLLIN);
			break;
		case 3: /* a file that lives shortly */
			f = source_new();
			(void)!ctl(shared_ep, EPOLL_CTL_ADD, 9, f, EPOLLIN);
			source_set(f, EPOLLIN);
			file_put(f);
			break;
		case 4: { /* an epoll that lives shortly, watching and watched */
			f = ep_new();
			OK(ctl(f, EPOLL_CTL_ADD, 1, shared_f, EPOLLIN));
			(void)!ctl(shared_ep, EPOLL_CTL_ADD, 10, f, EPOLLIN);
			file_put(f);
			break;
		}
		default:
			(void)!epoll_collect(shared_ep, ev, 4);
		}
	}
	return NULL;
}

START_TEST(threads_do_everything_at_once)
{
	pthread_t t[4];
	shared_ep = ep_new();
	shared_f = source_new();
	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, hammer, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	file_put(shared_f);
	file_put(shared_ep);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("epoll");
	TCase *tc = tcase_create("all");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, level_triggers_report_again_and_edges_do_not);
	tcase_add_test(tc, one_shots_fire_once_until_rearmed);
	tcase_add_test(tc, errors_and_hang_ups_need_no_asking);
	tcase_add_test(tc, registrations_are_by_number_and_file);
	tcase_add_test(tc, a_file_that_goes_leaves_the_set);
	tcase_add_test(tc, epolls_watch_epolls);
	tcase_add_test(tc, loops_and_long_chains_are_refused);
	tcase_add_test(tc, an_event_wakes_one_sleeper_and_every_watcher);
	tcase_add_test(tc, threads_do_everything_at_once);
	suite_add_tcase(s, tc);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "sentry/auth/net_ns.h"
#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/net/unix/unix.h"
#include "sentry/time/ktimer.h"

static struct cred *root;
static struct sock_caller me;

static void setup(void)
{
	root = cred_new_root();
	me = (struct sock_caller){.pid = 42, .cred = root};
}

static struct socket *sock_new(int type)
{
	struct socket *s;

	ck_assert_int_eq(socket_create(AF_UNIX, type, 0, &s), 0);
	return s;
}

static struct file *file_of(struct socket *s)
{
	struct file *f;

	ck_assert_int_eq(socket_file_new(s, 0, &f), 0);
	return f;
}

static void pair(int type, struct file **a, struct file **b)
{
	struct socket *sa = sock_new(type), *sb = sock_new(type);

	ck_assert_int_eq(sa->ops->pair(sa, sb, &me), 0);
	*a = file_of(sa);
	*b = file_of(sb);
}

static struct sock_addr abstract(const char *name)
{
	struct sock_addr a = {.family = AF_UNIX};

	memcpy(a.bytes + 3, name, strlen(name));
	a.len = 3 + strlen(name);
	return a;
}

static void msg_init(struct sock_msg *m, struct uio *io, int flags)
{
	memset(m, 0, sizeof(*m));
	m->io = io;
	m->flags = flags;
}

static ssize_t send_flags(struct file *f, const void *buf, size_t n, struct file *pass)
{
	struct uio io;
	struct uio_seg seg;
	struct sock_msg m;

	uio_init_kernel(&io, &seg, (void *)(uintptr_t)buf, n);
	msg_init(&m, &io, 0);
	if (pass)
		m.files[m.nfiles++] = file_get(pass);
	ssize_t got = socket_sendmsg(socket_of_file(f), &m, &me);
	sock_msg_fini(&m);
	return got;
}

static ssize_t put(struct file *f, const void *buf, size_t n)
{
	return send_flags(f, buf, n, NULL);
}

static ssize_t recv_msg(struct file *f, void *buf, size_t n, int flags, struct sock_msg *m)
{
	struct uio io;
	struct uio_seg seg;

	uio_init_kernel(&io, &seg, buf, n);
	msg_init(m, &io, flags);
	return socket_recvmsg(socket_of_file(f), m);
}

static ssize_t get(struct file *f, void *buf, size_t n)
{
	struct sock_msg m;
	ssize_t got = recv_msg(f, buf, n, 0, &m);

	sock_msg_fini(&m);
	return got;
}

/* A listener, and a connected pair through it. */
static struct file *listener(const char *name, int type, int backlog)
{
	struct socket *s = sock_new(type);
	struct sock_addr a = abstract(name);

	ck_assert_int_eq(s->ops->bind(s, &a, &me), 0);
	ck_assert_int_eq(s->ops->listen(s, backlog, &me), 0);
	return file_of(s);
}

static int connect_to(struct socket *s, const char *name)
{
	struct sock_addr a = abstract(name);

	return s->ops->connect(s, &a, &me, true);
}

START_TEST(stream_joins_writes_and_ends)
{
	struct file *a, *b;
	char buf[16];

	pair(SOCK_STREAM, &a, &b);
	ck_assert_int_eq(get(b, buf, 4), -EAGAIN);
	ck_assert_int_eq(put(a, "abc", 3), 3);
	ck_assert_int_eq(put(a, "def", 3), 3);
	ck_assert_int_eq(get(b, buf, 4), 4);
	ck_assert_mem_eq(buf, "abcd", 4);
	ck_assert_int_eq(get(b, buf, 16), 2);
	put(a, "xy", 2);
	file_put(a);
	ck_assert_uint_eq(file_poll(b) & (POLLHUP | POLLIN | POLLRDHUP),
			  POLLHUP | POLLIN | POLLRDHUP);
	ck_assert_int_eq(get(b, buf, 16), 2);
	ck_assert_int_eq(get(b, buf, 16), 0);
	ck_assert_int_eq(put(b, "z", 1), -EPIPE);
	file_put(b);
}
END_TEST

START_TEST(close_with_unread_data_resets_the_peer)
{
	struct file *a, *b;
	char c;

	pair(SOCK_STREAM, &a, &b);
	put(b, "lost", 4);
	file_put(a);
	ck_assert_uint_eq(file_poll(b) & POLLERR, POLLERR);
	ck_assert_int_eq(get(b, &c, 1), -ECONNRESET);
	ck_assert_int_eq(get(b, &c, 1), 0);
	file_put(b);
}
END_TEST

START_TEST(full_stream_waits_until_a_quarter_is_left)
{
	struct file *a, *b;
	static char buf[1 << 16];
	size_t sent = 0;
	ssize_t n;

	pair(SOCK_STREAM, &a, &b);
	while ((n = put(a, buf, 1000)) > 0)
		sent += (size_t)n;
	ck_assert_int_eq(n, -EAGAIN);
	ck_assert_uint_ge(sent, 100000);
	ck_assert_uint_le(sent, 300000);
	ck_assert_uint_eq(file_poll(a) & POLLOUT, 0);
	while ((n = get(b, buf, sizeof(buf))) > 0)
		sent -= (size_t)n;
	ck_assert_uint_eq(sent, 0);
	ck_assert_uint_eq(file_poll(a) & POLLOUT, POLLOUT);
	file_put(a);
	file_put(b);
}
END_TEST

START_TEST(shutdown_closes_one_direction)
{
	struct file *a, *b;
	char c;

	pair(SOCK_STREAM, &a, &b);
	struct socket *s = socket_of_file(a);
	put(a, "x", 1);
	ck_assert_int_eq(s->ops->shutdown(s, SHUT_WR), 0);
	ck_assert_int_eq(put(a, "y", 1), -EPIPE);
	ck_assert_int_eq(get(b, &c, 1), 1);
	ck_assert_int_eq(get(b, &c, 1), 0);
	ck_assert_int_eq(put(b, "z", 1), 1);
	ck_assert_int_eq(get(a, &c, 1), 1);
	ck_assert_uint_eq(file_poll(b) & POLLHUP, 0);
	file_put(a);
	file_put(b);
}
END_TEST

START_TEST(peek_takes_nothing)
{
	struct file *a, *b;
	struct sock_msg m;
	char buf[8];

	pair(SOCK_STREAM, &a, &b);
	put(a, "abcd", 4);
	ck_assert_int_eq(recv_msg(b, buf, 8, MSG_PEEK, &m), 4);
	ck_assert_int_eq(get(b, buf, 8), 4);
	file_put(a);
	file_put(b);
}
END_TEST

START_TEST(passed_file_arrives_with_its_byte)
{
	struct file *a, *b, *ev;
	struct sock_msg m;
	char buf[8];

	pair(SOCK_STREAM, &a, &b);
	ck_assert_int_eq(eventfd_create_file(5, 0, &ev), 0);
	put(a, "ab", 2);
	ck_assert_int_eq(send_flags(a, "cd", 2, ev), 2);
	put(a, "ef", 2);
	ck_assert_uint_eq(ref_read(&ev->ref), 2);

	/* Bytes before it may come along, those after it may not. */
	ck_assert_int_eq(recv_msg(b, buf, 8, MSG_PEEK, &m), 4);
	ck_assert_uint_eq(m.nfiles, 1);
	ck_assert_uint_eq(ref_read(&ev->ref), 3);
	sock_msg_fini(&m);
	ck_assert_int_eq(recv_msg(b, buf, 8, 0, &m), 4);
	ck_assert_uint_eq(m.nfiles, 1);
	ck_assert_ptr_eq(m.files[0], ev);
	sock_msg_fini(&m);
	ck_assert_int_eq(recv_msg(b, buf, 8, 0, &m), 2);
	ck_assert_uint_eq(m.nfiles, 0);

	/* What is never read goes with the socket. */
	send_flags(a, "g", 1, ev);
	file_put(b);
	file_put(a);
	ck_assert_uint_eq(ref_read(&ev->ref), 1);
	file_put(ev);
}
END_TEST

START_TEST(deep_nesting_of_passed_sockets_is_freed_without_recursion)
{
	struct file *a, *b, *x, *y;
	const int depth = 4000;

	/* Each message holds the receiving end whose queue holds the one before. */
	pair(SOCK_STREAM, &a, &b);
	for (int i = 0; i < depth; i++) {
		pair(SOCK_STREAM, &x, &y);
		ck_assert_int_eq(send_flags(x, "n", 1, b), 1);
		file_put(a);
		file_put(b);
		a = x;
		b = y;
	}
	file_put(a);
	file_put(b);
	/* All are gone: as many files may be in flight again. */
	struct file *ev;
	ck_assert_int_eq(eventfd_create_file(0, 0, &ev), 0);
	pair(SOCK_STREAM, &a, &b);
	for (int i = 0; i < 200; i++)
		ck_assert_int_eq(send_flags(a, "n", 1, ev), 1);
	file_put(a);
	file_put(b);
	ck_assert_uint_eq(ref_read(&ev->ref), 1);
	file_put(ev);
}
END_TEST

START_TEST(files_in_flight_are_bounded)
{
	struct file *a, *b;
	ssize_t n = 0;
	int sent = 0;

	/* A pair that is sent to itself and closed: nobody can reach it again. */
	for (int i = 0; i < 20000; i++) {
		pair(SOCK_STREAM, &a, &b);
		n = send_flags(a, "n", 1, b);
		file_put(a);
		file_put(b);
		if (n < 0)
			break;
		sent++;
	}
	ck_assert_int_eq(n, -ETOOMANYREFS);
	ck_assert_int_le(sent, 16384);
	_exit(0); /* without a look for leaks: these are meant */
}
END_TEST

START_TEST(credentials_come_with_messages)
{
	struct file *a, *b;
	struct sock_msg m;
	char buf[8];
	int on = 1;

	pair(SOCK_STREAM, &a, &b);
	struct socket *s = socket_of_file(b);
	ck_assert_int_eq(socket_setsockopt(s, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on), root), 0);
	put(a, "a", 1);
	me.pid = 43;
	put(a, "b", 1);
	ck_assert_int_eq(recv_msg(b, buf, 8, 0, &m), 1); /* not glued to another sender's */
	ck_assert(m.has_creds);
	ck_assert_int_eq(m.creds.pid, 42);
	ck_assert_int_eq(recv_msg(b, buf, 8, 0, &m), 1);
	ck_assert_int_eq(m.creds.pid, 43);

	struct sock_ucred u;
	uint32_t len = sizeof(u);
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, SO_PEERCRED, &user_ns_top, &u, &len), 0);
	ck_assert_int_eq(u.pid, 42);
	ck_assert_uint_eq(u.uid, 0);
	file_put(a);
	file_put(b);
}
END_TEST

START_TEST(datagrams_keep_borders_and_truncate)
{
	struct file *a, *b;
	struct sock_msg m;
	char buf[8];

	pair(SOCK_DGRAM, &a, &b);
	ck_assert_int_eq(put(a, "abcd", 4), 4);
	ck_assert_int_eq(put(a, "", 0), 0);
	ck_assert_int_eq(put(a, "ef", 2), 2);
	ck_assert_int_eq(recv_msg(b, buf, 2, 0, &m), 2);
	ck_assert_int_eq(m.out_flags, MSG_TRUNC);
	ck_assert_uint_eq(m.full_len, 4);
	ck_assert_int_eq(get(b, buf, 8), 0);
	ck_assert_int_eq(get(b, buf, 8), 2);
	ck_assert_int_eq(get(b, buf, 8), -EAGAIN);
	file_put(b);
	ck_assert_int_eq(put(a, "x", 1), -ECONNREFUSED);
	ck_assert_int_eq(put(a, "x", 1), -ENOTCONN);
	file_put(a);
}
END_TEST

START_TEST(datagram_queue_is_short_and_wakes_its_senders)
{
	struct socket *rs = sock_new(SOCK_DGRAM), *ss = sock_new(SOCK_DGRAM);
	struct sock_addr name = abstract("q");
	struct file *r = file_of(rs), *s = file_of(ss);
	char buf[8];
	int sent = 0;

	ck_assert_int_eq(rs->ops->bind(rs, &name, &me), 0);
	ck_assert_int_eq(connect_to(ss, "q"), 0);
	while (put(s, "x", 1) == 1)
		sent++;
	ck_assert_int_eq(sent, net_limits(NULL)[NET_DGRAM_QLEN] + 1);
	ck_assert_uint_eq(file_poll(s) & POLLOUT, 0);
	ck_assert_int_eq(get(r, buf, 1), 1);
	ck_assert_uint_eq(file_poll(s) & POLLOUT, POLLOUT);
	ck_assert_int_eq(put(s, "x", 1), 1);
	ck_assert_int_eq(put(s, "x", 1), -EAGAIN);
	file_put(r); /* a sender that waits must not be left on a dead list */
	file_put(s);
}
END_TEST

START_TEST(listen_connect_accept)
{
	struct file *l = listener("srv", SOCK_STREAM, 1);
	struct socket *ls = socket_of_file(l), *got;
	struct socket *c[3];
	struct sock_addr a;
	char buf[4];

	for (int i = 0; i < 3; i++)
		c[i] = sock_new(SOCK_STREAM);
	ck_assert_int_eq(ls->ops->accept(ls, &got), -EAGAIN);
	ck_assert_int_eq(connect_to(c[0], "nobody"), -ECONNREFUSED);
	ck_assert_int_eq(connect_to(c[0], "srv"), 0);
	ck_assert_int_eq(connect_to(c[0], "srv"), -EISCONN);
	ck_assert_int_eq(connect_to(c[1], "srv"), 0);
	ck_assert_int_eq(connect_to(c[2], "srv"), -EAGAIN);
	ck_assert_uint_eq(file_poll(l), POLLIN | POLLRDNORM);
	ck_assert_int_eq(ls->ops->accept(ls, &got), 0);
	ck_assert_int_eq(connect_to(c[2], "srv"), 0);

	struct file *f0 = file_of(c[0]), *g = file_of(got);
	put(f0, "hi", 2);
	ck_assert_int_eq(get(g, buf, 4), 2);
	ck_assert_int_eq(got->ops->getname(got, false, &a), 0);
	ck_assert_uint_eq(a.len, 3 + 3);
	ck_assert_int_eq(got->ops->getname(got, true, &a), 0);
	ck_assert_uint_eq(a.len, 2);
	ck_assert_int_eq(c[0]->ops->getname(c[0], true, &a), 0);
	ck_assert_mem_eq(a.bytes + 3, "srv", 3);

	/* The listener goes, and with it who was not accepted. */
	struct file *f1 = file_of(c[1]);
	file_put(l);
	ck_assert_int_eq(get(f1, buf, 4), -ECONNRESET);
	ck_assert_int_eq(put(f1, "x", 1), -EPIPE);
	socket_discard(c[2]);
	file_put(f1);
	file_put(f0);
	ck_assert_int_eq(get(g, buf, 4), 0);
	file_put(g);
}
END_TEST

START_TEST(names_are_unique_and_return)
{
	struct socket *a = sock_new(SOCK_STREAM), *b = sock_new(SOCK_STREAM);
	struct sock_addr n = abstract("one"), none = {.len = 2, .family = AF_UNIX}, got;

	ck_assert_int_eq(a->ops->bind(a, &n, &me), 0);
	ck_assert_int_eq(a->ops->bind(a, &n, &me), -EINVAL);
	ck_assert_int_eq(b->ops->bind(b, &n, &me), -EADDRINUSE);
	socket_discard(a);
	ck_assert_int_eq(b->ops->bind(b, &n, &me), 0);
	a = sock_new(SOCK_DGRAM);
	ck_assert_int_eq(a->ops->bind(a, &none, &me), 0);
	ck_assert_int_eq(a->ops->getname(a, false, &got), 0);
	ck_assert_uint_eq(got.len, 2 + 6);
	ck_assert_uint_eq(got.bytes[2], 0);
	ck_assert_int_eq(connect_to(a, "one"), -ECONNREFUSED); /* types have names of their own */
	socket_discard(a);
	socket_discard(b);
}
END_TEST

START_TEST(other_families_are_not_there)
{
	struct socket *s;

	ck_assert_int_eq(socket_create(AF_BLUETOOTH, SOCK_RAW, 0, &s), -EAFNOSUPPORT);
	ck_assert_int_eq(socket_create(AF_UNIX, SOCK_RDM, 0, &s), -ESOCKTNOSUPPORT);
	ck_assert_int_eq(socket_create(AF_UNIX, SOCK_STREAM, 7, &s), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(options_are_kept_and_bounded)
{
	struct socket *s = sock_new(SOCK_STREAM);
	struct timeval tv = {2, 500000};
	uint32_t len = sizeof(int);
	int v = 1 << 30;

	ck_assert_int_eq(socket_setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, sizeof(v), root), 0);
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, SO_SNDBUF, &user_ns_top, &v, &len), 0);
	ck_assert_int_eq(v, 2 * 212992);
	v = 1;
	ck_assert_int_eq(socket_setsockopt(s, SOL_SOCKET, SO_SNDBUF, &v, sizeof(v), root), 0);
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, SO_SNDBUF, &user_ns_top, &v, &len), 0);
	ck_assert_int_eq(v, 4608);
	ck_assert_int_eq(socket_setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv), root), 0);
	ck_assert_int_eq(s->rcvtimeo, 2500000000);
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, SO_DOMAIN, &user_ns_top, &v, &len), 0);
	ck_assert_int_eq(v, AF_UNIX);
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, 9999, &user_ns_top, &v, &len),
			 -ENOPROTOOPT);
	len = 2;
	ck_assert_int_eq(socket_getsockopt(s, SOL_SOCKET, SO_TYPE, &user_ns_top, &v, &len), 0);
	ck_assert_uint_eq(len, 2);
	socket_discard(s);
}
END_TEST

#define STREAM_BYTES (8u << 20)

static void *write_stream(void *arg)
{
	static uint32_t block[40000];
	uint32_t next = 0;
	unsigned seed = 7;

	while (next < STREAM_BYTES / 4) {
		size_t n = 1 + rand_r(&seed) % (seed & 64 ? ARRAY_SIZE(block) : 20);
		n = MIN(n, STREAM_BYTES / 4 - next);
		for (size_t i = 0; i < n; i++)
			block[i] = next + i;
		size_t done = 0;
		while (done < n * 4) {
			ssize_t got = put(arg, (char *)block + done, n * 4 - done);
			if (got > 0)
				done += (size_t)got;
			else
				sched_yield();
		}
		next += n;
	}
	file_put(arg);
	return NULL;
}

START_TEST(reader_and_writer_run_side_by_side)
{
	struct file *a, *b;
	pthread_t thread;
	uint32_t next = 0;
	static char block[50000];
	size_t have = 0;
	unsigned seed = 3;

	pair(SOCK_STREAM, &a, &b);
	pthread_create(&thread, NULL, write_stream, a);
	for (;;) {
		ssize_t got = get(b, block + have, 1 + rand_r(&seed) % (sizeof(block) - have));
		if (got == -EAGAIN) {
			sched_yield();
			continue;
		}
		if (got == 0)
			break;
		ck_assert_int_gt(got, 0);
		have += (size_t)got;
		size_t at = 0;
		for (; at + 4 <= have; at += 4) {
			uint32_t v;
			memcpy(&v, block + at, 4);
			ck_assert_uint_eq(v, next);
			next++;
		}
		have -= at;
		memmove(block, block + at, have);
	}
	ck_assert_uint_eq(next, STREAM_BYTES / 4);
	pthread_join(thread, NULL);
	file_put(b);
}
END_TEST

static _Atomic bool churn_stop;

static void *churn_connect(void *arg)
{
	(void)arg;
	while (!churn_stop) {
		struct socket *c = sock_new(SOCK_SEQPACKET);
		if (!connect_to(c, "churn")) {
			struct file *f = file_of(c);
			put(f, "hello", 5);
			file_put(f);
		} else {
			socket_discard(c);
		}
	}
	return NULL;
}

START_TEST(connections_come_and_go_from_several_threads)
{
	pthread_t thread[2];
	int accepted = 0;

	churn_stop = false;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, churn_connect, NULL);
	for (int round = 0; round < 50; round++) {
		struct file *l = listener("churn", SOCK_SEQPACKET, 3);
		struct socket *ls = socket_of_file(l), *got;
		for (int i = 0; i < 100; i++) {
			if (ls->ops->accept(ls, &got)) {
				sched_yield();
				continue;
			}
			struct file *g = file_of(got);
			char buf[8];
			ssize_t n = get(g, buf, 8);
			ck_assert(n == 5 || n == -EAGAIN || n == 0);
			accepted++;
			file_put(g);
		}
		file_put(l);
	}
	churn_stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	ck_assert_int_gt(accepted, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("unix_socket");
	TCase *tc = tcase_create("unix_socket");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, stream_joins_writes_and_ends);
	tcase_add_test(tc, close_with_unread_data_resets_the_peer);
	tcase_add_test(tc, full_stream_waits_until_a_quarter_is_left);
	tcase_add_test(tc, shutdown_closes_one_direction);
	tcase_add_test(tc, peek_takes_nothing);
	tcase_add_test(tc, passed_file_arrives_with_its_byte);
	tcase_add_test(tc, deep_nesting_of_passed_sockets_is_freed_without_recursion);
	tcase_add_exit_test(tc, files_in_flight_are_bounded, 0);
	tcase_add_test(tc, credentials_come_with_messages);
	tcase_add_test(tc, datagrams_keep_borders_and_truncate);
	tcase_add_test(tc, datagram_queue_is_short_and_wakes_its_senders);
	tcase_add_test(tc, listen_connect_accept);
	tcase_add_test(tc, names_are_unique_and_return);
	tcase_add_test(tc, other_families_are_not_there);
	tcase_add_test(tc, options_are_kept_and_bounded);
	tcase_add_test(tc, reader_and_writer_run_side_by_side);
	tcase_add_test(tc, connections_come_and_go_from_several_threads);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}

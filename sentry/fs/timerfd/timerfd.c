#include "sentry/fs/timerfd/timerfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "sentry/mm/uaccess.h"
#include "sentry/time/ktimer.h"
#include "sentry/vfs/file.h"

struct timerfd {
	struct mutex lock; /* lc_pipe */
	struct waitq wq;
	struct ktimer timer;
	int clock;
	int64_t next;	     /* CLOCK_MONOTONIC ns of the next expiration; TIME_NEVER: disarmed */
	int64_t interval;    /* 0: once */
	unsigned generation; /* of settings */
};

static const struct file_ops timerfd_ops;

static void timerfd_fire(struct ktimer *k)
{
	waitq_notify(&container_of(k, struct timerfd, timer)->wq, POLLIN);
}

/* Expirations up to `now`; lc_pipe held. */
static uint64_t timerfd_ticks(const struct timerfd *t, int64_t now)
{
	if (t->next == TIME_NEVER || now < t->next)
		return 0;
	return t->interval ? 1 + (uint64_t)(now - t->next) / t->interval : 1;
}

static void timerfd_arm(struct timerfd *t)
{
	if (t->next != TIME_NEVER)
		ktimer_arm(&t->timer, t->next);
}

static ssize_t timerfd_read(struct file *f, struct uio *io, int64_t *off)
{
	struct timerfd *t = f->priv;

	(void)off;
	if (io->left < sizeof(uint64_t))
		return -EINVAL;
	mutex_lock(&t->lock, &lc_pipe);
	uint64_t ticks = timerfd_ticks(t, time_monotonic());
	int64_t before = t->next;
	unsigned generation = t->generation;
	if (ticks) {
		t->next = t->interval ? t->next + (int64_t)ticks * t->interval : TIME_NEVER;
		timerfd_arm(t);
	}
	mutex_unlock(&t->lock, &lc_pipe);
	if (!ticks)
		return -EAGAIN;

	ssize_t n = uio_put(io, &ticks, sizeof(ticks));
	if (n == sizeof(ticks))
		return n;
	mutex_lock(&t->lock, &lc_pipe);
	if (generation == t->generation)
		t->next = before;
	mutex_unlock(&t->lock, &lc_pipe);
	waitq_notify(&t->wq, POLLIN);
	return -EFAULT;
}

static uint32_t timerfd_poll(struct file *f)
{
	struct timerfd *t = f->priv;

	mutex_lock(&t->lock, &lc_pipe);
	bool ready = timerfd_ticks(t, time_monotonic()) != 0;
	mutex_unlock(&t->lock, &lc_pipe);
	return ready ? POLLIN : 0;
}

static struct waitq *timerfd_waitq(struct file *f)
{
	return &((struct timerfd *)f->priv)->wq;
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){.tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC};
}

static bool timespec_valid(const struct timespec *ts)
{
	return ts->tv_sec >= 0 && ts->tv_nsec >= 0 && ts->tv_nsec < NSEC_PER_SEC;
}

static int64_t from_timespec(const struct timespec *ts)
{
	if (ts->tv_sec >= INT64_MAX / NSEC_PER_SEC)
		return INT64_MAX;
	return ts->tv_sec * NSEC_PER_SEC + ts->tv_nsec;
}

static int64_t clock_now(int clock)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_ALARM:
		return time_realtime();
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return time_boottime();
	default:
		return time_monotonic();
	}
}

/* An offset may have made `now` negative. */
static int64_t time_left(int64_t until, int64_t now)
{
	int64_t left;

	return __builtin_sub_overflow(until, now, &left) ? INT64_MAX : MAX(left, (int64_t)0);
}

/* What timerfd_gettime(2) shows; lc_pipe held. */
static void timerfd_show_setting(const struct timerfd *t, struct itimerspec *cur)
{
	int64_t now = time_monotonic();
	int64_t left = 0;

	if (t->next != TIME_NEVER) {
		uint64_t ticks = timerfd_ticks(t, now);
		left = t->next - now;
		if (ticks)
			left = t->interval ? left + (int64_t)ticks * t->interval : 0;
	}
	cur->it_value = to_timespec(left);
	cur->it_interval = to_timespec(t->interval);
}

int timerfd_set(struct file *f, int flags, const struct itimerspec *new, struct itimerspec *old,
		const struct time_offsets *offsets)
{
	if (f->ops != &timerfd_ops || !timespec_valid(&new->it_value) ||
	    !timespec_valid(&new->it_interval))
		return -EINVAL;

	struct timerfd *t = f->priv;
	int64_t value = from_timespec(&new->it_value);
	int64_t now = time_monotonic();
	int64_t next = TIME_NEVER;
	if (value) {
		if (flags & TFD_TIMER_ABSTIME)
			value = time_left(value,
					  clock_now(t->clock) + time_offset_of(offsets, t->clock));
		next = value >= TIME_NEVER - now ? TIME_NEVER - 1 : now + value;
	}

	mutex_lock(&t->lock, &lc_pipe);
	if (old)
		timerfd_show_setting(t, old);
	t->generation++;
	t->next = next;
	t->interval = next != TIME_NEVER ? from_timespec(&new->it_interval) : 0;
	timerfd_arm(t);
	mutex_unlock(&t->lock, &lc_pipe);
	return 0;
}

int timerfd_get(struct file *f, struct itimerspec *cur)
{
	if (f->ops != &timerfd_ops)
		return -EINVAL;
	struct timerfd *t = f->priv;
	mutex_lock(&t->lock, &lc_pipe);
	timerfd_show_setting(t, cur);
	mutex_unlock(&t->lock, &lc_pipe);
	return 0;
}

static size_t timerfd_show(struct file *f, char *buf, size_t size)
{
	struct timerfd *t = f->priv;
	struct itimerspec cur;

	mutex_lock(&t->lock, &lc_pipe);
	timerfd_show_setting(t, &cur);
	uint64_t ticks = timerfd_ticks(t, time_monotonic());
	mutex_unlock(&t->lock, &lc_pipe);
	return snprintf(buf, size,
			"clockid: %d\nticks: %" PRIu64 "\nsettime flags: 0\n"
			"it_value: (%ld, %ld)\nit_interval: (%ld, %ld)\n",
			t->clock, ticks, cur.it_value.tv_sec, cur.it_value.tv_nsec,
			cur.it_interval.tv_sec, cur.it_interval.tv_nsec);
}

static void timerfd_release(struct file *f)
{
	struct timerfd *t = f->priv;

	ktimer_cancel(&t->timer);
	free(t);
}

static const struct file_ops timerfd_ops = {
	.read = timerfd_read,
	.stream = true,
	.poll = timerfd_poll,
	.waitq = timerfd_waitq,
	.show_fdinfo = timerfd_show,
	.release = timerfd_release,
};

int timerfd_create_file(int clock, int flags, struct file **out)
{
	struct timerfd *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	mutex_init(&t->lock);
	waitq_init(&t->wq);
	ktimer_init(&t->timer, timerfd_fire);
	t->clock = clock;
	t->next = TIME_NEVER;

	struct inode *in = anon_inode_new(0600, NULL, NULL);
	int err = in ? file_new_anon(in, "anon_inode:[timerfd]", &timerfd_ops, t,
				     O_RDWR | (flags & TFD_NONBLOCK), out)
		     : -ENOMEM;
	if (err)
		free(t);
	return err;
}

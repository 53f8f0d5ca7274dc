#include "sentry/fs/pipe/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sentry/mm/uaccess.h"
#include "sentry/vfs/file.h"

/* What a descriptor of one end refers to.  The counters tell an end whether the other side was
 * ever there since it was opened. */
struct pipe_end {
	struct pipe *pipe;
	bool reader, writer;
	bool opening;		/* a blocking open waits for the other side */
	uint32_t peers_at_open; /* writers_ever (readers_ever) when it was opened */
};

/* A run of bytes with a border at its end: kept only once O_DIRECT was used. */
struct pipe_run {
	uint32_t len;
	bool packet; /* ends a read; what the read leaves of it is dropped */
};

struct pipe {
	struct mutex lock; /* lc_pipe: all that follows but `files` */
	struct waitq wq;
	bool anonymous; /* made by pipe(2): who opens it again waits for nobody */
	uint8_t *buf;
	uint32_t cap, head, used;
	struct pipe_run *runs; /* ring of cap / PAGE_SIZE, or NULL: plain bytes */
	uint32_t runs_head, nruns;
	bool rbusy, wbusy;     /* claims; their holder copies without the lock */
	bool rmissed, wmissed; /* somebody saw the claim and must be notified at its end */
	unsigned readers, writers;
	uint32_t readers_ever, writers_ever;
	unsigned files;		 /* open descriptions; inode.lock */
	struct pipe_end ends[2]; /* those of pipe_create */
};

static const struct file_ops pipe_ops;

#define EV_IN (POLLIN | POLLRDNORM)
#define EV_OUT (POLLOUT | POLLWRNORM)

static struct pipe *pipe_of(const struct file *f)
{
	return ((struct pipe_end *)f->priv)->pipe;
}

static uint32_t pipe_slots(const struct pipe *p)
{
	return p->cap / PAGE_SIZE;
}

/* ---- the ring; lc_pipe held ---- */

/* An empty ring starts over at its beginning: short messages stay in warm cache lines. */
static void ring_rewind(struct pipe *p)
{
	if (p->used == 0 && !p->rbusy && !p->wbusy)
		p->head = 0;
}

static int ring_prepare(struct pipe *p)
{
	if (!p->buf && !(p->buf = malloc(p->cap)))
		return -ENOMEM;
	return 0;
}

static void ring_store(struct pipe *p, const void *src, uint32_t n)
{
	uint32_t tail = (p->head + p->used) % p->cap;
	uint32_t first = MIN(n, p->cap - tail);

	memcpy(p->buf + tail, src, first);
	memcpy(p->buf, (const uint8_t *)src + first, n - first);
}

/* Starts keeping borders: what is in the ring becomes one run. */
static int runs_start(struct pipe *p)
{
	if (p->runs)
		return 0;
	p->runs = calloc(pipe_slots(p), sizeof(*p->runs));
	if (!p->runs)
		return -ENOMEM;
	p->runs_head = 0;
	p->nruns = p->used != 0;
	p->runs[0] = (struct pipe_run){.len = p->used};
	return 0;
}

/* May n more bytes be recorded?  Plain bytes join a plain run, a packet needs one of its own. */
static bool runs_have_room(const struct pipe *p, bool packet)
{
	if (!p->runs || p->nruns < pipe_slots(p))
		return true;
	const struct pipe_run *last = &p->runs[(p->runs_head + p->nruns - 1) % pipe_slots(p)];
	return !packet && !last->packet;
}

/* The bytes were stored behind the last ones: they become visible. */
static void ring_commit(struct pipe *p, uint32_t n, bool packet)
{
	p->used += n;
	if (!p->runs)
		return;
	struct pipe_run *last = &p->runs[(p->runs_head + p->nruns - 1) % pipe_slots(p)];
	if (p->nruns && !packet && !last->packet) {
		last->len += n;
		return;
	}
	p->runs[(p->runs_head + p->nruns++) % pipe_slots(p)] = (struct pipe_run){n, packet};
}

static void ring_consume(struct pipe *p, uint32_t n)
{
	p->head = (p->head + n) % p->cap;
	p->used -= n;
}

/* n bytes of the first run were copied.  Returns true when the read goes on to the next one. */
static bool runs_consume(struct pipe *p, uint32_t n)
{
	struct pipe_run *run = &p->runs[p->runs_head];
	bool packet = run->packet;

	if (packet)
		n = run->len; /* the rest of a packet is lost */
	ring_consume(p, n);
	run->len -= n;
	if (run->len)
		return false;
	p->runs_head = (p->runs_head + 1) % pipe_slots(p);
	p->nruns--;
	return !packet && p->nruns;
}

/* ---- reading ---- */

/* Ends a claim of the read side and tells who waits. */
static void read_done(struct pipe *p, bool was_full) RELEASES(lc_pipe)
{
	p->rbusy = false;
	uint32_t ev = 0;
	if (was_full && p->cap - p->used >= PIPE_BUF)
		ev |= EV_OUT;
	if (p->rmissed) {
		p->rmissed = false;
		ev |= EV_IN;
	}
	mutex_unlock(&p->lock, &lc_pipe);
	if (ev)
		waitq_notify(&p->wq, ev);
}

/* Copies up to n bytes from the front to the guest, without the lock but under the claim. */
static ssize_t read_copy(struct pipe *p, struct uio *io, uint32_t head, uint32_t n)
{
	uint32_t first = MIN(n, p->cap - head);
	ssize_t got = uio_put(io, p->buf + head, first);

	if (got != (ssize_t)first || first == n)
		return got;
	ssize_t more = uio_put(io, p->buf, n - first);
	return more > 0 ? got + more : got;
}

static ssize_t pipe_read(struct file *f, struct uio *io, int64_t *off)
{
	struct pipe *p = pipe_of(f);
	ssize_t total = 0;

	(void)off;
	if (io->left == 0)
		return 0;
	mutex_lock(&p->lock, &lc_pipe);
	if (p->rbusy) {
		p->rmissed = true;
		mutex_unlock(&p->lock, &lc_pipe);
		return -EAGAIN;
	}
	if (p->used == 0) {
		bool writers = p->writers != 0;
		mutex_unlock(&p->lock, &lc_pipe);
		return writers ? -EAGAIN : 0;
	}
	bool was_full = p->cap - p->used < PIPE_BUF || !runs_have_room(p, true);
	p->rbusy = true;
	for (bool more = true; more && io->left;) {
		uint32_t head = p->head;
		uint32_t n = p->runs ? p->runs[p->runs_head].len : p->used;
		n = MIN((uint64_t)n, io->left);
		mutex_unlock(&p->lock, &lc_pipe);
		ssize_t got = read_copy(p, io, head, n);
		mutex_lock(&p->lock, &lc_pipe);
		/* A writer may have filled it, and gone to sleep, during the copy. */
		was_full |= p->cap - p->used < PIPE_BUF || !runs_have_room(p, true);
		if (got <= 0) {
			if (!total)
				total = got;
			break;
		}
		total += got;
		more = false;
		if (p->runs) {
			more = runs_consume(p, (uint32_t)got) && (uint32_t)got == n;
		} else {
			ring_consume(p, (uint32_t)got);
		}
	}
	read_done(p, was_full);
	return total;
}

/* ---- splice and tee ---- */

/* Claims the read side: 1, 0 at the end of the stream, -EAGAIN.  lc_pipe held. */
static int read_claim(struct pipe *p)
{
	if (p->rbusy) {
		p->rmissed = true;
		return -EAGAIN;
	}
	if (p->used == 0)
		return p->writers ? -EAGAIN : 0;
	p->rbusy = true;
	return 1;
}

ssize_t pipe_offer(struct file *rd, size_t max, bool consume,
		   ssize_t (*take)(void *arg, const void *bytes, size_t n), void *arg)
{
	struct pipe *p = pipe_of(rd);
	ssize_t total = 0, got = 0;
	uint32_t seen = 0; /* bytes that were shown and not removed */

	mutex_lock(&p->lock, &lc_pipe);
	int claimed = read_claim(p);
	if (claimed <= 0) {
		mutex_unlock(&p->lock, &lc_pipe);
		return claimed;
	}
	bool was_full = p->cap - p->used < PIPE_BUF || !runs_have_room(p, true);
	while (max && seen < p->used) {
		uint32_t at = (p->head + seen) % p->cap;
		uint32_t n = MIN(p->used - seen, p->cap - at);
		if (p->runs && consume)
			n = MIN(n, p->runs[p->runs_head].len);
		n = MIN((uint64_t)n, max);
		mutex_unlock(&p->lock, &lc_pipe);
		got = take(arg, p->buf + at, n);
		mutex_lock(&p->lock, &lc_pipe);
		was_full |= p->cap - p->used < PIPE_BUF || !runs_have_room(p, true);
		if (got <= 0)
			break;
		total += got;
		max -= (size_t)got;
		if (!consume)
			seen += (uint32_t)got;
		else if (p->runs)
			runs_consume(p, (uint32_t)got);
		else
			ring_consume(p, (uint32_t)got);
		if ((uint32_t)got < n)
			break;
	}
	read_done(p, was_full);
	return total ? total : got;
}

size_t pipe_room(struct file *wr)
{
	struct pipe *p = pipe_of(wr);

	mutex_lock(&p->lock, &lc_pipe);
	size_t room = p->wbusy ? 0 : p->cap - p->used;
	mutex_unlock(&p->lock, &lc_pipe);
	return room;
}

bool pipe_same(const struct file *a, const struct file *b)
{
	return pipe_of(a) == pipe_of(b);
}

/* ---- writing ---- */

/* Can a write of n ≤ PIPE_BUF bytes, which is atomic, go ahead?  lc_pipe held. */
static int write_room(struct pipe *p, uint32_t n, bool packet)
{
	if (p->readers == 0)
		return -EPIPE;
	if (p->wbusy) {
		p->wmissed = true;
		return -EAGAIN;
	}
	if (p->cap - p->used < n || !runs_have_room(p, packet))
		return -EAGAIN;
	return 0;
}

/* At most PIPE_BUF bytes: all or nothing, through a private copy. */
static ssize_t write_small(struct pipe *p, struct uio *io, size_t n, bool packet)
{
	uint8_t bytes[PIPE_BUF];

	mutex_lock(&p->lock, &lc_pipe);
	int err = write_room(p, n, packet);
	if (!err)
		err = ring_prepare(p);
	if (!err && packet)
		err = runs_start(p);
	mutex_unlock(&p->lock, &lc_pipe);
	if (err)
		return err;

	ssize_t got = uio_get(io, bytes, n);
	if (got != (ssize_t)n) {
		if (got > 0)
			uio_revert(io, got);
		return -EFAULT;
	}

	mutex_lock(&p->lock, &lc_pipe);
	err = write_room(p, n, packet);
	if (!err) {
		ring_rewind(p);
		ring_store(p, bytes, n);
		ring_commit(p, n, packet);
	}
	mutex_unlock(&p->lock, &lc_pipe);
	if (err) {
		uio_revert(io, n);
		return err;
	}
	waitq_notify(&p->wq, EV_IN);
	return n;
}

static ssize_t write_packets(struct pipe *p, struct uio *io)
{
	ssize_t total = 0;

	while (io->left) {
		ssize_t n = write_small(p, io, MIN(io->left, (uint64_t)PIPE_BUF), true);
		if (n < 0)
			return total ? total : n;
		total += n;
	}
	return total;
}

/* More than PIPE_BUF bytes: as many as fit, straight into the ring under a claim. */
static ssize_t write_large(struct pipe *p, struct uio *io)
{
	mutex_lock(&p->lock, &lc_pipe);
	int err = write_room(p, 1, false);
	if (!err)
		err = ring_prepare(p);
	if (err) {
		mutex_unlock(&p->lock, &lc_pipe);
		return err;
	}
	ring_rewind(p);
	p->wbusy = true;
	uint32_t n = MIN((uint64_t)(p->cap - p->used), io->left);
	uint32_t tail = (p->head + p->used) % p->cap;
	uint32_t first = MIN(n, p->cap - tail);
	mutex_unlock(&p->lock, &lc_pipe);

	ssize_t got = uio_get(io, p->buf + tail, first);
	if (got == (ssize_t)first && first < n) {
		ssize_t more = uio_get(io, p->buf, n - first);
		if (more > 0)
			got += more;
	}

	mutex_lock(&p->lock, &lc_pipe);
	p->wbusy = false;
	uint32_t ev = 0;
	if (got > 0) {
		ring_commit(p, got, false);
		ev |= EV_IN;
	}
	if (p->wmissed) {
		p->wmissed = false;
		ev |= EV_OUT;
	}
	mutex_unlock(&p->lock, &lc_pipe);
	if (ev)
		waitq_notify(&p->wq, ev);
	return got;
}

static ssize_t pipe_write(struct file *f, struct uio *io, int64_t *off)
{
	struct pipe *p = pipe_of(f);

	(void)off;
	if (io->left == 0)
		return 0;
	if (f->flags & O_DIRECT)
		return write_packets(p, io);
	if (io->left <= PIPE_BUF)
		return write_small(p, io, io->left, false);
	return write_large(p, io);
}

/* ---- readiness and control ---- */

static bool end_has_partner(const struct pipe_end *e)
{
	const struct pipe *p = e->pipe;

	if (e->reader)
		return p->writers || p->writers_ever != e->peers_at_open;
	return p->readers || p->readers_ever != e->peers_at_open;
}

static uint32_t pipe_poll(struct file *f)
{
	struct pipe_end *e = f->priv;
	struct pipe *p = e->pipe;
	uint32_t ev = 0;

	mutex_lock(&p->lock, &lc_pipe);
	if (e->opening) {
		ev = end_has_partner(e) ? POLLIN | POLLOUT : 0;
		mutex_unlock(&p->lock, &lc_pipe);
		return ev;
	}
	if (e->reader) {
		if (p->rbusy)
			p->rmissed = true;
		else if (p->used)
			ev |= EV_IN;
		if (p->writers == 0 && p->writers_ever != e->peers_at_open)
			ev |= POLLHUP;
	}
	if (e->writer) {
		if (p->wbusy)
			p->wmissed = true;
		else if (p->cap - p->used >= PIPE_BUF && runs_have_room(p, true))
			ev |= EV_OUT;
		if (p->readers == 0)
			ev |= POLLERR;
	}
	mutex_unlock(&p->lock, &lc_pipe);
	return ev;
}

static struct waitq *pipe_waitq(struct file *f)
{
	return &pipe_of(f)->wq;
}

static long pipe_ioctl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct pipe *p = pipe_of(f);

	if (cmd != FIONREAD)
		return -ENOTTY;
	mutex_lock(&p->lock, &lc_pipe);
	int n = (int)p->used;
	mutex_unlock(&p->lock, &lc_pipe);
	return copy_out_val(task_umem(t), UADDR(arg), &n);
}

/* Moves the contents to a ring of another size; lc_pipe held, no claims. */
static int pipe_resize(struct pipe *p, uint32_t cap)
{
	if (cap < p->used || (p->runs && p->nruns > cap / PAGE_SIZE) || p->rbusy || p->wbusy)
		return -EBUSY;

	uint8_t *buf = NULL;
	struct pipe_run *runs = NULL;
	if (p->buf && !(buf = malloc(cap)))
		return -ENOMEM;
	if (p->runs && !(runs = calloc(cap / PAGE_SIZE, sizeof(*runs)))) {
		free(buf);
		return -ENOMEM;
	}
	if (buf) {
		uint32_t first = MIN(p->used, p->cap - p->head);
		memcpy(buf, p->buf + p->head, first);
		memcpy(buf + first, p->buf, p->used - first);
	}
	for (uint32_t i = 0; runs && i < p->nruns; i++)
		runs[i] = p->runs[(p->runs_head + i) % pipe_slots(p)];
	free(p->buf);
	free(p->runs);
	p->buf = buf;
	p->runs = runs;
	p->head = p->runs_head = 0;
	p->cap = cap;
	return 0;
}

static long pipe_set_size(struct pipe *p, uint64_t want)
{
	if (want > INT_MAX)
		return -EINVAL;
	if (want > PIPE_MAX_SIZE)
		return -EPERM;
	uint32_t cap = PAGE_SIZE;
	while (cap < want)
		cap *= 2;

	mutex_lock(&p->lock, &lc_pipe);
	int err = pipe_resize(p, cap);
	mutex_unlock(&p->lock, &lc_pipe);
	if (err)
		return err;
	waitq_notify(&p->wq, EV_OUT);
	return cap;
}

static long pipe_fcntl(struct file *f, struct task *t, unsigned cmd, uint64_t arg)
{
	struct pipe *p = pipe_of(f);

	(void)t;
	switch (cmd) {
	case F_SETPIPE_SZ:
		return pipe_set_size(p, (unsigned)arg);
	case F_GETPIPE_SZ:
		mutex_lock(&p->lock, &lc_pipe);
		uint32_t cap = p->cap;
		mutex_unlock(&p->lock, &lc_pipe);
		return cap;
	default:
		return -EINVAL;
	}
}

/* ---- life ---- */

static struct pipe *pipe_new(void)
{
	struct pipe *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	mutex_init(&p->lock);
	waitq_init(&p->wq);
	p->cap = PIPE_DEF_SIZE;
	return p;
}

static void pipe_free(struct pipe *p)
{
	free(p->buf);
	free(p->runs);
	free(p);
}

static void end_init(struct pipe_end *e, struct pipe *p, const struct file *f)
{
	e->pipe = p;
	e->reader = file_readable(f);
	e->writer = file_writable(f);
	mutex_lock(&p->lock, &lc_pipe);
	e->peers_at_open = e->reader ? p->writers_ever : p->readers_ever;
	p->readers += e->reader;
	p->readers_ever += e->reader;
	p->writers += e->writer;
	p->writers_ever += e->writer;
	/* A reader that finds writers sees their end, though it has not seen them come. */
	if (e->reader && !e->writer && (p->writers || p->anonymous))
		e->peers_at_open = p->writers_ever - 1;
	mutex_unlock(&p->lock, &lc_pipe);
}

static void pipe_release(struct file *f)
{
	struct pipe_end *e = f->priv;
	struct pipe *p = e->pipe;
	struct inode *in = f->inode;

	mutex_lock(&p->lock, &lc_pipe);
	p->readers -= e->reader;
	p->writers -= e->writer;
	mutex_unlock(&p->lock, &lc_pipe);
	waitq_notify(&p->wq, EV_IN | EV_OUT | POLLHUP | POLLERR);
	if (e != &p->ends[0] && e != &p->ends[1])
		free(e);

	mutex_lock(&in->lock, &lc_inode);
	bool last = --p->files == 0;
	if (last)
		in->fifo = NULL;
	mutex_unlock(&in->lock, &lc_inode);
	if (last)
		pipe_free(p);
}

int pipe_create(int flags, struct file **rd, struct file **wr)
{
	struct pipe *p = pipe_new();
	if (!p)
		return -ENOMEM;
	p->anonymous = true;
	struct inode *in = anon_inode_new(S_IFIFO | 0600, NULL, NULL);
	if (!in) {
		pipe_free(p);
		return -ENOMEM;
	}

	struct file *r = NULL, *w = NULL;
	int err = file_new_anon(inode_get(in), "pipe:[%lu]", &pipe_ops, &p->ends[0],
				O_RDONLY | (flags & O_NONBLOCK), &r);
	if (err) {
		inode_put(in);
		pipe_free(p);
		return err;
	}
	in->fifo = p;
	p->files = 1;
	end_init(&p->ends[0], p, r);
	err = file_new_anon(in, "pipe:[%lu]", &pipe_ops, &p->ends[1],
			    O_WRONLY | (flags & (O_NONBLOCK | O_DIRECT)), &w);
	if (err) {
		file_put(r);
		return err;
	}
	p->files = 2;
	end_init(&p->ends[1], p, w);
	*rd = r;
	*wr = w;
	return 0;
}

/* Another description of the pipe behind `in`, which is made when there is none. */
static int fifo_attach(struct inode *in, struct pipe **out)
{
	struct pipe *fresh = pipe_new();
	if (!fresh)
		return -ENOMEM;
	mutex_lock(&in->lock, &lc_inode);
	struct pipe *p = in->fifo;
	if (!p)
		in->fifo = p = fresh;
	p->files++;
	mutex_unlock(&in->lock, &lc_inode);
	if (p != fresh)
		pipe_free(fresh);
	*out = p;
	return 0;
}

static void fifo_detach(struct inode *in, struct pipe *p)
{
	mutex_lock(&in->lock, &lc_inode);
	bool last = --p->files == 0;
	if (last)
		in->fifo = NULL;
	mutex_unlock(&in->lock, &lc_inode);
	if (last)
		pipe_free(p);
}

int fifo_open(struct inode *in, struct file *f)
{
	struct pipe *p;
	struct pipe_end *e = calloc(1, sizeof(*e));
	if (!e)
		return -ENOMEM;
	int err = fifo_attach(in, &p);
	if (err) {
		free(e);
		return err;
	}

	bool nonblock = f->flags & O_NONBLOCK;
	bool both = file_readable(f) && file_writable(f);
	mutex_lock(&p->lock, &lc_pipe);
	bool no_reader = p->readers == 0;
	mutex_unlock(&p->lock, &lc_pipe);
	if (nonblock && !file_readable(f) && no_reader && !p->anonymous) {
		fifo_detach(in, p);
		free(e);
		return -ENXIO;
	}
	e->opening = !nonblock && !both && !p->anonymous;
	end_init(e, p, f);
	f->ops = &pipe_ops;
	f->priv = e;
	waitq_notify(&p->wq, EV_IN | EV_OUT);
	return 0;
}

static int fifo_open_wait(struct file *f)
{
	struct pipe_end *e = f->priv;
	struct pipe *p = e->pipe;

	mutex_lock(&p->lock, &lc_pipe);
	if (e->opening && end_has_partner(e))
		e->opening = false;
	bool waiting = e->opening;
	mutex_unlock(&p->lock, &lc_pipe);
	return waiting ? -EAGAIN : 0;
}

bool file_is_pipe(const struct file *f)
{
	return f->ops == &pipe_ops;
}

static const struct file_ops pipe_ops = {
	.read = pipe_read,
	.write = pipe_write,
	.stream = true,
	.poll = pipe_poll,
	.waitq = pipe_waitq,
	.ioctl = pipe_ioctl,
	.fcntl = pipe_fcntl,
	.open_wait = fifo_open_wait,
	.release = pipe_release,
};

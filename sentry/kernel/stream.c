#include "sentry/kernel/stream.h"

#include <fcntl.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/task.h"

static void stream_end(struct task *t, unsigned i)
{
	t->k->pf->ops->stream_end(t->pt, i);
	t->streams[i].file = NULL;
}

void stream_begin(struct task *t, int fd, struct file *f)
{
	const struct platform_ops *ops = t->k->pf->ops;
	unsigned i = 0;

	if (!ops->stream_begin)
		return;
	while (i < P_STREAMS && (!t->streams[i].file || t->streams[i].fd != fd))
		i++;
	if (i == P_STREAMS)
		i = t->next_stream++ % P_STREAMS;
	if (t->streams[i].file)
		stream_end(t, i);
	if (!ops->stream_begin(t->pt, i, fd))
		return;
	f->streamed = true;
	t->streams[i] = (struct task_stream){f, fd, f->pos};
	t->streaming = true;
}

void streams_take(struct task *t)
{
	for (unsigned i = 0; t->streaming && i < P_STREAMS; i++) {
		struct task_stream *s = &t->streams[i];
		if (!s->file)
			continue;
		int64_t pos = t->k->pf->ops->stream_pos(t->pt, i);
		if (pos <= s->pos)
			continue;
		t->io.syscr++;
		t->io.rchar += (uint64_t)(pos - s->pos);
		s->file->pos = s->pos = pos;
		path_accessed(s->file->path, s->file->flags);
	}
}

/* The file is looked at only when it is known to be there. */
static bool may_go(struct task *t, const struct task_stream *s)
{
	return fdtable_is_alone(t->fds, s->fd, s->file) && s->file->streamed &&
	       !(s->file->flags & O_DIRECT) && !s->file->inode->marks;
}

void streams_give(struct task *t)
{
	bool some = false;

	for (unsigned i = 0; t->streaming && i < P_STREAMS; i++) {
		struct task_stream *s = &t->streams[i];
		if (!s->file)
			continue;
		if (may_go(t, s) && t->k->pf->ops->stream_go(t->pt, i, s->file->pos)) {
			s->pos = s->file->pos;
			some = true;
		} else {
			stream_end(t, i);
		}
	}
	t->streaming = some;
}

void streams_end(struct task *t)
{
	for (unsigned i = 0; t->streaming && i < P_STREAMS; i++)
		if (t->streams[i].file)
			stream_end(t, i);
	t->streaming = false;
}

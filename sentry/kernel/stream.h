/*
 * Streams: a file that a task reads on and on is read by the platform without the sentry's doing
 * (platform.h), while nobody else can see its position: the description is referred to by one
 * descriptor of one table, which one task uses.  The position comes back with the task's next
 * event, as do the file's access time and the count of bytes; whoever looks in between from another
 * process (fdinfo) sees where it was.
 */
#pragma once

struct task;
struct file;

/* read(2) of fd, which is f, was just put off as a whole: the next ones may need no event. */
void stream_begin(struct task *t, int fd, struct file *f);
void streams_take(struct task *t); /* an event came: where they got */
void streams_give(struct task *t); /* back to guest code: those that still may be */
void streams_end(struct task *t);

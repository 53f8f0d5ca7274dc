/*
 * Files that wrap a descriptor of the host: the standard streams of containers.
 *
 * Reading and writing never blocks a worker as far as the host allows it: where the description
 * is the sentry's own (host_private_fd), it has O_NONBLOCK; otherwise RWF_NOWAIT is asked for,
 * and where the file does not know that (terminals), poll(2) first and then moves at most
 * PIPE_BUF bytes, which a pipe takes whole.  O_NONBLOCK is never set on a description that others
 * may share: an engine's shell would find its own terminal non-blocking.
 *
 * Regular files are read and written at the description's own position, which the host processes
 * that hold it too go on from; pread, pwrite and lseek go to the host as well.
 *
 * What boot must do, before confinement: poller_init(), and fd = host_private_fd(fd) for each
 * stream; afterwards poller_start(), then hostfile_create() or hosttty_create().
 *
 * A terminal, in addition:
 *   - ignore SIGTTIN and SIGTTOU in the sentry, so that the host's job control leaves its I/O
 * alone;
 *   - setsid() and ioctl(fd, TIOCSCTTY, 0) on the terminal if it is the container's own (console
 *     socket or a pty made by the command line): then its line discipline sends SIGINT, SIGQUIT,
 *     SIGTSTP, SIGWINCH and SIGHUP to the sentry.  Block them and read them from a signalfd (or
 *     handlers that write to a pipe): tty_signal_foreground(tty, signo), for SIGHUP
 *     tty_hangup(tty).  SIGTSTP must not stop the sentry itself.
 *     With --tty on a terminal that is shared with the caller's shell, the command line is the one
 *     in the foreground: it forwards the same signals over the control server.
 *   - give the process as its standard streams hosttty_open_node of /dev/console, so that
 *     ttyname(3) finds a device node; hosttty_create's own file, shown as "/dev/pts/0", serves
 *     where there is no such node.
 */
#pragma once

#include "sentry/lib/compiler.h"
#include "sentry/vfs/vfs.h"

struct file;
struct tty;

/*
 * Opens the same pipe or terminal anew with O_NONBLOCK and closes fd, when the host allows that;
 * else returns fd.  Before confinement; uses /proc/self/fd.
 */
int host_private_fd(int fd);
/* Consumes host_fd, also on failure.  flags: O_ACCMODE and status flags of the guest's file.  A
 * terminal works as one, without being anybody's controlling terminal. */
int hostfile_create(int host_fd, int flags, struct file **out) MUST_CHECK;
/* The same for a terminal; *tty and *file are references. */
int hosttty_create(int host_fd, struct tty **tty, struct file **file) MUST_CHECK;
/* The terminal as a file that has the name of a device node, whatever its number. */
int hosttty_open_node(struct tty *tty, struct path node, struct file **out) MUST_CHECK;
/* Whose the stream is, for fstat and for opening /dev/stdout. */
void hostfile_set_owner(struct file *f, uint32_t uid);

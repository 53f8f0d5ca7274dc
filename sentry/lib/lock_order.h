/*
 * The order of locks, outermost first.
 *
 * There is one lock class per kind of lock.  A thread that holds a lock may only take locks of
 * classes further down this list.  Two locks of one class are never held together, except where
 * the class says how they are ordered.  clang checks it from the annotations (make lint); builds
 * with assertions check it at run time with a per-thread mask of held classes (lock.c).
 *
 * No lock is held across copy_in/copy_out, across a switch of fibers, or across host I/O on files
 * that a guest chose, except those marked "host I/O": they are taken by handlers only, never on
 * the way to answering somebody else's request.
 */
#pragma once

/* X(class, "what it guards") */
#define LOCK_CLASSES(X)                                                                            \
	X(lc_control, "control server: containers and their start-up")                             \
	X(lc_mm_map,                                                                               \
	  "struct mm: serialises changes of the mapping list (host I/O: memory batches)")          \
	X(lc_rename, "struct super_block: one rename between directories at a time (host I/O)")    \
	X(lc_inode_dir,                                                                            \
	  "struct inode of a directory: its entries (host I/O); parent before child")              \
	X(lc_inode_dir2, "the same, for the second directory or the child of a locked one")        \
	X(lc_inode_dir3, "the same, for a directory that a rename replaces")                       \
	X(lc_overlay, "overlay inode: its copy-up (host I/O)")                                     \
	X(lc_layer_rename, "lc_rename of an overlay that is a layer of another one (host I/O)")    \
	X(lc_layer_dir, "lc_inode_dir of such a super block (host I/O)")                           \
	X(lc_layer_dir2, "lc_inode_dir2 of such a super block")                                    \
	X(lc_layer_dir3, "lc_inode_dir3 of such a super block")                                    \
	X(lc_layer_overlay, "lc_overlay of an overlay that is a layer itself (host I/O)")          \
	X(lc_base_rename, "lc_layer_rename of a layer that is no overlay (host I/O)")              \
	X(lc_base_dir, "lc_layer_dir of such a super block (host I/O)")                            \
	X(lc_base_dir2, "lc_layer_dir2 of such a super block")                                     \
	X(lc_base_dir3, "lc_layer_dir3 of such a super block")                                     \
	X(lc_fuse_cache, "pages of a file of a FUSE server (host I/O)")                            \
	X(lc_inode_data, "struct inode of a file: size and contents (host I/O)")                   \
	X(lc_inode_data2, "the same, of a lower layer's inode")                                    \
	X(lc_watch, "gofer: what the host is to watch (host I/O)")                                 \
	X(lc_gofer, "gofer connection: one request at a time (host I/O)")                          \
	X(lc_mm, "struct mm: VMA tree, brk, limits; never across host calls")                      \
	X(lc_epoll_nest, "which epoll watches which epoll")                                        \
	X(lc_epoll, "struct epoll: interest list")                                                 \
	X(lc_mount, "mount table")                                                                 \
	X(lc_dcache, "dentry hash, parents, children, LRU")                                        \
	X(lc_inode, "struct inode: attributes")                                                    \
	X(lc_flock, "file locks of an inode")                                                      \
	X(lc_notify, "marks on inodes, and the queues of events behind them")                      \
	X(lc_fs, "struct fs_context: root, cwd, umask")                                            \
	X(lc_fdtable, "struct fdtable")                                                            \
	X(lc_net, "socket namespace tables (abstract names)")                                      \
	X(lc_socket, "struct socket; two of them by address")                                      \
	X(lc_socket2, "the second socket of a pair")                                               \
	X(lc_pipe, "struct pipe")                                                                  \
	X(lc_ipc, "System V IPC: all objects of a namespace; a POSIX message queue")               \
	X(lc_fuse, "a FUSE connection: its requests")                                              \
	X(lc_seccomp, "a seccomp listener: who waits for its answers")                             \
	X(lc_tty, "struct pty: line discipline and queues")                                        \
	X(lc_futex, "priority-inheritance futexes: queues and owners")                             \
	X(lc_tasks, "task tree: pids, parents, children, groups, sessions, tty owners, zombies")   \
	X(lc_keys, "keys and keyrings, all of them")                                               \
	X(lc_trace, "registers of a task in a ptrace-stop, while its tracer uses them (host I/O)") \
	X(lc_signal, "struct thread_group: signal queues and actions, timers, stop state")         \
	X(lc_timer, "timer heap")                                                                  \
	X(lc_waitq, "struct waitq: list of waiters")                                               \
	X(lc_waitq1, "the same, of an epoll; the number is how deep epolls are nested below it")   \
	X(lc_waitq2, "the same")                                                                   \
	X(lc_waitq3, "the same")                                                                   \
	X(lc_waitq4, "the same")                                                                   \
	X(lc_waitq5, "the same")                                                                   \
	X(lc_poller, "host poller: registered descriptors")                                        \
	X(lc_runq, "run queue of fibers")                                                          \
	X(lc_zygote, "systrap: the zygote's clones (host I/O)")                                    \
	X(lc_text_change, "struct p_aspace: changes of what is mapped of program text (host I/O)") \
	X(lc_clone, "systrap: beginning of a clone against the search for strays")                 \
	X(lc_aspace, "struct p_aspace: control socket and slots (host I/O)")                       \
	X(lc_platform, "platform: address spaces, threads, pools")                                 \
	X(lc_text, "systrap: files of program text, and where they are mapped")                    \
	X(lc_leaf, "any lock that is taken last and briefly")                                      \
	X(lc_slab, "struct slab: an allocation or a release, whatever is held")

enum lock_rank {
#define X(name, what) rank_##name,
	LOCK_CLASSES(X)
#undef X
		LOCK_RANKS
};

#if defined(__clang__)
#define LOCK_CAPABILITY __attribute__((capability("lock")))
#else
#define LOCK_CAPABILITY
#endif

struct LOCK_CAPABILITY lock_class {
	enum lock_rank rank;
	const char *name;
};

#define X(name, what) extern struct lock_class name;
LOCK_CLASSES(X)
#undef X

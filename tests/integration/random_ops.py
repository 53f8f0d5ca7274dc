#!/usr/bin/python3
"""random_ops.py DIR SEED OPERATIONS - what SEED says, done in DIR by three processes at once, each in
a directory of its own.  Prints a digest of all results, then the tree: the same seed has to print
the same everywhere."""
import ctypes
import hashlib
import mmap
import os
import random
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE = 1, 2
NOREPLACE, EXCHANGE = 1, 2
NAMES = ["a", "b", "c", "d", "e", "f" * 200, "\u00e9", "g.h"]


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


class Player:
    def __init__(self, seed, top):
        self.rnd = random.Random(seed)
        self.digest = hashlib.sha256()
        self.trace = open(f"{os.environ['TRACE']}.{top}", "w") if "TRACE" in os.environ else None
        self.ops = [getattr(self, n) for n in sorted(dir(self)) if n.startswith("op_")]
        os.mkdir(top)
        os.chdir(top)

    def path(self):
        return "/".join(self.rnd.choice(NAMES) for _ in range(self.rnd.choice((1, 1, 2, 2, 3))))

    def step(self):
        op = self.rnd.choice(self.ops)
        try:
            result = op()
        except OSError as e:
            result = -e.errno
        line = f"{op.__name__} {result}\n"
        self.digest.update(line.encode())
        if self.trace:
            self.trace.write(line)

    def data(self):
        return bytes([self.rnd.randrange(256)]) * self.rnd.choice((1, 100, 4096, 5000, 70000))

    def with_file(self, flags, do):
        path, mode = self.path(), self.rnd.choice((0o600, 0o644, 0o755))
        fd = os.open(path, flags, mode)
        try:
            return do(fd)
        finally:
            os.close(fd)

    def op_create(self):
        excl = self.rnd.choice((0, os.O_EXCL))
        data = self.data()
        return self.with_file(os.O_RDWR | os.O_CREAT | excl, lambda fd: os.write(fd, data))

    op_create_again = op_create

    def op_write(self):
        at, data = self.rnd.randrange(100000), self.data()
        return self.with_file(os.O_WRONLY, lambda fd: os.pwrite(fd, data, at))

    def op_append(self):
        data = self.data()[:5000]
        return self.with_file(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, data))

    def op_read(self):
        at, n = self.rnd.randrange(100000), self.rnd.choice((1, 4096, 100000))
        return self.with_file(os.O_RDONLY,
                              lambda fd: hashlib.md5(os.pread(fd, n, at)).hexdigest())

    def op_truncate(self):
        n = self.rnd.choice((0, 1, 4095, 4096, 50000))
        return os.truncate(self.path(), n)

    def op_open_truncate(self):
        return self.with_file(os.O_WRONLY | os.O_TRUNC, lambda fd: os.fstat(fd).st_size)

    def op_mkdir(self):
        return os.mkdir(self.path(), self.rnd.choice((0o755, 0o700)))

    op_mkdir_again = op_mkdir

    def op_rmdir(self):
        return os.rmdir(self.path())

    def op_unlink(self):
        return os.unlink(self.path())

    def op_rename(self):
        return os.rename(self.path(), self.path())

    def op_rename_with_flags(self):
        a, b, flag = self.path(), self.path(), self.rnd.choice((NOREPLACE, EXCHANGE))
        return checked(libc.renameat2(-100, a.encode(), -100, b.encode(), flag))

    def op_link(self):
        return os.link(self.path(), self.path(), follow_symlinks=False)

    def op_symlink(self):
        return os.symlink(self.path(), self.path())

    def op_readlink(self):
        return os.readlink(self.path())

    def op_mknod(self):
        return os.mknod(self.path(), stat.S_IFIFO | 0o640)

    def op_chmod(self):
        path, mode = self.path(), self.rnd.choice((0o400, 0o640, 0o755, 0o4711, 0o2755))
        return os.chmod(path, mode)

    def op_chown(self):
        return os.chown(self.path(), self.rnd.randrange(5), self.rnd.randrange(5),
                        follow_symlinks=False)

    def op_utimes(self):
        path, at = self.path(), self.rnd.randrange(10**9)
        os.utime(path, ns=(at, at * 3))
        return os.stat(path).st_mtime_ns

    def op_stat(self):
        s = os.lstat(self.path())
        size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
        return s.st_mode, s.st_nlink, size, s.st_uid, s.st_gid

    def op_access(self):
        return os.access(self.path(), self.rnd.choice((os.R_OK, os.W_OK, os.X_OK)))

    def op_list(self):
        return sorted(os.listdir(os.path.dirname(self.path()) or "."))

    def op_set_xattr(self):
        flag = self.rnd.choice((0, os.XATTR_CREATE, os.XATTR_REPLACE))
        value = self.data()[:100]
        return os.setxattr(self.path(), "user." + self.rnd.choice("xyz"), value, flag)

    def op_get_xattr(self):
        return os.getxattr(self.path(), "user." + self.rnd.choice("xyz"))

    def op_list_xattr(self):
        return sorted(x for x in os.listxattr(self.path()) if x.startswith("user."))

    def op_remove_xattr(self):
        return os.removexattr(self.path(), "user." + self.rnd.choice("xyz"))

    def op_fallocate(self):
        mode = self.rnd.choice((0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE))
        at, n = self.rnd.randrange(60000), 1 + self.rnd.randrange(20000)
        return self.with_file(os.O_RDWR, lambda fd: checked(
            libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(n))))

    def op_mmap(self):
        byte, at = self.rnd.randrange(256), self.rnd.random()

        def poke(fd):
            size = os.fstat(fd).st_size
            if not size or not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            with mmap.mmap(fd, size) as m:
                where = int(at * size)
                old, m[where] = m[where], byte
                return old, os.pread(fd, 1, where)

        return self.with_file(os.O_RDWR | os.O_NONBLOCK, poke)

    def op_copy_range(self):
        n = self.rnd.randrange(50000)
        to = os.open(self.path(), os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            return self.with_file(os.O_RDONLY | os.O_NONBLOCK,
                                  lambda fd: os.copy_file_range(fd, to, n))
        finally:
            os.close(to)

    def op_sync(self):
        return self.with_file(os.O_RDONLY | os.O_NONBLOCK, os.fdatasync) if not \
            self.rnd.randrange(50) else None

    def op_unlinked(self):
        data = self.data()

        def play(fd):
            os.write(fd, data)
            os.pwrite(fd, b"y" * 100, 50)
            return os.fstat(fd).st_nlink, hashlib.md5(os.pread(fd, 10**6, 0)).hexdigest()

        path = self.path()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.unlink(path)
        try:
            return play(fd)
        finally:
            os.close(fd)


# Opening a FIFO without O_NONBLOCK would wait.
real_open = os.open
os.open = lambda path, flags, mode=0o777, **at: real_open(path, flags | os.O_NONBLOCK, mode, **at)


def describe(where, name, at, firsts):
    """A line for an entry of the directory `at`; whole paths may be too long to be opened."""
    path = f"{where}/{name}"
    s = os.lstat(name, dir_fd=at)
    line = [path, oct(s.st_mode), s.st_nlink, s.st_uid, s.st_gid]
    if stat.S_ISLNK(s.st_mode):
        line.append(os.readlink(name, dir_fd=at))
    elif not stat.S_ISFIFO(s.st_mode):
        fd = os.open(name, os.O_RDONLY, dir_fd=at)
        line += [(x, os.getxattr(fd, x)) for x in sorted(os.listxattr(fd))
                 if x.startswith("user.")]
        if stat.S_ISREG(s.st_mode):
            with open(fd, "rb", closefd=False) as f:
                line += [s.st_size, hashlib.md5(f.read()).hexdigest()]
            line.append(firsts.setdefault(s.st_ino, path))
        os.close(fd)
    print(*line)


def main():
    top, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.umask(0o022)
    os.chdir(top)
    for n in range(3):
        if not os.fork():
            player = Player(seed * 3 + n, f"p{n}")
            for _ in range(count // 3):
                player.step()
            with open(f"../digest{n}", "w") as f:
                f.write(player.digest.hexdigest())
            os._exit(0)
    for _ in range(3):
        if os.wait()[1]:
            sys.exit("a process failed")
    firsts = {}
    for where, dirs, files, at in os.fwalk("."):
        dirs.sort()
        for name in sorted(dirs + files):
            describe(where, name, at, firsts)


main()

"""Watches directory and file for changes with inotify(7), then makes changes itself.

Prints one line an event until a file "done" appears; then makes 30 rounds of changes, and prints
how many events of each kind and name came.
"""
import collections
import ctypes
import os
import select
import struct
import sys

KINDS = {0x2: "modify", 0x4: "attrib", 0x8: "closew", 0x40: "from", 0x80: "to", 0x100: "create",
         0x200: "delete", 0x400: "gone", 0x800: "moved", 0x8000: "ignored", 0x40000000: "dir"}
MASK = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800

top, single = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(os.O_NONBLOCK)
where = {libc.inotify_add_watch(fd, os.fsencode(p), MASK): p for p in (top, single)}


def events(seconds):
    while select.select([fd], [], [], seconds)[0]:
        buf = os.read(fd, 65536)
        at = 0
        while at < len(buf):
            wd, mask, _, size = struct.unpack_from("iIII", buf, at)
            name = buf[at + 16:at + 16 + size].split(b"\0")[0].decode()
            at += 16 + size
            yield where[wd], "|".join(k for bit, k in KINDS.items() if mask & bit), name
            if name == "done":
                return


print("ready", flush=True)
for place, kind, name in events(20):
    print(place, kind, name, flush=True)
for i in range(30):
    with open(top + "/own", "w") as f:
        f.write("x")
    os.chmod(top + "/own", 0o600)
    os.rename(top + "/own", top + "/own2")
    os.unlink(top + "/own2")
    with open(top + "/kept", "a") as f:
        f.write("x")
counts = collections.Counter((kind, name) for _, kind, name in events(1))
for (kind, name), n in sorted(counts.items()):
    print("own", kind, name, n)

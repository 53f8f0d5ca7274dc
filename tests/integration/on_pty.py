#!/usr/bin/env python3
"""Runs a command on a terminal of its own, types at it, and prints what it shows.

Usage: on_pty.py WORDS-TO-TYPE COMMAND …

The words are lines of a dialogue, "EXPECTED=>TYPED", separated by newlines: once EXPECTED has been
shown, TYPED is sent, with \\n, \\xNN and the like replaced.  Exits with the command's status, or
with 99 when something expected never came.
"""
import os
import pty
import select
import sys
import time

TIMEOUT = 20


def read_some(fd):
    ready, _, _ = select.select([fd], [], [], 0.2)
    if not ready:
        return b""
    try:
        return os.read(fd, 4096) or None
    except OSError:
        return None


def main():
    dialogue = [line.split("=>", 1) for line in sys.argv[1].splitlines() if line]
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(sys.argv[2], sys.argv[2:])
    shown, seen = b"", 0
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        data = read_some(fd)
        if data is None:
            break
        shown += data
        while dialogue:
            expected = dialogue[0][0].encode()
            at = shown.find(expected, seen)
            if at < 0:
                break
            seen = at + len(expected)
            os.write(fd, dialogue.pop(0)[1].encode().decode("unicode_escape").encode("latin-1"))
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    if dialogue or time.monotonic() >= end:
        os.kill(pid, 9)
        print(f"\nnever came: {dialogue}")
        sys.exit(99)
    _, status = os.waitpid(pid, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()

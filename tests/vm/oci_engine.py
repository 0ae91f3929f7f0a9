#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an engine does with a runtime: makes itself the reaper of what a container leaves behind, creates and starts
it, passes input and output on, and tells its status. Run where duet-oci is.

  oci_engine.py [--terminal ROWSxCOLUMNS] [--input TEXT] [--then TEXT] RUNTIME... -- ID BUNDLE
  oci_engine.py --exec PROCESS ... RUNTIME... -- ID

--then: typed at the terminal when it has been resized to 50 rows and 120 columns, which is done when the
container's program has said "ready"."""

import argparse
import array
import ctypes
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import termios

PR_SET_CHILD_SUBREAPER = 36


def resize(fd: int, rows: int, columns: int):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def receive(listener: socket.socket) -> int:
    """The terminal's master."""
    connection, _ = listener.accept()
    fds = array.array("i")
    _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
    fds.frombytes(control[0][2][:fds.itemsize])
    return fds[0]


def read_all(fd: int, until: str | None = None) -> str:
    """To its end, or to the first match of UNTIL."""
    text = ""
    while until is None or not re.search(until, text):
        try:
            some = os.read(fd, 65536)
        except OSError:  # a terminal that nobody has any more
            some = b""
        if not some:
            break
        text += some.decode(errors="replace")
        sys.stdout.write(some.decode(errors="replace"))
        sys.stdout.flush()
    return text


def main() -> int:
    at = sys.argv.index("--")
    parser = argparse.ArgumentParser()
    parser.add_argument("--terminal")
    parser.add_argument("--input", default="")
    parser.add_argument("--then", default="")
    parser.add_argument("--exec")
    options, runtime = parser.parse_known_args(sys.argv[1:at])
    name, *bundle = sys.argv[at + 1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    with tempfile.TemporaryDirectory() as home:
        more = []
        listener = socket.socket(socket.AF_UNIX)
        if options.terminal:
            listener.bind(f"{home}/console")
            listener.listen()
            more = ["--console-socket", f"{home}/console"]
        if options.exec:
            first = ["exec", "--detach", "--process", options.exec, *more]
        else:
            first = ["create", "--bundle", bundle[0], *more]
        out, theirs = os.pipe()
        given, ours = os.pipe()
        result = subprocess.run([*runtime, *first, "--pid-file", f"{home}/pid", name], check=False,
                                stdin=given, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.close(given)
        if result.returncode:
            read_all(out)
            print(f"refused {result.returncode}")
            return 1
        with open(f"{home}/pid", encoding="ascii") as file:
            pid = int(file.read())
        if options.terminal:
            out = ours = receive(listener)
            resize(out, *map(int, options.terminal.split("x")))
        if not options.exec:
            subprocess.run([*runtime, "start", name], check=True)
        if options.then:
            read_all(out, "ready")
            resize(out, 50, 120)
            options.input = options.then
        if options.input:
            os.write(ours, options.input.encode())
        if not options.terminal:
            os.close(ours)
        read_all(out)
        _, status = os.waitpid(pid, 0)
        print(f"status {os.waitstatus_to_exitcode(status)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A line between two unix sockets that carries so many bytes a second one way, and all that comes the other way. Who is
at one end sees it when the other is gone:  slow_line.py HERE THERE BYTES [FREE AFTER]

FREE: the first so many bytes of a connection are as quick as they can be; AFTER: the bytes a second of all connections
from the message on by which a machine is given away."""

import contextlib
import os
import socket
import sys
import threading
import time

PIECE = 16384
COMMIT = b"DTMG\x09\0\0\0\0\0\0\0"  # docs/migration-protocol.md


class Line:
    def __init__(self, there: str, rate: str, free: str = "0", after: str = ""):
        self.there, self.rate, self.free, self.after = there, int(rate), int(free), int(after or rate)

    def send(self, source: socket.socket, sink: socket.socket) -> None:
        free = self.free
        while piece := source.recv(PIECE):
            sink.sendall(piece)
            if COMMIT in piece:
                self.rate, self.free = self.after, 0
            free -= len(piece)
            if min(free, self.free) <= 0:
                time.sleep(len(piece) / self.rate)

    def answer(self, source: socket.socket, sink: socket.socket) -> None:
        while piece := source.recv(PIECE):
            sink.sendall(piece)

    def take(self, client: socket.socket) -> None:
        # Little of what was sent is on its way.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self.there)
        except OSError:
            client.close()
            return
        for carry, source, sink in ((self.send, client, server), (self.answer, server, client)):
            threading.Thread(target=until_the_end, args=(carry, source, sink), daemon=True).start()


def until_the_end(carry, source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        carry(source, sink)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(here: str, *line: str) -> None:
    # Of another line that was here before.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(here)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(here)
        listening.listen()
        print("a line", flush=True)
        both = Line(*line)
        while True:
            both.take(listening.accept()[0])


main(*sys.argv[1:])

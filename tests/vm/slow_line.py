# SPDX-License-Identifier: Apache-2.0
"""A line between two unix sockets that carries so many bytes a second one way, and all that comes the other way. Who is
at one end sees it when the other is gone:  slow_line.py HERE THERE BYTES"""

import contextlib
import socket
import sys
import threading
import time

PIECE = 16384


def carry(source: socket.socket, sink: socket.socket, rate: int) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
            if rate:
                time.sleep(len(piece) / rate)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(here: str, there: str, rate: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(here)
        listening.listen()
        print("a line", flush=True)
        while True:
            client, _ = listening.accept()
            # Little of what was sent is on its way.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
            server = socket.socket(socket.AF_UNIX)
            server.connect(there)
            threading.Thread(target=carry, args=(client, server, int(rate)), daemon=True).start()
            threading.Thread(target=carry, args=(server, client, 0), daemon=True).start()


main(*sys.argv[1:])

# SPDX-License-Identifier: Apache-2.0
"""Frames between `lab exec` and the agent in the lab host.

One connection carries one command. A frame is a type byte, a 32-bit length in
network order and that many bytes. Used on both sides: keep it importable by a
bare interpreter in little time."""

import struct

HEADER = struct.Struct("!cI")
MAX_FRAME = 1 << 20
WINDOW = 256 * 1024  # standard input under way and not yet acknowledged, in bytes

# caller to agent
REQUEST = b"r"  # JSON: token, argv, cwd, env, tty, rows, columns, packages, umask
STDIN = b"i"
STDIN_END = b"I"
SIGNAL = b"s"  # one byte, the signal's number
RESIZE = b"w"  # rows and columns, two 16-bit numbers

# agent to caller
STDOUT = b"o"
STDERR = b"e"
CONSUMED = b"a"  # 32-bit number: bytes of standard input that left the window
STDIN_CLOSED = b"c"  # the command reads no more
EXIT = b"x"  # JSON: code or signal
REFUSED = b"f"  # JSON: message, code; nothing was run


def frame(kind: bytes, data: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(data)) + data


class Parser:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self.pending = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        self.pending += data
        found = []
        while len(self.pending) >= HEADER.size:
            kind, size = HEADER.unpack_from(self.pending)
            if size > MAX_FRAME:
                raise ValueError(f"frame of {size} bytes")
            if len(self.pending) < HEADER.size + size:
                break
            found.append((kind, bytes(self.pending[HEADER.size : HEADER.size + size])))
            del self.pending[: HEADER.size + size]
        return found

# SPDX-License-Identifier: Apache-2.0
"""A machine that is run through its API, by curl, each answer held against docs/openapi.json."""

import contextlib
import json
import os
import subprocess
import uuid
from pathlib import Path

from document import check_answer, check_asked
from duetlab.guest import vm


class Api:
    """The server behind SOCKET, where duet runs."""

    def __init__(self, socket: str):
        self.socket = socket

    def wait(self):
        vm.run("sh", "-c", f"until [ -S {self.socket} ]; do sleep 0.1; done", limit=vm.BOOT_LIMIT)

    def calls(self, *asked: tuple) -> list[tuple[int, object]]:
        """Methods, paths and bodies, by one curl: status and body of each, the latter read when it is JSON."""
        words: list[str] = []
        for method, path, *body in asked:
            data = [body[0] if isinstance(body[0], str) else json.dumps(body[0])] if body and body[0] is not None else []
            words += ["--next", "-sS", "--unix-socket", self.socket, "-X", method, "-H", "Content-Type: application/json",
                      *(["-d", *data] if data else []), "-w", "\n%{http_code} %{content_type}\x1e", f"http://localhost{path}"]
        texts = vm.run("curl", *words[1:]).stdout.split("\x1e")[:-1]
        assert len(texts) == len(asked), texts
        return [self.read(*one, answer=text) for one, text in zip(asked, texts)]

    def read(self, method: str, path: str, body=None, *, answer: str) -> tuple[int, object]:
        answer, _, last = answer.rpartition("\n")
        status, _, kind = last.partition(" ")
        check_answer(method, path, int(status), kind, answer)
        check_asked(method, path, int(status), body if body is None or isinstance(body, str) else json.dumps(body), answer)
        return int(status), json.loads(answer) if kind.startswith("application/json") and answer else answer

    def call(self, method: str, path: str, body=None) -> tuple[int, object]:
        return self.calls((method, path, body))[0]

    def all(self, *asked: tuple) -> list:
        """What have to succeed; the bodies of the answers."""
        done = self.calls(*asked)
        for one, (status, answer) in zip(asked, done):
            assert status < 300, f"{one}: {status} {answer}"
        return [answer for _, answer in done]

    def do(self, method: str, path: str, body=None):
        return self.all((method, path, body))[0]

    def refused(self, method: str, path: str, body=None) -> str:
        status, answer = self.call(method, path, body)
        assert status == 400, f"{method} {path}: {status} {answer}"
        return answer["fault_message"]


# Where duet runs: requests come as lines of JSON, and their answers go.
SESSION = r"""
import json, re, socket, sys
for line in sys.stdin:
    method, path, body = json.loads(line)
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[1])
    server.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n{body}".encode())
    head, _, answer = b"".join(iter(lambda: server.recv(65536), b"")).decode().partition("\r\n\r\n")
    kind = re.search(r"^content-type: *([^\r\n]*)", head, re.I | re.M)
    print(json.dumps(f"{answer}\n{head.split()[1]} {kind[1] if kind else ''}"), flush=True)
"""


class Session(Api):
    """The same without a curl for each: for a test that asks very often. Use as a context manager."""

    def __enter__(self):
        self.process = subprocess.Popen(vm.lab_command("python3", "-c", SESSION, self.socket, stdin=True), text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=vm.REPOSITORY)
        return self

    def __exit__(self, *_exc):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def calls(self, *asked: tuple) -> list[tuple[int, object]]:
        answers = []
        for method, path, *body in asked:
            text = "" if not body or body[0] is None else body[0] if isinstance(body[0], str) else json.dumps(body[0])
            self.process.stdin.write(json.dumps([method, path, text]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            assert line, f"nobody answers {method} {path}"
            answers.append(self.read(method, path, text or None, answer=json.loads(line)))
        return answers


@contextlib.contextmanager
def firecracker(*options: str, **guest):
    """A link to duet of that name, nothing configured yet: the guest, its API, the kernel's and the
    initial RAM disk's files."""
    with vm.workspace() as directory:
        link = directory / "firecracker"
        os.symlink(vm.DUET, link)
        api = Api(f"/tmp/api-{uuid.uuid4().hex[:8]}.sock")
        files: dict[str, str] = {}

        def command(kernel: str, initrd: str) -> list[str]:
            files.update(kernel_image_path=kernel, initrd_path=initrd)
            return [str(link), "--api-sock", api.socket, *options]

        with vm.Guest(peer=command, **guest) as machine:
            api.wait()
            yield machine, api, files


def socket() -> str:
    """A name for --api-sock."""
    return f"/tmp/api-{uuid.uuid4().hex[:8]}.sock"


def write(path: Path, value) -> str:
    path.write_text(json.dumps(value))
    return str(path)

# SPDX-License-Identifier: Apache-2.0
"""A machine that is run through its API, by curl, each answer held against docs/openapi.json."""

import contextlib
import json
import os
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

    def call(self, method: str, path: str, body=None) -> tuple[int, object]:
        """Status and body, the latter read when it is JSON."""
        data = [] if body is None else ["-d", body if isinstance(body, str) else json.dumps(body)]
        text = vm.run("curl", "-sS", "--unix-socket", self.socket, "-X", method, "-H",
                      "Content-Type: application/json", *data, "-w", "\n%{http_code} %{content_type}",
                      f"http://localhost{path}").stdout
        answer, _, last = text.rpartition("\n")
        status, _, kind = last.partition(" ")
        check_answer(method, path, int(status), kind, answer)
        check_asked(method, path, int(status), data[-1] if data else "", answer)
        return int(status), json.loads(answer) if kind.startswith("application/json") and answer else answer

    def do(self, method: str, path: str, body=None):
        """What has to succeed; the body of the answer."""
        status, answer = self.call(method, path, body)
        assert status < 300, f"{method} {path}: {status} {answer}"
        return answer

    def refused(self, method: str, path: str, body=None) -> str:
        status, answer = self.call(method, path, body)
        assert status == 400, f"{method} {path}: {status} {answer}"
        return answer["fault_message"]


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

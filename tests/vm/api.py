# SPDX-License-Identifier: Apache-2.0
"""A machine that is run through its API, by curl, each answer held against docs/openapi.json."""

import contextlib
import json
import os
import re
import uuid
from pathlib import Path

from duetlab.guest import vm

DOCUMENT = json.loads((vm.REPOSITORY / "docs" / "openapi.json").read_text())
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def resolve(schema: dict) -> dict:
    while "$ref" in schema:
        found = DOCUMENT
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def faults(schema: dict, value, where: str = "body") -> list[str]:
    """What of VALUE is not as SCHEMA has it."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return []
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        tried = [faults(choice, value, where) for choice in choices]
        return [] if [] in tried else tried[0]
    found = [fault for part in schema.get("allOf", []) for fault in faults(part, value, where)]
    kind = TYPES.get(schema.get("type"))
    if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        return [*found, f"{where}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            found += faults(schema["items"], item, f"{where}[{number}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{where}: has no {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            more = known.get(name, schema.get("additionalProperties", True))
            if more is False:
                found.append(f"{where}: {name} is not in the document")
            elif isinstance(more, dict):
                found += faults(more, item, f"{where}.{name}")
    return found


def operation(method: str, path: str) -> dict | None:
    """What the document has for METHOD of PATH."""
    for pattern, item in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) and method.lower() in item:
            return item[method.lower()]
    return None


def check_answer(method: str, path: str, status: int, kind: str, body: str):
    described = operation(method, path)
    if not described:
        assert "Invalid request method" in body, f"docs/openapi.json has no {method} {path}"
        return
    answers = described["responses"]
    answer = answers.get(str(status)) or answers.get("default")
    assert answer, f"{method} {path}: the document has no status {status}: {body}"
    content = resolve(answer).get("content", {})
    if not content:
        assert not body, f"{method} {path}: the document has no body for {status}: {body}"
        return
    kind = kind.split(";")[0]
    assert kind in content, f"{method} {path}: answered with {kind}"
    if kind == "application/json":
        found = faults(content[kind].get("schema", {}), json.loads(body))
        assert not found, f"{method} {path}: {found}"


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

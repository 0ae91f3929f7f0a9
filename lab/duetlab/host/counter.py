# SPDX-License-Identifier: Apache-2.0
"""Counts of instructions: asks the plugin in a lab host's QEMU for counts and marks."""

import json

from ..base.errors import LabError
from .life import LabHost, connect_unix

FIELDS = ("host_user", "host_kernel", "guest_low", "guest_high", "vmruns")


def ask(host: LabHost, line: str, name: str = "count.sock") -> str:
    """The answer of the plugin that listens at NAME to one LINE."""
    with connect_unix(host.state / name) as sock, sock.makefile("rw") as stream:
        stream.write(line + "\n")
        stream.flush()
        return stream.read()


def _ask(host: LabHost, line: str) -> dict:
    try:
        return json.loads(ask(host, line))
    except OSError as error:
        record = host.record()
        if host.alive(record) and record["options"]["icount"]:
            raise LabError("a lab host under --icount has no counts: start one without") from error
        if host.alive(record):
            raise LabError(f"the lab host's plugin does not answer: {error.strerror}") from error
        raise LabError("the lab host is not up: lab/lab up") from error


def count(host: LabHost) -> dict:
    """The counts now: `vcpus`, a list of the FIELDS, their `sum`, and `ns`, a clock's time."""
    return _with_sum(_ask(host, "count"))


def marks(host: LabHost) -> dict:
    """The marks since the last call, oldest first, each with counts as `count` gives."""
    answer = _ask(host, "marks")
    answer["marks"] = [_with_sum(mark) for mark in answer["marks"]]
    return answer


def touches(host: LabHost) -> dict:
    """`chunk`, bytes, and `vcpus`: for each the accesses of marked blocks (LAB_TOUCH) so far, by the number of the
    chunk of the lab host's physical memory."""
    answer = _ask(host, "touches")
    return {"chunk": answer["chunk"],
            "vcpus": [{int(chunk): count for chunk, count in vcpu.items()} for vcpu in answer["vcpus"]]}


def _with_sum(sample: dict) -> dict:
    total = {name: sum(vcpu[name] for vcpu in sample["vcpus"]) for name in FIELDS}
    total["instructions"] = sum(total[name] for name in FIELDS if name != "vmruns")
    return {**sample, "sum": total}

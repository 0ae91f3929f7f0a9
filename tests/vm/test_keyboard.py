# SPDX-License-Identifier: Apache-2.0
"""The PS/2 keyboard: Linux's drivers bind to it, and Ctrl-Alt-Del restarts the guest."""

import time
import uuid

import pytest
from matrix import some

from duetlab.guest import vm

LOAD = "modprobe i8042; modprobe atkbd; modprobe -q evdev"
# Where duet runs: one request on its socket; what was answered.
PUT = """
import socket, sys
body = b'{"action_type":"SendCtrlAltDel"}'
with socket.socket(socket.AF_UNIX) as s:
    s.connect(sys.argv[1])
    s.sendall(b"PUT /actions HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
              b"Content-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s" % (len(body), body))
    print(s.recv(4096).decode())
"""


@pytest.fixture
def socket_path():
    path = f"/tmp/duet-keyboard-{uuid.uuid4().hex[:8]}"
    yield path
    vm.run("rm", "-f", path)


def press(path, limit=60):
    """Presses until the guest listens."""
    until = time.monotonic() + limit
    while True:
        answer = vm.run("python3", "-c", PUT, path).stdout
        if " 204 " in answer.splitlines()[0]:
            return
        if time.monotonic() > until:
            pytest.fail(answer)
        time.sleep(0.2)


@pytest.mark.parametrize("irqchip", some(["split", "kernel"]))
def test_ctrl_alt_del_restarts(irqchip, socket_path):
    script = (f"{LOAD}; until grep -q 'AT Translated Set 2 keyboard' /proc/bus/input/devices; do usleep 100000; done; "
              "grep i8042 /proc/interrupts; echo listening; while :; do sleep 1; done")
    with vm.Guest("--keyboard", "on", "--on-reset", "exit", "--irqchip", irqchip, "--api-sock", socket_path,
                  kernel="6.1-amd64", script=script) as guest:
        guest.wait_for("^listening$")
        press(socket_path)
        assert guest.finish() == 0
    assert "panicked" not in guest.output
    assert "i8042" in guest.output

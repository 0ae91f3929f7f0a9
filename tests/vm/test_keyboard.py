# SPDX-License-Identifier: Apache-2.0
"""The PS/2 keyboard: Linux's drivers bind to it, and Ctrl-Alt-Del restarts the guest."""

import time

import pytest
from api import Api, socket
from matrix import some

from duetlab.guest import vm

LOAD = "modprobe i8042; modprobe atkbd; modprobe -q evdev"


def press(api, limit=60):
    """Presses until the guest listens."""
    until = time.monotonic() + limit
    while (answer := api.call("PUT", "/actions", {"action_type": "SendCtrlAltDel"}))[0] != 204:
        if time.monotonic() > until:
            pytest.fail(str(answer))
        time.sleep(0.2)


@pytest.mark.parametrize("irqchip", some(["split", "kernel"]))
def test_ctrl_alt_del_restarts(irqchip):
    script = (f"{LOAD}; until grep -q 'AT Translated Set 2 keyboard' /proc/bus/input/devices; do usleep 100000; done; "
              "grep i8042 /proc/interrupts; echo listening; while :; do sleep 1; done")
    path = socket()
    with vm.Guest("--keyboard", "on", "--on-reset", "exit", "--irqchip", irqchip, "--api-sock", path,
                  kernel="6.1-amd64", script=script) as guest:
        guest.wait_for("^listening$")
        press(Api(path))
        assert guest.finish() == 0
    assert "panicked" not in guest.output
    assert "i8042" in guest.output

# SPDX-License-Identifier: Apache-2.0
"""Drives PyPI's firecracker-python by its own methods, its code untouched: KERNEL ROOT KEY RELEASE.

Run by test_clients.py where KVM is, with duet as /usr/local/bin/firecracker and a
/var/lib/firecracker of its own. A step that cannot work is a line `cannot: STEP: REASON`."""

import contextlib
import socket
import sys
import time
from unittest import mock

from firecracker import MicroVM

ADDRESS = "172.16.0.2"  # the client's default


def alone():
    """Its constructor asks for a docker daemon, needed or not, then services on the internet."""
    try:
        MicroVM(name="alone")
    except Exception as error:  # whatever its libraries raise
        print(f"cannot: MicroVM() without docker and the internet: {type(error).__name__}: {error}")


def with_stand_ins(**options) -> MicroVM:
    """The two that it asks are answered; neither has a part in what follows."""
    with mock.patch("docker.from_env"), mock.patch("requests.get", return_value=mock.Mock(text="192.0.2.2")):
        return MicroVM(**options)


def wait_for_ssh():
    while True:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, 22), timeout=5) as peer:
            if peer.recv(4) == b"SSH-":
                return
        time.sleep(0.1)


def expect(found, wanted):
    if found != wanted:
        sys.exit(f"{found!r} is not {wanted!r}")
    print(found)


def reach(machine: MicroVM, name: str, key: str, release: str):
    wait_for_ssh()
    machine.connect(key_path=key)  # a shell, which it leaves at once without a terminal
    machine._establish_ssh_connection(ADDRESS, "root", key, name)
    ask(machine, release)


def ask(machine: MicroVM, release: str):
    expect(machine._ssh_client.exec_command("uname -r")[1].read().decode(), f"{release}\n")


def live(kernel: str, root: str, key: str, release: str):
    machine = with_stand_ins(name="duet", kernel_file=kernel, base_rootfs=root, vcpu=1, memory="256M")
    name = machine._microvm_id
    expect(machine.create(), f"VMM {name} created")
    expect([(one["id"], one["state"]) for one in MicroVM.list()], [(name, "Running")])
    expect(machine._vmm.get_vmm_ip_addr(name), ADDRESS)
    expect(machine.config()["machine-config"]["mem_size_mib"], 256)
    reach(machine, name, key, release)
    expect(machine.pause(), f"VMM {name} paused successfully")
    expect(machine._vmm.get_vmm_state(name), "Paused")
    expect(machine.resume(), f"VMM {name} resumed successfully")
    expect(machine._vmm.get_vmm_state(name), "Running")
    ask(machine, release)  # on the connection that is there
    expect(machine.delete(), f"VMM {name} is deleted")
    expect(MicroVM.list(), [])
    expect(machine._network.check_tap_device(f"tap_{name}"), False)


alone()
live(*sys.argv[1:])
print("lived")

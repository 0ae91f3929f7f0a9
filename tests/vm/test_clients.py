# SPDX-License-Identifier: Apache-2.0
"""Clients that are written for Firecracker, unmodified, as PyPI has them: each starts a machine,
reaches it by ssh, pauses it and ends it. Both know no initrd: it stands beside the kernel.

What cannot be done, and what is done instead:
- microheart has no command that pauses: the client of the API that it brings does.
- microheart's own image and kernel are downloads: it gets a kernel of Debian's and a root disk of ours.
- microheart gives a start 60 s; in an emulator it is given more, by its own argument.
- firecracker-python's MicroVM() asks for a docker daemon and for the host's address on the internet,
  and needs neither: both have stand-ins (drive_firecracker.py), the rest is its own code.
- firecracker-python's connect() is for people at a terminal: its own ssh connection runs commands."""

import contextlib
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
import reachable
from matrix import soak

from duetlab.base.cache import cache_dir, lock
from duetlab.guest import vm

PYTHON = "/usr/bin/python3"  # the lab host has it under the same name
PACKAGES = ("microheart==0.3.0", "firecracker-python==0.0.5")
LIMIT = 1200  # seconds for all that one client does; in a lab beside other work it took eight minutes
DRIVER = Path(__file__).with_name("drive_firecracker.py")


def _install(home: Path):
    shutil.rmtree(home, ignore_errors=True)
    for command in ([PYTHON, "-m", "venv", str(home)],
                    [str(home / "bin" / "pip"), "install", "--quiet", *PACKAGES]):
        try:
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"{' '.join(PACKAGES)}: {error}")
        if result.returncode:
            last = (result.stdout + result.stderr).strip().splitlines()[-1:]
            pytest.skip(f"{' '.join(PACKAGES)} cannot be installed by pip: {' '.join(last)}")
    (home / "whole").touch()


@pytest.fixture(scope="module")
def installed() -> Path:
    """A virtual environment with both, in the cache, which the lab host sees, too."""
    version = subprocess.run([PYTHON, "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]
    home = cache_dir() / "clients" / "-".join([version, *PACKAGES]).replace("==", "-")
    with lock("clients"):
        if not (home / "whole").exists():
            _install(home)
    return home / "bin"


@dataclass
class Host:
    """A network of its own where duet runs, for clients change rules and routes; a folder there."""

    network: str
    home: str
    guest: reachable.Reachable

    def path(self, name: str) -> str:
        return f"{self.home}/{name}"

    def run(self, *command: str, check: bool = True) -> str:
        environment = ["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"MICROHEART_HOME={self.home}"]
        result = vm.run("ip", "netns", "exec", self.network, *environment, *command, check=check, limit=LIMIT)
        return result.stdout


NETWORK = """set -e
ip netns add $1
ip -n $1 link set lo up
ip -n $1 link add eth0 type dummy
ip -n $1 addr add 192.0.2.2/24 dev eth0
ip -n $1 link set eth0 up
ip -n $1 route add default via 192.0.2.1
"""
# Whatever a client that failed has left there; its interfaces go along.
LEAVE = """ip netns pids $1 | xargs -r kill -KILL
ip netns del $1
"""
# microheart finds its kernel by the name's beginning.
FOLDER = """set -e
mkdir -p $1/boot $1/lib
cp $2 $1/boot/kernel
cp $3 $1/boot/kernel.initrd
ln -s boot/kernel $1/vmlinux-6.1
ln -s $4 $1/firecracker
"""


@pytest.fixture(scope="module")
def host():
    network = f"duet-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as stack:
        guest = reachable.make(stack.enter_context(vm.workspace()))
        vm.run("sh", "-c", NETWORK, "sh", network)
        stack.callback(vm.run, "sh", "-c", LEAVE, "sh", network, check=False)
        home = vm.run("sh", "-c", "mktemp -d -p $(ls -d /scratch /var/tmp 2>/dev/null | head -n 1) clients.XXXX"
                      ).stdout.strip()
        stack.callback(vm.run, "rm", "-rf", home, check=False)
        vm.run("sh", "-c", FOLDER, "sh", home, str(guest.kernel), str(guest.initrd), str(vm.DUET))
        vm.copy_sparse(guest.root, f"{home}/root.ext4")
        yield Host(network, home, guest)


UP = """import sys
from microheart import MicroVM
print(MicroVM("duet", sys.argv[1], sys.argv[2]).start(wait=400))
"""
PAUSE = """import sys
from microheart import MicroVM, api
machine = MicroVM("duet")
for state in ("Paused", "Resumed"):
    api.request(machine.sock, "PATCH", "/vm", {"state": state})
    print(api.request(machine.sock, "GET", "/")["state"])
print(machine.machine_config())
"""
# The guest's own reboot ends it; SIGTERM after ten seconds would, too, without that line.
END = """import sys
from microheart import MicroVM
machine = MicroVM("duet", key=sys.argv[1])
machine.stop()
print(machine.tail())
machine.clean()
print(machine.rec, machine.dir.exists())
"""


def test_microheart(host, installed):
    python, key = str(installed / "python3"), str(host.guest.key)
    uname = [str(installed / "microheart"), "--key", key, "ssh", "--name", "duet", "--", "uname", "-r"]
    print("ssh after", host.run(python, "-c", UP, host.path("root.ext4"), key))
    assert host.run(*uname) == f"{host.guest.release}\n"
    print("cannot: pause by a command: microheart has none; its own client of the API asks for it")
    paused, resumed, config = host.run(python, "-c", PAUSE).splitlines()
    assert (paused, resumed) == ("Paused", "Running") and "'mem_size_mib': 256" in config
    assert host.run(*uname) == f"{host.guest.release}\n"
    console = host.run(python, "-c", END, key)
    assert "reboot: Restarting system" in console and console.endswith("None False\n"), console
    assert "mh0" not in host.run("ip", "-o", "link")


# In a mount namespace, which `ip netns exec` makes: the client's paths are fixed.
PLACES = """set -e
mount -t tmpfs programs /usr/local/bin
ln -s "$1" /usr/local/bin/firecracker
mount -t tmpfs state /var/lib
mkdir /var/lib/firecracker
mount --bind "$2" /var/lib/firecracker
shift 2
exec "$@"
"""


@soak
def test_firecracker_python(host, installed):
    said = host.run("sh", "-c", PLACES, "sh", str(vm.DUET), host.path("lib"), str(installed / "python3"),
                    str(DRIVER), host.path("boot/kernel"), host.path("root.ext4"), str(host.guest.key),
                    host.guest.release)
    print(said)
    assert said.endswith("lived\n")
    assert host.run("ls", host.path("lib")) == "snapshots\n"

# SPDX-License-Identifier: Apache-2.0
"""The guest kit's packages in a whole Debian 12: udev loads the module, systemd starts the daemon, and all of it goes again."""

import shlex
import shutil
import subprocess
from pathlib import Path

from api import Api, socket
from matrix import soak
from test_debian import LIMIT, Debian, free_port
from test_kit import until

from duetlab.base.paths import REPOSITORY
from duetlab.guest import kit, system, vm

KERNEL = "6.1-cloud"  # the system's

# The module comes to where DKMS would put it: DKMS wants a compiler and the network, and tests/lab/test_kit.py has it
# build one. As at a start, udev finds the device and what drives it.
INSTALL = """set -e
cd /root/kit
dpkg -i libduet_*.deb duet-guestd_*.deb
install -D -m 644 duet.ko /lib/modules/$(uname -r)/updates/dkms/duet.ko
depmod
udevadm trigger --action=add --subsystem-match=virtio
for i in $(seq 100); do systemctl -q is-active duet-guestd && break; sleep 1; done
systemctl is-active duet-guestd
LD_PRELOAD=libduet-preload.so DUET_HEAP_VERBOSE=2 sort /etc/passwd 2>&1 >/dev/null
LD_PRELOAD=libduet-time.so sh -c 'echo time-outs preloaded' 2>&1
"""
# While the daemon has the device the module stays; its package takes the daemon away.
REMOVE = """
rmmod duet 2>&1
dpkg -r duet-guestd libduet && rmmod duet && echo removed
systemctl --failed --no-legend
dmesg | grep -E "Call Trace|BUG:"
true
"""


def put(debian: Debian, directory: Path):
    """The files of DIRECTORY into /root/kit."""
    vm.run("sh", "-c", f"tar -c -C {directory} . | {shlex.join(debian.by_ssh())} "
                       "'mkdir /root/kit && tar -x -C /root/kit'", limit=LIMIT)


@soak
def test_packages(workspace, local_disk):
    packages = workspace / "kit"
    subprocess.run([REPOSITORY / "guest" / "packages", packages], check=True, capture_output=True)
    shutil.copy(kit.module(KERNEL), packages / "duet.ko")
    made, name, port = system.system(), socket(), free_port()
    disk = local_disk("1", "system")
    vm.copy_sparse(made.root, disk)
    with vm.Guest("--disk", f"path={disk}", "--net", f"user,forward=127.0.0.1/{port}:22", "--coop", "--api-sock", name,
                  "--cmdline", "root=/dev/vda rw", kernel=made.kernel, initrd=made.initrd, memory="1G") as guest:
        debian = Debian(guest, disk, str(made.key), port)
        debian.log_in()
        put(debian, packages)
        said = debian.ssh(INSTALL)
        print(said)
        assert "\nactive\n" in said and "large allocations are on /dev/duet-heap" in said, said
        assert "time-outs preloaded" in said and "on the wall's clock" not in said, said
        api = Api(name)
        api.do("PUT", "/duet/hints", {"wish": "share"})
        told = until(lambda: api.do("GET", "/duet/hints")["share"], lambda found: found["complete"], LIMIT)
        assert told["pages"] > 0
        said = debian.ssh(REMOVE)
        print(said)
        assert "in use" in said and said.endswith("removed\n"), said

# SPDX-License-Identifier: Apache-2.0
"""The packages in an installed Debian 12, which is a host here: machines under systemd's units, in guests' guests. They are
installed, started, upgraded while a machine runs, and removed."""

import re
import shutil
import subprocess

import pytest
from matrix import soak
from test_debian import Debian, free_port

from duetlab.base import debian
from duetlab.base.paths import REPOSITORY
from duetlab.guest import images, system, vm

pytestmark = soak
SUITE = "bookworm"
# The machine within: it says when it is up, and listens to its power button.
INNER = "duet-powerbutton; echo the inner machine is up; while :; do sleep 1000; done"
CONFIGURATION = """{"duet": 1, "kernel": "/payload/vmlinuz", "initrd": "/payload/initrd", "memory": "160M",
 "share": 300, "cmdline": "quiet",
 "devices": [{"type": "balloon", "stats": 1, "deflate-on-oom": true}]}
"""
WRONG = '{"duet": 1, "kernel": "/payload/vmlinuz",\\n "memory": "160M",\\n "share": 0}\\n'


def run(*command):
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False, cwd=REPOSITORY)
    assert result.returncode == 0, result.stdout
    return result.stdout


def make_packages(directory):
    """Today's, and the same as a later version."""
    old, new = directory / "old", directory / "new"
    run("packaging/packages", "build", old)
    new.mkdir()
    for package in old.glob("*.deb"):
        tree = directory / "tree"
        run("dpkg-deb", "-R", package, tree)
        control = tree / "DEBIAN/control"
        version = re.search(r"^Version: (.*)$", control.read_text(), re.MULTILINE).group(1)
        control.write_text(control.read_text().replace(version, f"{version}+later"))
        run("dpkg-deb", "--root-owner-group", "--build", tree, new / package.name)
        shutil.rmtree(tree)


def make_payload(directory):
    """A disk with all that the Debian gets, so that nothing goes by its network."""
    tree = directory / "payload"
    tree.mkdir()
    make_packages(tree)
    debian.download("passt", SUITE, tree)
    shutil.copyfile(images.kernel("6.1-cloud"), tree / "vmlinuz")
    shutil.copyfile(images.initrd("6.1-cloud", "base", INNER), tree / "initrd")
    image = directory / "payload.img"
    run("/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree, image, "256M")
    return image


@pytest.fixture(name="host", scope="module")
def a_debian_that_is_a_host(module_disk):
    made = system.system()
    disk, second = module_disk("1", "system"), module_disk("1", "payload")
    with vm.workspace() as directory:
        vm.copy_sparse(make_payload(directory), second)
    vm.copy_sparse(made.root, disk)
    port = free_port()
    with vm.Guest("--cpus", "2", "--nested", "on", "--disk", f"path={disk}", "--disk", f"path={second}",
                  "--net", f"user,forward=127.0.0.1/{port}:22", "--cmdline", "root=/dev/vda rw", kernel=made.kernel,
                  initrd=made.initrd, memory="1G") as guest:
        running = Debian(guest, disk, str(made.key), port)
        running.log_in()
        yield running


def until(command: str) -> str:
    return f"for i in $(seq 600); do {command} && break; sleep 1; done\n{command}\n"


def test_life_of_the_packages(host):
    print(host.ssh("set -e; mkdir /payload; mount -o ro /dev/vdb /payload; test -c /dev/kvm\n"
                   "dpkg -i /payload/passt_*.deb /payload/old/*.deb\n"
                   "duet version; systemctl is-enabled duetd || true; man -w duetd >/dev/null || true\n"
                   "systemctl enable --now duetd\n" + until("duetctl ps")))

    # What is wrong is not started, and does not keep the others from it.
    host.ssh(f"set -e; cat >/etc/duet/web.json <<'END'\n{CONFIGURATION}END\n"
             f"printf '{WRONG}' >/etc/duet/bad.json\n")
    said = host.ssh("duetctl start bad 2>&1; echo status $?; duetctl list 2>&1; duetctl stop web 2>&1; echo status $?")
    assert "/etc/duet/bad.json:3: share: give a number from 1 to 10000" in said
    assert re.findall(r"^status (\d)$", said, re.MULTILINE) == ["1", "1"]
    assert re.search(r"^bad +stopped +no +/etc/duet/bad.json:3", said, re.MULTILINE)
    assert re.search(r"^web +stopped +no *$", said, re.MULTILINE)

    # Started by its unit, found, weighed by its share.
    said = host.ssh("set -e; systemctl enable duet@web 2>/dev/null; duetctl start web\n" +
                    until("journalctl -u duet@web | grep -q 'the inner machine is up'") +
                    until("duetctl explain web | grep 'its share of 300'") +
                    "duetctl list; systemctl show -P ControlGroup -P MainPID duet@web duetd; duetctl start web 2>&1 || true")
    assert re.search(r"^web +runs +yes *$", said, re.MULTILINE), said
    assert "web runs already" in said
    first = host.ssh("systemctl show -P MainPID duet@web; systemctl show -P MainPID duetd").split()

    # Another version: the machine runs on, duetd is the new one and has found it again.
    print(host.ssh("set -e; dpkg -i /payload/new/*.deb\n" + until("duetctl explain web | grep 'its share of 300'")))
    second = host.ssh("systemctl show -P MainPID duet@web; systemctl show -P MainPID duetd; "
                      "dpkg-query -W -f '${Version} ' duet duetd").split()
    assert second[0] == first[0] and second[1] != first[1] and all("later" in word for word in second[2:])

    # Without duetd, as before it.
    said = host.ssh("set -e; apt-get remove -y duetd 2>&1\n"
                    "systemctl show -P MainPID duet@web\n"
                    "cat /sys/fs/cgroup$(systemctl show -P ControlGroup duet@web)/cpu.weight\n"
                    "test ! -e /sys/fs/cgroup/duet; test ! -e /run/duetd.sock; echo all as before")
    assert said.splitlines()[-3:] == [first[0], "100", "all as before"], said

    # The last to go: its machine ends by its power button, its configuration stays.
    said = host.ssh("apt-get remove -y duet 2>&1; systemctl is-active duet@web; journalctl -u duet@web | tail -n 5; "
                    "ls /etc/duet; ls /usr/bin/duet* /usr/sbin/duet* 2>&1; systemctl --failed --no-legend --plain")
    assert "duet-guest: power button" in said and "inactive" in said, said
    assert "web.json" in said and "duet@" not in said.splitlines()[-1]

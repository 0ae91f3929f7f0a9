# SPDX-License-Identifier: Apache-2.0
"""The packages in an installed Debian 12 with systemd, in namespaces of its own where KVM is: they are installed, started,
upgraded while a machine runs, and removed."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
from matrix import soak

from duetlab.base import debian
from duetlab.base.paths import REPOSITORY
from duetlab.guest import images, system, vm

pytestmark = soak
SUITE = "bookworm"
LIMIT = 400
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


# Debian's systemd as the first process of namespaces of its own, in a cgroup of its own, where KVM is. Its mounts are gone
# with it, and so is its network, which is none.
CONTAINER = """
modprobe loop
mkdir /sys/fs/cgroup/packages && echo $$ >/sys/fs/cgroup/packages/cgroup.procs || exit 1
exec unshare -n -m -p -f -u -C sh -ec '
mount --make-rprivate /
mount -o loop {disk} {root}
cd {root}
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount -t tmpfs dev dev
for device in null zero full random urandom tty kvm; do
	touch dev/$device; mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm dev/net payload
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount -o loop,ro {payload} payload
exec env -i container=other PATH={path} chroot . /sbin/init --log-target=journal'
"""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Host:
    """The container, from outside."""

    def __init__(self, directory: str, disk: str, payload: str):
        self.directory = directory
        script = CONTAINER.format(disk=disk, root=directory, payload=payload, path=PATH)
        # Its first process is the child of the one that has made the namespaces.
        self.first = vm.run("sh", "-c", f"mkdir {directory}; nohup sh -c {shlex.quote(script)} >{directory}.log 2>&1 </dev/null & "
                            f"for i in $(seq 300); do first=$(cat /proc/$!/task/$!/children) && [ -n \"$first\" ] && "
                            "grep -qz init /proc/${first% }/cmdline && break; sleep 0.2; done; echo $first").stdout.strip()

    def run(self, script: str) -> str:
        return vm.run("nsenter", "-t", self.first, "-n", "-m", "-p", "-u", "-C", "-r", "-w", "env", "-i", f"PATH={PATH}", "sh",
                      "-c", script, limit=LIMIT).stdout

    def end(self):
        left = "/sys/fs/cgroup/packages"
        vm.run("sh", "-c", f"kill -9 {self.first}; while [ -e /proc/{self.first} ]; do sleep 0.1; done; "
                           f"for i in $(seq 100); do find {left} -depth -type d -exec rmdir {{}} +; [ -e {left} ] || break; "
                           f"sleep 0.1; done; rmdir {self.directory}; rm {self.directory}.log", check=False)


@pytest.fixture(name="host", scope="module")
def a_debian_that_is_a_host(module_disk):
    if vm.run("id", "-u").stdout.strip() != "0":
        pytest.skip("a Debian in namespaces of its own takes root")
    made = system.system()
    disk, second = module_disk("1", "system"), module_disk("1", "payload")
    with vm.workspace() as directory:
        vm.copy_sparse(make_payload(directory), second)
    vm.copy_sparse(made.root, disk)
    host = Host(f"/tmp/packages-{os.getpid()}", disk, second)
    try:
        host.run(until("systemctl is-system-running | grep -E 'running|degraded'"))
        yield host
    finally:
        print(vm.run("cat", f"{host.directory}.log", check=False).stdout)
        host.end()


def until(command: str) -> str:
    return f"for i in $(seq 600); do {command} && break; sleep 1; done\n{command}\n"


def test_life_of_the_packages(host):
    print(host.run("set -e; test -c /dev/kvm\n"
                   "dpkg -i /payload/passt_*.deb /payload/old/*.deb\n"
                   "duet version; systemctl is-enabled duetd || true; man -w duetd >/dev/null || true\n"
                   "systemctl enable --now duetd\n" + until("duetctl ps")))

    # What is wrong is not started, and does not keep the others from it.
    host.run(f"set -e; cat >/etc/duet/web.json <<'END'\n{CONFIGURATION}END\n"
             f"printf '{WRONG}' >/etc/duet/bad.json\n")
    said = host.run("duetctl start bad 2>&1; echo status $?; duetctl list 2>&1; duetctl stop web 2>&1; echo status $?")
    assert "/etc/duet/bad.json:3: share: give a number from 1 to 10000" in said
    assert re.findall(r"^status (\d)$", said, re.MULTILINE) == ["1", "1"]
    assert re.search(r"^bad +stopped +no +/etc/duet/bad.json:3", said, re.MULTILINE)
    assert re.search(r"^web +stopped +no *$", said, re.MULTILINE)

    # Started by its unit, found, weighed by its share.
    said = host.run("set -e; systemctl enable duet@web 2>/dev/null; duetctl start web\n" +
                    until("journalctl -u duet@web | grep -q 'the inner machine is up'") +
                    until("duetctl explain web | grep 'its share of 300'") +
                    "duetctl list; systemctl show -P ControlGroup -P MainPID duet@web duetd; duetctl start web 2>&1 || true")
    assert re.search(r"^web +runs +yes *$", said, re.MULTILINE), said
    assert "web runs already" in said
    first = host.run("systemctl show -P MainPID duet@web; systemctl show -P MainPID duetd").split()

    # Another version: the machine runs on, duetd is the new one and has found it again.
    print(host.run("set -e; dpkg -i /payload/new/*.deb\n" + until("duetctl explain web | grep 'its share of 300'")))
    second = host.run("systemctl show -P MainPID duet@web; systemctl show -P MainPID duetd; "
                      "dpkg-query -W -f '${Version} ' duet duetd").split()
    assert second[0] == first[0] and second[1] != first[1] and all("later" in word for word in second[2:])

    # Without duetd, as before it.
    said = host.run("set -e; apt-get remove -y duetd 2>&1\n"
                    "systemctl show -P MainPID duet@web\n"
                    "cat /sys/fs/cgroup$(systemctl show -P ControlGroup duet@web)/cpu.weight\n"
                    "test ! -e /sys/fs/cgroup/duet; test ! -e /run/duetd.sock; echo all as before")
    assert said.splitlines()[-3:] == [first[0], "100", "all as before"], said

    # The last to go: its machine ends by its power button, its configuration stays.
    said = host.run("apt-get remove -y duet 2>&1; systemctl is-active duet@web; journalctl -u duet@web | tail -n 5; "
                    "ls /etc/duet; ls /usr/bin/duet* /usr/sbin/duet* 2>&1; systemctl --failed --no-legend --plain")
    assert "duet-guest: power button" in said and "inactive" in said, said
    assert "web.json" in said and "duet@" not in said.splitlines()[-1]

# SPDX-License-Identifier: Apache-2.0
"""The packages in an installed Debian 12 with systemd, in namespaces of its own on this machine: installed, started, upgraded
while a machine's unit runs, removed. There is no KVM within: a stand-in runs in the place of a machine's process."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
from calls import REPOSITORY
from made_up import wait_for

from duetlab.base import debian
from duetlab.guest import system

pytestmark = pytest.mark.skipif(os.environ.get("DUET_SOAK") != "1", reason="in make soak")
SUITE = "bookworm"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT = 300
# Debian's systemd as the first process of namespaces, without a network. Its mounts are gone with it.
CONTAINER = """
mount --make-rprivate /
mount -o loop {disk} {root}
cd {root}
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for name in run tmp dev; do mount -t tmpfs $name $name; done
for device in null zero full random urandom tty; do
	touch dev/$device; mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm payload
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount --bind {payload} payload
exec env -i container=other PATH={path} chroot . /sbin/init --log-target=journal
"""
STAND_IN = "[Service]\\nExecStart=\\nExecStart=/bin/sleep infinity\\n"
GOOD = '{"duet": 1, "kernel": "/vmlinuz"}'
WRONG = '{"duet": 1, "kernel": "/vmlinuz",\\n "memory": "160M",\\n "share": 0}\\n'


def run(*command):
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            check=False, cwd=REPOSITORY, timeout=LIMIT)
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
    debian.download("passt", SUITE, directory)


class Debian:
    """The container, from outside."""

    def __init__(self, directory):
        root, disk, payload = directory / "root", directory / "disk", directory / "payload"
        root.mkdir()
        payload.mkdir()
        make_packages(payload)
        run("cp", "--sparse=always", system.system().root, disk)
        script = CONTAINER.format(disk=disk, root=root, payload=payload, path=PATH)
        self.log = directory / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["unshare", "-n", "-m", "-p", "-f", "-u", "-C", "sh", "-ec", script],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.has_begun, LIMIT)

    def has_begun(self):
        if self.process.poll() is not None:
            pytest.skip(f"namespaces with loop devices and cgroups are not to be had here: {self.log.read_text()}")
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        with open(children, encoding="ascii") as file:
            self.first = file.read().strip()
        if not self.first:
            return False
        with open(f"/proc/{self.first}/cmdline", encoding="ascii") as file:
            return file.read().startswith("/sbin/init")

    def run(self, script, check=True):
        result = subprocess.run(
            ["nsenter", "-t", self.first, "-n", "-m", "-p", "-u", "-C", "-r", "-w", "env", "-i", f"PATH={PATH}", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=LIMIT)
        assert result.returncode == 0 or not check, result.stdout
        return result.stdout

    def until(self, command):
        wait_for(lambda: "it is so" in self.run(f"{command} && echo it is so", check=False), LIMIT)

    def end(self):
        self.process.kill()
        self.process.wait()
        subprocess.run(["kill", "-9", self.first], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture(name="host")
def a_debian_that_is_a_host(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a Debian in namespaces of its own takes root")
    host = Debian(tmp_path)
    try:
        host.until("systemctl is-system-running | grep -E 'running|degraded'")
        yield host
    finally:
        host.end()


def main_pid(host, unit):
    return host.run(f"systemctl show -P MainPID {unit}").strip()


def test_life_of_the_packages(host):
    host.run("dpkg -i /payload/passt_*.deb /payload/old/duet_*.deb /payload/old/duetd_*.deb")
    assert host.run("duet version").startswith("duet ") and "disabled" in host.run("systemctl is-enabled duetd", check=False)
    host.run("systemctl enable --now duetd")
    host.until("duetctl ps")

    # What is wrong is not started, and does not keep the others from it.
    host.run(f"printf {shlex.quote(GOOD)} >/etc/duet/web.json; printf {shlex.quote(GOOD)} >/etc/duet/mail.json; "
             f"printf {shlex.quote(WRONG)} >/etc/duet/bad.json; mkdir /etc/systemd/system/duet@web.service.d; "
             f"printf '{STAND_IN}' >/etc/systemd/system/duet@web.service.d/stand-in.conf; systemctl daemon-reload; "
             "systemctl enable duet@web")
    assert "/etc/duet/bad.json:3: share: give a number from 1 to 10000" in host.run("duetctl start bad", check=False)
    assert "nothing to stop" in host.run("duetctl stop web", check=False)
    host.run("duetctl start web && duetctl start mail")
    host.until("duetctl list | grep -q 'web *runs *yes'")
    # Without KVM: its own program ends, and that is told.
    host.until("duetctl list | grep -q 'mail *failed *no *exit-code; journalctl -u duet@mail'")
    assert "/dev/kvm" in host.run("journalctl -u duet@mail")
    assert re.search(r"^bad +stopped +no +/etc/duet/bad.json:3", host.run("duetctl list"), re.MULTILINE)

    # Another version: what runs runs on, duetd is the new one.
    machine, manager = main_pid(host, "duet@web"), main_pid(host, "duetd")
    host.run("dpkg -i /payload/new/duet_*.deb /payload/new/duetd_*.deb")
    host.until("duetctl list | grep -q 'web *runs'")
    assert main_pid(host, "duet@web") == machine and main_pid(host, "duetd") not in (manager, "0")
    assert host.run("dpkg-query -W -f '${Version} ' duet duetd").count("+later") == 2

    # Killed, it is started again by its unit, and knows the same.
    manager = main_pid(host, "duetd")
    host.run(f"kill -9 {manager}")
    host.until(f"test $(systemctl show -P MainPID duetd) != {manager} && duetctl list | grep -q 'web *runs'")
    host.run("duetctl stop web")
    host.until("duetctl list | grep -q 'web *stopped *yes'")
    host.run("duetctl start web")
    host.until("duetctl list | grep -q 'web *runs'")

    # Without duetd what runs runs on; without duet nothing does, and what was configured stays.
    machine = main_pid(host, "duet@web")
    host.run("apt-get remove -y duetd; test ! -e /run/duetd.sock")
    assert main_pid(host, "duet@web") == machine
    host.run("apt-get remove -y duet")
    assert "inactive" in host.run("systemctl is-active duet@web", check=False)
    assert host.run("ls /etc/duet; ls /usr/bin /usr/sbin | grep duet || true").split() == ["bad.json", "mail.json", "web.json"]
    assert host.run("systemctl --failed --no-legend --plain") == ""
    link = "/etc/systemd/system/multi-user.target.wants/duet@web.service"
    host.run(f"test -L {link}; apt-get purge -y duet; test ! -L {link}")

# SPDX-License-Identifier: Apache-2.0
"""Nodes of a cluster: Debian with systemd, Corosync and Pacemaker in namespaces, with duet's packages, a network of their own
and a folder that all see, which is their shared storage. Runs where KVM is, as root:

  nodes.py SCENARIO JSON    (test_fleet.py says which and what)

A node's death is that of its first process: nothing in it runs for a moment longer, as when its power is cut. Its memory and
disks but for the shared folder go with it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT = 400  # seconds that anything in the lab may take beside other work
HOME = Path("/run/duet-nodes")
BRIDGE = "duetnodes"
AGENT = "/usr/lib/ocf/resource.d/duet/VM"

BEGIN = """
mkdir -p /sys/fs/cgroup/{name}; echo $$ >/sys/fs/cgroup/{name}/cgroup.procs
exec unshare -n -m -p -f -u -i -C sh -ec '
mount --make-rprivate /
mount -t tmpfs over {home}/over
mkdir {home}/over/up {home}/over/work
mount -t overlay -o lowerdir={image},upperdir={home}/over/up,workdir={home}/over/work root {home}/root
cd {home}/root
hostname {name}
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for name in run tmp dev; do mount -t tmpfs $name $name; done
mkdir dev/pts dev/shm dev/net
for device in null zero full random urandom tty kvm net/tun userfaultfd; do
	[ -e /dev/$device ] || continue
	touch dev/$device; mount --bind /dev/$device dev/$device
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs shm dev/shm
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mkdir -p shared .{files}
mount --bind {shared} shared
mount --bind {files} .{files}
exec env -i container=other PATH={path} chroot . /sbin/init --log-target=journal'
"""

COROSYNC = """totem {{
	version: 2
	cluster_name: lab
	transport: udpu
	token: 10000
	crypto_cipher: none
	crypto_hash: none
}}
nodelist {{
{nodes}}}
quorum {{
	provider: corosync_votequorum
	two_node: {two}
}}
logging {{
	to_syslog: yes
}}
"""

# Asks who holds the power switch: the folder that all nodes see is the wire to it.
FENCE = """#!/usr/bin/env python3
import os, sys, time
OPTIONS = ("action", "port", "nodename", "plug")
given = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line) if len(sys.argv) == 1 else {}
action = given.get("action", "metadata" if "metadata" in sys.argv else "monitor")
if action == "metadata":
    print('<?xml version="1.0"?><resource-agent name="fence_lab" shortdesc="x"><longdesc>x</longdesc><parameters>'
          '<parameter name="port" unique="0" required="0"><content type="string"/><shortdesc lang="en">x</shortdesc></parameter>'
          '</parameters><actions><action name="on" automatic="0"/><action name="off"/><action name="reboot"/>'
          '<action name="monitor"/><action name="list"/><action name="metadata"/></actions></resource-agent>')
elif action in ("off", "reboot"):
    node = given.get("port") or given.get("plug") or given.get("nodename")
    with open(f"/shared/power/{node}.wanted", "w"):
        pass
    while os.path.exists(f"/shared/power/{node}.wanted"):
        time.sleep(0.1)
"""


def until(what, why: str, limit: float = LIMIT):
    end = time.monotonic() + limit
    while not (found := what()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {why() if callable(why) else why}")
        time.sleep(0.1)
    return found


def host(*command: str, check: bool = True) -> str:
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert result.returncode == 0 or not check, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout


class Node:
    def __init__(self, cluster, number: int):
        self.cluster, self.number, self.name = cluster, number, f"n{number}"
        self.home = HOME / self.name
        for folder in ("over", "root"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self.log = self.home / "log"
        self.begin()

    def begin(self):
        script = BEGIN.format(name=self.name, home=self.home, image=HOME / "image", path=PATH, shared=self.cluster.shared,
                              files=self.cluster.files)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["sh", "-ec", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.first = until(self.has_begun, "no first process")
        link = f"{self.name}-link"
        host("ip", "link", "add", link, "type", "veth", "peer", "name", "eth1", "netns", self.first)
        host("ip", "link", "set", link, "master", BRIDGE, "up")
        for words in (["addr", "add", f"10.9.0.{self.number}/24", "dev", "eth1"], ["link", "set", "eth1", "up"],
                      ["link", "set", "lo", "up"]):
            host("nsenter", "-t", self.first, "-n", "ip", *words)
        self.until("systemctl is-system-running | grep -E 'running|degraded'")
        self.run("echo 10.9.0.1 n1 >>/etc/hosts; echo 10.9.0.2 n2 >>/etc/hosts")
        self.run(f"dpkg --force-confold -i {self.cluster.files}/packages/*.deb")

    def has_begun(self) -> str:
        assert self.process.poll() is None, self.log.read_text()
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            first = file.read().strip()
        if first and Path(f"/proc/{first}/cmdline").read_bytes().startswith(b"/sbin/init"):
            return first
        return ""

    def command(self, script: str) -> list[str]:
        return ["nsenter", "-t", self.first, "-n", "-m", "-p", "-u", "-i", "-C", "-r", "-w", "env", "-i", f"PATH={PATH}",
                "sh", "-c", script]

    def run(self, script: str, check: bool = True) -> str:
        result = self.ask(script)
        assert result.returncode == 0 or not check, f"{self.name}: {script}: {result.returncode}\n{result.stdout}"
        return result.stdout

    def ask(self, script: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=LIMIT)

    def until(self, script: str, limit: float = LIMIT):
        until(lambda: self.ask(script).returncode == 0, lambda: f"{self.name}: {script}: {self.ask(script).stdout}", limit)

    def agent(self, action: str, **parameters) -> subprocess.CompletedProcess:
        """An action as Pacemaker calls it."""
        given = {"config": "/etc/duet/web.json", "CRM_meta_timeout": "60000", **parameters}
        words = " ".join(f"OCF_RESKEY_{name}={value}" for name, value in given.items())
        return self.ask(f"OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=web {words} {AGENT} {action}")

    def console(self) -> str:
        """What the guest has said in this node since it began."""
        return self.run("journalctl -q -o cat -u duet@web", check=False)

    def power_off(self):
        if self.process.poll() is not None:
            return
        subprocess.run(["kill", "-9", self.first], check=False)
        self.process.wait()
        # The kernel ends the namespaces' other processes before the first is gone.
        subprocess.run(["ip", "link", "del", f"{self.name}-link"], check=False, stderr=subprocess.DEVNULL)

    def cluster_up(self):
        self.run("systemctl start corosync pacemaker")


class Cluster:
    def __init__(self, count: int, image: str, files: str):
        self.files = files
        self.shared = HOME / "shared"
        self.power = self.shared / "power"
        self.fenced: list[str] = []
        self.over = threading.Event()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.shared)
        for folder in (HOME / "image", self.power):
            folder.mkdir(parents=True, exist_ok=True)
        host("modprobe", "-a", "overlay", "loop", "veth", "bridge", check=False)
        if not os.path.ismount(HOME / "image"):
            host("mount", "-o", "loop,ro", image, str(HOME / "image"))
        host("ip", "link", "add", BRIDGE, "type", "bridge")
        host("ip", "link", "set", BRIDGE, "up")
        self.nodes = []
        for number in range(1, count + 1):
            self.nodes.append(Node(self, number))
        self.watch = threading.Thread(target=self.hold_power, daemon=True)
        self.watch.start()

    def hold_power(self):
        while not self.over.wait(0.1):
            for wanted in self.power.glob("*.wanted"):
                self.fenced.append(wanted.stem)
                next(node for node in self.nodes if node.name == wanted.stem).power_off()
                wanted.unlink()

    def configure(self):
        """Corosync's and Pacemaker's, on all nodes; waits until they are a cluster."""
        described = "".join(f"\tnode {{\n\t\tring0_addr: 10.9.0.{node.number}\n\t\tname: {node.name}\n"
                            f"\t\tnodeid: {node.number}\n\t}}\n" for node in self.nodes)
        text = COROSYNC.format(nodes=described, two=int(len(self.nodes) == 2))
        for node in self.nodes:
            node.run(f"cat >/etc/corosync/corosync.conf <<'END'\n{text}END\n"
                     f"cat >/usr/sbin/fence_lab <<'END'\n{FENCE}END\nchmod 755 /usr/sbin/fence_lab")
            node.cluster_up()
        one = self.nodes[0]
        one.until(f"test $(crm_mon -1 --output-as=xml | grep -c '<node .*online=\"true\"') = {len(self.nodes)}")
        one.until("crm_mon -1 | grep 'partition with quorum'")

    def end(self):
        self.over.set()
        for node in self.nodes:
            node.power_off()
        host("ip", "link", "del", BRIDGE, check=False)
        host("umount", str(HOME / "image"), check=False)
        shutil.rmtree(HOME, ignore_errors=True)


def primitive(name: str = "web", monitor: int = 5, **parameters) -> str:
    given = {"config": f"/etc/duet/{name}.json", **parameters}
    attributes = "".join(f'<nvpair id="{name}-{key}" name="{key}" value="{value}"/>' for key, value in given.items())
    operations = "".join(
        f'<op id="{name}-{action}" name="{action}" timeout="{timeout}s" interval="{interval}s"/>'
        for action, timeout, interval in (("start", 180, 0), ("stop", 120, 0), ("monitor", 60, monitor), ("migrate_to", 120, 0),
                                          ("migrate_from", 300, 0)))
    return (f'<primitive id="{name}" class="ocf" provider="duet" type="VM">'
            f'<instance_attributes id="{name}-attributes">{attributes}</instance_attributes>'
            f'<meta_attributes id="{name}-meta"><nvpair id="{name}-move" name="allow-migrate" value="true"/></meta_attributes>'
            f"<operations>{operations}</operations></primitive>")


def records(disk: Path) -> list[tuple[int, str]]:
    """What the guests have written to the disk, by the order of their writing: a number and who, see GUEST in test_fleet.py."""
    found = []
    with open(disk, "rb") as file:
        file.seek(512)
        while line := re.match(rb"(\d{8}) (\S+) ", file.read(512)):
            found.append((int(line[1]), line[2].decode()))
    return found


def assert_one_at_a_time(disk: Path) -> list[str]:
    """Never did two guests write in turns: each one's records are in one piece, and none is missing. Who wrote, in order."""
    written = records(disk)
    assert [number for number, _ in written] == list(range(1, len(written) + 1)), written
    turns = [who for at, (_, who) in enumerate(written) if at == 0 or written[at - 1][1] != who]
    assert len(turns) == len(set(turns)), f"two wrote in turns: {turns}"
    return turns


def main() -> int:
    import scenarios  # noqa: PLC0415 (it is the one that needs this file)
    name, given = sys.argv[1], json.loads(sys.argv[2])
    scenario = getattr(scenarios, name)
    cluster = Cluster(scenario.nodes, given["image"], given["files"])
    try:
        scenario(cluster, given)
    except BaseException:
        for node in cluster.nodes:
            if node.process.poll() is None:
                print(f"---- {node.name}\n{node.run('crm_mon -1rf; journalctl -q -n 120 -o short-monotonic', check=False)}",
                      file=sys.stderr)
        raise
    finally:
        cluster.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""duet-oci: bundles with busybox in VMs of their own, driven as an engine does."""

import json
import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest

from duetlab.base import packages
from duetlab.base.paths import DUET
from duetlab.guest import images, vm
from matrix import soak, some

RUNTIME = DUET.parent / "duet-oci"
ENGINE = Path(__file__).with_name("oci_engine.py")
LIMIT = 900
APPLETS = ("sh", "cat", "echo", "env", "grep", "head", "hostname", "id", "ip", "kill", "ls", "mkdir", "mount", "nc", "nproc", "ps",
           "readlink", "rm", "sleep", "stat", "stty", "sync", "tail", "test", "touch", "true", "tty", "mknod", "sed", "ln", "mv",
           "chmod", "chown", "dd", "wc", "cut")
MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
]
CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_SETGID", "CAP_SETUID"]


class Boxes:
    """A state folder and a cache where duet-oci runs, and bundles below them."""

    def __init__(self, kernel: str = "6.1-cloud"):
        self.home = f"/tmp/duet-oci-{uuid.uuid4().hex[:8]}"
        release = images.release(kernel)
        self.runtime = ["env", f"DUET_OCI_KERNEL={images.kernel(kernel)}",
                        f"DUET_OCI_MODULES={images.kernel_dir(kernel)}/modules/lib/modules/{release}",
                        str(RUNTIME), "--root", f"{self.home}/state", "--cache", f"{self.home}/cache"]
        links = "; ".join(f"ln -s busybox rootfs/bin/{applet}" for applet in APPLETS)
        self.shell(f"mkdir -p {self.home}/state {self.home}/rootfs/bin {self.home}/rootfs/tmp && cd {self.home} && "
                   f"cp {packages.busybox()} rootfs/bin/busybox && chmod 755 rootfs/bin/busybox; {links}")

    def shell(self, script: str, **more) -> subprocess.CompletedProcess:
        return vm.run("sh", "-c", script, limit=LIMIT, **more)

    def bundle(self, script: str = "exec sleep 100000", name: str = "bundle", **changes) -> str:
        """The folder of a bundle; CHANGES are parts of config.json, process and linux by their members."""
        process = {"args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0},
                   "capabilities": {kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")},
                   **changes.pop("process", {})}
        own = {"namespaces": [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts")], **changes.pop("linux", {})}
        config = {"ociVersion": "1.0.2", "hostname": "boxed", "root": {"path": f"{self.home}/rootfs"}, "process": process,
                  "mounts": MOUNTS + changes.pop("mounts", []), "linux": own, **changes}
        folder = f"{self.home}/{name}"
        vm.run("sh", "-c", 'mkdir -p "$1" && printf %s "$2" >"$1/config.json"', "sh", folder, json.dumps(config))
        return folder

    def oci(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        return vm.run(*self.runtime, *words, check=check, limit=LIMIT)

    def create(self, name: str, bundle: str, check: bool = True) -> subprocess.CompletedProcess:
        """Its input and output are files, or this would wait for its end."""
        result = vm.run("sh", "-c", 'out=$1; shift; exec "$@" </dev/null >"$out" 2>&1', "sh", f"{self.home}/{name}.out",
                        *self.runtime, "create", "--bundle", bundle, name, check=False, limit=LIMIT)
        result.stdout = self.shell(f"cat {self.home}/{name}.out").stdout
        if check and result.returncode:
            raise vm.GuestFailure(result.stdout)
        return result

    def run(self, name: str, bundle: str = "bundle"):
        self.create(name, bundle)
        self.oci("start", name)

    def engine(self, *words: str, name: str = "box", bundle: str | None = None) -> str:
        """What the container said; the last line is its status."""
        ending = [name, bundle] if bundle else [name]
        return vm.run("python3", str(ENGINE), *words, *self.runtime, "--", *ending, check=False, limit=LIMIT).stdout.replace("\r", "")

    def state(self, name: str = "box") -> dict:
        return json.loads(self.oci("state", name).stdout)

    def left(self) -> str:
        """What there is of containers on the host."""
        return self.shell(f"ls {self.home}/state; ip -oneline link show | grep -o 'duet[0-9]*'; "
                          f"ps -eo args | grep '[m]achine.json'; ls {self.home}/state/*/ 2>/dev/null || true").stdout.strip()

    def clean(self):
        self.shell(f"for box in {self.home}/state/*; do [ -d $box ] && {' '.join(self.runtime)} delete --force ${{box##*/}}; done; "
                   f"rm -rf {self.home}", check=False)


@pytest.fixture
def boxes():
    made = Boxes()
    yield made
    made.clean()


@pytest.mark.parametrize("kernel", some(["6.1-cloud", "6.12-cloud"]))
def test_run(kernel):
    """From the first word to the last: input, output, namespaces, status, and nothing left."""
    boxes = Boxes(kernel)
    try:
        bundle = boxes.bundle("echo I am $$ on $(hostname); ps | wc -l; read line; echo got $line; echo bad >&2; exit 7")
        said = boxes.engine("--input", "a line\n", bundle=bundle)
        assert "I am 1 on boxed\n" in said
        assert "got a line\n" in said and "bad\n" in said
        assert said.endswith("status 7\n")
        assert boxes.state()["status"] == "stopped"
        boxes.oci("delete", "box")
        assert boxes.left() == ""
        # The second of the same files finds its disk.
        assert boxes.shell(f"ls {boxes.home}/cache | grep -c -e ext4 -e erofs").stdout == "1\n"
        said = boxes.engine("--input", "x\n", bundle=bundle)
        assert said.endswith("status 7\n")
        assert boxes.shell(f"ls {boxes.home}/cache | grep -c -e ext4 -e erofs").stdout == "1\n"
    finally:
        boxes.clean()


def test_life(boxes):
    """Each command in its time, and refused out of it; other processes; signals."""
    bundle = boxes.bundle("trap 'echo caught; exit 9' TERM; while :; do sleep 0.1; done")
    boxes.create("box", bundle)
    assert boxes.state()["status"] == "created"
    assert "exists already" in boxes.create("box", bundle, check=False).stdout
    assert "exec needs one that runs" in boxes.oci("exec", "box", "true", check=False).stderr
    boxes.oci("start", "box")
    state = boxes.state()
    assert state["status"] == "running" and state["bundle"] == bundle and state["pid"] > 1
    assert "only one that is created can start" in boxes.oci("start", "box", check=False).stderr
    assert "only one that is stopped can be deleted" in boxes.oci("delete", "box", check=False).stderr

    assert boxes.oci("exec", "box", "sh", "-c", "echo out; exit 5", check=False).returncode == 5
    assert boxes.oci("exec", "-u", "7:8", "-e", "A=b", "--cwd", "/tmp", "box", "sh", "-c", "id -u; id -g; echo $A $PWD").stdout == \
        "7\n8\nb /tmp\n"
    assert "executable file not found in $PATH" in boxes.create("other", boxes.bundle(process={"args": ["nothere"]}, name="b"), check=False).stdout
    missing = boxes.oci("exec", "box", "nothere", check=False)
    assert missing.returncode == 1 and "executable file not found in $PATH" in missing.stderr
    assert 1 in json.loads(boxes.oci("ps", "--format", "json", "box").stdout)
    usage = json.loads(boxes.oci("events", "--stats", "box").stdout)
    assert usage["data"]["cpu"]["usage"]["total"] > 0 and usage["data"]["pids"]["current"] >= 1

    boxes.oci("pause", "box")
    boxes.oci("resume", "box")
    boxes.oci("kill", "box", "TERM")
    boxes.shell(f"while kill -0 {state['pid']} 2>/dev/null && ! grep -q '^State:.Z' /proc/{state['pid']}/status; do sleep 0.1; done")
    assert boxes.state()["status"] == "stopped"
    assert "caught" in boxes.shell(f"cat {boxes.home}/box.out").stdout
    assert "it gets no signals" in boxes.oci("kill", "box", "TERM", check=False).stderr
    boxes.oci("delete", "box")
    assert "does not exist" in boxes.oci("state", "box", check=False).stderr
    assert boxes.left() == ""


@soak
def test_terminal(boxes):
    """A window's size at the start and later, and a terminal of another process."""
    bundle = boxes.bundle("stty size; tty; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.1; done",
                          process={"terminal": True, "consoleSize": {"height": 30, "width": 90}})
    said = boxes.engine("--terminal", "30x90", "--then", " ", bundle=bundle)
    assert "30 90\n" in said and "/dev/pts/0\n" in said and "50 120\n" in said
    assert said.endswith("status 4\n")
    boxes.oci("delete", "box")
    assert "needs --console-socket" in boxes.create("box", bundle, check=False).stdout

    boxes.run("box", boxes.bundle())
    process = {"args": ["sh", "-c", "tty; read line; echo got $line; exit 3"], "env": ["PATH=/bin"], "cwd": "/", "terminal": True}
    vm.run("sh", "-c", 'printf %s "$2" >"$1"', "sh", f"{boxes.home}/process.json", json.dumps(process))
    said = boxes.engine("--exec", f"{boxes.home}/process.json", "--terminal", "25x80", "--input", "typed\n")
    assert "got typed\n" in said
    assert said.endswith("status 3\n")


def test_network(boxes):
    """The engine's card is the guest's: address, route, both ways."""
    name = f"d{uuid.uuid4().hex[:6]}"
    boxes.shell(f"ip netns add {name} && ip link add {name}h type veth peer name eth0 netns {name} && "
                f"ip address add 10.231.7.1/24 dev {name}h && ip link set {name}h up && "
                f"ip -netns {name} address add 10.231.7.2/24 dev eth0 && ip -netns {name} link set eth0 up && "
                f"ip -netns {name} route add default via 10.231.7.1")
    try:
        namespaces = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
        namespaces.append({"type": "network", "path": f"/run/netns/{name}"})
        bundle = boxes.bundle("ip -o address; ip route; echo ready; nc -l -p 9900 -e cat; exec sleep 100000", linux={"namespaces": namespaces})
        boxes.run("box", bundle)
        boxes.shell(f"until grep -q ready {boxes.home}/box.out; do sleep 0.1; done")
        assert vm.run("python3", "-c", TALK, "10.231.7.2").stdout == "over\n"
        said = boxes.shell(f"cat {boxes.home}/box.out").stdout
        assert re.search(r"eth0 +inet 10\.231\.7\.2/24", said)
        assert "default via 10.231.7.1 dev eth0" in said
        # Another machine cannot have it too.
        second = boxes.create("second", bundle, check=False)
        assert "is another machine's already" in second.stdout
        boxes.oci("delete", "--force", "box")
        assert "duet0" not in boxes.shell(f"ip -netns {name} link show").stdout
        assert "ingress" not in boxes.shell(f"tc -n {name} qdisc show dev eth0").stdout
        assert boxes.left() == ""
    finally:
        boxes.shell(f"ip netns delete {name}; ip link delete {name}h", check=False)


# The guest's program listens soon after it has said that it is ready.
TALK = """
import socket, sys, time
until = time.monotonic() + 120
while True:
    try:
        connection = socket.create_connection((sys.argv[1], 9900), timeout=60)
        break
    except ConnectionRefusedError:
        assert time.monotonic() < until
connection.sendall(b"over\\n")
print(connection.makefile().readline(), end="")
"""


def test_volumes(boxes):
    """Folders both ways, read-only ones, files; what cannot be bound."""
    boxes.shell(f"cd {boxes.home} && mkdir -p v/sub ro && echo host >v/sub/file && echo fixed >ro/file && echo names >hosts && "
                f"ln -s /etc/passwd v/out && mkfifo pipe")
    mounts = [{"destination": "/v", "type": "bind", "source": f"{boxes.home}/v", "options": ["rbind", "rw"]},
              {"destination": "/ro", "type": "bind", "source": f"{boxes.home}/ro", "options": ["rbind", "ro"]},
              {"destination": "/etc/hosts", "type": "bind", "source": f"{boxes.home}/hosts", "options": ["bind", "rw"]},
              {"destination": "/copy", "type": "bind", "source": f"{boxes.home}/hosts", "options": ["bind", "ro"]}]
    script = ("cat /v/sub/file /ro/file /etc/hosts; echo x >/copy || echo not this; echo guest >/v/new; mkdir /v/deep; mv /v/new /v/deep/new; touch /ro/x || echo no; "
              "cat /v/out || echo nothing there; mknod /v/dev c 1 3 || echo no device; dd if=/bin/busybox of=/v/big bs=64k 2>/dev/null; "
              "ls /v; chown 7:8 /v/deep/new; rm /v/sub/file; exit 0")
    said = boxes.engine(bundle=boxes.bundle(script, mounts=mounts))
    assert "host\nfixed\nnames\n" in said and "no\n" in said and "not this\n" in said and "nothing there" in said and "no device" in said
    assert "big\ndeep\nout\nsub\n" in said
    assert said.endswith("status 0\n")
    assert boxes.shell(f"cd {boxes.home}; cat v/deep/new; stat -c %u:%g v/deep/new; cmp v/big rootfs/bin/busybox && ls v/sub").stdout == \
        "guest\n7:8\n"
    boxes.oci("delete", "box")
    mounts = [{"destination": "/p", "type": "bind", "source": f"{boxes.home}/pipe", "options": ["bind"]}]
    assert "is a pipe, whose other end is in the host's kernel" in boxes.create("box", boxes.bundle(mounts=mounts), check=False).stdout
    assert boxes.left() == ""


@soak
def test_limits(boxes):
    """Of memory, processes and CPUs; users, capabilities, paths."""
    cgroup = f"/duet-test/{uuid.uuid4().hex[:8]}"
    own = {"cgroupsPath": cgroup, "resources": {"memory": {"limit": 64 << 20}, "pids": {"limit": 40},
                                                "cpu": {"quota": 150000, "period": 100000}},
           "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "sysctl": {"net.core.somaxconn": "77"}}
    script = ("grep -e CapEff -e NoNewPrivs /proc/self/status; nproc; cat /proc/sys/net/core/somaxconn; "
              "echo 1 >/proc/sys/net/core/somaxconn || echo protected; head -c 1 /proc/kcore | wc -c; ulimit -n; "
              "touch /file || echo read-only; exec sleep 100000")
    bundle = boxes.bundle(script, linux=own, root={"path": f"{boxes.home}/rootfs", "readonly": True},
                          process={"noNewPrivileges": True, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]})
    boxes.run("box", bundle)
    boxes.shell(f"until grep -q read-only$ {boxes.home}/box.out; do sleep 0.1; done")
    said = boxes.shell(f"cat {boxes.home}/box.out").stdout
    mask = sum(1 << bit for bit in (0, 1, 3, 5, 6, 7, 27))
    assert f"CapEff:\t{mask:016x}\n" in said and "NoNewPrivs:\t1\n" in said
    assert all(f"{word}\n" in said for word in ("2", "77", "protected", "0", "99"))
    usage = json.loads(boxes.oci("events", "--stats", "box").stdout)["data"]
    assert usage["memory"]["usage"]["limit"] == 64 << 20 and usage["pids"]["limit"] == 40
    pid = boxes.state()["pid"]
    assert cgroup in boxes.shell(f"cat /proc/{pid}/cgroup").stdout
    assert boxes.shell(f"cat /sys/fs/cgroup{cgroup}/cpu.max").stdout == "150000 100000\n"
    boxes.oci("delete", "--force", "box")
    assert vm.run("test", "-e", f"/sys/fs/cgroup{cgroup}", check=False).returncode != 0
    assert boxes.left() == ""


def test_hostile_bundle(boxes):
    """Links that lead out, devices, set-uid programs, odd names; a wrong config.json: nothing is left of either."""
    boxes.shell(f"cd {boxes.home}/rootfs && mkdir -p 'a\nb' && echo odd >'a\nb/c\nd' && ln -s / out && ln -s ../../../../etc etc && "
                "ln -s ../../.. up && mknod disk b 254 0 && mknod null c 1 3 && cp bin/busybox suid && chmod 4755 suid")
    mounts = [{"destination": "/up/inside", "type": "tmpfs", "source": "t", "options": ["size=4k"]},
              {"destination": "/out/mnt/../made", "type": "tmpfs", "source": "t", "options": ["size=4k"]}]
    script = ("cat 'a\nb/c\nd'; ls -d /inside /made; cat disk >/tmp/x || echo dead; cat /out/bin/busybox | head -c 4 | wc -c; "
              "stat -c %a /suid; exit 0")
    said = boxes.engine(bundle=boxes.bundle(script, mounts=mounts))
    assert "odd\n" in said and "/inside\n" in said and "/made\n" in said and "dead\n" in said and "4755\n" in said
    assert said.endswith("status 0\n")
    boxes.oci("delete", "box")
    assert vm.run("test", "-e", "/inside", check=False).returncode != 0

    cases = ({"ociVersion": "2.0.0"}, {"root": {"path": "nowhere"}}, {"root": {"path": "/"}}, {"linux": {"namespaces": []}},
             {"mounts": [{"destination": "/x", "type": "bind", "source": "/nowhere"}]}, {"hostname": "a\nb"},
             {"hooks": {"prestart": [{"path": "/bin/false"}]}})
    for number, case in enumerate(cases):
        refused = boxes.create("box", boxes.bundle(**case), check=False)
        assert refused.returncode == 1 and refused.stdout.startswith("duet-oci: error: "), (number, refused.stdout)
        assert len(refused.stdout.splitlines()) == 1
        assert boxes.left() == "", case
    # What only the guest can tell is told too.
    refused = boxes.create("box", boxes.bundle(mounts=[{"destination": "/bin/busybox/x", "type": "tmpfs", "source": "t"}]), check=False)
    assert "mount at /bin/busybox/x: Not a directory" in refused.stdout
    assert boxes.left() == ""


@soak
def test_killed(boxes):
    """A keeper that is killed takes its machine along; process 1 is not to be killed from inside."""
    boxes.run("box", boxes.bundle())
    pid = boxes.state()["pid"]
    boxes.shell(f"kill -KILL {pid}; while ps -eo args | grep -q '[m]achine.json'; do sleep 0.1; done")
    assert boxes.state()["status"] == "stopped"
    boxes.oci("delete", "box")
    assert boxes.left() == ""
    assert boxes.engine(bundle=boxes.bundle("kill -9 1; echo alive; exit 0")).endswith("alive\nstatus 0\n")


@soak
def test_many_at_once(boxes):
    """Of one image, whose disk is made once; none is left."""
    count = 30 if os.environ.get("DUET_SOAK") else 4
    bundle = boxes.bundle("exit 0", annotations={"org.duet.memory": "128M"})
    runtime = " ".join(boxes.runtime)
    said = boxes.shell(f"""for number in $(seq {count}); do (
        {runtime} create --bundle {bundle} b$number </dev/null >/dev/null && {runtime} start b$number || echo bad
        until {runtime} state b$number | grep -q stopped; do sleep 0.1; done
        {runtime} delete b$number || echo left) 2>&1 & done; wait""").stdout
    assert said == ""
    assert boxes.shell(f"ls {boxes.home}/cache | grep -c -e ext4 -e erofs").stdout == "1\n"
    assert boxes.left() == ""


# Another one than on PATH, as where it is not installed.
PODMAN = os.environ.get("DUET_PODMAN", "podman")


@soak
def test_podman(boxes):
    """An engine as it is, where there is one."""
    if vm.run("sh", "-c", f"command -v {PODMAN}", check=False).returncode:
        pytest.skip("podman is not installed (apt install podman, or name one by DUET_PODMAN)")
    boxes.shell(f"printf '#!/bin/sh\nexec %s \"$@\"\n' \"{' '.join(boxes.runtime)}\" >{boxes.home}/runtime; chmod 755 {boxes.home}/runtime")
    podman = (f"{PODMAN} --cgroup-manager cgroupfs --storage-driver vfs --root {boxes.home}/p --runroot {boxes.home}/r "
              f"--tmpdir {boxes.home}/t --events-backend file --runtime {boxes.home}/runtime")
    run = f"{podman} run --network none --log-driver k8s-file"
    boxes.shell(f"mkdir -p {boxes.home}/v && echo host >{boxes.home}/v/file")
    result = boxes.shell(f"{run} --rm -v {boxes.home}/v:/v --hostname named --rootfs {boxes.home}/rootfs "
                         "sh -c 'echo I am $$ on $(hostname); cat /v/file; echo guest >/v/file; exit 6'", check=False)
    assert result.stdout == "I am 1 on named\nhost\n", result.stderr
    assert result.returncode == 6
    assert boxes.shell(f"cat {boxes.home}/v/file").stdout == "guest\n"
    assert boxes.shell(f"{run} --rm --rootfs {boxes.home}/rootfs nothere", check=False).returncode == 127
    boxes.shell(f"{run} -d --name web --rootfs {boxes.home}/rootfs sleep 100000")
    result = boxes.shell(f"{podman} exec web sh -c 'echo inside; exit 4'", check=False)
    assert (result.returncode, result.stdout) == (4, "inside\n"), result.stderr
    assert boxes.shell(f"{podman} kill web >/dev/null && {podman} wait web").stdout == "137\n"
    boxes.shell(f"{podman} rm web")
    refused = boxes.shell(f"{run} --rm --pid host --rootfs {boxes.home}/rootfs true", check=False)
    assert refused.returncode and "--pid=host" in refused.stderr
    assert boxes.left() == ""

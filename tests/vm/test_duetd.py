# SPDX-License-Identifier: Apache-2.0
"""The host's manager over guests with the kit: one grows, one idles, one lies, one crashes, the
manager is killed in the middle; every guest's work is right, and what it changed is put back."""

import contextlib
import json
import os
import shlex

import pytest
from api import Api
from matrix import soak

from duetlab.guest import kit, vm

KERNEL = "6.12-amd64"
LIMIT = 600
MIB = 1 << 20
MEMORY = 256  # MiB of each
BALLOON = 16  # in each of them at first
SHARE = 167  # of each, MiB: more than any needs that tells the truth
CGROUP = "/sys/fs/cgroup/duet"
# A module that says that a thousand threads can run and more memory than there is is in use.
LIES = (("hints.c", "vcpu->shown = clamp_t(long, READ_ONCE(vcpu->runnable), 0, U32_MAX);", "vcpu->shown = 1000;"),
        ("hints.c", "WRITE_ONCE(part->working_set, bytes);", "WRITE_ONCE(part->working_set, 1ULL << 50);"))
THREE = ("grows", "lies", "crashes")
SIX = (*THREE, "idles", "works", "works-too")

# Obeys: `keep N` holds N MiB and knows what is in them, `check` compares.
GUEST = kit.PREPARE + """
mkdir -p /mnt/keep; mount -t tmpfs -o size=100% keep /mnt/keep
pattern() { yes "some 32 bytes of text, all lines." | head -c $(($1 * 1048576)); }
modprobe duet || exit 1
echo "ready"
while read -r what n; do
	case $what in
	keep) pattern $n >/mnt/keep/file && md5sum </mnt/keep/file >/tmp/sum && echo "kept" ;;
	check) md5sum </mnt/keep/file | cmp - /tmp/sum && echo "same" || echo "lost" ;;
	stop) break ;;
	esac
done
dmesg | grep -E "lockup|LOCKUP|detected stalls|BUG:|WARNING: CPU|Call Trace|Out of memory" && exit 1
echo "end of story"
"""


class Member(vm.Guest):
    def __init__(self, directory: str, role: str):
        self.api = Api(f"{directory}/{role}.sock")
        super().__init__("--coop", "--balloon", f"size={BALLOON}M,stats=1,deflate-on-oom=on", "--api-sock", self.api.socket, kernel=KERNEL,
                         memory=f"{MEMORY}M", script=GUEST,
                         files=kit.files(KERNEL, LIES if role == "lies" else ()))

    def ask(self, line: str, answer: str):
        after = len(self.output)
        self.type(line + "\n")
        return self.wait_for(answer, LIMIT, after)


class Manager:
    """duetd where the guests are, from the lab's side."""

    def __init__(self, directory: str, budget: int):
        self.directory = directory
        self.budget = budget  # MiB
        self.socket = f"{directory}/duetd"
        self.log = f"{directory}/duetd.log"

    def start(self):
        command = [str(vm.REPOSITORY / "build" / "duetd"), "--directory", self.directory, "--socket", self.socket,
                   "--budget", f"{self.budget}M", "--period", "500"]
        vm.run("sh", "-c", f"rm -f {self.socket}; nohup {shlex.join(command)} >>{self.log} 2>&1 </dev/null & "
                           f"echo $! >{self.directory}/pid; until [ -S {self.socket} ]; do sleep 0.1; done")

    def end(self, signal: str):
        vm.run("sh", "-c", f"pid=$(cat {self.directory}/pid); kill -{signal} $pid; "
                           "while [ -e /proc/$pid ]; do sleep 0.1; done")

    def ctl(self, *words: str) -> str:
        return vm.run(str(vm.REPOSITORY / "build" / "duetctl"), "--socket", self.socket, *words).stdout

    def get(self, path: str):
        return json.loads(vm.run("curl", "-sS", "--unix-socket", self.socket, f"http://localhost{path}").stdout)

    def until(self, holds, what: str) -> dict:
        """HOLDS(VMs by name) at last."""
        for _ in range(LIMIT):
            # A machine that was killed leaves its socket.
            vms = {entry["name"]: entry for entry in self.get("/vms") if entry["well"]}
            if holds(vms):
                return vms
            vm.run("sleep", "0.5")
        raise AssertionError(f"{what}: {json.dumps(vms, indent=1)}\n{vm.run('cat', self.log).stdout[-3000:]}")


def read(path: str) -> str:
    return vm.run("cat", path).stdout.strip()


def cgroup_of(guest: vm.Guest) -> str:
    return read(f"/proc/{guest.pid}/cgroup").split("::")[1]


def decided(vms: dict, roles) -> bool:
    return set(vms) >= set(roles) and all("weight" in vms[role] and "allowed" in vms[role] for role in roles)


def held_within(vms: dict, budget: int) -> bool:
    """They are let hold no more than there is for them, and have got there, but for the last pages that a driver
    does not find."""
    return sum(entry["allowed"] for entry in vms.values()) <= budget * MIB and all(
        entry["memory"] - entry["balloon"] <= entry["allowed"] + 8 * MIB for entry in vms.values())


@pytest.mark.parametrize("roles", (THREE, pytest.param(SIX, marks=soak)), ids=("three", "six"))
def test_roles(roles):
    budget = len(roles) * SHARE

    def held(vms: dict) -> bool:
        return held_within(vms, budget)

    with contextlib.ExitStack() as stack:
        directory = f"/tmp/duetd-{os.getpid()}"
        vm.run("mkdir", "-p", directory)
        stack.callback(vm.run, "rm", "-rf", directory)
        guests = {role: stack.enter_context(Member(directory, role)) for role in roles}
        for guest in guests.values():
            guest.wait_for("^ready$", LIMIT)
        before = {role: cgroup_of(guest) for role, guest in guests.items()}
        manager = Manager(directory, budget)
        manager.start()
        stack.callback(vm.run, "sh", "-c", f"kill -9 $(cat {directory}/pid); {vm.REPOSITORY}/build/duetd --undo",
                       check=False)
        for role in set(roles) - set(THREE):
            guests[role].ask("keep 60", "^kept$")

        vms = manager.until(lambda vms: decided(vms, roles) and held(vms), "all held within the budget")
        for role in roles:
            assert cgroup_of(guests[role]) == f"/duet/{role}"
            assert int(read(f"{CGROUP}/{role}/cpu.weight")) == vms[role]["weight"]

        # Who lies gets no more than its share and what nobody needs, and takes nobody's working set.
        print(manager.ctl("explain", "lies"))
        assert vms["lies"]["working_set"] == MEMORY * MIB
        assert vms["lies"]["weight"] <= 2 * vms["grows"]["weight"]
        for role in roles:
            if role != "lies":
                assert vms[role]["allowed"] >= vms[role]["working_set"], f"{role} below its working set: {vms[role]}"

        # Who grows gets what it needs of what the liar was let have.
        before_it = vms["grows"]["allowed"]
        guests["grows"].ask("keep 60", "^kept$")
        vms = manager.until(lambda vms: held(vms) and vms["grows"]["allowed"] > before_it, "one has grown")

        guests["crashes"].kill_monitor()
        manager.until(lambda vms: "crashes" not in vms, "one has crashed")
        vm.run("sh", "-c", f"while [ -e {CGROUP}/crashes ]; do sleep 0.1; done")
        left = [role for role in roles if role != "crashes"]

        # Killed, it leaves what it has set; the balloons let go by themselves.
        manager.end("KILL")
        for role in left:
            while guests[role].api.do("GET", "/balloon")["amount_mib"] != BALLOON:
                vm.run("sleep", "0.2")
            assert cgroup_of(guests[role]) == f"/duet/{role}"
        manager.start()
        manager.until(lambda vms: decided(vms, left) and held(vms), "another has taken over")
        print(manager.ctl("ps"), manager.ctl("policy"))

        manager.end("TERM")
        for role in left:
            assert cgroup_of(guests[role]) == before[role]
        assert vm.run("test", "-e", CGROUP, check=False).returncode != 0, "its folder is left"
        for role in set(roles) - {"lies", "crashes"}:
            guests[role].ask("check", "^same$")
        for role in left:
            guests[role].type("stop\n")
            assert "end of story" in guests[role].succeed()

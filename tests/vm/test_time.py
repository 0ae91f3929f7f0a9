# SPDX-License-Identifier: Apache-2.0
"""Effective time in stock guests: timers, an unchanged program's time-outs, TCP; two guests' worth of load
on the CPU beside them."""

import contextlib
import json
import re
import subprocess
from pathlib import Path

import pytest
from matrix import SOAK, soak, some

from duetlab.base.cache import cache_dir
from duetlab.base.paths import REPOSITORY
from duetlab.experiment.lab import workload
from duetlab.guest import kit, vm

KERNELS = ("6.1-amd64", "6.12-amd64")
LIMIT = 600
TIMES = 4  # as much load as one CPU of the host takes, the guest's among it

GUEST = kit.PREPARE + """
modprobe duet selftest=1 || echo "no module"
echo "ready"
while read -r line; do
	eval "$line"
	echo "status $?."
done
"""


class Asked(vm.Guest):
    """A guest with the kit that does what it is told."""

    def __init__(self, *options: str, kernel: str, files: dict[str, bytes] | None = None):
        programs = {"bin/workload": workload().read_bytes()}
        super().__init__("--coop", *options, kernel=kernel, script=GUEST,
                         files=kit.files(kernel) | programs | (files or {}))

    def __enter__(self):
        self.wait_for("^ready$", LIMIT)
        assert "no module" not in self.output, self.tail()
        return self

    def ask(self, line: str, limit: float = LIMIT) -> str:
        """What LINE prints; it must succeed."""
        after = len(self.output)
        self.type(line + "\n")
        found = self.wait_for(r"^status (\d+)\.$", limit, after)
        said = self.output[after:found.start()]
        assert found[1] == "0", f"{line}: {said}"
        return said

    def told(self, line: str) -> dict:
        """The line of JSON among it."""
        return json.loads(re.search(r"^\{.*\}$", self.ask(line), re.MULTILINE)[0])

    def unload(self):
        self.ask("rmmod duet")
        assert "Call Trace" not in self.ask("dmesg"), self.tail(60)


@contextlib.contextmanager
def crowded(guest: vm.Guest, times: int):
    """The guest's vCPUs share one CPU of the host with TIMES - 1 others that never rest."""
    script = (f"for task in /proc/{guest.pid}/task/*; do case $(cat $task/comm) in vcpu*) "
              "taskset -cp 0 ${task##*/};; esac; done; "
              f"for i in $(seq {times - 1}); do setsid taskset -c 0 sh -c 'while :; do :; done' & pids=\"$pids $!\"; done; "
              "echo crowded; cat; kill $pids")
    process = subprocess.Popen(vm.lab_command("sh", "-c", script, stdin=True), cwd=REPOSITORY, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        while "crowded" not in (line := process.stdout.readline()):
            assert line, "no load"
        yield
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def rate(told):
    return told["timeouts"] / told["stolen_ns"]


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_timers_and_time_outs(kernel):
    """A service's time-outs in vain go, those of a dead one stay, in bounded time on the wall."""
    # A guest that gets no CPU for long takes itself for hung.
    words = "nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
    with Asked("--cmdline", words, kernel=kernel) as guest:
        assert "selftest of timers: passed" in guest.ask("dmesg")
        loops = guest.told("workload loops 5000")["loops"]
        with crowded(guest, TIMES):
            wall = guest.told(f"workload await 80 {loops} 15 wall")
            effective = guest.told(f"workload await 80 {loops} 15 effective")
        print(kernel, "wall", wall, "effective", effective)
        assert wall["stolen_ns"] > 0 and effective["stolen_ns"] > 0, (wall, effective)
        # For as much stolen time: how much there is depends on what else the machine does.
        assert not SOAK or rate(effective) <= rate(wall) / 2, (wall, effective)
        # The module's bound is 16 times the time-out; the client has to get a CPU to see it.
        assert 15e6 <= effective["dead_ns"] < 16 * 15e6 + 10e9, effective
        guest.unload()


def library(name: str) -> bytes:
    """A shared library of this machine's, which the test guest has none of."""
    found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True,
                           env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}).stdout
    return Path(re.search(rf"{re.escape(name)} .*x86-64.* => (\S+)", found)[1]).read_bytes()


def programs_of_waits() -> dict[str, bytes]:
    """libduet-time.so, and a program that knows nothing of it and relies on its waits."""
    build = cache_dir() / "kit-time"
    subprocess.run(["make", "-s", "-C", str(REPOSITORY / "guest" / "lib"), f"BUILD={build}",
                    f"{build}/libduet-time.so", f"{build}/test_waits"], check=True)
    return {"lib/libduet-time.so": (build / "libduet-time.so").read_bytes(),
            "bin/waits": (build / "test_waits").read_bytes(),
            "lib64/ld-linux-x86-64.so.2": library("ld-linux-x86-64.so.2"),
            "lib/x86_64-linux-gnu/libc.so.6": library("libc.so.6")}


@pytest.mark.parametrize("kernel", some(KERNELS))
def test_unchanged_program(kernel):
    with Asked(kernel=kernel, files=programs_of_waits()) as guest:
        assert "waits: ok" in guest.ask("waits")
        assert "by timers" in guest.ask("LD_PRELOAD=/lib/libduet-time.so waits timers")
        guest.unload()
        assert "on the wall's clock" in guest.ask("LD_PRELOAD=/lib/libduet-time.so waits 2>&1")


# A CPU for a fourth of each second; the rest is stolen, and longer than TCP's first time-out.
QUOTA = """
group=/sys/fs/cgroup/duet-time-{pid}
mkdir -p $group && echo "250000 1000000" >$group/cpu.max && echo {pid} >$group/cgroup.procs
"""


def tcp(guest: vm.Guest, peer: str, control: str) -> dict:
    """A transfer to PEER: what TCP took for lost, and what the module knew better."""
    guest.ask(f"echo {control} >/proc/sys/net/ipv4/tcp_congestion_control")
    # With tail loss probes few of TCP's time-outs are left that a theft could make.
    guest.ask("echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save; echo 0 >/proc/sys/net/ipv4/tcp_early_retrans")
    counted = "awk '/^TcpExt:/ {if (n++) {print \"timeouts \" $(column)} else for (i = 1; i <= NF; i++) " \
              "if ($i == \"TCPTimeouts\") column = i}' /proc/net/netstat; " \
              "echo undone $(cat /sys/module/duet/parameters/tcp_undone)"
    numbers = [dict(re.findall(r"^(timeouts|undone) (\d+)$", guest.ask(counted), re.MULTILINE))]
    # A connection for each theft: one that has met some waits longer than the next takes.
    guest.ask(f"workload window {peer} 7777 1000 8")
    numbers.append(dict(re.findall(r"^(timeouts|undone) (\d+)$", guest.ask(counted), re.MULTILINE)))
    return {name: int(numbers[1][name]) - int(numbers[0][name]) for name in numbers[0]}


@soak
def test_tcp_knows_of_theft():
    """TCP's time-outs that a theft explains are undone; without the module's part nothing is."""
    peer = "192.168.81.1"
    with vm.tap(f"{peer}/24") as tap, \
            vm.running("serving", *vm.lab_command(str(workload()), "serve", peer, "7777")), \
            Asked("--net", f"tap,ifname={tap}", kernel="6.1-amd64") as guest:
        guest.ask("modprobe virtio_net; ip addr add 192.168.81.2/24 dev eth0; ip link set eth0 up")
        assert "duet" in guest.ask("cat /proc/sys/net/ipv4/tcp_available_congestion_control")
        vm.run("sh", "-c", QUOTA.format(pid=guest.pid))
        found = {control: tcp(guest, peer, control) for control in ("reno", "duet")}
        print(found)
        assert found["reno"]["undone"] == 0
        assert found["duet"]["timeouts"] == 0 or found["duet"]["undone"] > 0, found
        # The host's choice of it is a user of the module, as each connection is until its end.
        guest.ask("echo reno >/proc/sys/net/ipv4/tcp_congestion_control; "
                  "until [ $(cat /sys/module/duet/refcnt) = 0 ]; do sleep 0.1; done")
        guest.unload()

# SPDX-License-Identifier: Apache-2.0
"""What I/O costs on each way through duet: round trips, disk requests, QEMU beside them."""

import contextlib
import shutil
import statistics

from ..experiment.catalogue import load
from ..experiment.lab import PORT, ExperimentLab
from ..experiment.record import Skipped
from ..experiment.subject import Subject, summed, usual
from ..guest import vf
from .report import Report

TAP, HOST, GUEST = "bench1", "10.77.8.1", "10.77.8.2"
TRIPS, WARMUP = 200, 50
STREAM = 1 << 20
FRAME = 1448  # bytes of a TCP stream in a frame without segmentation offload
DISK_MIB = 128
DISK_WARMUP = 32
# Way, depth, requests, bytes of each.
READS = (("read", 1, 6400, 4096), ("read", 32, 25600, 4096), ("sequential", 1, 6400, 131072))
RUNS = 3  # of duet and of each peer
SPREAD_MAX = 0.05  # between the least and the most of them, of the median
IDLE_SECONDS = 10


def measure(lab: ExperimentLab, report: Report) -> None:
    report.heading("Network: a packet to a peer on the host and its answer, over tap")
    _attempt(report, _network, lab)
    report.heading("Disk: direct reads, one vCPU")
    _attempt(report, _disk, lab)
    report.heading("Polling instead of kicks")
    _attempt(report, _polling, lab)
    report.heading("Passthrough: a virtual function of an NVMe disk")
    _attempt(report, _function, lab)


def _attempt(report: Report, part, lab: ExperimentLab) -> None:
    try:
        part(lab, report)
    except (Skipped, vf.NothingToSplit) as reason:
        report.note(f"  skipped: {reason}")


# Network


@contextlib.contextmanager
def nic(lab: ExperimentLab, option: str, *more: str):
    """A guest with one, which has a peer at HOST; MORE are options of duet's."""
    lab.tap(TAP, HOST)
    net = f"tap,ifname={TAP},{option},mac=52:54:00:77:00:08"
    with Subject(lab, "--net", net, *more) as subject, lab.peer(HOST):
        if "e1000" in option:
            subject.command("rmmod e1000; modprobe e1000 InterruptThrottleRate=0")
        subject.command(f"ip addr add {GUEST}/24 dev eth0; ip link set eth0 up")
        subject.command("workload offloads eth0 off")
        yield subject


def _network(lab: ExperimentLab, report: Report) -> None:
    latency = load("latency")
    found = {}
    for name, option in (("virtio-net", "model=virtio"), ("e1000", "model=e1000")):
        with nic(lab, option) as subject:
            total = TRIPS + WARMUP
            one = subject.measure(f"workload request {HOST} {PORT} {TRIPS} {WARMUP}")
            found[name] = latency.exits_to_user(one, total) + latency.kicks(one, total)
    virtio, e1000 = found["virtio-net"], found["e1000"]
    report.row("virtio-net: exits and kicks a round trip", virtio, "", 2)
    report.row("e1000: exits a round trip", e1000, "")
    report.row("virtio-net's share of the e1000's", virtio / e1000, "", 0.25)
    with nic(lab, "model=virtio,vhost=on") as subject:
        one = subject.measure(f"workload stream {HOST} {PORT} {STREAM}")
        exits = one["user_exits"] / (STREAM / FRAME)
        report.row("vhost-net: exits to duet a frame sent", exits, "", 0.01,
                   detail=f"{STREAM >> 20} MiB by TCP, offloads off")  # fmt: skip


# Disk


def _qemu(disk: str, iothread: bool):
    """QEMU's command line: the disk's work in its main thread, its default, or in one of its own."""
    own = ["-object", "iothread,id=io"] if iothread else []
    device = "virtio-blk-pci,drive=disk" + (",iothread=io" if iothread else "")

    def command(kernel: str, initrd: str) -> list[str]:
        drive = f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}"
        return ["qemu-system-x86_64", "-name", "peer,debug-threads=on", "-M", "q35", "-enable-kvm", "-cpu", "host", "-m", "512",
                "-smp", "1", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-serial", "stdio", "-kernel", kernel, "-initrd", initrd,
                "-append", "console=ttyS0 quiet cryptomgr.notests=1",
                "-blockdev", f"{drive},file.aio=io_uring,file.cache.direct=on,cache.direct=on",
                *own, "-device", device]  # fmt: skip

    return command


def _reads(subject: Subject) -> list[dict[str, float]]:
    """Instructions for each request, in the order of READS."""
    costs = []
    for way, depth, count, size in READS:
        one = usual(subject.counted(f"workload disk /dev/vda {way} {depth} {count} {size}"))
        costs.append({side: one[side] for side in ("host", "host_user")})
    return costs


def _runs(subject: Subject) -> list[list[dict[str, float]]]:
    """The first one fills caches of host and guest, and does not count."""
    return [_reads(subject) for _ in range(1 + RUNS)][1:]


def _disk(lab: ExperimentLab, report: Report) -> None:
    if not lab.counts:
        raise Skipped("instructions are counted in the nested lab only")
    path = lab.disk("bench", DISK_MIB)
    peers = {"QEMU, io_uring": False, "QEMU, io_uring, iothread": True}
    if not shutil.which("qemu-system-x86_64"):
        report.note("  QEMU is not on PATH: no peer to compare with")
        peers = {}
    theirs = {}
    with lab.steady():
        with Subject(lab, "--disk", f"path={path},cache=direct") as subject:
            ours = _runs(subject)
        for name, iothread in peers.items():
            with Subject(lab, peer=_qemu(path, iothread)) as subject:
                theirs[name] = _runs(subject)
    for number, (way, depth, _, size) in enumerate(READS):
        what = f"{size >> 10} KiB {'random' if way == 'read' else 'in order'}, depth {depth}"
        own = [run[number] for run in ours]
        _cost(report, f"{what}: duet", own)
        for name, runs in theirs.items():
            _cost(report, f"{what}: {name}", [run[number] for run in runs])
        for name, runs in theirs.items():
            _share(report, f"duet's share of {name}", own, [run[number] for run in runs])


def _shown(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _steady(report: Report, values: list[float]) -> None:
    """Judges that runs of the same say the same."""
    spread = (max(values) - min(values)) / statistics.median(values)
    report.row(f"  {len(values)} runs: the most less the least, of the median", spread, "", SPREAD_MAX, detail=_shown(values))


def _cost(report: Report, name: str, costs: list[dict[str, float]]) -> None:
    """What it is in the middle one of the runs, and how far they are apart."""
    host = [cost["host"] / 1000 for cost in costs]
    own = statistics.median(cost["host_user"] for cost in costs) / 1000
    report.row(name, statistics.median(host), "k instr.", detail=f"of these the monitor's own: {own:.1f}")
    _steady(report, host)


def _share(report: Report, name: str, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> None:
    shares = {side: [mine[side] / other[side] for mine, other in zip(ours, theirs, strict=True)] for side in ours[0]}
    report.row(f"  {name}", statistics.median(shares["host"]), "",
               detail=f"of the monitor's own instructions: {statistics.median(shares['host_user']):.2f}")  # fmt: skip
    _steady(report, shares["host"])


# Polling

_CPU_TIME = """
pid=$(cat {pid})
total() {{
	for task in /proc/$pid/task/*; do
		read -r name <$task/comm; case $name in duet-io*) read -r ns _ <$task/schedstat; echo $ns ;; esac
	done
}}
before=$(total); then=$(cut -d' ' -f1 /proc/uptime); sleep {seconds}
echo $before $(total) $then $(cut -d' ' -f1 /proc/uptime)
"""


def _polling(lab: ExperimentLab, report: Report) -> None:
    path = lab.disk("bench", DISK_MIB)
    with Subject(lab, "--disk", f"path={path},cache=direct,poll=on") as subject:
        way, depth, count, size = READS[1]
        found = subject.measure(f"workload disk /dev/vda {way} {depth} {count} {size}")
        kicks = sum(summed(grown, "kicks") for grown in found["devices"].values())
        report.row(f"depth {depth}: kicks a request", kicks / (count + DISK_WARMUP), "", 0.01)
        text = lab.shell(_CPU_TIME.format(pid=subject.guest.pid_path, seconds=IDLE_SECONDS))
        before, after, then, now = map(float, text.split())
        report.row("idle: I/O thread's share of a CPU", (after - before) / 1e9 / (now - then), "", 0.01)


# Passthrough


def _function(lab: ExperimentLab, report: Report) -> None:
    passthrough = load("passthrough")
    with vf.passed("nvme", 1) as (address,), Subject(lab, "--device", f"vfio,host={address}") as subject:
        subject.command("modprobe -q nvme; n=0; until [ -b /dev/nvme0n1 ] || [ $n -ge 600 ]; "
                        "do usleep 100000; n=$((n + 1)); done")  # fmt: skip
        found = passthrough.reads(subject, "/dev/nvme0n1")
        report.row("NVMe VF: exits and kicks a read", found["user_exits"] + found["kicks"], "", 0.01)



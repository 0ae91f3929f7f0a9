# SPDX-License-Identifier: Apache-2.0
"""M11: how much of what a guest uses is on another node than the CPU that uses it.

Placed by chance, by the host kernel's own balancing, by the guest's map and duetd, and where the guest's nodes are
bound to the host's from the start. The emulator sees every access of the workload with its physical address."""

import json
import re
import time

from duetlab.experiment.lab import HOME, ExperimentLab
from duetlab.experiment.record import Skipped, attempt, usual_confounders
from duetlab.experiment.subject import Subject
from duetlab.guest import vm

ORDER = 11
MECHANISMS = {"M11": "NUMA placement"}
TITLE = "Nodes: memory near the CPU that uses it"
WHAT = ("Two programs in a guest, one on each of its vCPUs, write to memory of their own again and again; the vCPUs run on two nodes of "
        "the host. An access is remote when the memory is on the other node. Pages are first spread over the nodes by chance.")

MIB = 48               # of each program
WINDOW = 2_000_000     # accesses that a share is taken of
SECONDS = 90           # that a way has to do its work in
LOW = 0.05
SETTLED, CALM = 0.01, 3  # so many windows in a row below that share: it is done
ORDER_OF_MAGNITUDE = 10
WAYS = {"chance": "placed by chance", "balancing": "the host kernel's balancing", "map": "the guest's map, by duetd",
        "bound": "guest nodes bound to host nodes"}
MACHINES = f"{HOME}/machines"
SOCKET = f"{MACHINES}/subject.sock"
VMSTAT = ("numa_hint_faults", "numa_pages_migrated", "pgmigrate_success")

LOOK = """
printf 'block %d\\n' 0x$(cat /sys/devices/system/memory/block_size_bytes)
cd /sys/devices/system/node
for node in node[0-9]*; do
	echo "cpus ${node#node} $(cat $node/cpulist)"
	for block in $node/memory[0-9]*; do echo "memory ${node#node} ${block##*/memory}"; done
done
"""

# Each page of the guest's memory to one of the nodes, by lot.
SCATTER = """python3 - <<'END'
import collections, ctypes, random
pid, seed = int(open('PID').read()), SEED
libc = ctypes.CDLL(None, use_errno=True)
ranges = []
for line in open(f'/proc/{pid}/maps'):
    words = line.split()
    if len(words) == 5 and words[4] == '0':
        begin, end = (int(word, 16) for word in words[0].split('-'))
        ranges.append((end - begin, begin))
size, begin = max(ranges)
lot, found, batch = random.Random(seed), collections.Counter(), 8192
for at in range(begin, begin + size, batch * 4096):
    count = min(batch, (begin + size - at) // 4096)
    pages = (ctypes.c_void_p * count)(*(at + 4096 * i for i in range(count)))
    nodes = (ctypes.c_int * count)(*(lot.randrange(NODES) for _ in range(count)))
    status = (ctypes.c_int * count)()
    if libc.syscall(279, pid, ctypes.c_ulong(count), pages, nodes, status, 2) < 0:  # move_pages, MPOL_MF_MOVE
        raise OSError(ctypes.get_errno(), 'move_pages')
    found.update(node for node in status if node >= 0)
print(*(found[node] for node in range(NODES)))
END"""

ASK = """python3 - <<'END'
import socket
with socket.socket(socket.AF_UNIX) as client:
    client.connect('SOCKET')
    client.sendall(b'GET /duet/place HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
    answer = b''.join(iter(lambda: client.recv(65536), b''))
print(answer.partition(b'\\r\\n\\r\\n')[2].decode())
END"""


class Layout:
    """The host's nodes: of each CPU, and of each piece of its physical memory."""

    def __init__(self, text: str):
        self.block = int(re.search(r"^block (\d+)$", text, re.M).group(1))
        self.cpus = {cpu: int(node) for node, cpus in re.findall(r"^cpus (\d+) (\S*)$", text, re.M) for cpu in numbers(cpus)}
        self.blocks = {int(block): int(node) for node, block in re.findall(r"^memory (\d+) (\d+)$", text, re.M)}
        self.nodes = len(set(self.cpus.values()))

    def remote(self, before: dict, after: dict) -> tuple[int, int]:
        """Accesses between two counts of the plugin: those to another node, and all."""
        far = every = 0
        for cpu, (then, now) in enumerate(zip(before["vcpus"], after["vcpus"])):
            for chunk, count in now.items():
                grown = count - then.get(chunk, 0)
                every += grown
                if self.blocks[chunk * after["chunk"] // self.block] != self.cpus[cpu]:
                    far += grown
        return far, every


def numbers(text: str) -> list[int]:
    """Of a list as the kernel writes it: 0-3,8."""
    found = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


class Watch:
    """The share of accesses that are remote, window by window."""

    def __init__(self, lab: ExperimentLab, layout: Layout):
        self.lab, self.layout = lab, layout

    def window(self) -> float:
        before = self.lab.touches()
        until = time.monotonic() + SECONDS
        far = every = 0
        while every < WINDOW:
            if time.monotonic() > until:
                raise vm.GuestFailure(f"the programs in the guest came to {every} accesses in {SECONDS} s")
            time.sleep(0.1)
            far, every = self.layout.remote(before, self.lab.touches())
        return far / every

    def settle(self) -> list[float]:
        """Until next to nothing is remote, or it has had its time."""
        until = time.monotonic() + SECONDS
        shares = [self.window()]
        while time.monotonic() < until and max(shares[-CALM:]) > SETTLED or len(shares) < CALM:
            shares.append(self.window())
        return shares


def place_vcpus(lab: ExperimentLab, subject: Subject, layout: Layout) -> str:
    """Each vCPU on a CPU of a node of its own; what became so."""
    first = [min(cpu for cpu, node in layout.cpus.items() if node == wanted) for wanted in sorted(set(layout.cpus.values()))]
    return lab.shell(f"""
for task in /proc/$(cat {subject.guest.pid_path})/task/*; do
	read -r name <$task/comm
	case $name in
	vcpu*0) cpu={first[0]} ;;
	vcpu*1) cpu={first[1]} ;;
	*) continue ;;
	esac
	taskset -cp $cpu ${{task##*/}} >/dev/null && echo "$name on CPU $cpu"
done""").strip()


def scatter(lab: ExperimentLab, subject: Subject, layout: Layout, seed: int) -> list[int]:
    """Pages on each node afterwards."""
    script = SCATTER.replace("PID", str(subject.guest.pid_path)).replace("SEED", str(seed)).replace("NODES", str(layout.nodes))
    return [int(word) for word in lab.shell(script).split()]


def events(lab: ExperimentLab) -> dict[str, int]:
    return {name: int(count) for name, count in
            (line.split() for line in lab.shell("cat /proc/vmstat").splitlines()) if name in VMSTAT}


def balance(lab: ExperimentLab, on: bool) -> None:
    lab.shell(f"echo {int(on)} >/proc/sys/kernel/numa_balancing")


def by_kernel(lab: ExperimentLab, watch: Watch) -> dict:
    before = events(lab)
    balance(lab, True)
    shares = watch.settle()
    balance(lab, False)
    after = events(lab)
    return {"shares": shares, "events": {name: after[name] - before[name] for name in before}}


def by_map(lab: ExperimentLab, watch: Watch) -> dict:
    duetd = lab.path(lab.duet.parent / "duetd")
    words = f"exec {duetd} --directory {MACHINES} --socket {HOME}/duetd.sock --memory off --cpu off --numa locality 2>&1"
    with vm.running("2 vCPUs", *vm.lab_command("sh", "-c", words)):
        shares = watch.settle()
    return {"shares": shares, "place": json.loads(lab.shell(ASK.replace("SOCKET", SOCKET)))}


def busy(lab: ExperimentLab, *options: str) -> Subject:
    return Subject(lab, "--cpus", "2", "--numa", "2", *options, pin=False, kit=True)


def begin(lab: ExperimentLab, subject: Subject, layout: Layout) -> str:
    pinned = place_vcpus(lab, subject, layout)
    subject.command(f"workload touch 0 {MIB} & workload touch 1 {MIB} & duet-guestd & true")
    return pinned


def scattered(lab: ExperimentLab, layout: Layout) -> dict:
    """One guest, spread anew before each way."""
    watch = Watch(lab, layout)
    lab.shell(f"mkdir -p {MACHINES}")
    with busy(lab, "--api-sock", SOCKET) as subject:
        pinned = begin(lab, subject, layout)
        watch.window()  # both have all of their memory by now
        found = {"pages": scatter(lab, subject, layout, 1), "pinned": pinned, "chance": {"shares": [watch.window()]}}
        found["balancing"] = by_kernel(lab, watch)
        scatter(lab, subject, layout, 2)
        found["map"] = {"again": watch.window()} | by_map(lab, watch)
    return found


def bound(lab: ExperimentLab, layout: Layout) -> dict:
    nodes = sorted(set(layout.cpus.values()))
    with busy(lab, "--numa-host", f"{nodes[0]}+{nodes[1]}") as subject:
        begin(lab, subject, layout)
        watch = Watch(lab, layout)
        watch.window()
        return {"shares": [watch.window()]}


def measured(lab: ExperimentLab) -> dict:
    if not lab.counts:
        raise Skipped("only the lab's plugin sees to which node an access goes")
    layout = Layout(lab.shell(LOOK))
    if layout.nodes < 2:
        raise Skipped("the host has one node")
    thp = "/sys/kernel/mm/transparent_hugepage/enabled"
    before = lab.shell(f"cat /proc/sys/kernel/numa_balancing; sed 's/.*\\[//; s/\\].*//' {thp}").split()
    lab.shell(f"echo never >{thp}; echo 0 >/proc/sys/kernel/numa_balancing")
    try:
        return scattered(lab, layout) | {"bound": bound(lab, layout)}
    finally:
        lab.shell(f"echo {before[0]} >/proc/sys/kernel/numa_balancing; echo {before[1]} >{thp}")


def run(lab: ExperimentLab, record) -> None:
    tell(lab, record, attempt(record, "remote accesses", measured, lab))


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def until_low(shares: list[float]) -> str:
    """How many windows it took to come below LOW."""
    return next((str(i) for i, share in enumerate(shares) if share < LOW), f"more than {len(shares)}")


def fewer(before: float, after: float) -> str:
    return f"{before / after:.0f} times less" if after else "none is left"


def moved(found: dict, way: str) -> str:
    if way == "balancing":
        counts = found[way]["events"]
        return f"{counts['numa_pages_migrated']} pages, after {counts['numa_hint_faults']} faults"
    if way == "map":
        return f"{found[way]['place']['moved']} pages in its last move, {found[way]['place']['failed']} not"
    return "–"


def tell(lab: ExperimentLab, record, found: dict | None) -> None:
    record.figure("found", found)
    record.symbol("remote share", "accesses to memory on another node than the CPU's, of all accesses of the two programs.")
    usual_confounders(record, lab, found["pinned"] if found else "")
    record.confounder("Huge pages", "controlled", "off on the host: each page of 4 KiB is placed by itself")
    record.confounder("What is counted", "controlled", "the accesses of the programs' inner loop, by QEMU's plugin, with the lab host's "
                      "physical address; not those of kernels")
    record.confounder("Time", "not controlled", f"each way has {SECONDS} s of emulated machine, in which the kernel's balancing, which "
                      "goes by time, makes fewer accesses' worth of progress than on hardware")
    if found:
        record.table(f"Remote accesses; windows of {WINDOW} accesses", ["memory", "windows until it was so", "remote share", "moved"],
                     [[words, len(found[way]["shares"]), percent(found[way]["shares"][-1]), moved(found, way)]
                      for way, words in WAYS.items()])
        record.chart("Remote share over accesses", "; ".join(f"{WAYS[way]}: from {percent(found[way]['shares'][0])} to "
                                                             f"{percent(found[way]['shares'][-1])}" for way in ("balancing", "map")),
                     f"Below {100 * LOW:.0f} % after {until_low(found['balancing']['shares'])} windows by balancing, which learns from page "
                     f"faults of the host, after {until_low(found['map']['shares'])} by the map, which the guest draws in rounds of its own.",
                     [{"name": WAYS[way], "style": "line", "x": [(i + 1) * WINDOW / 1e6 for i in range(len(found[way]["shares"]))],
                       "y": [100 * share for share in found[way]["shares"]]} for way in ("balancing", "map")],
                     x_label="million accesses", y_label="% remote")
    claim(record, found)


def claim(record, found: dict | None) -> None:
    words = ("M11", "With the guest's map the host puts memory and vCPUs on one node: remote accesses fall by an order of magnitude.",
             "remote after / remote before ≤ 1/10")
    if not found:
        record.claim(*words, "–", "not measured", "It could not be run here; the reason is under Skipped.")
        return
    last = {way: found[way]["shares"][-1] for way in WAYS}
    record.claim(*words, f"{percent(last['chance'])} of all accesses remote by chance, {percent(last['balancing'])} after the kernel's own "
                 f"balancing, {percent(last['map'])} after duetd by the map ({fewer(last['chance'], last['map'])}), "
                 f"{percent(last['bound'])} with the "
                 "guest's nodes bound to the host's",
                 "yes" if last["map"] * ORDER_OF_MAGNITUDE <= last["chance"] else "partly" if last["map"] * 2 < last["chance"] else "no",
                 "The map says which pages are whose." + (
                     f" The kernel's balancing comes as far, after {until_low(found['balancing']['shares'])} windows to the map's "
                     f"{until_low(found['map']['shares'])}." if last["balancing"] <= 2 * last["map"] else ""))


def selftest(lab: ExperimentLab, record) -> None:
    """Half by chance, a tenth by balancing, next to nothing by the map; and the arithmetic of nodes."""
    layout = Layout("block 134217728\ncpus 0 0\nmemory 0 0\ncpus 1 1-2\nmemory 1 1\nmemory 1 32")
    none = {"chunk": 16 << 20, "vcpus": [{}, {}]}
    assert layout.nodes == 2 and layout.cpus == {0: 0, 1: 1, 2: 1}
    assert layout.remote(none, {"chunk": 16 << 20, "vcpus": [{0: 5, 8: 3}, {7: 2, 256: 10}]}) == (5, 20)
    way = {"shares": [0.5, 0.3, 0.1], "events": dict.fromkeys(VMSTAT, 7)}
    tell(lab, record, {"pages": [5, 5], "pinned": "vcpu0 on CPU 0", "chance": {"shares": [0.5]}, "balancing": way, "bound": {"shares": [0.0]},
                       "map": {"again": 0.5, "shares": [0.5, 0.004], "place": {"moved": 12000, "failed": 3}}})
    verdict, = record.data["claims"]
    assert verdict["agrees"] == "yes" and "(125 times less)" in verdict["measured"]
    assert "as far" not in verdict["words"]
    assert until_low([0.5, 0.3, 0.04]) == "2" and until_low([0.5]) == "more than 1" and fewer(0.5, 0) == "none is left"

# SPDX-License-Identifier: Apache-2.0
"""M5: virtual functions of a disk and of a network card against virtio.

An NVMe VF beside virtio-blk, an igb VF beside virtio-net and e1000; a noisy neighbour; the trade-off
table."""

import contextlib

from duetlab.experiment import functions
from duetlab.experiment.lab import HOME, PORT, ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject, each, summed

ORDER = 4
MECHANISMS = {"M5": "Passthrough (SR-IOV)"}
TITLE = "Passthrough: a piece of the real device"
WHAT = ("A disk controller and a network card split off virtual functions (SR-IOV). One is handed to the guest, which drives it "
        "directly; beside it the same guest has virtio devices for the same work. Then a neighbour makes noise on another "
        "virtual function of the same device, and on the file system that the virtio disk lies on.")

BLOCK, READS, WARMUP = 4096, 240, 32
TRIPS, TRIPS_WARMUP = 200, 40
STREAM_BYTES = 1 << 20
DISK_MIB = 64
# On the physical function, the tap of virtio-net and that of e1000: host, guest.
ADDRESSES = {"igbvf": ("10.77.3.1", "10.77.3.2"), "virtio_net": ("10.77.4.1", "10.77.4.2"), "e1000": ("10.77.5.1", "10.77.5.2")}
TAPS = {"virtio_net": "exp1", "e1000": "exp2"}
NAMES = {"igbvf": "igb VF", "virtio_net": "virtio-net", "e1000": "e1000"}
NOISE_SECONDS = 60


def costs(found: dict, total: int) -> dict:
    """For each of TOTAL requests or round trips, the warm-up included."""
    kicks = sum(summed(grown, "kicks") for grown in found["devices"].values())
    result = {"user_exits": found["user_exits"] / total, "kicks": kicks / total}
    if one := each(found):
        result |= {"guest_entries": one["vmruns"], "host": one["host"], "guest_kernel": one["guest_high"]}
    return result


def reads(subject: Subject, disk: str, depth: int = 1) -> dict:
    found = subject.measure(f"workload disk {disk} read {depth} {READS} {BLOCK}")
    return {"iops": READS / found["answer"]["ns"] * 1e9, "depth": depth, **costs(found, READS + WARMUP)}


def disk(lab: ExperimentLab) -> dict:
    """NVMe VF and virtio-blk in one guest, alone and with a neighbour."""
    with functions.taken("nvme", 2) as (ours, other):
        path = lab.disk("passthrough", DISK_MIB)
        with Subject(lab, "--device", f"vfio,host={ours}", "--disk", f"path={path},cache=direct") as subject:
            subject.command("modprobe -q nvme; n=0; until [ -b /dev/nvme0n1 ] || [ $n -ge 600 ]; do usleep 100000; n=$((n + 1)); done")
            found = {name: {"alone": reads(subject, device), "deep": reads(subject, device, 16)}
                     for name, device in (("NVMe VF", "/dev/nvme0n1"), ("virtio-blk", "/dev/vda"))}
            found["NVMe VF"]["noisy"] = beside(lab, subject, "/dev/nvme0n1", neighbour_nvme(lab, other))
            lab.disk("neighbour", DISK_MIB)
            found["virtio-blk"]["noisy"] = beside(lab, subject, "/dev/vda", f"loop:{lab.disks[-1]}")
            return found | {"pinned": subject.pinned}


def neighbour_nvme(lab: ExperimentLab, function: str) -> str:
    """The block device of the other virtual function, driven by the host itself."""
    return lab.shell(f"""lab/vf return {function} >&2; n=0
until ls -d /sys/bus/pci/devices/{function}/nvme/nvme*/nvme*n1 >/dev/null 2>&1 || [ $n -ge 100 ]; do sleep 0.1; n=$((n + 1)); done
basename $(ls -d /sys/bus/pci/devices/{function}/nvme/nvme*/nvme*n1 | head -n 1) | sed 's/c[0-9]*n/n/; s,^,/dev/,'""").strip()


def beside(lab: ExperimentLab, subject: Subject, device: str, noisy: str) -> dict:
    """DEVICE's figures while the host keeps 16 reads under way on the disk NOISY."""
    script = f"""
noisy={noisy}
case $noisy in loop:*) noisy=$(losetup --direct-io=on --show -f "${{noisy#loop:}}"); trap 'losetup -d $noisy' EXIT ;; esac
echo noise
end=$(($(date +%s) + {NOISE_SECONDS}))
while [ $(date +%s) -lt $end ]; do {HOME}/workload disk $noisy read 16 4000 {BLOCK} >/dev/null || exit; done"""
    with lab.background("sh", "-c", script, ready="noise"):
        return reads(subject, device)


def network(lab: ExperimentLab) -> dict:
    """igb VF, virtio-net and e1000 in one guest, alone and the VF with a neighbour."""
    with functions.taken("net", 2) as (ours, other), contextlib.ExitStack() as peers:
        functions.physical(lab, ours, ADDRESSES["igbvf"][0])
        options = ["--device", f"vfio,host={ours}"]
        for driver, tap in TAPS.items():
            lab.tap(tap, ADDRESSES[driver][0])
            options += ["--net", f"tap,ifname={tap},model={'e1000' if driver == 'e1000' else 'virtio'}"]
        with Subject(lab, *options) as subject:
            for host, _ in ADDRESSES.values():
                peers.enter_context(lab.peer(host))
            set_up(subject)
            found = {name: {"alone": trips_of(subject, driver), "stream": throughput(subject, driver)}
                     for driver, name in NAMES.items()}
            found["igb VF"]["noisy"] = beside_flood(lab, subject, other)
            return found | {"pinned": subject.pinned}


def set_up(subject: Subject) -> None:
    """Each interface gets the address that belongs to its driver."""
    cases = " ".join(f"{driver}) a={guest} ;;" for driver, (_, guest) in ADDRESSES.items())
    subject.command("modprobe -q igbvf; modprobe -q e1000; for i in /sys/class/net/*; do "
                    "d=$(basename $(readlink $i/device/driver) 2>/dev/null); a=; "
                    f"case $d in {cases} esac; [ -n \"$a\" ] || continue; "
                    "echo ${i##*/} >/tmp/$d; ip addr add $a/24 dev ${i##*/}; workload offloads ${i##*/} off; done")


def trips_of(subject: Subject, driver: str) -> dict:
    # The others are down, so that their drivers' timers touch no registers meanwhile.
    others = " ".join(name for name in NAMES if name != driver)
    subject.command(f"for d in {others}; do ip link set $(cat /tmp/$d) down; done; ip link set $(cat /tmp/{driver}) up")
    found = subject.measure(f"workload request {ADDRESSES[driver][0]} {PORT} {TRIPS} {TRIPS_WARMUP}")
    times = found["answer"]
    return {"mean_ns": times["mean_ns"], "sd_ns": times["sd_ns"], "p99_ns": times["p99_ns"], "lost": times["lost"],
            **costs(found, TRIPS + TRIPS_WARMUP)}


def throughput(subject: Subject, driver: str) -> float:
    """MiB a second of a TCP transfer out of the guest."""
    answer = subject.measure(f"workload stream {ADDRESSES[driver][0]} {PORT} {STREAM_BYTES}")["answer"]
    return answer["bytes"] / (1 << 20) / (answer["ns"] / 1e9)


def beside_flood(lab: ExperimentLab, subject: Subject, function: str) -> dict:
    """Round trips through our VF while the other one sends as fast as it can."""
    script = f"""
lab/vf return {function} >&2; modprobe -q igbvf
n=0; until ls /sys/bus/pci/devices/{function}/net >/dev/null 2>&1 || [ $n -ge 100 ]; do sleep 0.1; n=$((n + 1)); done
name=$(ls /sys/bus/pci/devices/{function}/net)
ip netns add noisy; trap 'ip netns del noisy' EXIT; ip link set $name netns noisy
ip netns exec noisy ip addr add 10.77.3.9/24 dev $name; ip netns exec noisy ip link set $name up
echo noise; ip netns exec noisy {HOME}/workload flood {ADDRESSES['igbvf'][0]} {PORT} {NOISE_SECONDS}"""
    with lab.background("sh", "-c", script, ready="noise"):
        return trips_of(subject, "igbvf")


def run(lab: ExperimentLab, record) -> None:
    disks = attempt(record, "NVMe VF", disk, lab) or {}
    nets = attempt(record, "igb VF", network, lab) or {}
    tell(lab, record, disks, nets)


def tell(lab: ExperimentLab, record, disks: dict, nets: dict) -> None:
    pinned = disks.pop("pinned", "") or nets.pop("pinned", "")
    nets.pop("pinned", None)
    record.figure("disk", disks)
    record.figure("network", nets)
    record.symbol("VF", "virtual function: a slice of a real device with registers and queues of its own.")
    record.symbol("PF", "physical function: the device that the slices belong to and share.")
    record.symbol("IOMMU", "the unit that translates and limits the addresses a device may reach, so that a VF sees only its guest's memory.")
    if disks:
        disk_tables(record, disks, lab)
    if nets:
        net_tables(record, nets, lab)
    trade_offs(record, disks, nets)
    usual_confounders(record, lab, pinned)
    record.confounder("The device itself", "not controlled",
                      "the lab's NVMe and igb are emulated by QEMU: an access to their registers is real, their speed is not"
                      if lab.counts else "another disk than the one below the virtio disk's file")
    claim(record, disks, nets, lab)


def row(name: str, point: dict) -> list:
    return [name, f"{point['user_exits']:.2f}", f"{point['kicks']:.2f}", si(point.get("guest_entries")), si(point.get("host")),
            si(point.get("guest_kernel"))]


COLUMNS = ["device", "exits to user space", "kicks", "guest entries", "host instructions", "guest kernel's instructions"]


def disk_tables(record, disks: dict, lab: ExperimentLab) -> None:
    record.table("A read of 4 KiB", [*COLUMNS[:1], "depth", *COLUMNS[1:]],
                 [[name, point["depth"], *row(name, point)[1:]] for name, result in disks.items()
                  for point in (result["alone"], result["deep"])])
    bars(record, "Host's work for a read of 4 KiB, depth 1", disks, lab)
    ours, shared = disks["NVMe VF"], disks["virtio-blk"]
    record.table("Throughput: reads of 4 KiB a second", ["device", "depth 1", "depth 16"],
                 [[name, *(f"{r[depth]['iops']:.0f}" for depth in ("alone", "deep"))] for name, r in disks.items()]
                 + [["VF / virtio", *(f"{ours[depth]['iops'] / shared[depth]['iops']:.2f}" for depth in ("alone", "deep"))]],
                 emulated=lab.counts)
    record.table("A noisy neighbour: IOPS at depth 1", ["device", "alone", "beside the neighbour", "left"],
                 [[name, f"{r['alone']['iops']:.0f}", f"{r['noisy']['iops']:.0f}",
                   f"{100 * r['noisy']['iops'] / r['alone']['iops']:.0f} %"] for name, r in disks.items()], emulated=lab.counts)


def net_tables(record, nets: dict, lab: ExperimentLab) -> None:
    record.table("A round trip of 64 bytes", COLUMNS, [row(name, result["alone"]) for name, result in nets.items()])
    bars(record, "Host's work for a round trip", nets, lab)
    record.table("Throughput: a TCP transfer out of the guest, without offloads", ["device", "MiB/s", "device / virtio-net"],
                 [[name, f"{r['stream']:.2f}", f"{r['stream'] / nets['virtio-net']['stream']:.2f}"] for name, r in nets.items()],
                 emulated=lab.counts)
    record.table("Round-trip times in µs", ["device", "neighbour", "mean", "standard deviation σ", "p99", "lost"],
                 [[name, "noisy" if state == "noisy" else "none", *(f"{result[state][key] / 1000:.0f}" for key in ("mean_ns", "sd_ns", "p99_ns")),
                   result[state]["lost"]] for name, result in nets.items() for state in ("alone", "noisy") if state in result],
                 emulated=lab.counts)


def bars(record, title: str, results: dict, lab: ExperimentLab) -> None:
    names = list(results)
    series = [{"name": "exits to user space", "style": "bars", "x": names, "y": [r["alone"]["user_exits"] for r in results.values()]},
              {"name": "kicks", "style": "bars", "x": names, "y": [r["alone"]["kicks"] for r in results.values()]}]
    record.chart(title, "; ".join(f"{name}: {r['alone']['user_exits']:.2f} exits to user space, {r['alone']['kicks']:.2f} kicks"
                                  for name, r in results.items()),
                 "With a virtual function the guest writes to the device's own registers, which are mapped into it: "
                 "nothing of the hypervisor is on the way.", series, y_label="for each one")


def trade_offs(record, disks: dict, nets: dict) -> None:
    """The chapter's table of virtio against a virtual function, each cell with what was seen."""
    def cell(results: dict, name: str) -> str:
        point = results.get(name, {}).get("alone")
        return "not measured" if not point else (f"{point['user_exits']:.2f} exits and {point['kicks']:.2f} kicks"
                                                  + (f", {si(point['host'])} host instructions" if "host" in point else ""))

    def left(name: str) -> str:
        result = disks.get(name)
        return f"{100 * result['noisy']['iops'] / result['alone']['iops']:.0f} % of its IOPS left" if result else "not measured"

    record.table("The trade-off, as it was seen here", ["property", "virtio", "virtual function"], [
        ["Performance: a disk read", cell(disks, "virtio-blk"), cell(disks, "NVMe VF")],
        ["Performance: a network round trip", cell(nets, "virtio-net"), cell(nets, "igb VF")],
        ["Migration (by design; measured in the migration experiment)", "its whole state is duet's: saved and restored field by field",
         "its state is in the device: the guest lets go of it first (migrate --unplug)"],
        ["Shaping (measured in the disk experiment)", "the hypervisor sees every request: iops=N holds it to N",
         "requests pass the hypervisor by; only the device could shape them"],
        ["Isolation beside a noisy neighbour", left("virtio-blk"), left("NVMe VF")]])


def claim(record, disks: dict, nets: dict, lab: ExperimentLab) -> None:
    words = ("M5", "A virtual function in the guest's hands removes nearly every exit from the data path; what it costs is migration, "
             "shaping, and isolation from neighbours on the same device.", "exits for each request ≈ 0, against 1 kick or less with virtio")
    pairs = [(kind, results[function]["alone"], results[shared]["alone"])
             for kind, results, function, shared in (("read", disks, "NVMe VF", "virtio-blk"), ("round trip", nets, "igb VF", "virtio-net"))
             if function in results and shared in results]
    if not pairs:
        record.claim(*words, "–", "not measured", "No virtual function could be handed to a guest here; the reason is under Skipped.")
        return
    measured = "; ".join(f"a {kind}: VF {a['user_exits'] + a['kicks']:.2f}, virtio {b['user_exits'] + b['kicks']:.2f} exits and kicks"
                         + (f", host instructions {si(a['host'])} against {si(b['host'])}" if "host" in a else "")
                         for kind, a, b in pairs)
    kept = {name: r["noisy"]["iops"] / r["alone"]["iops"] for name, r in disks.items()}
    if kept:
        measured += "; beside a noisy neighbour " + ", ".join(f"{name} keeps {100 * share:.0f} %" for name, share in kept.items())
        measured += " of its IOPS" + (" (emulated)" if lab.counts else "")
    none = all(a["user_exits"] + a["kicks"] < 0.1 for _, a, _ in pairs)
    cheaper = all(a["host"] < b["host"] for _, a, b in pairs if "host" in a)
    record.claim(*words, measured, "yes" if none and cheaper else "partly" if none or cheaper else "no",
                 ("The data path through a VF makes no exit to duet, and no kick." if none else "Some exits remain on a VF's path.")
                 + (" What the host still does is to deliver the interrupt and to run the idle guest's CPU." if none else "")
                 + ("" if not kept else " The neighbour on the same physical function hurt the VF more than one beside the virtio disk did, "
                    "as the chapter warns: the slices share the device." if kept["NVMe VF"] < kept["virtio-blk"] else
                    " The neighbour did not hurt the VF more than one beside the virtio disk did.")
                 + ("" if not lab.counts or not nets or nets["igb VF"]["stream"] > nets["virtio-net"]["stream"] else
                    " That the network VF's throughput is below virtio-net's speaks of the emulated igb, not of SR-IOV.")
                 + (" (The emulated device's own work is QEMU's and is in no count.)" if lab.counts else ""))


def selftest(lab: ExperimentLab, record) -> None:
    """Virtual functions without an exit, virtio with a kick, e1000 with eight exits."""
    def point(exits: float, kicked: float, **more) -> dict:
        counts = {"guest_entries": 2 + exits, "host": 6e3 + 4e4 * kicked, "guest_kernel": 2e4} if lab.counts else {}
        return {"user_exits": exits, "kicks": kicked, **counts, **more}

    def device(exits: float, kicked: float, left: float) -> dict:
        return {"alone": point(exits, kicked, depth=1, iops=1000), "deep": point(exits, kicked, depth=16, iops=4000),
                "noisy": point(exits, kicked, depth=1, iops=1000 * left)}

    def card(exits: float, kicked: float, stream: float) -> dict:
        return {"alone": point(exits, kicked, mean_ns=2e6, sd_ns=1e6, p99_ns=5e6, lost=0), "stream": stream}

    tell(lab, record, {"NVMe VF": device(0, 0, 0.3), "virtio-blk": device(0, 1, 0.9), "pinned": "vcpu0 on CPU 1"},
         {"igb VF": card(0, 0, 9), "virtio-net": card(0, 1, 6), "e1000": card(8, 0, 2)})
    claim, = record.data["claims"]
    assert claim["agrees"] == "yes" and "NVMe VF keeps 30 %" in claim["measured"]
    assert "hurt the VF more" in claim["words"]

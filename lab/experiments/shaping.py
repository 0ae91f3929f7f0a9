# SPDX-License-Identifier: Apache-2.0
"""M6: limits, rules and accounting on the virtio path.

Achieved against configured rates of networks and disks, what rules refuse and count, and a noisy
neighbour with and without a limit."""

import contextlib
import json
import re

from duetlab.experiment.lab import ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import Subject, group
from duetlab.guest import rootfs, vm

ORDER = 5
MECHANISMS = {"M6": "Shaping, policy and accounting"}
TITLE = "Shaping: the hypervisor in the data path"
WHAT = ("A guest sends, receives, reads and writes as fast as it can while duet holds it to a rate (iperf3 over tap interfaces, fio). "
        "Then rules refuse some of its packets, what is counted is held against what left, and a second guest makes noise, "
        "with and without a limit.")

KIB = 1024
RATES = (256 * KIB, 1024 * KIB, 4096 * KIB)  # bytes a second, a disk each
NET_RATES = (64 * KIB, 256 * KIB, 768 * KIB)  # a network card each: an emulated guest sends little more
PACKETS = 200                               # a second
IOPS = (20, 200)
SECONDS = 6
DATAGRAM = 200
REFUSED = {"no-ping": 10, "no-udp": 20}  # packets sent into each rule
DISK_MIB = 64
PORT = 5201
NOISE_LIMIT = 256 * KIB


def root() -> list[str]:
    return ["--disk", f"path={rootfs.rootfs()},readonly=on"]


def debian(lab: ExperimentLab, *options: str) -> Subject:
    """A guest with iperf3 and fio; its own disks follow the root's, /dev/vda."""
    return Subject(lab, *root(), *options, words="duet.root=/dev/vda duet.rootflags=ro")


def host(number: int) -> str:
    return f"10.77.{20 + number}.1"


def card(lab: ExperimentLab, number: int, options: str = "") -> list[str]:
    tap = lab.tap(f"shp{number}", host(number))
    return ["--net", f"tap,ifname={tap}{options}"]


def up(subject: Subject, *numbers: int) -> None:
    for nth, number in enumerate(numbers):
        subject.command(f"ip addr add 10.77.{20 + number}.2/24 dev eth{nth} && ip link set eth{nth} up")


def server(lab: ExperimentLab, number: int):
    return lab.background("iperf3", "-s", "-B", host(number), "-p", str(PORT), "--forceflush", ready="listening")


def stream(subject: Subject, number: int, way: str = "", more: str = "") -> float:
    """Bytes a second that arrived; WAY is -R for those to the guest."""
    text = subject.command(f"iperf3 -c {host(number)} -p {PORT} -t {SECONDS} -f k {way} {more}")
    found = re.findall(r"([\d.]+) Kbits/sec.*receiver", text)
    if not found:
        raise vm.GuestFailure(f"iperf3 told no rate:\n{text[-500:]}")
    return float(found[-1]) * 1000 / 8


def fio(subject: Subject, device: str, way: str, block: str) -> dict:
    """Bytes and requests a second of random accesses, sixteen at a time."""
    text = subject.command(f"fio --name=x --filename={device} --direct=1 --ioengine=libaio --iodepth=16 --rw=rand{way} --bs={block} "
                           f"--time_based --runtime={SECONDS} --output-format=terse --terse-version=3")
    line = next((line for line in text.splitlines() if line.startswith("3;")), None)
    if line is None:
        raise vm.GuestFailure(f"fio told nothing:\n{text[-500:]}")
    at = 6 if way == "read" else 47
    fields = line.split(";")
    return {"bytes": float(fields[at]) * KIB, "requests": float(fields[at + 1])}


def networks(lab: ExperimentLab) -> dict:
    """A card for each rate, and one with a limit of packets."""
    options, count = [], len(NET_RATES)
    for number, rate in enumerate(NET_RATES):
        options += card(lab, number, f",tx-rate={rate},rx-rate={rate}")
    options += card(lab, count, f",tx-pps={PACKETS},rx-pps={PACKETS}")
    with contextlib.ExitStack() as stack:
        for number in range(count + 1):
            stack.enter_context(server(lab, number))
        subject = stack.enter_context(debian(lab, *options))
        up(subject, *range(count + 1))
        points = [{"what": f"network, {name}", "unit": "bytes", "limit": rate, "got": stream(subject, number, way)}
                  for number, rate in enumerate(NET_RATES) for name, way in (("sent", ""), ("received", "-R"))]
        points += [{"what": f"network, {name}", "unit": "packets", "limit": PACKETS,
                    "got": stream(subject, count, way, f"-u -b 4M -l {DATAGRAM}") / DATAGRAM}
                   for name, way in (("sent", ""), ("received", "-R"))]
        return {"points": points, "pinned": subject.pinned}


def disks(lab: ExperimentLab) -> dict:
    limits = [*(("bytes", f"bw={rate}", rate) for rate in RATES), *(("requests", f"iops={limit}", limit) for limit in IOPS)]
    options = []
    for number, (_, option, _) in enumerate(limits):
        options += ["--disk", f"path={lab.disk(f'shaping-{number}', DISK_MIB)},cache=direct,{option}"]
    points = []
    with debian(lab, *options) as subject:
        for number, (unit, _, limit) in enumerate(limits):
            for way in ("read", "write"):
                found = fio(subject, f"/dev/vd{chr(ord('b') + number)}", way, "64k" if unit == "bytes" else "4k")
                points.append({"what": f"disk, {way}", "unit": unit, "limit": limit, "got": found[unit]})
        return {"points": points, "pinned": subject.pinned}


RULES = [{"name": "no-ping", "action": "deny", "direction": "out", "protocol": "icmp"},
         {"name": "no-udp", "action": "deny", "direction": "out", "protocol": "udp", "destination-ports": 9000}]


def rules(lab: ExperimentLab) -> dict:
    """What each rule refuses, and bytes counted against those that the host's interface saw."""
    number = len(NET_RATES) + 1
    with vm.workspace() as directory:
        file = directory / "rules.json"
        file.write_text(json.dumps(RULES))
        options = card(lab, number, f",rules={file}")
        with server(lab, number), debian(lab, *options) as subject:
            up(subject, number)
            before, seen = at_rest(lab, subject, number)
            subject.command(f"ping -c {REFUSED['no-ping']} -i 0.2 -W 1 {host(number)}", may_fail=True)
            subject.command(f"bash -c 'for i in $(seq {REFUSED['no-udp']}); do echo x >/dev/udp/{host(number)}/9000; done'", may_fail=True)
            stream(subject, number)
            subject.command("ip link set eth0 down")
            after, seen_after = at_rest(lab, subject, number)
        found = {name: counter(after, f"rule:{name}", "packets") - counter(before, f"rule:{name}", "packets") for name in REFUSED}
        counted = counter(after, "policy", "out_passed_bytes") - counter(before, "policy", "out_passed_bytes")
        return {"refused": found, "counted": counted, "arrived": seen_after - seen}


def at_rest(lab: ExperimentLab, subject: Subject, number: int) -> tuple[dict, int]:
    """duet's statistics and the host's count, between which the guest sent nothing by itself."""
    while True:
        seen = arrived(lab, number)
        statistics = subject.statistics()
        if seen == arrived(lab, number):
            return statistics, seen


def arrived(lab: ExperimentLab, number: int) -> int:
    """Bytes that the host has received from the guest."""
    return int(lab.shell(f"cat /sys/class/net/shp{number}/statistics/rx_bytes"))


def counter(statistics: dict, kind: str, name: str) -> int:
    net = next(device for device in statistics["devices"] if device["name"] == "net0")
    return group(net, kind).get(name, 0)


def neighbours(lab: ExperimentLab) -> dict:
    """What is left of one guest's throughput beside another that sends without end."""
    first = len(NET_RATES) + 2
    found = {}
    options = {"quiet": card(lab, first)} | {
        name: card(lab, first + 1, option) for name, option in (("noisy", ""), ("limited", f",tx-rate={NOISE_LIMIT}"))}
    with server(lab, first), server(lab, first + 1), debian(lab, *options.pop("quiet")) as quiet:
        up(quiet, first)
        found["alone"] = stream(quiet, first)
        for name, option in options.items():
            with debian(lab, *option) as noisy:
                up(noisy, first + 1)
                noisy.command(f"(iperf3 -c {host(first + 1)} -p {PORT} -t 600 >/dev/null 2>&1 &)")
                found[name] = stream(quiet, first)
        return found


def run(lab: ExperimentLab, record) -> None:
    parts = (("networks", networks), ("disks", disks), ("rules", rules), ("a noisy neighbour on virtio-net", neighbours))
    tell(lab, record, {function.__name__: attempt(record, part, function, lab) or {} for part, function in parts})


def tell(lab: ExperimentLab, record, found: dict) -> None:
    points = [*found["networks"].get("points", []), *found["disks"].get("points", [])]
    record.figure("found", found)
    record.skip("the same neighbour on an SR-IOV VF", "the experiment passthrough has it: nothing limits a virtual function there")
    record.symbol("limit", "bytes, packets or requests a second that duet was told to let through.")
    if points:
        rates(record, points, lab)
    if found["rules"]:
        accounts(record, found["rules"])
    if found["neighbours"]:
        noise(record, found["neighbours"], lab)
    usual_confounders(record, lab, found["networks"].get("pinned", "") or found["disks"].get("pinned", ""))
    record.confounder("Protocol headers", "not controlled", "the limit counts whole frames, iperf3 what is in them: a few percent less")
    claim(record, points, found)


def rates(record, points: list[dict], lab: ExperimentLab) -> None:
    record.table("Achieved against configured", ["what", "unit", "limit a second", "achieved", "achieved / limit"],
                 [[p["what"], p["unit"], si(p["limit"]), si(p["got"]), f"{p['got'] / p['limit']:.2f}"] for p in points], emulated=lab.counts)
    byte_points = [p for p in points if p["unit"] == "bytes"]
    series = [{"name": name, "style": "points", "x": [p["limit"] for p in byte_points if p["what"] == name],
               "y": [p["got"] for p in byte_points if p["what"] == name]} for name in dict.fromkeys(p["what"] for p in byte_points)]
    limits = sorted({p["limit"] for p in byte_points})
    record.chart("Achieved against configured bytes a second", "Each point lies on the line where both are the same, or a little below.",
                 "A token bucket lets through what it was told, whichever way it goes.",
                 [*series, {"name": "the limit", "style": "line", "x": limits, "y": limits}],
                 x_label="limit, bytes a second", y_label="bytes a second", log_x=True, log_y=True, emulated=lab.counts)


def accounts(record, found: dict) -> None:
    record.table("Packets refused by each rule", ["rule", "sent into it", "refused"],
                 [[name, sent, found["refused"][name]] for name, sent in REFUSED.items()])
    record.table("Bytes from the guest", ["counted by duet", "arrived at the host's interface"], [[found["counted"], found["arrived"]]])


def noise(record, found: dict, lab: ExperimentLab) -> None:
    names = {"alone": "no neighbour", "noisy": "a noisy one", "limited": "the same, limited"}
    values = [found[key] for key in names]
    record.chart("A guest's throughput beside a neighbour", "; ".join(f"{name}: {si(value)} bytes a second"
                                                                     for name, value in zip(names.values(), values, strict=True)),
                 "The neighbour's packets take the host's CPU from the others; a limit on it gives that back.",
                 [{"name": "throughput", "style": "bars", "x": list(names.values()), "y": values}],
                 y_label="bytes a second", emulated=lab.counts)


def claim(record, points: list[dict], found: dict) -> None:
    words = ("M6", "A hypervisor in the data path can shape, filter and account for each guest's traffic; passthrough cannot.",
             "achieved = limit; counted = sent")
    if not points or not found["rules"]:
        record.claim(*words, "–", "not measured", "Limits and rules are both needed; the reason is under Skipped.")
        return
    near = sum(0.85 <= point["got"] / point["limit"] <= 1.05 for point in points)
    account = found["rules"]
    exact = account["counted"] == account["arrived"]
    refused = all(account["refused"][name] == sent for name, sent in REFUSED.items())
    good = (near >= 0.8 * len(points), exact, refused)
    record.claim(*words, f"{near} of {len(points)} rates within 15 % below and 5 % above the limit; counted {account['counted']} bytes, "
                 f"arrived {account['arrived']}; refused " + ", ".join(f"{name} {n}" for name, n in account["refused"].items()),
                 "yes" if all(good) else "partly" if any(good) else "no",
                 ("Limits hold. " if good[0] else "Some rates are not the limit's. ")
                 + ("Every byte is accounted for. " if exact else "Counted and arrived bytes differ. ")
                 + ("Each rule refused just what was sent into it." if refused else "Rules refused another number than was sent."))


def selftest(lab: ExperimentLab, record) -> None:
    """Rates a little below their limits, exact accounts, and a neighbour that a limit makes quiet."""
    nets = [{"what": f"network, {way}", "unit": "bytes", "limit": rate, "got": 0.96 * rate} for rate in RATES for way in ("sent", "received")]
    files = [{"what": "disk, read", "unit": "requests", "limit": limit, "got": 1.01 * limit} for limit in IOPS]
    tell(lab, record, {"networks": {"points": nets, "pinned": ""}, "disks": {"points": files, "pinned": ""},
                       "rules": {"refused": dict(REFUSED), "counted": 123456, "arrived": 123456},
                       "neighbours": {"alone": 9e6, "noisy": 4e6, "limited": 8e6}})
    verdict, = record.data["claims"]
    assert verdict["agrees"] == "yes" and "8 of 8 rates" in verdict["measured"]
    assert "Every byte is accounted for" in verdict["words"]

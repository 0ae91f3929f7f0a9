# SPDX-License-Identifier: Apache-2.0
"""M6: limits, rules and accounting on the virtio path.

Achieved against configured rates of networks and disks, what rules refuse and count, and a noisy
neighbour on virtio-net with and without a limit, beside the same one on a virtual function."""

import json

from duetlab.experiment import functions, rates
from duetlab.experiment.lab import HOME, PORT, ExperimentLab
from duetlab.experiment.model import si
from duetlab.experiment.port import Port, Sender
from duetlab.experiment.record import Skipped, attempt, usual_confounders
from duetlab.experiment.subject import Subject, group, summed
from duetlab.guest import rootfs, vm

ORDER = 5
MECHANISMS = {"M6": "Shaping, policy and accounting"}
TITLE = "Shaping: the hypervisor in the data path"
WHAT = ("A guest sends, receives, reads and writes as fast as it can while duet holds it to a rate. Then rules refuse some of its "
        "packets, and what is counted is held against what left. Last, two guests share a port of a fixed speed: one sends little, "
        "its neighbour all that it can. On virtio-net duet holds the neighbour back; on virtual functions of a card (SR-IOV) "
        "it is not on the way.")
LAB = {"cpus": 4}  # two guests, each with a CPU for its vCPU and one for its I/O

KIB = 1024
RATES = (256 * KIB, 1024 * KIB, 4096 * KIB)  # bytes a second of the disk
NET_RATES = (64 * KIB, 256 * KIB, 768 * KIB)  # ... of the network
PACKETS = (200,)
IOPS = (50, 500)
SECONDS = 6
REFUSED = {"no-ping": 10, "no-udp": 20}  # packets sent into each rule
DISK_MIB = 64
IPERF_PORT = 5201
QUIET_CPUS, LOUD_CPUS = (0, 1), (2, 3)  # of the I/O thread and of the vCPU
# The port, in bytes a second; what the quiet guest sends is a third of it, what its neighbour may send when limited a fourth.
PORT_RATE, PORT_BURST, HELD = 64 * KIB, 48 * KIB, 16 * KIB
COUNT, PERIOD_US = 200, 100000
NOISE = 2  # times as much as the port carries makes a neighbour noisy
LEFT, KEPT = 0.8, 0.95  # of the packets: fewer is harm, as many is none
CARDS = {"virtio-net": "virtio-net", "VF": "igb VF"}
STATES = {"alone": "alone", "noisy": "beside a noisy one", "limited": "beside it, limited"}


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
    return lab.background("iperf3", "-s", "-B", host(number), "-p", str(IPERF_PORT), "--forceflush", ready="listening")


def limits(lab: ExperimentLab) -> dict:
    """What a guest does under each limit."""
    disk = lab.disk("shaping", DISK_MIB)
    told = {"bytes": {"net0": NET_RATES, "disk0": RATES}, "packets": {"net0": PACKETS}, "requests": {"disk0": IOPS}}
    with rates.Limited(lab, "shp0", host(0), "10.77.20.2", disk) as guest:
        points = [point for kind in rates.KINDS.values() for point in guest.points(kind, told[kind.unit][kind.device])]
        return {"points": points, "pinned": guest.subject.pinned}


RULES = [{"name": "no-ping", "action": "deny", "direction": "out", "protocol": "icmp"},
         {"name": "no-udp", "action": "deny", "direction": "out", "protocol": "udp", "destination-ports": 9000}]


def rules(lab: ExperimentLab) -> dict:
    """What each rule refuses, and bytes counted against those that the host's interface saw."""
    number = 1
    with vm.workspace() as directory:
        file = directory / "rules.json"
        file.write_text(json.dumps(RULES))
        options = card(lab, number, f",rules={file}")
        with server(lab, number), debian(lab, *options) as subject:
            up(subject, number)
            before, seen = at_rest(lab, subject, number)
            subject.command(f"ping -c {REFUSED['no-ping']} -i 0.2 -W 1 {host(number)}", may_fail=True)
            subject.command(f"bash -c 'for i in $(seq {REFUSED['no-udp']}); do echo x >/dev/udp/{host(number)}/9000; done'", may_fail=True)
            subject.command(f"iperf3 -c {host(number)} -p {IPERF_PORT} -t {SECONDS}")
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


def on_virtio(lab: ExperimentLab) -> dict:
    senders = []
    for number in (2, 3):
        name = lab.tap(f"shp{number}", host(number))
        senders.append(Sender(("--net", f"tap,ifname={name}"), name, f"10.77.{20 + number}.2", host(number)))
    return neighbours(lab, "net0", *senders)


def on_functions(lab: ExperimentLab) -> dict:
    with functions.taken("net", 2) as addresses:
        name = functions.physical(lab, addresses[0], host(4))
        return neighbours(lab, "vfio0", *(Sender(("--device", f"vfio,host={address}"), name, f"10.77.24.{2 + nth}", host(4))
                                          for nth, address in enumerate(addresses)))


def neighbours(lab: ExperimentLab, device: str, quiet: Sender, loud: Sender) -> dict:
    """What becomes of the quiet guest's packets, alone, beside the loud one, and when that is held back, if duet can."""
    socket = f"{HOME}/loud.sock"
    lab.shell(f"rm -f {socket}")
    with (Port(lab, PORT_RATE, PORT_BURST, (quiet, loud)) as port, Subject(lab, *quiet.options, cpus=QUIET_CPUS) as subject,
          Subject(lab, *loud.options, "--api-sock", socket, cpus=LOUD_CPUS) as other):
        for one, sender in ((subject, quiet), (other, loud)):
            reach(one, sender)
        found = {"alone": sent(port, subject, quiet, loud)}
        other.command(f"workload flood {loud.to} {PORT} 100000 >/dev/null 2>&1 &")
        port.wait(loud, PORT_BURST // 1400 * 2)
        found["noisy"] = sent(port, subject, quiet, loud)
        loudness = found["noisy"]["others_came"] / (found["noisy"]["passed"] + found["noisy"]["others_passed"])
        if loudness < NOISE:
            raise Skipped(f"the neighbour sent only {loudness:.1f} times what the port carries: this machine is too slow or too busy")
        answer = lab.shell(f"{HOME}/duet ctl {socket} limit {device} tx-rate={HELD} 2>&1 || echo refused")
        found["refused"] = " ".join(answer.removesuffix("refused\n").split()) if answer.endswith("refused\n") else ""
        if not found["refused"]:
            found["limited"] = sent(port, subject, quiet, loud)
        return found | {"pinned": f"{subject.pinned}\n{other.pinned}"}


def reach(subject: Subject, sender: Sender) -> None:
    """The guest's only card gets its address, and an answer from where it sends to."""
    subject.command("modprobe -q igbvf; n=0; until [ -e /sys/class/net/eth0 ] || [ $n -ge 600 ]; do usleep 100000; n=$((n + 1)); done; "
                    f"ip addr add {sender.address}/24 dev eth0; ip link set eth0 up; n=0; "
                    f"until ping -c 1 -W 1 {sender.to} >/dev/null || [ $n -ge 60 ]; do n=$((n + 1)); done; ping -c 1 {sender.to}")


def sent(port: Port, subject: Subject, quiet: Sender, loud: Sender) -> dict:
    """What the port made of COUNT packets of the quiet guest, and of its neighbour's meanwhile."""
    before = port.counts()
    found = subject.measure(f"workload paced {quiet.to} {PORT} {COUNT} {PERIOD_US}")
    after = port.counts()
    grown = {sender: {name: after[sender][name] - before[sender][name] for name in ("came", "passed")} for sender in (quiet, loud)}
    kicks = sum(summed(device, "kicks") for device in found["devices"].values())
    return {"sent": found["answer"]["packets"], **grown[quiet], "others_came": grown[loud]["came"], "others_passed": grown[loud]["passed"],
            "exits": (found["user_exits"] + kicks) / found["answer"]["packets"]}


def run(lab: ExperimentLab, record) -> None:
    found = {part: attempt(record, words, function, lab) or {} for part, words, function in (
        ("limits", "limits of networks and disks", limits), ("rules", "rules", rules),
        ("virtio-net", "a noisy neighbour on virtio-net", on_virtio), ("VF", "a noisy neighbour on an igb VF", on_functions))}
    tell(lab, record, found)


def tell(lab: ExperimentLab, record, found: dict) -> None:
    points = found["limits"].get("points", [])
    record.figure("found", found)
    record.symbol("limit", "bytes, packets or requests a second that duet was told to let through.")
    for point in points:
        if point["got"] is None:
            record.skip(f"{point['what']}, {point['text']}", rates.too_slow(point))
    if judged := rates.judged(points):
        achieved(record, judged, lab)
    if found["rules"]:
        accounts(record, found["rules"])
    usual_confounders(record, lab, found["limits"].get("pinned", ""))
    limit_claim(record, judged, found["rules"])
    trade_off(record, {card: found[card] for card in CARDS if found[card]})
    trade_off_claim(record, found)


def achieved(record, points: list[dict], lab: ExperimentLab) -> None:
    record.table("Achieved against configured", ["what", "unit", "without a limit", "limit a second", "achieved (median)", "off by", "its windows"],
                 [[p["what"], p["unit"], si(p["free"]), si(p["limit"]), si(p["got"]), f"{100 * rates.off(p):+.1f} %", rates.spread(p)] for p in points],
                 emulated=lab.counts)
    byte_points = [p for p in points if p["unit"] == "bytes"]
    series = [{"name": name, "style": "points", "x": [p["limit"] for p in byte_points if p["what"] == name],
               "y": [p["got"] for p in byte_points if p["what"] == name]} for name in dict.fromkeys(p["what"] for p in byte_points)]
    line = sorted({p["limit"] for p in byte_points})
    record.chart("Achieved against configured bytes a second", "Each point lies near the line where both are the same.",
                 "A token bucket lets through what it was told, whichever way it goes. Whole frames are counted.",
                 [*series, {"name": "the limit", "style": "line", "x": line, "y": line}],
                 x_label="limit, bytes a second", y_label="bytes a second", log_x=True, log_y=True, emulated=lab.counts)


def accounts(record, found: dict) -> None:
    record.table("Packets refused by each rule", ["rule", "sent into it", "refused"],
                 [[name, sent, found["refused"][name]] for name, sent in REFUSED.items()])
    record.table("Bytes from the guest", ["counted by duet", "arrived at the host's interface"], [[found["counted"], found["arrived"]]])


def trade_off(record, cards: dict) -> None:
    """One picture of both sides: what becomes of a packet beside a neighbour, and what it costs to be on its way."""
    bars = [(f"{CARDS[card]}, {STATES[state]}", found[state]) for card, found in cards.items() for state in STATES if state in found]
    if not bars:
        return
    record.table("A guest's packets beside a neighbour's, through one port", ["the guest", "sent", "came to the port", "passed it",
                 "the neighbour's that came", "... that passed", "exits and kicks a packet"],
                 [[name, p["sent"], p["came"], p["passed"], p["others_came"], p["others_passed"], f"{p['exits']:.2f}"] for name, p in bars])
    names = [f"{card}\n{state}" for card, found in cards.items() for state in STATES if state in found]
    record.chart("The trade-off: a hypervisor on the way, or not", "; ".join(
        f"{name}: {100 * share(p):.0f} % passed, {p['exits']:.2f} exits and kicks a packet" for name, p in bars),
        "On virtio-net a packet costs the guest a word to duet, which can therefore hold a noisy neighbour back. "
        "A virtual function costs nothing of the kind, and nothing can be done.",
        [{"name": "passed the port", "style": "bars", "x": names, "y": [share(p) for _, p in bars]},
         {"name": "exits and kicks", "style": "bars", "x": names, "y": [p["exits"] for _, p in bars]}], y_label="for each packet sent")
    record.confounder("The port", "controlled", f"{PORT_RATE // KIB} KiB a second, played by Linux's traffic control in the host for both "
                      "cards alike: the lab's igb has no speed of its own")
    record.confounder("The card's own limits", "not controlled", "some cards can limit each virtual function by themselves; duet has no part in it")


def share(point: dict) -> float:
    return point["passed"] / point["sent"]


def limit_claim(record, points: list[dict], account: dict) -> None:
    words = ("M6", "A hypervisor in the data path can shape, filter and account for each guest's traffic; passthrough cannot.",
             "achieved = limit; counted = sent")
    if not points or not account:
        record.claim(*words, "–", "not measured", "Limits and rules are both needed; the reason is under Skipped.")
        return
    off = [rates.off(point) for point in points]
    near = sum(abs(one) <= rates.OFF_BY for one in off)
    exact = account["counted"] == account["arrived"]
    refused = all(account["refused"][name] == sent for name, sent in REFUSED.items())
    good = (near == len(points), exact, refused)
    record.claim(*words, f"{near} of {len(points)} rates within 5 % of the limit, all from {100 * min(off):+.1f} % to {100 * max(off):+.1f} %; "
                 f"counted {account['counted']} bytes, arrived {account['arrived']}; "
                 "refused " + ", ".join(f"{name} {n}" for name, n in account["refused"].items()),
                 "yes" if all(good) else "partly" if any(good) else "no",
                 ("Limits hold. " if good[0] else "Some rates are not the limit's. ")
                 + ("Every byte is accounted for. " if exact else "Counted and arrived bytes differ. ")
                 + ("Each rule refused just what was sent into it." if refused else "Rules refused another number than was sent."))


def trade_off_claim(record, found: dict) -> None:
    words = ("M6", "A noisy neighbour on a shared card: on the virtio path the hypervisor can hold it back, on a virtual function nothing can be done.",
             "what passes of a guest's packets: limited = alone > noisy; on a VF there is no limited")
    shared, function = found["virtio-net"], found["VF"]
    if not shared or not function:
        record.claim(*words, "–", "not measured", "Both cards are needed; the reason is under Skipped.")
        return
    harmed = all(share(one["noisy"]) <= LEFT * share(one["alone"]) for one in (shared, function))
    helped = "limited" in shared and share(shared["limited"]) >= KEPT * share(shared["alone"])
    helpless = "limited" not in function
    measured = "; ".join(f"{CARDS[card]}: " + ", ".join(f"{100 * share(found[card][state]):.0f} % {STATES[state]}"
                                                        for state in STATES if state in found[card]) for card in CARDS)
    record.claim(*words, f"of {COUNT} packets passed: {measured}; exits and kicks a packet {shared['alone']['exits']:.2f} against "
                 f"{function['alone']['exits']:.2f}",
                 "yes" if harmed and helped and helpless else "partly" if helped or helpless else "no",
                 ("The neighbour took the port on either card. " if harmed else "The neighbour did little harm on one of the cards. ")
                 + ("A limit on virtio-net gave it back. " if helped else "A limit on virtio-net did not give it back. ")
                 + (f"For the virtual function duet had no answer: {function['refused']}" if helpless else "duet limited the virtual function."))


def selftest(lab: ExperimentLab, record) -> None:
    """Rates a little below their limits, one that cannot be judged, exact accounts, and neighbours as the chapter has them."""
    def point(what: str, unit: str, limit: float, share_of: float | None) -> dict:
        return {"what": what, "unit": unit, "limit": limit, "text": f"x={limit}", "free": (2 if share_of else 1.2) * limit, "got": share_of and share_of * limit,
                "windows": [share_of * limit] if share_of else []}

    def beside(passed: int, exits: float) -> dict:
        return {"sent": COUNT, "came": COUNT, "passed": passed, "others_came": 9000, "others_passed": 800, "exits": exits}

    points = [point(f"network, {way}", "bytes", rate, 0.96) for rate in RATES for way in ("sent", "received")]
    points += [point("disk, read", "requests", limit, 1.01) for limit in IOPS] + [point("disk, written", "requests", 1000, None)]
    tell(lab, record, {"limits": {"points": points, "pinned": ""},
                       "rules": {"refused": dict(REFUSED), "counted": 123456, "arrived": 123456},
                       "virtio-net": {"alone": beside(COUNT, 1), "noisy": beside(COUNT // 10, 1), "limited": beside(COUNT, 1), "refused": ""},
                       "VF": {"alone": beside(COUNT, 0), "noisy": beside(COUNT // 10, 0), "refused": "no such limit"}})
    held, traded = record.data["claims"]
    assert held["agrees"] == traded["agrees"] == "yes" and "8 of 8 rates" in held["measured"]
    assert "from -4.0 % to +1.0 %" in held["measured"] and "Every byte is accounted for" in held["words"]
    assert "no such limit" in traded["words"] and "10 % beside a noisy one" in traded["measured"]
    assert "less than 1.5 times 1000" in record.data["skipped"][0]["reason"]

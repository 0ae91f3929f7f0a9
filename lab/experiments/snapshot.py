# SPDX-License-Identifier: Apache-2.0
"""M7: a machine goes on from a snapshot, beside one that boots; and what many from the same snapshot take.

The snapshot is in the host's memory, so no disk's speed is in the figures."""

import json
import re
import shlex

from duetlab.experiment.lab import HOME, KERNEL, PORT, ExperimentLab, workload
from duetlab.experiment.record import attempt, usual_confounders
from duetlab.experiment.subject import MARK_END, MARK_START, Subject
from duetlab.guest import images

ORDER = 7
MECHANISMS = {"M7": "Live migration"}
TITLE = "Snapshots: a machine goes on where it was"
WHAT = ("A guest answers UDP packets. Once it is booted, and once it goes on from a snapshot of itself; counted is all from the "
        "start of duet to the first answer. Then ten machines go on from one snapshot at once, and the memory of each is looked "
        "at that is no other's.")

MEMORY = "256M"
RUNS = 3
CLONES = 10
SHARE_MAX = 0.1  # of a boot
PRIVATE_MAX = 2.0  # MiB
HOST, GUEST, MAC = "10.77.8.1", "10.77.8.2", "02:77:08:00:00:02"
TAP = "exp8"
SOCK, SNAPSHOT = f"{HOME}/snapshot.sock", f"{HOME}/snapshot"
PATIENCE = 300  # seconds
MIB = 1 << 20
MARK_VMRUN = 65535  # the plugin's own: a guest is entered the first time after a mark

SERVICE = f"ip addr add {GUEST}/24 dev eth0 && ip link set eth0 up && (workload serve {GUEST} {PORT} >/tmp/serving &)"
BOOTED = f"{SERVICE}\nexec sleep 100000\n"

# COMMAND from its start to the first answer of its guest; then what LOOK prints.
_RUN = """
cd {home}; {address}
workload={home}/workload
$workload answered {guest} {port} {limit} >answered & asks=$!
{command} >output 2>&1 </dev/null & pid=$!
wait $asks || {{ tail -n 5 output >&2; kill -9 $pid; exit 1; }}
cat answered
kill -9 $pid; wait $pid 2>/dev/null; true
"""

# All of them: each is asked once, while its tap has the address.
_CLONES = """
cd {home}; pids=""; ip addr flush dev {tap}
for i in $(seq {clones}); do
	tap={tap}c$i
	ip link del $tap 2>/dev/null; ip tuntap add $tap mode tap vnet_hdr || exit 1
	./duet run --restore {snapshot} --restore-taps net0=$tap >output.$i 2>&1 </dev/null & pids="$pids $!"
	{address_of_tap}
	timeout {limit} ./workload answered {guest} {port} {limit} >/dev/null || {{ tail -n 5 output.$i >&2; kill -9 $pids; exit 1; }}
	ip addr flush dev $tap
done
for pid in $pids; do cat /proc/$pid/smaps; echo ====; done
kill -9 $pids; wait
for i in $(seq {clones}); do ip link del {tap}c$i; done
"""


def address(tap: str) -> str:
    """TAP speaks with the guest, whose hardware address it need not ask for."""
    return (f"ip addr replace {HOST}/24 dev {tap}; ip link set {tap} up; "
            f"ip neigh replace {GUEST} lladdr {MAC} dev {tap}")


def options(tap: str) -> list[str]:
    return ["--net", f"tap,ifname={tap},mac={MAC}"]


def take(lab: ExperimentLab) -> None:
    """A snapshot of a guest whose service is up."""
    with Subject(lab, *options(TAP), "--api-sock", SOCK, "--allow", HOME, memory=MEMORY, pin=False) as subject:
        subject.command(SERVICE)
        subject.command("until grep -q serving /tmp/serving; do sleep 0.1; done")
        lab.shell(f"rm -rf {SNAPSHOT}; {HOME}/duet ctl {SOCK} snapshot {SNAPSHOT} >/dev/null", limit=PATIENCE)


def booted(lab: ExperimentLab) -> list[str]:
    initrd = images.initrd(KERNEL, "base", BOOTED, {"bin/workload": workload().read_bytes()})
    return [f"{HOME}/duet", "run", "--cache", f"{HOME}/kernels", "--entropy", "off", "--memory", MEMORY, *options(TAP),
            "--kernel", lab.path(images.kernel(KERNEL)), "--initrd", lab.path(initrd)]  # fmt: skip


def restored(_lab: ExperimentLab) -> list[str]:
    return [f"{HOME}/duet", "run", "--restore", SNAPSHOT]


def started(lab: ExperimentLab, command: list[str]) -> dict:
    """One start: instructions until a guest is entered and until it answers; None on hardware."""
    lab.marks()
    told = lab.shell(_RUN.format(home=HOME, address=address(TAP), guest=GUEST, port=PORT, limit=PATIENCE,
                                 command=shlex.join(command)), limit=2 * PATIENCE)  # fmt: skip
    found = {"ns": json.loads(told)["ns"], "first": None, "answer": None}
    at = {mark["id"]: mark["sum"] for mark in reversed(lab.marks()) if mark["id"] in (MARK_START, MARK_END, MARK_VMRUN)}
    if at:
        found["first"] = at[MARK_VMRUN]["host_user"] + at[MARK_VMRUN]["host_kernel"] - (
            at[MARK_START]["host_user"] + at[MARK_START]["host_kernel"])
        found["answer"] = at[MARK_END]["instructions"] - at[MARK_START]["instructions"]
    return found


def starts(lab: ExperimentLab, command) -> list[dict]:
    """Some of them, without the first, which fills caches."""
    words = command(lab)
    started(lab, words)
    return [started(lab, words) for _ in range(RUNS)]


def clones(lab: ExperimentLab) -> list[dict]:
    """Of each its own memory, and its share of all that it maps, in MiB."""
    told = lab.shell(_CLONES.format(home=HOME, clones=CLONES, tap=TAP, snapshot=SNAPSHOT, guest=GUEST, port=PORT, limit=PATIENCE,
                                    address_of_tap=address("$tap")), limit=CLONES * PATIENCE)  # fmt: skip
    return [{name: sum(int(kib) for kib in re.findall(rf"(?m)^{field}: +(\d+) kB", smaps)) / 1024
             for name, field in (("own", "Anonymous"), ("share", "Pss"))}
            for smaps in told.split("====\n") if smaps.strip()]  # fmt: skip


def run(lab: ExperimentLab, record) -> None:
    lab.tap(TAP, HOST)
    take(lab)
    boots = attempt(record, "boots", starts, lab, booted)
    restores = attempt(record, "restores", starts, lab, restored)
    found = attempt(record, f"{CLONES} clones", clones, lab)
    tell(lab, record, boots, restores, found)


# What came of it


def least(runs: list[dict], name: str):
    """Other work only adds to a count."""
    values = [one[name] for one in runs if one[name] is not None]
    return min(values) if values else None


def millions(value: int | None) -> str:
    return "not counted" if value is None else f"{value / 1e6:.1f}"


def row(name: str, runs: list[dict]) -> list[str]:
    return [name, millions(least(runs, "first")), millions(least(runs, "answer")), f"{least(runs, 'ns') / 1e6:.0f}"]


def tell(lab: ExperimentLab, record, boots: list[dict], restores: list[dict], found: list[dict]) -> None:
    record.figure("boots", boots)
    record.figure("restores", restores)
    record.figure("clones", found)
    record.table(f"A guest of {MEMORY} that answers a UDP packet, the least of {RUNS} starts",
                 ["start", "the host's instructions until a guest is entered, M", "all instructions to its first answer, M",
                  "time to it, ms"], [row("boot", boots), row("from a snapshot", restores)], emulated=lab.counts)  # fmt: skip
    record.chart("Memory of clones", f"{len(found)} clones: {max(one['own'] for one in found):.2f} MiB of its own at most",
                 "After each has answered once. What it has not written to is the snapshot's file, which all of them share.",
                 [{"name": name, "style": "bars", "x": list(range(1, len(found) + 1)), "y": [one[key] for one in found]}
                  for name, key in (("its own", "own"), ("its share of all that it maps", "share"))],
                 x_label="clone", y_label="MiB")  # fmt: skip
    usual_confounders(record, lab, None)
    record.confounder("Storage", "not in it", "the snapshot is a file in the host's memory")
    record.confounder("Who asks", "in the count", "a program that sends a packet each 5 ms until it is answered")
    claim(record, boots, restores, found)


CLAIM = "A machine goes on from its state, wherever it is, for a small part of what starting it costs."


def claim(record, boots: list[dict], restores: list[dict], found: list[dict]) -> None:
    what = "answer" if least(boots, "answer") is not None else "ns"
    share = least(restores, what) / least(boots, what)
    own = max(one["own"] for one in found)
    measured = (f"to the first answer {share:.3f} of a boot's {'instructions' if what == 'answer' else 'time'}; "
                f"{len(found)} clones with {own:.2f} MiB of their own at most")
    agrees = share <= SHARE_MAX and own <= PRIVATE_MAX
    record.claim("M7", CLAIM, f"{SHARE_MAX} of a boot and {PRIVATE_MAX} MiB at most", measured, "yes" if agrees else "partly",
                 "Memory is mapped from the file and read when it is used.")


def selftest(lab: ExperimentLab, record) -> None:
    """Cheap restores agree, dear ones do not."""
    def runs(first: int, answer: int) -> list[dict]:
        return [{"first": first * 10**6, "answer": (answer + more) * 10**6, "ns": 10**8} for more in range(RUNS)]

    own = [{"own": 1.5 + 0.01 * at, "share": 3.0} for at in range(CLONES)]
    tell(lab, record, runs(8, 900), runs(4, 40), own)
    assert record.data["claims"][0]["agrees"] == "yes"
    assert "0.044 of a boot's instructions; 10 clones with 1.59 MiB" in record.data["claims"][0]["measured"], record.data["claims"]
    claim(record, runs(8, 900), runs(4, 400), own)
    assert record.data["claims"][1]["agrees"] == "partly"

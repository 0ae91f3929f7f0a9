# SPDX-License-Identifier: Apache-2.0
"""A guest whose kit is at work is paused and saved in the middle of it, and goes on in another process; or another kernel does
in its place."""

import json
import re
import subprocess
from pathlib import Path

from api import Api, socket
from matrix import soak
from test_fork import storms
from test_kit import LIMIT, KitGuest, until
from test_snapshot import restored, take

from duetlab.experiment.lab import workload
from duetlab.guest import images, kit, programs

KERNEL = "6.12-amd64"
FORKS, PAUSES = 200, 20

# At once: forks by the host's copy with writers on both vCPUs, the daemon, and counters of a vCPU and of a thread.
WORK = f"""test_fork storm {FORKS} 4 >/tmp/storm & storm=$!
duet-guestd & daemon=$!
workload counters duet task-clock+context-switches 0 1000 20000 >/tmp/cpu & cpu=$!
workload counters duet task-clock+context-switches thread 1000 20000 >/tmp/thread & thread=$!
true"""


def begins(guest: KitGuest, api: Api):
    guest.ask("modprobe duet selftest=1")
    guest.ask("; ".join(line.rstrip() for line in WORK.splitlines()).replace("&;", "&"))
    until(lambda: api.do("GET", "/duet/hints"), lambda found: found.get("machine", {}).get("heartbeat", 0) > 1)
    api.all(*(("PATCH", "/vm", {"state": state}) for _ in range(PAUSES) for state in ("Paused", "Resumed")))


def ends(guest, ask):
    """All of it comes to its end, with what was counted and copied."""
    ask(guest, "kill -0 $storm && kill -0 $cpu && kill -0 $thread")
    ask(guest, "wait $storm && wait $cpu && wait $thread")
    [storm] = storms(ask(guest, "cat /tmp/storm"))
    assert storm["forks"] == FORKS and storm["torn"] == storm["changed"] == storm["wrong"] == 0, storm
    assert ask(guest, "cat /sys/class/misc/duet-heap/fallbacks").strip().splitlines()[-1] == "0"
    for name in ("cpu", "thread"):
        answer = json.loads(re.search(r"^\{.*\}$", ask(guest, f"cat /tmp/{name}"), re.MULTILINE)[0])
        clock, switches = answer["events"]
        assert 0 < clock["count"] <= clock["enabled"] * 1.01 and switches["count"] > 0, answer


@soak
def test_goes_on_in_another_process(folder):
    name, again = socket(), socket()
    files = programs.heap_tests() | {"bin/workload": workload().read_bytes()}
    options = ("--coop", "--pmu", "pv", "--allow", folder, "--api-sock", name)
    with KitGuest(*options, kernel=KERNEL, files=files) as guest:
        api = Api(name)
        begins(guest, api)
        before = api.do("GET", "/duet/hints")
        take(name, f"{folder}/at-work")
    ask = KitGuest.ask
    with restored(f"{folder}/at-work", "--api-sock", again) as guest:
        api = Api(again)
        api.wait()
        after = until(lambda: api.do("GET", "/duet/hints"),
                      lambda found: found["machine"]["heartbeat"] > before["machine"]["heartbeat"])
        # It stood still from the one process's end to the other's start, at least.
        assert after["away_ns"] > before["away_ns"] > 0
        ends(guest, ask)
        api.do("PUT", "/duet/hints", {"wish": "share"})
        assert until(lambda: api.do("GET", "/duet/hints")["share"], lambda found: found["complete"])["pages"] > 0
        ask(guest, "kill $daemon; wait $daemon; rmmod duet && modprobe duet selftest=1 && rmmod duet")
        guest.type("exit 0\n")
        guest.succeed(LIMIT)


SECOND = kit.PREPARE + """
modprobe duet selftest=1 && echo "the second one's kit is there"
duet-guestd &
read -r line
kill $!; wait; rmmod duet && echo "and gone"
"""


def kexecute(directory: Path) -> bytes:
    program = directory / "kexecute"
    subprocess.run(["gcc", "-static", "-O2", "-s", "-o", program, Path(__file__).with_name("kexecute.c")], check=True)
    return program.read_bytes()


@soak
def test_another_kernel_takes_its_place(workspace):
    """By kexec, with the module at work: the second kernel finds a device with which it can begin anew."""
    name, kernel = socket(), "6.1-cloud"
    files = {"bin/kexecute": kexecute(workspace), "vmlinuz": images.kernel(kernel).read_bytes(),
             "initrd": images.initrd(kernel, "base", SECOND, kit.files(kernel)).read_bytes(),
             "bin/workload": workload().read_bytes()} | programs.heap_tests()
    with KitGuest("--coop", "--pmu", "pv", "--api-sock", name, kernel=kernel, files=files) as guest:
        api = Api(name)
        begins(guest, api)
        guest.type("kexecute /vmlinuz /initrd\n")
        guest.wait_for(r"^the second one's kit is there$", LIMIT)
        api.do("PUT", "/duet/hints", {"wish": "share"})
        assert until(lambda: api.do("GET", "/duet/hints")["share"], lambda found: found["complete"])["pages"] > 0
        guest.type("end\n")
        guest.wait_for("^and gone$", LIMIT)
        guest.succeed(LIMIT)

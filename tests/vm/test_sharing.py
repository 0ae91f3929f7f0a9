# SPDX-License-Identifier: Apache-2.0
"""Guests of one image name pages worth sharing; the host's KSM merges them, and takes them apart again."""

import contextlib
import json
import os
import re
import shlex
import time

import pytest
from api import Api
from matrix import soak

from duetlab.experiment.lab import workload
from duetlab.guest import kit, vm

KERNEL = "6.12-amd64"
LIMIT = 600
PAGES = 1024  # of the file that both guests map
KSM = "/sys/kernel/mm/ksm"

GUEST = kit.PREPARE + """
modprobe duet || exit 1
workload library /library PAGES || exit 1
echo "ready"
while read -r line; do
	eval "$line"
	echo "status $?."
done
""".replace("PAGES", str(PAGES))


class Member(vm.Guest):
    def __init__(self, directory: str, name: str):
        self.api = Api(f"{directory}/{name}.sock")
        super().__init__("--coop", "--api-sock", self.api.socket, kernel=KERNEL, memory="256M", script=GUEST,
                         files=kit.files(KERNEL) | {"bin/workload": workload().read_bytes()})

    def ask(self, line: str) -> str:
        """The last line that LINE prints."""
        after = len(self.output)
        self.type(line + "\n")
        found = self.wait_for(r"^status (\d+)\.$", LIMIT, after)
        said = self.output[after:found.start()]
        assert found[1] == "0", f"{line}: {said}"
        return said.strip().splitlines()[-1]

    def sharing(self) -> dict:
        return self.api.do("GET", "/duet/sharing")

    def merged(self) -> int:
        """Pages, by its page tables: KSM's own counts stand still until it looks again."""
        return int(vm.run("awk", "/^KSM:/ { print $2 }", f"/proc/{self.pid}/smaps_rollup").stdout) // 4

    def until(self, holds, what: str) -> dict:
        end = time.monotonic() + LIMIT
        while not holds(found := self.sharing()):
            assert time.monotonic() < end, f"{what}: {found}"
            vm.run("sleep", "0.5")
        return found

    def library(self) -> str:
        found = re.fullmatch(r"([0-9a-f]{32})  /library", self.ask("md5sum /library"))
        assert found, self.output[-300:]
        return found[1]

    def end(self):
        self.type("exit 0\n")
        self.succeed(LIMIT)


def read(name: str) -> str:
    return vm.run("cat", f"{KSM}/{name}").stdout.strip()


@contextlib.contextmanager
def directory():
    path = f"/tmp/sharing-{os.getpid()}"
    vm.run("mkdir", "-p", path)
    try:
        yield path
    finally:
        vm.run("rm", "-rf", path)


@contextlib.contextmanager
def ksm():
    """It looks at some thousand pages a second; put back at the end."""
    if vm.run("test", "-w", f"{KSM}/run", check=False).returncode != 0:
        pytest.skip(f"{KSM}/run cannot be written: it takes root, and a kernel with CONFIG_KSM")
    before = {name: read(name) for name in ("run", "pages_to_scan")}
    vm.run("sh", "-c", f"echo 200 >{KSM}/pages_to_scan; echo 1 >{KSM}/run")
    try:
        yield
    finally:
        vm.run("sh", "-c", "; ".join(f"echo {value} >{KSM}/{name}" for name, value in before.items()))


def looked_at_thrice(guests: tuple[Member, ...]):
    """All that is offered: twice to be merged, and once because a pass may have begun before it was."""
    for guest in guests:
        guest.until(lambda found: found["answers"] > 0, "an answer")
    passes = int(read("full_scans")) + 3
    vm.run("sh", "-c", f"until [ $(cat {KSM}/full_scans) -ge {passes} ]; do sleep 0.5; done")


def test_two_guests():
    with directory() as place, ksm(), Member(place, "one") as one, Member(place, "two") as two:
        both = (one, two)
        for guest in both:
            guest.wait_for("^ready$", LIMIT)
            assert guest.sharing()["state"] == "off" and not guest.sharing()["offered_bytes"]
        # Nobody answers yet.
        one.api.do("PATCH", "/duet/sharing", {"state": "hinted"})
        one.until(lambda found: found["wishes"] > 0, "asked")
        assert one.sharing()["answers"] == 0
        one.api.do("PATCH", "/duet/sharing", {"state": "off"})
        for guest in both:
            guest.ask("duet-guestd & true")
            guest.api.do("PATCH", "/duet/sharing", {"state": "hinted"})
        sums = [guest.library() for guest in both]
        assert sums[0] == sums[1]
        looked_at_thrice(both)
        for guest in both:
            found = guest.sharing()
            assert found["merged_pages"] > PAGES and guest.merged() > PAGES
            assert found["offered_bytes"] > PAGES * 4096
            assert found["offered_bytes"] < 128 << 20, "more than programs and the kernel's constants"
            assert found["runs"] > 1 and found["why"] is None

        # What one writes, the other does not see.
        vm.run("sh", "-c", f"echo 0 >{KSM}/run")
        merged = one.merged()
        distinct = json.loads(one.ask(f"workload burst /library 0 {PAGES} 300"))["distinct"]
        assert one.library() != sums[0] and two.library() == sums[1]
        assert distinct <= merged - one.merged() < PAGES, "each page written to is copied once"

        # Taken back, all is each guest's own, and as it was.
        print(vm.run(str(vm.DUET), "ctl", two.api.socket, "sharing").stdout)
        vm.run(str(vm.DUET), "ctl", two.api.socket, "sharing", "off")
        assert two.merged() == 0 and two.sharing()["offered_bytes"] == 0
        assert two.library() == sums[1]

        # A lease that nobody renews ends, and with it what it brought.
        two.api.do("PATCH", "/duet/sharing", {"state": "blind", "for_ms": 24 * 3600 * 1000})
        found = two.sharing()
        assert (found["state"], found["leased"], found["offered_bytes"]) == ("blind", True, 256 << 20)
        two.api.do("PATCH", "/duet/sharing", {"state": "blind", "for_ms": 1000})
        two.until(lambda found: found["state"] == "off" and not found["offered_bytes"] and not found["leased"], "the lease")
        for guest in both:
            guest.end()


@soak
def test_manager():
    """duetd has guests that name pages share them, at KSM's rate for so many, and puts KSM back."""
    duetd, duetctl = (str(vm.REPOSITORY / "build" / name) for name in ("duetd", "duetctl"))
    with directory() as place, ksm(), Member(place, "one") as one, Member(place, "two") as two:
        vm.run("sh", "-c", f"echo 0 >{KSM}/run; echo 123 >{KSM}/pages_to_scan")
        for guest in (one, two):
            guest.wait_for("^ready$", LIMIT)
            guest.ask("duet-guestd & true")
        command = shlex.join([duetd, "--directory", place, "--socket", f"{place}/duetd", "--memory", "off", "--cpu", "off"])
        vm.run("sh", "-c", f"nohup {command} >{place}/log 2>&1 </dev/null & echo $! >{place}/pid; "
                           f"until [ -S {place}/duetd ]; do sleep 0.1; done")
        try:
            for guest in (one, two):
                guest.until(lambda found: found["state"] == "hinted" and found["leased"]
                            and found["merged_pages"] > PAGES / 2, "duetd has it share")
                assert guest.merged() > 0
            assert read("run") == "1" and read("pages_to_scan") in ("32", "64")
            said = vm.run(duetctl, "--socket", f"{place}/duetd", "explain", "one").stdout
            assert "that its guest names" in said
            assert "hinted" in vm.run(duetctl, "--socket", f"{place}/duetd", "policy").stdout
        finally:
            print(vm.run("cat", f"{place}/log").stdout)
            vm.run("sh", "-c", f"pid=$(cat {place}/pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done")
        assert (read("run"), read("pages_to_scan"), read("advisor_mode")) == ("0", "123", "[none] scan-time")
        for guest in (one, two):
            guest.until(lambda found: found["state"] == "off", "let go")
            assert guest.merged() == 0
            guest.end()

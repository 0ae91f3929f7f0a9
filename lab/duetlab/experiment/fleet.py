# SPDX-License-Identifier: Apache-2.0
"""Identical guests of one kind in one budget of memory, to which another can be added at any time."""

import contextlib
from dataclasses import dataclass

from ..guest import kit
from .lab import HOME, IO_CPU, KERNEL, PORT, VCPU_CPU, ExperimentLab
from .managed import PID, Managed
from .rivals import RIVALS, Slot, duet, stage
from .subject import Subject

FILES_MIB = 8192  # a disk of zeroes; what tenants read comes before what was read at first

# Of the guest's module: it needs far more than it has.
LIES = (("hints.c", "show_machine(working_set(refaults), refaults, pressure);", "show_machine(1ULL << 40, refaults, pressure);"),)


@dataclass(frozen=True)
class Kind:
    """What runs the guests: a RIVAL, else duet; MANAGED by duetd, with HINTS of the guests' kits, which may be LIES."""

    rival: str = ""
    managed: bool = False
    hints: bool = False
    lies: bool = False


@dataclass(frozen=True)
class Tenancy:
    """What each guest has and does; sizes in MiB but READ, bytes of the disk for each request."""

    memory: int
    working_set: int
    cached: int  # of the disk, before the first request
    touched: int  # pages of the working set, for each request
    read: int


# A disk is in the kernel's cache for as long as somebody has it open.
_SERVE = ("ip addr add {address}/24 dev eth0 && ip link set eth0 up && exec 9</dev/vda && "
          "dd if=/dev/vda of=/dev/null bs=1M skip={skip} count={cached} 2>/dev/null && "
          "(workload tenant {address} {port} /dev/vda {working_set} {touched} {read} >/tmp/tenant &) && "
          "until grep -q serving /tmp/tenant; do usleep 100000; done")


class Fleet:
    """BUDGET MiB for all, or no bound. Use as a context manager: leaving it ends all guests. PIN: they share one CPU, which
    nobody else has."""

    def __init__(self, lab: ExperimentLab, kind: Kind, tenancy: Tenancy, budget: int | None = None, pin: bool = True):
        self.lab, self.kind, self.tenancy, self.budget = lab, kind, tenancy, budget
        self.host = Managed(lab)
        self.guests: list[Subject] = []
        self.addresses: list[str] = []  # of those that answer
        self._wired = 0
        self._pin = pin and int(lab.shell("nproc")) > VCPU_CPU
        self._disk = lab.empty_disks({"fleet": FILES_MIB})["fleet"]
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        self._stack.enter_context(self.host)
        self._stage()
        if self.budget:
            self.host.confine(f"{self.budget}M")
        return self

    def __exit__(self, *exc):
        self.host.kill()  # one by one they would take their time
        self._stack.__exit__(*exc)

    def _stage(self) -> None:
        """The unpacked kernel where no guest pays for its memory. duet makes its own at its first start."""
        if self.kind.rival:
            stage(self.lab)
        elif not self.lab.shell(f"ls {HOME}/kernels 2>/dev/null || true"):
            with Subject(self.lab, pin=False):
                pass

    def wire(self, count: int) -> None:
        """Networks for so many more, which start() makes otherwise."""
        for number in range(self._wired, len(self.guests) + count):
            self.lab.tap(_tap(number), address_of(number, 1))
            self._wired = number + 1

    def start(self, count: int) -> None:
        """So many more, together, until the last one's user space is there."""
        self.wire(count)
        first = len(self.guests)
        self.guests += [self._guest(first + nth) for nth in range(count)]
        for guest in self.guests[first:]:
            self._stack.enter_context(guest)

    def add(self) -> None:
        """One more, until it answers."""
        number, tenancy = len(self.guests), self.tenancy
        self.start(1)
        self.guests[-1].command(_SERVE.format(
            address=address_of(number, 2), port=PORT, skip=FILES_MIB // 2, cached=tenancy.cached, read=tenancy.read,
            working_set=tenancy.working_set, touched=tenancy.touched))
        self.addresses.append(address_of(number, 2))
        if self.kind.managed and number == 0:
            self._manage()

    def _guest(self, number: int) -> Subject:
        name = f"vm{number}"
        slot = Slot(_tap(number), f"02:77:20:00:00:{number:02x}", self._disk, self.tenancy.memory)
        wrapper = self.host.wrapper(name) + (("taskset", "-c", str(VCPU_CPU)) if self._pin else ())
        if self.kind.rival:
            return Subject(self.lab, peer=RIVALS[self.kind.rival].peer(slot), pin=False, wrapper=wrapper)
        return Subject(self.lab, *duet(slot), *(self.host.options(name) if self.kind.managed else ()), memory=f"{slot.memory}M",
                       pin=False, kit=self.kind.hints, wrapper=wrapper,
                       files=kit.files(KERNEL, LIES) if self.kind.lies else None)

    def _manage(self) -> None:
        """duetd, not on the CPU that the guests have."""
        budget = ("--budget", f"{self.budget}M") if self.budget else ()
        self.host.start("--memory", "working-set", "--cpu", "off", "--numa", "off", "--sharing", "off", *budget)
        self.lab.shell(f"taskset -acp {IO_CPU} $(cat {PID}) >/dev/null")


def _tap(guest: int) -> str:
    return f"exp{guest}"


def address_of(guest: int, end: int) -> str:
    """The host's END of its network is 1, the guest's 2."""
    return f"10.77.{100 + guest}.{end}"

# SPDX-License-Identifier: Apache-2.0
"""A port of a fixed speed that guests share, and what of each guest's packets comes through it."""

import json
import time
from dataclasses import dataclass

from ..guest import vm
from .lab import PORT, ExperimentLab

POLICE = 77  # the number that the host's traffic control has for the port
WAIT_SECONDS = 120
MODULES = "sch_ingress cls_flower act_police act_gact"


@dataclass(frozen=True)
class Sender:
    """A guest's way to the port: duet's OPTIONS for it, the host's interface where its packets come in, its address and
    the one that it sends to."""

    options: tuple[str, ...]
    device: str
    address: str
    to: str


class Port:
    """RATE bytes a second, with BURST bytes that idleness saves up, for the UDP packets of all SENDERS together: what is
    beyond them is lost, whoever sent it. Linux's traffic control plays it where packets come in from the device, by one
    token bucket for all; behind it the packets have done what they were for and go no further. Use as a context manager."""

    def __init__(self, lab: ExperimentLab, rate: int, burst: int, senders: tuple[Sender, ...]) -> None:
        self._lab, self._senders = lab, senders
        self._rate, self._burst = rate, burst

    def __enter__(self):
        rules = "".join(
            f"tc filter add dev {sender.device} ingress protocol ip pref {nth} flower ip_proto udp src_ip {sender.address} "
            f"dst_port {PORT} action gact pipe action police index {POLICE} action gact drop\n"
            for nth, sender in enumerate(self._senders, 1))
        devices = dict.fromkeys(sender.device for sender in self._senders)
        self._lab.shell(f"for m in {MODULES}; do modprobe -q $m || true; done; set -e\n"
                        f"tc actions add action police rate {8 * self._rate}bit burst {self._burst} mtu 4096 "
                        f"conform-exceed drop/pipe index {POLICE}\n"
                        + "".join(f"tc qdisc add dev {device} ingress\n" for device in devices) + rules)
        return self

    def __exit__(self, *_exc):
        devices = dict.fromkeys(sender.device for sender in self._senders)
        self._lab.shell("".join(f"tc qdisc del dev {device} ingress; " for device in devices)
                        + f"tc actions del action police index {POLICE}; true")

    def counts(self) -> dict[Sender, dict[str, int]]:
        """Packets of each sender: those that came to the port and those that passed it."""
        found = {}
        for nth, sender in enumerate(self._senders, 1):
            told = json.loads(self._lab.shell(f"tc -j -s filter show dev {sender.device} ingress pref {nth}"))
            actions = next(rule["options"]["actions"] for rule in told if "actions" in rule.get("options", {}))
            came, _police, passed = (action["stats"]["packets"] for action in actions)
            found[sender] = {"came": came, "passed": passed}
        return found

    def wait(self, sender: Sender, packets: int) -> None:
        """Until so many more of SENDER's have come."""
        wanted = self.counts()[sender]["came"] + packets
        until = time.monotonic() + WAIT_SECONDS
        while self.counts()[sender]["came"] < wanted:
            if time.monotonic() > until:
                raise vm.GuestFailure(f"{sender.address} sent fewer than {packets} packets in {WAIT_SECONDS} s")

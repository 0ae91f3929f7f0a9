# SPDX-License-Identifier: Apache-2.0
"""Virtual functions (SR-IOV) for guests under measurement."""

import contextlib

from ..guest import vf
from .lab import ExperimentLab
from .record import Skipped


@contextlib.contextmanager
def taken(kind: str, count: int):
    """Addresses of COUNT of them, for duet's --device vfio; KIND as lab/vf has it."""
    try:
        with vf.passed(kind, count) as addresses:
            yield addresses
    except vf.NothingToSplit as error:
        raise Skipped(str(error)) from error


def physical(lab: ExperimentLab, function: str, address: str) -> str:
    """The interface that virtual function FUNCTION was split off, up and with ADDRESS/24 alone."""
    name = lab.shell(f"basename $(ls -d /sys/bus/pci/devices/{function}/physfn/net/* | head -n 1)").strip()
    lab.shell(f"ip addr flush dev {name}; ip addr add {address}/24 dev {name}; ip link set {name} up")
    return name

# SPDX-License-Identifier: Apache-2.0
"""The lab host as QEMU's arguments: one function for each part of the machine."""

from dataclasses import dataclass
from pathlib import Path

from .qemu import Qemu

CPUS = NODES = 2
CPUS_MAX = 64  # as many as the plugins count
AGENT_PORT = 7000


@dataclass(frozen=True)
class Machine:
    qemu: Qemu
    kernel: Path
    memory: int  # MiB
    state: Path  # QEMU runs in it: names of its own files are relative
    repository: Path
    cache: Path
    plugin: Path | None = None
    profile: Path | None = None
    icount: bool = False
    kernel_options: str = ""
    tsc_ratio: float = 1.0  # of its TSC's frequency to the machine's
    pmu: bool = False  # it has performance counters
    cpus: int = CPUS  # as many on each node


def _quoted(path: Path) -> str:
    """Within QEMU's options a comma is doubled."""
    return str(path).replace(",", ",,")


def _cpu(machine: Machine) -> list[str]:
    # Five-level page tables only lengthen every nested walk.
    accel = "tcg,thread=single" if machine.icount else "tcg,thread=multi"
    args = ["-machine", "q35", "-accel", accel]
    if machine.icount:
        args += ["-icount", "shift=0"]
    return args + ["-cpu", "max,la57=off", "-smp", str(machine.cpus)]


def _memory(machine: Machine) -> list[str]:
    args = ["-m", str(machine.memory)]
    each = machine.cpus // NODES
    for node in range(NODES):
        args += ["-object", f"memory-backend-ram,id=ram{node},size={machine.memory // NODES}M"]
        args += ["-numa", f"node,nodeid={node},cpus={node * each}-{(node + 1) * each - 1},memdev=ram{node}"]
    return args


def _boot(machine: Machine) -> list[str]:
    options = [
        "console=ttyS0",
        "loglevel=4",
        "panic=-1",  # with -no-reboot: QEMU ends, which is how a panic is noticed
        "intel_iommu=on",
        "iommu=pt",
        "tsc=reliable",  # an emulated CPU held up by its host is no unstable TSC
        "no_timer_check",  # ... nor does its timer not work when ten ticks come late
        "mitigations=off",
        machine.kernel_options,
    ]
    args = ["-kernel", str(machine.kernel), "-initrd", "initramfs"]
    args += ["-append", " ".join(options).strip(), "-no-reboot", "-serial", "file:console.log"]
    for directory in machine.qemu.firmware:
        args += ["-L", str(directory)]
    return args


def _shares(machine: Machine) -> list[str]:
    shares = (
        ("system", Path("/"), True),
        ("host", Path("/"), True),
        ("cache", machine.cache, False),
        ("repository", machine.repository, False),
    )
    args = []
    for tag, path, readonly in shares:
        options = f"local,path={_quoted(path)},mount_tag={tag},security_model=none,multidevs=remap"
        args += ["-virtfs", options + (",readonly=on" if readonly else "")]
    return args


def _devices(machine: Machine) -> list[str]:
    drive = "if=none,format=raw,discard=unmap,file="
    args = ["-netdev", f"user,id=own,hostfwd=tcp:127.0.0.1:0-:{AGENT_PORT}"]
    args += ["-device", "virtio-net-pci,netdev=own,romfile="]
    args += ["-drive", drive + "scratch.raw,id=scratch", "-device", "virtio-blk-pci,drive=scratch"]
    args += ["-device", "virtio-rng-pci"]
    args += ["-device", "nvme-subsys,id=subsystem", "-device", "pcie-root-port,id=port0,slot=1"]
    args += ["-drive", drive + "nvme.raw,id=namespace"]
    args += [
        "-device",
        "nvme,bus=port0,serial=duet,subsys=subsystem,sriov_max_vfs=2,sriov_vq_flexible=4,"
        "sriov_vi_flexible=2,max_ioqpairs=6,msix_qsize=5",
        "-device",
        "nvme-ns,drive=namespace,shared=on",
    ]
    if machine.qemu.version >= (8, 0, 0):
        args += ["-device", "pcie-root-port,id=port1,slot=2", "-netdev", "user,id=outside"]
        args += ["-device", "igb,bus=port1,netdev=outside,romfile="]
    return args


def environment(machine: Machine) -> dict[str, str]:
    """What the mends in QEMU look at (lab/qemu/)."""
    return {"DUET_LAB_TSC_RATIO": str(machine.tsc_ratio), "DUET_LAB_PMU": str(int(machine.pmu))}


def arguments(machine: Machine) -> list[str]:
    args = [str(machine.qemu.binary), "-nodefaults", "-no-user-config", "-display", "none"]
    args += ["-name", f"duet-lab,process=duet-lab-{machine.state.name}"]
    args += _cpu(machine) + _memory(machine)
    # The IOMMU comes before the devices that it translates for.
    args += ["-device", "intel-iommu,intremap=on,caching-mode=on,aw-bits=48"]
    args += _boot(machine) + _shares(machine) + _devices(machine)
    args += ["-qmp", "unix:qmp.sock,server=on,wait=off"]
    if machine.plugin:
        args += ["-plugin", f"file={_quoted(machine.plugin)},socket=count.sock"]
    if machine.profile:
        args += ["-plugin", f"file={_quoted(machine.profile)},socket=profile.sock"]
    return args

# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels boot, see their hardware, and power off."""

import json
import re

import pytest

from duetlab.guest import vm
from matrix import SOAK, soak, some

LOOK = """
echo "cpus $(nproc)"
echo "release $(uname -r)"
for device in /sys/bus/virtio/devices/*; do
	echo "virtio $(cat $device/device) $(basename $(readlink $device/driver)) $(cut -c35 $device/features)"
done
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -T 2 -s /etc/udhcpc/default.script >/dev/null 2>&1
ip route | grep -q "^default via .* dev eth0" && echo "dhcp ok"
head -c 1000000 /dev/urandom >/tmp/data
dd if=/tmp/data of=/dev/vda bs=64k conv=fsync 2>/dev/null && echo 3 >/proc/sys/vm/drop_caches
head -c 1000000 /dev/vda | cmp - /tmp/data && echo "disk ok"
[ "$(head -c 64 /dev/hwrng | wc -c)" = 64 ] && echo "entropy ok"
"""

MATRIX = [
    # kernel, as vmlinux, ring, CPUs
    ("6.1-cloud", False, "split", 4),
    ("6.1-amd64", True, "packed", 2),
    ("6.12-amd64", False, "packed", 1),
    ("6.12-amd64", True, "split", 2),
    ("6.1-cloud", False, "packed", 1),
    ("6.1-cloud", True, "packed", 4),
    ("6.1-amd64", False, "split", 1),
]


@pytest.mark.parametrize("kernel,vmlinux,ring,cpus", some(MATRIX, 3))
def test_kernel(kernel, vmlinux, ring, cpus, workspace):
    disk = workspace / "disk.img"
    disk.write_bytes(b"\0" * (16 << 20))
    with vm.Guest("--cpus", str(cpus), "--disk", f"path={disk}", "--net", "user", "--ring", ring,
                  kernel=kernel, vmlinux=vmlinux, script=LOOK) as guest:
        console = guest.succeed()
        stats = guest.stats
    assert f"cpus {cpus}\n" in console
    for word in ("dhcp ok", "disk ok", "entropy ok"):
        assert f"{word}\n" in console
    # The column cut out of the features is bit 34, RING_PACKED.
    assert console.count(f" {int(ring == 'packed')}\n") >= 3, console
    assert stats["machine"]["kernel_format"] == ("vmlinux" if vmlinux else "bzImage")
    check_statistics(stats, cpus)


def check_statistics(stats, cpus):
    assert len(stats["vcpus"]) == cpus
    for vcpu in stats["vcpus"]:
        assert vcpu["exits"]["total"] == sum(n for c, n in vcpu["exits"].items() if c != "total")
    assert stats["exits"]["by_cause"]["total"] == sum(v["exits"]["total"] for v in stats["vcpus"])
    devices = {device["name"]: device for device in stats["devices"]}
    for name in ("disk0", "net0"):
        queue = devices[name]["queues"]["queue0"]
        assert {"kicks", "interrupts", "chains"} <= queue.keys()
        assert queue["chains"] > 0
    assert stats["memory"]["outside_pss"] > 0
    assert stats["memory"]["guest_ram"] == 512 << 20
    json.dumps(stats)


def test_the_guests_own_decompressor(workspace):
    with vm.Guest("--kernel-unpack", "guest", script="echo through its own decompressor") as guest:
        assert "through its own decompressor" in guest.succeed()


def test_kernel_irqchip(workspace):
    disk = workspace / "disk.img"
    disk.write_bytes(b"\0" * (16 << 20))
    with vm.Guest("--irqchip", "kernel", "--cpus", "2", "--net", "user", "--disk", f"path={disk}",
                  script=LOOK) as guest:
        console = guest.succeed()
    assert "dhcp ok" in console and "disk ok" in console


@soak
def test_addresses_are_randomised():
    """Two starts put the kernel's text at two places; nokaslr at one."""
    script = "grep -m1 ' _stext$' /proc/kallsyms"

    def text(*options):
        with vm.Guest(*options, script=script) as guest:
            guest.succeed()
            return guest.wait_for(r"^([0-9a-f]{16}) T _stext").group(1)

    assert text() != text()
    assert text("--cmdline", "nokaslr") == "ffffffff81000000"


def test_pv_features_are_what_cpuid_says():
    script = "dmesg | grep -iE 'kvm|steal|pv' | sed 's/^/log: /'; echo done"
    with vm.Guest("--cpus", "2", script=script) as guest:
        everything = guest.succeed()
    with vm.Guest("--cpus", "2", "--pv", "clock", script=script) as guest:
        clock = guest.succeed()
    with vm.Guest("--cpus", "2", "--pv", "-clock", script=script) as guest:
        no_clock = guest.succeed()
    assert "kvm-clock: Using msrs" in everything and "kvm-clock: Using msrs" in clock
    assert "kvm-clock: Using msrs" not in no_clock
    for words in ("setup PV IPIs", "PV sched yield", "pv remote TLB flush"):
        assert words in everything and words not in clock, words


@pytest.mark.parametrize("kernel,options", some([
    ("6.12-amd64", ("--cmdline", "no-kvmclock", "--cpus", "2")),
    ("6.1-cloud", ("--cmdline", "nopv")),
    ("6.1-cloud", ("--cmdline", "no-kvmclock", "--irqchip", "kernel")),
    ("6.1-cloud", ("--pv", "none")),
    ("6.1-cloud", ("--cmdline", "no-kvmclock")),
], 2))
def test_without_kvmclock(kernel, options):
    """The TSC's frequency is told, the PM timer is there; time goes as the host's does. With nopv the kernel is
    as one that knows nothing of KVM."""
    script = '''
echo "source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
echo "there $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)"
sleep 3; echo slept
'''
    with vm.Guest(*options, kernel=kernel, script=script) as guest:
        there = guest.wait_for(r"^there (.*)$").group(1).split()
        guest.wait_for("^slept")
        assert "kvm-clock" not in guest.wait_for(r"^source (.*)$").group(1)
        assert "acpi_pm" in there
        guest.succeed()


@pytest.mark.parametrize("options", some([(), ("--irqchip", "kernel")]))
def test_acpi_off(options, workspace):
    """The MP table has CPUs and interrupts: all CPUs are up, a disk and a line (the serial port) work. The cloud
    kernel is built without a reader of it."""
    disk = workspace / "disk.img"
    disk.write_bytes(b"\0" * (16 << 20))
    with vm.Guest("--cpus", "2", "--cmdline", "acpi=off", "--net", "user", "--disk", f"path={disk}", *options,
                  kernel="6.1-amd64",
                  script=LOOK + "echo ready; read line; echo got $line; poweroff -f") as guest:
        guest.wait_for("^ready")
        guest.type("hello\n")
        guest.wait_for("got hello")
        guest.kill()
    assert "cpus 2\n" in guest.output
    assert "dhcp ok" in guest.output and "disk ok" in guest.output


def test_smbios():
    """Names, UUID and serial number; the same after a reboot."""
    script = '''
cd /sys/class/dmi/id
echo "is $(cat sys_vendor)/$(cat product_name)/$(cat product_serial)/$(cat product_uuid)/$(cat chassis_serial)."
read line
[ "$line" = again ] && reboot -f
exit 0
'''
    uuid = "6f1c8e52-0b7d-4f1a-9c3e-2d5b7a4e9f10"
    with vm.Guest("--uuid", uuid, "--serial-number", "SN-1", "--product", "Box", script=script) as guest:
        expected = rf"^is duet/Box/SN-1/{uuid}/SN-1\.$"
        guest.wait_for(expected)
        after = len(guest.output)
        guest.type("again\n")
        guest.wait_for(expected, after=after)
        guest.type("end\n")
        guest.succeed()


@pytest.mark.parametrize("nested,seen", [("off", "none"), ("on", "svm|vmx")])
def test_nested(nested, seen):
    script = 'echo "sees $(grep -o -m1 -w -E "svm|vmx" /proc/cpuinfo | head -n 1 || true)."'
    with vm.Guest("--nested", nested, script=script) as guest:
        guest.succeed()
        found = guest.wait_for(r"^sees (\w*)\.").group(1) or "none"
    assert re.fullmatch(seen, found)


def test_many_cpus():
    """As many as there may be in make soak: each costs the lab seconds."""
    cpus = 64 if SOAK else 6
    script = "echo possible $(cat /sys/devices/system/cpu/possible) online $(nproc)"
    with vm.Guest("--cpus", str(cpus), memory="1G", script=script) as guest:
        console = guest.succeed(limit=400)
        assert len(guest.stats["vcpus"]) == cpus
    assert f"possible 0-{cpus - 1} online {cpus}\n" in console


def test_memory_above_the_hole():
    with vm.Guest(memory="5G", script="grep MemTotal /proc/meminfo") as guest:
        guest.succeed(limit=600)
        assert int(guest.wait_for(r"MemTotal: +(\d+) kB").group(1)) > 4.5 * 2**20

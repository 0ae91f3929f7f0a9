# SPDX-License-Identifier: Apache-2.0
"""Passthrough: virtual functions of an NVMe controller and of a NIC, split off by lab/vf."""

import contextlib
import signal
import subprocess
import time

import pytest
from api import socket

from duetlab.guest import rootfs, vf, vm
from matrix import some

ROOT = ("--cmdline", "duet.root=/dev/vda duet.rootflags=ro")
# The cloud kernels have no igbvf.
NIC_KERNEL = "6.1-amd64"
VF_MAC = "52:54:00:ab:cd:01"  # lab/vf gives it
WAIT_FOR_NVME = "while [ ! -b /dev/nvme0n1 ]; do usleep 100000 2>/dev/null || sleep 0.1; done\n"


@pytest.fixture(scope="module")
def nvme():
    """A virtual NVMe controller's address, and the block device that shows the same namespace."""
    with passed("nvme") as function:
        yield function


@contextlib.contextmanager
def passed(kind):
    try:
        with vf.passed(kind) as functions:
            yield functions[0]
    except vf.NothingToSplit as error:
        pytest.skip(str(error))


def guest(function, *options, **more):
    """A guest in the Debian root image with the function."""
    return vm.Guest("--disk", f"path={rootfs.rootfs()},readonly=on", *ROOT, "--device",
                    f"vfio,host={function}", *options, **more)


def refused(function, *options):
    """What duet says when it does not take the function."""
    return vm.run(str(vm.DUET), "run", "--kernel", str(vm.images.kernel("6.1-cloud")), "--device",
                  f"vfio,host={function}", *options, check=False)


def passed_stats(stats):
    return next(device for device in stats["devices"] if device["name"] == "vfio0")


def test_nvme_sees_the_hosts_namespace(nvme):
    """Both directions against what the host sees; a verifying pass over another part."""
    script = WAIT_FOR_NVME + """
echo "guest read $(dd if=/dev/nvme0n1 bs=1M count=2 iflag=direct status=none | sha256sum)"
dd if=/dev/urandom of=/tmp/bytes bs=1M count=2 status=none
echo "guest wrote $(sha256sum </tmp/bytes)"
dd if=/tmp/bytes of=/dev/nvme0n1 bs=1M seek=64 oflag=direct conv=fsync status=none
fio --name=verify --filename=/dev/nvme0n1 --offset=128M --size=2M --direct=1 --ioengine=libaio \
  --iodepth=16 --rw=randwrite --bs=4k --verify=crc32c --verify_fatal=1 --do_verify=1 >/dev/null &&
  echo "fio verified"
"""
    namespace = vm.run("sh", "-c", "ls /dev/nvme?n1").stdout.split()[0]
    wrote = vm.run("sh", "-c", f"dd if=/dev/urandom of=/tmp/there bs=1M count=2 status=none; dd if=/tmp/there "
                               f"of={namespace} bs=1M oflag=direct status=none; sha256sum </tmp/there").stdout.split()[0]
    with guest(nvme, script=script) as machine:
        console = machine.succeed(limit=300)
        stats = passed_stats(machine.stats)
    read = vm.run("sh", "-c", f"dd if={namespace} bs=1M skip=64 count=2 iflag=direct status=none | "
                              "sha256sum").stdout.split()[0]
    assert f"guest read {wrote}" in console
    assert f"guest wrote {read}" in console
    assert "fio verified" in console
    assert stats["host"] == nvme and stats["interrupt_kind"] == "msix" and stats["mapped_bytes"] > 0
    assert stats["interrupt_failures"] == 0


def statistics(machine):
    """As of now."""
    machine.stats_path.unlink(missing_ok=True)
    machine.signal(signal.SIGUSR1)
    until = time.monotonic() + 60
    while not machine.stats_path.exists():
        assert time.monotonic() < until, "no statistics after SIGUSR1"
        time.sleep(0.1)
    return machine.stats


def test_io_without_exits(nvme, record_property):
    """Thousands of requests, and none of them comes to user space."""
    script = WAIT_FOR_NVME + """
read line
fio --name=r --filename=/dev/nvme0n1 --direct=1 --rw=randread --bs=4k --size=256M --number_ios=2000 \
  --ioengine=libaio --iodepth=4 --output=/tmp/out --output-format=json
grep total_ios /tmp/out | head -n 1; echo "measured"
read line
"""
    with guest(nvme, script="stty -echo; echo ready\n" + script) as machine:
        machine.wait_for("^ready")
        before = statistics(machine)
        machine.type("go\n")
        requests = int(machine.wait_for(r'"total_ios" : (\d+)', limit=300).group(1))
        machine.wait_for("^measured")
        after = statistics(machine)
        machine.type("end\n")
        machine.succeed()
    trapped = sum(passed_stats(after)[name] - passed_stats(before)[name]
                  for name in ("trapped_reads", "trapped_writes"))
    mmio = after["exits"]["by_cause"]["mmio"] - before["exits"]["by_cause"]["mmio"]
    print(f"{requests} requests: {trapped} exits to the passed function, {mmio} MMIO exits of all devices")
    record_property("requests", requests)
    record_property("trapped", trapped)
    assert requests >= 2000
    assert trapped == 0


def test_restart(nvme):
    """The guest reboots: the function is reset and works again."""
    script = WAIT_FOR_NVME + """
dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 && echo "read"
echo b >/proc/sysrq-trigger; sleep 60
"""
    with vm.Guest("--device", f"vfio,host={nvme}", script=script) as machine:
        first = machine.wait_for("^read")
        machine.wait_for("^read", after=first.end())


UNPLUGGED = """
stty -echo
while read -r line; do
  case $line in
  there) ls /sys/class/nvme; echo "there $(ls /sys/class/nvme | wc -l)" ;;
  slow) (dd if=/dev/nvme0n1 of=/dev/null bs=1M count=64 iflag=direct; echo "dd $?") 2>/dev/null & echo "reading" ;;
  end) break ;;
  esac
done
"""


def ctl(sock, *words):
    return vm.run(str(vm.DUET), "ctl", sock, *words, check=False, limit=vm.BOOT_LIMIT)


def test_unplugged_and_moved(nvme):
    """A guest that drives a function is refused, lets go of it while it works with it, and moves."""
    sock, where = socket(), f"/tmp/vf-move-{time.monotonic_ns()}"
    with vm.Guest("--device", f"vfio,host={nvme}", "--api-sock", sock, kernel=NIC_KERNEL,
                  script=WAIT_FOR_NVME + "echo ready\n" + UNPLUGGED) as machine:
        machine.wait_for("^ready")
        assert "cannot be saved" in ctl(sock, "migrate", f"unix:{where}").stderr
        assert "there is no such device" in ctl(sock, "unplug", "vfio7").stderr
        machine.type("slow\n")
        machine.wait_for("^reading")
        with vm.Guest(peer=lambda *_: [str(vm.DUET), "run", "--incoming", f"unix:{where}", "--log", "info"]) as there:
            there.wait_for("waiting for a machine at")
            moved = ctl(sock, "migrate", f"unix:{where}", "--unplug", "--downtime", "5000")
            print(moved.stdout, moved.stderr)
            assert moved.returncode == 0, moved.stderr
            assert "vfio0: unplugged" in moved.stdout and "moved: it stood still" in moved.stdout
            assert machine.finish() == 0
            there.type("there\n")
            there.wait_for(r"^there 0$", limit=vm.BOOT_LIMIT)
            there.type("end\n")
            assert there.finish() == 0
    # It is the host's again, and another machine may have it.
    with vm.Guest("--device", f"vfio,host={nvme}", script=WAIT_FOR_NVME + "echo found\n") as machine:
        machine.wait_for("^found")


def test_bar_over_memory(nvme):
    """A hostile driver lays the function's registers over the guest's RAM."""
    script = WAIT_FOR_NVME + """
slot=$(basename $(readlink /sys/class/nvme/nvme0/device))
echo $slot >/sys/bus/pci/drivers/nvme/unbind
low=$(setpci -s $slot BASE_ADDRESS_0); high=$(setpci -s $slot BASE_ADDRESS_1)
setpci -s $slot COMMAND=0
for place in 00100000 01000000 1fffc000; do
  setpci -s $slot BASE_ADDRESS_1=0 BASE_ADDRESS_0=$place COMMAND=6
  setpci -s $slot COMMAND=0
done
setpci -s $slot BASE_ADDRESS_0=$low BASE_ADDRESS_1=$high
echo $slot >/sys/bus/pci/drivers/nvme/bind
while [ ! -b /dev/nvme0n1 ]; do sleep 0.1; done
dd if=/dev/nvme0n1 of=/dev/null bs=1M count=1 iflag=direct status=none && echo "read again"
"""
    with guest(nvme, script=script) as machine:
        console = machine.succeed()
    assert "read again" in console
    for place in ("0x100000", "0x1000000", "0x1fffc000"):
        assert f"BAR 0 put at {place}, which is not free" in console


def test_refusals(nvme):
    absent = refused("0000:7f:1f.7")
    assert absent.returncode == 1 and "no such PCI function" in absent.stderr
    physical = vm.run("readlink", f"/sys/bus/pci/devices/{nvme}/physfn").stdout.strip()[-12:]
    other = refused(physical)
    assert other.returncode == 1 and "it belongs to the driver nvme" in other.stderr
    malformed = refused("nonsense")
    assert malformed.returncode == 2 and "no PCI address" in malformed.stderr
    for result in (absent, other, malformed):
        assert "--device" in result.stderr and result.stderr.count("\n") == 1


def test_in_use(nvme):
    """It is nobody else's, and neither kept nor moved: the machine goes on."""
    sock = socket()
    with vm.Guest("--device", f"vfio,host={nvme}", "--api-sock", sock, "--allow", "/tmp",
                  script="echo ready; read line") as machine:
        machine.wait_for("^ready")
        second = refused(nvme)
        assert second.returncode == 1 and "is in use" in second.stderr
        for words in (("snapshot", f"{sock}.kept"), ("migrate", f"unix:{sock}.there")):
            held = vm.run(str(vm.DUET), "ctl", sock, *words, check=False)
            assert held.returncode == 1
            assert f"vfio,host={nvme}: what it holds is in the hardware and cannot be saved" in held.stdout + held.stderr
        assert vm.run("test", "-e", f"{sock}.kept", check=False).returncode
        machine.type("end\n")
        machine.succeed()


def test_locked_memory(nvme):
    """A user who may lock too little memory is told how much it takes."""
    command = f"ulimit -l 1024; exec {vm.DUET} run --memory 256M --kernel {vm.images.kernel('6.1-cloud')} " \
              f"--device vfio,host={nvme}"
    result = vm.run("setpriv", "--bounding-set", "-ipc_lock", "sh", "-c", command, check=False)
    assert result.returncode == 1
    assert "256 MiB of guest memory must be locked" in result.stderr and "1024 KiB" in result.stderr


@pytest.mark.parametrize("irqchip", some(["split", "kernel"]))
def test_intx(irqchip):
    """The physical controller, in a guest that may use no messages."""
    script = """
while [ ! -b /dev/nvme0n1 ]; do usleep 100000; done
dd if=/dev/nvme0n1 of=/dev/null bs=64k count=16 && echo "read"
grep -E 'IO-APIC.*nvme' /proc/interrupts
"""
    with physical_nvme() as function, vm.Guest(
            "--device", f"vfio,host={function}", "--irqchip", irqchip, "--cmdline", "pci=nomsi",
            script=script) as machine:
        console = machine.succeed()
        stats = passed_stats(machine.stats)
    assert "read" in console and "fasteoi   nvme" in console
    assert stats["interrupt_kind"] == "intx" and stats["vectors"] == 1
    assert (stats["intx"] > 0) == (irqchip == "split")


@contextlib.contextmanager
def physical_nvme():
    """Only in the lab: on hardware it may hold the system."""
    if vm.run("test", "-e", "/scratch", check=False).returncode:
        pytest.skip("whole controllers are passed in the lab alone")
    vm.run("lab/vf", "give", "nvme")
    function = vm.run("sh", "-c", "lab/vf list | sed -n 's/ nvme .*//p'").stdout.split()[0]
    vm.run("lab/vf", "pass", function)
    try:
        yield function
    finally:
        vm.run("lab/vf", "return", function)


def test_nic():
    """A lease over the virtual NIC, and a bulk transfer both ways through it."""
    script = """
card=$(ls /sys/bus/pci/drivers/igbvf/*/net | tail -n 1)
ip link set $card up
busybox udhcpc -i $card -n -q -t 10 -T 3 >/dev/null 2>&1 && echo "dhcp ok"
iperf3 -c 10.0.2.2 -p PORT -n 5M && echo "sent"
iperf3 -c 10.0.2.2 -p PORT -n 5M -R && echo "received"
"""
    if vm.run("test", "-e", "/scratch", check=False).returncode:
        pytest.skip("no peer is known outside the lab")
    # The far end of QEMU's user network is the machine that the lab runs on.
    peer = subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", "5317", "--forceflush"],
                            stdout=subprocess.PIPE, text=True)
    try:
        while "listening" not in peer.stdout.readline():
            assert peer.poll() is None, "iperf3 -s ended"
        with passed("net") as function, guest(function, kernel=NIC_KERNEL,
                                              script=script.replace("PORT", "5317")) as machine:
            console = machine.succeed(limit=300)
            stats = passed_stats(machine.stats)
    finally:
        peer.terminate()
        peer.wait()
    for word in ("dhcp ok", "sent", "received"):
        assert f"{word}\n" in console
    assert stats["interrupt_kind"] == "msix" and stats["vectors"] == 3


STANDBY = """
stty -echo
for link in /sys/class/net/*; do ls $link | grep -q ^lower_ && master=$(basename $link); done
echo "members $(ls /sys/class/net/$master | grep -c ^lower_)"
ip addr add 192.168.82.2/24 dev $master; ip link set $master up
echo ready
while read -r line; do
  case $line in
  ping) ip neigh flush dev $master; ping -c 1 -W 5 192.168.82.1 >/dev/null 2>&1; echo "ping $?" ;;
  members) echo "members $(ls /sys/class/net/$master | grep -c ^lower_)" ;;
  end) break ;;
  esac
done
"""


def test_standby_takes_over():
    """A virtio network of the same address stands by; it is what is left when the function is unplugged."""
    sock = socket()
    with passed("net") as function, vm.tap("192.168.82.1/24", vnet_hdr=True) as tap, vm.Guest(
            "--device", f"vfio,host={function}", "--net", f"tap,ifname={tap},mac={VF_MAC},standby=on", "--api-sock", sock,
            kernel=NIC_KERNEL, script=STANDBY) as machine:
        machine.wait_for("^members 2")
        machine.wait_for("^ready")
        # The function leads somewhere else, where this host is heard, but does not answer.
        machine.type("ping\n")
        machine.wait_for("^ping 1")
        unplugged = ctl(sock, "unplug", "vfio0")
        assert unplugged.returncode == 0, unplugged.stderr
        after = len(machine.output)
        machine.type("members\nping\n")
        machine.wait_for("^members 1", after=after)
        machine.wait_for("^ping 0", after=after)
        machine.type("end\n")
        machine.succeed()

# SPDX-License-Identifier: Apache-2.0
"""The emulated end of the spectrum in whole: stock kernels with an 82540EM and an IDE disk, every byte
checked. The root file system alone is on virtio."""

import re

import pytest

from duetlab.guest import rootfs, vm
from matrix import some
from test_ide import PROBE, drive, snapshot

MAC = "52:54:00:12:34:56"
BULK = 2_000_000
VERIFY = "fio --name=verify --filename=/dev/sda --direct=1 --ioengine=libaio --verify=crc32c " \
         "--verify_fatal=1 --do_verify=1 --randrepeat=0 --output-format=terse"

# Sends pseudo-random bytes to the first caller, then takes what the second sends; tells both sums.
PEER = """
import hashlib, random, socket
server = socket.create_server(("0.0.0.0", 7001))
print("listening", flush=True)
data = random.Random(7).randbytes(%d)
caller, _ = server.accept()
caller.sendall(data)
caller.close()
print("sent", hashlib.sha256(data).hexdigest(), flush=True)
caller, _ = server.accept()
total = hashlib.sha256()
while piece := caller.recv(65536):
    total.update(piece)
print("received", total.hexdigest(), flush=True)
"""

# The other end of PEER, with the host's address in $peer.
CARRY = f"""
mkfifo /tmp/silent
busybox nc $peer 7001 <>/tmp/silent | sha256sum | sed 's/^/came /'
head -c {BULK} /dev/urandom >/tmp/data
sha256sum </tmp/data | sed 's/^/went /'
busybox nc $peer 7001 </tmp/data && echo "all sent"
"""


def device(guest):
    return next(d for d in guest.stats["devices"] if d["name"] == "net0")


def service(word, *command):
    """COMMAND beside the guest, from the line with WORD on."""
    return vm.running(word, *vm.lab_command(*command))


def peer():
    return service("listening", "python3", "-c", PEER % BULK)


def check_carried(console, process):
    """Call it when the guest is done: both ends saw the same bytes, both ways."""
    sums = dict(line.split() for line in process.stdout.read().splitlines())
    assert f"came {sums['sent']}" in console and f"went {sums['received']}" in console


NETWORK = """
modprobe e1000
ip addr add 192.168.77.2/24 dev eth0
ip link set eth0 up
carrier() {
	while [ "$(cat /sys/class/net/eth0/carrier)" != 1 ]; do sleep 0.1; done
}
carrier
echo "driver $(basename "$(readlink /sys/class/net/eth0/device/driver)") $(cat /sys/class/net/eth0/address)"
ping -q -c 5 -i 0.2 -s 1400 $peer && echo "ping ok"
iperf3 -c $peer -n 4M && echo "iperf sent"
iperf3 -c $peer -n 4M -R && echo "iperf received"
"""

SELF_TEST = """
ethtool -t eth0 offline; echo "self-test status $?"
carrier
ping -q -c 2 $peer && echo "ping after it ok"
echo "errors" $(cat /sys/class/net/eth0/statistics/*_errors)
echo "resent" $(grep '^Tcp: [0-9]' /proc/net/snmp | cut -d' ' -f13)
"""

# The module's parameter is what libata.dma=0 on the command line becomes.
DISK = """
echo "verified by DMA"
read -r line
modprobe -r sd_mod ata_piix
modprobe -r libata
modprobe libata dma=0
"""

TROUBLE = """
echo "guest $(sha256sum </dev/sda)"
dmesg | grep -E 'Hang|WATCHDOG|I/O error|ata[0-9.]+: .*(exception|failed|error|lost)' | sed 's/^/trouble: /'
"""


def verify(most, size):
    """Every block carries its checksum."""
    return f"{VERIFY} --rw=randwrite --bsrange=512-{most} --iodepth=8 --size={size} && echo 'fio ok'\n"


@pytest.mark.parametrize("kernel", some(["6.12-amd64", "6.1-amd64"]))
def test_stock_kernel(kernel, local_disk):
    disk = local_disk("4M")
    script = ("peer=192.168.77.1\n" + NETWORK + CARRY + SELF_TEST + PROBE + verify("128k", "4M") + DISK + PROBE +
              verify("16k", "256k") + TROUBLE)
    with vm.tap() as name, peer() as process, service("listening", "iperf3", "-s", "--forceflush"), vm.Guest(
            "--disk", f"path={rootfs.rootfs()},readonly=on", "--cmdline", "duet.root=/dev/vda duet.rootflags=ro",
            "--net", f"tap,ifname={name},model=e1000,mac={MAC}", "--disk", f"path={disk},model=ide",
            kernel=kernel, script=script) as guest:
        guest.wait_for("^verified by DMA$", limit=400)
        by_dma = drive(snapshot(guest), "disk1")
        guest.type("\n")
        console = guest.succeed(limit=400)
        check_carried(console, process)
        check_network(console, device(guest))
        check_disk(console, by_dma, drive(guest.stats, "disk1"))
    of_guest = re.search(r"^guest (\w+)", console, re.MULTILINE).group(1)
    assert vm.run("sha256sum", disk).stdout.split()[0] == of_guest
    assert "trouble: " not in console


def check_network(console, net):
    for words in (f"driver e1000 {MAC}", "ping ok", "iperf sent", "iperf received", "all sent", "ping after it ok",
                  "The test result is PASS", "self-test status 0"):
        assert f"{words}\n" in console, words
    assert re.findall(r"offline\)\s+(\d+)", console) == ["0"] * 5
    assert set(re.search("^errors (.*)$", console, re.MULTILINE).group(1).split()) == {"0"}
    assert net["type"] == "e1000" and net["link_up"] == 1
    assert net["dropped"] == 0 and net["dma_errors"] == 0
    # iperf3 stops when its bytes are in the socket.
    assert net["bytes_sent"] > 2e6 + BULK and net["bytes_received"] > 2e6 + BULK
    registers = net["registers"]
    # Of the self-test; segmentation: fewer doorbells than frames.
    assert registers["ICS write"] >= 10 and registers["MTA read"] >= 512
    assert net["interrupts"] > 0 and registers["ICR read"] > 0
    assert 0 < registers["TDT write"] < net["frames_sent"]
    frames = net["frames_sent"] + net["frames_received"]
    print(f"{sum(registers.values()) / frames:.2f} register accesses for each of {frames} frames;",
          re.search("^resent.*$", console, re.MULTILINE).group())


def check_disk(console, by_dma, both):
    assert console.count("fio ok\n") == 2
    assert both["errors"] == 0
    assert by_dma["bytes_written"] >= 4 << 20 and by_dma["dma_transfers"] >= 50
    # IDENTIFY alone comes through the data port.
    assert by_dma["pio_accesses"] <= 128 * 16
    written = both["bytes_written"] - by_dma["bytes_written"]
    assert written >= 256 << 10
    assert both["dma_transfers"] == by_dma["dma_transfers"]
    assert both["pio_accesses"] - by_dma["pio_accesses"] >= written // 4

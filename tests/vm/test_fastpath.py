# SPDX-License-Identifier: Apache-2.0
"""Fast paths: vhost-net, polled rings, a limit of requests. Counts, not times."""

import re

import pytest
from test_disk import VERIFY, debian

from duetlab.guest import images, vm
from matrix import soak, some

NET = "ip addr add 192.168.77.2/24 dev eth0; ip link set eth0 up"
HOST = "192.168.77.1"


def device(guest, name):
    return next(d for d in guest.stats["devices"] if d["name"] == name)


def kicks(queues):
    return sum(q.get("kicks", 0) for q in queues.values())


def iperf_server():
    return vm.running("listening", *vm.lab_command("iperf3", "-s", "--forceflush"))


def test_vhost_moves_frames_without_exits():
    script = f"""
{NET}
iperf3 -c {HOST} -n 30M && echo "sent"
iperf3 -c {HOST} -n 30M -R && echo "received"
ping -c 5 -i 0.2 -s 4000 {HOST} && echo "ping ok"
"""
    with vm.tap() as name, iperf_server(), debian(
            "--net", f"tap,ifname={name},vhost=on", script=script) as guest:
        console = guest.succeed(limit=600)
        net = device(guest, "net0")
        exits = guest.stats["exits"]["by_device"]["net0"]
    for words in ("sent", "received", "ping ok"):
        assert words in console
    assert net["vhost"] == "on"
    assert net["needed_resets"] == 0
    # The kernel counts nothing for us; the control queue is ours.
    assert not {"kicks", "interrupts", "chains", "frames"} & (
        set(net["queues"].get("queue0", {})) | set(net["queues"].get("queue1", {})))
    assert net["queues"]["queue2"]["kicks"] < 100
    # 60 MB are more than 40 thousand frames; these are the registers of setting up and going away.
    assert exits["reads"] + exits["writes"] < 300


def test_vhost_with_several_queues():
    script = f"""
{NET}
ls -d /sys/class/net/eth0/queues/rx-1 && ping -c 5 -i 0.2 {HOST} && echo "two ok"
ethtool -L eth0 combined 1 && ping -c 5 -i 0.2 {HOST} && echo "one ok"
ethtool -L eth0 combined 2 && ping -c 5 -i 0.2 {HOST} && echo "two again ok"
"""
    with vm.tap(multi_queue=True) as name, debian(
            "--net", f"tap,ifname={name},queues=2,vhost=on", "--cpus", "2", script=script) as guest:
        console = guest.succeed()
    for words in ("two ok", "one ok", "two again ok"):
        assert words in console


@pytest.mark.parametrize("vhost", some(["on", "off"]))
def test_a_driver_that_changes_its_mind(vhost):
    """The back end follows the last choice of queue pairs, whatever came before."""
    script = f"""
{NET}
for n in $(seq 20); do ethtool -L eth0 combined $((n % 4 + 1)); done
ethtool -L eth0 combined 3
sleep 1
for n in $(seq 8); do ping -c 1 -W 5 {HOST} >/dev/null && echo "ping ok $n"; done
"""
    with vm.tap(multi_queue=True) as name, debian(
            "--net", f"tap,ifname={name},queues=4,vhost={vhost}", "--cpus", "4", script=script) as guest:
        console = guest.succeed()
    assert all(f"ping ok {n}" in console for n in range(1, 9))


def test_polled_frames_larger_than_a_buffer():
    """Frames over several mergeable buffers, with a poller that goes to sleep between them."""
    script = f"""
{NET}; ip link set eth0 mtu 9000
ping -c 20 -i 0.1 -s 8000 {HOST} | grep -q " 0% packet loss" && echo "all back"
"""
    with vm.tap() as name:
        vm.run("ip", "link", "set", name, "mtu", "9000")
        with debian("--net", f"tap,ifname={name},mtu=9000,poll=on", script=script) as guest:
            console = guest.succeed()
    assert "all back" in console


def test_vhost_survives_the_driver():
    """The rings go to the kernel, come back and go again: another driver, then another machine."""
    script = f"""
for n in 1 2 3; do
	{NET}
	ping -c 3 -i 0.2 {HOST} >/dev/null && echo "ping ok $n"
	dev=$(basename $(readlink -f /sys/class/net/eth0/device))
	echo $dev >/sys/bus/virtio/drivers/virtio_net/unbind
	echo $dev >/sys/bus/virtio/drivers/virtio_net/bind
done
{NET}
ping -c 3 -i 0.2 {HOST} >/dev/null && echo "before reboot"
reboot -f
"""
    with vm.tap() as name, vm.Guest("--net", f"tap,ifname={name},vhost=on", script=script) as guest:
        first = guest.wait_for("^before reboot")
        for n in (1, 2, 3):
            assert f"ping ok {n}" in guest.output[:first.start()]
        guest.wait_for("^before reboot", after=first.end())


def test_vhost_without_msix():
    """The kernel cannot raise a line: duet's own path serves such a driver."""
    script = f"{NET}\nping -c 5 -i 0.2 {HOST} && echo 'ping ok'"
    with vm.tap() as name, vm.Guest("--net", f"tap,ifname={name},vhost=on", "--cmdline", "pci=nomsi",
                                 script=script) as guest:
        assert "ping ok" in guest.succeed()
        net = device(guest, "net0")
    assert net["vhost"] == "off"
    assert net["queues"]["queue0"]["frames"] >= 5


def test_vhost_device_missing():
    """One line that names the option and the remedy."""
    hide = "mount --bind /dev/null /dev/vhost-net"
    gone = "mkdir -p /tmp/dev && mount --rbind /dev /tmp/dev && mount -t tmpfs none /dev && " \
           "mkdir /dev/net && for n in kvm null zero urandom net/tun; do : >/dev/$n; " \
           "mount --bind /tmp/dev/$n /dev/$n; done"
    kernel = images.kernel("6.1-cloud")
    with vm.tap() as name:
        for prepare, words in ((gone, "modprobe vhost_net"), (hide, "--net vhost=on")):
            result = vm.run("unshare", "-m", "sh", "-c",
                            f"{prepare} && exec {vm.DUET} run --kernel {kernel} "
                            f"--net tap,ifname={name},vhost=on", check=False)
            lines = [line for line in (result.stdout + result.stderr).splitlines() if line]
            assert result.returncode == 1, lines
            assert len(lines) == 1, lines
            assert "--net vhost=on" in lines[0] and "/dev/vhost-net" in lines[0]
            assert words in lines[0]


@pytest.mark.parametrize("ring", some(["packed", "split"]))
def test_polled_disk(ring, local_disk):
    """Verified data at depth 1, where each request would cost a kick. Few are left; how few depends on
    how well the lab host's two CPUs get theirs."""
    disk = local_disk("64M")
    script = f"""
set -e
{VERIFY} --rw=randwrite --bs=4k --iodepth=1 --size=6M
"""
    with debian("--disk", f"path={disk},poll=on", "--ring", ring, script=script) as guest:
        guest.succeed(limit=600)
        queue = device(guest, "disk1")["queues"]["queue0"]
    assert queue["chains"] >= 2000
    assert queue["polls"] > 0
    assert queue["kicks"] < queue["chains"] / 2


def test_polled_net():
    """Bulk both ways; kicks are rare, where without polling each burst costs one."""
    script = f"""
{NET}
iperf3 -c {HOST} -n 20M && echo "sent"
iperf3 -c {HOST} -n 20M -R && echo "received"
"""
    with vm.tap() as name, iperf_server(), debian(
            "--net", f"tap,ifname={name},poll=on", script=script) as guest:
        console = guest.succeed(limit=600)
        net = device(guest, "net0")
    assert "sent" in console and "received" in console
    queues = net["queues"]
    chains = queues["queue0"]["chains"] + queues["queue1"]["chains"]
    assert queues["queue1"]["polls"] > 0
    assert kicks(queues) < chains / 10


# CPU time of the thread named duet-io, in ticks of 10 ms, and the time; then the same 10 s later.
IDLE = r"""
pid=$1
for task in /proc/$pid/task/*; do
	[ "$(cat $task/comm)" = duet-io ] && io=$task
done
for n in 1 2; do
	set -- $(cut -d')' -f2 $io/stat) $(cut -d' ' -f1 /proc/uptime)
	echo "ticks $((${12} + ${13})) uptime ${51}"
	[ $n = 2 ] || sleep 10
done
"""


@soak
def test_polling_costs_nothing_when_idle(local_disk):
    """Less than 1 % of a CPU."""
    disk = local_disk("64M")
    script = f"{NET}\nping -c 3 {HOST}; dd if=/dev/vda of=/dev/null bs=4k count=500\n" \
             "echo idle\nread line"
    with vm.tap() as name, vm.Guest("--net", f"tap,ifname={name},poll=on", "--disk",
                                 f"path={disk},poll=on", script=script) as guest:
        guest.wait_for("^idle")
        text = vm.run("sh", "-c", IDLE, "sh", str(guest.pid)).stdout
    (before, then), (after, now) = re.findall(r"ticks (\d+) uptime ([\d.]+)", text)
    used = (int(after) - int(before)) / 100 / (float(now) - float(then))
    assert used < 0.01, text


def test_iops_limit(local_disk):
    """200 requests at 50 a second: at least 199 fiftieths of a second by the guest's clock."""
    disk = local_disk("64M")
    script = """
fio --name=r --filename=/dev/vdb --direct=1 --rw=randread --bs=4k --iodepth=16 --ioengine=libaio \\
	--number_ios=200 --size=64M --output-format=terse --terse-version=3 >/tmp/out
echo "milliseconds $(tail -n 1 /tmp/out | cut -d';' -f9)"
"""
    with debian("--disk", f"path={disk},iops=50", script=script) as guest:
        console = guest.succeed(limit=300)
    found = re.search(r"^milliseconds (\d+)", console, re.MULTILINE)
    assert found, console[-2000:]
    took = int(found.group(1))
    assert took >= 3900

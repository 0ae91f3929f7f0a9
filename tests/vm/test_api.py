# SPDX-License-Identifier: Apache-2.0
"""The life of a machine through its API, as clients of Firecracker's drive it."""

import json
import re
from pathlib import Path

from api import Api, firecracker, socket, write
from test_life import lost_ticks
from test_vsock import socket_path

from duetlab.guest import rootfs, vm

# Clients give these; the third would leave duet's devices unseen.
BOOT_ARGS = "console=ttyS0 reboot=k panic=1 pci=off quiet"
KERNEL = "6.1-amd64"
HOST = "192.168.79.1"  # no other test's: they may run beside this one
# Whoever connects by vsock has his words back in capitals.
SCRIPT = f"""
echo "size $(cat /sys/block/vdb/size)"
modprobe -q i8042; modprobe -q atkbd
ip addr add 192.168.79.2/24 dev eth0; ip link set eth0 up
ping -c 1 -W 60 {HOST} >/tmp/ping && echo "reaches the host"
cat >/tmp/talk.py <<'END'
import socket
server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
server.bind((socket.VMADDR_CID_ANY, 5000))
server.listen()
print("ready", flush=True)
while True:
    peer, _ = server.accept()
    with peer:
        peer.sendall(peer.recv(100).upper())
END
python3 /tmp/talk.py &
(n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); echo "tick $n."; sleep 0.2; done) &
while read -r line; do
	case $line in
	grown) until [ "$(cat /sys/block/vdb/size)" != 16384 ]; do sleep 0.1; done
		echo "size $(cat /sys/block/vdb/size)" ;;
	random) echo "random $(head -c 64 /dev/hwrng | wc -c)" ;;
	esac
done
"""
TALK = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(300)
peer.connect(sys.argv[1])
peer.sendall(b"CONNECT 5000\\n")
lines = peer.makefile("rwb", buffering=0)
assert lines.readline().startswith(b"OK ")
lines.write(b"said by vsock")
print(lines.read().decode())
"""


class Console:
    """A file that PUT /serial has named, where duet runs: what it writes to a share is seen here much later."""

    def __init__(self, path: str):
        self.path = path

    @property
    def output(self) -> str:
        return vm.run("cat", self.path).stdout.replace("\r", "")

    def wait_for(self, pattern: str, after: int = 0):
        vm.run("sh", "-c", f"until tr -d '\\r' <{self.path} | tail -c +{after + 1} | grep -q '{pattern}'; do sleep 0.1; done",
               limit=vm.BOOT_LIMIT)

    def ticks(self) -> int:
        return len(re.findall(r"tick \d+\.", self.output))


def set_up(api: Api, workspace: Path, place: str, resources: dict):
    """As clients do: each its own request."""
    assert api.do("GET", "/") == {"id": "by-curl", "state": "Not started", "vmm_version": "1.12.0",
                                  "app_name": "Firecracker"}
    assert api.do("GET", "/version") == {"firecracker_version": "1.12.0"}
    api.all(("PUT", "/logger", {"log_path": str(workspace / "log"), "level": "Info"}),
            ("PUT", "/metrics", {"metrics_path": f"{place}.metrics"}),
            ("PUT", "/serial", {"serial_out_path": f"{place}.console"}),
            ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256}),
            ("PUT", "/cpu-config", {}),
            *(("PUT", f"/{name}", body) for name, body in resources.items()))
    assert "not supported before starting" in api.refused("PATCH", "/vm", {"state": "Paused"})
    api.do("PUT", "/actions", {"action_type": "InstanceStart"})
    assert "after starting" in api.refused("PUT", "/actions", {"action_type": "InstanceStart"})


def change(guest: vm.Guest, api: Api, console: Console, disk: str):
    vm.run("truncate", "-s", "12M", disk)
    api.do("PATCH", "/drives/data", {"drive_id": "data"})
    guest.type("grown\n")
    console.wait_for(r"^size 24576$")
    guest.type("random\n")
    console.wait_for(r"^random 64$")
    limiter = {"ops": {"size": 100, "refill_time": 1000, "one_time_burst": 10}}
    api.all(("PATCH", "/balloon", {"amount_mib": 32}), ("PATCH", "/balloon/statistics", {"stats_polling_interval_s": 2}),
            ("PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": limiter}),
            ("PATCH", "/network-interfaces/eth0", {"iface_id": "eth0", "tx_rate_limiter": limiter}))
    while api.do("GET", "/balloon/statistics")["actual_mib"] < 32:
        continue
    # For a while only.
    api.do("PATCH", "/duet/balloon", {"amount_mib": 48, "for_ms": 1})
    while api.do("GET", "/balloon")["amount_mib"] != 32:
        continue
    job = api.do("POST", "/duet/hints", {"seconds": 60})["id"]
    while (found := api.do("GET", f"/duet/jobs/{job}"))["state"] == "running":
        continue
    assert found["state"] == "done" and found["bytes"] > 0


def tells(api: Api):
    """What it says of itself is as it was told."""
    all_of_it, brief, vcpus, metrics, config, stats, devices, _ = api.all(*(("GET", path) for path in (
        "/vm/config", "/duet/brief", "/duet/vcpus", "/duet/metrics", "/duet/config", "/duet/stats", "/duet/devices",
        "/balloon/hinting/status")))
    assert [drive["drive_id"] for drive in all_of_it["drives"]] == ["root", "data"]
    assert all_of_it["vsock"]["guest_cid"] == 77 and all_of_it["network-interfaces"][0]["iface_id"] == "eth0"
    assert brief["state"] == "Running" and brief["balloon"]["target_mib"] == 32
    assert [vcpu["thread_id"] for vcpu in vcpus] == brief["threads"]
    assert "duet_" in metrics
    # Each that is configured is counted, and more besides.
    named = {device["id"] for device in devices}
    assert {"root", "data", "eth0"} < {device["id"] for device in config["devices"]} <= named
    assert {device["name"] for device in stats["devices"]} <= named
    [entropy] = [device for device in stats["devices"] if device["type"] == "virtio-entropy"]
    assert entropy["queues"]["queue0"]["requests"] > 0 and "throttled" in entropy["queues"]["queue0"]


def test_life_by_curl(local_disk, workspace):
    disk = local_disk("8M", "api")
    with vm.tap(f"{HOST}/24") as tap, socket_path() as sock, \
            firecracker("--id", "by-curl", kernel=KERNEL, script=SCRIPT) as (guest, api, files):
        console = Console(f"{sock}.console")
        set_up(api, workspace, sock, {
            "boot-source": {**files, "boot_args": f"{BOOT_ARGS} duet.root=/dev/vda duet.rootflags=ro"},
            "drives/root": {"drive_id": "root", "path_on_host": str(rootfs.rootfs()), "is_root_device": True,
                            "is_read_only": True},
            "drives/data": {"drive_id": "data", "path_on_host": disk, "is_root_device": False, "is_read_only": False},
            "network-interfaces/eth0": {"iface_id": "eth0", "host_dev_name": tap, "guest_mac": "06:00:AC:10:00:02"},
            "vsock": {"guest_cid": 77, "uds_path": sock},
            "balloon": {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1,
                        "free_page_hinting": True},
            "entropy": {"rate_limiter": {"bandwidth": {"size": 1000, "refill_time": 1000}}}})
        for words in (r"^size 16384$", r"^reaches the host$", r"^ready$"):
            console.wait_for(words)
        assert vm.run("python3", "-c", TALK, sock).stdout == "SAID BY VSOCK\n"
        api.all(("PATCH", "/vm", {"state": "Paused"}), ("PATCH", "/vm", {"state": "Paused"}))
        assert api.do("GET", "/")["state"] == "Paused"
        seen = console.ticks()
        assert api.do("GET", "/machine-config")["mem_size_mib"] == 256
        assert console.ticks() <= seen + 1, "it ran while it was paused"
        api.do("PATCH", "/vm", {"state": "Resumed"})
        console.wait_for(r"tick", after=len(console.output))

        change(guest, api, console, disk)
        tells(api)
        api.do("PUT", "/actions", {"action_type": "FlushMetrics"})
        # Also one each minute.
        lines = [json.loads(line) for line in vm.run("cat", f"{sock}.metrics").stdout.splitlines()]
        for group, name in (("block", "read_count"), ("block_data", "read_bytes"), ("vcpu", "exit_io_out")):
            assert sum(line.get(group, {}).get(name, 0) for line in lines) > 0, (group, name)
        assert api.refused("PUT", "/snapshot/create", {"snapshot_path": "a", "mem_file_path": "b"}) == (
            "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable "
            "while running")
        assert api.refused("PUT", "/nonsense", {}) == "Invalid request method and/or path: PUT nonsense."
        before = console.ticks()
        api.do("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
        assert guest.finish() == 0
        assert before > 0 and not lost_ticks(console.output)
    assert "tick" not in guest.output, "the console is where it was"
    assert "pci=off" in (workspace / "log").read_text()
    assert vm.run("test", "-e", api.socket, check=False).returncode != 0, "the socket is left"


def test_configuration_file(workspace):
    """--config-file without an API; the guest's reset ends it with status 0."""
    with vm.workspace() as directory:
        def command(kernel, initrd):
            text = {"boot-source": {"kernel_image_path": kernel, "initrd_path": initrd, "boot_args": BOOT_ARGS},
                    "machine-config": {"vcpu_count": 2, "mem_size_mib": 192}, "drives": []}
            return [str(vm.DUET), "--api-sock", socket(), "--no-api", "--config-file",
                    write(directory / "vm.json", text)]

        with vm.Guest(peer=command, script='echo "cpus $(nproc)"; reboot -f') as guest:
            assert guest.finish() == 0
            assert "cpus 2" in guest.output


def test_sigterm_ends_at_once():
    with firecracker(script="echo ready; exec sleep 100000") as (guest, api, files):
        api.do("PUT", "/boot-source", {**files, "boot_args": BOOT_ARGS})
        api.do("PUT", "/actions", {"action_type": "InstanceStart"})
        guest.wait_for(r"^ready$")
        vm.run("kill", str(guest.pid))
        assert guest.finish() == 128 + 15


def cpu_config(bit: int, digit: str) -> dict:
    """Leaf 1, ECX; and the microcode's revision, which a guest of AMD's finds below and one of Intel's above."""
    return {"cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0,
                                 "modifiers": [{"register": "ecx", "bitmap": f"0b{digit}{'x' * bit}"}]}],
            "msr_modifiers": [{"addr": "0x8b", "bitmap": f"0b{0x0123456701234567:064b}"}]}


def test_cpu_template():
    """A bit that no CPU has is refused by the start alone; another one is taken away, and an MSR is what it says."""
    script = """
    echo "popcnt $(grep -c popcnt /proc/cpuinfo), microcode $(sed -n '/microcode/s/.*: //p' /proc/cpuinfo)"
    exec sleep 100000
    """
    assert "popcnt" in vm.run("cat", "/proc/cpuinfo").stdout
    with firecracker(script=script) as (guest, api, files):
        api.do("PUT", "/boot-source", {**files, "boot_args": BOOT_ARGS})
        api.do("PUT", "/cpu-config", cpu_config(16, "1"))
        assert "no bits 0x10000 of ecx" in api.refused("PUT", "/actions", {"action_type": "InstanceStart"})
        api.do("PUT", "/cpu-config", cpu_config(23, "0"))
        api.do("PUT", "/actions", {"action_type": "InstanceStart"})
        guest.wait_for(r"^popcnt 0, microcode 0x1234567$")
        vm.run("kill", str(guest.pid))
        assert guest.finish() == 128 + 15


def test_clients_that_misbehave():
    """None of them harms the machine, which is looked at afterwards."""
    name = socket()
    with vm.Guest("--api-sock", name, script="echo ready; while read -r line; do echo $line; done") as guest:
        guest.wait_for(r"^ready$")
        api = Api(name)
        assert "deserializing" in api.refused("PATCH", "/vm", "{")
        assert api.refused("PATCH", "/vm", {"state": "Asleep"})
        assert api.refused("PATCH", "/vm", "[" * 20000)
        # The eleventh may have been answered before it says anything.
        hold = ("import contextlib, socket, sys\n"
                "open = []\n"
                "for n in range(11):\n"
                "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); open.append(s)\n"
                "    with contextlib.suppress(BrokenPipeError): s.sendall(b'GET / HT')\n"
                "print('eleventh', open[10].recv(100)[:12]); sys.stdout.flush()\n"
                "for s in open: s.close()\n")
        assert "503" in vm.run("python3", "-c", hold, name).stdout
        assert api.do("GET", "/")["state"] == "Running"
        guest.type("alive\n")
        guest.wait_for(r"^alive$")
        # By people's words.
        for words, answer in (("status", "Running"), ("pause", ""), ("resume", ""), ("stats", "vcpus")):
            assert answer in vm.run(str(vm.DUET), "ctl", name, words).stdout
        guest.type("still\n")
        guest.wait_for(r"^still$")


# The drivers' features, bit 0 first, by PCI address.
LOOK = """
for device in /sys/bus/virtio/devices/*; do
	echo "device $(basename "$(readlink -f $device/..)") $(cat $device/features)."
done
echo "net $(cat /sys/class/net/eth0/address) $(cat /sys/class/net/eth0/mtu)."
read -r line
"""
NET_MTU = 3  # virtio 1.2, 5.1.3: VIRTIO_NET_F_MTU


def looked(guest: vm.Guest) -> tuple[dict[str, str], tuple[str, str]]:
    address, mtu = guest.wait_for(r"^net (\S+) (\d+)\.$").groups()
    return dict(re.findall(r"^device (\S+) ([01]{64})\.$", guest.output, re.M)), (address, mtu)


def test_its_configuration_is_run_again(workspace):
    """What a running machine says of itself, by --config: the guest finds the same devices, and of them not what
    the record does not have, though this duet could offer it."""
    name, file = socket(), workspace / "vm.json"
    with vm.tap(None) as tap:
        with vm.Guest("--api-sock", name, "--net", f"tap,ifname={tap},mtu=1400", "--balloon", "--coop",
                      script=LOOK) as guest:
            devices, (address, mtu) = looked(guest)
            config = json.loads(vm.run(str(vm.DUET), "ctl", name, "get", "/duet/config").stdout)
            guest.type("end\n")
            guest.succeed()
        del config["stats"]  # the first machine's file
        [net] = [device for device in config["devices"] if device["type"] == "net"]
        net["features"] = hex(int(net["features"], 16) & ~(1 << NET_MTU))
        with vm.Guest(peer=lambda *_: [str(vm.DUET), "run", "--config", write(file, config)]) as guest:
            again, (same, default) = looked(guest)
            guest.type("end\n")
            guest.succeed()
    assert (mtu, default, same) == ("1400", "1500", address)
    less = [slot for slot in devices if devices[slot] != again[slot]]
    assert len(less) == 1 and devices.keys() == again.keys()
    before, after = devices[less[0]], again[less[0]]
    assert before[NET_MTU] == "1" and after == before[:NET_MTU] + "0" + before[NET_MTU + 1:]

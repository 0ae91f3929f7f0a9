# SPDX-License-Identifier: Apache-2.0
"""The life of a machine through its API, as clients of Firecracker's drive it."""

import json
import re

from api import Api, firecracker, socket, write
from test_life import lost_ticks

from duetlab.guest import vm

# Clients give these; the second would leave duet's devices unseen.
BOOT_ARGS = "console=ttyS0 reboot=k panic=1 pci=off quiet"
KERNEL = "6.1-amd64"
SCRIPT = """
echo "size $(cat /sys/block/vda/size)"
modprobe -q i8042; modprobe -q atkbd
echo "ready"
(n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); echo "tick $n."; usleep 200000; done) &
while read -r line; do
	case $line in
	grown) until [ "$(cat /sys/block/vda/size)" != 16384 ]; do usleep 100000; done
		echo "size $(cat /sys/block/vda/size)" ;;
	random) echo "random $(head -c 64 /dev/hwrng | wc -c)" ;;
	esac
done
"""


def ticks(guest: vm.Guest) -> int:
    return len(re.findall(r"tick \d+\.", guest.output))


def test_life_by_curl(local_disk, workspace):
    disk = local_disk("8M", "api")
    with firecracker("--id", "by-curl", kernel=KERNEL, script=SCRIPT) as (guest, api, files):
        assert api.do("GET", "/") == {"id": "by-curl", "state": "Not started", "vmm_version": "1.12.0",
                                      "app_name": "Firecracker"}
        assert api.do("GET", "/version") == {"firecracker_version": "1.12.0"}
        api.do("PUT", "/logger", {"log_path": str(workspace / "log"), "level": "Info"})
        api.do("PUT", "/metrics", {"metrics_path": str(workspace / "metrics")})
        api.do("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 256})
        api.do("PUT", "/boot-source", {**files, "boot_args": BOOT_ARGS})
        api.do("PUT", "/drives/data", {"drive_id": "data", "path_on_host": disk, "is_root_device": False,
                                       "is_read_only": False})
        api.do("PUT", "/balloon", {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 1})
        api.do("PUT", "/entropy", {"rate_limiter": {"bandwidth": {"size": 1000, "refill_time": 1000}}})
        assert "not supported before starting" in api.refused("PATCH", "/vm", {"state": "Paused"})
        api.do("PUT", "/actions", {"action_type": "InstanceStart"})
        assert "after starting" in api.refused("PUT", "/actions", {"action_type": "InstanceStart"})
        guest.wait_for(r"^size 16384$")
        guest.wait_for(r"^ready$")
        assert api.do("GET", "/")["state"] == "Running"
        api.do("PATCH", "/vm", {"state": "Paused"})
        api.do("PATCH", "/vm", {"state": "Paused"})
        assert api.do("GET", "/")["state"] == "Paused"
        seen = ticks(guest)
        assert api.do("GET", "/machine-config")["mem_size_mib"] == 256
        assert ticks(guest) <= seen + 1, "it ran while it was paused"
        api.do("PATCH", "/vm", {"state": "Resumed"})
        guest.wait_for(r"tick", after=len(guest.output))

        vm.run("truncate", "-s", "12M", disk)
        api.do("PATCH", "/drives/data", {"drive_id": "data"})
        guest.type("grown\n")
        guest.wait_for(r"^size 24576$")
        guest.type("random\n")
        guest.wait_for(r"^random 64$")
        [entropy] = [device for device in api.do("GET", "/duet/stats")["devices"]
                     if device["type"] == "virtio-entropy"]
        assert entropy["queues"]["queue0"]["requests"] > 0 and "throttled" in entropy["queues"]["queue0"]
        api.do("PATCH", "/balloon", {"amount_mib": 32})
        while api.do("GET", "/balloon/statistics")["actual_mib"] < 32:
            continue
        # For a while only.
        api.do("PATCH", "/duet/balloon", {"amount_mib": 48, "for_ms": 1})
        while api.do("GET", "/balloon")["amount_mib"] != 32:
            continue
        brief = api.do("GET", "/duet/brief")
        assert brief["state"] == "Running" and brief["balloon"]["target_mib"] == 32
        api.do("PATCH", "/drives/data", {"drive_id": "data", "rate_limiter": {
            "ops": {"size": 100, "refill_time": 1000}}})
        assert [vcpu["thread_id"] for vcpu in api.do("GET", "/duet/vcpus")] == brief["threads"]
        assert 'duet_' in api.do("GET", "/duet/metrics")
        api.do("PUT", "/actions", {"action_type": "FlushMetrics"})
        # Also one each minute.
        lines = [json.loads(line) for line in vm.run("cat", str(workspace / "metrics")).stdout.splitlines()]
        for group, name in (("block", "read_count"), ("block_data", "read_bytes"), ("vcpu", "exit_io_out")):
            assert sum(line.get(group, {}).get(name, 0) for line in lines) > 0, (group, name)
        assert api.refused("PUT", "/snapshot/create", {"snapshot_path": "a", "mem_file_path": "b"}) == (
            "Create snapshot error: Cannot save the microVM state: Operation not allowed: save/restore unavailable "
            "while running")
        assert api.refused("PUT", "/nonsense", {}) == "Invalid request method and/or path: PUT nonsense."
        before = ticks(guest)
        api.do("PUT", "/actions", {"action_type": "SendCtrlAltDel"})
        assert guest.finish() == 0
        console = guest.output
    assert before > 0 and not lost_ticks(console)
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


def test_clients_that_misbehave():
    """None of them harms the machine, which is looked at afterwards."""
    name = socket()
    with vm.Guest("--api-sock", name, script="echo ready; while read -r line; do echo $line; done") as guest:
        guest.wait_for(r"^ready$")
        api = Api(name)
        assert "deserializing" in api.refused("PATCH", "/vm", "{")
        assert api.refused("PATCH", "/vm", {"state": "Asleep"})
        assert api.refused("PATCH", "/vm", "[" * 20000)
        hold = ("import socket, sys, time\n"
                "open = []\n"
                "for n in range(11):\n"
                "    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(b'GET / HT'); open.append(s)\n"
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

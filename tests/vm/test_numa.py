# SPDX-License-Identifier: Apache-2.0
"""Guests that see NUMA nodes: what stock kernels make of --numa, and where the host's memory is."""

import re

import pytest
from matrix import some

from duetlab.guest import vm

# What the kernel read, how it places, and that its scheduler takes the packages for what they are.
LOOK = r"""
cd /sys/devices/system/node
for node in node[0-9]*; do
    echo "$node cpus $(cat $node/cpulist) distances $(cat $node/distance)" \
         "memory $(sed -n 's/.*MemTotal: *//p' $node/meminfo)"
done
for cpu in /sys/devices/system/cpu/cpu[0-9]*; do
    echo "${cpu##*/} package $(cat $cpu/topology/physical_package_id) siblings $(cat $cpu/topology/core_siblings_list)"
done
echo "online $(cat online)"
dmesg | grep -iE "not on the same node|WARNING|SRAT: .*(bad|invalid|failed)|ACPI (BIOS )?Error" | sed 's/^/complaint /'
echo looked
"""


def nodes_of(text):
    """{node: (cpus, distances, KiB)}"""
    found = re.findall(r"^node(\d+) cpus (\S*) distances ([\d ]+) memory (\d+) kB", text, re.M)
    return {int(node): (cpus, [int(part) for part in distances.split()], int(size))
            for node, cpus, distances, size in found}


@pytest.mark.parametrize("kernel", some(["6.12-cloud", "6.1-cloud"]))
def test_two_nodes(kernel):
    with vm.Guest("--cpus", "4", "--numa", "2", "--numa-distance", "31", kernel=kernel,
                  script=LOOK) as guest:
        text = guest.succeed()
    nodes = nodes_of(text)
    assert sorted(nodes) == [0, 1], text
    assert [nodes[node][:2] for node in (0, 1)] == [("0-1", [10, 31]), ("2-3", [31, 10])]
    # Half of 512 MiB each, less what the kernel, which lies anywhere, keeps for itself before it counts.
    assert all(192 << 10 < nodes[node][2] <= 256 << 10 for node in nodes), nodes
    assert re.findall(r"^cpu\d package (\d+) siblings (\S+)", text, re.M) == [
        ("0", "0-1"), ("0", "0-1"), ("1", "2-3"), ("1", "2-3")], text
    assert "complaint" not in text, text
    assert re.search(r"^online 0-1", text, re.M), text


def test_four_nodes_of_one_and_a_file(workspace):
    """As many nodes as vCPUs, from the file that --print-config wrote."""
    def from_file(kernel, initrd):
        result = vm.run(str(vm.DUET), "run", "--kernel", kernel, "--initrd", initrd, "--cpus", "4", "--memory",
                        "256M", "--numa", "4", "--cmdline", "quiet", "--print-config")
        file = workspace / "vm.json"
        file.write_text(result.stdout)
        return [str(vm.DUET), "run", "--config", str(file)]

    with vm.Guest(script=LOOK, peer=from_file) as guest:
        text = guest.succeed()
    nodes = nodes_of(text)
    assert [nodes[node][0] for node in range(4)] == ["0", "1", "2", "3"], text
    assert nodes[2][1] == [20, 20, 10, 20], text
    assert "complaint" not in text, text


def test_without_it_there_is_one_node():
    with vm.Guest("--cpus", "2", script="ls /sys/firmware/acpi/tables; " + LOOK) as guest:
        text = guest.succeed()
    assert "SRAT" not in text and "SLIT" not in text
    assert "looked" in text


def test_host_nodes():
    """Each half of the guest's memory is the host's node's that was named for it: the guest fills its
    second node's, and the host's pages are counted."""
    if vm.run("test", "-d", "/sys/devices/system/node/node1", check=False).returncode != 0:
        pytest.skip("this host has one node: nothing to choose between")
    script = """
    set -e
    mount -t tmpfs -o size=100m,mpol=bind:1 none /mnt
    dd if=/dev/zero of=/mnt/x bs=1M count=96
    echo filled; read wait
    """
    with vm.Guest("--cpus", "2", "--numa", "2", "--numa-host", "1+0", script=script) as guest:
        guest.wait_for("filled")
        maps = vm.run("cat", f"/proc/{guest.pid}/numa_maps").stdout
        guest.type("\n")
        guest.succeed()
    halves = [dict(re.findall(r"N(\d)=(\d+)", line)) for line in maps.splitlines() if "prefer" in line]
    assert len(halves) == 2, maps
    first, second = ({node: int(pages) for node, pages in half.items()} for half in halves)
    assert second.get("0", 0) >= 96 << 8, maps
    assert second.get("1", 0) == 0 and first.get("0", 0) == 0 and first["1"] > 0, maps


@pytest.mark.parametrize("options,says", [
    (("--numa", "2"), "--cpus 2 can"),
    (("--numa", "2", "--cpus", "2", "--memory", "513M"), "--memory 512M can"),
    (("--cpus", "2", "--numa", "2", "--numa-host", "0"), '--numa-host: "0" does not'),
])
def test_wrong_options(options, says):
    result = vm.run(str(vm.DUET), "run", "--kernel", "/nonexistent", *options, check=False)
    assert result.returncode == 2, result
    assert says in result.stdout + result.stderr


def test_a_host_node_that_is_not_there():
    guest = vm.Guest("--cpus", "2", "--numa", "2", "--numa-host", "0+63", script="true")
    with guest:
        assert guest.finish() == 1
    assert "no node 63" in guest.tail()

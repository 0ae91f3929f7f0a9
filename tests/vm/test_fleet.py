# SPDX-License-Identifier: Apache-2.0
"""Machines as resources of Pacemaker, with the real Corosync, Pacemaker, systemd and packages; on one node, and on two that
share a disk (make soak)."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from api import socket
from test_kit import until

from duetlab.base.paths import REPOSITORY
from duetlab.guest import images, kit, node, vm

LIMIT = 1500
KERNEL = "6.1-cloud"
# A number and who it is, a record each, from the second sector on; the first is what the test says to it. Each sector is on the
# disk before the next is written.
GUEST = """duet-powerbutton
who=$(cat /proc/sys/kernel/random/boot_id)
dd if=/dev/vda of=/tmp/all bs=512 skip=1 2>/dev/null
n=$(tr -d '\\0' </tmp/all | grep -o '[0-9]\\{8\\} [0-9a-f]*-' | wc -l)
echo "first tick $n"
while :; do
	n=$((n + 1))
	printf '%08d %s \\n' $n $who | dd of=/dev/vda bs=512 seek=$n conv=sync,fsync,notrunc 2>/dev/null
	echo "tick $n"
	case $(dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\\0') in
	busy*)
		printf 'nothing' | dd of=/dev/vda bs=512 count=1 conv=sync,fsync,notrunc 2>/dev/null
		read -r begun _ </proc/uptime
		now=$begun
		while [ $((${now%.*} - ${begun%.*})) -lt 30 ]; do
			read -r now _ </proc/uptime
		done
		echo "busy for long"
		busybox halt -f
		;;
	esac
	usleep 300000
done
"""
CERTIFICATES = """cd $0
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
for name in tls stranger; do
	openssl req -x509 $key -subj /CN=$name -days 365 -keyout $name/ca.key -out $name/ca.pem
	openssl req $key -subj /CN=host -keyout $name/key.pem -out $name/host.csr
	openssl x509 -req -in $name/host.csr -CA $name/ca.pem -CAkey $name/ca.key -CAcreateserial -days 365 -out $name/cert.pem
	rm $name/ca.key $name/host.csr $name/ca.srl
done
"""


def played(scenario: str, directory: Path):
    """SCENARIO of scenarios.py, where KVM is."""
    packages = directory / "packages"
    made = subprocess.run(["packaging/packages", "build", packages], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    for name in ("tls", "stranger"):
        (directory / name).mkdir()
    subprocess.run(["sh", "-ec", CERTIFICATES, directory], check=True, capture_output=True)
    shutil.copyfile(images.kernel(KERNEL), directory / "vmlinuz")
    shutil.copyfile(images.initrd(KERNEL, "base", GUEST), directory / "initrd")
    given = {"image": str(node.node()), "files": str(directory), "kernel": f"{directory}/vmlinuz",
             "initrd": f"{directory}/initrd"}
    result = vm.run("python3", "-B", str(Path(__file__).with_name("nodes.py")), scenario, json.dumps(given), check=False,
                    limit=LIMIT)
    print(result.stdout)
    assert result.returncode == 0, result.stderr


def alive(sock: str, *words: str):
    return vm.run(str(vm.DUET), "ctl", sock, "alive", *words, check=False)


@pytest.mark.parametrize("ends, says, by", [
    # Its timer still ticks, so the kit alone can tell.
    ("echo c >/proc/sysrq-trigger", "end Kernel panic", "no heartbeat of its kit"),
    # The driver has let go of its device first. Of CPU time it takes as much as one with nothing to do.
    ("busybox halt -f", "System halted", "no interrupt, halt or device access"),
])
def test_a_kernel_that_stands_still(ends, says, by):
    sock, kept = socket(), f"/tmp/alive-{os.getpid()}-{len(ends)}"
    script = f"{kit.PREPARE}modprobe duet && echo up\nread -r line\n{ends}\n"
    with vm.Guest("--coop", "--cpus", "2", "--api-sock", sock, "--cmdline", "panic=0", memory="256M", script=script,
                  files=kit.files(KERNEL), kernel=KERNEL) as guest:
        guest.wait_for("^up$")
        first = int(re.search(r"heartbeat (\d+)", until(lambda: alive(sock).stdout, lambda said: "heartbeat" in said))[1])
        until(lambda: alive(sock).stdout, lambda said: int(re.search(r"heartbeat (\d+)", said)[1]) >= first + 2)
        assert alive(sock, kept, "5").returncode == 0
        guest.type("\n")
        guest.wait_for(says)
        hangs = until(lambda: alive(sock, kept, "5"), lambda result: result.returncode != 0)
        assert hangs.returncode == 3 and by in hangs.stderr, hangs
        # It is as a file says that is another's, or nobody's.
        assert alive(sock, f"{kept}-new", "5").returncode == 0
        assert vm.run(str(vm.DUET), "ctl", sock, "pause", check=False).returncode == 0
        assert alive(sock, kept, "5").returncode == 0
    vm.run("rm", "-f", kept, f"{kept}-new")


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here to make certificates with")


@needs_openssl
@pytest.mark.skipif(os.environ.get("DUET_SOAK") != "1", reason="in make soak")
def test_one_node(workspace):
    played("one_node", workspace)


@needs_openssl
@pytest.mark.skipif(os.environ.get("DUET_SOAK") != "1", reason="in make soak")
def test_two_nodes(workspace):
    played("two_nodes", workspace)

# SPDX-License-Identifier: Apache-2.0
"""An installed Debian 12 with systemd: its own initrd, root on /dev/vda, nothing of ours in it."""

import datetime
import json
import re
import signal
from dataclasses import dataclass

import pytest

from duetlab.guest import system, vm

LIMIT = 1200  # seconds; a start in the lab takes one minute, beside other work several
UUID = "6f3c1d2e-0b51-4a6e-9d2f-1c5a7be0d9aa"
NAMES = {"Manufacturer": "House, of names", "Product Name": "Debian proof", "Serial Number": "S 42",
         "UUID": UUID}
JUNK_MIB = 32

# Asked in one session: each costs the lab's guest some hundred million instructions.
QUESTIONS = {
    "failed": "systemctl --failed --no-legend --plain --full",
    "lscpu": "lscpu",
    "modules": "lsmod",
    "dmidecode": "dmidecode -t system",
    "machine-id": "cat /etc/machine-id",
    "addresses": "ip -json -4 address show scope global",
    "routes": "ip -json -4 route show default",
    "connection": "echo $SSH_CONNECTION",
}


@dataclass
class Debian:
    """The running guest, and what it said."""

    guest: vm.Guest
    disk: str
    key: str
    port: str
    state: str = ""
    said: dict | None = None

    def by_ssh(self) -> list[str]:
        """The words before a command for the guest, by way of the forwarded port."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null",
                   "LogLevel=ERROR", "KexAlgorithms=curve25519-sha256"]  # the default one is slow in the lab
        words = [word for option in options for word in ("-o", option)]
        return ["ssh", "-F", "none", "-i", self.key, "-p", self.port, *words, "root@127.0.0.1"]

    def ssh(self, script: str) -> str:
        """What SCRIPT prints in the guest."""
        return vm.run(*self.by_ssh(), script, limit=LIMIT).stdout

    def log_in(self):
        """On the console, as soon as it asks; then wait for the end of the start."""
        self.guest.wait_for(f"^{system.HOSTNAME} login: ", LIMIT)
        self.guest.type("root\n")
        self.guest.wait_for(f"root@{system.HOSTNAME}:~# ", LIMIT)
        # The quotes tell the answer from the echo of the question.
        self.guest.type("echo sta''te: $(systemctl is-system-running --wait)\n")
        self.state = self.guest.wait_for(r"state: (\w+)", LIMIT).group(1)

    def ask(self):
        script = "".join(f"echo '== {name}'; {command}\n" for name, command in QUESTIONS.items())
        parts = re.split(r"^== (.*)\n", self.ssh(script + "true"), flags=re.MULTILINE)
        self.said = dict(zip(parts[1::2], parts[2::2]))

    def blocks(self) -> int:
        """Bytes that the disk's file takes on its host."""
        return int(vm.run("stat", "-c", "%b", self.disk).stdout) * 512


def free_port() -> str:
    script = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"
    return vm.run("python3", "-c", script).stdout.strip()


@pytest.fixture(scope="module")
def debian(module_disk):
    """One start serves all tests; the last of them is its end."""
    made = system.system()
    disk = module_disk("1", "system")
    vm.copy_sparse(made.root, disk)
    port = free_port()
    names = [word for option, name in (("--manufacturer", "Manufacturer"), ("--product", "Product Name"),
                                       ("--serial-number", "Serial Number"), ("--uuid", "UUID"))
             for word in (option, NAMES[name])]
    with vm.Guest("--cpus", "2", "--disk", f"path={disk}", "--net", f"user,forward=127.0.0.1/{port}:22",
                  *names, "--cmdline", "root=/dev/vda rw", kernel=made.kernel, initrd=made.initrd,
                  memory="1G") as guest:
        running = Debian(guest, disk, str(made.key), port)
        running.log_in()
        running.ask()
        yield running


def test_no_unit_failed(debian):
    assert debian.said["failed"] == ""
    assert debian.state == "running"


def now() -> float:
    return float(vm.run("date", "+%s.%N").stdout)


def test_clocks(debian):
    """`hwclock` and `timedatectl` show the time of the machine duet runs on."""
    before = now()
    hwclock, rtc, clock, zone = debian.ssh(
        # The bus waits 25 seconds for who answers it, systemd longer.
        "systemctl start systemd-timedated; hwclock -r; "
        "timedatectl show --value --property RTCTimeUSec --property TimeUSec; "
        "timedatectl show --value --property Timezone").splitlines()
    after = now()
    times = [datetime.datetime.fromisoformat(hwclock).timestamp()]
    for text in (rtc, clock):
        day = datetime.datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S UTC")
        times.append(day.replace(tzinfo=datetime.timezone.utc).timestamp())
    # Whole seconds are cut off, and the system's clock was set by such a one.
    assert all(before - 2 < time < after + 2 for time in times), (before, times, after)
    assert zone == "Etc/UTC"


def test_fstrim_gives_the_host_its_blocks_back(debian):
    debian.ssh(f"dd if=/dev/zero of=/junk bs=1M count={JUNK_MIB} conv=fsync status=none")
    full = debian.blocks()
    said = debian.ssh("rm /junk; sync; fstrim -v /")
    trimmed = re.fullmatch(r"/: .*\((\d+) bytes\) trimmed\n", said)
    assert trimmed and int(trimmed.group(1)) >= JUNK_MIB << 20, said
    assert debian.blocks() <= full - (JUNK_MIB << 20) * 3 // 4


def test_lscpu(debian):
    fields = dict(re.findall(r"^([^:]+):\s*(.*)$", debian.said["lscpu"], re.MULTILINE))
    assert fields["CPU(s)"] == "2" and fields["On-line CPU(s) list"] == "0,1"
    assert fields["Hypervisor vendor"] == "KVM" and fields["Virtualization type"] == "full"
    # No nested virtualization unasked.
    assert "Virtualization" not in fields
    assert not re.search(r"^kvm", debian.said["modules"], re.MULTILINE)


def test_dmidecode(debian):
    fields = dict(re.findall(r"^\t([^:]+): (.*)$", debian.said["dmidecode"], re.MULTILINE))
    assert {name: fields[name] for name in NAMES} == NAMES
    # systemd names the installation after it.
    assert debian.said["machine-id"] == UUID.replace("-", "") + "\n"


def test_dhcp_and_ssh(debian):
    """The address came by DHCP, and it is where the forwarded port leads to."""
    (link,) = json.loads(debian.said["addresses"])
    (route,) = json.loads(debian.said["routes"])
    assert route["protocol"] == "dhcp" and route["dev"] == link["ifname"]
    assert debian.said["connection"].split()[2:] == [link["addr_info"][0]["local"], "22"]


def test_sigterm_powers_off(debian):
    """Last: systemd shuts everything down, and leaves a clean file system."""
    debian.guest.signal(signal.SIGTERM)
    assert debian.guest.finish(LIMIT) == 0
    assert "reboot: Power down" in debian.guest.output
    tools = "PATH=$PATH:/usr/sbin:/sbin; "
    vm.run("sh", "-c", f"{tools} e2fsck -fn {debian.disk}")
    header = vm.run("sh", "-c", f"{tools} dumpe2fs -h {debian.disk}").stdout
    assert re.search(r"^Filesystem state: +clean$", header, re.MULTILINE)
    assert "needs_recovery" not in header

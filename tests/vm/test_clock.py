# SPDX-License-Identifier: Apache-2.0
"""The real-time clock as guests use it: read, alarms, update interrupts. The TSC and its frequency, here and where a
machine goes on."""

import json
import re

import pytest

from duetlab.experiment.lab import workload
from duetlab.guest import rootfs, vm
from matrix import some

LIFE = vm.REPOSITORY / "build" / "tests" / "life" / "life"
LIMIT = 300

# hwclock waits for an update interrupt (an alarm each second, as Linux has it) before it reads.
SCRIPT = """
echo 0 >/sys/class/rtc/rtc0/wakealarm
count() { awk '/rtc0/ {sum = 0; for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i; print sum}' /proc/interrupts; }
before=$(count)
echo +3 >/sys/class/rtc/rtc0/wakealarm
for _ in $(seq 60); do
	[ -z "$(cat /sys/class/rtc/rtc0/wakealarm)" ] && break
	sleep 1
done
[ -z "$(cat /sys/class/rtc/rtc0/wakealarm)" ] && echo "alarm gone"
[ "$(count)" -gt "$before" ] && echo "alarm came"
hwclock -r --utc && echo "clock read"
before=$(date +%s); clock=$(cat /sys/class/rtc/rtc0/since_epoch); after=$(date +%s)
[ "$clock" -ge $((before - 2)) ] && [ "$clock" -le $((after + 2)) ] && echo "same time"
"""


@pytest.mark.parametrize("irqchip", some(["split", "kernel"]))
def test_wakealarm_and_hwclock(irqchip):
    with vm.Guest("--irqchip", irqchip, "--disk", f"path={rootfs.rootfs()},readonly=on", "--cmdline",
                  "duet.root=/dev/vda duet.rootflags=ro", kernel="6.1-amd64", script=SCRIPT) as guest:
        console = guest.succeed()
    for words in ("alarm gone", "alarm came", "clock read", "same time"):
        assert f"{words}\n" in console


# Two readings of clock and TSC, some seconds of the guest's apart, and another two.
RATES = """
grep -o "tsc_deadline_timer\\|nonstop_tsc" /proc/cpuinfo | sort -u
echo "source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
ip link set lo up
workload tell-time 127.0.0.1 7 &
rm -f /tmp/stop; workload watch-clocks /tmp/stop >/tmp/watch &
pair() { workload ask-time 127.0.0.1 7; sleep 3; workload ask-time 127.0.0.1 7; }
pair; echo "ready"
read -r _
pair; touch /tmp/stop; wait %2; tail -n 1 /tmp/watch
dmesg | grep -iE "lockup|unstable|stall|call trace" || echo "quiet"
echo "end of story"
"""


def rate(first: dict, second: dict) -> float:
    """The TSC's frequency in kHz, by the guest's clock."""
    return (second["tsc"] - first["tsc"]) * 1e6 / (second["monotonic"] - first["monotonic"])


def answers(console: str) -> list[dict]:
    return [json.loads(line) for line in re.findall(r"^\{.*\}$", console, re.MULTILINE)]


@pytest.mark.parametrize("khz", some([1500000, 4200000]))
def test_tsc_of_its_own_frequency(khz):
    """Slower and faster than any host's: it is scaled, and goes on so in another process; clock and TSC never step back."""
    with vm.Guest("--tsc-khz", str(khz), program=LIFE, memory="128M", kernel="6.1-cloud", script=RATES,
                  files={"bin/workload": workload().read_bytes()}) as guest:
        guest.wait_for(r"^ready$", LIMIT)
        guest.type("\x01move\n")
        guest.wait_for(r"life: move (done|failed.*)$", LIMIT)
        guest.type("\n")
        guest.wait_for(r"^end of story$", LIMIT)
        console = guest.succeed()
    found = answers(console)
    assert "life: move failed" not in console and "quiet" in console
    for first, second in ((found[0], found[1]), (found[2], found[3]), (found[0], found[3])):
        assert abs(rate(first, second) / khz - 1) < 0.001
    watched = found[4]
    assert watched["reads"] > 1000 and watched["back_ns"] == 0 and watched["back_tsc"] == 0


@pytest.mark.parametrize("kernel", some(["6.1-cloud", "6.12-cloud"]))
def test_migratable(kernel):
    """Nothing ties it to a frequency, and it runs."""
    with vm.Guest("--profile", "migratable", memory="128M", kernel=kernel, script=RATES.replace("read -r _", ""),
                  files={"bin/workload": workload().read_bytes()}) as guest:
        console = guest.succeed()
    assert "source kvm-clock" in console and "quiet" in console
    assert "tsc_deadline_timer" not in console and "nonstop_tsc" not in console

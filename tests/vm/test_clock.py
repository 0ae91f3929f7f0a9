# SPDX-License-Identifier: Apache-2.0
"""The real-time clock as guests use it: read, alarms, update interrupts."""

import pytest

from duetlab.guest import rootfs, vm
from matrix import some

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

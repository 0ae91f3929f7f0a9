# SPDX-License-Identifier: Apache-2.0
"""How a machine ends, and what duet says of it."""

import hashlib
import json
import signal

import pytest

from duetlab.guest import images, vm
from matrix import some


def test_sigterm_presses_the_power_button():
    with vm.Guest() as guest:
        guest.wait_for(r"^(~|/) #|^# ")
        guest.signal(signal.SIGTERM)
        assert guest.finish() == 0
        assert "duet-guest: power button" in guest.output


def test_second_sigterm_ends_it():
    with vm.Guest(script="echo ready; while :; do sleep 1; done") as guest:
        guest.wait_for(r"^ready")
        guest.signal(signal.SIGTERM)
        # Two signals at once would be one.
        guest.wait_for("does not listen to its power button")
        guest.signal(signal.SIGTERM)
        assert guest.finish() == 4
        assert "second signal" in guest.output
        assert guest.stats["exits"]["by_cause"]["total"] > 0


def test_panic_is_told_from_a_reboot():
    with vm.Guest(script="echo c >/proc/sysrq-trigger") as guest:
        assert guest.finish() == 3
        assert "the guest kernel panicked" in guest.output


@pytest.mark.parametrize("words", some(["reboot=k panic=1", "reboot=t panic=1", "reboot=b panic=1", "reboot=p"], 2))
def test_panic_however_it_restarts(words):
    with vm.Guest("--cmdline", words, script="echo c >/proc/sysrq-trigger") as guest:
        assert guest.finish() == 3
        assert "the guest kernel panicked" in guest.output


@pytest.mark.parametrize("way", some("tkabp", 2))
def test_reboot_by_every_way(way):
    """A triple fault after a reboot was begun is a reset, as on a PC."""
    with vm.Guest("--cmdline", f"reboot={way}", "--on-reset", "exit", script="reboot -f") as guest:
        assert guest.finish() == 0
        assert guest.output.count("duet-guest: user space") == 1


def test_reboot_ends_it_when_asked():
    with vm.Guest("--on-reset", "exit", script="reboot -f") as guest:
        assert guest.finish() == 0
        assert guest.output.count("duet-guest: user space") == 1


def test_triple_fault():
    """A kernel that loads no valid interrupt table and faults: a vmlinux of our own."""
    import struct

    # 64-bit ELF with one segment at 1 MiB: xor eax,eax; lidt [rax] of zeroes; ud2.
    code = bytes.fromhex("31c0 0f0118 0f0b".replace(" ", ""))
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0,
                         64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 120, 0x1000000, 0x1000000, len(code), 4096, 4096)
    with vm.workspace() as directory:
        kernel = directory / "vmlinux"
        kernel.write_bytes(header + segment + code)
        result = vm.run(str(vm.DUET), "run", "--kernel", str(kernel), check=False)
    assert result.returncode == 3
    assert "triple fault" in result.stderr


def test_statistics_on_sigusr1():
    with vm.Guest(script="echo ready; read line; echo got $line") as guest:
        guest.wait_for(r"^ready")
        guest.signal(signal.SIGUSR1)
        guest.type("hello\n")
        guest.wait_for("got hello")
        guest.succeed()
        assert guest.stats["exits"]["by_cause"]["total"] > 0


def test_console_takes_much_input():
    """More than any buffer on the way holds; nothing is lost."""
    with vm.Guest(script="stty -echo; echo ready; head -n 400 | md5sum") as guest:
        guest.wait_for(r"^ready")
        lines = "".join(f"line {number} of what is typed\n" for number in range(400))
        guest.type(lines)
        guest.wait_for(hashlib.md5(lines.encode()).hexdigest())
        guest.succeed()


def test_virtio_console_loses_no_piped_input():
    """printf ... | duet run --console virtio: written long before the guest has its driver; and what is typed later."""
    # Opened once: what is typed while nobody has it open is lost, as on any terminal.
    script = ("exec 3<>/dev/hvc0; echo out through hvc0 >&3\n"
              "for i in 1 2; do read -r line <&3; echo \"got $line\"; done")
    with vm.Guest("--console", "virtio", script=script) as guest:
        guest.type("hello\n")
        guest.wait_for("out through hvc0")
        guest.wait_for("got hello")
        guest.type("again\n")
        guest.wait_for("got again")
        guest.succeed()


def test_virtio_console_takes_more_than_it_holds():
    """More than the device keeps for a guest that is not there yet: the rest comes as that takes it."""
    lines = "".join(f"line {number} of many\n" for number in range(1000))
    script = ("exec 3<>/dev/hvc0; stty -F /dev/hvc0 -echo; echo ready >&3\n"
              "for i in $(seq 1000); do read -r line <&3; echo \"$line\"; done | md5sum; echo all")
    with vm.Guest("--console", "virtio", script=script) as guest:
        guest.type(lines)
        guest.wait_for("^all")
        assert hashlib.md5(lines.encode()).hexdigest() in guest.succeed()


def test_piped_input_is_not_lost():
    """printf ... | duet run: written before the guest has its console open."""
    with vm.Guest() as guest:
        guest.type("echo he''llo\npoweroff -f\n")
        assert guest.finish() == 0
        assert "\nhello\n" in guest.output


def test_size_of_the_terminal_from_the_start():
    """duet in a terminal of 41 by 123: known to the guest when it comes up, and after a reboot; it takes keys."""
    script = """
for i in $(seq 100); do size=$(stty size </dev/hvc0); [ "$size" = "0 0" ] || break; sleep 0.1; done
echo "size $size."
if [ "$(head -c 4 /dev/vda)" = been ]; then echo "type now"; read -r line </dev/hvc0; echo "typed $line."; exit 0; fi
printf been >/dev/vda; sync
reboot -f
"""
    program = ("import fcntl, os, pty, struct, sys, termios\n"
               "pid, terminal = pty.fork()\n"
               "if pid == 0:\n"
               "    sys.stdin.readline()\n"
               "    os.execv(sys.argv[1], sys.argv[1:])\n"
               "fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 41, 123, 0, 0))\n"
               "os.write(terminal, b'go\\n')\n"
               "try:\n"
               "    said = b''\n"
               "    while piece := os.read(terminal, 4096):\n"
               "        os.write(1, piece)\n"
               "        said += piece\n"
               "        if b'type now' in said: said = b''; os.write(terminal, b'keys\\r')\n"
               "except OSError: pass\n"
               "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n")
    with vm.workspace() as directory:
        disk = directory / "disk.img"
        disk.write_bytes(b"\0" * (1 << 20))
        with vm.Guest("--console", "virtio", "--disk", f"path={disk}", script=script,
                      wrapper=("python3", "-c", program)) as guest:
            output = guest.succeed()
    assert output.count("size 41 123.") == 2
    assert "typed keys." in output


def test_sighup_under_nohup_is_ignored():
    """Ignored when duet started: it stays so, and the next signal is the first that counts."""
    with vm.Guest(wrapper=("sh", "-c", 'trap "" HUP; exec "$@"', "sh")) as guest:
        guest.wait_for(r"^(~|/) #|^# ")
        guest.signal(signal.SIGHUP)
        guest.type("echo still he''re\n")
        guest.wait_for(r"^still here")
        guest.signal(signal.SIGTERM)
        assert guest.finish() == 0
        assert "duet-guest: power button" in guest.output


def test_statistics_to_a_fifo():
    """It stays one, and its reader gets all of it."""
    with vm.workspace() as directory:
        script = f"""
cd {directory} && mkfifo fifo && cat fifo >read & sleep 1
{vm.DUET} run --kernel {images.kernel("6.1-cloud")} --initrd {images.initrd("6.1-cloud", script="true")} \
    --stats {directory}/fifo </dev/null && wait && test -p {directory}/fifo && cat {directory}/read
"""
        result = vm.run("sh", "-c", script)
        assert json.loads(result.stdout[result.stdout.index('{\n  "duet"'):])["machine"]

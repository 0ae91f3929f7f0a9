# SPDX-License-Identifier: Apache-2.0
"""The lab host as its callers see it: streams, status, signals, crashes, counts."""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from calls import LAB, REPOSITORY, SECONDS, in_lab, lab, one_more, script, started
from duetlab.base.cache import cache_dir
from duetlab.base.errors import LabError
from duetlab.host import counter, life, machine, mends, plugin, wire
from duetlab.host.life import LabHost


@pytest.fixture(scope="module", autouse=True)
def up():
    result = lab("up", timeout=1800)
    assert result.returncode == 0, result.stderr.decode()


@pytest.fixture
def shared(tmp_path_factory):
    """A directory that machine and lab host share."""
    path = cache_dir() / f"test-{os.getpid()}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


# Streams


def test_output_and_errors_are_separate_and_binary():
    result = script(r"printf 'a\0\377\r\nb'; printf 'c\0d' >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"a\0\xff\r\nb", b"c\0d")


def test_input_passes_whole():
    data = random.Random(1).randbytes(3_000_001)
    result = in_lab("cat", input=data)
    assert result.returncode == 0
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()


def test_input_that_nobody_reads_does_not_block():
    assert in_lab("true", input=bytes(5_000_000)).returncode == 0
    assert script("exec 0<&-; sleep 1; echo done", input=bytes(5_000_000)).stdout == b"done\n"


def test_output_streams_while_the_command_runs():
    process = started("echo ready; read x; echo no")
    process.terminate()
    process.wait(SECONDS)


def test_output_of_a_slow_reader_is_whole():
    with subprocess.Popen(
        [LAB, "exec", "-n", "--", "seq", "1000000"], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as process:
        time.sleep(3)
        data = process.stdout.read()
        assert process.wait(SECONDS) == 0
    assert data == b"".join(b"%d\n" % i for i in range(1, 1000001))


def test_a_reader_that_leaves_ends_the_command():
    process = subprocess.Popen(
        [LAB, "exec", "-n", "--", "sh", "-c", "echo $$; exec yes"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    pid = process.stdout.readline().decode().strip()
    process.stdout.close()
    assert process.wait(SECONDS) == 128 + signal.SIGPIPE
    assert (
        script(
            f"for i in 1 2 3 4 5 6; do kill -0 {pid} || exit 0; sleep 1; done; exit 1"
        ).returncode
        == 0
    )


# Status


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_exit_status(code):
    assert script(f"exit {code}").returncode == code


def test_death_by_signal():
    assert script("kill -KILL $$").returncode == 128 + signal.SIGKILL


def test_command_that_is_not_there():
    result = in_lab("no-such-command")
    assert result.returncode == 127
    assert b"no-such-command: No such file" in result.stderr


def test_command_that_is_not_executable():
    assert in_lab("/etc/passwd").returncode == 126


def test_bad_command_line():
    assert lab("exec", "--").returncode == 2
    assert lab("nonsense").returncode == 2


# Surroundings


def test_working_directory_environment_and_umask():
    result = subprocess.run(
        [
            "sh",
            "-c",
            f"umask 027; exec {LAB} exec -n --env OWN=1 --env SECRET -- sh -c 'pwd; umask; env'",
        ],
        cwd=REPOSITORY / "lab/host",
        env={**os.environ, "DUET_TEST": "x y", "SECRET": "s", "UNRELATED": "u"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert lines[:2] == [str(REPOSITORY / "lab/host"), "0027"]
    assert {"DUET_TEST=x y", "OWN=1", "SECRET=s", "DUET_LAB=1"} <= set(lines)
    assert "UNRELATED=u" not in lines


def test_working_directory_that_the_lab_lacks(tmp_path):
    result = in_lab("true", cwd=tmp_path)
    assert result.returncode == 125
    assert b"not there in the lab host" in result.stderr


def test_shared_files_are_fresh_on_both_sides(shared):
    path = shared / "program"
    for text in ("exit 3", "exit 4", "#" * 5000 + "\nexit 5", "exit 6"):
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        assert in_lab(path).returncode == int(text[-1])
    for source, status in (("/bin/false", 1), ("/bin/true", 0), ("/bin/false", 1)):
        shutil.copyfile(source, path)  # in place: the same inode
        assert in_lab(path).returncode == status
    path.unlink()
    assert in_lab(path).returncode == 127
    assert script(f"echo from the lab >{path}").returncode == 0
    assert path.read_text() == "from the lab\n"


def test_the_host_has_what_duet_needs():
    result = script(
        "set -e; exec 3<>/dev/kvm; exec 4<>/dev/net/tun; cat /sys/module/kvm_amd/parameters/npt;"
        "ls -d /sys/devices/system/node/node[01] | wc -l; ls /sys/kernel/iommu_groups | head -1;"
        "cat /proc/sys/kernel/io_uring_disabled; test -e /sys/fs/cgroup/cgroup.controllers;"
        "test -d /sys/kernel/debug/kvm; unshare -U true; echo x >/dev/shm/x; echo x >~/x;"
        "dd if=/dev/zero of=/scratch/x bs=4k count=1 oflag=direct 2>/dev/null;"
        "cat /sys/bus/pci/drivers/nvme/*/sriov_totalvfs; modprobe dummy"
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.split() == [b"Y", b"2", b"0", b"0", b"2"]


# Signals


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1"])
def test_signals_reach_the_command(name):
    number = getattr(signal, f"SIG{name}")
    # A signal that is ignored, as nohup does with HUP, stays so in the command.
    before = signal.signal(number, signal.SIG_DFL)
    process = started(
        f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
    )
    signal.signal(number, before)
    process.send_signal(number)
    out, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (9, f"got {name}\n".encode())


def test_signals_reach_the_whole_process_group():
    child = "sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.1; done'"
    process = started(f"trap : TERM; {child}; exit 7")
    process.terminate()
    out, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (7, b"child\n")


def test_a_killed_caller_takes_its_command_along():
    process = started("echo ready; echo $$; trap '' HUP; while :; do sleep 0.2; done")
    pid = process.stdout.readline().decode().strip()
    process.kill()
    process.wait()
    assert (
        script(
            f"for i in 1 2 3 4 5 6; do kill -0 {pid} || exit 0; sleep 1; done; exit 1"
        ).returncode
        == 0
    )


# Several at once


def test_two_at_once_meet_in_one_host():
    first = started(
        "echo ready; while [ ! -e /run/meet ]; do sleep 0.1; done; cat /run/meet; rm /run/meet"
    )
    assert script("echo hello >/run/meet.new; mv /run/meet.new /run/meet").returncode == 0
    out, _ = first.communicate(timeout=SECONDS)
    assert (first.returncode, out) == (0, b"hello\n")


def test_many_at_once_have_their_own_streams():
    def one(i: int) -> bool:
        result = script(f"cat; seq {i} 7 60000; echo {i} >&2; exit {i}", input=b"%d\n" % i * 999)
        wanted = b"%d\n" % i * 999 + b"".join(b"%d\n" % n for n in range(i, 60001, 7))
        return (result.returncode, result.stdout, result.stderr) == (i, wanted, b"%d\n" % i)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, range(12)))


# A terminal


def test_terminal():
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    process = subprocess.Popen(
        [
            LAB,
            "exec",
            "--tty",
            "--",
            "sh",
            "-c",
            "tty; stty size; echo ready; read x; echo got $x; sleep 60",
        ],
        cwd=REPOSITORY,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + SECONDS
        while text not in seen:
            assert select.select([master], [], [], max(0, end - time.monotonic()))[0], seen
            seen += os.read(master, 4096)

    until(b"ready")
    assert re.search(rb"/dev/pts/\d+\r\n33 99\r\n", seen)
    os.write(master, b"line\r")
    until(b"got line")
    os.write(master, b"\x03")
    assert process.wait(SECONDS) == 128 + signal.SIGINT
    os.close(master)


# Life of the lab host


def test_status():
    result = lab("status", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["options"]["qemu"] in ("mended", "stock")


def test_options_that_do_not_fit_are_refused():
    result = lab("up", "--memory", "1234")
    assert result.returncode == 125
    assert b"take it down first" in result.stderr


def test_clones_have_lab_hosts_of_their_own(tmp_path):
    assert LabHost(tmp_path / "a").state != LabHost(tmp_path / "b").state


@pytest.fixture(scope="module")
def another():
    """A second lab host of this clone, to be crashed."""
    with one_more("crash") as env:
        yield env


@pytest.mark.parametrize(
    "crash, reason",
    [("panic", "Kernel panic - not syncing: sysrq"), ("kill", "QEMU is gone")],
)
def test_a_crash_is_noticed_and_said(another, crash, reason):
    if lab("status", env=another).returncode != 4:  # after the first crash, up says it and starts
        assert lab("up", "--memory", "1024", env=another, timeout=600).returncode == 0
    else:
        result = lab("up", "--memory", "1024", env=another, timeout=600)
        assert (result.returncode, b"crashed" in result.stderr) == (0, True)
    process = started("echo ready; sleep 100", env={**os.environ, **another})
    if crash == "panic":
        assert (
            lab("exec", "--", "sh", "-c", "echo c >/proc/sysrq-trigger", env=another).returncode
            == 125
        )
    else:
        os.kill(json.loads(lab("status", "--json", env=another).stdout)["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 125
    assert len(errors.decode().splitlines()) == 1
    assert reason in errors.decode() and "console.log" in errors.decode()
    assert lab("status", env=another).returncode == 4


def test_taking_it_down_is_no_crash(another):
    assert lab("up", "--memory", "1024", env=another, timeout=600).returncode == 0
    process = started("echo ready; sleep 100", env={**os.environ, **another})
    assert lab("down", env=another).returncode == 0
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 125
    assert b"was taken down" in errors
    assert lab("status", env=another).returncode == 3


# Here or there


def test_direct_runs_here():
    result = lab(
        "exec", "--direct", "--", "sh", "-c", "cat; echo ${DUET_LAB:-here}; exit 5", input=b"in\n"
    )
    assert (result.returncode, result.stdout) == (5, b"in\nhere\n")
    assert lab("exec", "--direct", "--", "no-such-command").returncode == 127


def test_mode_names_one_of_two():
    found = lab("mode").stdout.decode().strip()
    assert found in ("hardware", "lab")
    where = lab("exec", "--auto", "--", "sh", "-c", "echo ${DUET_LAB:-0}").stdout
    assert where == (b"1\n" if found == "lab" else b"0\n")


# Counts


def test_two_counts_of_the_same_work_agree():
    host = LabHost()
    mark = plugin.mark_program()
    work = "awk 'BEGIN { for (i = 0; i < 3000000; i++) s += i * i }'"
    counter.marks(host)
    result = script(f"for i in 1 2 3 4 5 6; do {mark} 1; {work}; {mark} 2; done")
    assert result.returncode == 0
    marks = counter.marks(host)["marks"]
    assert [mark["id"] for mark in marks] == [1, 2] * 6
    counts = [
        after["sum"]["host_user"] - before["sum"]["host_user"]
        for before, after in zip(marks[::2], marks[1::2], strict=True)
    ][1:]  # the first run also fills caches
    # The program's own: on a busy machine the kernel's timer ticks come more often in the same work.
    assert min(counts) > 500e6
    least, next_least = sorted(counts)[:2]
    assert next_least / least < 1.001, counts
    assert not any(mark["in_guest"] for mark in marks)


def test_host_instructions_are_split_by_mode():
    host = LabHost()
    before = counter.count(host)["sum"]
    script("awk 'BEGIN { for (i = 0; i < 3000000; i++) s += i }'")
    middle = counter.count(host)["sum"]
    script("dd if=/dev/zero of=/dev/null bs=1 count=300000 2>/dev/null")
    after = counter.count(host)["sum"]
    assert middle["host_user"] - before["host_user"] > 3 * (
        middle["host_kernel"] - before["host_kernel"]
    )
    assert after["host_kernel"] - middle["host_kernel"] > 3 * (
        after["host_user"] - middle["host_user"]
    )


# The mends and the frames, without a lab host


SOURCE = """\
#include "qemu/log.h"
        cs->interrupt_request |= CPU_INTERRUPT_VIRQ;
        case SVM_EVTINJ_TYPE_INTR:
            do_interrupt_x86_hardirq(env, vector, 1);
            break;
    /* Clears the V_IRQ and V_INTR_MASKING bits inside the processor. */
    cs->interrupt_request &= ~CPU_INTERRUPT_VIRQ;
    env->hflags |= HF_GUEST_MASK;
void do_vmexit(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
"""


def _mended(text: str) -> str:
    chosen = [mend for mend in mends.MENDS if mend.file == mends.SVM]
    return mends.mended(text, Path(mends.SVM), chosen)


def test_the_mends_go_in_once():
    once = _mended(SOURCE)
    assert once.count("cs->exception_index = -1;") == 1
    assert once.index("bql_lock();") < once.index("|= CPU_INTERRUPT_VIRQ")
    assert "&= ~CPU_INTERRUPT_VIRQ" not in once


@pytest.mark.parametrize("text", ["", SOURCE * 2, SOURCE.replace("|=", "=")])
def test_the_mends_refuse_other_source(text):
    with pytest.raises(LabError, match="instead of one"):
        _mended(text)


def test_cpus_are_divided_among_the_nodes(tmp_path):
    made = machine.Machine(SimpleNamespace(binary="qemu", firmware=(), version=(10, 0, 0)), tmp_path, 4096, tmp_path, tmp_path, tmp_path, cpus=6)
    words = machine.arguments(made)
    assert words[words.index("-smp") + 1] == "6"
    nodes = [word.partition("cpus=")[2].partition(",")[0] for word in words if word.startswith("node,")]
    assert nodes == ["0-2", "3-5"]


@pytest.mark.parametrize("text", ["0", "3", "66", "-2", "four"])
def test_cpus_that_cannot_be_divided_are_refused(text):
    result = lab("up", f"--cpus={text}")
    assert result.returncode == 2
    assert b"give an even number from 2 to 64" in result.stderr


def test_frames_survive_any_cutting():
    frames = [(wire.STDOUT, b"x" * n) for n in (0, 1, 70000)] + [(wire.EXIT, b"{}")]
    data = b"".join(wire.frame(*one) for one in frames)
    for size in (1, 7, 5000, len(data)):
        parser = wire.Parser()
        seen = [one for i in range(0, len(data), size) for one in parser.feed(data[i : i + size])]
        assert seen == frames
    with pytest.raises(ValueError):
        wire.Parser().feed(wire.HEADER.pack(b"o", wire.MAX_FRAME + 1))


class Stalling(LabHost):
    """Its QEMU is a sleep, that boots or stalls as BOOTS says."""

    def __init__(self, state: Path, boots: list[bool]):
        self.state, self.boots, self.launched = state, boots, []
        self.console = state / "console.log"

    def _prepare(self, _kernel):
        for name in ("ready", "console.log"):
            (self.state / name).unlink(missing_ok=True)

    def _launch(self, _wanted):
        if self.boots[len(self.launched)]:
            (self.state / "ready").touch()
        else:
            self.console.write_text(f"[   23.6] rcu: rcu_preempt {life.STALLED} for 5249 jiffies!\n")
        self.launched.append(subprocess.Popen(["sleep", "600"]))
        return self.launched[-1]

    def _agent_port(self):
        return 7


def test_a_start_that_stalls_is_tried_once_more(tmp_path):
    host = Stalling(tmp_path, [False, True])
    process, port = host._boot(None, None)
    assert port == 7 and process is host.launched[1] and process.poll() is None
    assert host.launched[0].poll() == -signal.SIGKILL
    process.kill()
    process.wait()
    host = Stalling(tmp_path, [False, False])
    with pytest.raises(life.Stalled, match="console.log"):
        host._boot(None, None)
    assert all(process.poll() == -signal.SIGKILL for process in host.launched)

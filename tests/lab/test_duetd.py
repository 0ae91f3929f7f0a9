# SPDX-License-Identifier: Apache-2.0
"""The manager and duetctl as programs: a machine's API that a test plays, a made-up /proc and /sys."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import BUILD, MADE_UP, Host, wait_for

REPOSITORY = BUILD.parent


@pytest.fixture(name="host")
def made_up_host(tmp_path):
    host = Host(tmp_path)
    host.add_here()
    yield host
    host.end()


def test_tells_what_it_knows(host):
    duetd = host.start("--cpu", "off")
    host.sees("web ")
    host.sees("3M")
    assert "host: 2M of 4M available" in host.ctl("top").stdout
    explained = host.ctl("explain", "web")
    assert explained.returncode == 0
    assert [line.split()[0] for line in explained.stdout.splitlines()[3:6]] == ["memory", "cpu", "numa"]
    assert "  * off " in host.ctl("policy").stdout
    assert host.ctl("policy", "memory", "off").returncode == 0
    for words, status in ((["explain", "nobody"], 1), (["policy", "memory", "brew"], 1), (["policy", "memory"], 2),
                          (["explain"], 2), (["explain", "a/b"], 2), (["brew"], 2), ([], 2)):
        refused = host.ctl(*words)
        assert refused.returncode == status and refused.stderr and not refused.stdout, words
    duetd.terminate()
    assert duetd.wait(timeout=20) == 0
    assert not host.socket.exists()
    gone = host.ctl("ps")
    assert gone.returncode == 1 and "start it" in gone.stderr


def test_one_is_enough_and_the_next_takes_over(host):
    first = host.start()
    host.sees("web ")
    second = host.start()
    assert second.wait(timeout=20) == 1
    assert "another duetd" in second.stderr.read()
    host.sees("web ")
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=20)
    undo = subprocess.run([BUILD / "duetd", "--undo", "--root", host.root], capture_output=True, text=True, check=False,
                          timeout=20)
    assert (undo.returncode, undo.stderr) == (0, "")
    assert (host.root / "sys/fs/cgroup/unit/cpu.weight").read_text().strip() == "100"
    third = host.start()
    host.sees("web ")
    third.terminate()
    assert third.wait(timeout=20) == 0
    assert (host.root / "sys/fs/cgroup/unit/cpu.weight").read_text().strip() == "100"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_ends_it_puts_everything_back(host, number):
    """SIGHUP is what a closed terminal sends; SIGTERM is tried by the others."""
    duetd = host.start()
    host.sees("web ")
    duetd.send_signal(number)
    assert duetd.wait(timeout=20) == 0
    assert not host.socket.exists()
    assert f"signal {int(number)}: everything is put back" in duetd.stderr.read()


def test_nobody_reads_its_log(host):
    """A stalled pipe holds nothing up: lines are left out."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    os.set_blocking(writing, True)
    duetd = subprocess.Popen([BUILD / "duetd", "--root", host.root, "--directory", host.root / "vms", "--socket",
                              host.socket, "--period", "100", "--log", "debug"], stderr=writing)
    host.processes.append(duetd)
    os.close(writing)
    host.sees("web ")
    duetd.terminate()
    assert duetd.wait(timeout=20) == 0
    os.close(reading)


def test_files_that_are_no_sockets_stay(host, tmp_path):
    """Nor are they a directory."""
    file = tmp_path / "precious"
    file.write_text("kept")
    for words in (["--socket", file], ["--directory", file]):
        result = subprocess.run([BUILD / "duetd", "--root", host.root, "--directory", host.root / "vms", *words],
                                capture_output=True, text=True, check=False, timeout=20)
        assert result.returncode == 1 and f"{words[0]} {file}: is " in result.stderr
        assert file.read_text() == "kept"


@pytest.mark.parametrize("words", [["--period", "99"], ["--memory", "brew"], ["--socket"], ["--log", "loud"], ["-x"]])
def test_wrong_command_lines(words):
    result = subprocess.run([BUILD / "duetd", *words], capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == 2 and words[0] in result.stderr


@pytest.mark.parametrize("words", [["--help"], ["ps", "--help"], ["explain", "-h"], ["policy", "cpu", "--help"]])
def test_helps_wherever_it_is_asked_to(words):
    result = subprocess.run([BUILD / "duetctl", *words], capture_output=True, text=True, check=False, timeout=20)
    assert (result.returncode, result.stderr) == (0, "") and "Usage: duetctl" in result.stdout


def test_a_socket_is_a_path_before_a_command():
    for words in (["--socket"], ["--socket", "nowhere"]):
        result = subprocess.run([BUILD / "duetctl", *words], capture_output=True, text=True, check=False, timeout=20)
        assert result.returncode == 2 and "--socket" in result.stderr and not result.stdout


# Units are files of their state; what systemd was told stands in another.
SYSTEMCTL = """#!/bin/sh
root={root}
if [ "$1" = show ]; then
	shift 4
	for unit; do
		echo Id=$unit; cat $root/units/$unit 2>/dev/null || echo ActiveState=inactive; echo
	done
else
	echo "$*" >>$root/told
	[ ! -e $root/refuses ] || {{ cat $root/refuses >&2; exit 1; }}
fi
"""


@pytest.fixture(name="units")
def host_with_units(tmp_path):
    """With systemd, such as it is, and three configurations, one of which is wrong."""
    host = Host(tmp_path)
    for folder in ("bin", "etc/duet", "units", "run/systemd/system"):
        (tmp_path / folder).mkdir(parents=True)
    program = tmp_path / "bin/systemctl"
    program.write_text(SYSTEMCTL.format(root=tmp_path))
    program.chmod(0o755)
    for name in ("web", "mail"):
        (tmp_path / f"etc/duet/{name}.json").write_text('{"duet": 1, "kernel": "k"}')
    (tmp_path / "etc/duet/bad.json").write_text('{"duet": 1,\n "kernel": "k",\n "share": 0}')
    (tmp_path / "units/duet@web.service").write_text("ActiveState=active\nUnitFileState=enabled\n")
    host.start(env={**os.environ, "PATH": f"{tmp_path}/bin:{BUILD}:{os.environ['PATH']}"})
    wait_for(host.socket.exists)
    yield host
    host.end()


def test_starts_and_stops_by_units(units):
    told = units.root / "told"
    listed = units.ctl("list")
    assert listed.returncode == 0 and listed.stderr == ""
    assert [line.split()[:3] for line in listed.stdout.splitlines()[1:]] == [
        ["bad", "stopped", "no"], ["mail", "stopped", "no"], ["web", "runs", "yes"]]
    assert "etc/duet/bad.json:3: share: give a number from 1 to 10000" in listed.stdout
    assert units.ctl("start", "mail").returncode == 0
    assert told.read_text() == "--no-block --no-ask-password start -- duet@mail.service\n"
    assert units.ctl("stop", "web").returncode == 0
    assert told.read_text().splitlines()[1:] == ["--no-block --no-ask-password stop -- duet@web.service"]
    for words, status, says in ((["start", "bad"], 1, "bad.json:3: share"), (["start", "none"], 1, "No such file"),
                                (["stop", "mail"], 1, "duet@mail.service is inactive"), (["start"], 2, "arguments"),
                                (["start", "../web"], 2, "no name"), (["stop", "-x"], 1, "no name")):
        refused = units.ctl(*words)
        assert refused.returncode == status and says in refused.stderr and not refused.stdout, words
    assert len(told.read_text().splitlines()) == 2
    (units.root / "refuses").write_text("Failed to start duet@mail.service: Unit is masked.\n")
    refused = units.ctl("start", "mail")
    assert refused.returncode == 1 and "Unit is masked" in refused.stderr


def test_starts_none_that_runs(units):
    """Its unit would take the socket from a machine that was started otherwise."""
    units.add_here("mail")
    units.sees("mail ")
    refused = units.ctl("start", "mail")
    assert refused.returncode == 1 and "mail runs already" in refused.stderr
    assert not (units.root / "told").exists()


def test_without_systemd(units):
    (units.root / "run/systemd/system").rmdir()
    listed = units.ctl("list")
    assert listed.returncode == 1 and "systemd does not run here" in listed.stderr
    assert "bad.json:3" in listed.stdout and len(listed.stdout.splitlines()) == 4
    refused = units.ctl("start", "web")
    assert refused.returncode == 1 and "duet run --config /etc/duet/web.json" in refused.stderr


def test_goes_on_while_a_program_hangs(units):
    """duetd waits for nobody: it answers and decides while systemctl does not come back."""
    (units.root / "bin/systemctl").write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs = subprocess.Popen([BUILD / "duetctl", "--socket", units.socket, "list"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    units.processes.append(hangs)
    units.add_here("new")
    units.sees("new ")
    assert hangs.poll() is None
    units.processes[0].terminate()
    assert units.processes[0].wait(timeout=20) == 0
    assert hangs.wait(timeout=20) == 1


def played(path) -> dict:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /duet/brief HTTP/1.1\r\nHost: x\r\n\r\n")
        with client.makefile("rb") as stream:
            return json.loads(stream.read().partition(b"\r\n\r\n")[2])


def test_machines_can_be_played(tmp_path):
    """For lab/bench: each has a thread of its own, and says something new each time."""
    brief = tmp_path / "brief"
    brief.write_text(json.dumps({"id": "x", "threads": [1, 2], "hints": {"machine": {"working_set_bytes": 1 << 20}}}))
    command = ["python3", REPOSITORY / "lab/host/players.py", tmp_path, "2", brief]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as players:
        assert players.stdout.readline() == "playing\n"
        sockets = [tmp_path / f"played{number}.sock" for number in range(2)]
        wait_for(lambda: all(path.exists() for path in sockets))
        one, other, again = played(sockets[0]), played(sockets[1]), played(sockets[0])
        assert len({*one["threads"], *other["threads"]}) == 4
        assert one["hints"] != again["hints"] and one["threads"] == again["threads"]
        players.terminate()
    assert not any(Path(f"/proc/{answer['threads'][0]}").exists() for answer in (one, other))


# On this very machine, with a /run of its own for the journal.
NOTHING_GIVEN = """
mount --make-rprivate / && mount -o remount,bind,ro /sys && mount -t tmpfs none /sys/fs/cgroup &&
mount -t tmpfs none /proc/pressure && mount -t tmpfs none /run || exit 77
cd {directory}
{build}/duetd --directory vms --socket ./duetd --budget 128M --memory static --period 200 2>log & pid=$!
until {build}/duetctl --socket ./duetd explain web | grep "may hold [0-9]* of its 256 MiB: its share of 250"; do
	kill -0 $pid || exit 8
	sleep 0.1
done
{build}/duetctl --socket ./duetd policy
kill $pid; wait $pid; echo "status $?"
"""


def test_a_host_that_gives_nothing(tmp_path):
    """As in a container: no cgroup to write to, no pressure to read. Balloons are what is left, and each lever says what it
    lacks."""
    (tmp_path / "vms").mkdir()
    machine = subprocess.Popen([sys.executable, MADE_UP, tmp_path / "vms/web.sock", json.dumps(
        {"memory_mib": 256, "cpus": 1, "share": 250, "balloon": {
            "target_mib": 32, "actual_mib": 32, "total_memory": 220 << 20, "free_memory": 170 << 20,
            "available_memory": 190 << 20}})], stdin=subprocess.DEVNULL)
    try:
        result = subprocess.run(["unshare", "-m", "timeout", "50", "sh", "-c", NOTHING_GIVEN.format(directory=tmp_path, build=BUILD)],
                                capture_output=True, text=True, check=False, timeout=60)
    finally:
        machine.kill()
        machine.wait()
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no namespace of mounts is to be had: {result.stderr}")
    assert result.returncode == 0, result.stderr + (tmp_path / "log").read_text()
    for lever in ("cpu-weight", "reclaim", "psi"):
        assert re.search(rf"^ +without {lever}: \S", result.stdout, re.MULTILINE), result.stdout
    assert result.stdout.endswith("status 0\n")

# SPDX-License-Identifier: Apache-2.0
"""The manager and duetctl as programs: a machine's API that a test plays, a made-up /proc and /sys."""

import signal
import subprocess

import pytest
from made_up import BUILD, Host


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

# SPDX-License-Identifier: Apache-2.0
"""`duetd utilization` beside a duetd with a made-up host; Pacemaker's programs are this test's."""

import os
import signal
import subprocess

import pytest
from made_up import BUILD, Host, heed_signals, wait_for

# What Pacemaker was told. A folder as tall as `down` is a cluster that does not answer.
TOOL = '#!/bin/sh\n[ ! -e "{root}/down" ] || {{ echo "could not connect: No such device" >&2; exit 102; }}\n' \
       'echo "${{0##*/}} $*" >>"{root}/told"\n'


@pytest.fixture(name="host")
def a_node(tmp_path):
    host = Host(tmp_path, memory_kib=4 << 20, available_kib=2 << 20)
    (tmp_path / "bin").mkdir()
    for name in ("crm_attribute", "crm_resource"):
        (tmp_path / "bin" / name).write_text(TOOL.format(root=tmp_path))
        (tmp_path / "bin" / name).chmod(0o755)
    host.add("web", 300 << 20, memory_mib=512, cpus=1)
    host.add("other", 100 << 20, memory_mib=512, cpus=1)  # none of Pacemaker's
    (tmp_path / "vms/web.resource").write_text("vm-web\n")
    host.cpus(1, 4 << 20)
    host.start()
    host.sees("web ")
    host.sees("other ")
    yield host
    host.end()


def publish(host, *words):
    process = subprocess.Popen([BUILD / "duetd", "utilization", "--socket", host.socket, "--directory", host.root / "vms",
                                "--period", "10", *words], stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals,
                               env={**os.environ, "PATH": f"{host.root}/bin:/usr/bin:/bin"})
    host.processes.append(process)
    return process


def told(host):
    path = host.root / "told"
    return path.read_text().splitlines() if path.exists() else []


def test_tells_at_once_and_then_what_has_changed(host):
    process = publish(host)
    wait_for(lambda: len(told(host)) >= 4)
    # Available, and what the machines take, less the reserve of a sixteenth.
    assert told(host)[:2] == ["crm_attribute --lifetime reboot --utilization --name memory --update 2192",
                              "crm_attribute --lifetime reboot --utilization --name cpu --update 200"]
    assert told(host)[2] == "crm_resource --resource vm-web --utilization --set-parameter memory --parameter-value 319"
    assert "--resource vm-web --utilization --set-parameter cpu" in told(host)[3]
    (host.root / "sys/fs/cgroup/unit-web/memory.current").write_text(f"{500 << 20}\n")
    wait_for(lambda: any("vm-web" in line and "memory" in line for line in told(host)[4:]), 40)
    assert not any("other" in line for line in told(host))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def test_a_cluster_that_is_down(host):
    (host.root / "down").touch()
    process = publish(host)
    assert "Pacemaker was not told: could not connect" in process.stderr.readline()
    (host.root / "down").unlink()
    wait_for(lambda: len(told(host)) >= 4, 40)


def test_a_duetd_that_is_gone(host):
    process = publish(host)
    wait_for(lambda: len(told(host)) >= 4)
    host.processes[2].kill()
    assert "what Pacemaker was told stays until duetd answers" in process.stderr.readline()
    assert process.poll() is None


def test_names_that_are_options(host):
    """A resource's name is a word of its own, or nobody is told."""
    (host.root / "vms/web.resource").write_text("--force\n")
    publish(host)
    wait_for(lambda: len(told(host)) >= 2)
    host.processes[-1].terminate()
    assert host.processes[-1].wait(timeout=20) == 0
    assert all(line.startswith("crm_attribute") for line in told(host))


@pytest.mark.parametrize("words", [["--period", "9"], ["--period"], ["--socket"], ["--brew", "x"]])
def test_wrong_command_lines(words):
    result = subprocess.run([BUILD / "duetd", "utilization", *words], capture_output=True, text=True, check=False, timeout=20)
    assert result.returncode == 2 and words[0] in result.stderr

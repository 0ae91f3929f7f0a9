# SPDX-License-Identifier: Apache-2.0
"""The command line as its users see it, without a machine: help, completion, configurations."""

import errno
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DUET = REPOSITORY / "build" / "duet"


def duet(*words, **more):
    return subprocess.run([DUET, *words], capture_output=True, text=True, check=False, timeout=60,
                          **more)


def complete(*words):
    """What bash offers for the last of the words, which it cuts at '='."""
    lines = f"""
    compopt() {{ :; }}
    source {REPOSITORY}/build/src/cli/duet
    COMP_WORDS=({" ".join(f"'{word}'" for word in ("duet", *words))})
    COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
    _duet && printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True,
                            timeout=60)
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize("words, offered", [
    (["r"], ["run"]),
    (["run", "--irq"], ["--irqchip"]),
    (["ctl", "vm.sock", "po"], ["policy", "post"]),
    (["ctl", "vm.sock", "policy", "net0", "mac"], ["mac-check="]),
    (["run", "--ring", "p"], ["packed"]),
    (["run", "--ring", "=", "p"], ["packed"]),
    (["run", "--ring", "="], ["split", "packed"]),
    (["run", "--disk", "pa"], ["path="]),
    (["run", "--disk", "path", "=", "x,mo"], ["x,model="]),
    (["run", "--disk", "path", "=", "x,model", "=", "i"], ["ide"]),
    (["run", "--net", "us"], ["user,"]),
    (["run", "--net", ""], ["tap,", "user,"]),
    (["run", "--net", "user,for"], ["user,forward="]),
    (["run", "--device", "vf"], ["vfio,"]),
    (["run", "--pv", "no"], ["none"]),
    (["run", "--pv", "-st"], ["-steal"]),
    (["run", "--pv", "-steal,-e"], ["-steal,-eoi"]),
    (["run", "--pv", "=", "clock,n"], []),
    (["run", "--bal"], ["--balloon"]),
    (["run", "--balloon", "size", "=", "1G,ref"], []),
    (["run", "--balloon", "size", "=", "1G,rep"], ["1G,reporting="]),
    (["run", "--balloon", "hinting", "=", "o"], ["on", "off"]),
    (["doctor", "--j"], ["--json"]),
    (["help", "d"], ["doctor"]),
    (["che"], ["check"]),
    (["run", "--print-config", "--cp"], ["--cpus", "--cpu-config"]),
    (["run", "--net", "tap,vhost", "=", "o"], ["on", "off"]),
    (["run", "--device", "vfio,ho"], ["vfio,host="]),
    (["run", "--cpus", "2", "--print"], ["--print-config"]),
])
def test_completion(words, offered):
    assert complete(*words) == offered


def test_completion_behind_an_option_without_a_value():
    assert {"--kernel", "--cpus", "--net"} <= set(complete("run", "--print-config", ""))


def test_completion_of_files(tmp_path):
    (tmp_path / "disk one.img").touch()
    assert " ".join(complete("run", "--kernel", f"{tmp_path}/di")) == f"{tmp_path}/disk one.img"
    assert " ".join(complete("run", "--disk", "path", "=", f"{tmp_path}/di")) == \
        f"{tmp_path}/disk one.img"


def manual_page(page):
    result = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", "-ww", page], capture_output=True, text=True,
                            check=True, timeout=60)
    assert result.stderr == ""
    return result.stdout


def test_manual_page_reads_well():
    page = manual_page(REPOSITORY / "build" / "src" / "cli" / "duet.1")
    assert "--on-reset" in page and "@OPTIONS@" not in page


@pytest.mark.parametrize(("program", "section"), [("duetd", 8), ("duetctl", 1), ("duet-oci", 1)])
def test_the_managers_pages_have_its_options(program, section):
    page = manual_page(REPOSITORY / "docs" / f"{program}.{section}")
    usage = subprocess.run([REPOSITORY / "build" / program, "--help"], capture_output=True, text=True, check=True,
                           timeout=60).stdout
    assert usage.startswith(f"Usage: {program} ")
    for option in re.findall(r"--[a-z]+", usage):
        assert option in page, option


def test_what_is_printed_is_what_is_read(tmp_path):
    words = ["--kernel", "k", "--cpus", "4", "--disk", "path=a,model=ide", "--net", "user",
             "--disk", "path=b", "--print-config"]
    printed = duet("run", *words)
    assert printed.returncode == 0 and printed.stderr == ""
    config = json.loads(printed.stdout)
    assert [d["id"] for d in config["devices"]] == ["disk0", "net0", "disk1", "ide0", "entropy0"]
    file = tmp_path / "vm.json"
    file.write_text(printed.stdout)
    assert duet("run", "--config", str(file), "--print-config").stdout == printed.stdout
    # Another order gives the same devices the same places.
    slots = {d["id"]: d.get("slot") for d in config["devices"]}
    other = json.loads(duet("run", "--net", "user", *words[:6], "--disk", "path=b",
                            "--print-config").stdout)
    assert {d["id"]: d.get("slot") for d in other["devices"]} == slots


def test_a_fault_is_told_with_its_line(tmp_path):
    file = tmp_path / "vm.json"
    file.write_text('{"duet": 1,\n "kernel": "k",\n "devices": [\n  {"type": "disk"}]}')
    result = duet("run", "--config", str(file))
    assert result.returncode == 2
    assert f"{file}:4: disk0: names no file" in result.stderr


def test_configurations_are_checked(tmp_path):
    """A line for each, whatever it is called and whatever stands in it."""
    good, bad, odd = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "odd\n\x1b.json"
    good.write_text('{"duet": 1, "kernel": "k"}')
    bad.write_text('{"duet": 1,\n "kernel": "k",\n "share": 0}')
    odd.write_text('{"duet": 1, "kernel": "k", "\\u001b\\n": 0}')
    result = duet("check", *map(str, (good, bad, odd, tmp_path / "none.json", good)))
    lines = result.stdout.split("\n")
    assert result.returncode == 1 and result.stderr == "" and len(lines) == 6
    assert lines[0] == lines[4] == f"{good}: ok"
    assert lines[1].startswith(f"{bad}:3: share: ") and "1 to 10000" in lines[1]
    assert "odd??.json" in lines[2] and "\x1b" not in lines[2]
    assert lines[3].startswith(f"{tmp_path}/none.json: No such file")
    assert duet("check", str(good)).returncode == 0
    assert duet("check").returncode == duet("check", "--brew").returncode == 2


@pytest.mark.parametrize("path, says", [
    ("/nonexistent", "/nonexistent: No such file; name one that"),
    ("/", "is a directory; name a file in it"),
    ("/dev/zero", "larger than"),
    ("/dev/null", "/dev/null: the file is empty"),
])
def test_configurations_that_are_none(path, says):
    result = duet("run", "--config", path)
    assert result.returncode == 2 and says in result.stderr


def test_a_configuration_from_a_pipe():
    result = duet("run", "--config", "/dev/stdin", "--print-config",
                  input='{"duet": 1, "kernel": "k", "cpus": 3}')
    assert result.returncode == 0 and json.loads(result.stdout)["cpus"] == 3


def test_options_win_over_the_file(tmp_path):
    file = tmp_path / "vm.json"
    file.write_text(duet("run", "--kernel", "k", "--console", "virtio", "--pv", "clock,steal",
                         "--disk", "path=a", "--print-config").stdout)
    words = ["run", "--config", str(file), "--print-config"]
    config = json.loads(duet(*words, "--console", "serial", "--entropy", "off", "--pv", "-steal",
                             "--disk", "path=b").stdout)
    assert config["pv"] == "clock"
    assert [d["id"] for d in config["devices"]] == ["disk0", "disk1"]
    again = duet(*words, "--disk", "path=b,id=disk0")
    assert again.returncode == 2 and "the id is another device's" in again.stderr


@pytest.mark.parametrize("words", [
    ["run", "--kernel", "k", "--print-config"], ["run", "--help"], ["doctor", "--json"], ["doctor"],
    ["doctor", "--help"], ["--help"], ["version"], ["check", "/dev/null"],
])
def test_what_could_not_be_printed_is_a_failure(words):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([DUET, *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                check=False, timeout=60)
    assert result.returncode == 1
    assert "standard output cannot be written" in result.stderr


def test_words_for_options():
    assert duet("help").stdout == duet("--help").stdout != ""
    assert duet("help", "run").stdout == duet("run", "--help").stdout != ""
    assert duet("help", "doctor").stdout == duet("doctor", "--help").stdout != ""
    unknown = duet("help", "bogus")
    assert unknown.returncode == 2 and "bogus: unknown command" in unknown.stderr
    assert duet("version").stdout == duet("--version").stdout != ""


@pytest.mark.parametrize("path, says", [
    ("", "is a directory; name a file in it"),
    ("absent/stats", "absent/stats: cannot be created"),
    ("link", "link: cannot be created"),
])
def test_statistics_that_cannot_be_written(tmp_path, path, says):
    (tmp_path / "link").symlink_to("absent/stats")
    result = duet("run", "--kernel", "k", "--stats", f"{tmp_path}/{path}")
    assert result.returncode == 1
    assert f"--stats {tmp_path}/{path}" in result.stderr and says in result.stderr
    assert ".tmp" not in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("prefix", [None, "/opt/with space"])
def test_make_install(tmp_path, prefix):
    """Programs, manual pages, units and completion, below DESTDIR; uninstall takes them away again."""
    words = [f"DESTDIR={tmp_path}"] + ([f"PREFIX={prefix}"] if prefix else [])

    def make(target):
        subprocess.run(["make", "-s", target, *words], cwd=REPOSITORY, check=True, timeout=60,
                       capture_output=True)

    make("install")
    home = tmp_path / (prefix or "/usr/local").lstrip("/")
    files = {"bin/duet": 0o755, "bin/duetctl": 0o755, "sbin/duetd": 0o755,
             "bin/duet-oci": 0o755, "libexec/duet/duet-agent": 0o755, "share/man/man1/duet-oci.1": 0o644,
             "share/doc/duet/examples/config.json": 0o644,
             "share/man/man1/duet.1": 0o644, "share/man/man8/duetd.8": 0o644, "share/man/man1/duetctl.1": 0o644,
             "share/bash-completion/completions/duet": 0o644,
             "lib/systemd/system/duet@.service": 0o644, "lib/systemd/system/duetd.service": 0o644}
    found = {str(path.relative_to(home)): path.stat().st_mode & 0o777
             for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files
    version = subprocess.run([home / "bin/duet", "--version"], capture_output=True, text=True, check=True,
                             timeout=60)
    assert version.stdout == duet("--version").stdout
    assert ".TH DUET 1" in (home / "share/man/man1/duet.1").read_text()
    assert ".TH DUETD 8" in (home / "share/man/man8/duetd.8").read_text()
    unit = (home / "lib/systemd/system/duetd.service").read_text()
    assert f'ExecStopPost="{prefix or "/usr/local"}/sbin/duetd" --undo' in unit
    make("uninstall")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_doctor_tells_what_is_built():
    found = json.loads(duet("doctor", "--json").stdout)["mechanisms"]
    built = [name for name, mechanism in found.items() if mechanism["built"]]
    assert built == [f"M{number}" for number in range(1, 17)]
    lines = duet("doctor").stdout.splitlines()
    assert sum("not built yet" in line for line in lines) == 16 - len(built)
    assert not any("not built yet" in line and "nested lab" in line for line in lines)


def test_tests_run_names_what_it_does_not_know():
    result = subprocess.run([REPOSITORY / "tests" / "run", "bogus"], capture_output=True, text=True,
                            check=False, timeout=60)
    assert result.returncode == 2 and "bogus" in result.stderr


def test_the_page_on_devices_shows_what_the_sources_say(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tests" / "lint")
    quotes = importlib.import_module("quotes")
    page = quotes.PAGE.read_text()
    assert len(quotes.BLOCK.findall(page)) > 9 and quotes.check(page) == []
    other = page.replace("virtqueue_push(", "virtqueue_give(", 1)
    assert other != page and len(quotes.check(other)) == 1
    assert quotes.mend(other) == page


@pytest.mark.parametrize("script", ["lab/deps", "lab/demo", "lab/stress", "lab/vf", "lab/bench", "lab/guests",
                                    "lab/lab", "tests/run", "tests/lint/run", "fuzz/run"])
def test_scripts_do_nothing_when_asked_for_help_or_nonsense(script):
    def run(word):
        return subprocess.run([REPOSITORY / script, word], capture_output=True, text=True, check=False,
                              timeout=60)

    told = run("--help")
    assert script in told.stdout and told.returncode == 0
    told = run("--nonsense")
    assert script in told.stdout + told.stderr and told.returncode == 2


def test_a_fuzz_target_that_is_not_there_is_told_before_all_are_built():
    result = subprocess.run([REPOSITORY / "fuzz" / "run", "serial", "bogus"], capture_output=True, text=True,
                            check=False, timeout=60)
    assert result.returncode == 2 and "bogus: no such target; choose " in result.stderr


def listens(path):
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_what_clients_of_firecracker_hear_before_a_start(tmp_path):
    """Metrics have one place; a tap that cannot be opened is told at once; what is not heeded is in the log."""
    path_of_api, log = tmp_path / "api.sock", tmp_path / "log"

    def put(path, **body):
        text = json.dumps(body)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path_of_api))
            client.sendall(f"PUT /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                           f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
            head, _, answer = client.makefile().read().partition("\n\n")
        assert head.startswith("HTTP/1.1 400" if answer else "HTTP/1.1 204")
        return json.loads(answer)["fault_message"] if answer else None

    with subprocess.Popen([DUET, "--api-sock", path_of_api, "--log-path", log, "--metadata", "m.json",
                           "--show-log-origin"]) as process:
        try:
            while not listens(path_of_api):
                assert process.poll() is None
            assert put("metrics", metrics_path=str(tmp_path / "metrics")) is None
            assert put("metrics", metrics_path=str(tmp_path / "others")) == (
                "Metrics error: Cannot initialize the metrics system due to bad user input: "
                "Reinitialization of metrics not allowed.")
            assert not (tmp_path / "others").exists()
            fault = put("network-interfaces/eth0", iface_id="eth0", host_dev_name="lo")
            assert fault.startswith("Network config error: Could not create the network device: "
                                    "Open tap device failed: --net tap,ifname=lo: ")
            assert put("logger", show_log_origin=True, module="api", show_level=False) is None
        finally:
            process.terminate()
    text = log.read_text()
    for word in ("--metadata m.json", "--show-log-origin", "show_log_origin", "module", "show_level"):
        assert f"{word}: is not" in text or f"{word} is not heeded" in text


@pytest.mark.parametrize("words, status", [
    (["--level", "Loud"], 153),
    (["--id", "a/b"], 153),
    (["--http-api-max-payload-size", "much"], 153),
    (["--no-api"], 153),
    (["--no-api", "--config-file", "/absent.json"], 152),
])
def test_exit_status_that_clients_of_firecracker_know(words, status, tmp_path):
    result = duet("--api-sock", str(tmp_path / "api.sock"), *words)
    assert (result.returncode, result.stdout) == (status, "")
    assert words[0] in result.stderr or words[-1] in result.stderr


def hangs_in(fifo, process):
    """The end of FIFO that PROCESS reads from now on, and waits for."""
    until = time.monotonic() + 60
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO and process.poll() is None and time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_hangs_before_the_machine_runs(tmp_path, number):
    os.mkfifo(tmp_path / "fifo")
    # A job in a shell's background has SIGINT ignored, and duet would keep to that.
    process = subprocess.Popen([DUET, "--api-sock", "api.sock", "--config-file", "fifo"], cwd=tmp_path,
                               stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))
    try:
        end = hangs_in(tmp_path / "fifo", process)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        os.close(end)
    finally:
        process.kill()
    assert process.returncode == -number
    assert said.startswith("duet: warning: ended by a signal before the machine ran")
    assert os.listdir(tmp_path) == ["fifo"]

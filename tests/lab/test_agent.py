# SPDX-License-Identifier: Apache-2.0
"""Pacemaker's agent ocf:duet:VM alone: systemd, duet and the cluster are programs of this test. What they are for the
agent tests/vm/test_fleet.py shows."""

import os
import re
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from made_up import wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
AGENT = REPOSITORY / "fleet" / "VM"
SUCCESS, GENERIC, ARGS, UNIMPLEMENTED, INSTALLED, CONFIGURED, NOT_RUNNING = 0, 1, 2, 3, 5, 6, 7

# What the agent takes of resource-agents, where that is not installed.
SHELLFUNCS = """
OCF_SUCCESS=0 OCF_ERR_GENERIC=1 OCF_ERR_ARGS=2 OCF_ERR_UNIMPLEMENTED=3 OCF_ERR_INSTALLED=5 OCF_ERR_CONFIGURED=6
OCF_NOT_RUNNING=7 __OCF_ACTION=$1
ocf_log() { echo "$*" >>"$FAKE/log"; }
ocf_exit_reason() { format=$1; shift; printf "ocf-exit-reason:$format\\n" "$@" >&2; printf "err $format\\n" "$@" >>"$FAKE/log"; }
ocf_is_probe() { [ "$__OCF_ACTION" = monitor ] && [ "${OCF_RESKEY_CRM_meta_interval:-0}" = 0 ]; }
ocf_is_true() { case $1 in yes | true | 1 | YES | TRUE | on | ON) true ;; *) false ;; esac; }
"""

# $FAKE/unit is its state; it runs what its options say. $FAKE/stubborn: signals that it does not end by.
SYSTEMCTL = """#!/bin/sh
state=$(cat "$FAKE/unit" 2>/dev/null || echo inactive)
case "$*" in
*MainPID* | *InvocationID*) echo 5 ;;
*ActiveState*) echo "$state" ;;
is-enabled*) echo disabled; exit 1 ;;
is-active*) cat "$FAKE/move" 2>/dev/null || echo inactive ;;
"start --no-block -- duet-move@web.service") echo active >"$FAKE/move" ;;
"stop -- duet-move@web.service") rm -f "$FAKE/move" ;;
"start -- duet@web.service")
	[ ! -e "$FAKE/fails" ] || { echo failed >"$FAKE/unit"; exit 0; }
	[ ! -e "$FAKE/slow" ] || { echo activating >"$FAKE/unit"; exit 0; }
	[ "$state" = active ] || echo "began: $(cat "$DUET_RUN/web.options")" >>"$FAKE/told"
	grep -q incoming "$DUET_RUN/web.options" && touch "$FAKE/waits" && listener >/dev/null 2>&1 </dev/null &
	echo active >"$FAKE/unit"
	;;
kill*)
	signal=${2#--signal=}
	echo "$signal" >>"$FAKE/told"
	grep -qx "$signal" "$FAKE/stubborn" 2>/dev/null && sed -i "0,/^$signal\\$/{//d}" "$FAKE/stubborn" && exit 0
	echo inactive >"$FAKE/unit"
	rm -f "$FAKE/waits"
	;;
esac
exit 0
"""

DUET = """#!/bin/sh
if [ "$1" = check ]; then
	! grep -q wrong "$2" || { echo "duet: error: $2:1: share: give a number from 1 to 10000" >&2; exit 1; }
	exit 0
fi
state=$(cat "$FAKE/unit" 2>/dev/null || echo inactive)
[ "$state" = active ] || [ -e "$FAKE/other" ] || { echo "duet: error: $2: no machine answers there" >&2; exit 1; }
[ ! -e "$FAKE/waits" ] || { echo "duet: error: refused (400): The machine is on its way here, and runs when it has come." >&2; exit 1; }
case "$3 $4" in
"alive "*)
	[ ! -e "$FAKE/hangs" ] || { echo "duet: error: the guest has shown no life for 60 s: no heartbeat of its kit" >&2; exit 3; }
	;;
"get /duet/migration") cat "$FAKE/migration" 2>/dev/null || exit 1 ;;
"put /duet/migration")
	[ ! -e "$FAKE/unfit" ] || { cat "$FAKE/unfit" >&2; exit 1; }
	;;
"delete /duet/migration" | "resume ") echo "$3" >>"$FAKE/told" ;;
"get /") echo '{"state": "'"$(cat "$FAKE/is" 2>/dev/null || echo Running)"'"}' | sed 's/,/,\\n/' ;;
esac
exit 0
"""
LISTENER = """#!/usr/bin/env python3
import re, os, socket, time
from pathlib import Path
port = int(re.search(r"127.0.0.1:(\\d+)", Path(os.environ["DUET_RUN"], "web.options").read_text())[1])
server = socket.create_server(("127.0.0.1", port))
while Path(os.environ["FAKE"], "waits").exists():
    time.sleep(0.02)
"""
ATTRD = """#!/bin/sh
echo "$*" >>"$FAKE/attributes"
case "$*" in
*-Q*) cat "$FAKE/place" 2>/dev/null ;;
*"-U tcp:"*) [ ! -e "$FAKE/comes" ] || rm -f "$FAKE/waits" ;;
esac
exit 0
"""
JOURNALCTL = '#!/bin/sh\ncat "$FAKE/journal" 2>/dev/null\n'
IP = "#!/bin/sh\n[ -e \"$FAKE/homeless\" ] || echo '2: eth1    inet 127.0.0.1/24 brd x scope global eth1'\n"
PROGRAMS = {"systemctl": SYSTEMCTL, "duet": DUET, "listener": LISTENER, "attrd_updater": ATTRD, "journalctl": JOURNALCTL,
            "ip": IP}


class Node:
    """A node of a cluster, as far as the agent sees it."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("bin", "run", "fake", "tls", "heartbeat"):
            (root / folder).mkdir()
        for name, text in PROGRAMS.items():
            (root / "bin" / name).write_text(text)
            (root / "bin" / name).chmod(0o755)
        self.config = root / "web.json"
        self.config.write_text('{"duet": 1}')
        for name in ("cert.pem", "key.pem", "ca.pem"):
            (root / "tls" / name).write_text("x")
        (root / "heartbeat" / "ocf-shellfuncs").write_text(SHELLFUNCS)
        self.parameters = {"config": str(self.config), "certificates": str(root / "tls"),
                           "migration_network": "127.0.0.0/24", "CRM_meta_timeout": "20000"}

    def environment(self, **parameters):
        given = {**self.parameters, **parameters}
        return {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "FAKE": str(self.root / "fake"),
                "DUET_RUN": str(self.root / "run"), "DUET_LIB": str(REPOSITORY / "fleet/lib"),
                "DUET_SYSTEMD": str(self.root), "OCF_FUNCTIONS_DIR": str(self.root / "heartbeat"),
                "OCF_RESOURCE_INSTANCE": "vm-web",
                **{f"OCF_RESKEY_{name}": value for name, value in given.items() if value is not None}}

    def begin(self, action, **parameters):
        return subprocess.Popen(["dash", AGENT, action], env=self.environment(**parameters), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def do(self, action, **parameters):
        process = self.begin(action, **parameters)
        self.said, self.reason = process.communicate(timeout=60)
        return process.returncode

    def has(self, name, text=""):
        (self.root / "fake" / name).write_text(text)

    def lacks(self, name):
        (self.root / "fake" / name).unlink(missing_ok=True)

    def told(self, name="told"):
        path = self.root / "fake" / name
        return path.read_text().splitlines() if path.exists() else []

    def left(self):
        return sorted(path.name for path in (self.root / "run").iterdir())


@pytest.fixture(name="node")
def a_node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.lacks("waits")  # the listener ends


def test_meta_data_is_what_the_agent_reads(node):
    assert node.do("meta-data", config=None) == SUCCESS
    meta = ElementTree.fromstring(re.sub("<!DOCTYPE.*>", "", node.said))
    described = {parameter.get("name") for parameter in meta.iter("parameter")}
    text = "".join(path.read_text() for path in (AGENT, *(REPOSITORY / "fleet/lib").glob("*.sh")))
    assert described == {name for name in re.findall(r"OCF_RESKEY_([a-z_]+)", text) if not name.startswith("_")}
    assert {action.get("name") for action in meta.iter("action")} >= {"start", "stop", "monitor", "migrate_to", "migrate_from"}
    assert [p.get("name") for p in meta.iter("parameter") if p.get("unique") == "1"] == ["config", "name"]


def test_starts_and_stops_as_often_as_it_is_told(node):
    assert node.do("monitor") == NOT_RUNNING
    assert node.do("stop") == SUCCESS  # before it ever ran
    assert node.do("start") == SUCCESS, node.reason
    assert node.do("start") == SUCCESS
    assert node.told() == [f"began: DUET_OPTIONS=--config {node.config} --allow tcp,{node.root}/tls"]
    assert (node.root / "run/web.resource").read_text() == "vm-web\n"
    assert node.do("monitor") == SUCCESS
    assert node.do("stop") == SUCCESS and node.do("stop") == SUCCESS
    assert node.told()[1:] == ["SIGTERM"]
    assert node.do("monitor") == NOT_RUNNING and node.left() == []


@pytest.mark.parametrize("parameters, status, says", [
    ({"config": None}, CONFIGURED, "name="),
    ({"config": "web.json"}, CONFIGURED, "the whole path"),
    ({"config": "/etc/a b.json", "name": "web"}, CONFIGURED, "only letters"),
    ({"config": "/etc/x;reboot.json", "name": "web"}, CONFIGURED, "only letters"),
    ({"name": "../web"}, CONFIGURED, "letters, digits"),
    ({"name": "a" * 64}, CONFIGURED, "63 at most"),
    ({"name": "-x"}, CONFIGURED, "letters, digits"),
    ({"migration_network": "10.0.0.0"}, CONFIGURED, "10.9.0.0/24"),
    ({"migration_network": "any$(reboot)/8"}, CONFIGURED, "10.9.0.0/24"),
    ({"migration_ports": "5-4"}, CONFIGURED, "49152-49215"),
    ({"migration_ports": "1-99999"}, CONFIGURED, "49152-49215"),
    ({"migration_options": "--cert /x"}, CONFIGURED, "migration_options: --cert"),
    ({"hang_time": "soon"}, CONFIGURED, "hang_time=soon: seconds"),
    ({"shutdown_time": "0"}, CONFIGURED, "shutdown_time=0"),
    ({"stop_failed": "pray"}, CONFIGURED, "end or fail"),
    ({"config": "/nowhere/web.json"}, INSTALLED, "copy it here, or mount"),
])
def test_refuses_what_is_wrong(node, parameters, status, says):
    for action in ("validate-all", "start"):
        assert node.do(action, **parameters) == status and says in node.reason, node.reason
    assert "ocf-exit-reason:" in node.reason and any(says in line for line in node.told("log"))
    assert node.told() == []


def test_a_wrong_configuration_says_its_line(node):
    node.config.write_text('{"duet": 1, "share": "wrong"}')
    assert node.do("validate-all") == ARGS and "web.json:1: share" in node.reason
    # What runs already is stopped all the same.
    node.has("unit", "active")
    assert node.do("stop") == SUCCESS and node.do("monitor") == NOT_RUNNING


def test_actions_that_are_none(node):
    assert node.do("promote") == UNIMPLEMENTED and "usage:" in node.reason
    assert node.do("usage") == SUCCESS


@pytest.mark.parametrize("words, status, says", [
    ("--disk path=/s/d: busy: another process has it open", GENERIC, "web runs elsewhere"),
    ("--disk path=/s/d: no such file; create it", INSTALLED, "is its storage there"),
    ("/dev/kvm: Permission denied", INSTALLED, "/dev/kvm"),
    ("", GENERIC, "journalctl -u duet@web.service"),
])
def test_a_start_that_fails_says_why(node, words, status, says):
    node.has("fails")
    node.has("journal", f"something else\nduet: error: {words}\n" if words else "")
    assert node.do("start", CRM_meta_timeout="11000") == status and says in node.reason and words in node.reason
    assert node.left() == []
    node.lacks("fails")
    assert node.do("start") == SUCCESS


def test_a_lock_that_comes_free(node):
    """Of a host that is gone: its network file system keeps it for a while."""
    node.has("fails")
    node.has("journal", "duet: error: --disk path=/s/d: busy: another process has it open\n")
    start = node.begin("start")
    wait_for(lambda: any("trying again" in line for line in node.told("log")))
    node.lacks("fails")
    _, reason = start.communicate(timeout=30)
    assert start.returncode == SUCCESS and reason == ""


def test_a_lock_that_does_not_come_free_is_the_reason(node):
    """Also where time is over in the middle of the next try, which is ended."""
    node.has("fails")
    node.has("journal", "duet: error: --disk path=/s/d: busy: another process has it open\n")
    start = node.begin("start", CRM_meta_timeout="12000")
    wait_for(lambda: any("trying again" in line for line in node.told("log")))
    node.has("slow")
    node.lacks("fails")
    _, reason = start.communicate(timeout=30)
    assert start.returncode == GENERIC and "web runs elsewhere" in reason and "busy" in reason
    assert node.told() == ["SIGKILL"] and node.left() == []


def test_one_that_somebody_else_runs_is_left_alone(node):
    node.has("other")
    assert node.do("start") == GENERIC and "a machine answers there that is not of duet@web.service" in node.reason
    assert node.told() == []


def test_a_guest_that_hangs(node):
    node.has("unit", "active")
    node.has("hangs")
    assert node.do("monitor") == GENERIC and "no life for 60 s" in node.reason
    assert any("no heartbeat" in line for line in node.told("log"))
    node.has("stubborn", "SIGTERM\nSIGTERM\n")
    assert node.do("stop", shutdown_time="1") == SUCCESS
    assert node.told() == ["SIGTERM", "SIGTERM", "SIGKILL"]


def test_a_unit_that_failed_by_itself(node):
    node.has("unit", "failed")
    node.has("journal", "duet: error: the guest's kernel panicked\n")
    assert node.do("monitor", CRM_meta_interval="20000") == NOT_RUNNING
    assert any("kernel panicked" in line for line in node.told("log"))
    assert node.do("start") == SUCCESS


def test_the_guest_has_its_time(node):
    node.has("unit", "active")
    node.has("stubborn", "SIGTERM\n")
    began = time.monotonic()
    assert node.do("stop", shutdown_time="2") == SUCCESS
    assert node.told() == ["SIGTERM", "SIGTERM"] and 1 <= time.monotonic() - began < 8
    assert any("did not power off within 2 s" in line for line in node.told("log"))


def test_a_stop_that_fails_on_purpose(node):
    node.has("unit", "active")
    node.has("stubborn", "SIGTERM\n")
    assert node.do("stop", shutdown_time="1", stop_failed="fail") == GENERIC
    assert "did not power off within 1 s, and stop_failed=fail" in node.reason
    assert node.told() == ["SIGTERM"] and node.do("monitor") == SUCCESS


def test_a_stop_that_does_not_come_back(node):
    node.has("unit", "active")
    node.has("stubborn", "SIGTERM\nSIGTERM\nSIGKILL\n")
    assert node.do("stop", CRM_meta_timeout="11000") == GENERIC and "has to be fenced" in node.reason


def test_one_that_is_paused_sees_its_power_button(node):
    node.has("unit", "active")
    node.has("is", "Paused")
    assert node.do("stop") == SUCCESS and node.told() == ["resume", "SIGTERM"]


TO, FROM = {"CRM_meta_migrate_target": "n2"}, {"CRM_meta_migrate_source": "n1"}


def test_a_move_begins(node):
    assert node.do("migrate_to", **TO) == GENERIC and "does not run here" in node.reason
    node.has("unit", "active")
    assert node.do("migrate_to") == ARGS
    assert node.do("migrate_to", **TO, migration_options="--downtime 100 --post-copy") == SUCCESS, node.reason
    assert node.do("migrate_to", **TO) == SUCCESS
    tls = node.root / "tls"
    assert (node.root / "run/web.move").read_text().splitlines() == [
        "DUET_TARGET=n2",
        f"DUET_MOVE=--cert {tls}/cert.pem --key {tls}/key.pem --ca {tls}/ca.pem --downtime 100 --post-copy"]
    assert node.told("attributes") == ["-n duet-incoming-web -N n2 -D"]
    # Stopped meanwhile: the move ends, and then the machine.
    node.has("migration", '{\n  "state": "running",\n  "phase": "copying"\n}\n')
    assert node.do("stop") == SUCCESS and node.told() == ["delete", "SIGTERM"] and node.left() == []


def test_a_move_that_cannot_be(node):
    node.has("unit", "active")
    (node.root / "tls/key.pem").unlink()
    assert node.do("migrate_to", **TO) == INSTALLED and "no key.pem" in node.reason
    assert node.do("migrate_from", **FROM) == SUCCESS  # it runs here
    assert node.do("migrate_to", **TO, plain="true") == SUCCESS
    assert "DUET_MOVE=--plain" in (node.root / "run/web.move").read_text()
    node.lacks("move")
    node.has("unfit", "duet: error: refused (400): this machine's sandbox lets it call no other host")
    assert node.do("migrate_to", **TO, plain="true") == GENERIC and "lets it call no other host" in node.reason


@pytest.mark.parametrize("state, phase", [("running", "arriving"), ("running", "cut"), ("running", "committed"), ("done", "ended")])
def test_one_that_has_left_is_not_told_to_power_off(node, state, phase):
    """Its process ends by itself: when all of its memory has gone, or two seconds after it was given away."""
    node.has("unit", "active")
    node.has("migration", f'{{\n  "state": "{state}",\n  "phase": "{phase}"\n}}\n')
    (node.root / "bin/sleep").write_text('#!/bin/sh\necho "$*" >>"$FAKE/slept"\nexec /bin/sleep "$@"\n')
    (node.root / "bin/sleep").chmod(0o755)
    stop = node.begin("stop")
    wait_for(lambda: node.told("slept"))
    assert stop.poll() is None and node.told() == []
    node.has("unit", "inactive")
    stop.communicate(timeout=20)
    assert stop.returncode == SUCCESS and node.told() == []


def test_a_machine_comes(node):
    node.has("comes")
    assert node.do("migrate_from") == ARGS
    assert node.do("migrate_from", **FROM) == SUCCESS, node.reason
    tls = node.root / "tls"
    began, = node.told()
    place = re.search(r"tcp:127\.0\.0\.1:\d+", began)[0]
    assert began == (f"began: DUET_OPTIONS=--incoming {place} --cert {tls}/cert.pem --key {tls}/key.pem --ca {tls}/ca.pem "
                     f"--allow tcp,{tls}")
    assert node.told("attributes")[0] == f"-n duet-incoming-web -p -U {place}"
    assert node.told("attributes")[-1] == "-n duet-incoming-web -D"
    assert node.do("migrate_from", **FROM) == SUCCESS and node.do("monitor") == SUCCESS


def test_none_comes(node):
    """Its source cannot send it: who waits for it does not wait for the time-out."""
    node.has("place", 'name="duet-incoming-web" host="n2" value="failed"')
    began = time.monotonic()
    assert node.do("migrate_from", **FROM) == GENERIC and time.monotonic() - began < 15
    assert "its source goes on with it" in node.reason
    assert node.do("monitor") == NOT_RUNNING and node.left() == [] and "SIGTERM" in node.told()


def test_a_node_without_that_network(node):
    node.has("homeless")
    assert node.do("migrate_from", **FROM) == INSTALLED and "no address there" in node.reason
    assert node.told() == []


def test_a_target_that_was_killed_in_the_middle(node):
    waiting = node.begin("migrate_from", **FROM)
    wait_for(lambda: any("-U tcp:" in line for line in node.told("attributes")))
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.communicate()
    assert node.do("monitor") == NOT_RUNNING
    node.has("waits")
    node.has("unit", "active")
    assert node.do("start") == SUCCESS, node.reason
    assert node.told()[-2] == "SIGTERM" and "--config" in node.told()[-1]
    assert node.do("stop") == SUCCESS


def test_reload(node):
    assert node.do("reload") == NOT_RUNNING
    node.has("unit", "active")
    assert node.do("reload", hang_time="30") == SUCCESS and node.do("reload-agent") == SUCCESS
    assert node.do("reload", hang_time="x") == CONFIGURED and node.told() == []


def test_send(node):
    """It waits for the target's word, and tells it when it fails."""
    (node.root / "bin/duet").write_text('#!/bin/sh\necho "$*" >>"$FAKE/told"\n[ ! -e "$FAKE/fails" ]\n')
    environment = {**node.environment(), "DUET_TARGET": "n2", "DUET_MOVE": "--plain --downtime 9", "DUET_TRIES": "200"}
    command = [REPOSITORY / "fleet/send", "web"]
    with subprocess.Popen(command, env=environment) as process:
        wait_for(lambda: len(node.told("attributes")) > 2)
        assert process.poll() is None and not node.told()
        node.has("place", 'name="duet-incoming-web" host="n2" value="tcp:10.9.0.2:49153"')
        assert process.wait(timeout=20) == 0
    assert node.told() == [f"ctl {node.root}/run/web.sock migrate tcp:10.9.0.2:49153 --plain --downtime 9"]
    node.has("fails")
    assert subprocess.run(command, env=environment, check=False).returncode == 1
    assert node.told("attributes")[-1] == "-n duet-incoming-web -N n2 -p -U failed"
    node.lacks("place")
    late = subprocess.run(command, env={**environment, "DUET_TRIES": "2"}, capture_output=True, text=True, check=False)
    assert late.returncode == 1 and "n2 has not said where it waits for web" in late.stderr


def test_scripts_are_plain_sh():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    scripts = [AGENT, REPOSITORY / "fleet/send", *(REPOSITORY / "fleet/lib").glob("*.sh")]
    result = subprocess.run(["shellcheck", "-s", "sh", "-e", "SC1091", *scripts], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout

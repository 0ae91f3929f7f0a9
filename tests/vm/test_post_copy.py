# SPDX-License-Identifier: Apache-2.0
"""A guest that writes to memory faster than the line carries runs at the target before its memory is there: and
what becomes of it when the line is cut, mended, or an end of it is gone."""

import contextlib
import functools
import signal
import subprocess
import time
from pathlib import Path

import pytest
from api import Api, socket
from matrix import soak
from test_life import LIMIT
from test_migrate import NET, SLOW_LINE, address, certificates, goes_on, needs_openssl, options_of, target, two_networks, wait_until

from duetlab.guest import vm

REWRITER = Path(__file__).with_name("rewriter.c")
# What is in its pages is compared for ever; a pulse beside that.
WRITER = """
rewriter 512 &
n=0; while :; do n=$((n + 1)); echo "tick $n."; sleep 0.2; done
"""
RATE = 600_000  # slower than a guest that is slowed down as much as can be
FREE = 80_000_000  # but the first round
TRICKLE = 60_000  # once it runs there


@contextlib.contextmanager
def line(here: str, there: str, rate: int = RATE):
    ends = [end.removeprefix("unix:") for end in (here, there)]
    with vm.running("a line", *vm.lab_command("python3", str(SLOW_LINE), *ends, *map(str, (rate, FREE, TRICKLE)))):
        yield


@functools.cache
def rewriter() -> bytes:
    with vm.workspace() as directory:
        subprocess.run(["gcc", "-static", "-O2", "-s", "-o", directory / "rewriter", REWRITER], check=True)
        return (directory / "rewriter").read_bytes()


@contextlib.contextmanager
def writer(*options: str, **more):
    sock = socket()
    with vm.Guest("--api-sock", sock, "--log", "info", *options, memory="128M", script=WRITER,
                  files={"bin/rewriter": rewriter()}, **more) as source:
        source.wait_for(r"compared 2\.", LIMIT)
        yield source, Api(sock)


def while_it_runs(api: Api, condition) -> dict:
    """The migration when CONDITION holds, which comes before its end."""
    now = wait_until(api, lambda now: condition(now) or now["state"] != "running")
    assert condition(now), now
    return now


def begin(api: Api, where: str, **more) -> dict:
    """Moves until it runs there, and lacks pages."""
    api.do("PUT", "/duet/migration", {"to": where, "post_copy": True, "downtime_ms": 1, **more})
    now = while_it_runs(api, lambda now: now["phase"] == "arriving")
    print(now)
    assert now["pages_left"] > 0
    return now


def ended(source: vm.Guest, there: vm.Guest):
    """It has moved, and its memory is right."""
    assert source.finish() == 0, source.tail()
    there.wait_for("all of memory is here", LIMIT)
    start = len(there.output)
    there.wait_for(r"compared (\d+)\.(?s:.*)compared (\d+)\.", LIMIT, start)
    assert "memory failed" not in there.output, there.tail()


def test_moves_and_what_is_refused_meanwhile():
    where, here = address(), address()
    with writer() as (source, api), target(where, "--api-sock", sock := socket()) as there, line(here, where):
        begin(api, here)
        goes_on(there)
        away = Api(sock)
        # Both say why they cannot now.
        assert "still to come" in away.refused("PUT", "/duet/migration", {"to": here})
        assert "needs the rest of its memory" in api.refused("DELETE", "/duet/migration")
        assert "being moved" in api.refused("PUT", "/duet/migration", {"to": here})
        assert away.do("GET", "/duet/stats")["machine"]["pages_arriving"] > 0
        now = api.do("GET", "/duet/migration")
        assert now["pages_urgent"] > 0, now
        ended(source, there)
        assert away.do("GET", "/duet/stats")["machine"]["pages_arriving"] == 0
        there.kill_monitor()


@soak  # tests/unit/test_post_copy.c cuts it at each byte
def test_the_line_is_cut_and_mended():
    where, here = address(), address()
    with writer() as (source, api), target(where) as there:
        with line(here, where):
            begin(api, here)
        there.wait_for("the line to the source was cut", LIMIT)
        while_it_runs(api, lambda now: now["phase"] == "cut")
        with line(here, where, 10 * RATE):
            there.wait_for("the source came again", LIMIT)
            ended(source, there)
        assert "connected again" in source.output, source.tail()
        there.kill_monitor()


@soak
@pytest.mark.parametrize("victim", ["source", "target"])
def test_an_end_is_gone(victim):
    """Whoever is left waits in vain, and says so."""
    where, here = address(), address()
    with writer() as (source, api), target(where) as there, line(here, where):
        begin(api, here, wait_s=2)
        (source if victim == "source" else there).kill_monitor()
        left = there if victim == "source" else source
        assert left.finish() == 1
        why = "did not come again within 2 s" if victim == "source" else "did not say that it has all of its memory"
        assert why in left.output, left.tail()
        assert "memory failed" not in there.output


def test_signals_end_a_target_that_waits_for_pages():
    where, here = address(), address()
    with writer() as (source, api), target(where) as there:
        with line(here, where):
            begin(api, here)
        there.wait_for("the line to the source was cut", LIMIT)
        # Twice, and vCPUs wait in the kernel.
        there.signal(signal.SIGTERM)
        there.wait_for("a second signal ends it", LIMIT)
        begun = time.monotonic()
        there.signal(signal.SIGTERM)
        assert there.finish() == 4
        print(time.monotonic() - begun)
        # So does a source that has nobody left.
        source.signal(signal.SIGTERM)
        source.wait_for("a second signal ends it", LIMIT)
        source.signal(signal.SIGTERM)
        assert source.finish() == 4


# Root, without the right to userfaultfd.
BARRED = ("unshare", "--mount", "sh", "-ec", 'mount --bind /dev/null /dev/userfaultfd; '
          'exec setpriv --bounding-set -sys_ptrace -- "$@"', "sh")


def test_a_target_that_cannot():
    """It may not use userfaultfd: nothing is sent."""
    where = address()
    with writer() as (source, api), target(where, wrapper=BARRED) as there:
        api.do("PUT", "/duet/migration", {"to": where, "post_copy": True})
        end = wait_until(api, lambda now: now["state"] != "running")
        assert end["state"] == "failed" and "/dev/userfaultfd" in end["error"], end
        assert end["pages_sent"] == 0
        assert there.finish() == 1
        goes_on(source)


@soak
@needs_openssl
@pytest.mark.parametrize("cuts", [False, True])
def test_between_two_networks(cuts, workspace):
    """As between two hosts, sealed."""
    files = certificates(workspace)
    where = f"tcp:{NET}.2:4000"  # in namespaces of their own, so no other test's
    with two_networks() as (here, there), writer("--allow", f"tcp,{workspace}", wrapper=("ip", "netns", "exec", here)) as (
            source, api), target(where, *options_of(files), wrapper=("ip", "netns", "exec", there)) as waiting:
        vm.run("tc", "-n", here, "qdisc", "add", "dev", here, "root", "tbf", "rate", "16mbit", "burst", "64kb", "latency", "50ms")
        begin(api, where, streams=2, **files)
        if cuts:
            vm.run("ip", "-n", here, "link", "set", here, "down")
            waiting.wait_for("the line to the source was cut", LIMIT)
            vm.run("ip", "-n", here, "link", "set", here, "up")
            waiting.wait_for("the source came again", LIMIT)
        ended(source, waiting)
        waiting.kill_monitor()

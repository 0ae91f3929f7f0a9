# SPDX-License-Identifier: Apache-2.0
"""Whatever runs when the lab host dies says that it did, and not what it missed; without a lab."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from duetlab.guest import vm  # noqa: E402 (needs the path above)

DIED = "trap '' USR1; echo first; echo 'lab: the lab host crashed: a panic' >&2; exit 125"
ENDED = "echo first; exit 3"


@pytest.fixture
def does(monkeypatch, tmp_path):
    """What a command in the lab does instead of what it is."""
    monkeypatch.setenv("DUET_CACHE", str(tmp_path))

    def choose(script: str):
        monkeypatch.setattr(vm, "lab_command", lambda *_command, **_how: ["sh", "-c", script])

    return choose


def guest() -> vm.Guest:
    return vm.Guest(kernel=Path("kernel"), initrd=Path("initrd"), peer=lambda *_files: ["duet"])


def fails(act) -> Exception:
    with pytest.raises(vm.GuestFailure) as failure:
        act()
    return failure.value


def wait_in_guest():
    with guest() as machine:
        machine.wait_for("ready", limit=60)


def succeed_in_guest():
    with guest() as machine:
        machine.succeed(limit=60)


def glance_in_guest():
    with guest() as machine:
        machine.wait_for("first", limit=60)
        machine.snapshot(limit=60)


def await_a_service():
    with vm.running("listening", *vm.lab_command("iperf3", "-s")):
        pass


def look_beside_a_service():
    """The service has begun; something else is the first that notices."""
    with vm.running("first", *vm.lab_command("iperf3", "-s")):
        raise AssertionError("no answer")


@pytest.mark.parametrize("act", [lambda: vm.run("true"), lambda: vm.run("true", check=False), wait_in_guest,
                                 succeed_in_guest, glance_in_guest, await_a_service, look_beside_a_service])
def test_a_dead_lab_host_is_told(does, act):
    does(DIED)
    assert isinstance(fails(act), vm.LabFailure)


def test_its_words_are_kept(does):
    does(DIED)
    assert "crashed: a panic" in str(fails(lambda: vm.run("true")))
    assert "crashed: a panic" in str(fails(wait_in_guest))


@pytest.mark.parametrize("act", [lambda: vm.run("true"), wait_in_guest, succeed_in_guest, await_a_service])
def test_another_end_is_not(does, act):
    does(ENDED)
    assert not isinstance(fails(act), vm.LabFailure)


def test_what_fails_beside_a_living_service_is_told_as_it_is(does):
    does("echo first; exec sleep 60")
    with pytest.raises(AssertionError, match="no answer"):
        look_beside_a_service()

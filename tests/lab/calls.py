# SPDX-License-Identifier: Apache-2.0
"""lab/lab as tests call it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "lab/lab"
SECONDS = 120

sys.path.insert(0, str(REPOSITORY / "lab"))


def lab(*args, env=None, **kwargs) -> subprocess.CompletedProcess:
    kwargs.setdefault("stdin", subprocess.DEVNULL) if "input" not in kwargs else None
    kwargs.setdefault("timeout", SECONDS)
    kwargs.setdefault("cwd", REPOSITORY)
    environment = {**os.environ, **(env or {})}
    return subprocess.run([LAB, *args], capture_output=True, env=environment, check=False, **kwargs)


def in_lab(*command, **kwargs) -> subprocess.CompletedProcess:
    return lab("exec", "--", *command, **kwargs)


def script(text: str, **kwargs) -> subprocess.CompletedProcess:
    return in_lab("sh", "-c", text, **kwargs)


def started(text: str, **kwargs) -> subprocess.Popen:
    """A command in the lab that has written its first line, `ready`."""
    process = subprocess.Popen(
        [LAB, "exec", "-n", "--", "sh", "-c", text],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )
    assert process.stdout.readline() == b"ready\n"
    return process


@contextlib.contextmanager
def one_more(name: str):
    """The environment of another lab host of this clone, which is gone at the end."""
    env = {"DUET_LAB_NAME": f"{name}-{os.getpid()}"}
    yield env
    lab("down", env=env)
    console = json.loads(lab("status", "--json", env=env).stdout)["console"]
    shutil.rmtree(console.rpartition("/")[0])

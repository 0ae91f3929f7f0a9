# SPDX-License-Identifier: Apache-2.0
"""Which experiments there are: the files of lab/experiments, found by themselves.

An experiment is one file and its name is the file's; docs/experiments.md says what stands in it."""

import importlib.util
from types import ModuleType

from ..base.errors import LabError
from ..base.paths import LAB

EXPERIMENTS = LAB / "experiments"
NEEDED = ("__doc__", "ORDER", "MECHANISMS", "TITLE", "WHAT", "run", "selftest")


def files() -> list[str]:
    """The names alone, by the alphabet; loads nothing."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.py"))


def names() -> list[str]:
    """All experiments, in the order of the mechanisms they show."""
    return list(experiments())


def experiments() -> dict[str, ModuleType]:
    """All of them by name, in the same order."""
    found = {name: load(name) for name in files()}
    return dict(sorted(found.items(), key=lambda item: (item[1].ORDER, item[0])))


def load(name: str) -> ModuleType:
    path = EXPERIMENTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever is wrong in it: the message leads there
        raise LabError(f"{path} does not load: {type(error).__name__}: {error}") from error
    missing = [word for word in NEEDED if getattr(module, word, None) is None]
    if missing:
        raise LabError(f"{path} lacks {', '.join(missing)}: docs/experiments.md says what they are")
    return module


def mechanisms() -> dict[str, tuple[str, str]]:
    """Each mechanism's title and the experiment that shows it: the first that names it."""
    found: dict[str, tuple[str, str]] = {}
    for name, module in experiments().items():
        for mechanism, title in module.MECHANISMS.items():
            found.setdefault(mechanism, (title, name))
    return found


def listing() -> str:
    """A line for each experiment."""
    lines = [f"{name:<14}{module.__doc__.strip().splitlines()[0]}" for name, module in experiments().items()]
    return "\n".join(lines)

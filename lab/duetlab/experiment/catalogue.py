# SPDX-License-Identifier: Apache-2.0
"""Which experiments there are: the files of lab/experiments, found by themselves."""

import importlib.util

from ..base.paths import LAB

EXPERIMENTS = LAB / "experiments"


def names() -> list[str]:
    """All experiments, in the order of the mechanisms they show."""
    found = (load(path.stem) for path in sorted(EXPERIMENTS.glob("*.py")))
    return [module.NAME for module in sorted(found, key=lambda module: module.ORDER)]


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"experiment_{name}", EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

# SPDX-License-Identifier: Apache-2.0
"""What is short in make test and whole in make soak."""

import os

import pytest

SOAK = os.environ.get("DUET_SOAK") == "1"


# A test that is for make soak alone: long, or of how fast something is beside something else.
soak = pytest.mark.skipif(not SOAK, reason="in make soak")


def some(values, few: int = 1) -> list:
    """The first FEW of VALUES; all of them in make soak."""
    return list(values) if SOAK else list(values)[:few]

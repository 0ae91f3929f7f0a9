# SPDX-License-Identifier: Apache-2.0
"""What is short in make test and whole in make soak."""

import os

SOAK = os.environ.get("DUET_SOAK") == "1"


def some(values, few: int = 1) -> list:
    """The first FEW of VALUES; all of them in make soak."""
    return list(values) if SOAK else list(values)[:few]

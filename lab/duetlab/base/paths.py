# SPDX-License-Identifier: Apache-2.0
"""Where the parts of this clone lie."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
LAB = REPOSITORY / "lab"
DUET = REPOSITORY / "build" / "duet"

# SPDX-License-Identifier: Apache-2.0
"""Files of whole machines run beside each other in one lab host, where two links with one address are an error."""

import re
from collections import defaultdict
from pathlib import Path

VM = Path(__file__).resolve().parents[1] / "vm"
SHARED = "77"  # of the files that tests/run runs one after the other


def test_each_file_has_networks_of_its_own():
    files = defaultdict(set)
    for path in VM.glob("*.py"):
        for network in re.findall(r"\b192\.168\.(\d+)\b", path.read_text()):
            files[network].add(path.name)
    assert len(files) > 3
    assert {network: names for network, names in files.items() if network != SHARED and len(names) > 1} == {}

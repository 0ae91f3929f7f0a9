# SPDX-License-Identifier: Apache-2.0
"""Guests in a row, with 1 and 4 vCPUs: each boots and powers off, none hangs.

DUET_MANY=50 for the long run."""

import os

import pytest

from duetlab.guest import vm


@pytest.mark.parametrize("number", range(int(os.environ.get("DUET_MANY", "4"))))
def test_guest(number):
    with vm.Guest("--cpus", "4" if number % 2 else "1", "--net", "user", script="true") as guest:
        guest.succeed()

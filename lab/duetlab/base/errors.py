# SPDX-License-Identifier: Apache-2.0
"""Failures that the user reads: one line, with what to do."""


class LabError(Exception):
    """Said on stderr as `lab: ...`; the program then exits with CODE."""

    def __init__(self, message: str, code: int = 125) -> None:
        super().__init__(message)
        self.code = code

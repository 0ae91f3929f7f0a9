# SPDX-License-Identifier: Apache-2.0
"""What was measured, with targets: printed as it comes, and kept as JSON."""

import json
from pathlib import Path


class Report:
    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.notes: list[str] = []
        self.tables: dict[str, list] = {}
        self.missed = 0

    def heading(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(text, flush=True)

    def row(self, name: str, value: float, unit: str, target: float | None = None,
            at_most: bool = True, detail: str = "", words: str = "") -> None:  # fmt: skip
        """One figure. TARGET is its upper bound, or with AT_MOST false one to stay below."""
        met = None if target is None else value <= target if at_most else value < target
        self.missed += met is False
        self.rows.append({"name": name, "value": round(value, 4), "unit": unit, "met": met,
                          "target": None if target is None else round(target, 4),
                          "below": not at_most, "detail": detail})  # fmt: skip
        wanted = ""
        if target is not None:
            sign = "<=" if at_most else "<"
            wanted = f"{sign} {_number(target)} {words}".rstrip()
            wanted = f"{wanted:26} {'met' if met else 'MISSED'}"
        print(f"  {name:44} {_number(value):>9} {unit:9} {wanted}".rstrip(), flush=True)
        if detail:
            print(f"      {detail}", flush=True)

    def table(self, name: str, rows: list[tuple[str, float]], unit: str) -> None:
        self.tables[name] = [{"name": row, "value": round(value, 3)} for row, value in rows]
        print(f"  {name}, {unit}", flush=True)
        for row, value in rows:
            print(f"    {_number(value):>9}  {row}", flush=True)

    def finish(self, path: Path) -> None:
        with_target = [row for row in self.rows if row["met"] is not None]
        met = len(with_target) - self.missed
        print(f"\nbench: {met} of {len(with_target)} targets met; {path}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"rows": self.rows, "tables": self.tables, "notes": self.notes}
        path.write_text(json.dumps(content, indent=1) + "\n")


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"

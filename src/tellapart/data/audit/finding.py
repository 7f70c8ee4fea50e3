"""What a check of the audit says: one finding, with the pictures it is about, the worst first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tellapart.lazy import Lazy

__all__ = ["CHECKS", "CheckName", "Finding", "Suspect"]

CheckName = Literal[
    "unreadable",
    "duplicate",
    "near_duplicate",
    "split_leak",
    "series_leak",
    "identical_in_two_classes",
    "label_suspect",
    "outlier",
    "quality",
    "imbalance",
    "confusable_classes",
    "shortcut",
    "split_shift",
]
CHECKS: tuple[CheckName, ...] = CheckName.__args__  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True, slots=True)
class Suspect:
    """One picture of a finding: `score` in [0, 1], 1 the worst; `suggested` a label that may be right; `why` in words.

    `sha256` is empty for a file that was not read.
    """

    path: str
    label: str
    score: float
    suggested: str | None = None
    why: str = ""
    sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the row of the JSON contract."""
        row: dict[str, Any] = {"path": self.path, "label": self.label}
        if self.suggested is not None:
            row["suggested"] = self.suggested
        return {**row, "score": self.score}


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """All that a check may return. `severity` is in [0, 1]; `note` says what was found, `fix` what can be done."""

    check: CheckName
    severity: float
    rows: Sequence[Suspect]
    note: str
    fix: str

    @classmethod
    def of(cls, check: CheckName, severity: float, rows: Iterable[Suspect], note: str, fix: str) -> Finding:
        """Return a finding whose numbers are within their ranges, rounded, and whose rows are the worst first.

        Rows that are `Lazy` are so already, and stay as they are.
        """
        if isinstance(rows, Lazy):
            return cls(check, _unit(severity), rows, note, fix)
        kept = (dataclasses.replace(row, score=_unit(row.score)) for row in rows)
        return cls(check, _unit(severity), tuple(sorted(kept, key=lambda row: (-row.score, row.path))), note, fix)

    def as_json(self) -> dict[str, Any]:
        """Return the finding as the JSON contract has it."""
        rows = [row.as_json() for row in self.rows]
        return {"check": self.check, "severity": self.severity, "note": self.note, "fix": self.fix, "rows": rows}


def _unit(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4) if math.isfinite(value) else 0.0

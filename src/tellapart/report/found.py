"""Findings of the audit as a page shows them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from tellapart.lazy import Lazy

__all__ = ["Found", "FoundPicture"]


@dataclasses.dataclass(frozen=True, slots=True)
class FoundPicture:
    """One picture of a finding. `jpeg` is a thumbnail encoded by us, empty where the picture is not shown.

    `score` is in [0, 1], 1 the worst; `suggested` a label that may be right; `sha256` is empty for what was not read.
    """

    path: str
    label: str
    score: float
    suggested: str | None = None
    why: str = ""
    sha256: str = ""
    jpeg: bytes = b""

    @property
    def key(self) -> str:
        """The path as ASCII JSON for the script, empty for one that a UTF-8 table cannot hold."""
        try:
            self.path.encode("utf-8")
        except UnicodeEncodeError:
            return ""
        return json.dumps(self.path) if "\0" not in self.path else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One finding: `severity` in [0, 1], what was found and what can be done, and its pictures, the worst first.

    Rows that are `Lazy` are those of files that were left out, and have no thumbnails.
    """

    check: str
    severity: float
    note: str
    fix: str
    rows: Sequence[FoundPicture]

    @property
    def title(self) -> str:
        """The check's name in words."""
        return self.check.replace("_", " ").capitalize()

    @property
    def shown(self) -> tuple[FoundPicture, ...]:
        """Those that there is a thumbnail of."""
        return () if isinstance(self.rows, Lazy) else tuple(row for row in self.rows if row.jpeg)

    def as_json(self, streamed: bool = False) -> dict[str, Any]:
        """Return the finding as `check --json` has it; where `streamed`, with rows that are made one by one."""
        shown = self.rows
        rows = Lazy(lambda: map(_row_json, shown), len(shown))
        head = {"check": self.check, "severity": float(self.severity), "note": self.note, "fix": self.fix}
        return {**head, "rows": rows if streamed else list(rows)}


def _row_json(row: FoundPicture) -> dict[str, Any]:
    suggested = {} if row.suggested is None else {"suggested": row.suggested}
    return {"path": row.path, "label": row.label, **suggested, "score": float(row.score)}

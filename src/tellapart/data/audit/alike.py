"""What the checks of duplicates share: sets of pictures that are alike, and which of each stays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tellapart.data.audit.evidence import Evidence, Ints
from tellapart.data.manifest import SPLITS

__all__ = ["clusters", "first_of"]


def clusters(numbers: Ints) -> Iterator[Ints]:
    """Yield the rows, int64 [m], of every number that occurs twice or more, in the order of their first row."""
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=numbers[order[:1]] - 1)) if len(order) else order
    found = [part for part in np.split(order, starts[1:]) if len(part) > 1]
    yield from sorted(found, key=lambda rows: int(rows[0]))


def first_of(evidence: Evidence, rows: Ints) -> int:
    """Return the row that stays of pictures that are alike: in train before val before test, then the first path."""
    return int(min(rows.tolist(), key=lambda row: (SPLITS.index(evidence.splits[row]), evidence.paths[row])))

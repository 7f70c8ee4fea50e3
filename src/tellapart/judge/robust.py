"""How much accuracy a corruption of the pictures costs: a paired comparison on the same pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.intervals import clopper_pearson
from tellapart.judge.paired import paired_interval

__all__ = ["Robustness", "compare_corrupted"]


@dataclasses.dataclass(frozen=True, slots=True)
class Robustness:
    """Accuracy in [0, 1] on `n` pictures under one corruption at one strength (1 to 3), and the `change` it makes.

    `_low` and `_high` are 95 % intervals: exact for the accuracy, Tango's for the change.
    """

    corruption: str
    strength: int
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    change: float
    change_low: float
    change_high: float


def compare_corrupted(
    right: NDArray[np.bool_], corrupted: Mapping[tuple[str, int], NDArray[np.bool_]]
) -> tuple[Robustness, ...]:
    """Compare `right` bool [N], N > 0, with the same under each (corruption, strength); the lowest accuracy first."""
    found = []
    for (corruption, strength), now in corrupted.items():
        n, hits = len(right), int(now.sum())
        interval = clopper_pearson(hits, n)
        if interval is None:
            continue
        gained, lost = int((now & ~right).sum()), int((right & ~now).sum())
        change = paired_interval(gained, lost, n)
        found.append(
            Robustness(corruption, strength, n, hits / n, *interval, (gained - lost) / n, change[0], change[1])
        )
    return tuple(sorted(found, key=lambda one: (one.accuracy, one.corruption, one.strength)))

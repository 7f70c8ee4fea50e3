"""How much accuracy a corruption of the pictures costs: a paired comparison on the same pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.intervals import clopper_pearson

__all__ = ["Robustness", "compare_corrupted", "paired_interval"]


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


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Return a 95 % interval for the change of a share, where `gained` and `lost` of `n` pairs changed.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998): the changes that its score test does not reject, found by bisection.
    """
    change = (gained - lost) / n
    return _end(gained, lost, n, change, -1.0), _end(gained, lost, n, change, 1.0)


def _end(gained: int, lost: int, n: int, inside: float, outside: float) -> float:
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        if _score(gained, lost, n, middle) <= 1.959963984540054:
            inside = middle
        else:
            outside = middle
    return outside


def _score(gained: int, lost: int, n: int, change: float) -> float:
    """Return Tango's statistic, at least 0, of the hypothesis that the true change is `change`."""
    a = 2.0 * n
    b = -gained - lost + (2.0 * n - gained + lost) * change
    c = -lost * change * (1.0 - change)
    chance = (math.sqrt(max(0.0, b * b - 4.0 * a * c)) - b) / (2.0 * a)
    variance = n * (2.0 * chance + change * (1.0 - change))
    off = abs(gained - lost - n * change)
    return off / math.sqrt(variance) if variance > 0.0 else (0.0 if off < 1e-9 else math.inf)

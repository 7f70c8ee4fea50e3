"""Which of two models names more of the same pictures right: McNemar's test, and the difference with its interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Ints
from tellapart.judge.compare import clustered_interval
from tellapart.judge.intervals import LEVEL, Z95, binomial_tail
from tellapart.judge.shares import cluster_codes

__all__ = ["Paired", "paired_accuracy", "paired_interval"]


@dataclasses.dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same `n` pictures: the accuracy of the first less that of the second, and what it rests on.

    `only_first` pictures were named right by the first alone, `only_second` by the second alone. `low` and `high` are a
    95 % interval of `difference`. `p` is the chance of so uneven a pair of counts where both models are equally good,
    or None where pictures are in groups and the interval alone decides. `words` is one plain sentence.
    """

    n: int
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p: float | None
    words: str

    @property
    def clear(self) -> bool:
        """Whether one of the two is better beyond doubt."""
        return self.p <= 1.0 - LEVEL if self.p is not None else not self.low <= 0.0 <= self.high


def paired_accuracy(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: Sequence[str] | Ints | None = None,
    names: tuple[str, str] = ("the first", "the second"),
) -> Paired:
    """Compare which of the same pictures each model named right, bool [n] and bool [n], n > 0.

    The test is McNemar's, exact (two-sided binomial on the pictures that one alone named right). The interval is
    Tango's (`paired_interval`). Where some pictures share one of `groups` [n], it is cluster-robust and there is no p.
    """
    n = len(first)
    ours, theirs = int((first & ~second).sum()), int((~first & second).sum())
    codes = cluster_codes(groups)
    difference = (ours - theirs) / n
    p: float | None = None
    if codes is None:
        p = min(1.0, 2.0 * binomial_tail(max(ours, theirs), ours + theirs)) if ours + theirs else 1.0
        low, high = paired_interval(ours, theirs, n)
    else:
        gaps = first.astype(np.float64) - second
        _, low, high = clustered_interval(gaps, np.zeros(n, np.int64), codes)
        low, high = max(-1.0, low), min(1.0, high)
    found = Paired(n, difference, low, high, ours, theirs, p, "")
    return dataclasses.replace(found, words=_words(found, names))


def _words(found: Paired, names: tuple[str, str]) -> str:
    first, second = names
    pictures = f"{found.n:,} pictures" if found.n != 1 else "the 1 picture"
    only = f"{found.only_first:,} were named right by {first} alone, {found.only_second:,} by {second} alone"
    span = f"95% interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"
    if found.clear and found.difference:
        better, worse = names if found.difference > 0 else names[::-1]
        verdict = f"{better} is better than {worse} by {100 * abs(found.difference):.1f} points"
    else:
        verdict = f"no clear difference between {first} and {second}"
        span = f"{100 * found.difference:+.1f} points, {span}"
    chance = "" if found.p is None else f", McNemar p {found.p:.2g}"
    return f"Of the same {pictures}, {only}: {verdict} ({span}{chance})."


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
        if _score(gained, lost, n, middle) <= Z95:
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

"""Where a model is truly worse: each part of the pictures against the rest, with as many tests as parts corrected."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.intervals import LEVEL, clopper_pearson, difference_interval

__all__ = ["Slice", "Slices", "compare_slices", "fisher_worse", "holm"]

_BINS = 4
_FEWEST = 10
_MOST_NAMES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """The `n` pictures with `what` in `where`, and how they fare against the `rest_n` others.

    `accuracy` and `rest_accuracy` are in [0, 1]; `gap` is the first less the second. `_low` and `_high` are 95 %
    intervals. `p` is the chance of so many mistakes or more if the slice were like the rest, corrected for how many
    slices were looked at.
    """

    what: str
    where: str
    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    rest_n: int
    rest_accuracy: float
    gap: float
    gap_low: float
    gap_high: float
    p: float


@dataclasses.dataclass(frozen=True, slots=True)
class Slices:
    """All slices looked at, the lowest accuracy first, and the `worst` of those that are truly worse, if any is."""

    all: tuple[Slice, ...]
    worst: Slice | None


def compare_slices(
    right: NDArray[np.bool_],
    numbers: Mapping[str, NDArray[np.float64]],
    names: Mapping[str, Sequence[str]],
) -> Slices:
    """Compare slices of pictures, `right` bool [N], with the rest.

    `numbers` [N] are cut at their quartiles; of `names` [N] each value is a slice, at most the twenty most common.
    What is not known, NaN or an empty name, is in none. A
    slice and its rest have at least ten pictures each. The test is Fisher's exact one, one-sided, corrected by Holm's
    method: if no slice is worse, one is named in at most 5 of 100 cases. It takes pictures to be independent. The
    interval of the gap is Newcombe's, from exact ones.
    """
    found = []
    wrong = int((~right).sum())
    for what, where, inside in _parts(numbers, names):
        n = int(inside.sum())
        if min(n, len(right) - n) >= _FEWEST:
            found.append((what, where, n, int((~right & inside).sum())))
    tests = holm([fisher_worse(missed, n, wrong, len(right)) for _, _, n, missed in found])
    slices = sorted(
        (_slice(*part, wrong, len(right), p) for part, p in zip(found, tests, strict=True)),
        key=lambda one: (one.accuracy, one.what, one.where),
    )
    worse = [one for one in slices if one.p <= 1.0 - LEVEL]
    return Slices(tuple(slices), min(worse, key=lambda one: one.gap, default=None))


def fisher_worse(missed: int, n: int, wrong: int, total: int) -> float:
    """Return the chance of `missed` or more of the `wrong` among `n` drawn of `total` pictures (Fisher, one-sided)."""
    most = min(n, wrong)
    whole = _log_choose(total, n)
    terms = [_log_choose(wrong, k) + _log_choose(total - wrong, n - k) - whole for k in range(missed, most + 1)]
    return min(1.0, math.fsum(map(math.exp, terms)))


def holm(chances: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the order given. Source: Holm, Scand. J. Statist. 6 (1979)."""
    corrected, highest = [0.0] * len(chances), 0.0
    for rank, place in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = highest
    return corrected


def _slice(what: str, where: str, n: int, missed: int, wrong: int, total: int, p: float) -> Slice:
    hits, rest_n = n - missed, total - n
    rest_hits = rest_n - (wrong - missed)
    own, rest = clopper_pearson(hits, n), clopper_pearson(rest_hits, rest_n)
    assert own is not None
    assert rest is not None
    low, high = difference_interval(hits / n, own, rest_hits / rest_n, rest)
    gap = hits / n - rest_hits / rest_n
    return Slice(what, where, n, hits / n, *own, rest_n, rest_hits / rest_n, gap, low, high, p)


def _parts(
    numbers: Mapping[str, NDArray[np.float64]], names: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield what is looked at, which part of it, and the pictures of that part as bool [N]."""
    for what, values in numbers.items():
        known = np.isfinite(values)
        if not known.any():
            continue
        inner = np.linspace(0.0, 1.0, _BINS + 1)[1:-1]
        edges = np.unique(np.quantile(values[known], inner, method="inverted_cdf"))
        places = np.searchsorted(edges, values, side="left")  # a bin has its upper edge
        for place in np.unique(places[known]).tolist():
            inside = (places == place) & known
            low, high = f"{values[inside].min():.4g}", f"{values[inside].max():.4g}"
            yield what, low if low == high else f"{low} to {high}", inside
    for what, given in names.items():
        column = np.array(given, dtype=object)
        for value, _ in Counter(filter(None, given)).most_common(_MOST_NAMES):
            yield what, value, np.asarray(column == value, dtype=bool)


def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

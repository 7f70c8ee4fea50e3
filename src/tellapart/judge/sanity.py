"""Whether maps of evidence may be believed: they must hang on what was learned, and mark what the answer hangs on.

Sources: Adebayo et al., "Sanity checks for saliency maps" (2018), of which the head is randomised here; deletion and
insertion curves: Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models" (2018).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.maps import area_under, mass, rank_correlation, ssim
from tellapart.runtime.saliency_trial import SHARES, Tried

__all__ = ["MOST_ALIKE", "Sanity", "Trial", "orders_for", "sane", "trial"]

# Rank correlation and structural similarity with a randomised head's map, in the median: maps of one picture have its
# shapes in common (0.17 to 0.46 and 0.02 to 0.17 were seen on six bundles), and one that ignores the head has 1.
MOST_ALIKE = 0.6
_LARGEST_P = 0.01
_DRAWS = 9999
_CHOICES = 200  # ways to draw an order for each picture, at least: fewer could not show a chance of one in a hundred


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What one picture's map was put to.

    `correlation` and `ssim`: how like it the maps of randomised heads are (means; the correlation without its sign).
    `lead`: the answer's (see `Tried`); `deletion` and `insertion`: the same on average while the picture is hidden, or
    brought back, in the order of the map; `random_deletion` and `random_insertion` in R random orders.
    """

    lead: float
    correlation: float
    ssim: float
    deletion: float
    insertion: float
    random_deletion: tuple[float, ...]
    random_insertion: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Sanity:
    """The verdict on maps, from `n` pictures: medians of likeness, what answers keep of their leads under the curves (a
    share of what they are in all), and how often chance brings back as much more than it takes (`p`). `words` say why
    they are shown or not; numbers are None where there was nothing to test.
    """

    passed: bool
    n: int
    words: str
    correlation: float | None = None
    ssim: float | None = None
    deletion: float | None = None
    random_deletion: float | None = None
    insertion: float | None = None
    random_insertion: float | None = None
    p: float | None = None


def orders_for(num_pictures: int) -> int:
    """Return how many random orders each of so many pictures is tried in: the fewer pictures, the more."""
    return max(2, math.ceil(math.pow(_CHOICES, 1 / max(1, num_pictures))))


def trial(map_: NDArray[np.float32], found: Tried) -> Trial | None:
    """Return the numbers of one picture's map [h, w]; None where nothing in it speaks for the answer."""
    own = _shown(map_)
    if own is None:
        return None
    others = [_shown(other) for other in found.shuffled]
    shares = np.array(SHARES)
    return Trial(
        found.lead,
        float(np.mean([abs(rank_correlation(map_, other)) for other in found.shuffled])),
        float(np.mean([0.0 if other is None else ssim(own, other) for other in others])),
        float(area_under(shares, found.deletion)),
        float(area_under(shares, found.insertion)),
        tuple(area_under(shares, found.random_deletion).tolist()),
        tuple(area_under(shares, found.random_insertion).tolist()),
    )


def _shown(map_: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return a map as it would be drawn: what speaks for the class, the highest 1."""
    spread = mass(map_)
    return None if spread is None else spread / spread.max()


def sane(trials: Sequence[Trial]) -> Sanity:
    """Return whether maps may be shown, from trials of which each has the same number of random orders."""
    if not trials:
        return Sanity(False, 0, "Maps are not shown: no part of a picture speaks for its answer more than another.")
    correlation = float(np.median([trial.correlation for trial in trials]))
    alike = float(np.median([trial.ssim for trial in trials]))
    lead = max(float(np.mean([trial.lead for trial in trials])), 1e-9)
    deletion, insertion, random_deletion, random_insertion = (
        float(np.mean([getattr(trial, name) for trial in trials])) / lead
        for name in ("deletion", "insertion", "random_deletion", "random_insertion")
    )
    gains = [
        (t.deletion - t.insertion, *(d - i for d, i in zip(t.random_deletion, t.random_insertion, strict=True)))
        for t in trials
    ]
    p = _chance(gains)
    said = f"on {len(trials):,} picture{'s' if len(trials) > 1 else ''}"
    fault = None
    if not (correlation < MOST_ALIKE and alike < MOST_ALIKE):
        fault = (
            f"a head that knows nothing draws nearly the same ones (rank correlation {correlation:.2f}, structural "
            f"similarity {alike:.2f} {said}; under {MOST_ALIKE} is asked)"
        )
    elif not (p <= _LARGEST_P and deletion < random_deletion and insertion > random_insertion):
        fault = (
            f"what they mark counts no more than the same shapes elsewhere (while it is hidden first, {deletion:.0%} "
            f"of an answer's lead is left on average, {random_deletion:.0%} elsewhere; while it comes back first, "
            f"{insertion:.0%} and {random_insertion:.0%}; p {p:.3f} {said})"
        )
    words = f"Maps are not shown: {fault}." if fault else _good(deletion, random_deletion, correlation, said)
    return Sanity(
        fault is None,
        len(trials),
        words,
        correlation,
        alike,
        deletion,
        random_deletion,
        insertion,
        random_insertion,
        p,
    )


def _good(deletion: float, random_deletion: float, correlation: float, said: str) -> str:
    return (
        f"The maps hang on what was learned (rank correlation {correlation:.2f} with those of a randomised head), and "
        f"answers hang on what they mark: while that is hidden first, {deletion:.0%} of an answer's lead is left on "
        f"average, and {random_deletion:.0%} where the same shapes lie elsewhere ({said})."
    )


def _chance(values: Sequence[Sequence[float]]) -> float:
    """Return how often the first value of each picture, or any other of its R + 1 in its place, has so low a sum.

    A map of no worth is one of R + 1 that might as well have been drawn (a permutation test within pictures).
    """
    table = np.array(values, dtype=np.float64)
    drawn = np.random.default_rng(len(table)).integers(0, table.shape[1], (_DRAWS, len(table)))
    sums = table[np.arange(len(table)), drawn].sum(axis=1)
    return float((1 + (sums <= table[:, 0].sum() + 1e-12).sum()) / (1 + _DRAWS))

"""How far probabilities are from what they say: the expected calibration error, and an interval that knows its bias.

The error that is measured is too high: with no error at all, chance alone moves every bin, and each counts. An interval
around it (a bootstrap, too, which adds the same bias once more) would miss the truth of a calibrated model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows
from tellapart.judge.shares import cluster_codes, design_effect

__all__ = ["ECE_BINS", "bin_places", "calibration_error", "expected_error"]

ECE_BINS = 15
_DRAWS = 2000
_SEED = 20_170_614
_STEPS = 20


def bin_places(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each top probability [N], int64 in [0, bins), open below, closed above, as Guo et al. do.

    Rounding may leave a top probability above 1: it is in the last bin.
    """
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_error(targets: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    """Return the expected calibration error of probabilities [N, K], N > 0, in [0, 1]."""
    confidence = probs.max(axis=1)
    off = (probs.argmax(axis=1) == targets) - confidence
    sums = np.bincount(bin_places(confidence, ECE_BINS), weights=off, minlength=ECE_BINS)
    return float(np.abs(sums).sum()) / len(targets)


def calibration_error(
    targets: Ints, probs: Floats, groups: Sequence[str] | Ints | None = None
) -> tuple[float, float, float] | None:
    """Return the error over 15 bins of equal width of the top probability, and the ends of its 95 % interval.

    All are in [0, 1]; None without pictures. Takes true classes int [N], probabilities [N, K] and the
    groups [N] of pictures that are not independent. Source of the error:
    Guo et al., "On calibration of modern neural networks" (2017). The interval is ours, by inverting a test: the true
    gaps of the bins are thought to be the measured ones times t, and those t are kept at which what was measured lies
    between the 2.5 % and the 97.5 % quantile of what chance would make of them. Where t = 0 is among them, the interval
    begins at 0: nothing shows that the probabilities are off. The draws are fixed.
    """
    targets, probs = checked_rows(targets, probs)
    n = len(targets)
    if n == 0:
        return None
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == targets
    places = bin_places(confidence, ECE_BINS)
    counts = np.bincount(places, minlength=ECE_BINS)
    used = counts > 0
    counts = counts[used].astype(np.float64)
    sure = np.bincount(places, weights=confidence, minlength=ECE_BINS)[used]
    hits = np.bincount(places, weights=right, minlength=ECE_BINS)[used]
    said = np.bincount(places, weights=confidence * (1.0 - confidence), minlength=ECE_BINS)[used] / counts
    gaps = np.abs(hits - sure) / counts
    error = float(gaps @ counts) / n
    # One picture as sure as its bin is added; and a bin has at least the spread that its probabilities claim, since of
    # a few pictures often all are right.
    level = (hits + sure / counts) / (counts + 1.0)
    effect = design_effect(
        right.astype(np.float64) - confidence - float((right - confidence).mean()), cluster_codes(groups)
    )
    spread = np.sqrt(np.maximum(level * (1.0 - level), said) / counts * effect)
    generator = np.random.Generator(np.random.Philox(key=_SEED))
    noise = spread[:, None] * generator.standard_normal((len(gaps), _DRAWS))
    shares = generator.multinomial(n, counts / n, _DRAWS).T / n
    # Where hardly a gap is seen there may be one as wide as chance hides: the direction has at least that.
    direction = np.maximum(gaps, 0.5 * spread)

    def quantile(times: float, share: float) -> float:
        return float(np.quantile((shares * np.abs(times * direction[:, None] + noise)).sum(axis=0), share))

    scale = float(direction @ counts) / n
    low = 0.0 if quantile(0.0, 0.975) >= error else _crossing(lambda t: quantile(t, 0.975), error) * scale
    high = _crossing(lambda t: quantile(t, 0.025), error) * scale
    return error, min(low, error), min(1.0, max(high, error))


def _crossing(rising: Callable[[float], float], wanted: float) -> float:
    """Return where a function that rises from below `wanted` reaches it, by bisection."""
    low, high = 0.0, 1.0
    while rising(high) < wanted and high < 1e6:
        low, high = high, 2.0 * high
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return high

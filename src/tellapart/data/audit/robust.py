"""Numbers that a few odd pictures cannot move: how far a value is from the middle of its own set."""

from __future__ import annotations

import numpy as np

from tellapart.data.audit.evidence import Floats, Ints

__all__ = ["balanced_accuracy", "deviations", "logit_level", "spread_folds", "wilson"]

# The median absolute deviation of a normal distribution, times this, is its standard deviation.
_MAD_TO_SD = 1.4826
_LEVELS = 256.0


def deviations(values: Floats, least: float) -> Floats:
    """Return how many robust standard deviations each of `values` float64 [n] lies above the median.

    Each side has a spread of its own, for most measures are skewed: the median distance from the median on that side,
    and never less than `least`. Values that are not finite are 0.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(len(values))
    away = np.where(finite, values - np.median(values[finite]), 0.0)
    above, below = (away[finite & (side >= 0)] for side in (away, -away))
    up = max(least, _MAD_TO_SD * float(np.median(np.abs(above)))) if len(above) else least
    down = max(least, _MAD_TO_SD * float(np.median(np.abs(below)))) if len(below) else least
    return np.asarray(np.where(away >= 0, away / up, away / down))


def logit_level(levels: Floats) -> Floats:
    """Return the logit of grey levels 0..255, so that near black and near white differences count for more."""
    share = (np.clip(levels, 0, _LEVELS - 1) + 0.5) / _LEVELS
    return np.asarray(np.log(share / (1 - share)))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927); 0 to 1 when `n` is 0."""
    if n == 0:
        return 0.0, 1.0
    z = 1.959964
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def balanced_accuracy(targets: Ints, said: Ints) -> float:
    """Return the mean over the classes present of the share of each that was said right."""
    present = np.unique(targets)
    return float(np.mean([(said[targets == one] == one).mean() for one in present]))


def spread_folds(targets: Ints, groups: Ints, folds: int) -> Ints:
    """Return a fold in [0, folds) for each picture, int64 [n]: groups stay whole, classes are spread over the folds.

    Groups go round the folds class by class, in the order of their numbers.
    """
    first = np.unique(groups, return_index=True)[1]
    order = first[np.lexsort((groups[first], targets[first]))]
    fold_of = {int(groups[row]): place % folds for place, row in enumerate(order)}
    return np.array([fold_of[int(group)] for group in groups], dtype=np.int64)

"""95 % intervals without scipy: exact for a proportion, Student's t for a mean, MOVER for a mean of proportions.

The regularised incomplete beta function is Lentz's continued fraction (Press et al., Numerical Recipes, 6.4), and its
inverse Newton's method inside a bracket that bisection keeps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "clopper_pearson", "difference_interval", "mean_interval", "mean_of_proportions", "student_t"]

LEVEL = 0.95


@lru_cache(maxsize=65536)
def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the exact two-sided interval for a proportion, or None when `n` is 0.

    It holds the true proportion in at least `level` of all samples, whatever n is. Source: Clopper and Pearson (1934).
    """
    if n == 0:
        return None
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in [0, {n}], got {successes}")
    tail = (1.0 - level) / 2.0
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else _beta_quantile(1.0 - tail, successes + 1, n - successes)
    return low, high


def student_t(degrees: float, level: float = LEVEL) -> float:
    """Return the half-width in standard errors that holds `level` of Student's t with `degrees` > 0 of freedom."""
    y = _beta_quantile(level, 0.5, degrees / 2.0)
    return math.sqrt(degrees * y / (1.0 - y))


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return Student's interval for the mean of values [N], or None for fewer than two.

    Approximate: with few and skewed values (log losses) it holds the mean somewhat less often than it says.
    """
    if len(values) < 2:
        return None
    half = student_t(len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def mean_of_proportions(
    values: Sequence[float], bounds: Sequence[tuple[float, float]], dependence: float = 1.0
) -> tuple[float, float] | None:
    """Return an interval in [0, 1] for the plain mean of proportions that each have their own interval.

    Where a bootstrap of "all right" would be the empty-handed [1, 1], this keeps each class's own uncertainty.
    `dependence` (>= 1) widens it where the proportions are not independent. None when there are none. Source: MOVER,
    Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27 (2008).
    """
    if not values:
        return None
    mean = sum(values) / len(values)
    below = math.sqrt(dependence * sum((value - low) ** 2 for value, (low, _) in zip(values, bounds, strict=True)))
    above = math.sqrt(dependence * sum((high - value) ** 2 for value, (_, high) in zip(values, bounds, strict=True)))
    return max(0.0, mean - below / len(values)), min(1.0, mean + above / len(values))


def difference_interval(
    first: float, first_bounds: tuple[float, float], second: float, second_bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return an interval for `first - second`, two independent proportions with their own intervals.

    Source: Newcombe, "Interval estimation for the difference between independent proportions", method 10 (1998).
    """
    gap = first - second
    below = math.hypot(first - first_bounds[0], second_bounds[1] - second)
    above = math.hypot(first_bounds[1] - first, second - second_bounds[0])
    return gap - below, gap + above


def _beta_quantile(p: float, a: float, b: float) -> float:
    """Return x in (0, 1) with I_x(a, b) = p."""
    low, high = 0.0, 1.0
    x = a / (a + b)
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        error = _beta_cdf(x, a, b) - p
        if error > 0.0:
            high = x
        else:
            low = x
        log_density = log_scale + (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x)
        step = error * math.exp(-log_density) if log_density > -600.0 else math.inf
        following = x - step
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - x) <= 1e-15 * x or following in (0.0, 1.0):
            return following
        x = following
    return x


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    # The fraction converges fast below the mean; above it, the mirrored one does.
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(x, a, b) / a
    return 1.0 - front * _beta_fraction(1.0 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of the incomplete beta function, by the modified Lentz method."""
    tiny = 1e-300
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    result = d
    # It takes about sqrt(max(a, b)) terms: 20,000 reach hundreds of millions of rows.
    for m in range(1, 20_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 + term * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + term / c
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return result

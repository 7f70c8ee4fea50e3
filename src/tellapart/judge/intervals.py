"""95 % intervals without scipy: exact for a proportion, at an effective n for what is like one, Hall's for a mean.

The regularised incomplete beta function is Lentz's continued fraction (Press et al., Numerical Recipes, 6.4), and its
inverse Newton's method inside a bracket that bisection keeps.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LEVEL",
    "Z95",
    "beta_interval",
    "binomial_tail",
    "clopper_pearson",
    "difference_interval",
    "effective_interval",
    "mean_interval",
    "student_t",
]

LEVEL = 0.95
Z95 = 1.959963984540054


@lru_cache(maxsize=65536)
def clopper_pearson(successes: int, n: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the exact two-sided interval for a proportion, or None when `n` is 0.

    It holds the true proportion in at least `level` of all samples, whatever n is. Source: Clopper and Pearson (1934).
    """
    if n == 0:
        return None
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in [0, {n}], got {successes}")
    return beta_interval(successes, n, level)


def effective_interval(value: float, variance: float, most: float) -> tuple[float, float]:
    """Return a 95 % interval for a share in [0, 1] that is no plain count, from its variance.

    It is the exact interval of as many independent pictures as would give that variance, at most `most`, which also
    stands in where the variance is 0 or the share 0 or 1. Source: Korn and Graubard, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data", Survey Methodology 24 (1998).
    """
    spread = value * (1.0 - value)
    # Where all is right, or nothing, rounding alone leaves a variance: it says nothing of how many pictures there are.
    n = min(most, spread / variance) if variance > 0.0 and spread > 1e-12 else most
    return beta_interval(value * n, n, LEVEL)


def beta_interval(successes: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Return Clopper and Pearson's interval for numbers that need not be whole: 0 <= successes <= n, n > 0."""
    tail, failures = (1.0 - level) / 2.0, n - successes
    low = 0.0 if successes <= 1e-9 * n else _beta_quantile(tail, successes, failures + 1)
    high = 1.0 if failures <= 1e-9 * n else _beta_quantile(1.0 - tail, successes + 1, failures)
    return low, high


def student_t(degrees: float, level: float = LEVEL) -> float:
    """Return the half-width in standard errors that holds `level` of Student's t with `degrees` > 0 of freedom."""
    y = _beta_quantile(level, 0.5, degrees / 2.0)
    return math.sqrt(degrees * y / (1.0 - y))


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return an interval for the mean of independent values [N], or None for fewer than two.

    It is Student's, with the skewness of the values taken out by Hall's transformation: log losses are so skewed that
    of 100 pictures Student's interval held the mean in 84 to 94 of 100 samples, this one in 93 to 96. Source: Hall, "On
    the removal of skewness by transformation", Journal of the Royal Statistical Society B 54 (1992).
    """
    n = len(values)
    if n < 2:
        return None
    mean, spread = float(values.mean()), float(values.std())
    if spread <= 1e-12 * max(1.0, abs(mean)):
        return mean, mean
    skew = float(((values - mean) ** 3).mean()) / spread**3
    quantile = student_t(n - 1) / math.sqrt(n)
    ends = []
    for place in (quantile, -quantile):
        cubed = 1.0 + skew * (place - skew / (6.0 * n))
        # Near no skewness the transformation is the identity, and its formula 0 / 0.
        moved = (math.copysign(abs(cubed) ** (1 / 3), cubed) - 1.0) * 3.0 / skew if abs(skew) > 1e-6 else place
        ends.append(mean - moved * spread * math.sqrt(n / (n - 1)))
    return ends[0], ends[1]


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


def binomial_tail(successes: int, n: int, chance: float = 0.5) -> float:
    """Return the probability of at least `successes` of `n` trials that succeed with `chance` in (0, 1)."""
    return 1.0 if successes <= 0 else _beta_cdf(chance, successes, n - successes + 1)


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

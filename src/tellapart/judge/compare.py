"""Which of two models is better: a paired comparison of the log loss on the same pictures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows, row_losses
from tellapart.judge.intervals import LEVEL, student_t
from tellapart.judge.shares import cluster_codes, cluster_sums

__all__ = ["Comparison", "clustered_interval", "compare"]


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """The challenger's log loss minus the champion's, in nats, over `n` pictures: negative means it is better.

    `low` and `high` are an interval of the difference, of 95 % unless another level was asked for, infinite when there
    are too few pictures for one; `words` is one plain sentence.
    """

    better: bool
    difference: float
    low: float
    high: float
    n: int
    words: str


def compare(
    targets: Ints,
    challenger_probs: Floats,
    champion_probs: Floats,
    balanced: bool,
    against_majority: bool = False,
    names: tuple[str, str] = ("challenger", "champion"),
    groups: Sequence[str] | Ints | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Compare two models' probabilities [N, K] on the same pictures, with true classes int [N].

    `balanced` gives each class present the same weight. The challenger is `better` when the whole interval is below
    0; with `against_majority`, when the difference is, since anything that beats guessing is usable, and when there is
    no picture to tell by, since what looks at pictures is more likely to be of use than what does not. `level` is that
    of the interval: at 0.9 its upper end is below 0 where a one-sided test at 5 % says so. Losses are clipped at 16.1
    nats a row (`PROB_FLOOR`), so that one row cannot decide alone. `names` are used in `words`.

    The interval is Student's on paired differences; balanced, on the mean of class means, with the Welch-Satterthwaite
    degrees of freedom, and a class of one picture lends its distance to the overall mean as its spread. Its coverage
    is tested from 100 rows on; with fewer it is rougher, differences of log losses being skewed. Pictures of one of
    `groups` [N] are not independent: the spread is then that of the groups' sums (cluster-robust, Liang and Zeger
    1986), with as many degrees of freedom as the groups allow. Raises ValueError for arrays that are not what
    `checked_rows` asks for.
    """
    targets, challenger = checked_rows(targets, challenger_probs)
    _, champion = checked_rows(targets, champion_probs)
    if challenger.shape != champion.shape:
        raise ValueError(f"both models must predict the same classes, got {challenger.shape} and {champion.shape}")
    n = len(targets)
    if n == 0:
        words = f"There were no pictures to compare {_listed(names)} on."
        return Comparison(against_majority, 0.0, -math.inf, math.inf, 0, words)
    gaps = row_losses(targets, challenger) - row_losses(targets, champion)
    codes = cluster_codes(groups)
    if codes is not None:
        difference, low, high = clustered_interval(gaps, targets if balanced else np.zeros_like(targets), codes, level)
    else:
        strata = [gaps[targets == index] for index in np.unique(targets)] if balanced else [gaps]
        difference, low, high = _interval(strata, level)
    better = difference < 0.0 if against_majority else high < 0.0
    return Comparison(better, difference, low, high, n, _words(names, difference, low, high, n, balanced, level))


def _interval(strata: list[NDArray[np.float64]], level: float) -> tuple[float, float, float]:
    """Return the mean of the strata's means, with the ends of its interval."""
    mean = sum(float(stratum.mean()) for stratum in strata) / len(strata)
    if max(map(len, strata)) < 2:
        return mean, -math.inf, math.inf
    variance, rough = 0.0, 0.0
    for stratum in strata:
        spread = float(stratum.var(ddof=1)) if len(stratum) > 1 else (float(stratum[0]) - mean) ** 2
        part = spread / len(stratum) / len(strata) ** 2
        variance += part
        rough += part**2 / max(1, len(stratum) - 1)
    if rough == 0.0:
        return mean, mean, mean
    half = student_t(max(1.0, variance**2 / rough), level) * math.sqrt(variance)
    return mean, mean - half, mean + half


def clustered_interval(
    values: NDArray[np.float64], strata: NDArray[np.int64], codes: NDArray[np.int64], level: float = LEVEL
) -> tuple[float, float, float]:
    """Return the mean of the strata's means of values [N], with the ends of its interval (95 %) over groups.

    The degrees of freedom are those that groups of such sizes give, and one less than there are groups at the most.
    """
    _, strata = np.unique(strata, return_inverse=True)
    counts = np.bincount(strata)
    means = np.bincount(strata, weights=values) / counts
    mean = float(means.mean())
    share = 1.0 / (len(counts) * counts)[strata]
    sums = cluster_sums((values - means[strata]) * share, codes)
    if len(sums) < 2:
        return mean, -math.inf, math.inf
    sizes = cluster_sums(share**2, codes)
    degrees = max(1.0, float(sizes.sum() ** 2 / (sizes @ sizes)) - 1.0)
    half = student_t(degrees, level) * math.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums))
    return mean, mean - half, mean + half


def _words(
    names: tuple[str, str], difference: float, low: float, high: float, n: int, balanced: bool, level: float
) -> str:
    challenger, champion = names
    over = f"{n:,} pictures" if n != 1 else "1 picture"
    over += ", each class counting equally" if balanced else ""
    if not math.isfinite(low):
        return (
            f"The log loss of {challenger} minus that of {champion} is {difference:+.3f} on {over}: "
            "too few for an interval."
        )
    verdict = "better" if high < 0.0 else "worse" if low > 0.0 else "no clear difference"
    return (
        f"The log loss of {challenger} minus that of {champion} is {difference:+.3f} "
        f"({level:.0%} interval {low:+.3f} to {high:+.3f}) on {over}: {verdict}."
    )


def _listed(names: tuple[str, str]) -> str:
    return f"{names[0]} and {names[1]}"

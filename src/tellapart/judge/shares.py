"""Shares of pictures with their intervals, where pictures of one group are not independent.

A group (one animal, one film, a picture and its copies) is drawn as one: what its pictures share, they share by one
chance. So n pictures in groups are worth fewer independent ones: n over the design effect.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Ints
from tellapart.judge.intervals import beta_interval, student_t

__all__ = ["Codes", "Share", "cluster_codes", "cluster_sums", "design_effect", "share_of"]

Codes = NDArray[np.int64] | None


def cluster_codes(groups: Sequence[str] | Ints | None) -> Codes:
    """Return a number for each row, int64 [N], equal for rows of one group; None where every row is its own."""
    if groups is None or len(groups) == 0:
        return None
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    return None if len(names) == len(groups) else codes.reshape(-1).astype(np.int64)


def cluster_sums(values: NDArray[np.float64], codes: Codes) -> NDArray[np.float64]:
    """Return the sum of `values` [N] in each group that is there, float64 [G]; without groups the values themselves."""
    if codes is None:
        return values
    _, present = np.unique(codes, return_inverse=True)
    return np.asarray(np.bincount(present.reshape(-1), weights=values), dtype=np.float64)


def design_effect(moves: NDArray[np.float64], codes: Codes) -> float:
    """Return how many times as much a statistic varies as with independent pictures, at least 1.

    `moves` [N], N > 0, is how far each picture moves the statistic, to first order, and sums to about 0. Few groups
    are corrected for as Student's t is; where nothing moves it, a group counts as one picture. Source: Kish, "Survey
    sampling" (1965); the correction: Korn and Graubard (1998), see `Share.exact`.
    """
    n = len(moves)
    if codes is None:
        return 1.0
    sums = cluster_sums(moves, codes)
    groups, alone = len(sums), float(moves @ moves)
    if groups == n:
        return 1.0
    if groups < 2 or alone <= 1e-18 * n:
        return n / groups
    effect = groups / (groups - 1) * float(sums @ sums) / alone
    return min(float(n), max(1.0, effect * (student_t(groups - 1) / student_t(n - 1)) ** 2))


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `n` pictures, n > 0, worth `effective` independent ones (0 < effective <= n)."""

    hits: int
    n: int
    effective: float

    @property
    def value(self) -> float:
        """The share itself, in [0, 1]."""
        return self.hits / self.n

    def exact(self) -> tuple[float, float]:
        """Return the 95 % interval of Clopper and Pearson at the effective n; without groups it is the exact one.

        Source: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data", Survey Methodology 24 (1998).
        """
        return beta_interval(self.value * self.effective, self.effective)


def share_of(right: NDArray[np.bool_], codes: Codes = None) -> Share:
    """Return the share of True in `right` bool [n], n > 0, with groups as `cluster_codes` gives them."""
    n, hits = len(right), int(right.sum())
    return Share(hits, n, n / design_effect(right.astype(np.float64) - hits / n, codes))

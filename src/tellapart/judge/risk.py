"""How right the answers are when fewer are given: the risk-coverage curve of selective classification."""

from __future__ import annotations

import dataclasses

import numpy as np

from tellapart.judge.arrays import Floats, Ints, checked_rows

__all__ = ["RiskPoint", "risk_coverage"]

MOST_POINTS = 101


@dataclasses.dataclass(frozen=True, slots=True)
class RiskPoint:
    """Answering where the top probability is at least `min_prob`: `share` of all pictures, `accuracy` of those."""

    min_prob: float
    share: float
    accuracy: float


def risk_coverage(targets: Ints, probs: Floats, novelty: Floats, max_novelty: float) -> tuple[RiskPoint, ...]:
    """Return at most 101 points from few answers to all but the unknown ones, evenly taken.

    From true classes int [N], probabilities [N, K] and novelty [N] of labelled pictures; what is more novel than
    `max_novelty` is never answered, and counts among those that were not. Pictures of equal confidence are answered
    together. Source: El-Yaniv and Wiener, "On the foundations of noise-free selective classification" (2010).
    """
    targets, probs = checked_rows(targets, probs)
    known = np.asarray(novelty) <= max_novelty
    confidence, right = probs.max(axis=1, initial=0.0)[known], (probs.argmax(axis=1) == targets)[known]
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, np.int64)
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), MOST_POINTS)).round().astype(np.int64))]
    correct = np.cumsum(right[order])
    return tuple(
        RiskPoint(float(ranked[end]), (end + 1) / len(targets), float(correct[end] / (end + 1)))
        for end in ends.tolist()
    )

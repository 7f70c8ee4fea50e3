"""Fewer pictures where time is short: the same share of every class, the same ones each time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from tellapart.data.manifest import Split
from tellapart.learn.rungs import IntArray, Pictures

__all__ = ["affordable", "seconds_to_distil", "thinned"]

# To plan by: what the fit of a probe takes on a slow machine, the most of a short budget, the least of what is left.
_FIT_SECONDS, _FIT_SECONDS_PER_LOGIT = 2.0, 3e-4
_FIT_SHARE_OF_BUDGET, _FIT_SHARE = 0.1, 0.25

# To plan by: about twice what the fit of a probe takes on a slow machine; a share of a short budget.
_DISTIL_SECONDS, _DISTIL_SECONDS_PER_LOGIT, _DISTIL_SHARE = 3.0, 6e-4, 0.15


def affordable(present: int, embed_seconds: float, num_classes: int, seconds: float, budget_seconds: float) -> int:
    """Return how many pictures a probe can have in `seconds`: embedded, each in `embed_seconds`, and fitted.

    `present` of them are embedded already. The fit is reckoned for as many as there will be, not for all there are.
    """
    slow = min(_FIT_SECONDS, _FIT_SHARE_OF_BUDGET * budget_seconds)
    fitted = (seconds - slow + present * embed_seconds) / (embed_seconds + _FIT_SECONDS_PER_LOGIT * num_classes)
    embedded = present + (1.0 - _FIT_SHARE) * seconds / embed_seconds
    return int(max(0.0, min(fitted, embedded)))


def thinned(pictures: Mapping[Split, Pictures], most: int) -> dict[Split, IntArray]:
    """Return the rows of each split to keep, sorted, so that about `most` remain in all.

    Every split and every class of it keeps the same share, and at least one picture. Which ones is a function of their
    content alone, so that a longer budget adds pictures to those that a shorter one had.
    """
    total = sum(len(found) for found in pictures.values())
    share = min(1.0, most / max(1, total))
    return {split: _rows(found, share) for split, found in pictures.items()}


def _rows(pictures: Pictures, share: float) -> IntArray:
    if share >= 1.0:
        return np.arange(len(pictures), dtype=np.int64)
    order = sorted(range(len(pictures)), key=lambda row: hashlib.sha256(pictures.digests[row].encode()).digest())
    by_class: dict[int, list[int]] = {}
    for row in order:
        by_class.setdefault(int(pictures.targets[row]), []).append(row)
    kept = [row for rows in by_class.values() for row in rows[: max(1, round(share * len(rows)))]]
    return np.array(sorted(kept), dtype=np.int64)


def seconds_to_distil(num_logits: int, budget_seconds: float) -> float:
    """Return the seconds of a budget to keep for teaching a network that says `num_logits` numbers of its pictures."""
    return min(_DISTIL_SHARE * budget_seconds, _DISTIL_SECONDS + _DISTIL_SECONDS_PER_LOGIT * num_logits)

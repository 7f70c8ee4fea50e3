"""Whether each class is to count equally: one rule for selecting, weighting and the headline."""

from __future__ import annotations

import numpy as np

from tellapart.judge.arrays import Ints

__all__ = ["counts_alike", "is_unbalanced"]

_UNBALANCED = 2.0


def is_unbalanced(counts: Ints) -> bool:
    """Return whether the largest class has at least twice the pictures of the smallest; `counts` int [K]."""
    counts = np.asarray(counts)
    return bool(counts.max() >= _UNBALANCED * max(1, counts.min()))


def counts_alike(counts: Ints, wish: str) -> bool:
    """Return whether classes count equally: never with the `wish` `none`, with `auto` where they are uneven."""
    return wish != "none" and (wish != "auto" or is_unbalanced(counts))

"""Whether classes are so uneven that each has to count equally: one rule for selecting, weighting and the headline."""

from __future__ import annotations

import numpy as np

from tellapart.judge.arrays import Ints

__all__ = ["is_unbalanced"]

_UNBALANCED = 2.0


def is_unbalanced(counts: Ints) -> bool:
    """Return whether the largest class has at least twice the pictures of the smallest; `counts` int [K]."""
    counts = np.asarray(counts)
    return bool(counts.max() >= _UNBALANCED * max(1, counts.min()))

"""The learning-rate range test: a rate that rises from step to step, and what its losses say of the best one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

__all__ = ["HIGHEST", "LOWEST", "rate_at", "rate_from"]

LOWEST, HIGHEST = 1e-5, 0.1
_SMOOTH = 0.7  # how much of the running loss is kept
_BELOW = 4.0  # times below the rate where the loss is lowest: there it is still falling
_BLOWN = 2.0  # times the lowest running loss: from there on nothing is learned of rates


def rate_at(step: int, total: int) -> float:
    """Return the rate of one of `total` steps (at least 2): evenly spaced on a logarithmic scale."""
    return LOWEST * float((HIGHEST / LOWEST) ** (step / (total - 1)))


def rate_from(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """Return the rate to use from the losses at rising rates: a quarter of the one at which the loss was lowest.

    Losses are smoothed, and read up to where they have blown up to twice the lowest. Smith, "Cyclical learning rates
    for training neural networks" (2017), in the form that practitioners use.
    """
    smooth = list(itertools.accumulate(losses, lambda past, now: _SMOOTH * past + (1.0 - _SMOOTH) * now))
    lowest, best = smooth[0], 0
    for place, loss in enumerate(smooth):
        if not loss <= _BLOWN * lowest:
            break
        if loss < lowest:
            lowest, best = loss, place
    return lrs[best] / _BELOW

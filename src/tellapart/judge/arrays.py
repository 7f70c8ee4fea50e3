"""What every judge is handed: true classes and predicted probabilities, checked once, and the loss of each row."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROB_FLOOR", "Floats", "Ints", "checked_rows", "row_losses"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Ints: TypeAlias = NDArray[np.integer[Any]]

# The smallest probability that a loss is computed from, so that one row costs at most 16.1 nats. It is about float32's
# epsilon (1.2e-7, where scikit-learn clips float32 probabilities): what is below says "never", not how rarely.
PROB_FLOOR = 1e-7


def checked_rows(targets: Ints, probs: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return targets as int64 [N] and probabilities as float64 [N, K].

    Raises ValueError when shapes disagree, a target is not in [0, K), or a row is not a distribution (not finite,
    outside [0, 1], or with a sum further than 0.01 from 1).
    """
    targets, probs = np.asarray(targets), np.asarray(probs)
    if probs.ndim != 2 or targets.shape != probs.shape[:1]:
        raise ValueError(f"targets must be [N] and probs [N, K], got {targets.shape} and {probs.shape}")
    if not np.issubdtype(targets.dtype, np.integer) and targets.size:
        raise ValueError(f"targets must be integers, got {targets.dtype}")
    wide = probs.astype(np.float64)
    if targets.size:
        if targets.min() < 0 or targets.max() >= probs.shape[1]:
            raise ValueError(f"targets must be in [0, {probs.shape[1]}), got {targets.min()} to {targets.max()}")
        if not np.isfinite(wide).all() or wide.min() < -1e-6 or np.abs(wide.sum(axis=1) - 1.0).max() > 0.01:
            raise ValueError("each row of probs must be finite, not negative, and sum to 1")
    return targets.astype(np.int64), wide


def row_losses(targets: NDArray[np.int64], probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log loss of each row, float64 [N] in nats, in [0, 16.12]: probabilities are clipped at 1e-7."""
    chosen = probs[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.clip(chosen, PROB_FLOOR, 1.0)), dtype=np.float64)

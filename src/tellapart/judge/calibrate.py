"""From logits to probabilities that mean what they say: one temperature, fitted on out-of-fold logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints

__all__ = ["fit_temperature", "log_softmax"]

LOWEST, HIGHEST = 0.05, 20.0
# The prior counts as about one picture; see fit_temperature.
PRIOR_STRENGTH = 1.0
ROWS_AT_ONCE = 8192


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the logarithm of `softmax(logits)`, float64 [..., K], exact also where the probability underflows."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def fit_temperature(logits: Floats, targets: Ints, weights: Floats | None = None) -> float:
    """Return the temperature T in [0.05, 20] for which softmax(logits / T) has the lowest log loss on these rows.

    `logits` [N, K] must come from models that did not see the rows; `weights` [N] (>= 0) are scaled to a mean of 1.
    Fewer than two rows, or rows of one class only, say nothing about confidence: T is 1.

    On rows that are all right the log loss falls for ever as T goes to 0. A prior keeps it in place: 1/T is
    Gamma(2, 1), which peaks at T = 1, weighs about one picture and resists sharpening much more than softening. With
    it the objective is strictly convex in 1/T, so the bracketed Newton iteration finds the one minimum. Raises
    ValueError for shapes that disagree and values that are not finite. Source: Guo et al., "On calibration of modern
    neural networks" (2017); the prior is ours.
    """
    logits, classes = np.asarray(logits), np.asarray(targets).astype(np.int64)
    if logits.ndim != 2 or classes.shape != logits.shape[:1]:
        raise ValueError(f"logits must be [N, K] and targets [N], got {logits.shape} and {classes.shape}")
    row_weights = np.ones(len(classes)) if weights is None else np.asarray(weights, dtype=np.float64)
    if row_weights.shape != classes.shape:
        raise ValueError(f"weights must be [{len(classes)}], got {row_weights.shape}")
    if not np.isfinite(logits).all() or not np.isfinite(row_weights).all() or (row_weights < 0.0).any():
        raise ValueError("logits and weights must be finite, and weights not negative")
    kept = row_weights > 0.0
    logits, classes, row_weights = logits[kept], classes[kept], row_weights[kept]
    if len(classes) < 2 or (classes == classes[0]).all():
        return 1.0
    row_weights = row_weights / row_weights.mean()

    low, high = 1.0 / HIGHEST, 1.0 / LOWEST
    inverse = 1.0
    for _ in range(100):
        slope, curvature = _derivatives(inverse, logits, classes, row_weights)
        if slope > 0.0:
            high = inverse
        else:
            low = inverse
        following = inverse - slope / curvature
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - inverse) <= 1e-9 * inverse:
            break
        inverse = following
    return 1.0 / following


def _derivatives(
    inverse: float, logits: Floats, targets: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the first and second derivative, in 1/T, of the summed log loss and the prior."""
    slope = PRIOR_STRENGTH * (1.0 - 1.0 / inverse)
    curvature = PRIOR_STRENGTH / inverse**2
    for start in range(0, len(targets), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        z = logits[rows].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        probs = np.exp(log_softmax(z * inverse))
        mean = (probs * z).sum(axis=1)
        spread = (probs * z * z).sum(axis=1) - mean * mean
        slope += float(weights[rows] @ (mean - z[np.arange(len(z)), targets[rows]]))
        curvature += float(weights[rows] @ np.maximum(spread, 0.0))
    return slope, curvature

"""How much each of several models counts where they answer together: weights of their logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints
from tellapart.judge.calibrate import log_softmax

__all__ = ["pool_weights"]

_MOST_ROWS, _MOST_LOGITS = 20_000, 2_000_000  # more do not make a handful of weights any surer
_MOST_STEPS, _ENOUGH = 50, 1e-9
_RIDGE = 1e-6


def pool_weights(logits: Sequence[Floats], targets: Ints, weights: Floats | None = None) -> NDArray[np.float64]:
    """Return weights float64 [M], none negative, for which softmax(sum of w_m logits_m) has the lowest log loss.

    Each of `logits` is [N, K], of a model that did not see the rows; `targets` int [N]; `weights` [N] (>= 0) are of
    rows. The weights' shares of their sum say how much a model counts, the sum how sure all are together. The loss is
    convex in the weights, so that Newton's method with a projection finds the one minimum. Without rows, or where the
    best is to heed no model, all count alike. Source: logarithmic opinion pools, Genest and Zidek, "Combining
    probability distributions" (1986).
    """
    num_models = len(logits)
    even = np.full(num_models, 1.0 / max(1, num_models))
    n = len(targets)
    if n < 2:
        return even
    most = min(_MOST_ROWS, max(2, _MOST_LOGITS // logits[0].shape[1]))
    rows = np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64))
    stacked = np.stack([np.asarray(one, dtype=np.float64)[rows] for one in logits])
    classes = np.asarray(targets)[rows]
    each = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)[rows]
    each = each / each.sum()
    found, loss = even, _loss(even, stacked, classes, each)
    for _ in range(_MOST_STEPS):
        slope, curvature = _derivatives(found, stacked, classes, each)
        step = _step(found, slope, curvature + _RIDGE * np.eye(num_models))
        share = 1.0
        while (new := _loss(found + share * step, stacked, classes, each)) > loss and share > 1e-6:
            share /= 2
        if new >= loss - _ENOUGH:
            break
        found, loss = np.maximum(found + share * step, 0.0), new
    return found if found.sum() > 0.0 else even


def _loss(found: NDArray[np.float64], stacked: NDArray[np.float64], classes: Ints, each: NDArray[np.float64]) -> float:
    told = log_softmax(np.tensordot(found, stacked, 1))
    return float(-(each * told[np.arange(len(classes)), classes]).sum())


def _derivatives(
    found: NDArray[np.float64], stacked: NDArray[np.float64], classes: Ints, each: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the slope [M] and the curvature [M, M] of the loss: means and covariances of logits under the answer."""
    probs = np.exp(log_softmax(np.tensordot(found, stacked, 1)))
    expected = np.einsum("nk,mnk->mn", probs, stacked)
    slope = ((expected - stacked[:, np.arange(len(classes)), classes]) * each).sum(axis=1)
    centred = stacked - expected[:, :, None]
    weighted = centred * np.sqrt(probs * each[:, None])
    flat = weighted.reshape(len(stacked), -1)
    return slope, flat @ flat.T


def _step(
    found: NDArray[np.float64], slope: NDArray[np.float64], curvature: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the step to the lowest point of the parabola over weights that are not negative, one weight at a time."""
    step = np.zeros_like(found)
    for _ in range(100):
        before = step.copy()
        for model in range(len(found)):
            rest = slope[model] + curvature[model] @ step - curvature[model, model] * step[model]
            step[model] = max(-found[model], -rest / curvature[model, model])
        if np.abs(step - before).max() < 1e-12:
            break
    return step

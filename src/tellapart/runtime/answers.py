"""From logits to what a picture is answered: probabilities, and one of three words."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "answer", "candidates", "mass_before", "softmax"]

Answer = Literal["label", "unsure", "unknown"]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities float64 [..., K] of logits [..., K]; no overflow at any finite logit."""
    wide = np.asarray(logits, dtype=np.float64)
    raised = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def mass_before(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each class the summed probability of the likelier ones, float64 [N, K]; 0 for the likeliest.

    Of several that are equally likely, the first counts as likelier.
    """
    order = np.argsort(-probs, axis=1, kind="stable")
    ranked = np.take_along_axis(probs, order, axis=1)
    ahead = np.concatenate([np.zeros((len(probs), 1)), np.cumsum(ranked, axis=1)[:, :-1]], axis=1)
    before = np.empty_like(ahead)
    np.put_along_axis(before, order, ahead, axis=1)
    return before


def candidates(probs: NDArray[np.float64], mass: float) -> NDArray[np.int64]:
    """Return the likeliest classes of one picture, int [1..K], as many as it takes to add up to `mass`.

    `probs` is float64 [K]. The likeliest class is always among them; see `judge.conformal_mass`.
    """
    order = np.argsort(-probs, kind="stable")
    ahead = np.cumsum(probs[order])[:-1]
    return order[: 1 + int((ahead < mass).sum())]


def answer(prob: float, novelty: float, min_prob: float, max_novelty: float) -> Answer:
    """Return `unknown` where novelty is above `max_novelty`, else `unsure` where `prob` is below `min_prob`.

    `prob` is the calibrated probability of the likeliest class. What is not a number is never answered with `label`.
    """
    if not novelty <= max_novelty:
        return "unknown"
    return "label" if prob >= min_prob else "unsure"
